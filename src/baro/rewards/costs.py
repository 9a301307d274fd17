"""Costs where scores are expected: of a reward more is better, of a cost less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from baro.errors import ConfigError
from baro.protocols import RewardSource
from baro.records import Rollout, Score
from baro.reward_config import RewardTerm
from baro.rewards.learned import LearnedReward


def is_cost(source: Any) -> bool:
    """Whether a source is a model that ``baro cost`` trained, so that less is better."""
    return isinstance(source, LearnedReward) and source.model.scoring.cost


class LessCost:
    """A cost with its sign turned: the score that answers are compared by."""

    def __init__(self, source: LearnedReward) -> None:
        self.source, self.name = source, source.name

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        found = self.source.score(rollouts)
        return [one if one.value is None else replace(one, value=-one.value) for one in found]


def comparing(source: Any) -> Any:
    """The source itself, or of a cost what is higher where an answer is better: to choose between answers by."""
    return LessCost(source) if is_cost(source) else source


def check_signs(key: str, terms: Sequence[RewardTerm], sources: Sequence[RewardSource]) -> None:
    """ConfigError for a cost whose rise would be rewarded. ``key``: where the terms stand; under ``costs`` they are."""
    for i, (term, source) in enumerate(zip(terms, sources, strict=True)):
        if is_cost(source) and term.weight > 0 and key != "costs":
            raise ConfigError(
                f"{key}.{i}: {term.called} is a cost model, positive for what is harmful, and rewards are to rise; "
                "give it a weight below 0"
            )


def refuse_costs(names: Sequence[str], sources: Sequence[Any]) -> None:
    """ConfigError for a cost model among the members of an ensemble, which are centred and scaled."""
    for name, source in zip(names, sources, strict=True):
        if is_cost(source):
            raise ConfigError(
                f"{name}: is a cost model, whose zero an ensemble would move; make terms of their own of the members"
            )
