"""What every online method is told: who learns, from which prompts, by which reward, how sampled. No torch here."""

from __future__ import annotations

from pydantic import Field, model_validator

from baro import config as blocks
from baro.compute import ComputeConfig, LoraConfig
from baro.declared import Model, Records, Scorer


class OnlineConfig(blocks.Config):
    """The base of ppo's config, and of those of the online methods to come.

    ``trainer.epochs`` are passes over the prompts; a rollout's own are ``rollout.epochs``. ``trainer.steps`` is exact:
    the last rollout is left where they are done.
    """

    policy: Model = Field(description="the model to train: a run, a folder, or a hub id")
    prompts: Records = Field(description="prompts to answer: a run or a file")
    reward_model: Scorer | None = Field(None, description="a reward run; short for rewards with this one term")
    rewards: list[blocks.RewardTerm] = Field([], description="reward terms: runs or functions module:NAME, weighted")
    accept_weak_reward_model: bool = Field(False, description="train on a reward model whose own figures call it weak")
    ref_policy: Model | None = Field(None, description="the model to stay close to; the starting policy unless given")
    rollout: blocks.RolloutConfig = blocks.RolloutConfig()
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()
    trainer: blocks.OptimiserConfig = blocks.OptimiserConfig(learning_rate=1e-6, epochs=1)
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _one_reward(self) -> OnlineConfig:
        if (self.reward_model is None) == (not self.rewards):
            raise ValueError("give either reward_model (a reward run) or rewards (a list of runs or functions)")
        blocks.check_terms(self.terms)
        return self

    @model_validator(mode="after")
    def _samples_of_the_policy_itself(self) -> OnlineConfig:
        sampling = self.sampling
        if (sampling.top_k, sampling.top_p, sampling.min_p) != (0, 1.0, 0.0):
            reason = "truncated samples come from another policy than the one whose log-probs are trained"
            raise ValueError(f"sampling.top_k, top_p and min_p must be left out of online training: {reason}")
        if sampling.temperature == 0:
            raise ValueError(
                "sampling.temperature is 0, which draws one answer for ever; online training needs several"
            )
        if sampling.max_new_tokens >= self.data.max_length:
            raise ValueError(
                f"sampling.max_new_tokens={sampling.max_new_tokens} leaves no room for a prompt in data.max_length="
                f"{self.data.max_length}; raise data.max_length"
            )
        return self

    @property
    def terms(self) -> list[blocks.RewardTerm]:
        """What the reward is a sum of."""
        return self.rewards or [blocks.RewardTerm(by=str(self.reward_model))]
