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

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from baro import config as blocks
from baro.batch import Branch, GroupBatch, Sample
from baro.data.encode import encode_prompts
from baro.data.template import Template
from baro.declared import Model, is_object
from baro.errors import GuardStop
from baro.functional.advantages import gae, mean_and_variance, moments, scale_with, whiten_with
from baro.functional.policy import (
    adaptive_kl_coef,
    clip_scores,
    clipped_policy_loss,
    clipped_value_loss,
    kl_shaped_rewards,
)
from baro.inputs import check_same_tokens, load_rewards, load_template, open_run, resolve, training_world
from baro.methods import stage
from baro.models.folders import is_encoder
from baro.models.forward import ScoredModel, forward_samples, layouts, restore_layouts
from baro.models.load import load_policy, load_value_model, new_scalar_model, save_policy, save_scalar_model
from baro.models.lora import WithoutAdapters, add_adapter
from baro.models.place import placed
from baro.online_config import OnlineConfig
from baro.protocols import LossOutput, State, World
from baro.records import Prompt
from baro.rewards.gate import refuse_weak
from baro.rollout.engine import Engine
from baro.rollout.source import OnPolicySource
from baro.runs import RunDir
from baro.trainer import Trainer


class KlConfig(blocks.Config):
    """How far the policy may move from its reference."""

    coef: float = Field(0.05, ge=0, description="weight of the KL penalty in the reward; the start when adaptive")
    target: float | None = Field(None, gt=0, description="nats per completion that an adaptive coefficient aims at")
    horizon: float = Field(10_000.0, gt=0, description="completions over which the adaptive coefficient moves")
    stop_above: float | None = Field(None, gt=0, description="a mean KL (nats per completion) that stops the run")

    @model_validator(mode="after")
    def _horizon_belongs_to_target(self) -> KlConfig:
        if "horizon" in self.model_fields_set and self.target is None:
            raise ValueError("horizon is how fast the coefficient follows target, which is not given; leave it out")
        return self


class ValueConfig(blocks.Config):
    """The value model and its loss."""

    learning_rate: float | None = Field(None, gt=0, description="its own learning rate; the trainer's unless given")
    clip_range: float = Field(0.2, gt=0, description="how far a value may move from its old one within the loss")


class RewardShapingConfig(blocks.Config):
    """What happens to a score before it becomes a reward."""

    clip: float | None = Field(None, gt=0, description="scores are clipped to ± this")
    missing_eos: Literal["none", "subtract", "replace"] = Field("none", description="for a completion that did not end")
    missing_eos_penalty: float = Field(1.0, description="subtracted from its score, or put in its place negated")
    whiten: bool = Field(False, description="scale the shaped rewards of a rollout to variance 1, mean kept")

    @model_validator(mode="after")
    def _penalty_belongs_to_missing_eos(self) -> RewardShapingConfig:
        if "missing_eos_penalty" in self.model_fields_set and self.missing_eos == "none":
            raise ValueError("missing_eos_penalty is used by missing_eos subtract or replace; leave it out")
        return self


class Config(OnlineConfig):
    """``baro ppo``."""

    value_model: Model | None = Field(None, description="where the value model starts; the reward, else the policy")
    kl: KlConfig = KlConfig()
    value: ValueConfig = ValueConfig()
    reward_shaping: RewardShapingConfig = RewardShapingConfig()
    clip_range: float = Field(0.2, gt=0, lt=1, description="ε of the clipped surrogate")
    gamma: float = Field(1.0, gt=0, le=1, description="discount per token")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="λ of generalised advantage estimation")
    early_stop_kl: float | None = Field(
        None, gt=0, description="an approximate KL per token that ends a rollout's updates"
    )


class Prepare:
    """Reference log-probs, values, shaped rewards, advantages and returns of one rollout; the KL coefficient."""

    scope: Literal["rollout"] = "rollout"
    atom: Literal["completion"] = "completion"

    def __init__(self, policy: ScoredModel, ref_policy: ScoredModel, value_model: ScoredModel, config: Config) -> None:
        self.policy, self.ref_policy, self.value_model, self.config = policy, ref_policy, value_model, config
        self.kl_coef, self.checked = config.kl.coef, False

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        if self.policy.compute_dtype.itemsize < 4:
            samples = self.recomputed(samples, world)
        elif not self.checked:
            self._check_sampler(samples, world)
            self.checked = True
        ref = self._forward(self.ref_policy, samples, "logprobs", world)
        values = self._forward(self.value_model, samples, "values", world)
        branches = [b for s in samples for b in s.completions]
        found = self._advantages(branches, ref, values, world)
        self._steer(branches, found["kl"], world)
        done = iter(self._finish(branches, found))
        return [s.with_completions([next(done) for _ in s.completions]) for s in samples]

    def _forward(self, model: ScoredModel, samples: Sequence[Sample], output: Any, world: World) -> Tensor:
        """One output of every scored token, flat [N]."""
        found = forward_samples(
            model,
            samples,
            [output],
            micro_batch_tokens=self.config.trainer.micro_batch_tokens,
            world=world,
            temperature=self.config.sampling.temperature,
        )
        return torch.cat([part for group in found[output] for part in group] or [torch.zeros(0)])

    def _advantages(self, branches: list[Branch], ref: Tensor, values: Tensor, world: World) -> dict[str, Tensor]:
        config = self.config
        lengths = torch.tensor([len(b.ids) for b in branches])
        old = torch.cat([b.token_fields["old_logprobs"] for b in branches] or [torch.zeros(0)])
        scores = self._shaped_scores(branches).to(values.dtype)
        rewards = kl_shaped_rewards(scores, old, ref, lengths, kl_coef=self.kl_coef)
        if config.reward_shaping.whiten:
            mean, variance = mean_and_variance(**world.sum(moments(rewards)))
            rewards = scale_with(rewards, mean, variance)
        raw, returns = gae(rewards, values, lengths, gamma=config.gamma, gae_lambda=config.gae_lambda)
        mean, variance = mean_and_variance(**world.sum(moments(raw)))
        return {
            "advantages": whiten_with(raw, mean=mean, variance=variance),
            "returns": returns,
            "values": values,
            "ref_logprobs": ref,
            "kl": old - ref,
            "lengths": lengths,
        }

    def _shaped_scores(self, branches: list[Branch]) -> Tensor:
        """The scores after clipping, and with the penalty of those that did not end."""
        shaping = self.config.reward_shaping
        scores = torch.tensor([one.fields["score"] for one in branches])
        if shaping.clip is not None:
            scores = clip_scores(scores, limit=shaping.clip)
        penalised = {
            "none": scores,
            "subtract": scores - shaping.missing_eos_penalty,
            "replace": torch.full_like(scores, -shaping.missing_eos_penalty),
        }[shaping.missing_eos]
        return torch.where(torch.tensor([bool(one.fields["finished"]) for one in branches]), scores, penalised)

    def _steer(self, branches: list[Branch], kl: Tensor, world: World) -> None:
        """Stop at too much KL, and move an adaptive coefficient; this rollout keeps the one that it was shaped with."""
        sums = world.sum({"kl": float(kl.sum()), "completions": len(branches)})
        mean = sums["kl"] / max(1.0, sums["completions"])
        limits, self.used_kl_coef = self.config.kl, self.kl_coef
        if limits.stop_above is not None and mean > limits.stop_above:
            raise GuardStop(
                f"the mean KL to the reference is {mean:.2f} nats per completion, above kl.stop_above="
                f"{limits.stop_above}; raise kl.coef or lower the learning rate"
            )
        if limits.target is not None:
            self.kl_coef = adaptive_kl_coef(
                self.kl_coef, mean, target=limits.target, horizon=limits.horizon, samples=int(sums["completions"])
            )

    def _finish(self, branches: list[Branch], found: dict[str, Tensor]) -> Iterator[Branch]:
        lengths = found.pop("lengths").tolist()
        parts = {name: values.split(lengths) for name, values in found.items()}
        for i, one in enumerate(branches):
            kl = parts["kl"][i].sum()
            names = ("advantages", "returns", "values")
            yield one.with_(
                token_fields={name: parts[name][i] for name in names},
                fields={"kl": float(kl), "kl_coef": self.used_kl_coef, "length": float(lengths[i])},
            )

    def _check_sampler(self, samples: Sequence[Sample], world: World) -> None:
        """What the sampler says it drew with must be what training computes: within 1e-4 in fp32."""
        now = self._forward(self.policy, samples, "logprobs", world)
        old = torch.cat([b.token_fields["old_logprobs"] for s in samples for b in s.completions] or [torch.zeros(0)])
        worst = world.max(float((now - old).abs().max()) if len(now) else 0.0)
        if worst > 1e-4:
            raise GuardStop(
                f"the sampler's log-probs differ from the training forward's by up to {worst:.2e} (limit 1e-4): "
                "the ratio would not start at 1; this model cannot be sampled exactly yet"
            )

    def recomputed(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        """In bf16 sampling and training round differently: old log-probs are the training forward's, ratio 1 again."""
        now = self._forward(self.policy, samples, "logprobs", world)
        old = torch.cat([b.token_fields["old_logprobs"] for s in samples for b in s.completions] or [torch.zeros(0)])
        sums = world.sum({"gap": float((now.exp() - old.exp()).abs().sum()), "tokens": len(now)})
        if not sums["gap"] <= 0.01 * sums["tokens"]:
            raise GuardStop(
                f"the sampler's probabilities differ from the training forward's by {sums['gap'] / sums['tokens']:.3f} "
                "on average (limit 0.01 in bf16); set compute.dtype: float32"
            )
        parts = iter(now.split([b.scored_tokens for s in samples for b in s.completions]))
        return [
            s.with_completions([b.with_(token_fields={"old_logprobs": next(parts)}) for b in s.completions])
            for s in samples
        ]

    def state_dict(self) -> State:
        frozen = layouts({"ref_policy": self.ref_policy})
        return {"kl_coef": self.kl_coef, "checked": self.checked, "layouts": frozen}

    def load_state_dict(self, state: State) -> None:
        self.kl_coef, self.checked = state["kl_coef"], state["checked"]
        restore_layouts({"ref_policy": self.ref_policy}, state["layouts"])


class Objective:
    """The clipped surrogate, then the clipped value loss, each over the step's tokens."""

    def __init__(self, policy: ScoredModel, value_model: ScoredModel, config: Config) -> None:
        self.policy, self.value_model, self.config = policy, value_model, config

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.policy, "value_model": self.value_model}

    def parameter_groups(self) -> list[dict]:
        return [
            {"name": "policy", "params": [p for p in self.policy.parameters() if p.requires_grad]},
            {
                "name": "value_model",
                "params": [p for p in self.value_model.parameters() if p.requires_grad],
                "learning_rate": self.config.value.learning_rate,
            },
        ]

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        fields, tokens = batch.token_fields, len(batch.targets)
        found = self.policy(batch, ["logprobs", "entropy"], temperature=self.config.sampling.temperature)
        loss = clipped_policy_loss(
            found.logprobs, fields["old_logprobs"], fields["advantages"], clip_range=self.config.clip_range
        )
        yield LossOutput(
            loss.sum() / totals["tokens"], self._policy_metrics(batch, found.logprobs, found.entropy, loss)
        )
        values = self.value_model(batch, ["values"]).values
        loss = clipped_value_loss(values, fields["values"], fields["returns"], clip_range=self.config.value.clip_range)
        metrics = {"loss/value": (loss.detach().sum(), tokens)}
        yield LossOutput(loss.sum() / totals["tokens"], metrics)

    @torch.no_grad()
    def _policy_metrics(self, batch: GroupBatch, logprobs: Tensor, entropy: Tensor, loss: Tensor) -> dict:
        tokens, completions = len(logprobs), len(batch.group_of)
        if not tokens:
            return {}
        log_ratio = logprobs - batch.token_fields["old_logprobs"]
        ratio = log_ratio.exp()
        per_completion = batch.completion_fields
        means = {name: (values.sum(), completions) for name, values in per_completion.items()}
        terms = {name: values for name, values in per_completion.items() if name.startswith("score/")}
        means |= {name: (values.nansum(), (~values.isnan()).sum()) for name, values in terms.items()}  # NaN: no opinion
        return {
            "loss/policy": (loss.sum(), tokens),
            "policy/approx_kl": (0.5 * (log_ratio**2).sum(), tokens),
            "policy/clip_fraction": (((ratio - 1).abs() > self.config.clip_range).sum(), tokens),
            "policy/ratio": (ratio.sum(), tokens),
            "policy/entropy": (entropy.sum(), tokens),
            "objective/kl": means.pop("kl"),
            "objective/kl_coef": means.pop("kl_coef"),
            "objective/scores": means.pop("score"),
            "objective/finished_fraction": means.pop("finished"),
            "objective/completion_tokens": means.pop("length"),
            "rollout": means.pop("rollout"),
            **{f"objective/{name}": mean for name, mean in means.items()},
        }


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/`` and ``value_model/``; the same call resumes or returns what is finished."""
    world = training_world()
    run = open_run("ppo", config, out)
    if run.finished:
        return run
    terms = config.terms
    if not config.accept_weak_reward_model:
        refuse_weak([term.by for term in terms])
    check_same_tokens(config, "ref_policy", "value_model")
    template = load_template(config.policy, config.data.template)
    prompts, samples = _prompts(config, template, run)
    folder = resolve(config.policy, "model")
    policy = load_policy(folder, compute=config.compute, lora=config.lora, seed=config.trainer.seed)
    value_model = _value_model(config)
    prepare = Prepare(policy, _ref_policy(config, policy), value_model, config)
    source = OnPolicySource(
        prompts,
        samples,
        sampler=Engine(policy, end_ids=template.end_ids, world=world),
        decode=template.decode,
        rewards=load_rewards(terms, sampler_fingerprint=template.fingerprint, compute=config.compute),
        prepare=prepare,
        sampling=config.sampling.params(),
        config=config.rollout,
        rollouts=rollout_count(config, len(prompts)),
        steps=config.trainer.steps,
        seed=config.trainer.seed,
        micro_batch_tokens=config.trainer.micro_batch_tokens,
        hidden_size=policy.hidden_size,
        world=world,
        store=run.path / "rollout.state",
        recompute=None if policy.device.type == "cpu" else prepare.recomputed,
        early_stop=lambda metrics: metrics.get("policy/approx_kl", 0.0) > (config.early_stop_kl or float("inf")),
        on_rollout=lambda number, rollouts, drawn: stage.write_samples(run, number, rollouts, drawn),
    )
    stage.fit(run, Trainer(Objective(policy, value_model, config), source, config.trainer, run=run, world=world))
    stage.save_model(run, template, lambda path: save_scalar_model(value_model, path), name="value_model")
    stage.save_trained(run, template, policy, save_policy)
    run.finish("finished")
    return run


def rollout_count(config: Config, prompts: int) -> int:
    """How many rollouts ``trainer.steps`` or ``trainer.epochs`` (passes over the prompts) need."""
    updates = config.rollout.epochs * config.rollout.minibatches
    if config.trainer.steps is not None:
        return math.ceil(config.trainer.steps / updates)
    return math.ceil(config.trainer.epochs * prompts / config.rollout.prompts)


def _prompts(config: Config, template: Template, run: RunDir) -> tuple[list[Prompt], list[Sample]]:
    readers = [config.policy, config.ref_policy, _value_start(config)]
    room = stage.prompt_room(config.data, config.sampling, *dict.fromkeys(one for one in readers if one is not None))
    loaded, samples = stage.Reader(run, template, config.data, Prompt, encode_prompts, room).read(
        "prompts", config.prompts
    )
    return loaded.at(sample.key for sample in samples), samples


def _ref_policy(config: Config, policy: ScoredModel) -> ScoredModel:
    """The reference: as told, else the policy as it starts, which with adapters is the policy without them."""
    if config.lora is not None and config.ref_policy is None:
        return WithoutAdapters(policy)
    return load_policy(resolve(config.ref_policy or config.policy, "model"), compute=config.compute)


def _value_model(config: Config) -> ScoredModel:
    """The model of values; with ``lora``, adapters and its head are all that is trained of it, as of the policy."""
    start, seed = _value_start(config), config.trainer.seed
    folder = resolve(start, "model")
    value_model = new_scalar_model(folder, seed=seed) if start == config.policy else load_value_model(folder, seed=seed)
    if config.lora is not None:
        add_adapter(value_model, config.lora, seed=seed)
    return placed(value_model, config.compute)


def _value_start(config: Config) -> str:
    """Where the value model starts: as told, else at the only reward model if it reads the policy's tokens."""
    terms = config.terms
    if config.value_model is not None:
        return config.value_model
    if len(terms) == 1 and not is_object(terms[0].by):
        policy, reward = resolve(config.policy, "model"), resolve(terms[0].by, "model")
        if Template.load(reward).fingerprint == Template.load(policy).fingerprint and not is_encoder(reward):
            return terms[0].by
    return config.policy
