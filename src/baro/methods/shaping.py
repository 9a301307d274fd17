"""What becomes of scores before they are rewards, how strongly the KL counts, and where it is measured from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baro.batch import Sample
from baro.errors import ConfigError, GuardStop
from baro.functional.advantages import mean_and_variance, moments, whiten_with
from baro.functional.policy import adaptive_kl_coef, clip_scores
from baro.models.forward import ScoredModel
from baro.online_config import KlConfig, RewardShapingConfig
from baro.protocols import State, World
from baro.reward_config import RewardTerm


def everywhere(values: Tensor, world: World, *, ddof: int = 1) -> dict[str, float]:
    """Mean and variance over all ranks, 0 and 0 of nothing; all enter together."""
    sums = world.sum(moments(values))
    mean, variance = mean_and_variance(**sums, ddof=ddof) if sums["count"] else (0.0, 0.0)
    return {"mean": mean, "variance": variance}


class Scores:
    """The scores of a total, normalised by all that were seen, clipped, and with the penalty of what did not end.

        s' = (s − μ) / √(σ² + 10⁻⁸)        μ, σ² over all rollouts so far, this one included

    ``each`` normalises every term before the weighted sum, so that the weights compare like with like; ``sum`` the sum.
    """

    def __init__(self, config: RewardShapingConfig, terms: Sequence[RewardTerm], total: str = "score") -> None:
        self.config, self.terms, self.total = config, list(terms), total
        self.seen: dict[str, dict[str, float]] = {}  # moments by field

    def __call__(self, samples: Sequence[Sample], world: World) -> Tensor:
        """One number a completion, [C]; all ranks enter together."""
        config = self.config
        branches = [one for sample in samples for one in sample.completions]
        scores = self._scores([dict(one.fields) for one in branches], world)
        if config.clip is not None:
            scores = clip_scores(scores, limit=config.clip)
        penalised = {
            "none": scores,
            "subtract": scores - config.missing_eos_penalty,
            "replace": torch.full_like(scores, -config.missing_eos_penalty),
        }[config.missing_eos]
        return torch.where(torch.tensor([bool(one.fields["finished"]) for one in branches]), scores, penalised)

    def _scores(self, fields: Sequence[dict[str, float]], world: World) -> Tensor:
        if self.config.normalise == "each":
            named = [(term.weight, f"{self.total}/{term.called}") for term in self.terms]
            parts = [weight * self._normalised(name, fields, world).nan_to_num(0.0) for weight, name in named]
            return torch.stack(parts).sum(0)
        if self.config.normalise == "sum":
            return self._normalised(self.total, fields, world)
        return torch.tensor([one[self.total] for one in fields])

    def _normalised(self, name: str, fields: Sequence[dict[str, float]], world: World) -> Tensor:
        """A field by its moments so far; NaN, of a term without an opinion, stays NaN and does not count."""
        values = torch.tensor([one[name] for one in fields])
        now = world.sum(moments(values[~values.isnan()]))
        before = self.seen.get(name, dict.fromkeys(now, 0.0))
        self.seen[name] = {key: before[key] + now[key] for key in now}
        if not self.seen[name]["count"]:
            return values
        seen = self.seen[name]
        mean, variance = mean_and_variance(seen["count"], seen["total"], seen["squares"])
        return whiten_with(values, mean=mean, variance=variance)

    def state_dict(self) -> State:
        return {"seen": {name: dict(of) for name, of in self.seen.items()}}

    def load_state_dict(self, state: State) -> None:
        self.seen = {name: dict(of) for name, of in state["seen"].items()}


class MovingReference:
    """The reference, which stays where it is or follows the policy, moved before a rollout's first update.

        ema        θ_ref ← d θ_ref + (1 − d) θ        at every rollout but the first
        refresh    θ_ref ← θ                          at every k-th rollout

    Xu et al. 2024, arXiv:2404.10719 §5, for the moving average. What moves is state; a fixed reference is an input.
    """

    def __init__(self, ref_policy: ScoredModel, policy: ScoredModel, config: KlConfig) -> None:
        self.ref_policy, self.policy, self.config = ref_policy, policy, config
        self.rollouts = 0
        shapes = [{name: one.shape for name, one in of.model.named_parameters()} for of in (ref_policy, policy)]
        if config.reference != "fixed" and shapes[0] != shapes[1]:
            raise ConfigError(
                f"kl.reference: {config.reference} mixes the policy's weights into the reference's, and ref_policy has "
                "others; leave ref_policy out, or name a model of the policy's shape"
            )

    def move(self, world: World) -> None:
        """To be called once for each rollout; all ranks enter together."""
        number, self.rollouts = self.rollouts, self.rollouts + 1
        if number and self.config.reference == "ema":
            self._mix(self.config.ema_decay, world)
        elif number and self.config.reference == "refresh" and number % self.config.refresh_every == 0:
            self._mix(0.0, world)

    @torch.no_grad()
    def _mix(self, keep: float, world: World) -> None:
        """New tensors, not new values in the old ones: a state that was taken before stays what it was."""
        of_policy = dict(self.policy.model.named_parameters())
        for name, own in self.ref_policy.model.named_parameters():
            now = world.whole(of_policy[name]).to(own.device, own.dtype)
            own.data = keep * own.data + (1 - keep) * now

    def state_dict(self) -> State:
        moved = self.config.reference != "fixed"
        weights = {name: one.data for name, one in self.ref_policy.model.named_parameters()} if moved else {}
        return {"rollouts": self.rollouts, "weights": weights}

    def load_state_dict(self, state: State) -> None:
        self.rollouts = state["rollouts"]
        own = dict(self.ref_policy.model.named_parameters())
        for name, tensor in state["weights"].items():
            own[name].data = tensor.to(own[name].device)


class KlControl:
    """The coefficient of the KL penalty: constant, or led to ``config.target``; and the stop at too much KL."""

    def __init__(self, config: KlConfig) -> None:
        self.config, self.coef = config, config.coef

    def steer(self, kl: Tensor, completions: int, world: World) -> None:
        """Look at a rollout's KL of every token, shaped with today's coefficient, and set that of the next rollout."""
        sums = world.sum({"kl": float(kl.sum()), "completions": completions})
        mean = sums["kl"] / max(1.0, sums["completions"])
        target, horizon, limit = self.config.target, self.config.horizon, self.config.stop_above
        if limit is not None and mean > limit:
            raise GuardStop(
                f"the mean KL to the reference is {mean:.2f} nats per completion, above kl.stop_above={limit}; "
                "raise kl.coef or lower the learning rate"
            )
        if target is not None:
            count = int(sums["completions"])
            self.coef = adaptive_kl_coef(self.coef, mean, target=target, horizon=horizon, samples=count)

    def state_dict(self) -> State:
        return {"coef": self.coef}

    def load_state_dict(self, state: State) -> None:
        self.coef = state["coef"]
