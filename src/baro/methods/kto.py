"""Kahneman-Tversky optimisation: single completions with a thumb up or down, no pairs and no reward model.

    L = (1/C) Σ_completions  p λ_D [1 − σ(β(r − z))] + (1 − p) λ_U [1 − σ(β(z − r))],   r = log π(y|x)/π_ref(y|x)
    z = max(0, mean over the step's rows of log π(y'|x)/π_ref(y'|x)), without gradient

Ethayarajh et al. 2024, arXiv:2402.01306 eq. 7. p is 1 for a thumb up and 0 for a thumb down; log-probs are sums over
the scored tokens, in nats; C counts the step's completions on all ranks. ``apo_zero_unpaired`` (D'Oosterlinck et al.
2024, arXiv:2408.06266) is the same with z = 0.

y' is the partner of x: the completion of another row (``data.partners``), chosen by contents alone. So the same rows
have the same z in whatever order, batches or ranks they come, and a step of one row has a z as well. The reference's
log-probs of completions and partners are computed once, before the first step; z in every step and evaluation.

A pair or a ranking is taken as thumbs: each completion by itself, with p the mean over the other completions of its
prompt of the probability that it is the better one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from baro import config as blocks
from baro.batch import Branch, GroupBatch, Sample, flat
from baro.compute import ComputeConfig, LoraConfig
from baro.data.encode import encode_comparisons, encode_thumbs
from baro.data.formats import Loaded
from baro.data.ledger import Ledger
from baro.data.partners import with_partners
from baro.data.template import Template
from baro.declared import Model, Records
from baro.errors import DataError
from baro.functional.preference import apo_zero_unpaired_loss, desirable_weight_range, kto_kl, kto_loss
from baro.functional.tokens import segment_sum
from baro.inputs import check_same_tokens
from baro.methods import stage
from baro.methods.reference import logprobs, reference_logprobs
from baro.models.forward import ScoredModel
from baro.models.load import load_policy, save_policy
from baro.protocols import LossOutput, State, World
from baro.records import Preference, Ranking, Thumb
from baro.runs import RunDir

log = logging.getLogger("baro")
Metrics = dict[str, tuple[Tensor | float, Tensor | float]]
MOST_UNEVEN = 10.0
"""Thumbs of one kind to one of the other; the weights are only known to make up for so many (arXiv:2402.01306 §4.2)."""


class Config(blocks.Config):
    """``baro kto``."""

    policy: Model = Field(description="the model to train: a run, a folder, or a hub id")
    thumbs: Records = Field(description="completions with a thumb up or down, or pairs, or rankings: a run or a file")
    ref_policy: Model | None = Field(None, description="the model to stay close to; the starting policy unless given")
    loss: Literal["kto", "apo_zero_unpaired"] = Field(
        "kto", description="about the policy's distance from the reference, or about the reference itself"
    )
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to the reference")
    desirable_weight: float = Field(1.0, gt=0, description="weight of thumbs up")
    undesirable_weight: float = Field(1.0, gt=0, description="weight of thumbs down")
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=1e-6, epochs=1, batch_size=32)
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    compute: ComputeConfig = ComputeConfig()


class Prepare:
    """z of a step, over all its rows on all ranks, from the partners, which are taken out."""

    atom: Literal["completion"] = "completion"

    def __init__(self, policy: ScoredModel, micro_batch_tokens: int) -> None:
        self.policy, self.micro_batch_tokens = policy, micro_batch_tokens

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        partners = [s.with_completions([b for b in s.completions if b.partner]) for s in samples]
        gaps = logprobs(self.policy, partners, self.micro_batch_tokens, world) - flat(partners, "ref_logprobs")
        lengths = [b.scored_tokens for s in partners for b in s.completions]
        z = kto_kl(world.gather([float(part.sum()) for part in gaps.double().split(lengths)]))
        return [s.with_completions([b.with_(fields={"z": z}) for b in s.completions if not b.partner]) for s in samples]

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        return None


class Objective(stage.Trained):
    """The mean over completions of what each is worth beside z."""

    def __init__(self, policy: ScoredModel, config: Config) -> None:
        super().__init__(policy=policy)
        self.policy, self.config = policy, config

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        config, fields = self.config, batch.completion_fields
        found = self.policy(batch, ["logprobs"]).logprobs
        ratios = segment_sum(found - batch.token_fields["ref_logprobs"], batch.completion_of, len(batch.group_of))
        label = fields["label"].to(ratios.dtype)
        options = {
            "beta": config.beta,
            "desirable_weight": config.desirable_weight,
            "undesirable_weight": config.undesirable_weight,
        }
        if config.loss == "kto":
            loss = kto_loss(ratios, label, z=fields["z"].to(ratios.dtype), **options)
        else:
            loss = apo_zero_unpaired_loss(ratios, label, **options)
        sums = segment_sum(found.detach(), batch.completion_of, len(batch.group_of))
        yield LossOutput(loss.sum() / totals["completions"], self._metrics(batch, ratios.detach(), sums, totals))

    def _metrics(self, batch: GroupBatch, ratios: Tensor, sums: Tensor, totals: Mapping[str, float]) -> Metrics:
        """Means over the thumbs of a kind: one between up and down counts with both, in these shares."""
        up = batch.completion_fields["label"].to(ratios.dtype)
        down, sure, rewards = 1.0 - up, (2.0 * up - 1.0).abs(), self.config.beta * ratios
        z = batch.completion_fields["z"] if self.config.loss == "kto" else torch.zeros_like(ratios)
        metrics: Metrics = {
            "kl": (z.sum(), len(z)),
            "rewards/chosen": ((up * rewards).sum(), up.sum()),
            "rewards/rejected": ((down * rewards).sum(), down.sum()),
            "rewards/accuracies": ((sure * ((ratios > z) == (up > 0.5))).sum(), sure.sum()),
            "logps/chosen": ((up * sums).sum(), up.sum()),
            "logps/rejected": ((down * sums).sum(), down.sum()),
        }
        if totals["up"] and totals["down"]:  # the difference of two means over the whole step
            gap = ((up / totals["up"] - down / totals["down"]) * rewards).sum()
            metrics["rewards/margins"] = (gap * totals["completions"], len(z))
        return metrics


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    job = stage.Offline("kto", config, out)
    if not job.finished:
        check_same_tokens(config, "ref_policy")
        job.read((Thumb, Preference, Ranking), encode)
        if job.kind is not Thumb:
            log.warning(HOW_THUMBS_ARE_MADE, config.thumbs)
        check_balance(job.train, config)
        if config.loss == "kto":
            job.train, job.held_out = (with_partners(rows, job.max_length) for rows in (job.train, job.held_out))
        policy = load_policy(job.folder, compute=config.compute, lora=config.lora, seed=config.trainer.seed)
        once = reference_logprobs(config, policy, job.train)
        step = Prepare(policy, config.trainer.micro_batch_tokens) if config.loss == "kto" else None
        job.fit(Objective(policy, config), once=once, step=step)
        job.save(policy, save_policy)
    return job.run


# -------------------------------------------------------------------------------------------------------------- data

HOW_THUMBS_ARE_MADE = (
    "%s holds no thumbs but comparisons: each completion counts by itself, as a thumb up by the probability that it is "
    "better than another completion of its prompt and as a thumb down by the rest; `baro dpo` compares them"
)


def encode(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Iterator[Sample]:
    """One completion a sample, with the field label: the probability of a thumb up."""
    if loaded.kind is Thumb:
        for s in encode_thumbs(loaded, template, max_length, ledger):
            yield s.with_completions([labelled(one, one.fields["label"]) for one in s.completions])
        return
    for s in encode_comparisons(loaded, template, max_length, ledger):
        for i, one in enumerate(s.completions):
            others = [other for k, other in enumerate(s.completions) if k != i]
            yield s.with_completions([labelled(one, sum(_beats(one, other) for other in others) / len(others))])


def labelled(one: Branch, label: float) -> Branch:
    return replace(one, fields={"label": label}, units={"up": label, "down": 1.0 - label})


def _beats(one: Branch, other: Branch) -> float:
    p_chosen, gap = one.fields["p_chosen"], other.fields["rank"] - one.fields["rank"]
    return 0.5 if gap == 0 else p_chosen if gap > 0 else 1.0 - p_chosen


def check_balance(samples: Sequence[Sample], config: Config) -> None:
    """Tell the recommended weights. Raises DataError for thumbs of one kind, or where one kind is too much rarer."""
    up = sum(sample.completions[0].fields["label"] for sample in samples)
    down = len(samples) - up
    if not min(up, down):
        raise DataError(
            f"{config.thumbs}: all {len(samples):,} thumbs are {'up' if up else 'down'}; kto learns from how the two "
            "kinds differ, so add some of the other"
        )
    if max(up, down) > MOST_UNEVEN * min(up, down):
        raise DataError(
            f"{config.thumbs}: {up:,.6g} thumbs up and {down:,.6g} down are more than {MOST_UNEVEN:.0f} to one; leave "
            "out rows of the commoner kind, or add some of the rarer"
        )
    low, high = desirable_weight_range(up, down, undesirable_weight=config.undesirable_weight)
    tell = log.info if low <= config.desirable_weight * (1 + 1e-9) and config.desirable_weight <= high else log.warning
    counts = f"{config.thumbs}: {up:,.6g} thumbs up and {down:,.6g} down"
    weights = f"beside undesirable_weight {config.undesirable_weight:g}, {low:.3g} to {high:.3g} is recommended"
    tell("%s; desirable_weight is %g: %s", counts, config.desirable_weight, weights)
