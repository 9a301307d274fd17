"""Tasks and prompts are withdrawn, or restored: what was judged of them stays in the store, and becomes no label.

``task.withdrawn`` is what the newest facts say, for the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, tuple_, update

from baro.feedback import schema
from baro.feedback.assign import end_leases
from baro.feedback.database import log_event
from baro.feedback.ids import new_id
from baro.feedback.project import Project
from baro.feedback.refusals import Refused
from baro.feedback.withdrawn import Withdrawn, newest_of, withdrawn_at


def withdraw_tasks(
    connection: Connection, project: Project, task_ids: Sequence[str], withdrawn: bool, event_id: int
) -> None:
    """Enter that these tasks count no more, or again, from this event on; leases of what counts no more end."""
    rows = [{"task_id": one, "prompt_id": None} for one in task_ids]
    _enter(connection, project, rows, withdrawn, event_id)
    keep_up(connection, project, schema.task.c.id.in_(task_ids) | schema.task.c.repeat_of.in_(task_ids))


def withdraw_prompts(
    connection: Connection,
    project: Project,
    prompt_ids: Sequence[str],
    actor: str,
    *,
    withdrawn: bool = True,
    why: str = "",
) -> dict[str, Any]:
    """Withdraw prompts with all their tasks, those that are made later too, or restore them.

    Returns how many changed, and how many judgments that is about. Refused for a prompt of another project, and for
    one whose text was removed: what nobody can read does not count again.
    """
    prompt, wanted = schema.prompt, sorted(set(prompt_ids))
    query = select(prompt.c.id).where(prompt.c.project_id == project.id, prompt.c.id.in_(wanted))
    unknown = set(wanted) - set(connection.execute(query).scalars())
    if unknown:
        raise Refused("not_found", f"there is no prompt {min(unknown)!r} in this project")
    now = withdrawn_at(connection, project.id)
    if not withdrawn and (removed := now.removed.intersection(wanted)):
        raise Refused("conflict", f"the text of prompt {min(removed)} was removed; it cannot be restored")
    changed = [one for one in wanted if (one in now.prompts) != withdrawn]
    if not changed:
        return {"prompts": 0, "tasks": 0, "judgments": 0}
    action = "withdraw" if withdrawn else "restore"
    event_id = log_event(connection, actor, action, "project", project.id, {"prompts": changed, "why": why})
    _enter(connection, project, [{"task_id": None, "prompt_id": one} for one in changed], withdrawn, event_id)
    tasks = keep_up(connection, project, schema.task.c.prompt_id.in_(changed))
    return {"prompts": len(changed), "tasks": len(tasks), "judgments": judged_count(connection, tasks)}


def by_its_prompt(project_id: str) -> Any:
    """The condition on ``task`` that it counts no more whatever is said of itself: its prompt or a text is gone."""
    task, item, gone, fact = schema.task, schema.task_item, schema.redaction.c.entity_id, schema.withdrawal
    newest = select(fact.c.prompt_id, func.max(fact.c.event_id)).where(fact.c.project_id == project_id)
    newest = newest.where(fact.c.prompt_id.is_not(None)).group_by(fact.c.prompt_id)
    prompts = select(fact.c.prompt_id).where(tuple_(fact.c.prompt_id, fact.c.event_id).in_(newest), fact.c.withdrawn)
    removed = select(gone).where(schema.redaction.c.project_id == project_id)
    shows = select(item.c.task_id).where(item.c.response_id.in_(removed))
    return or_(task.c.prompt_id.in_(prompts), task.c.prompt_id.in_(removed), task.c.id.in_(shows))


def judged_count(connection: Connection, task_ids: Sequence[str]) -> int:
    """How many assignments of these tasks have a judgment that stands."""
    table = schema.assignment
    states = table.c.state.in_(("submitted", "extra"))
    return len(connection.execute(select(table.c.id).where(table.c.task_id.in_(task_ids), states)).all())


def _enter(
    connection: Connection, project: Project, rows: Sequence[Mapping[str, Any]], withdrawn: bool, event_id: int
) -> None:
    same = {"project_id": project.id, "withdrawn": withdrawn, "event_id": event_id}
    if rows:
        connection.execute(insert(schema.withdrawal), [{"id": new_id(), **same, **row} for row in rows])


def keep_up(connection: Connection, project: Project, here: Any) -> list[str]:
    """Make ``task.withdrawn`` what the facts say, for these tasks; returns those that changed."""
    task, item, fact = schema.task, schema.task_item, schema.withdrawal
    rows = connection.execute(select(task).where(task.c.project_id == project.id, here).order_by(task.c.id)).all()
    shown: dict[str, list[str]] = {row.id: [] for row in rows}
    for row in connection.execute(select(item).where(item.c.task_id.in_(shown))):
        shown[row.task_id].append(row.response_id)
    about = or_(
        fact.c.task_id.in_({*shown, *(row.repeat_of for row in rows if row.repeat_of)}),
        fact.c.prompt_id.in_({row.prompt_id for row in rows}),
    )
    removed = withdrawn_at(connection, project.id, 0).removed
    facts = Withdrawn(*newest_of(connection, (fact.c.project_id == project.id) & about), removed)
    changed: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        found = facts.covers(row.id, row.prompt_id, shown[row.id], row.repeat_of)
        if found != row.withdrawn:
            changed[found].append(row.id)
    for withdrawn, ids in changed.items():
        if ids:
            connection.execute(update(task).where(task.c.id.in_(ids)).values(withdrawn=withdrawn))
    end_leases(connection, schema.assignment.c.task_id.in_(changed[True]))
    return sorted(changed[True] + changed[False])
