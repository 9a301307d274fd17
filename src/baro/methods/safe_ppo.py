"""PPO under a constraint: as much reward as can be had while answers cost no more than a limit on average.

    max_π  E[r] − β KL(π ‖ π_ref)   subject to   E[c] ≤ d

Rewards and costs are scored, and their values learned, apart. The KL penalty stands in both streams, as −β KL among the
rewards and +β KL among the costs; their advantages are mixed and whitened once:

    lagrangian   Â = (Â_r − λ Â_c) / (1 + λ),   log λ ← log λ + η λ (J − d)    before each rollout's updates,
                 with λ exp(κ (J − d)) in λ's place where ``proportional`` κ is given
    fixed        the same with a λ that stays
    threshold    no critic of costs: a completion that costs more than d has the rollout's lowest score − 1

J is the mean cost of the completions of the last ``window`` rollouts, this one included. The KL's weight in Â is β for
every λ, so that at a λ that stays the optimum is π ∝ π_ref · exp((r − λ c) / ((1 + λ) β)). Dai et al. 2023,
arXiv:2310.12773, §3.2 and appendix B.3. Differs from the paper: λ has a floor and a ceiling, J is over whole rollouts,
and scores alone are shaped (``reward_shaping``), since a cost that is shifted or scaled has another limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from baro.batch import Sample
from baro.constraint_config import ConstraintConfig
from baro.declared import Model, Scorer
from baro.functional.advantages import mean_and_variance, moments
from baro.functional.constraint import below_the_lowest, leaning_multiplier, mixed_advantages, next_multiplier
from baro.methods import critic, ppo
from baro.methods.online import Online
from baro.methods.reference import reference
from baro.models.forward import ScoredModel
from baro.models.load import save_scalar_model
from baro.protocols import State, World
from baro.reward_config import RewardTerm, check_terms
from baro.runs import RunDir

Z_975 = 1.959964


class Config(ppo.Config):
    """``baro safe-ppo``."""

    cost_model: Scorer | None = Field(None, description="a cost run; short for costs with this one term")
    costs: list[RewardTerm] = Field([], description="cost terms, as rewards: runs, functions or verifiers, weighted")
    cost_value_model: Model | None = Field(
        None, description="where the value model of costs starts; the cost model, else the policy"
    )
    constraint: ConstraintConfig = Field(description="the limit of the mean cost, and how it is held")

    @model_validator(mode="after")
    def _one_cost(self) -> Config:
        if (self.cost_model is None) == (not self.costs):
            raise ValueError("give either cost_model (a cost run) or costs (a list of runs, functions or verifiers)")
        check_terms(self.cost_terms, "costs")
        if (judged := next((term for term in self.cost_terms if term.judge is not None), None)) is not None:
            raise ValueError(f"costs: {judged.called} compares siblings, and its mean is 1/2 whatever they cost")
        return self

    @model_validator(mode="after")
    def _streams_can_be_mixed(self) -> Config:
        mixed = self.constraint.mode != "threshold"
        if mixed and self.reward_shaping.whiten:
            raise ValueError(
                "reward_shaping.whiten scales rewards and their KL and not those of the costs, so that λ and kl.coef "
                "would mean something else in each rollout; leave it out"
            )
        if not mixed and self.cost_value_model is not None:
            raise ValueError("cost_value_model: in constraint.mode threshold costs have no value model; leave it out")
        return self

    @property
    def cost_terms(self) -> list[RewardTerm]:
        """What the cost is a sum of."""
        return self.costs or [RewardTerm(by=str(self.cost_model))]

    @property
    def totals(self) -> dict[str, list[RewardTerm]]:
        """The terms of each sum that completions are scored by."""
        return {"score": self.terms, "cost": self.cost_terms}


class Multiplier:
    """λ, and the costs of the last rollouts, by which it moves."""

    def __init__(self, config: ConstraintConfig) -> None:
        self.config, self.value = config, config.multiplier
        self.used = config.multiplier  # with which the rollout in hand is mixed
        self.rollouts = 0
        self.recent: list[list[float]] = []  # of each rollout in the window: sum of costs, completions

    def look(self, costs: Tensor, world: World) -> float:
        """Take in a rollout's costs [C], move λ, and return the mean cost of the window; all ranks enter together."""
        config = self.config
        sums = world.sum({"cost": float(costs.double().sum()), "completions": len(costs)})
        self.recent = [*self.recent, [sums["cost"], sums["completions"]]][-config.window :]
        cost, completions = (sum(one[k] for one in self.recent) for k in (0, 1))
        mean = cost / max(1.0, completions)
        if config.mode == "lagrangian" and self.rollouts >= config.delay:
            self.value = next_multiplier(
                self.value, mean, limit=config.limit, learning_rate=config.learning_rate,
                floor=config.floor, ceiling=config.ceiling,
            )  # fmt: skip
        self.used = self.value
        if config.mode == "lagrangian":
            self.used = leaning_multiplier(
                self.value, mean, limit=config.limit, gain=config.proportional,
                floor=config.floor, ceiling=config.ceiling,
            )  # fmt: skip
        self.rollouts += 1
        return mean

    def state_dict(self) -> State:
        return {"value": self.value, "rollouts": self.rollouts, "recent": [list(one) for one in self.recent]}

    def load_state_dict(self, state: State) -> None:
        self.value, self.rollouts = state["value"], state["rollouts"]
        self.recent = [list(one) for one in state["recent"]]


class Prepare(ppo.Prepare):
    """What PPO's does, for both totals; the multiplier."""

    config: Config

    def __init__(
        self,
        policy: ScoredModel,
        ref_policy: ScoredModel,
        value_model: ScoredModel,
        cost_value_model: ScoredModel | None,
        config: Config,
    ) -> None:
        super().__init__(policy, ref_policy, value_model, config)
        self.cost_value_model, self.multiplier = cost_value_model, Multiplier(config.constraint)

    def _learned(self, seen: ppo.Seen) -> tuple[Tensor, dict[str, Tensor], list[dict[str, float]]]:
        scores = self.scores(seen.samples, seen.world)
        costs = torch.tensor([one.fields["cost"] for sample in seen.samples for one in sample.completions])
        over = (costs > self.config.constraint.limit).to(scores.dtype)
        told = {"mean_cost": self.multiplier.look(costs, seen.world)} | interval_of_mean(seen.samples, seen.world)
        if self.cost_value_model is None:
            lowest = -seen.world.max(float(-scores.min()) if len(scores) else -float("inf"))
            raw, fields = self._stream(self.value_model, below_the_lowest(scores, over, lowest=lowest), seen)
        else:
            told["multiplier"] = self.multiplier.used
            of_rewards, fields = self._stream(self.value_model, scores, seen)
            of_costs, more = self._stream(self.cost_value_model, costs, seen, kl_sign=-1, prefix="cost_")
            fields |= more
            raw = mixed_advantages(of_rewards, of_costs, multiplier=self.multiplier.used)
        return raw, fields, [told | {"over_limit": float(one)} for one in over]

    def state_dict(self) -> State:
        return super().state_dict() | {"multiplier": self.multiplier.state_dict()}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.multiplier.load_state_dict(state["multiplier"])

    @property
    def _frozen(self) -> dict[str, Any]:
        own = {} if self.cost_value_model is None else {"cost_value_model": self.cost_value_model}
        return super()._frozen | own


def interval_of_mean(samples: Sequence[Sample], world: World) -> dict[str, float]:
    """95% of a rollout's mean cost, by the spread of its prompts' means; none for one prompt. All ranks enter together.

    ``cost_low`` and ``cost_high``: m ± 1.96 √(s² / P), P prompts on all ranks, s² the variance of their means.
    """
    costs = [[one.fields["cost"] for one in sample.completions] for sample in samples if sample.completions]
    sums = world.sum(moments(torch.tensor([sum(some) / len(some) for some in costs], dtype=torch.float64)))
    if sums["count"] < 2:
        return {}
    mean, variance = mean_and_variance(sums["count"], sums["total"], sums["squares"])
    half = Z_975 * (variance / sums["count"]) ** 0.5
    return {"cost_low": mean - half, "cost_high": mean + half}


class Objective(ppo.Objective):
    """PPO's, and the clipped value loss of costs after that of rewards."""

    def __init__(
        self, policy: ScoredModel, value_model: ScoredModel, cost_value_model: ScoredModel | None, config: Config
    ) -> None:
        super().__init__(policy, value_model, config)
        if cost_value_model is not None:
            self.critics["cost_value_model"] = cost_value_model


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, ``value_model/`` and, unless mode is threshold, ``cost_value_model/``; or resume."""
    job = Online("safe-ppo", config, out)
    if job.finished:
        return job.run
    asked, of_costs = config.cost_value_model, config.constraint.mode != "threshold"
    starts = [critic.value_start(config, config.value_model, config.terms)]
    job.read(*starts, *([critic.value_start(config, asked, config.cost_terms)] if of_costs else []))
    policy = job.policy()
    value_model = critic.value_model(config, config.value_model, job.trunk, terms=config.terms)
    cost_value_model = None
    if of_costs:
        cost_value_model = critic.value_model(
            config, asked, job.trunk, terms=config.cost_terms, role="cost_value_model"
        )
    ref_policy = reference(config, policy)
    limit = config.early_stop_kl or float("inf")
    objective = Objective(policy, value_model, cost_value_model, config)
    prepare = Prepare(policy, ref_policy, value_model, cost_value_model, config)
    job.fit(policy, ref_policy, objective, prepare, lambda found: found.get("policy/approx_kl", 0.0) > limit)
    job.save(
        policy, **{name: lambda folder, of=of: save_scalar_model(of, folder) for name, of in objective.critics.items()}
    )
    return job.run
