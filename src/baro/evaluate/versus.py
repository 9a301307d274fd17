"""Policies on the same prompts: drawn, scored by rewards, judged against one of them, and controls beside them.

Every policy has random streams of its own, so that a policy listed beside itself as ``against`` is a second independent
draw and shows what no difference looks like. The figures are those in evaluate.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from baro.bar import in_parts
from baro.batch import Sample, branch
from baro.data.files import write_rows
from baro.data.template import Template
from baro.declared import is_object
from baro.errors import DataError, check_failures
from baro.evaluate.config import Config, Player, Reward
from baro.evaluate.metrics import distinct_2, length_controlled, mean_over_prompts, share_over_prompts
from baro.evaluate.solved import right_from, solved_figures
from baro.functional.statistics import Interval, best_of_n_kl_bound
from baro.functional.streams import stream_key
from baro.inputs import load_template, resolve, template_of
from baro.methods import stage
from baro.methods.generate import draw_answers, read_prompts
from baro.models.forward import ScoredModel, forward_samples
from baro.models.load import load_policy
from baro.protocols import LocalWorld, PairJudge, RewardSource
from baro.records import Prompt, Rollout, plain_conversation
from baro.rewards.costs import comparing
from baro.rewards.judging import judged_in_both_orders
from baro.rewards.own_data import try_on_own_data
from baro.rewards.verifiers import VerifierReward
from baro.runs import RunDir
from baro.scorers import load_judge, load_scorer

log = logging.getLogger("baro")
CHUNK = 256  # judged or scored at once: a moving bar
MICRO_BATCH_TOKENS = 8192


@dataclass
class Answered:
    """A player's answers, ``completions`` to each prompt, prompt after prompt: n rollouts."""

    name: str
    rollouts: list[Rollout]
    logprobs: Float[np.ndarray, "n"] | None = None  # log π of each rollout; None where there is no reference
    ref_logprobs: Float[np.ndarray, "n"] | None = None
    scores: dict[str, Float[np.ndarray, "n"]] = field(default_factory=dict)  # by reward and judge; NaN where it failed
    read: dict[str, list[str | None]] = field(default_factory=dict)  # by verifier: what it took for the answers
    figures: dict[str, Interval | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """The prompts that every player can read, and their tokens under each template."""

    prompts: list[Prompt]
    samples: dict[str, list[Sample]]  # by the template's fingerprint

    def prompt_of(self, completions: int) -> Int[np.ndarray, "n"]:
        """Which prompt each of a player's answers belongs to."""
        return np.repeat(np.arange(len(self.prompts)), completions)


def compare(run: RunDir, config: Config) -> dict[str, Interval | float]:
    """Draw, score, judge; write comparisons.jsonl; return the figures."""
    players = config.players
    values = dict.fromkeys(one.value for one in players)
    templates = {value: load_template(value, config.data.template) for value in values}
    question = ask(run, config, templates)
    fingerprints = {template.fingerprint for template in templates.values()}
    exact = fingerprints.pop() if len(fingerprints) == 1 else ""  # one tokenizer: lengths and rewards go by tokens
    keys = [sample.key for sample in next(iter(question.samples.values()))]
    try_on_own_data({**config.scorers, **config.controls}, question.prompts, keys)
    answered = answer_all(run, config, players, templates, question)
    load = partial(load_scorer, sampler_fingerprint=exact, compute=config.compute, run=run)
    for name, asked in config.scorers.items():
        source = load(asked, f"rewards.{name}", name=name)
        for one in answered:
            one.scores[name] = score(source, one.rollouts, f"{name}: {one.name}", one.read.setdefault(name, []))
    prompt_of = question.prompt_of(config.completions)
    for one in answered:
        own_figures(one, config, prompt_of)
    for name, asked in config.scorers.items():
        count_solved(name, asked, answered, prompt_of, config.seed)
    for name, by in config.judges.items():
        judge = load_judge(by, compute=config.compute, run=run)
        for one in answered[1:]:
            judge_figures(one, answered[0], name, judge, prompt_of, config.seed, by_tokens=bool(exact))
    rows = comparison_rows(answered, question.prompts, config.completions)
    write_rows(run.path / "comparisons.jsonl", rows)
    return {f"{one.name}/{what}": figure for one in answered for what, figure in one.figures.items()}


def ask(run: RunDir, config: Config, templates: Mapping[str, Template]) -> Question:
    """Read the prompts under every template, and keep those that all of them can read, up to ``limit``."""
    by_fingerprint: dict[str, dict[str, Sample]] = {}
    prompts: dict[str, Prompt] = {}
    read_by = {value: template.fingerprint for value, template in templates.items()} | scorers_fingerprints(config)
    for player in config.players:
        template = templates[player.value]
        if template.fingerprint not in by_fingerprint:
            readers = [value for value, fingerprint in read_by.items() if fingerprint == template.fingerprint]
            room = stage.prompt_room(config.data, config.sampling, *readers)
            key = f"prompts/{player.name}"
            found, samples = read_prompts(run, template, key, str(config.prompts), config.data, room)
            by_fingerprint[template.fingerprint] = {sample.key: sample for sample in samples}
            prompts |= {sample.key: prompt for sample, prompt in zip(samples, found, strict=True)}
    common = [key for key in prompts if all(key in samples for samples in by_fingerprint.values())][: config.limit]
    if not common:
        raise DataError(f"{config.prompts}: no prompt can be read by every policy; raise data.max_length")
    kept = {name: [samples[key] for key in common] for name, samples in by_fingerprint.items()}
    return Question([prompts[key] for key in common], kept)


def scorers_fingerprints(config: Config) -> dict[str, str]:
    """The models that read what the players answer, by value, with their templates' fingerprints.

    They are the model that KL is measured to, and learned rewards: where they read a player's tokens, its prompts and
    answers must fit into their positions as well.
    """
    found = {}
    if reference := config.ref_policy or config.against:
        found[reference] = load_template(reference, config.data.template).fingerprint
    scored_by = (*config.scorers.values(), *config.controls.values())
    for by in (one for asked in scored_by for one in asked.sources):
        if not is_object(by):
            found[by] = template_of(resolve(by, "model")).fingerprint
    return found


# ----------------------------------------------------------------------------------------------------------- answers


def answer_all(
    run: RunDir, config: Config, players: Sequence[Player], templates: Mapping[str, Template], question: Question
) -> list[Answered]:
    """Every player's answers in turn, one policy in memory beside the reference, and the controls last."""
    reference = Reference(config)
    answered, controls = [], []
    for player in players:
        template = templates[player.value]
        policy = load_policy(resolve(player.value, "model"), compute=config.compute)
        drawn = answers_of(policy, template, player.name, config, question, player.stream, config.completions)
        both = reference.logprobs(policy, player.value, template, question, drawn)
        answered.append(Answered(player.name, [one for group in drawn for one in group], *both))
        if player.stream == 0:
            controls = list(best_of_all(run, policy, template, config, question, reference.value == player.value))
    return answered + controls


def answers_of(
    policy: ScoredModel, template: Template, name: str, config: Config, question: Question, stream: int, n: int
) -> list[list[Rollout]]:
    """``n`` answers to each prompt from the streams (seed, stream, prompt)."""
    samples = question.samples[template.fingerprint]
    keys = [stream_key("evaluate", config.seed, stream, i) for i in range(len(samples))]
    return draw_answers(policy, template, question.prompts, samples, n, config.sampling.params(), keys, name)


class Reference:
    """The model that KL is measured to; loaded when first needed, absent without a value."""

    def __init__(self, config: Config) -> None:
        self.value, self.temperature = config.ref_policy or config.against, config.sampling.temperature
        self.compute = config.compute
        template = None if self.value is None else load_template(self.value, config.data.template)
        self.fingerprint = template.fingerprint if template else ""
        self.model: ScoredModel | None = None

    def logprobs(
        self,
        policy: ScoredModel,
        value: str,
        template: Template,
        question: Question,
        drawn: Sequence[Sequence[Rollout]],
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]] | tuple[None, None]:
        """log π and log π_ref of each answer; None where there is no reference, or it reads other tokens."""
        if self.value is None:
            return None, None
        if self.fingerprint != template.fingerprint:
            log.warning("%s: reads other tokens than %s, so that no KL between them can be measured", self.value, value)
            return None, None
        samples = [
            sample.with_completions([branch(list(one.completion_ids)) for one in group])
            for sample, group in zip(question.samples[template.fingerprint], drawn, strict=True)
        ]
        ours = sequence_logprobs(policy, samples, self.temperature)
        if self.value == value:
            return ours, ours
        self.model = self.model or load_policy(resolve(self.value, "model"), compute=self.compute)
        return ours, sequence_logprobs(self.model, samples, self.temperature)


def sequence_logprobs(
    model: ScoredModel, samples: Sequence[Sample], temperature: float = 1.0
) -> Float[np.ndarray, "n"]:
    """The summed log-prob of every completion, in nats; a greedy policy's (temperature 0) are read at temperature 1."""
    found = forward_samples(
        model,
        samples,
        ["logprobs"],
        micro_batch_tokens=MICRO_BATCH_TOKENS,
        world=LocalWorld(),
        temperature=temperature or 1.0,
    )["logprobs"]
    return np.array([float(part.double().sum()) for group in found for part in group])


def best_of_all(
    run: RunDir, policy: ScoredModel, template: Template, config: Config, question: Question, is_reference: bool
) -> Iterator[Answered]:
    """The best-of-n controls; those of equal n choose from the same samples."""
    drawn: dict[int, list[list[Rollout]]] = {}
    for name, control in config.controls.items():
        n = control.n
        if n not in drawn:
            total = n * config.completions
            drawn[n] = answers_of(policy, template, f"best of {n}", config, question, -n, total)
        exact = template.fingerprint
        key = f"best_of.{name}" if isinstance(config.best_of, dict) else "best_of"
        source = load_scorer(control, key, name=name, sampler_fingerprint=exact, compute=config.compute, run=run)
        yield Answered(
            name,
            best_rollouts(drawn[n], n, comparing(source), name),
            figures={"kl_bound": best_of_n_kl_bound(n)} if is_reference else {},
        )


def best_rollouts(drawn: Sequence[Sequence[Rollout]], n: int, source: RewardSource, name: str) -> list[Rollout]:
    """Of each ``n`` answers in a row to a prompt, the one with the highest score."""
    flat = [one for group in drawn for one in group]
    scores = score(source, flat, name)
    best = np.nan_to_num(scores, nan=-np.inf).reshape(-1, n).argmax(axis=1)
    return [flat[block * n + int(k)] for block, k in enumerate(best)]


# ------------------------------------------------------------------------------------------------- scores and figures


def score(
    source: RewardSource, rollouts: Sequence[Rollout], description: str, read: list[str | None] | None = None
) -> Float[np.ndarray, "n"]:
    """Each rollout's score; NaN for one that failed, RewardError where too many did.

    ``read`` is filled with what a verifier took for the answers.
    """
    parts = in_parts(rollouts, CHUNK, description)
    if isinstance(source, VerifierReward):
        verified = [one for part in parts for one in source.check(part)]
        if read is not None:
            read += [one.read for one in verified]
        return checked([one.score for one in verified], [one.error for one in verified], description)
    found = [one for part in parts for one in source.score(part)]
    return checked([one.value for one in found], [one.error for one in found], description)


def checked(values: Sequence[float | None], errors: Sequence[str | None], name: str) -> Float[np.ndarray, "n"]:
    """Numbers, with NaN where there is none, if there are not too many of those."""
    failed = [error or "no value" for value, error in zip(values, errors, strict=True) if value is None]
    check_failures(failed, len(values), name)
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def judge_in_both_orders(
    judge: PairJudge, one: Sequence[Rollout], other: Sequence[Rollout], description: str
) -> Float[np.ndarray, "n"]:
    """p(ours is better), the mean of both orders; NaN where either failed."""
    verdicts = []
    for part in in_parts(list(zip(one, other, strict=True)), CHUNK, description):
        verdicts += judged_in_both_orders(judge, part)
    return checked([v.p_first for v in verdicts], [v.error for v in verdicts], description)


def own_figures(one: Answered, config: Config, prompt_of: Int[np.ndarray, "n"]) -> None:
    """What needs no comparison."""
    lengths = np.array([len(rollout.completion_ids) for rollout in one.rollouts])
    finished = np.array([rollout.finished for rollout in one.rollouts])
    for name, values in one.scores.items():
        one.figures[f"reward/{name}"] = _mean(values, prompt_of, config.seed)
    if one.logprobs is not None and one.ref_logprobs is not None:
        one.figures["kl"] = _mean(one.logprobs - one.ref_logprobs, prompt_of, config.seed)
        one.figures["ref_loss"] = _mean(-one.ref_logprobs / np.maximum(lengths, 1), prompt_of, config.seed)
    one.figures["tokens"] = _mean(lengths, prompt_of, config.seed)
    one.figures["finished_fraction"] = share_over_prompts(finished, prompt_of, seed=config.seed)
    one.figures["distinct_2"] = distinct_2(rollout.text for rollout in one.rollouts)


def count_solved(
    name: str, asked: Reward, answered: Sequence[Answered], prompt_of: Int[np.ndarray, "n"], seed: int
) -> None:
    """How many answers are right and how many problems they solve, by a reward that says so."""
    limit = right_from(asked, [one.scores[name] for one in answered])
    if limit is None:
        return
    votes = any(one is not None for player in answered for one in player.read[name])
    for one in answered:
        read = one.read[name] if votes else None
        found = solved_figures(one.scores[name], limit, prompt_of, read=read, seed=seed)
        one.figures |= {f"{what}/{name}": figure for what, figure in found.items()}
        unsolved = found.get("unsolved_fraction")
        if unsolved is not None and unsolved.value == 1:
            log.warning(
                "%s: none of its answers to %d problems is right by %s (pass@k is 0); GRPO would have no gradient from "
                "such a policy: begin with easier problems or with demonstrations",
                one.name,
                unsolved.n,
                name,
            )


def judge_figures(
    one: Answered,
    against: Answered,
    name: str,
    judge: PairJudge,
    prompt_of: Int[np.ndarray, "n"],
    seed: int,
    *,
    by_tokens: bool,
) -> None:
    """Win rates against another's answers to the same prompts, plain and at equal length."""
    verdicts = judge_in_both_orders(judge, one.rollouts, against.rollouts, f"{name}: {one.name}")
    one.scores[name] = verdicts
    known = ~np.isnan(verdicts)
    one.figures[f"win_rate/{name}"] = share_over_prompts(verdicts[known], prompt_of[known], seed=seed)
    longer = (_lengths(one, by_tokens) - _lengths(against, by_tokens))[known]
    controlled = length_controlled(verdicts[known], longer, prompt_of[known], seed=seed)
    if controlled is not None:
        one.figures[f"win_rate_length_controlled/{name}"] = controlled


def _mean(values: Any, prompt_of: Int[np.ndarray, "n"], seed: int) -> Interval:
    known = ~np.isnan(values)
    return mean_over_prompts(values[known], prompt_of[known], seed=seed)


def _lengths(one: Answered, by_tokens: bool) -> Int[np.ndarray, "n"]:
    return np.array([len(r.completion_ids) if by_tokens else len(r.text) for r in one.rollouts])


def comparison_rows(
    answered: Sequence[Answered], prompts: Sequence[Prompt], completions: int
) -> Iterator[dict[str, Any]]:
    """A row for each answer of every player to one prompt, side by side, with what rewards and judges said."""
    for i, prompt in enumerate(prompts):
        for k in range(i * completions, (i + 1) * completions):
            scores: dict[str, dict[str, float | None]] = {}
            for one in answered:
                for name, values in one.scores.items():
                    scores.setdefault(name, {})[one.name] = None if np.isnan(values[k]) else float(values[k])
            answers = {one.name: one.rollouts[k].text for one in answered}
            yield {"prompt": plain_conversation(prompt.prompt), "answers": answers, "scores": scores}
