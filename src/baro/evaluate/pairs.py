"""Scorers on preference pairs: how often each prefers what was preferred, with baselines that know nothing of quality.

A policy's score of a completion is its implicit reward, log π − log π_ref summed over the completion (Rafailov et al.
2023, arXiv:2305.18290 §4). Every scorer and baseline is measured on the same pairs: those that all of them can read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from baro.batch import Sample
from baro.data.encode import encode_preferences
from baro.data.formats import Loaded, read_records
from baro.data.layouts import Reading
from baro.data.template import Template
from baro.errors import ConfigError, DataError
from baro.evaluate.config import Config
from baro.evaluate.metrics import UnigramBaseline, pair_accuracy
from baro.evaluate.versus import MICRO_BATCH_TOKENS, judge_in_both_orders, score, sequence_logprobs
from baro.functional.statistics import Interval
from baro.inputs import load_template, resolve
from baro.methods import stage
from baro.models.forward import forward_samples
from baro.models.load import load_policy
from baro.protocols import LocalWorld, PairJudge, RewardSource
from baro.records import Conversation, Preference, Rollout, completions_of
from baro.rewards.costs import is_cost
from baro.rewards.learned import LearnedReward
from baro.runs import RunDir
from baro.scorers import load_judge, load_scorer

Gaps = dict[str, float]
"""score(chosen) − score(rejected) by the row's key; rows that could not be scored are absent."""


@dataclass(frozen=True)
class Pairs:
    """The file of pairs, and how to get them as tokens."""

    run: RunDir
    config: Config
    loaded: Loaded
    read: dict[tuple[str, int], Sequence[Sample]] = field(default_factory=dict)

    def encoded(self, scorer: str, template: Template, longest: int | None) -> Sequence[Sample]:
        """Two completions each, the chosen one first; unusable rows, and those over ``longest``, go to the ledger.

        scorer: the first name of who reads these tokens.
        """
        length = min(self.config.data.max_length, longest or self.config.data.max_length)
        kept = (template.fingerprint, length)
        if kept not in self.read:
            reader = stage.Reader(self.run, template, self.config.data, Preference, encode_preferences, length)
            self.read[kept] = reader.read(f"pairs/{scorer}", str(self.config.pairs))[1]
        return self.read[kept]

    def items(self) -> Iterator[tuple[str, Preference]]:
        """Every row's key and pair, but those whose sides are equal or equally good."""
        for key, pair in zip(self.loaded.keys, self.loaded.all_of(Preference), strict=True):
            if pair.chosen != pair.rejected and pair.p_chosen != 0.5:
                yield key, pair


def measure(run: RunDir, config: Config) -> dict[str, Interval | float]:
    """X/pair_accuracy for every policy, reward and judge, and the baselines, all on the same pairs."""
    pairs = Pairs(run, config, read_records(resolve(str(config.pairs), "records"), Preference, Reading.of(config.data)))
    by_key = dict(pairs.items())
    if not by_key:
        raise DataError(f"{config.pairs}: no pair has a better side (equal texts, or p_chosen 0.5); give other pairs")
    gaps = dict(scorer_gaps(pairs))
    common = [key for key in by_key if all(key in found for found in gaps.values())]
    if not common:
        raise DataError(f"{config.pairs}: no pair is left that every scorer can read; raise data.max_length")
    p_chosen = np.array([by_key[key].p_chosen for key in common])
    named = {f"{name}/pair_accuracy": found for name, found in gaps.items()} | baseline_gaps(config, by_key)
    return {name: pair_accuracy(np.array([found[key] for key in common]), p_chosen) for name, found in named.items()}


def scorer_gaps(pairs: Pairs) -> Iterator[tuple[str, Gaps]]:
    """Each scorer's name and gaps, one model in memory at a time (and the reference)."""
    config = pairs.config
    for name, asked in config.scorers.items():
        source = load_scorer(asked, f"rewards.{name}", name=name, compute=config.compute, run=pairs.run)
        if isinstance(source, LearnedReward):
            yield name, learned_gaps(pairs, source, name)
        else:
            yield name, function_gaps(pairs, source, name)
    for name, by in config.judges.items():
        yield name, judge_gaps(pairs, load_judge(by, compute=config.compute, run=pairs.run), name)
    reference = config.ref_policy or config.against
    for name, value in config.names.items():
        if reference is not None and value != reference:  # its own log-ratio is 0 everywhere
            yield name, implicit_gaps(pairs, name, value, reference)


def learned_gaps(pairs: Pairs, reward: LearnedReward, name: str) -> Gaps:
    """A reward model reads whole tokenised pairs, several turns included."""
    samples = pairs.encoded(name, reward.template, reward.longest)
    found = forward_samples(
        reward.model, samples, ["scores"], micro_batch_tokens=MICRO_BATCH_TOKENS, world=LocalWorld()
    )["scores"]  # fmt: skip
    sign = -1 if is_cost(reward) else 1  # the chosen answer is to cost less
    return {s.key: sign * (float(one) - float(other)) for s, (one, other) in zip(samples, found, strict=True)}


def function_gaps(pairs: Pairs, source: RewardSource, name: str) -> Gaps:
    """A function scores the text of the last answer, given what came before it."""
    sides = {key: rollouts_of(pair) for key, pair in pairs.items()}
    values = score(source, [one for both in sides.values() for one in both], name).reshape(-1, 2)
    return _known(list(sides), values[:, 0] - values[:, 1])


def judge_gaps(pairs: Pairs, judge: PairJudge, name: str) -> Gaps:
    """p(chosen is better) − 0.5, the mean of both orders."""
    sides = {key: rollouts_of(pair) for key, pair in pairs.items()}
    chosen, rejected = [one for one, _ in sides.values()], [other for _, other in sides.values()]
    return _known(list(sides), judge_in_both_orders(judge, chosen, rejected, name) - 0.5)


def implicit_gaps(pairs: Pairs, name: str, value: str, reference: str) -> Gaps:
    """Differences of the policy's log-ratio to the reference."""
    template, theirs = load_template(value, pairs.config.data.template), load_template(reference)
    if template.fingerprint != theirs.fingerprint:
        raise ConfigError(
            f"{value} and {reference} read other tokens; a log-ratio needs the same tokenizer and template"
        )
    samples = pairs.encoded(name, template, stage.longest_row(pairs.config.data, value, reference))
    ours, base = (_logprobs(pairs.config, where, samples).reshape(-1, 2) for where in (value, reference))
    ratios = ours - base
    return _known([sample.key for sample in samples], ratios[:, 0] - ratios[:, 1])


def baseline_gaps(config: Config, pairs: Mapping[str, Preference]) -> dict[str, Gaps]:
    """Baselines by figure name: the longer text in characters; the words of what is preferred in other pairs."""
    texts = {key: (text_of(pair.chosen), text_of(pair.rejected)) for key, pair in pairs.items()}
    found = {"baseline/longer_wins": {key: float(len(one) - len(other)) for key, (one, other) in texts.items()}}
    if config.baseline_pairs is not None:
        loaded = read_records(resolve(config.baseline_pairs, "records"), Preference, Reading.of(config.data))
        known = loaded.all_of(Preference)
        model = UnigramBaseline.fit([text_of(p.chosen) for p in known], [text_of(p.rejected) for p in known])
        gaps = {key: model.score(one) - model.score(other) for key, (one, other) in texts.items()}
        found["baseline/unigram"] = gaps
    return found


def rollouts_of(pair: Preference) -> tuple[Rollout, Rollout]:
    """Both sides as judges see them: the last answer, and all before it as the prompt."""
    chosen, rejected = completions_of(pair)
    return chosen, rejected


def text_of(completion: Conversation) -> str:
    """What the assistant says in a completion."""
    return "\n".join(turn.content for turn in completion if turn.role == "assistant")


def _logprobs(config: Config, value: str, samples: Sequence[Sample]) -> np.ndarray:
    return sequence_logprobs(load_policy(resolve(value, "model"), compute=config.compute), samples)


def _known(keys: Sequence[str], gaps: np.ndarray) -> Gaps:
    return {key: float(gap) for key, gap in zip(keys, gaps, strict=True) if not np.isnan(gap)}
