"""What counts no more: tasks and prompts that somebody withdrew, and what shows a text that was removed.

Each withdrawal and each restoration (withdrawals.py) is a fact with its event, so that what counts at an event can
always be told. A text that was removed (redaction.py) counts at no event any more: nobody can read what was judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from baro.feedback import schema


@dataclass(frozen=True)
class Withdrawn:
    """What does not count at an event: tasks, prompts with all their tasks, and texts that were removed."""

    tasks: frozenset[str]
    prompts: frozenset[str]
    removed: frozenset[str] = frozenset()

    def covers(self, task_id: str, prompt_id: str, responses: Sequence[str], repeat_of: str | None) -> bool:
        """Whether a task that shows these counts no more; a hidden repeat goes with its task."""
        return (
            bool({task_id, repeat_of} & self.tasks)
            or prompt_id in self.prompts
            or not self.removed.isdisjoint((prompt_id, *responses))
        )


def withdrawn_at(connection: Connection, project_id: str, upto: int | None = None) -> Withdrawn:
    """What is withdrawn now, or was at an event; removed texts are removed at every event."""
    table, gone = schema.withdrawal, schema.redaction
    here = table.c.project_id == project_id
    if upto is not None:
        here &= table.c.event_id <= upto
    removed = select(gone.c.entity_id).where(gone.c.project_id == project_id, gone.c.entity.in_(("prompt", "response")))
    return Withdrawn(*newest_of(connection, here), frozenset(connection.execute(removed).scalars()))


def newest_of(connection: Connection, here: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The tasks and the prompts of which the newest of these facts says that they are withdrawn."""
    table = schema.withdrawal
    found: tuple[dict[str, bool], dict[str, bool]] = ({}, {})
    for row in connection.execute(select(table).where(here).order_by(table.c.event_id, table.c.id)):
        found[row.task_id is None][row.task_id or row.prompt_id] = row.withdrawn
    tasks, prompts = (frozenset(one for one, withdrawn in part.items() if withdrawn) for part in found)
    return tasks, prompts


def may_be_asked(connection: Connection, prompt_id: str, responses: Sequence[str]) -> bool:
    """Whether a task may be made of a prompt and its answers."""
    _, prompts = newest_of(connection, schema.withdrawal.c.prompt_id == prompt_id)
    gone = schema.redaction.c.entity_id
    removed = select(gone).where(gone.in_((prompt_id, *responses)))
    return not prompts and connection.execute(removed).first() is None


def last_withdrawal(connection: Connection, project_id: str) -> int:
    """The number of a project's last withdrawal or restoration, 0 before the first."""
    table = schema.withdrawal
    query = select(table.c.event_id).where(table.c.project_id == project_id)
    return int(connection.execute(query.order_by(table.c.event_id.desc()).limit(1)).scalar() or 0)
