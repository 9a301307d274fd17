"""What every online method is told: who learns, from which prompts, by which reward, how sampled. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from baro import config as blocks
from baro.compute import ComputeConfig, LoraConfig
from baro.declared import Model, Object, Records, Scorer, check_names
from baro.errors import MAX_ERROR_FRACTION
from baro.judge_config import PairJudgeConfig
from baro.reward_config import RewardTerm, check_terms


class RolloutConfig(blocks.Config):
    """How much is sampled before the policy is updated, and how often it is used; for online methods."""

    prompts: int = Field(64, ge=1, description="prompts in a rollout, over all processes")
    completions: int = Field(1, ge=1, description="completions sampled for each prompt")
    epochs: int = Field(4, ge=1, description="how often a rollout is used")
    minibatches: int = Field(4, ge=1, description="optimiser steps in each of these epochs")
    draws: int = Field(
        1,
        ge=1,
        description="how often prompts are drawn; those whose scores are all equal give way to others",
    )
    max_error_fraction: float = Field(
        MAX_ERROR_FRACTION, ge=0, le=1, description="share of failed scores above which the run stops"
    )

    @model_validator(mode="after")
    def _minibatches_not_empty(self) -> RolloutConfig:
        if self.draws > 1 and self.completions < 2:
            raise ValueError("draws looks for prompts whose completions score differently; raise completions")
        if self.minibatches > (count := self.prompts * self.completions):
            raise ValueError(
                f"{count} completions cannot be cut into {self.minibatches} minibatches; lower minibatches"
            )
        return self


class KlConfig(blocks.Config):
    """How far the policy may move from its reference."""

    coef: float = Field(0.05, ge=0, description="weight of the KL penalty in the reward; the start when adaptive")
    target: float | None = Field(None, gt=0, description="nats per completion that an adaptive coefficient aims at")
    horizon: float = Field(10_000.0, gt=0, description="completions over which the adaptive coefficient moves")
    stop_above: float | None = Field(None, gt=0, description="a mean KL (nats per completion) that stops the run")
    reference: Literal["fixed", "ema", "refresh"] = Field(
        "fixed", description="it stays, is a moving average of the policy, or becomes the policy now and then"
    )
    ema_decay: float = Field(0.99, ge=0, lt=1, description="what an ema reference keeps of itself at each rollout")
    refresh_every: int = Field(10, ge=1, description="rollouts after which a refreshed reference becomes the policy")

    @model_validator(mode="after")
    def _horizon_belongs_to_target(self) -> KlConfig:
        if "horizon" in self.model_fields_set and self.target is None:
            raise ValueError("horizon is how fast the coefficient follows target, which is not given; leave it out")
        if self.target is not None and self.coef == 0:
            raise ValueError("target is reached by multiplying coef, and 0 stays 0; give coef a start, as 0.05")
        for name, reference in (("ema_decay", "ema"), ("refresh_every", "refresh")):
            if name in self.model_fields_set and self.reference != reference:
                raise ValueError(f"{name} belongs to reference: {reference}, and reference is {self.reference}")
        return self


class RewardShapingConfig(blocks.Config):
    """What happens to a score before it becomes a reward."""

    normalise: Literal["none", "each", "sum"] = Field(
        "none", description="scores by the mean and deviation of all so far: of each term before the sum, or of the sum"
    )
    clip: float | None = Field(None, gt=0, description="scores are clipped to ± this, after they are normalised")
    missing_eos: Literal["none", "subtract", "replace"] = Field("none", description="for a completion that did not end")
    missing_eos_penalty: float = Field(1.0, description="subtracted from its score, or put in its place negated")
    whiten: bool = Field(False, description="scale the shaped rewards of a rollout to variance 1, mean kept")

    @model_validator(mode="after")
    def _penalty_belongs_to_missing_eos(self) -> RewardShapingConfig:
        if "missing_eos_penalty" in self.model_fields_set and self.missing_eos == "none":
            raise ValueError("missing_eos_penalty is used by missing_eos subtract or replace; leave it out")
        return self


class PtxConfig(blocks.Config):
    """Demonstrations that are imitated beside the reward, a batch in every optimiser step."""

    demonstrations: Records | None = Field(None, description="prompts with answers, or texts: a run or a file")
    coef: float = Field(1.0, gt=0, description="weight of their negative log-likelihood, a mean over their tokens")
    batch_size: int = Field(32, ge=1, description="demonstrations in an optimiser step, over all processes")

    @model_validator(mode="after")
    def _of_demonstrations(self) -> PtxConfig:
        if self.demonstrations is None and (given := sorted(self.model_fields_set - {"demonstrations"})):
            raise ValueError(f"ptx.{given[0]} is about demonstrations; give ptx.demonstrations")
        return self


class EvaluationConfig(blocks.Config):
    """Held-out prompts that are answered along the run, and what is looked at in the answers: ``eval/`` in the logs."""

    prompts: Records | None = Field(None, description="held-out prompts: a run or a file")
    rewards: list[RewardTerm] = Field([], description="what scores the answers, each logged by itself")
    judge: Object | PairJudgeConfig | None = Field(
        None,
        description="module:NAME with compare(pairs), or a block with a chat model: win rate against the reference",
    )
    completions: int = Field(1, ge=1, description="answers to each held-out prompt")
    every: int = Field(0, ge=0, description="optimiser steps between evaluations; 0 is ten times a run")
    keep: str | None = Field(
        None, description="a reward's name, or win_rate: the weights kept are the best by it; the last unless given"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EvaluationConfig:
        check_terms(self.rewards)
        if self.prompts is None and (given := sorted(self.model_fields_set - {"prompts"})):
            raise ValueError(f"evaluation.{given[0]} is about held-out prompts; give evaluation.prompts")
        if self.prompts is not None and not self.rewards and self.judge is None:
            raise ValueError("nobody looks at the answers to evaluation.prompts; give evaluation.rewards or .judge")
        if (judged := next((term for term in self.rewards if term.judge is not None), None)) is not None:
            raise ValueError(f"evaluation.rewards: {judged.called} compares answers; name it as evaluation.judge")
        names = [term.called for term in self.rewards] + ["win_rate"] * (self.judge is not None)
        check_names(names, "metrics of evaluation", "give the reward another name, name: NAME")
        if self.keep is not None and self.keep not in names:
            raise ValueError(f"evaluation.keep is {self.keep!r}; the weights can be kept by {' or '.join(names)}")
        return self

    @property
    def kept_by(self) -> RewardTerm | None:
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
    rewards: list[RewardTerm] = Field(
        [], description="reward terms: runs, functions module:NAME, or verifiers, weighted"
    )
    accept_weak_reward_model: bool = Field(False, description="train on a reward model whose own figures call it weak")
    ref_policy: Model | None = Field(None, description="the model to stay close to; the starting policy unless given")
    rollout: RolloutConfig = RolloutConfig()
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()
    kl: KlConfig = KlConfig()
    reward_shaping: RewardShapingConfig = RewardShapingConfig()
    trainer: blocks.OptimiserConfig = blocks.OptimiserConfig(learning_rate=1e-6, epochs=1)
    ptx: PtxConfig = PtxConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    shared_trunk: bool = Field(
        True, description="with lora: one backbone for policy, reference, values, and rewards that are its adapters"
    )
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _one_reward(self) -> OnlineConfig:
        if (self.reward_model is None) == (not self.rewards):
            raise ValueError(
                "give either reward_model (a reward run) or rewards (a list of runs, functions or verifiers)"
            )
        check_terms(self.terms)
        judged = next((term for term in self.every_term if term.judge is not None), None)
        if judged is not None and self.rollout.completions < 2:
            raise ValueError(
                f"rewards: {judged.called} compares answers to one prompt; raise rollout.completions to 2 or more"
            )
        kept_by = self.evaluation.kept_by
        trained = {one.rstrip("/") for term in self.every_term for one in term.sources}
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

    @model_validator(mode="after")
    def _a_reference_that_moves_is_a_model_of_its_own(self) -> OnlineConfig:
        moving = f"kl.reference is {self.kl.reference}, and "
        if self.kl.reference != "fixed" and self.lora is not None:
            raise ValueError(f"{moving}lora has its reference in the policy; leave one of them out")
        if self.kl.reference != "fixed" and self.evaluation.judge is not None:
            raise ValueError(f"{moving}evaluation.judge compares with one that stays; leave one of them out")
        return self

    @model_validator(mode="after")
    def _a_trunk_is_shared_by_adapters(self) -> OnlineConfig:
        if "shared_trunk" in self.model_fields_set and self.lora is None:
            raise ValueError(
                "shared_trunk is about adapters on one backbone, and without lora there are none; give lora, or leave "
                "shared_trunk out"
            )
        return self

    @property
    def on_one_trunk(self) -> bool:
        """Whether value model and rewards stand on the policy's backbone."""
        return self.lora is not None and self.shared_trunk

    @property
    def terms(self) -> list[RewardTerm]:
        """What the reward is a sum of."""
        return self.rewards or [RewardTerm(by=str(self.reward_model))]

    @property
    def totals(self) -> dict[str, list[RewardTerm]]:
        """The terms of each sum that completions are scored by; a sum's name is a field of theirs."""
        return {"score": self.terms}

    @property
    def every_term(self) -> list[RewardTerm]:
        """The terms of all sums."""
        return [term for terms in self.totals.values() for term in terms]
