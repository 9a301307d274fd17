"""Judgments of answers: pairs, rankings or the best, by people simulated or real, judges, functions or reward models.

A judge compares two answers of one prompt and says with what probability the first is better; a reward scores each by
itself; by a constitution a chat model compares them. What cannot be told apart (equal texts, ties) is left out and
counted. Answers that were judged before (pairs, rankings) are judged anew, and how often both agree is a figure.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator
from rich.console import Console

from baro.chat_config import ChatModelConfig
from baro.chat_models import load_chat_model
from baro.compute import ComputeConfig
from baro.config import identity
from baro.constitution import check_constitution, load_constitution
from baro.data.formats import read_records, write_records
from baro.data.ledger import Ledger, write_ledger
from baro.data.rows import Unusable
from baro.declared import ConstitutionFile, Records, Scorer, default_name, is_object
from baro.errors import MAX_ERROR_FRACTION
from baro.files import saving
from baro.inputs import load_object, open_run, resolve
from baro.judge_config import JudgingConfig, PairJudgeConfig
from baro.methods import stage
from baro.methods.calls import Speaker
from baro.methods.principles import PrincipleRater
from baro.methods.raters import Case, JudgeRater, Pair, Rater, RewardRater, Tally, pair_key
from baro.records import (
    Answers,
    Conversation,
    Demonstration,
    Message,
    Preference,
    Ranking,
    Record,
    Thumb,
    content_hash,
    said,
)
from baro.reward_config import ScoredBy
from baro.rewards.costs import comparing
from baro.runs import RunDir
from baro.scorers import load_judge, load_scorer

log = logging.getLogger("baro")


class Config(ScoredBy):
    """``baro label``."""

    model_config = ConfigDict(populate_by_name=True)

    answers: Records = Field(description="answers to judge: a run of `baro generate` or a file")
    by: Scorer | list[Scorer] | None = Field(
        None,
        description="who judges: a reward run, module:NAME (a function, or an object with compare), or several rewards",
    )
    judge: PairJudgeConfig | None = Field(
        None, description="in place of by: a chat model that compares two answers, a block with model or server"
    )
    constitution: ConstitutionFile | None = Field(
        None, description="in place of by: the principles by which labeller compares: general, medical, or a YAML file"
    )
    labeller: ChatModelConfig | None = Field(None, description="who compares by the constitution")
    judging: JudgingConfig = JudgingConfig()
    as_: Literal["pairs", "ranks", "thumbs", "best"] = Field(
        "pairs", alias="as", description="what the judgments are kept as"
    )
    pairs_per_prompt: int | None = Field(
        None, ge=1, description="compared pairs of a prompt; each answer once unless given"
    )
    max_error_fraction: float = Field(
        MAX_ERROR_FRACTION, ge=0, le=1, description="share of failed judgments above which the run stops"
    )
    seed: int = Field(0, ge=0, description="seed of the principles, and of the order in which answers are shown")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="before")
    @classmethod
    def _a_file_of_principles_is_a_constitution(cls, values: Any) -> Any:
        """``by: FILE.yaml`` says constitution."""
        by = values.get("by") if isinstance(values, dict) else None
        if isinstance(by, str) and by.endswith((".yaml", ".yml")) and values.get("constitution") is None:
            return {**{key: value for key, value in values.items() if key != "by"}, "constitution": by}
        return values

    @model_validator(mode="after")
    def _pairs_are_compared_for_pairs(self) -> Config:
        if self.pairs_per_prompt is not None and self.as_ not in ("pairs", "thumbs"):
            raise ValueError(f"pairs_per_prompt goes with as: pairs or thumbs, and as is {self.as_}; leave it out")
        return self

    @model_validator(mode="after")
    def _principles_are_read_by_somebody(self) -> Config:
        if self.constitution is not None:
            check_constitution(self.constitution, self.judging.language)
        if self.constitution is not None and self.labeller is None:
            raise ValueError("labeller is missing, and a constitution is read by a chat model; give it, as {model: X}")
        if self.constitution is None:
            for key in ("labeller", "judging"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} goes with constitution; leave it out, or give the principles")
        return self

    @property
    def own_name(self) -> str:
        """What logs call whoever judges."""
        if self.judge is not None:
            return self.judge.called
        return super().own_name if self.constitution is None else default_name(self.constitution)


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Judge, write ``records.jsonl``, and return the run directory; the same call returns what is finished."""
    run = open_run("label", config, out)
    if run.finished:
        return run
    ledger, cases = read_answers(resolve(config.answers, "records"))
    rater, tally = load_rater(config, run), Tally()
    if config.as_ == "pairs":
        records: list[Record] = list(label_pairs(cases, rater, config.pairs_per_prompt, ledger, tally))
    elif config.as_ == "thumbs":
        records = list(label_thumbs(cases, rater, config.pairs_per_prompt, ledger, tally))
    else:
        records = list(label_scores(cases, rater, RECORD_OF[config.as_], ledger, tally))
    tally.check(" and ".join(config.sources) or config.own_name, config.max_error_fraction)
    write_ledger(run.path, "answers", config.answers, ledger)
    Console(stderr=True).print(ledger.summary())
    way_out = "give answers that differ (another temperature or model), or another judge"
    ledger.check(1.0, way_out)  # ties are nobody's mistake, unless there is nothing else
    with saving(run.records):
        write_records(run.records, records)
    stage.write_figures(run, tally.figures(config.as_))
    run.finish("finished")
    return run


def read_answers(path: Path | str) -> tuple[Ledger, list[Case]]:
    """The file's rows; of answers that were judged before, that judgment beside them. What it was taken for is said."""
    loaded = read_records(path, (Answers, Preference, Ranking))
    log.info("%s", loaded.description)
    if loaded.kind is not Answers:
        log.info("these answers were judged before: they are judged anew, and other columns of their rows are left out")
    ledger = Ledger(loaded.name)
    cases: list[Case] = []
    for key, record in loaded:
        try:
            answers, given = _answers_in(record)
        except Unusable as fault:
            ledger.drop(key, fault.reason, fault.sentence)
        else:
            cases.append(Case(key, len(cases), answers, given, _writers(record, len(answers.completions))))
    return ledger, cases


def _answers_in(record: Record | Unusable) -> tuple[Answers, dict[Pair, float]]:
    """The answers of a row, and p(the first of a pair is better) where it was judged before."""
    if isinstance(record, Unusable):
        raise record
    if isinstance(record, Answers):
        return record, {}
    if isinstance(record, Preference):
        completions: tuple[Conversation, ...] = (record.chosen, record.rejected)
        given = {(0, 1): record.p_chosen}
    else:
        assert isinstance(record, Ranking)
        completions, ranks = record.completions, record.ranks
        given = {
            (i, j): 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
            for i, j in combinations(range(len(ranks)), 2)
        }
    before = {turns[:-1] for turns in completions}
    if len(before) != 1:
        raise Unusable("turns", "its answers follow different turns, and are answers to different things")
    texts = tuple(turns[-1].content for turns in completions)
    return Answers((*record.prompt, *before.pop()), texts, (True,) * len(texts)), given


def _writers(record: Record | Unusable, answers: int) -> tuple[str, ...]:
    """Who wrote each answer, where the row's columns say it of all: chosen_model and rejected_model, or models."""
    if isinstance(record, Unusable):
        return ()
    extra = record.extra
    pair = isinstance(record, Preference)
    told = [extra.get("chosen_model"), extra.get("rejected_model")] if pair else extra.get("models")
    models = [one for one in told if isinstance(one, str)] if isinstance(told, list) else []
    return tuple(models) if len(models) == answers else ()


def load_rater(config: Config, run: RunDir) -> Rater:
    """A judge (a chat model, or an object with ``compare``), a function, an object with ``score``, a reward run, an
    ensemble, or a labeller that compares by a constitution."""
    by = config.by
    if config.constitution is not None and config.labeller is not None:
        constitution = load_constitution(config.constitution, config.judging.language)
        model = load_chat_model(config.labeller, compute=config.compute, run=run)
        labeller = Speaker(model, content_hash(identity(config.labeller)))
        return PrincipleRater(constitution, labeller, config.judging, config.seed, run, config.max_error_fraction)
    if config.judge is not None:
        return JudgeRater(load_judge(config.judge, compute=config.compute, run=run), config.seed)
    if isinstance(by, str) and is_object(by) and hasattr(found := load_object(by), "compare"):
        return JudgeRater(found, config.seed)
    return RewardRater(comparing(load_scorer(config, name=config.own_name, compute=config.compute, run=run)))


# ------------------------------------------------------------------------------------------------------------- pairs


def choose_pairs(answers: int, count: int | None) -> list[Pair]:
    """(0, 1), (2, 3), ... so that each answer is judged once; a larger count goes on with the remaining pairs."""
    disjoint = [(i, i + 1) for i in range(0, answers - 1, 2)]
    remaining = [pair for pair in combinations(range(answers), 2) if pair not in disjoint]
    return (disjoint + remaining)[: len(disjoint) if count is None else count]


def judged_pairs(
    cases: Sequence[Case], rater: Rater, count: int | None, ledger: Ledger, tally: Tally
) -> Iterator[tuple[Case, Pair, float, str]]:
    """The pairs that were judged and have a better side: p(the first is better), and which one was shown first."""
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
            name = pair_key(case, pair)
            why = f": {tally.reasons[name]}" if name in tally.reasons else ""
            ledger.drop(name, "failed", f"the judgment failed{why}")
            continue
        tally.compare_with(case.given.get(pair), p, [case.models[k] for k in pair] if case.models else [])
        if p == 0.5:
            tally.ties += 1
            ledger.drop(pair_key(case, pair), "tie", "neither answer is better")
        else:
            ledger.keep()
            yield case, pair, p, left


def label_pairs(
    cases: Sequence[Case], rater: Rater, count: int | None, ledger: Ledger, tally: Tally
) -> Iterator[Preference]:
    """A preference for each pair that was judged and has a better side."""
    for case, pair, p, left in judged_pairs(cases, rater, count, ledger, tally):
        tally.kept += 1
        yield preference_of(case, pair, p, left)


def label_thumbs(
    cases: Sequence[Case], rater: Rater, count: int | None, ledger: Ledger, tally: Tally
) -> Iterator[Thumb]:
    """Each answer's thumb: up where it is better than those that it was compared with, by the mean p; a text once."""
    beaten: dict[int, dict[str, list[float]]] = {}
    for case, pair, p, _ in judged_pairs(cases, rater, count, ledger, tally):
        own = beaten.setdefault(case.index, {})
        for k, won in zip(pair, (p, 1 - p), strict=True):
            own.setdefault(case.answers.completions[k], []).append(won)
    for case in cases:
        for text, wins in beaten.get(case.index, {}).items():
            mean = math.fsum(wins) / len(wins)
            if mean != 0.5:
                tally.kept += 1
                yield Thumb(case.answers.prompt, said(text), mean > 0.5, case.answers.extra)


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
