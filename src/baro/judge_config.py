"""Chat models that judge: one answer by a rubric, or two answers against each other. No torch here."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from baro.chat_config import ChatModelConfig
from baro.config import Config


class Criterion(Config):
    """One thing that is judged, and how much it counts."""

    text: str = Field(min_length=1, description="what the judge is told of it")
    weight: float = Field(1.0, gt=0, description="its part of the score, beside the other weights")


class RubricConfig(ChatModelConfig):
    """A chat model that scores answers one by one: the weighted mean of its criteria, from 0 to 1."""

    criteria: dict[str, str | Criterion] = Field(
        min_length=1, description="names and texts of what is judged; or blocks with text and weight"
    )
    lowest: int = Field(1, description="the score of a criterion at its worst")
    highest: int = Field(10, description="the score of a criterion at its best")
    language: Literal["en", "ko"] = Field("en", description="in which the judge is asked")
    samples: int = Field(1, ge=1, description="judgments of each answer, of which the mean counts")
    tries: int = Field(3, ge=1, description="how often a judgment is asked for until it is valid")
    temperature: float = Field(1.0, ge=0, description="of the judge's sampling; at 0 every try is the same")
    max_new_tokens: int = Field(256, ge=1, description="tokens of one judgment")
    seed: int = Field(0, ge=0, description="seed of the judge's sampling")

    @model_validator(mode="after")
    def _is_a_scale(self) -> RubricConfig:
        if self.lowest >= self.highest:
            raise ValueError(f"no score lies between lowest {self.lowest} and highest {self.highest}; change one")
        if self.temperature == 0 and (self.samples > 1 or (self.tries > 1 and "tries" in self.model_fields_set)):
            raise ValueError("at temperature 0 every judgment of an answer is the same; leave samples and tries out")
        return self

    @property
    def parts(self) -> dict[str, Criterion]:
        """Every criterion by its name."""
        return {name: Criterion(text=one) if isinstance(one, str) else one for name, one in self.criteria.items()}

    def score(self, scores: dict[str, float]) -> float:
        """Σ_c w_c (s_c − lowest) / (highest − lowest) / Σ_c w_c. Weights 2, 1 and scores 10, 1 of 1..10: 0.666667."""
        parts, width = self.parts, self.highest - self.lowest
        total = math.fsum(one.weight for one in parts.values())
        return math.fsum(one.weight * (scores[name] - self.lowest) / width for name, one in parts.items()) / total


class PairJudgeConfig(ChatModelConfig):
    """A chat model that says which of two answers is better: the mean of both orders."""

    criterion: str | None = Field(
        None, description="what makes an answer the better one; that it is helpful, honest and harmless unless given"
    )
    language: Literal["en", "ko"] = Field("en", description="in which the judge is asked")
    verdicts: int = Field(8, ge=1, description="verdicts drawn in each order from a judge without log-probs")
    max_new_tokens: int = Field(64, ge=1, description="tokens of a drawn verdict")
    seed: int = Field(0, ge=0, description="seed of drawn verdicts")
