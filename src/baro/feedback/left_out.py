"""Why no task was made of a prompt: a code with its values. Pages say it in their reader's language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from baro.feedback import schema
from baro.feedback.render import prompt_start

REASONS = {
    "not_here": "is not in this project",
    "withdrawn": "is withdrawn",
    "too_few": "has {have} different answers; {kind} tasks need {need}",
}
"""Codes with their sentences, which begin with the prompt."""


@dataclass(frozen=True)
class LeftOut:
    """A prompt of which no task was made. ``named``: where it is from and how it begins, for who reads no ids."""

    prompt: str
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""

    def __str__(self) -> str:
        name = f"prompt {self.prompt} ({self.named})" if self.named else f"prompt {self.prompt}"
        return f"{name} {REASONS[self.code].format(**self.values)}"

    def to_json(self) -> dict[str, Any]:
        """``sentence`` is English; pages say ``code`` in their own words."""
        return {"prompt": self.prompt, "code": self.code, "values": dict(self.values), "sentence": str(self)}


def left_out(code: str, prompts: Iterable[str]) -> list[LeftOut]:
    """These prompts, all for one reason that has no values."""
    return [LeftOut(one, code) for one in prompts]


def too_few_answers(connection: Connection, counts: Mapping[str, int], kind: str, size: int) -> list[LeftOut]:
    """``counts``: how many different answers each of these prompts has."""
    table = schema.prompt
    rows = connection.execute(select(table).where(table.c.id.in_(counts)).order_by(table.c.id)).all()
    named = {row.id: f"{row.source}: {prompt_start(row.messages)!r}" for row in rows}
    return [LeftOut(one, "too_few", {"have": counts[one], "kind": kind, "need": size}, named[one]) for one in named]
