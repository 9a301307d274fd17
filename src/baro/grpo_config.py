"""What GRPO and its family are told, and the presets by which their members are known. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from baro import config as blocks
from baro.online_config import KlConfig, OnlineConfig, RolloutConfig

Baseline = Literal["group", "leave_one_out", "rank", "batch"]
PolicyLoss = Literal["clip", "sequence_clip", "gspo", "cispo", "dppo"]


class AdvantageConfig(blocks.Config):
    """What a completion's reward is compared with, and in which units."""

    baseline: Baseline = Field(
        "group",
        description="compared with its prompt's mean, its siblings' mean, its siblings by rank, or the rollout's mean",
    )
    scale: Literal["none", "group", "batch"] = Field(
        "group", description="divided by nothing, by the deviation of its prompt's rewards, or of all of the rollout's"
    )
    ddof: Literal[0, 1] = Field(1, description="the deviation divides by n − ddof")
    epsilon: float = Field(1e-4, ge=0, description="added to the deviation")
    terms: Literal["sum", "each"] = Field(
        "sum", description="of the weighted sum of all rewards, or of each by itself before they are summed"
    )

    @model_validator(mode="after")
    def _ranks_have_no_scale(self) -> AdvantageConfig:
        if self.baseline == "rank" and self.scale != "none":
            raise ValueError("ranks have a scale of their own, -0.5 to 0.5; set scale: none")
        if self.scale == "none" and (given := sorted({"ddof", "epsilon"} & self.model_fields_set)):
            raise ValueError(f"{given[0]} is of the deviation, and scale: none divides by none; leave it out")
        if self.terms == "each" and (self.baseline, self.scale) != ("group", "group"):
            raise ValueError("terms: each standardises every reward by its prompt; leave out baseline and scale")
        return self


class GroupKlConfig(KlConfig):
    """How far the policy may move from its reference, and where that is weighed."""

    coef: float = Field(0.0, ge=0, description="weight of the KL penalty; 0 needs no reference")
    place: Literal["loss", "reward"] = Field("loss", description="beside the policy's loss, or in the reward")
    estimator: Literal["k1", "k2", "k3"] | None = Field(
        None, description="k1 in the reward; in the loss k3 times the ratio (unless given), or k2"
    )

    @model_validator(mode="after")
    def _with_the_right_gradient(self) -> GroupKlConfig:
        if self.estimator == "k1" and self.place == "loss":
            raise ValueError("estimator k1 has no gradient in the loss of fresh samples; take k2, k3, or place: reward")
        if self.estimator in ("k2", "k3") and self.place == "reward":
            raise ValueError(f"estimator {self.estimator} in the reward pulls elsewhere than the KL; take k1")
        return self


class SamplerGateConfig(blocks.Config):
    """What happens to tokens whose sampler gave them another probability than the training forward does."""

    level: Literal["token", "sequence"] = Field("token", description="ratios of tokens, or one of each completion")
    mode: Literal["clip", "mask"] = Field(
        "clip", description="the loss weighs by the ratio held within the band, or not at all beyond it"
    )
    statistic: Literal["product", "geometric_mean"] | None = Field(
        None, description="of a completion the product of its tokens' ratios (unless given), or their geometric mean"
    )
    band: tuple[float, float] = Field((0.0, 2.0), description="lowest and highest ratio π_train/π_sampler; it holds 1")

    @model_validator(mode="after")
    def _fits_together(self) -> SamplerGateConfig:
        low, high = self.band
        if not (0 <= low <= 1 <= high and low < high):
            raise ValueError(f"band is {low:g} to {high:g}; it must hold 1, the ratio of an exact sampler, as [0.5, 5]")
        if self.statistic is not None and self.level == "token":
            raise ValueError("statistic makes one ratio of a completion's; give level: sequence, or leave it out")
        return self


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "grpo": {"aggregate": "sequence", "kl": {"coef": 0.04}},
    "dr_grpo": {"advantage": {"scale": "none"}, "aggregate": "constant"},
    "dapo": {"clip_range_high": 0.28, "rollout": {"draws": 4}},
    "rloo": {
        "advantage": {"baseline": "leave_one_out", "scale": "none"},
        "policy_loss": "sequence_clip",
        "aggregate": "sequence",
        "kl": {"coef": 0.05, "place": "reward"},
    },
    "reinforce_pp": {
        "advantage": {"baseline": "batch", "scale": "batch"},
        "kl": {"coef": 0.01, "place": "reward"},
    },
    "gspo": {"policy_loss": "gspo", "clip_range": 3e-4, "clip_range_high": 4e-4, "aggregate": "sequence"},
    "cispo": {"policy_loss": "cispo", "limit": 5.0},
    "dppo": {"advantage": {"scale": "none"}, "policy_loss": "dppo", "limit": 0.2},
}
"""Members of the family, by what they set that differs from the defaults, as their papers have it."""


class Config(OnlineConfig):
    """``baro grpo``."""

    preset: Literal["grpo", "dr_grpo", "dapo", "rloo", "reinforce_pp", "gspo", "cispo", "dppo"] | None = Field(
        None, description="a member of the family, which sets what is not given"
    )
    rollout: RolloutConfig = RolloutConfig(completions=8, epochs=1, minibatches=1)
    kl: GroupKlConfig = GroupKlConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    policy_loss: PolicyLoss = Field("clip", description="how the ratio to the policy that sampled is bounded")
    clip_range: float = Field(0.2, gt=0, lt=1, description="ε by which the ratio may fall (clip, sequence_clip, gspo)")
    clip_range_high: float | None = Field(None, gt=0, description="ε by which it may rise; clip_range unless given")
    limit: float | None = Field(
        None, gt=0, description="of cispo the highest ratio (5 unless given), of dppo the change of probability (0.2)"
    )
    aggregate: Literal["token", "sequence", "constant"] = Field(
        "token", description="a mean over tokens, over completions' means, or a sum over max_new_tokens a completion"
    )
    overlong_buffer: int | None = Field(
        None, ge=1, description="tokens before max_new_tokens in which a completion loses up to 1"
    )
    sampler_gate: SamplerGateConfig | None = Field(
        None, description="weigh by how far the sampler's probabilities are from the training forward's, or mask"
    )
    truncated: Literal["keep", "leave_out"] = Field("keep", description="completions that did not end within the limit")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """What the preset sets and the config does not."""
        if not isinstance(given, Mapping) or given.get("preset") not in PRESETS:
            return given
        return _filled(given, PRESETS[given["preset"]])

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        bounded = self.policy_loss in ("clip", "sequence_clip", "gspo")
        for name in ("clip_range", "clip_range_high"):
            if name in self.model_fields_set and getattr(self, name) is not None and not bounded:
                raise ValueError(
                    f"{name} is not used by policy_loss: {self.policy_loss}, which has limit; leave it out"
                )
        if self.limit is not None and bounded:
            raise ValueError(
                f"limit is not used by policy_loss: {self.policy_loss}, which has clip_range; leave it out"
            )
        if self.policy_loss == "cispo" and self.limit is not None and self.limit < 1:
            raise ValueError("limit of cispo is a ratio, and below 1 it cuts fresh samples; 5 is usual")
        if self.policy_loss == "dppo" and self.limit is not None and self.limit >= 1:
            raise ValueError("limit of dppo is a difference of probabilities, which is below 1; 0.2 is usual")
        if self.overlong_buffer is not None and self.overlong_buffer > self.sampling.max_new_tokens:
            raise ValueError(
                f"overlong_buffer={self.overlong_buffer} is more than sampling.max_new_tokens="
                f"{self.sampling.max_new_tokens}; lower it"
            )
        if self.kl.reference != "fixed" and not self.measures_kl:
            raise ValueError(f"kl.reference: {self.kl.reference} moves what the KL is measured from; give kl.coef")
        if self.reward_shaping.whiten:
            raise ValueError(
                "reward_shaping.whiten scales rewards of tokens, and here completions have them; leave it out"
            )
        if self.advantage.terms == "each" and (changed := self._of_the_sum()):
            raise ValueError(f"advantage.terms: each standardises each reward by itself, and {changed} is of their sum")
        if self.rollout.completions < 2 and self.advantage.baseline != "batch":
            raise ValueError(
                f"rollout.completions is {self.rollout.completions}, and advantage.baseline: {self.advantage.baseline} "
                "compares completions of one prompt; sample two or more"
            )
        return self

    @property
    def measures_kl(self) -> bool:
        """Whether every rollout's KL to the reference is computed, which takes a forward of it."""
        kl = self.kl
        return kl.coef > 0 or kl.stop_above is not None or self.ref_policy is not None

    @property
    def kl_in_loss(self) -> bool:
        """Whether a completion without an advantage has a gradient all the same."""
        return self.kl.place == "loss" and self.kl.coef > 0

    def _of_the_sum(self) -> str | None:
        """What is set that changes the sum of the rewards."""
        shaping, kl = self.reward_shaping, self.kl
        changes = {
            "reward_shaping": shaping.model_dump() != type(shaping)().model_dump(),
            "overlong_buffer": self.overlong_buffer is not None,
            "kl.place: reward": kl.place == "reward" and kl.coef > 0,
        }
        return next((name for name, changed in changes.items() if changed), None)


def _filled(given: Mapping[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """The given values, and the preset's where there are none; block by block."""
    filled = dict(given)
    for name, value in preset.items():
        if isinstance(value, Mapping):
            inner = given.get(name, {})
            filled[name] = _filled(inner, value) if isinstance(inner, Mapping) else inner
        else:
            filled.setdefault(name, value)
    return filled
