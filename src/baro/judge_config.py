"""Chat models that judge: one answer by a rubric, two against each other, or two by a principle. No torch here."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from baro.chat_config import ChatModelConfig
from baro.config import MAY_REPEAT, Config


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


class JudgingConfig(Config):
    """The block ``judging``: how a labeller compares by a constitution."""

    language: Literal["en", "ko", "auto"] | None = Field(
        None, description="of the constitution's texts; auto: Korean where a prompt has Hangul; its own unless given"
    )
    reasoning: bool = Field(False, description="whether the labeller thinks in words before it decides")
    clamp: list[float] | None = Field(
        None,
        description="lowest and highest p; 0 and 1 unless given, and 0.4 and 0.6 with reasoning",
        json_schema_extra=MAY_REPEAT,
    )
    verdicts: int = Field(8, ge=1, description="verdicts drawn in each order from a labeller without log-probs")
    max_new_tokens: int = Field(256, ge=1, description="tokens of a thought or a drawn verdict")

    @field_validator("clamp", mode="after")
    @classmethod
    def _of_both_sides(cls, clamp: list[float] | None) -> list[float] | None:
        if clamp is None:
            return None
        if len(clamp) != 2 or not 0 <= clamp[0] < 0.5 or not math.isclose(clamp[0] + clamp[1], 1):
            raise ValueError("is a lowest p below 0.5 and a highest one, which add up to 1, as [0.4, 0.6]")
        return clamp

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest p."""
        if self.clamp is not None:
            return self.clamp[0], self.clamp[1]
        return (0.4, 0.6) if self.reasoning else (0.0, 1.0)
