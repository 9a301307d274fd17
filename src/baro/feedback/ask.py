"""What to ask next: tasks drawn at random, or where reward models are unsure; at least a fifth of them is random.

The random part of every round is drawn uniformly from all candidates, those that are tasks already among them; no score
has had a hand in it. Only on it do a reward model's accuracy and the raters' agreement say something about all answers.
A draw that hits a task marks it as drawn at random as well: what a policy left over is no random sample. Policy, score
and propensity of each draw are kept (table ``draw``).

What is selected follows from the seed, from how many rounds there were, and from what prompts and answers say, never
from their ids: two stores that hold the same get the same tasks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from statistics import fmean, pvariance
from typing import Any, Literal

import sqlalchemy as sql
from sqlalchemy import Connection

from baro.errors import ConfigError
from baro.feedback import schema
from baro.feedback.database import COMMAND_LINE, log_event
from baro.feedback.ids import sha256, uniform
from baro.feedback.project import Project, add_task, checked_size
from baro.feedback.withdrawn import withdrawn_at

Policy = Literal["random", "margin", "disagreement"]
Scores = Mapping[str, Sequence[float]]
KINDS = ("pair", "rank", "safety")  # that compare answers
LEAST_RANDOM = 0.2
SHINGLE, ALIKE = 5, 0.9  # letters; share of common ones from which two answers are near-duplicates
ROUND = "ask"  # the event of a round
MOST_SETS = 40  # candidates of one prompt; more are drawn from at random


@dataclass(frozen=True, slots=True)
class Candidate:
    """Answers of one prompt that could be a task.

    key: the hashes of prompt and answers, the same in every store. score: how much the policy wants it, None where
    unscored. share: of the prompt's sets the part that candidates were drawn from it.
    """

    prompt: str
    responses: tuple[str, ...]
    key: tuple[str, ...]
    score: float | None
    share: float


def select(
    connection: Connection,
    project: Project,
    kind: str,
    count: int,
    *,
    policy: Policy,
    scores: Scores | None = None,
    seed: int = 0,
    random_fraction: float = LEAST_RANDOM,
    size: int | None = None,
    priority: int = 0,
) -> dict[str, int]:
    """Draw ``count`` times; returns how many tasks were added, how many draws were random, how many hit a task that was
    there, of how many candidates they were drawn, and what was passed over.

    margin: the smallest difference of one reward model's scores first (the first of each list). disagreement: the
    largest variance over several reward models' differences first. Both take one candidate of every prompt before a
    second of any, and none that is a task. ``scores``: by response, one number per model. ``size``: of a ranking, 4
    unless given. A prompt gives one ranking: at random any set of its answers, and where it is chosen the one that
    spans the scores.
    """
    _check(kind, count, policy, scores, random_fraction)
    size = checked_size(kind, size)
    wanted = {"margin": _closeness, "disagreement": _variance}.get(policy)
    known = task_sets(connection, project.id, kind)
    found = {"near_duplicates": 0, "known": 0, "candidates": 0}
    pool: list[Candidate] = []
    wished: list[Candidate] = []
    seeds = (str(seed), str(_rounds(connection, project.id, kind)))
    for to_draw, to_choose in _candidates(connection, project.id, size, seeds, scores or {}, wanted, found):
        found["known"] += len({frozenset(one.responses) for one in to_draw + to_choose} & known.keys())
        pool += to_draw
        wished += [one for one in to_choose if frozenset(one.responses) not in known]
    found["candidates"] = len(pool)
    for part in (pool, wished):
        part.sort(key=lambda one: uniform(*seeds, "ask", *one.key))
    at_random = count if policy == "random" else math.ceil(round(random_fraction * count, 9))
    random_part = pool[:at_random]
    asked = {one.prompt if size > 2 else one.key for one in random_part}
    left = [one for one in wished if (one.prompt if size > 2 else one.key) not in asked]
    chosen = _diverse([one for one in left if one.score is not None], count - len(random_part))
    hit = sum(frozenset(one.responses) in known for one in random_part)
    found |= {"added": len(random_part) + len(chosen) - hit, "random": len(random_part), "drawn_again": hit}
    found["unscored"] = sum(one.score is None for one in wished)
    told = {"kind": kind, "policy": policy, **found}
    event_id = log_event(connection, COMMAND_LINE, ROUND, "project", project.id, told)
    rows = []
    for one in (*random_part, *chosen):
        how: dict[str, Any] = {"policy": policy, "score": one.score, "propensity": 1.0}
        if len(rows) < len(random_part):
            how = {"policy": "random", "score": None, "propensity": one.share * min(1.0, at_random / len(pool))}
        task = known.get(frozenset(one.responses)) or add_task(
            connection, project, kind, one.prompt, one.responses, priority=priority, **how
        )
        rows.append({"event_id": event_id, "task_id": task, **how})
    if rows:
        connection.execute(sql.insert(schema.draw), rows)
    return found


def _rounds(connection: Connection, project_id: str, kind: str) -> int:
    """How often this kind was selected here: each round draws anew."""
    event = schema.event
    query = sql.select(event.c.details).where(event.c.entity_id == project_id, event.c.action == ROUND)
    return sum(details["kind"] == kind for details in connection.execute(query).scalars())


def _check(kind: str, count: int, policy: str, scores: Scores | None, random_fraction: float) -> None:
    if kind not in KINDS:
        raise ConfigError(f"kind {kind}: only tasks that compare answers are selected; give pair, safety or rank")
    if policy not in ("random", "margin", "disagreement"):
        raise ConfigError(f"policy {policy!r}: give random, margin or disagreement")
    if count < 1:
        raise ConfigError(f"count {count}: give at least 1")
    if not LEAST_RANDOM <= random_fraction <= 1:
        raise ConfigError(
            f"random_fraction {random_fraction}: give {LEAST_RANDOM} to 1; without random pairs neither accuracy nor "
            "agreement can be measured"
        )
    if policy != "random" and not scores:
        raise ConfigError(f"policy {policy}: needs reward models' scores of the answers")
    if policy == "disagreement" and any(len(one) < 2 for one in (scores or {}).values()):
        raise ConfigError("policy disagreement: needs the scores of at least two reward models")


def _closeness(responses: Sequence[str], scores: Scores) -> float:
    """Minus the mean difference of every two answers' scores by the first model: 0 is as unsure as can be."""
    return -fmean(abs(scores[one][0] - scores[other][0]) for one, other in combinations(responses, 2))


def _variance(responses: Sequence[str], scores: Scores) -> float:
    """The variance of every two answers' score difference over the models, on average."""
    return fmean(
        pvariance([a - b for a, b in zip(scores[one], scores[other], strict=True)])
        for one, other in combinations(responses, 2)
    )


def _diverse(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The highest scores, but one of every prompt before a second of any."""
    ordered = sorted(candidates, key=lambda one: -(one.score or 0.0))
    turns: dict[str, int] = {}
    placed = []
    for place, one in enumerate(ordered):
        turns[one.prompt] = turns.get(one.prompt, 0) + 1
        placed.append((turns[one.prompt], place, one))
    return [one for *_, one in sorted(placed, key=lambda entry: entry[:2])[: max(0, count)]]


# ---------------------------------------------------------------------------------------------------------- candidates


def task_sets(connection: Connection, project_id: str, kind: str) -> dict[frozenset[str], str]:
    """The sets of answers that tasks of this kind show, with the task, of one that was asked again the first; repeats
    and known answers are not counted."""
    task, item = schema.task, schema.task_item
    query = sql.select(item.c.task_id, item.c.response_id).join(task, task.c.id == item.c.task_id).where(
        task.c.project_id == project_id, task.c.kind == kind, task.c.repeat_of.is_(None), task.c.is_gold.is_(False),
        task.c.again_of.is_(None),
    )  # fmt: skip
    shown: dict[str, set[str]] = {}
    for task_id, response_id in connection.execute(query):
        shown.setdefault(task_id, set()).add(response_id)
    return {frozenset(responses): task_id for task_id, responses in sorted(shown.items(), reverse=True)}


def _candidates(
    connection: Connection,
    project_id: str,
    size: int,
    seeds: tuple[str, str],
    scores: Scores,
    wanted: Callable[[Sequence[str], Scores], float] | None,
    found: dict[str, int],
) -> Iterator[tuple[list[Candidate], list[Candidate]]]:
    """Of each prompt those that may be drawn at random, anew in each round, and those that the policy may choose.

    seeds: that of all rounds, and the round.
    """
    for prompt, digest, texts in _answers(connection, project_id):
        alike, digests = _near_duplicates(texts), {one: sha256(text) for one, text in texts.items()}
        found["near_duplicates"] += len(alike)
        sets = {
            one: (digest, *(digests[response] for response in one))
            for one in combinations(texts, size)
            if not any(pair in alike for pair in combinations(one, 2))
        }
        if not sets:
            continue
        drawn, listed = (
            sorted(sets, key=lambda one: uniform(*part, "set", *sets[one]))[:MOST_SETS] for part in (seeds, seeds[:1])
        )
        to_draw, to_choose = (drawn, listed) if size == 2 else (drawn[:1], [_spanning(listed, scores)])
        share = len(to_draw) / len(sets)
        yield (
            [Candidate(prompt, one, sets[one], None, share) for one in to_draw],
            [Candidate(prompt, one, sets[one], _score(one, scores, wanted), share) for one in to_choose if wanted],
        )


def _score(one: Sequence[str], scores: Scores, wanted: Callable[[Sequence[str], Scores], float] | None) -> float | None:
    """How much a policy wants a set of answers; None where one of them has no score."""
    return wanted(one, scores) if wanted and all(response in scores for response in one) else None


def _answers(connection: Connection, project_id: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each prompt with its hash and its answers by id, all in the order of their hashes; the same text counts once."""
    response, prompt = schema.response, schema.prompt
    query = sql.select(response.c.prompt_id, prompt.c.sha256, response.c.id, response.c.text).join(prompt)
    query = query.where(prompt.c.project_id == project_id).order_by(prompt.c.sha256, response.c.sha256, response.c.id)
    gone = withdrawn_at(connection, project_id)
    for (prompt_id, digest), rows in groupby(connection.execute(query), key=lambda row: (row.prompt_id, row.sha256)):
        first: dict[str, str] = {}
        for row in rows:
            if not gone.covers("", prompt_id, (row.id,), None):
                first.setdefault(row.text, row.id)
        yield prompt_id, digest, {one: text for text, one in first.items()}


def _spanning(sets: Sequence[tuple[str, ...]], scores: Scores) -> tuple[str, ...]:
    """Of several sets of answers the one whose scores lie furthest apart, the closest two counting most."""

    def gaps(one: tuple[str, ...]) -> list[float]:
        ordered = sorted(fmean(scores[response]) for response in one)
        return sorted(b - a for a, b in pairwise(ordered))

    scored = [one for one in sets if all(response in scores for response in one)]
    return max(scored, key=gaps) if scored else sets[0]


def _near_duplicates(texts: Mapping[str, str]) -> set[tuple[str, str]]:
    """Pairs of answers that differ in little: nobody could say much about them."""
    shingles = {one: _shingles(text) for one, text in texts.items()}
    found = set()
    for one, other in combinations(texts, 2):
        mine, theirs = shingles[one], shingles[other]
        if len(mine & theirs) >= ALIKE * len(mine | theirs):
            found.add((one, other))
    return found


def _shingles(text: str) -> set[str]:
    plain = re.sub(r"\W+", " ", text).strip().lower()
    return {plain[i : i + SHINGLE] for i in range(max(1, len(plain) - SHINGLE + 1))}
