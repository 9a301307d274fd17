"""What was asked: tasks as plain values, each with how it came to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from baro.feedback import schema
from baro.feedback.ids import sha256


@dataclass(frozen=True, slots=True)
class Task:
    """What was shown. ``responses`` go by slot; ``canonical``: in the order of their ids' hashes, which knows neither
    models nor sides, so that "the first" says nothing. ``again_of``: the task that it asks once more. ``policy`` and
    ``propensity``: how it came to be asked, "random" where any draw of it, or of what it asks again, was at random."""

    id: str
    prompt_id: str
    kind: str
    responses: tuple[str, ...]
    canonical: tuple[str, ...]
    repeat_of: str | None
    again_of: str | None
    gold_answer: Mapping[str, Any] | None
    first_overlap: int
    made_by: str
    policy: str
    propensity: float

    @property
    def is_ordinary(self) -> bool:
        """Neither a hidden repeat nor one with a known answer."""
        return self.gold_answer is None and self.repeat_of is None


def tasks_of(connection: Connection, project_id: str, task_id: str | None = None) -> dict[str, Task]:
    """A project's tasks by id, or one of them."""
    task, item = schema.task, schema.task_item
    here = task.c.project_id == project_id
    if task_id is not None:
        here &= task.c.id == task_id
    slots: dict[str, list[str]] = {}
    items = select(item.c.task_id, item.c.response_id).join(task).where(here).order_by(item.c.task_id, item.c.slot)
    for row in connection.execute(items):
        slots.setdefault(row.task_id, []).append(row.response_id)
    columns = (task.c.id, task.c.prompt_id, task.c.kind, task.c.repeat_of, task.c.again_of, task.c.gold_answer)
    columns += (task.c.first_overlap, task.c.policy, task.c.propensity)
    rows = connection.execute(select(*columns).where(here)).all()
    before = {row.id: row.again_of for row in rows if row.again_of is not None}
    drawn = _drawn(connection, project_id)
    found = {}
    for row in rows:
        at_random = next((drawn[one] for one in (row.id, *earlier(row.id, before)) if one in drawn), None)
        how = (row.policy, row.propensity) if row.policy == "random" or at_random is None else ("random", at_random)
        found[row.id] = Task(
            row.id, row.prompt_id, row.kind, tuple(slots[row.id]), tuple(sorted(slots[row.id], key=sha256)),
            row.repeat_of, row.again_of, row.gold_answer, row.first_overlap, row.policy, *how,
        )  # fmt: skip
    return found


def _drawn(connection: Connection, project_id: str) -> dict[str, float]:
    """The tasks that a round of selecting has drawn at random, with the propensity of their first such draw."""
    draw, task = schema.draw, schema.task
    query = select(draw.c.task_id, draw.c.propensity).join(task, task.c.id == draw.c.task_id)
    query = query.where(task.c.project_id == project_id, draw.c.policy == "random").order_by(draw.c.event_id.desc())
    return {row.task_id: row.propensity for row in connection.execute(query)}


def earlier(task_id: str, before: Mapping[str, str]) -> Iterator[str]:
    """What a task asks again, what that one asks again, and so on; ``before``: ``again_of`` by task."""
    while task_id in before:
        task_id = before[task_id]
        yield task_id
