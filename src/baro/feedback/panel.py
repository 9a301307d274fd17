"""What managers look at: agreement, bias, raters, progress and the queue of disagreements, as JSON-able values.

Every figure comes with n and a 95 % interval, or with the reason why there is none. Nobody is ever excluded here: a
flag is evidence in words, and what follows from it is a person's decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, func, not_, select

from baro.feedback import schema
from baro.feedback.adapt import first_places, posteriors
from baro.feedback.coefficients import COMPARED, outline, scales_agreement, share
from baro.feedback.derive import Votes, as_given, last_event, only, standing_times, under_newest, votes_of
from baro.feedback.habits import Case, by_rater, cases_of, counts, drift, longer_slope
from baro.feedback.project import Project
from baro.feedback.reliability import agreement_with_others, gold_answers
from baro.feedback.render import prompt_start
from baro.feedback.scales import first_votes, main_scales
from baro.functional.habits import binomial_tail, holm
from baro.functional.votes import binomial_test

LOW = 0.7  # a rater who is surely below is flagged
SIDES_N = 20
QUICK_SHARE = 0.2
SKIPPED_SHARE = 0.3
FLAG_LEVEL = 0.05  # for each flag the probability that any of the raters gets it by chance
CHOSEN = ("margin", "disagreement")  # policies that choose by a reward model's scores


# ----------------------------------------------------------------------------------------------------------- agreement


def agreement(
    connection: Connection,
    project: Project,
    guidelines: Literal["all", "newest"] = "all",
    policy: Literal["all", "random"] = "all",
) -> dict[str, Any]:
    """How far the raters agree: by question, by rater, and by the version of the guideline that they had.

    ``guidelines``: what counts, as for labels; the figures by version always have all of them, replaced ones too.
    ``policy``: all tasks, or those drawn at random, which alone stand for all answers. ``policies``: how many judged
    tasks were selected by each. ``beyond``: the votes that are left out (``first_votes``).
    """
    everything = votes_of(connection, project.id)
    policies = policies_of(everything)
    asked = only_random(everything) if policy == "random" else everything
    given = first_votes(asked)
    votes = under_newest(given) if guidelines == "newest" else given
    names = _pseudonyms(connection)
    return {
        "watermark": votes.watermark,
        "policies": policies,
        "beyond": len(asked.judgments) - len(given.judgments),
        "scales": scales_agreement(votes),
        "raters": [
            {"rater": rater, "pseudonym": names[rater], **share(right, n)}
            for rater, (right, n) in agreement_with_others(main_scales(votes)).items()
        ],
        "guidelines": _by_guideline(connection, as_given(given)),
    }


def policies_of(votes: Votes) -> dict[str, int]:
    """How many tasks with votes were selected by each policy."""
    tasks = {one.task.id: one.task.policy for one in votes.judgments if one.role == "vote"}
    return dict(sorted(Counter(tasks.values()).items()))


def only_random(votes: Votes) -> Votes:
    """The votes of tasks that were drawn at random."""
    return only(votes, lambda one: one.task.policy == "random")


def _by_guideline(connection: Connection, votes: Votes) -> list[dict[str, Any]]:
    table = schema.guideline
    rows = connection.execute(select(table.c.id, table.c.version).where(table.c.project_id == votes.project_id))
    version = {row.id: row.version for row in rows}
    found = []
    for number in sorted({version.get(one.guideline_id, 0) for one in votes.judgments}):
        part = only(votes, lambda judgment, number=number: version.get(judgment.guideline_id, 0) == number)
        scales = [outline(one) for one in main_scales(part)]
        found.append({"version": number or None, "judgments": len(part.judgments), "scales": scales})
    return found


# ---------------------------------------------------------------------------------------------------------------- bias


def bias(connection: Connection, project: Project) -> dict[str, Any]:
    """Habits that have nothing to do with the answers: sides, length, haste, other answers to the same question, and
    what changes in the course of a sitting."""
    votes = votes_of(connection, project.id)
    names, cases = _pseudonyms(connection), cases_of(connection, project, votes)
    shares = {habit: share(*counts(found)) for habit, found in cases.items()}
    return {
        "watermark": votes.watermark,
        **shares,
        "left": _left(cases["left"]),
        "raters": [
            {"rater": one, "pseudonym": names[one], **_left(mine)} for one, mine in by_rater(cases["left"]).items()
        ],
        "quick": {"ms_per_character": project.settings.min_read_ms_per_character} | shares["quick"],
        "length": longer_slope(connection, votes),
        "drift": drift(votes),
    }


def _left(cases: Sequence[Case]) -> dict[str, Any]:
    left, n = counts(cases)
    return share(left, n) | ({"p": round(binomial_test(left, n), 6)} if n else {})


# -------------------------------------------------------------------------------------------------------------- raters


def raters(connection: Connection, project: Project) -> list[dict[str, Any]]:
    """Every rater with judgments or skips here: how much, how quickly, how well as far as known, what stands out."""
    votes = votes_of(connection, project.id)
    member = schema.member
    here = (member.c.rater_id == schema.rater.c.id) & (member.c.project_id == project.id)
    who = select(schema.rater, member.c.role).outerjoin(member, here)
    people = {row.id: row for row in connection.execute(who)}
    others, gold = agreement_with_others(main_scales(first_votes(votes))), gold_answers(votes)
    everyone = _counted_all(others.values())
    cases = {habit: by_rater(given) for habit, given in cases_of(connection, project, votes).items()}
    skipped = _skipped(connection, project.id)
    found = []
    for rater in sorted({one.rater_id for one in votes.judgments} | set(skipped)):
        mine = [one for one in votes.judgments if one.rater_id == rater]
        seconds = [one.active_ms / 1000 for one in mine if one.active_ms is not None]
        role = "manager" if people[rater].manages_all else people[rater].role or "rater"  # judged elsewhere: imported
        row: dict[str, Any] = {"rater": rater, "pseudonym": people[rater].pseudonym, "role": role}
        row |= {"active": people[rater].active, "done": len(mine)}
        row |= {"median_seconds": round(median(seconds), 3) if seconds else None}
        row |= {"gold": share(*gold.get(rater, (0, 0))), "left": _left(cases["left"].get(rater, []))}
        row |= {habit: share(*counts(cases[habit].get(rater, []))) for habit in ("repeats", "quick")}
        row |= {"others": share(*others.get(rater, (0, 0)))}
        row |= {"skips": share(skipped.get(rater, 0), skipped.get(rater, 0) + len(mine))}
        found.append(row)
    flagged = {name: _flagged(name, found, everyone) for name in FLAGS}
    for row in found:
        row["flags"] = [_flag(name, row, everyone) for name in FLAGS if row["rater"] in flagged[name]]
    return found


def _skipped(connection: Connection, project_id: str) -> dict[str, int]:
    """How many tasks each rater has left to others."""
    table, task = schema.assignment, schema.task
    query = select(table.c.rater_id, func.count()).join(task, task.c.id == table.c.task_id)
    query = query.where(task.c.project_id == project_id, table.c.state == "skipped").group_by(table.c.rater_id)
    return {rater: int(count) for rater, count in connection.execute(query)}


def _counted_all(shares: Iterable[tuple[int, int]]) -> float | None:
    right, n = (sum(column) for column in zip(*shares, strict=True)) if (shares := list(shares)) else (0, 0)
    return right / n if n else None


FLAGS = {
    "gold": "{share} tasks with a known answer are right",
    "repeats": "{share} tasks shown again got the same",
    "sides": "{share} choices are the left answer; by chance so far from half: p = {p:.2g}",
    "quick": "{share} answers came quicker than the texts can be read",
    "skips": "{share} tasks were left to others",
    "others": "{share} answers agree with the other raters; all raters: {everyone:.0%}",
}


def _flagged(name: str, rows: Sequence[Mapping[str, Any]], everyone: float | None) -> set[str]:
    """The raters who get a flag: by exact tests, corrected (Holm) for how many raters were tested."""
    tested = {row["rater"]: p for row in rows if (p := _by_chance(name, row, everyone)) is not None}
    rejected = holm(np.array(list(tested.values()), dtype=float), level=FLAG_LEVEL)
    return {rater for rater, surely in zip(tested, rejected, strict=True) if surely}


def _by_chance(name: str, row: Mapping[str, Any], everyone: float | None) -> float | None:
    """How probable a rater's share is for one who is not to be flagged; None where there is nothing to test."""
    found = row["left" if name == "sides" else name]
    if not found["n"] or (name == "sides" and found["n"] < SIDES_N):
        return None
    match name:
        case "sides":
            return float(found["p"])
        case "quick":
            return binomial_tail(found["count"], found["n"], QUICK_SHARE, "high")
        case "skips":
            return binomial_tail(found["count"], found["n"], SKIPPED_SHARE, "high")
        case "others":
            known = everyone is not None and 0 < everyone < 1
            return binomial_tail(found["count"], found["n"], everyone, "low") if known else None  # type: ignore[arg-type]
    return binomial_tail(found["count"], found["n"], LOW, "low")


def _flag(name: str, row: Mapping[str, Any], everyone: float | None) -> dict[str, str]:
    found = row["left" if name == "sides" else name]
    words = FLAGS[name].format(share=_words(found), p=found.get("p", 0.0), everyone=everyone or 0.0)
    return {"flag": name, "words": words}


def _words(found: Mapping[str, Any]) -> str:
    return f"{found['count']} of {found['n']} ({found['low']:.0%} to {found['high']:.0%})"


def _pseudonyms(connection: Connection) -> dict[str, str]:
    return {row.id: row.pseudonym for row in connection.execute(select(schema.rater.c.id, schema.rater.c.pseudonym))}


# ----------------------------------------------------------------------------------------------- progress and the queue


def progress(connection: Connection, project: Project) -> dict[str, Any]:
    """Tasks by state, judgments by day (UTC), and what they cost; taken back and revised ones cost as well."""
    table, task = schema.judgment, schema.task
    here = task.c.project_id == project.id
    given = standing_times(connection, project.id)
    time = select(func.sum(table.c.active_ms), func.count(), func.count(table.c.active_ms))
    active_ms, rows, timed = connection.execute(time.join(task, task.c.id == table.c.task_id).where(here)).one()
    hours = int(active_ms or 0) / 3_600_000
    days: dict[str, int] = {}
    for submitted_ms in given:
        day = datetime.fromtimestamp(submitted_ms / 1000, UTC).date().isoformat()
        days[day] = days.get(day, 0) + 1
    cost, done = hours * project.settings.cost_per_hour, len(given)
    return {
        "watermark": last_event(connection, project.id),
        "tasks": _states(connection, project.id),
        "judgments": done,
        "wanted": _wanted(connection, project.id),
        "per_day": [{"day": day, "judgments": count} for day, count in sorted(days.items())],
        "hours": round(hours, 4),
        "without_time": rows - timed,
        "currency": project.settings.currency,
        "cost": round(cost, 2),
        "cost_per_judgment": round(cost / done, 4) if done else None,
    }


def _wanted(connection: Connection, project_id: str) -> int:
    """The judgments that are still wanted: the free places of open tasks that are neither repeats nor known answers."""
    task = schema.task
    ordinary = task.c.open & not_(task.c.withdrawn) & not_(task.c.is_gold) & task.c.repeat_of.is_(None)
    query = select(func.sum(task.c.places)).where(task.c.project_id == project_id, ordinary)
    return int(connection.execute(query).scalar_one() or 0)


def _states(connection: Connection, project_id: str) -> dict[str, int]:
    """waiting: nobody has begun; begun; done: every place is taken and answered; closed or withdrawn by a manager."""
    task, held = schema.task, _task_states(connection, project_id)
    found = dict.fromkeys(("waiting", "begun", "done", "closed", "withdrawn", "gold", "repeats"), 0)
    columns = (task.c.id, task.c.repeat_of, task.c.is_gold, task.c.open, task.c.withdrawn, task.c.places)
    for row in connection.execute(select(*columns).where(task.c.project_id == project_id)):
        states = held.get(row.id, set())
        if row.withdrawn:
            found["withdrawn"] += row.repeat_of is None
        elif row.repeat_of is not None or (row.is_gold and row.open):
            found["gold" if row.is_gold else "repeats"] += 1
        elif not row.open:
            found["closed"] += 1
        elif row.places == 0 and "leased" not in states:
            found["done"] += 1
        else:
            found["begun" if states & {"leased", "submitted", "extra"} else "waiting"] += 1
    return found


def _task_states(connection: Connection, project_id: str) -> dict[str, set[str]]:
    assignment = schema.assignment
    query = (
        select(assignment.c.task_id, assignment.c.state)
        .distinct()
        .join(schema.task, schema.task.c.id == assignment.c.task_id)
    )
    found: dict[str, set[str]] = {}
    for row in connection.execute(query.where(schema.task.c.project_id == project_id)):
        found.setdefault(row.task_id, set()).add(row.state)
    return found


def disagreements(connection: Connection, project: Project, limit: int | None = 100) -> list[dict[str, Any]]:
    """The queue for adjudicators: open tasks with every place taken whose raters are divided, the least sure first.

    ``limit``: no more than these; None for all of them.
    """
    votes = votes_of(connection, project.id)
    settled = {one.task.id for one in votes.judgments if one.role == "adjudication"}
    sure, apart, held = posteriors(votes), divided(votes), _task_states(connection, project.id)
    task, prompt = schema.task, schema.prompt
    query = select(task.c.id, task.c.kind, task.c.prompt_id, prompt.c.messages).join(prompt)
    rows = {
        row.id: row
        for row in connection.execute(
            query.where(task.c.project_id == project.id, task.c.places == 0, task.c.open, ~task.c.withdrawn)
        )
        if row.id in apart and row.id not in settled and "leased" not in held.get(row.id, set())
    }
    return [
        {
            "task": row.id,
            "kind": row.kind,
            "prompt": row.prompt_id,
            "prompt_start": prompt_start(row.messages),
            "posterior": None if row.id not in sure else round(sure[row.id], 6),
            "questions": apart[row.id],
        }
        for row in sorted(rows.values(), key=lambda row: (sure.get(row.id, 0.5), row.id))[:limit]
    ]


def divided(votes: Votes) -> dict[str, list[dict[str, Any]]]:
    """For each task the questions on which raters differ (scores by 2 or more), with how many gave which answer.

    Of two compared answers the better one's id stands for the answer.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    firsts, canonical = first_places(votes), {one.task.id: one.task.canonical for one in votes.judgments}
    for scale in main_scales(votes):
        for (task_id, *responses), given in sorted(scale.items.items()):
            values = sorted(given.values())
            apart = values[-1] - values[0]
            if scale.name == "rank" and len(set(firsts[task_id])) == 1:
                continue
            if apart >= (2 if scale.level == "ordinal" else 0.5):
                both = tuple(responses) or canonical[task_id]
                named = {1.0: both[0], 0.0: both[-1], 0.5: "tie"} if scale.name.startswith(COMPARED) else {}
                answers = {named.get(value, f"{value:g}"): values.count(value) for value in dict.fromkeys(values)}
                question = {"scale": scale.name, "responses": list(both), "answers": answers}
                found.setdefault(task_id, []).append(question)
    return found
