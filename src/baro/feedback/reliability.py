"""How far a rater can be relied on: by tasks whose answer is known, and by what the other raters say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

from baro.feedback.derive import Judgment, RankVote, Votes
from baro.feedback.scales import Scale, first_votes, scales_of

ENOUGH = 5  # judgments from which a rater's reliability is known


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a rater is right, by tasks with a known answer ("gold"), or agrees with the others ("others")."""

    value: float
    right: int
    n: int
    by: Literal["gold", "others"]


def reliability(votes: Votes) -> dict[str, Reliability]:
    """For each rater of whom enough is known: by known answers where there are ENOUGH, else by the other raters."""
    gold, others = gold_answers(votes), agreement_with_others(scales_of(first_votes(votes)).values())
    known: dict[str, Reliability] = {}
    for rater in sorted({one.rater_id for one in votes.judgments}):
        for by, (right, n) in (("gold", gold.get(rater, (0, 0))), ("others", others.get(rater, (0, 0)))):
            if n >= ENOUGH and rater not in known:
                known[rater] = Reliability(right / n, right, n, by)  # type: ignore[arg-type]
    return known


def agreement_with_others(scales: Iterable[Scale]) -> dict[str, tuple[int, int]]:
    """How often each rater says what the others of the same item say on the whole, and of how many items.

    The others' view is their most frequent answer, on an ordinal scale their mean, to which within 1 is agreement.
    Items on which the others are divided say nothing.
    """
    found: dict[str, list[bool]] = {}
    for (_, rater), right in _compared(scales).items():
        found.setdefault(rater, []).extend(right)
    return {rater: (sum(right), len(right)) for rater, right in sorted(found.items())}


def judgments_with_others(scales: Iterable[Scale]) -> dict[tuple[str, str], bool]:
    """For (task, rater) whether the rater agrees with the others in at least half of what can be compared there."""
    return {key: 2 * sum(right) >= len(right) for key, right in _compared(scales).items()}


def _compared(scales: Iterable[Scale]) -> dict[tuple[str, str], list[bool]]:
    """For (task, rater) whether each of the rater's answers there is what the others say on the whole."""
    found: dict[tuple[str, str], list[bool]] = {}
    for scale in scales:
        for item, given in scale.items.items():
            for rater, value in given.items():
                view = consensus([other for name, other in given.items() if name != rater], scale.level)
                if view is not None:
                    agrees = abs(value - view) <= (scale.level == "ordinal")
                    found.setdefault((item[0], rater), []).append(agrees)
    return found


def consensus(values: Sequence[float], level: str) -> float | None:
    """What several raters say on the whole; None where two answers are equally frequent, or there is none."""
    if not values:
        return None
    if level == "ordinal":
        return sum(values) / len(values)
    (value, count), *rest = Counter(values).most_common(2)
    return None if rest and rest[0][1] == count else value


def gold_answers(votes: Votes) -> dict[str, tuple[int, int]]:
    """How many of a rater's answers to tasks with a known answer are right, and of how many."""
    found: dict[str, list[bool]] = {}
    for judgment_id, right in rightness(votes).items():
        found.setdefault(judgment_id[0], []).append(right)
    return {rater: (sum(right), len(right)) for rater, right in sorted(found.items())}


def rightness(votes: Votes) -> dict[tuple[str, str], bool]:
    """For (rater, judgment) on a task with a known answer: whether everything in the known answer was said."""
    parts: dict[tuple[str, str], list[bool]] = {}

    def add(judgment: Judgment, right: bool) -> None:
        parts.setdefault((judgment.rater_id, judgment.id), []).append(right)

    for pair in votes.pairs:
        known = _known(pair.judgment, "choice" if pair.dimension == "overall" else pair.dimension)
        if known:
            slot = known.get("position")
            winner = None if slot is None else pair.judgment.task.responses[slot]
            add(pair.judgment, (pair.outcome, pair.winner) == (known["outcome"], winner))
    for ranking in votes.ranks:
        known = _known(ranking.judgment, "ranks")
        if known:
            add(ranking.judgment, _in_order(ranking, dict(zip(ranking.judgment.task.responses, known, strict=True))))
    for name, field_name, marks in (("thumbs", "good", votes.thumbs), ("marks", "safe", votes.safety)):
        for mark in marks:
            known = _known(mark.judgment, name)
            if known:
                add(mark.judgment, getattr(mark, field_name) == known[_slot(mark)][field_name])
    for score in votes.scores:
        known = (_known(score.judgment, "scores") or {}).get(score.criterion)
        if known and known[_slot(score)] is not None:
            add(score.judgment, score.score is not None and abs(score.score - known[_slot(score)]) <= 1)
    return {key: all(right) for key, right in parts.items()}


def _known(judgment: Judgment, part: str) -> Any:
    return None if judgment.role == "withdrawn" else (judgment.task.gold_answer or {}).get(part)


def _slot(vote: Any) -> int:
    return int(vote.judgment.task.responses.index(vote.response))


def _in_order(ranking: RankVote, known: Mapping[str, int | None]) -> bool:
    """Every response of the known ranking has a rank, and of two that differ there the same one is better.

    Where the known ranking ties two, either may be called better.
    """
    wanted = {one: rank for one, rank in known.items() if rank is not None}
    return set(wanted) <= set(ranking.ranks) and all(
        ranking.ranks[one] < ranking.ranks[other]
        for one, other in permutations(wanted, 2)
        if wanted[one] < wanted[other]
    )


def left_out(votes: Votes, min_reliability: float | None) -> dict[str, Reliability]:
    """The raters whose known reliability lies below a limit, with the evidence; nobody without a limit."""
    if min_reliability is None:
        return {}
    return {rater: one for rater, one in reliability(votes).items() if one.value < min_reliability}
