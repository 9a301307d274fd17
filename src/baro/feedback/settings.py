"""A project's settings: how tasks are handed out, and what a judgment costs."""

from __future__ import annotations

from pydantic import Field

from baro.config import Config
from baro.feedback.answers import CATEGORIES


class ProjectSettings(Config):
    """What a manager decides for a whole project; may be changed while people work."""

    overlap: int = Field(2, ge=1, le=50, description="judgments wanted of each task")
    max_overlap: int = Field(1, ge=1, le=50, description="if more than overlap: disagreement asks for more, up to this")
    certainty: float = Field(0.8, gt=0.5, lt=1, description="the posterior at which a task needs no further judgment")
    lease_minutes: float = Field(30, gt=0, le=1440, description="how long a task is kept for who opened it")
    repeat_fraction: float = Field(0.05, ge=0, le=0.5, description="tasks shown to a rater again, sides swapped")
    gold_fraction: float = Field(0.05, ge=0, le=0.5, description="tasks with a known answer among a rater's tasks")
    blur: bool | None = Field(None, description="responses are hidden at first; unless said, those of safety tasks are")
    diff: bool = Field(True, description="offer to show in what two responses differ")
    categories: tuple[str, ...] = Field(CATEGORIES, description="the harms that raters choose from")
    thumb_reasons: tuple[str, ...] = Field((), description="reasons offered beside a thumb")
    cost_per_hour: float = Field(0, ge=0, description="what an hour of a rater costs")
    currency: str = Field("KRW", description="of cost_per_hour")
    min_read_ms_per_character: float = Field(5, ge=0, description="quicker than this for all that was shown is flagged")
