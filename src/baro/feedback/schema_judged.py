"""The tables of what one judgment says, one for each kind of answer; schema.py has the others."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from baro.feedback.columns import metadata, one_of, ref


def _judged(name: str, key: tuple[str, ...], *columns: Any, response: str = "response_id") -> Table:
    """A table of what one judgment says; the response must be one of its task's."""
    return Table(
        name,
        metadata,
        Column("judgment_id", Text, nullable=False),
        Column("task_id", Text, nullable=False),
        Column(response, Text, nullable=response == "winner_id"),
        *columns,
        PrimaryKeyConstraint("judgment_id", *key),
        ForeignKeyConstraint(["judgment_id", "task_id"], ["judgment.id", "judgment.task_id"]),
        ForeignKeyConstraint(["task_id", response], ["task_item.task_id", "task_item.response_id"]),
    )


judged_pair = _judged(
    "judged_pair",
    ("dimension",),
    Column("dimension", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("strength", Integer, nullable=False),  # 0 not said, 1 slightly, 2 better, 3 much better
    Column("position", Integer, nullable=True),  # what was clicked: 0 left, 1 right
    one_of("dimension", ("overall", "helpful", "safer")),
    one_of("outcome", ("win", "tie", "both_bad", "unsure")),
    CheckConstraint("(outcome = 'win') = (winner_id IS NOT NULL)", name="winner"),
    CheckConstraint("(outcome = 'win') = (position IS NOT NULL)", name="position"),
    CheckConstraint("strength BETWEEN 0 AND 3 AND (strength = 0 OR outcome = 'win')", name="strength"),
    response="winner_id",
)
judged_rank = _judged(
    "judged_rank",
    ("response_id",),
    Column("rank", Integer, nullable=True),  # 1 is the best, equal numbers tie; none: left unranked
    CheckConstraint("rank >= 1", name="rank"),
)
judged_thumb = _judged(
    "judged_thumb", ("response_id",), Column("good", Boolean, nullable=False), Column("reasons", JSON, nullable=False)
)
judged_safety = _judged(
    "judged_safety",
    ("response_id",),
    Column("safe", Boolean, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("categories", JSON, nullable=False),
    CheckConstraint("severity BETWEEN 0 AND 3 AND safe = (severity = 0)", name="severity"),
)
judged_score = _judged(
    "judged_score",
    ("response_id", "criterion_id"),
    Column("criterion_id", ref("criterion"), nullable=False),
    Column("score", Integer, nullable=True),  # none: not applicable
)
judged_edit = _judged(
    "judged_edit",
    ("response_id",),
    Column("edited_id", ref("response"), nullable=True),  # the new response; none when only a critique was written
    Column("critique", Text, nullable=False),
    Column("spans", JSON, nullable=False),  # [{"start": ..., "end": ..., "note": ...}], characters of the response
)
