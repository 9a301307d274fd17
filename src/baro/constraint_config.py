"""A limit on what answers cost, and how it is held. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from baro.config import Config

_OF_MULTIPLIER = ("multiplier", "learning_rate", "proportional", "window", "delay", "floor", "ceiling")


class ConstraintConfig(Config):
    """The limit, and how it is held."""

    limit: float = Field(description="the mean cost that must not be exceeded; of threshold: any completion's cost")
    mode: Literal["lagrangian", "fixed", "threshold"] = Field(
        "lagrangian",
        description="a multiplier that follows the mean cost, one that stays, or a bad score for each over",
    )
    multiplier: float = Field(
        1.0, ge=0, description="λ, the reward that one unit of cost is worth; the first of several"
    )
    learning_rate: float = Field(0.1, gt=0, description="η, by which log λ moves for each λ and unit of cost over")
    proportional: float = Field(
        0.0,
        ge=0,
        description="κ, by which log λ leans at once for each unit of cost over; damps its swings",
    )
    window: int = Field(1, ge=1, description="rollouts over which the mean cost is taken")
    delay: int = Field(0, ge=0, description="first rollouts in which λ stays")
    floor: float = Field(0.01, gt=0, description="the least λ; a step is in proportion to λ, and from 0 there is none")
    ceiling: float = Field(10.0, gt=0, description="the largest λ")

    @model_validator(mode="after")
    def _of_its_mode(self) -> ConstraintConfig:
        reads = {"lagrangian": _OF_MULTIPLIER, "fixed": _OF_MULTIPLIER[:1], "threshold": ()}[self.mode]
        if unread := sorted(self.model_fields_set & set(_OF_MULTIPLIER) - set(reads)):
            raise ValueError(f"{unread[0]} does nothing in mode {self.mode}; leave it out")
        if self.mode == "lagrangian" and not self.floor <= self.multiplier <= self.ceiling:
            raise ValueError(
                f"multiplier starts at {self.multiplier:g}, outside floor {self.floor:g} to ceiling {self.ceiling:g}; "
                "move one of them"
            )
        return self
