"""Habits that have nothing to do with the answers: sides, length, haste, other answers to the same question, fatigue.

For each habit the judgments that could show it, each with whether it does. Shares are counted from these lists, and the
lists are what managers look into. What was asked again since counts here as well: a habit is the rater's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from sqlalchemy import Connection, func, select

from baro.feedback import coefficients, schema
from baro.feedback.derive import Judgment, PairVote, Votes, as_given, votes_of
from baro.feedback.project import Project
from baro.feedback.reliability import judgments_with_others
from baro.feedback.render import prompt_start
from baro.feedback.scales import first_votes, main_scales
from baro.feedback.undefined import undefined_json
from baro.functional.habits import length_slope, mean_difference, share_difference, sittings, thirds
from baro.functional.statistics import Interval
from baro.functional.undefined import Undefined

Habit = Literal["left", "longer", "repeats", "quick", "early", "late"]
GAP_MINUTES = 30  # without a judgment, and the sitting has ended
LEAST_IN_SITTING = 9  # judgments; shorter ones say nothing of its course
PARTS: dict[Habit, int] = {"early": 0, "late": 2}  # thirds of a sitting
Case = tuple[Judgment, bool]  # whether it shows the habit


def cases_of(connection: Connection, project: Project, votes: Votes) -> dict[Habit, list[Case]]:
    """Every habit's judgments, in the order in which they were made."""
    length = _lengths(connection, votes.project_id)
    found: dict[Habit, list[Case]] = {"left": _left(votes), "longer": _longer(votes, length), "repeats": _same(votes)}
    found["quick"] = _quick(votes, length, project.settings.min_read_ms_per_character)
    found |= _in_course(votes)
    assert tuple(found) == get_args(Habit)
    return found


def counts(cases: Sequence[Case]) -> tuple[int, int]:
    """How many show the habit, and of how many."""
    return sum(shows for _, shows in cases), len(cases)


def by_rater(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Each rater's own."""
    found: dict[str, list[Case]] = {}
    for judgment, shows in cases:
        found.setdefault(judgment.rater_id, []).append((judgment, shows))
    return dict(sorted(found.items()))


def judgments(connection: Connection, project: Project, habit: Habit, limit: int = 50) -> dict[str, Any]:
    """The judgments behind one habit's share, the newest first: task, rater, and whether it was counted."""
    cases = cases_of(connection, project, votes_of(connection, project.id))[habit]
    shown = sorted(cases, key=lambda case: -case[0].event_id)[:limit]
    prompt, rater = schema.prompt, schema.rater
    asked = select(prompt.c.id, prompt.c.messages).where(prompt.c.id.in_({one.task.prompt_id for one, _ in shown}))
    start = {row.id: prompt_start(row.messages) for row in connection.execute(asked)}
    who = select(rater.c.id, rater.c.pseudonym).where(rater.c.id.in_({one.rater_id for one, _ in shown}))
    name = {row.id: row.pseudonym for row in connection.execute(who)}
    items = [
        {"task": one.task.id, "prompt_start": start[one.task.prompt_id], "pseudonym": name[one.rater_id]}
        | {"counted": shows}
        for one, shows in shown
    ]
    return {"total": len(cases), "items": items}


def _left(votes: Votes) -> list[Case]:
    """Whether each winner stood on the left; of a safety task the more helpful one counts."""
    return [
        (pair.judgment, pair.position == 0)
        for pair in votes.pairs
        if pair.position is not None and pair.dimension != "safer" and pair.judgment.purpose == "judge"
    ]


def _same(votes: Votes) -> list[Case]:
    """Whether a task shown again under the same guideline, sides swapped, was answered as before."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    again: dict[tuple[str, str], dict[str, Any]] = {}
    copies: dict[tuple[str, str], Judgment] = {}
    before: dict[tuple[str, str], str | None] = {}
    for pair in votes.pairs:
        task = pair.judgment.task
        key = (pair.judgment.rater_id, task.repeat_of or task.id)
        is_copy = pair.judgment.role == "repeat"
        (again if is_copy else first).setdefault(key, {})[pair.dimension] = (pair.outcome, pair.winner)
        if is_copy:
            copies[key] = pair.judgment
        else:
            before[key] = pair.judgment.guideline_id
    same = [key for key in again if key in before and before[key] == copies[key].guideline_id]
    return [(copies[key], first[key] == again[key]) for key in same]


def _longer(votes: Votes, length: dict[str, int]) -> list[Case]:
    """Whether the better one was the longer one, wherever the lengths differ."""
    found = []
    for pair in _compared(votes):
        if pair.winner is not None:
            (loser,) = set(pair.judgment.task.responses) - {pair.winner}
            if length[pair.winner] != length[loser]:
                found.append((pair.judgment, length[pair.winner] > length[loser]))
    return found


def _compared(votes: Votes) -> Iterator[PairVote]:
    """What a rater said of two answers on the whole, first time asked; of a safety task the more helpful one counts."""
    for pair in votes.pairs:
        if (
            pair.dimension != "safer"
            and pair.judgment.role in ("vote", "replaced")
            and pair.judgment.purpose == "judge"
        ):
            yield pair


def longer_slope(connection: Connection, votes: Votes) -> dict[str, Any]:
    """How strongly length pulls: the log-odds that a typical difference of length adds, and that in characters."""
    length = _lengths(connection, votes.project_id)
    said = [pair for pair in _compared(votes) if pair.choice is not None]
    both = [[length[response] for response in pair.judgment.task.canonical] for pair in said]
    difference = np.array([first - second for first, second in both], dtype=float)
    choice = np.array([pair.choice for pair in said], dtype=float)
    found = _told(lambda: length_slope(choice, difference, **_drawn([pair.judgment for pair in said])))
    if "undefined" in found:
        return found
    return found | {"judgments": len(said), "characters": round(float(np.sqrt(np.mean(difference**2))), 3)}


def _drawn(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """How intervals over prompts are drawn."""
    groups = np.array([one.task.prompt_id for one in judgments])
    return {"groups": groups, "seed": coefficients.SEED, "resamples": coefficients.RESAMPLES}


def _quick(votes: Votes, length: dict[str, int], ms_per_character: float) -> list[Case]:
    """Whether each first answer came quicker than anybody reads what was shown."""
    found = []
    for one in votes.judgments:
        if one.active_ms is not None and one.revision == 1:
            characters = length[one.task.prompt_id] + sum(length[response] for response in one.task.responses)
            found.append((one, one.active_ms < characters * ms_per_character))
    return found


# ------------------------------------------------------------------------------------------ in the course of a sitting


def _parts(votes: Votes) -> dict[str, int]:
    """For each judgment that stands in a sitting, which third of it: 0, 1 or 2.

    When a revised one was first made is not known, and what was judged elsewhere has no sittings.
    """
    mine: dict[str, list[Judgment]] = {}
    for one in votes.judgments:
        elsewhere = one.task.made_by == "imported" and one.task.again_of is None
        if one.purpose == "judge" and one.revision == 1 and not elsewhere:
            mine.setdefault(one.rater_id, []).append(one)
    found: dict[str, int] = {}
    for judgments in mine.values():
        at = np.maximum.accumulate([one.submitted_ms for one in judgments])  # by events; another server's clock may lag
        sitting = sittings(at, gap=GAP_MINUTES * 60_000)
        found |= dict(zip((one.id for one in judgments), thirds(sitting, least=LEAST_IN_SITTING).tolist(), strict=True))
    return found


def _in_course(votes: Votes) -> dict[Habit, list[Case]]:
    """Of the first and the last third of each sitting, whether each judgment agrees with the others of its task."""
    agrees, part = judgments_with_others(main_scales(first_votes(as_given(votes)))), _parts(votes)
    compared = [(one, agrees.get((one.task.id, one.rater_id))) for one in votes.judgments if one.purpose == "judge"]
    found: dict[Habit, list[Case]] = {}
    for name, third in PARTS.items():
        found[name] = [(one, same) for one, same in compared if same is not None and part.get(one.id) == third]
    return found


def drift(votes: Votes) -> dict[str, Any]:
    """What changes from the first to the last third of a sitting: agreement with the others, and time per judgment.

    ``agreement``: the difference of the shares of ``early`` and ``late``. ``speed``: the ratio of the times (geometric
    means); ``seconds``: their medians.
    """
    part, cases = _parts(votes), _in_course(votes)
    compared = [(one, same, late) for late, name in enumerate(PARTS) for one, same in cases[name]]
    right, is_late = (np.array([one[k] for one in compared], dtype=bool) for k in (1, 2))
    ends = [one for one in votes.judgments if part.get(one.id) in PARTS.values()]
    timed = [one for one in ends if one.active_ms is not None]
    ms = np.array([max(1, one.active_ms or 0) for one in timed], dtype=float)
    after = np.array([part[one.id] == PARTS["late"] for one in timed], dtype=bool)
    return {
        "gap_minutes": GAP_MINUTES,
        "least": LEAST_IN_SITTING,
        "raters": len({one.rater_id for one in ends}),
        "agreement": _told(lambda: share_difference(right, is_late, **_drawn([one for one, *_ in compared]))),
        "speed": _told(lambda: _ratio(mean_difference(np.log(ms), after, **_drawn(timed)))),
        "seconds": [round(float(np.median(ms[of])) / 1000, 3) if of.any() else None for of in (~after, after)],
    }


def _told(interval: Callable[[], Interval]) -> dict[str, Any]:
    """An interval as JSON, or why there is none."""
    try:
        return coefficients.interval_json(interval())
    except Undefined as reason:
        return undefined_json(reason)


def _ratio(difference: Interval) -> Interval:
    """Of logarithms, as a ratio."""
    value, low, high = (float(np.exp(one)) for one in difference[:3])
    return Interval(value, low, high, difference.n)


def _lengths(connection: Connection, project_id: str) -> dict[str, int]:
    """Characters of each response and each prompt."""
    response, prompt = schema.response, schema.prompt
    here = prompt.c.project_id == project_id
    query = select(response.c.id, func.length(response.c.text)).join(prompt).where(here)
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    for row in connection.execute(select(prompt.c.id, prompt.c.messages).where(here)):
        found[row.id] = sum(len(turn["content"]) for turn in row.messages)
    return found
