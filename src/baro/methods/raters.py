"""Who judges answers: what compares two of them, and what scores each, behind one interface.

Which of two answers a judge sees first is drawn from the seed, so that one who favours a side favours no sample.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Protocol

from baro.bar import in_parts
from baro.errors import check_failures
from baro.functional.statistics import Interval, wilson_interval
from baro.functional.streams import stream
from baro.protocols import PairJudge, RewardSource
from baro.records import Answers, Rollout, said

CHUNK = 256  # judged at once: a moving bar, and little lost when a judge fails
Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A prompt with its answers; ``key`` is the row that they came from, ``index`` its number."""

    key: str
    index: int
    answers: Answers
    given: Mapping[Pair, float] = field(default_factory=dict)  # p(first is better) by those who judged before
    models: tuple[str, ...] = ()  # who wrote each answer, where the row says so

    def rollout(self, k: int) -> Rollout:
        """Answer k as judges see it."""
        one = self.answers
        return Rollout(one.prompt, said(one.completions[k]), finished=one.finished[k], extra=one.extra)

    def equal(self, pair: Pair) -> bool:
        """Whether both answers are the same text."""
        return self.answers.completions[pair[0]] == self.answers.completions[pair[1]]


def pair_key(case: Case, pair: Pair) -> str:
    """How the ledger names a pair: the row, and the answers counted from 1."""
    return f"{case.key} answers {pair[0] + 1} and {pair[1] + 1}"


@dataclass
class Tally:
    """What became of the judgments."""

    asked: int = 0
    errors: list[str] = field(default_factory=list)
    identical: int = 0
    ties: int = 0
    kept: int = 0
    left: float = 0.0  # decided comparisons in which the answer shown first was preferred
    decided: int = 0
    spread: list[float] = field(default_factory=list)  # of an ensemble: its members' sd, answer by answer
    agreed: int = 0  # pairs that were judged before, and of which both judgments name the same better answer
    compared: int = 0
    agreed_on: Counter[str] = field(default_factory=Counter)  # the same by who wrote one of both answers, or both
    compared_on: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)  # why a pair's judgment failed, where it is known
    told: dict[str, Interval | float] = field(default_factory=dict)  # further figures of the rater

    def check(self, by: str, max_error_fraction: float) -> None:
        """Raise RewardError where too many judgments failed."""
        check_failures(self.errors, self.asked, by, limit=max_error_fraction)

    def compare_with(self, given: float | None, p: float, models: Collection[str] = ()) -> None:
        """Count a judgment beside an earlier one of the same pair; ties of either say nothing. ``models``: the writers.

        A judge's errors depend on whose answers it reads.
        """
        if given is not None and 0.5 not in (given, p):
            agreed = (given > 0.5) == (p > 0.5)
            self.compared, self.agreed = self.compared + 1, self.agreed + agreed
            for model in set(models):
                self.compared_on[model] += 1
                self.agreed_on[model] += agreed

    def figures(self, kind: str) -> dict[str, Interval | float]:
        """For figures.json; ``left_preferred`` is 0.5 for a judge who favours no side.

        ``disagreement``: of an ensemble, the mean sd of its members' scores of an answer.
        """
        counts = {kind: self.kept, "ties": self.ties, "identical": self.identical, "errors": len(self.errors)}
        found: dict[str, Interval | float] = {name: float(count) for name, count in counts.items()}
        found |= {"disagreement": math.fsum(self.spread) / len(self.spread)} if self.spread else {}
        found |= {"left_preferred": wilson_interval(self.left, self.decided)} if self.decided else {}
        found |= {"agreement": wilson_interval(self.agreed, self.compared)} if self.compared else {}
        for model, count in sorted(self.compared_on.items()):
            found[f"agreement/{model}"] = wilson_interval(self.agreed_on[model], count)
        return found | self.told


class Rater(Protocol):
    """Compares answers pair by pair, and scores all answers of a prompt; None where the judgment failed."""

    def compare(self, asked: Sequence[tuple[Case, Pair]], tally: Tally) -> list[tuple[float | None, str]]:
        """p(the pair's first answer is better), and which of the two was shown on the left ("" if neither)."""

    def score(self, cases: Sequence[Case], tally: Tally) -> list[list[float | None]]:
        """A number per answer, higher is better."""


class PairRater:
    """What compares two answers; its scores are wins in a round robin."""

    def compare(self, asked: Sequence[tuple[Case, Pair]], tally: Tally) -> list[tuple[float | None, str]]:
        raise NotImplementedError

    def score(self, cases: Sequence[Case], tally: Tally) -> list[list[float | None]]:
        asked = [(case, pair) for case in cases for pair in combinations(range(len(case.answers.completions)), 2)]
        different = [(case, pair) for case, pair in asked if not case.equal(pair)]
        found = iter(self.compare(different, tally))
        wins: dict[int, list[float | None]] = {c.index: [0.0] * len(c.answers.completions) for c in cases}
        for case, (i, j) in asked:
            p = 0.5 if case.equal((i, j)) else next(found)[0]
            for k, won in ((i, p), (j, None if p is None else 1 - p)):
                before = wins[case.index][k]
                wins[case.index][k] = None if before is None or won is None else before + won
        return [wins[case.index] for case in cases]


class JudgeRater(PairRater):
    """A PairJudge."""

    def __init__(self, judge: PairJudge, seed: int) -> None:
        self.judge, self.seed = judge, seed

    def compare(self, asked: Sequence[tuple[Case, Pair]], tally: Tally) -> list[tuple[float | None, str]]:
        swapped = [self._swapped(case, pair) for case, pair in asked]
        shown = [
            (case.rollout(pair[swap]), case.rollout(pair[not swap]))
            for (case, pair), swap in zip(asked, swapped, strict=True)
        ]
        verdicts = [verdict for chunk in in_parts(shown, CHUNK, "judge") for verdict in self.judge.compare(chunk)]
        tally.asked += len(verdicts)
        tally.errors += [verdict.error or "no verdict" for verdict in verdicts if verdict.p_first is None]
        left = [verdict.p_first for verdict in verdicts if verdict.p_first not in (None, 0.5)]
        tally.left, tally.decided = tally.left + sum(p > 0.5 for p in left), tally.decided + len(left)
        return [
            (None, "") if one.p_first is None else (1 - one.p_first, "second") if swap else (one.p_first, "first")
            for one, swap in zip(verdicts, swapped, strict=True)
        ]

    def _swapped(self, case: Case, pair: Pair) -> bool:
        return shown_second(self.seed, case, pair)


def shown_second(seed: int, case: Case, pair: Pair) -> bool:
    """Whether the pair's first answer stands on the right."""
    return bool(stream("shown_first", seed, case.index, *pair).random() < 0.5)


class RewardRater:
    """A RewardSource; the answer with the higher score is the better one, of a cost model that with the lower cost."""

    def __init__(self, source: RewardSource) -> None:
        self.source = source

    def score(self, cases: Sequence[Case], tally: Tally) -> list[list[float | None]]:
        rollouts = [case.rollout(k) for case in cases for k in range(len(case.answers.completions))]
        scores = [score for chunk in in_parts(rollouts, CHUNK, "score") for score in self.source.score(chunk)]
        tally.asked += len(scores)
        tally.errors += [score.error or "no score" for score in scores if score.value is None]
        tally.spread += [score.std for score in scores if score.std is not None and score.value is not None]
        values = iter(score.value for score in scores)
        return [[next(values) for _ in case.answers.completions] for case in cases]

    def compare(self, asked: Sequence[tuple[Case, Pair]], tally: Tally) -> list[tuple[float | None, str]]:
        cases = list({case.index: case for case, _ in asked}.values())
        scores = dict(zip((case.index for case in cases), self.score(cases, tally), strict=True))
        return [(_p_first(scores[case.index][i], scores[case.index][j]), "") for case, (i, j) in asked]


def _p_first(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return 0.5 if one == other else float(one > other)
