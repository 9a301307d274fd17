"""What every online method is told: who learns, from which prompts, by which reward, how sampled. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from baro import config as blocks
from baro.compute import ComputeConfig, LoraConfig
from baro.declared import Model, Object, Records, Scorer


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


class EvaluationConfig(blocks.Config):
    """Held-out prompts that are answered along the run, and what is looked at in the answers: ``eval/`` in the logs."""

    prompts: Records | None = Field(None, description="held-out prompts: a run or a file")
    rewards: list[blocks.RewardTerm] = Field([], description="what scores the answers, each logged by itself")
    judge: Object | None = Field(None, description="module:NAME with compare(pairs): win rate against the reference")
    completions: int = Field(1, ge=1, description="answers to each held-out prompt")
    every: int = Field(0, ge=0, description="optimiser steps between evaluations; 0 is ten times a run")
    keep: str | None = Field(
        None, description="a reward's name, or win_rate: the weights kept are the best by it; the last unless given"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EvaluationConfig:
        blocks.check_terms(self.rewards)
        if self.prompts is None and (given := sorted(self.model_fields_set - {"prompts"})):
            raise ValueError(f"evaluation.{given[0]} is about held-out prompts; give evaluation.prompts")
        if self.prompts is not None and not self.rewards and self.judge is None:
            raise ValueError("nobody looks at the answers to evaluation.prompts; give evaluation.rewards or .judge")
        names = [term.called for term in self.rewards] + ["win_rate"] * (self.judge is not None)
        if self.keep is not None and self.keep not in names:
            raise ValueError(f"evaluation.keep is {self.keep!r}; the weights can be kept by {' or '.join(names)}")
        return self

    @property
    def kept_by(self) -> blocks.RewardTerm | None:
        """The reward by which the weights are kept."""
        return next((term for term in self.rewards if term.called == self.keep), None)


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
    evaluation: EvaluationConfig = EvaluationConfig()
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _one_reward(self) -> OnlineConfig:
        if (self.reward_model is None) == (not self.rewards):
            raise ValueError("give either reward_model (a reward run) or rewards (a list of runs or functions)")
        blocks.check_terms(self.terms)
        kept_by = self.evaluation.kept_by
        trained = {one.rstrip("/") for term in self.terms for one in term.sources}
        if kept_by is not None and (same := [one for one in kept_by.sources if one.rstrip("/") in trained]):
            raise ValueError(
                f"evaluation.keep: {same[0]} is trained on, and keeps the weights that have learned to please it "
                "most, right or wrong; keep by another reward or by a judge"
            )
        return self

    @model_validator(mode="after")
    def _samples_of_the_policy_itself(self) -> OnlineConfig:
        sampling = self.sampling
        if (sampling.top_k, sampling.top_p, sampling.min_p) != (0, 1.0, 0.0):
            reason = "truncated samples come from another policy than the one whose log-probs are trained"
            raise ValueError(f"sampling.top_k, top_p and min_p must be left out of online training: {reason}")
        if sampling.temperature == 0:
            raise ValueError(
                "sampling.temperature is 0, which always draws the same answer; online training needs different ones"
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
