"""What to ask next: tasks drawn at random, or where reward models are unsure; at least a fifth of them is random.

The random part is drawn first and uniformly from all candidates; only on it do a reward model's accuracy and the
raters' agreement say something about all answers. Policy, score and propensity are kept with each task.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean, pvariance
from typing import Any, Literal

import sqlalchemy as sql
from sqlalchemy import Connection

from baro.errors import ConfigError
from baro.feedback import schema
from baro.feedback.database import log_event
from baro.feedback.ids import uniform
from baro.feedback.project import ITEMS, Project, add_task

Policy = Literal["random", "margin", "disagreement"]
Scores = Mapping[str, Sequence[float]]
LEAST_RANDOM = 0.2
SHINGLE, ALIKE = 5, 0.9  # letters; share of common ones from which two answers are near-duplicates
MOST_SETS = 40  # candidates of one prompt; more are drawn from at random


@dataclass(frozen=True, slots=True)
class Candidate:
    """Answers of one prompt that could be a task. ``score``: how much the policy wants it, None where unscored."""

    prompt: str
    responses: tuple[str, ...]
    score: float | None


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
    size: int = 4,
    priority: int = 0,
) -> dict[str, int]:
    """Make up to ``count`` tasks; returns how many, how many of them random, and what was passed over.

    margin: the smallest difference of one reward model's scores first (the first of each list). disagreement: the
    largest variance over several reward models' differences first. Both take one candidate of every prompt before a
    second of any. ``scores``: by response, one number per model. ``size``: of a ranking.
    """
    _check(kind, count, policy, scores, random_fraction)
    size = 2 if kind != "rank" else size
    wanted, known = (
        {"margin": _closeness, "disagreement": _variance}.get(policy),
        task_sets(connection, project.id, kind),
    )
    found = {"near_duplicates": 0, "known": 0, "candidates": 0}
    candidates = []
    for one in _candidates(connection, project.id, size, seed, scores or {}, wanted, found):
        if frozenset(one.responses) in known:
            found["known"] += 1
        else:
            candidates.append(one)
    found["candidates"] = len(candidates)
    drawn = sorted(candidates, key=lambda one: uniform(str(seed), "ask", *one.responses))
    at_random = count if policy == "random" else math.ceil(round(random_fraction * count, 9))
    random_part = drawn[:at_random]
    chosen = _diverse([one for one in drawn[at_random:] if one.score is not None], count - len(random_part))
    propensity = min(1.0, at_random / len(candidates)) if candidates else 1.0
    for one in random_part:
        add_task(connection, project, kind, one.prompt, one.responses, priority=priority, propensity=propensity)
    for one in chosen:
        more: dict[str, Any] = {"policy": policy, "score": one.score, "propensity": 1.0, "priority": priority}
        add_task(connection, project, kind, one.prompt, one.responses, **more)
    found |= {"added": len(random_part) + len(chosen), "random": len(random_part)}
    found["unscored"] = sum(one.score is None for one in candidates) if wanted else 0
    log_event(connection, "command line", "ask", "project", project.id, {"kind": kind, "policy": policy, **found})
    return found


def _check(kind: str, count: int, policy: str, scores: Scores | None, random_fraction: float) -> None:
    if ITEMS.get(kind, (1, 1))[0] < 2:
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
    """The sets of answers that tasks of this kind show, with the task; repeats and known answers are not counted."""
    task, item = schema.task, schema.task_item
    query = sql.select(item.c.task_id, item.c.response_id).join(task, task.c.id == item.c.task_id).where(
        task.c.project_id == project_id, task.c.kind == kind, task.c.repeat_of.is_(None), task.c.is_gold.is_(False)
    )  # fmt: skip
    shown: dict[str, set[str]] = {}
    for task_id, response_id in connection.execute(query):
        shown.setdefault(task_id, set()).add(response_id)
    return {frozenset(responses): task_id for task_id, responses in sorted(shown.items(), reverse=True)}


def _candidates(
    connection: Connection,
    project_id: str,
    size: int,
    seed: int,
    scores: Scores,
    wanted: Callable[[Sequence[str], Scores], float] | None,
    found: dict[str, int],
) -> Iterator[Candidate]:
    for prompt, texts in _answers(connection, project_id):
        alike = _near_duplicates(texts)
        found["near_duplicates"] += len(alike)
        sets = [one for one in combinations(texts, size) if not any(p in alike for p in combinations(one, 2))]
        sets = sorted(sets, key=lambda one: uniform(str(seed), "set", *one))[:MOST_SETS]
        if size > 2 and sets:
            sets = [_spanning(sets, scores)] if wanted else sets[:1]
        for one in sets:
            scored = wanted is not None and all(response in scores for response in one)
            yield Candidate(prompt, one, wanted(one, scores) if wanted and scored else None)


def _answers(connection: Connection, project_id: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each prompt's answers by id; the same text counts once."""
    response = schema.response
    query = sql.select(response.c.prompt_id, response.c.id, response.c.text, response.c.sha256).join(schema.prompt)
    found: dict[str, dict[str, str]] = {}
    seen = set()
    for row in connection.execute(query.where(schema.prompt.c.project_id == project_id).order_by(response.c.id)):
        if (row.prompt_id, row.sha256) not in seen:
            seen.add((row.prompt_id, row.sha256))
            found.setdefault(row.prompt_id, {})[row.id] = row.text
    yield from sorted(found.items())


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
