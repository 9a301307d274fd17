"""A project's settings: how tasks are handed out, and what a judgment costs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from baro.config import Config
from baro.feedback.answers import CATEGORIES, MOST_REASONS, Category, Reason


class ProjectSettings(Config):
    """What a manager decides for a whole project; may be changed while people work.

    What raters choose from has the types of answers.py: what is offered here is taken there.
    """

    overlap: int = Field(2, ge=1, le=50, description="judgments wanted of each task")
    max_overlap: int | None = Field(
        None, ge=1, le=50, description="up to how many disagreement asks for; no more than overlap unless given"
    )
    certainty: float = Field(0.8, gt=0.5, lt=1, description="the posterior at which a task needs no further judgment")
    lease_minutes: float = Field(30, ge=0.05, le=1440, description="how long a task is kept for who opened it")
    repeat_fraction: float = Field(0.05, ge=0, le=0.5, description="tasks shown to a rater again, sides swapped")
    gold_fraction: float = Field(0.05, ge=0, le=0.5, description="tasks with a known answer among a rater's tasks")
    blur: bool | None = Field(None, description="responses are hidden at first; unless said, those of safety tasks are")
    diff: bool = Field(True, description="offer to show in what two responses differ")
    categories: tuple[Category, ...] = Field(
        CATEGORIES, min_length=1, max_length=len(CATEGORIES), description="the harms that raters choose from"
    )
    thumb_reasons: tuple[Reason, ...] = Field((), max_length=MOST_REASONS, description="reasons offered beside a thumb")
    cost_per_hour: float = Field(0, ge=0, le=1e9, description="what an hour of a rater costs")
    currency: Annotated[str, StringConstraints(min_length=1, max_length=10, strip_whitespace=True)] = Field(
        "KRW", description="of cost_per_hour"
    )
    min_read_ms_per_character: float = Field(
        5, ge=0, le=1e5, description="quicker than this for all that was shown is flagged"
    )

    @model_validator(mode="after")
    def _largest_overlap_is_no_less(self) -> ProjectSettings:
        if self.max_overlap is not None and self.max_overlap < self.overlap:
            least = f"max_overlap {self.max_overlap} lies below overlap {self.overlap}"
            raise ValueError(f"{least}; raise it, or leave it out (null)")
        return self
