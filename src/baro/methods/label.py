"""Judgments of answers: pairs, rankings or the best, by people simulated or real, judges, functions or reward models.

A judge compares two answers of one prompt and says with what probability the first is better; a reward scores each by
itself. Which of two answers a judge sees first is drawn from the seed, so that one who favours a side favours no
sample. What cannot be told apart (equal texts, ties) is left out and counted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ConfigDict, Field, model_validator
from rich.console import Console

from baro.bar import in_parts
from baro.compute import ComputeConfig
from baro.data.formats import read_records, write_records
from baro.data.ledger import Ledger, write_ledger
from baro.declared import Records, Scorer, is_object
from baro.errors import check_failures
from baro.files import saving
from baro.functional.statistics import Interval, wilson_interval
from baro.functional.streams import stream
from baro.inputs import load_object, load_scorer, open_run, resolve
from baro.methods import stage
from baro.protocols import PairJudge, RewardSource
from baro.records import Answers, Demonstration, Message, Preference, Ranking, Record, Rollout, said
from baro.reward_config import ScoredBy
from baro.rewards.costs import comparing
from baro.runs import RunDir

log = logging.getLogger("baro")
CHUNK = 256  # judged at once: a moving bar, and little lost when a judge fails
Pair = tuple[int, int]


class Config(ScoredBy):
    """``baro label``."""

    model_config = ConfigDict(populate_by_name=True)

    answers: Records = Field(description="answers to judge: a run of `baro generate` or a file")
    by: Scorer | list[Scorer] | None = Field(
        None,
        description="who judges: a reward run, module:NAME (a function, or an object with compare), or several rewards",
    )
    as_: Literal["pairs", "ranks", "best"] = Field("pairs", alias="as", description="what the judgments are kept as")
    pairs_per_prompt: int | None = Field(
        None, ge=1, description="compared pairs of a prompt; each answer once unless given"
    )
    seed: int = Field(0, ge=0, description="seed of the order in which a judge sees two answers")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _pairs_are_compared_for_pairs(self) -> Config:
        if self.pairs_per_prompt is not None and self.as_ != "pairs":
            raise ValueError(f"pairs_per_prompt goes with as: pairs, and as is {self.as_}; leave it out")
        return self


@dataclass(frozen=True)
class Case:
    """A prompt with its answers; ``key`` is the row that they came from, ``index`` its number."""

    key: str
    index: int
    answers: Answers

    def rollout(self, k: int) -> Rollout:
        """Answer k as judges see it."""
        one = self.answers
        return Rollout(one.prompt, said(one.completions[k]), finished=one.finished[k], extra=one.extra)

    def equal(self, pair: Pair) -> bool:
        """Whether both answers are the same text."""
        return self.answers.completions[pair[0]] == self.answers.completions[pair[1]]


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

    def check(self, by: str) -> None:
        """Raise RewardError where too many judgments failed."""
        check_failures(self.errors, self.asked, by)

    def figures(self, kind: str) -> dict[str, Interval | float]:
        """For figures.json; ``left_preferred`` is 0.5 for a judge who favours no side.

        ``disagreement``: of an ensemble, the mean sd of its members' scores of an answer.
        """
        counts = {kind: self.kept, "ties": self.ties, "identical": self.identical, "errors": len(self.errors)}
        found: dict[str, Interval | float] = {name: float(count) for name, count in counts.items()}
        found |= {"disagreement": math.fsum(self.spread) / len(self.spread)} if self.spread else {}
        return found | ({"left_preferred": wilson_interval(self.left, self.decided)} if self.decided else {})


class Rater(Protocol):
    """Compares answers pair by pair, and scores all answers of a prompt; None where the judgment failed."""

    def compare(self, asked: Sequence[tuple[Case, Pair]], tally: Tally) -> list[tuple[float | None, str]]:
        """p(the pair's first answer is better), and which of the two was shown on the left ("" if neither)."""

    def score(self, cases: Sequence[Case], tally: Tally) -> list[list[float | None]]:
        """A number per answer, higher is better."""


class JudgeRater:
    """A PairJudge; its scores are wins in a round robin."""

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
        return bool(stream("shown_first", self.seed, case.index, *pair).random() < 0.5)

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


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Judge, write ``records.jsonl``, and return the run directory; the same call returns what is finished."""
    run = open_run("label", config, out)
    if run.finished:
        return run
    name, cases = read_answers(resolve(config.answers, "records"))
    rater, ledger, tally = load_rater(config, run), Ledger(name), Tally()
    if config.as_ == "pairs":
        records: list[Record] = list(label_pairs(cases, rater, config.pairs_per_prompt, ledger, tally))
    else:
        records = list(label_scores(cases, rater, RECORD_OF[config.as_], ledger, tally))
    tally.check(" and ".join(config.sources) or config.own_name)
    write_ledger(run.path, "answers", config.answers, ledger)
    Console(stderr=True).print(ledger.summary())
    way_out = "give answers that differ (another temperature or model), or another judge"
    ledger.check(1.0, way_out)  # ties are nobody's mistake, unless there is nothing else
    with saving(run.records):
        write_records(run.records, records)
    stage.write_figures(run, tally.figures(config.as_))
    run.finish("finished")
    return run


def read_answers(path: Path | str) -> tuple[str, list[Case]]:
    """The file's name, and its rows; what it was taken for is said."""
    loaded = read_records(path, Answers)
    log.info("%s", loaded.description)
    rows = zip(loaded.keys, loaded.all_of(Answers), strict=True)
    return loaded.name, [Case(key, index, answers) for index, (key, answers) in enumerate(rows)]


def load_rater(config: Config, run: RunDir) -> Rater:
    """A judge (an object with ``compare``), a function, an object with ``score``, a reward run, or an ensemble."""
    by = config.by
    if isinstance(by, str) and is_object(by) and hasattr(found := load_object(by), "compare"):
        return JudgeRater(found, config.seed)
    return RewardRater(comparing(load_scorer(config, name=config.own_name, compute=config.compute, run=run)))


# ------------------------------------------------------------------------------------------------------------- pairs


def choose_pairs(answers: int, count: int | None) -> list[Pair]:
    """(0, 1), (2, 3), ... so that each answer is judged once; a larger count goes on with the remaining pairs."""
    disjoint = [(i, i + 1) for i in range(0, answers - 1, 2)]
    remaining = [pair for pair in combinations(range(answers), 2) if pair not in disjoint]
    return (disjoint + remaining)[: len(disjoint) if count is None else count]


def label_pairs(
    cases: Sequence[Case], rater: Rater, count: int | None, ledger: Ledger, tally: Tally
) -> Iterator[Preference]:
    """The pairs that were judged and have a better side."""
    asked = []
    for case in cases:
        seen: set[frozenset[str]] = set()  # the same two texts are judged once, however often they were drawn
        for pair in choose_pairs(len(case.answers.completions), count):
            texts = frozenset(case.answers.completions[k] for k in pair)
            if len(texts) == 1 or texts in seen:
                tally.identical += 1
                ledger.drop(
                    pair_key(case, pair), "identical", "these two texts cannot be told apart, or were judged before"
                )
            else:
                asked.append((case, pair))
            seen.add(texts)
    for (case, pair), (p, left) in zip(asked, rater.compare(asked, tally), strict=True):
        if p is None:
            ledger.drop(pair_key(case, pair), "failed", "the judgment failed")
        elif p == 0.5:
            tally.ties += 1
            ledger.drop(pair_key(case, pair), "tie", "neither answer is better")
        else:
            tally.kept += 1
            ledger.keep()
            yield preference_of(case, pair, p, left)


def pair_key(case: Case, pair: Pair) -> str:
    """How the ledger names a pair: the row, and the answers counted from 1."""
    return f"{case.key} answers {pair[0] + 1} and {pair[1] + 1}"


def preference_of(case: Case, pair: Pair, p: float, left: str) -> Preference:
    """The better side as chosen. ``left`` says which side the judge saw first; "" where nobody saw two."""
    better, worse = pair if p > 0.5 else pair[::-1]
    chosen, rejected = ((Message("assistant", case.answers.completions[k]),) for k in (better, worse))
    extra = dict(case.answers.extra)
    if left:
        extra["left"] = "chosen" if (left == "first") == (p > 0.5) else "rejected"
    return Preference(case.answers.prompt, chosen, rejected, p_chosen=max(p, 1 - p), extra=extra)


# ------------------------------------------------------------------------------------------------------------ scores


def competition_ranks(scores: Sequence[float]) -> tuple[int, ...]:
    """1 for the best; equal scores share a rank and the next is skipped: scores 5, 3, 3, 1 have ranks 1, 2, 2, 4."""
    return tuple(1 + sum(other > score for other in scores) for score in scores)


def ranking_of(answers: Answers, scores: Sequence[float]) -> Ranking:
    """All answers with their ranks."""
    completions = tuple((Message("assistant", text),) for text in answers.completions)
    return Ranking(answers.prompt, completions, competition_ranks(scores), answers.extra)


def best_of(answers: Answers, scores: Sequence[float]) -> Demonstration:
    """The best answer, the first of several equally good ones."""
    best = answers.completions[max(range(len(scores)), key=scores.__getitem__)]
    return Demonstration(answers.prompt, (Message("assistant", best),), answers.extra)


RECORD_OF: dict[str, Callable[[Answers, Sequence[float]], Record]] = {"ranks": ranking_of, "best": best_of}


def label_scores(
    cases: Sequence[Case],
    rater: Rater,
    record_of: Callable[[Answers, Sequence[float]], Record],
    ledger: Ledger,
    tally: Tally,
) -> Iterator[Record]:
    """A record for each prompt whose answers all have a score; a ranking needs two different ones."""
    ordered = record_of is ranking_of
    for case, found in zip(cases, rater.score(cases, tally), strict=True):
        scores = [score for score in found if score is not None]
        if len(scores) < len(found):
            ledger.drop(case.key, "failed", "the judgment of an answer failed")
        elif ordered and len(set(case.answers.completions)) < 2:
            tally.identical += 1
            ledger.drop(case.key, "identical", "there are no two different answers")
        elif ordered and len(set(scores)) < 2:
            tally.ties += 1
            ledger.drop(case.key, "tie", "no answer is better than another")
        else:
            tally.kept += 1
            ledger.keep()
            yield record_of(case.answers, scores)
