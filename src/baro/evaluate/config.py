"""What ``baro evaluate`` is told: who answers, who judges, what on; and who is who in its figures."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator

from baro import config as blocks
from baro.compute import ComputeConfig
from baro.declared import Model, Object, Records, Scorer, check_names, default_name
from baro.judge_config import PairJudgeConfig
from baro.reward_config import ScoredBy


@dataclass(frozen=True)
class Player:
    """Who answers; ``stream`` sets its random numbers apart from the others', ``second`` is a second draw."""

    name: str
    value: str
    stream: int
    second: bool = False


class Reward(ScoredBy):
    """What scores the answers; where a score says right or wrong, it also counts the problems that are solved."""

    right_from: float | None = Field(
        None, description="the score from which an answer is right: accuracy, pass@k; 1 for verifiers of 0 and 1 alone"
    )


class BestOf(ScoredBy):
    """A control: of ``n`` samples of ``against``, the one that ``by`` scores highest."""

    n: int = Field(ge=2, description="samples drawn from `against` for each answer")


class Config(blocks.Config):
    """``baro evaluate``."""

    policies: list[Model] | dict[str, Model] = Field(
        [], description="the models to evaluate: runs, folders, hub ids; or names for them"
    )
    against: Model | None = Field(None, description="the model whose answers theirs are compared with")
    prompts: Records | None = Field(None, description="what all of them answer: a run or a file")
    pairs: Records | None = Field(None, description="preference pairs to measure accuracy on: a run or a file")
    baseline_pairs: Records | None = Field(
        None, description="pairs that the unigram baseline learns from; not those in `pairs`"
    )
    loss_on: Records | None = Field(
        None, description="answers or demonstrations that every policy's loss is measured on"
    )
    judges: dict[str, Object | PairJudgeConfig] = Field(
        {}, description="names and judges: module:NAME with compare(pairs), or blocks with a chat model"
    )
    rewards: dict[str, Scorer | Reward] = Field(
        {}, description="names and rewards: runs, folders, functions module:NAME, or blocks as {verifier: gsm8k}"
    )
    ref_policy: Model | None = Field(None, description="the model that KL is measured to; `against` unless given")
    best_of: BestOf | dict[str, BestOf] | None = Field(None, description="controls: the best of n samples of `against`")
    completions: int = Field(1, ge=1, description="answers of each policy to each prompt")
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()
    seed: int = Field(0, ge=0, description="seed of the sampling and of the bootstrap")
    limit: int | None = Field(None, ge=1, description="only so many prompts, the first ones; all unless given")
    data: blocks.DataConfig = blocks.DataConfig()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _something_to_do(self) -> Config:
        if self.prompts is None and self.pairs is None and self.loss_on is None:
            raise ValueError(
                "give prompts (to compare policies on), pairs (to measure accuracy on), or loss_on (to measure loss on)"
            )
        if (self.prompts is not None or self.loss_on is not None) and not self.policies:
            raise ValueError("policies is empty; name at least one model to evaluate")
        if self.best_of is not None and self.against is None:
            raise ValueError("best_of draws from `against`, which is not given")
        if self.judges and self.prompts is not None and self.against is None:
            raise ValueError("judges compare with `against`, which is not given")
        if self.pairs is not None and self.policies and (self.ref_policy or self.against) is None:
            raise ValueError("a policy's implicit reward on pairs needs ref_policy (or against); give one of them")
        return self

    @model_validator(mode="after")
    def _everybody_has_a_name_of_their_own(self) -> Config:
        """Players, controls, judges and rewards share the figures' names, and the report's columns."""
        way_out = "give names of your own, NAME: VALUE"
        names = self.policies if isinstance(self.policies, dict) else [default_name(one) for one in self.policies]
        check_names(names, "policies", way_out)
        players = [player.name for player in self.players]
        everybody = [*players, *self.controls, *self.judges, *self.rewards]
        check_names(everybody, "of policies, controls, judges and rewards", way_out)
        return self

    @property
    def scorers(self) -> dict[str, Reward]:
        """Every reward by its name, as a block where it is a bare value."""
        return {name: Reward(by=one) if isinstance(one, str) else one for name, one in self.rewards.items()}

    @property
    def names(self) -> dict[str, str]:
        """Every policy's name and where it lies; a list's members are called by the last part of their path."""
        if isinstance(self.policies, dict):
            return dict(self.policies)
        return {default_name(value): value for value in self.policies}

    @property
    def players(self) -> list[Player]:
        """``against`` first where there is one, then the policies; one that is ``against`` itself is a second draw."""
        named = list(enumerate(self.names.items(), start=1))
        if self.against is None:
            return [Player(name, value, number) for number, (name, value) in named]
        called = next((name for name, value in self.names.items() if value == self.against), None)
        first = Player(called or default_name(self.against), self.against, 0)
        rest = [
            Player(f"{name}-self", value, number, second=True) if name == called else Player(name, value, number)
            for number, (name, value) in named
        ]
        return [first, *rest]

    @property
    def controls(self) -> dict[str, BestOf]:
        """Every best-of-n control by its name."""
        if isinstance(self.best_of, BestOf):
            return {f"best-of-{self.best_of.n}": self.best_of}
        return dict(self.best_of or {})
