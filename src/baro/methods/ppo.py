"""PPO with a KL penalty: the policy learns from a reward while staying near its reference.

    max_π  E[ r(x, y) − β log(π(y|x) / π_ref(y|x)) ]        optimum  π* ∝ π_ref · exp(r/β)

Per token R_t = −β (log π_old − log π_ref), the score is added on the last token; advantages by GAE with a terminal
bootstrap of 0, whitened once over the whole rollout; the clipped surrogate and the clipped value loss, each a mean over
the step's tokens. Schulman et al. 2017, arXiv:1707.06347 eq. 7; Ziegler et al. 2019, arXiv:1909.08593 (adaptive β);
Ouyang et al. 2022, arXiv:2203.02155 eq. 2. The value comes from a model of its own, clipped by itself: a weight of its
loss would change nothing, since Adam divides it out. Policy, reference and sampler all see logits divided by the
sampling temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from baro import config as blocks
from baro.batch import GroupBatch, Sample, flat, with_flat
from baro.declared import Model
from baro.functional.advantages import gae, scale_with, whiten_with
from baro.functional.policy import clipped_policy_loss, clipped_value_loss, kl_shaped_rewards
from baro.methods import critic
from baro.methods.online import Online, policy_metrics, ptx_loss
from baro.methods.reference import reference
from baro.methods.shaping import KlControl, MovingReference, Scores, everywhere
from baro.models.forward import ScoredModel, flat_forward, layouts, restore_layouts
from baro.models.load import save_scalar_model
from baro.models.roles import modules_of, trained
from baro.online_config import OnlineConfig
from baro.protocols import LossOutput, State, World
from baro.runs import RunDir


class ValueConfig(blocks.Config):
    """The value model and its loss."""

    learning_rate: float | None = Field(None, gt=0, description="its own learning rate; the trainer's unless given")
    clip_range: float = Field(0.2, gt=0, description="how far a value may move from its old one within the loss")
    pretrain_rollouts: int = Field(0, ge=0, description="first rollouts that train the value model alone")


class Config(OnlineConfig):
    """``baro ppo``."""

    value_model: Model | None = Field(None, description="where the value model starts; the reward, else the policy")
    value: ValueConfig = ValueConfig()
    clip_range: float = Field(0.2, gt=0, lt=1, description="ε of the clipped surrogate")
    gamma: float = Field(1.0, gt=0, le=1, description="discount per token")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="λ of generalised advantage estimation")
    early_stop_kl: float | None = Field(
        None, gt=0, description="an approximate KL per token that ends a rollout's updates"
    )

    @model_validator(mode="after")
    def _pretraining_leaves_the_policy(self) -> Config:
        moving = {"trainer.weight_decay": self.trainer.weight_decay, "ptx": self.ptx.demonstrations}
        if self.value.pretrain_rollouts and (by := next((name for name, value in moving.items() if value), None)):
            raise ValueError(f"{by} would move the policy during value.pretrain_rollouts; leave one of them out")
        return self


@dataclass(frozen=True)
class Seen:
    """What the streams of a rollout's totals are computed from: log-probs [N], lengths [C], and values on demand."""

    samples: Sequence[Sample]
    world: World
    old: Tensor
    ref: Tensor
    lengths: Tensor
    values: Callable[[ScoredModel], Tensor]


class Prepare:
    """Reference log-probs, values, shaped rewards, advantages and returns of one rollout; the KL coefficient."""

    atom: Literal["completion"] = "completion"

    def __init__(self, policy: ScoredModel, ref_policy: ScoredModel, value_model: ScoredModel, config: Config) -> None:
        self.ref_policy, self.value_model, self.config = ref_policy, value_model, config
        self.kl, self.reference = KlControl(config.kl), MovingReference(ref_policy, policy, config.kl)
        self.scores = Scores(config.reward_shaping, config.terms)

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        self.reference.move(world)
        budget, temperature = self.config.trainer.micro_batch_tokens, self.config.sampling.temperature
        forward = partial(flat_forward, samples=samples, micro_batch_tokens=budget, world=world)
        ref = forward(self.ref_policy, output="logprobs", temperature=temperature)
        lengths = torch.tensor([one.scored_tokens for sample in samples for one in sample.completions])
        old, values = flat(samples, "old_logprobs"), partial(forward, output="values")
        raw, of_critics, told = self._learned(Seen(samples, world, old, ref, lengths, values))
        found = with_flat(samples, {"advantages": whiten_with(raw, **everywhere(raw, world)), **of_critics})
        parts = (old - ref).split(lengths.tolist())
        own = [{"kl": float(kl.sum()), "kl_coef": self.kl.coef, "length": float(len(kl))} for kl in parts]
        fields = iter([one | more for one, more in zip(own, told, strict=True)])
        self.kl.steer(old - ref, len(lengths), world)
        return [s.with_completions([one.with_(fields=next(fields)) for one in s.completions]) for s in found]

    def _learned(self, seen: Seen) -> tuple[Tensor, dict[str, Tensor], list[dict[str, float]]]:
        """Advantages before whitening, what the critics' losses read of each token, and what is told of completions."""
        raw, of_critic = self._stream(self.value_model, self.scores(seen.samples, seen.world), seen)
        return raw, of_critic, [{}] * len(seen.lengths)

    def _stream(
        self, critic: ScoredModel, scores: Tensor, seen: Seen, *, kl_sign: int = 1, prefix: str = ""
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of one total: advantages before whitening, and its critic's values and returns under their names."""
        values, kl_coef = seen.values(critic), kl_sign * self.kl.coef
        raw, returns = stream(
            scores.to(values.dtype), values, seen.old, seen.ref, seen.lengths,
            kl_coef=kl_coef, config=self.config, world=seen.world,
        )  # fmt: skip
        return raw, {f"{prefix}returns": returns, f"{prefix}values": values}

    def state_dict(self) -> State:
        return {
            "kl": self.kl.state_dict(),
            "reference": self.reference.state_dict(),
            "scores": self.scores.state_dict(),
            "layouts": layouts(self._frozen),
        }

    def load_state_dict(self, state: State) -> None:
        self.kl.load_state_dict(state["kl"])
        self.reference.load_state_dict(state["reference"])
        self.scores.load_state_dict(state["scores"])
        restore_layouts(self._frozen, state["layouts"])

    @property
    def _frozen(self) -> dict[str, nn.Module]:
        """What has a layout that the trainer does not keep: it is none of its modules."""
        return {"ref_policy": self.ref_policy, "value_model": self.value_model}


def stream(
    scores: Tensor,
    values: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    lengths: Tensor,
    *,
    kl_coef: float,
    config: Config,
    world: World,
) -> tuple[Tensor, Tensor]:
    """Advantages before whitening, and returns, of one total: its scores [C], its critic's values and log-probs [N]."""
    rewards = kl_shaped_rewards(scores, logprobs, ref_logprobs, lengths, kl_coef=kl_coef)
    if config.reward_shaping.whiten:
        rewards = scale_with(rewards, **everywhere(rewards, world))
    return gae(rewards, values, lengths, gamma=config.gamma, gae_lambda=config.gae_lambda)


class Objective:
    """The clipped surrogate, then the clipped value loss, each over the step's tokens."""

    def __init__(self, policy: ScoredModel, value_model: ScoredModel, config: Config) -> None:
        self.policy, self.config = policy, config
        self.critics = {"value_model": value_model}

    def modules(self) -> dict[str, nn.Module]:
        return modules_of(policy=self.policy, **self.critics)

    def parameter_groups(self) -> list[dict[str, Any]]:
        rate = self.config.value.learning_rate
        critics = [
            {"name": name, "params": trained(model), "learning_rate": rate} for name, model in self.critics.items()
        ]
        return [{"name": "policy", "params": trained(self.policy)}, *critics]

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        with self.policy.in_role():  # until the trainer has taken the backward pass
            if batch.term == "ptx":
                yield ptx_loss(self.policy, batch, totals, coef=self.config.ptx.coef)
                return
            yield self._policy_loss(batch, totals)
        for name, model in self.critics.items():
            with model.in_role():
                yield self._value_loss(model, name.removesuffix("value_model"), batch, totals)

    def _policy_loss(self, batch: GroupBatch, totals: Mapping[str, float]) -> LossOutput:
        fields = batch.token_fields
        found = self.policy(batch, ["logprobs", "entropy"], temperature=self.config.sampling.temperature)
        loss = clipped_policy_loss(
            found.logprobs, fields["old_logprobs"], fields["advantages"], clip_range=self.config.clip_range
        )
        beyond = ((found.logprobs - fields["old_logprobs"]).exp() - 1).abs() > self.config.clip_range
        metrics = policy_metrics(batch, found.logprobs, found.entropy, loss, clipped=beyond)
        waits = (batch.completion_fields["rollout"] < self.config.value.pretrain_rollouts)[batch.completion_of]
        return LossOutput(loss.masked_fill(waits, 0.0).sum() / totals["tokens"], metrics)

    def _value_loss(
        self, critic: ScoredModel, prefix: str, batch: GroupBatch, totals: Mapping[str, float]
    ) -> LossOutput:
        old, returns = (batch.token_fields[f"{prefix}{name}"] for name in ("values", "returns"))
        loss = clipped_value_loss(
            critic(batch, ["values"]).values, old, returns, clip_range=self.config.value.clip_range
        )
        metrics = {f"loss/{prefix}value": (loss.detach().sum(), len(batch.targets))}
        return LossOutput(loss.sum() / totals["tokens"], metrics)


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/`` and ``value_model/``; the same call resumes or returns what is finished."""
    job = Online("ppo", config, out)
    if not job.finished:
        job.read(critic.value_start(config, config.value_model, config.terms))
        policy = job.policy()
        value_model = critic.value_model(config, config.value_model, job.trunk, terms=config.terms)
        ref_policy = reference(config, policy)
        limit = config.early_stop_kl or float("inf")
        objective, prepare = Objective(policy, value_model, config), Prepare(policy, ref_policy, value_model, config)
        job.fit(policy, ref_policy, objective, prepare, lambda found: found.get("policy/approx_kl", 0.0) > limit)
        job.save(policy, value_model=lambda folder: save_scalar_model(value_model, folder))
    return job.run
