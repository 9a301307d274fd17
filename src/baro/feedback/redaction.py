"""A text that somebody has a right to see removed: it is overwritten, and what it was is nowhere in the store.

Who removed what and why is an event. Tasks that show a removed text count no more (withdrawn.py), and nobody gets them.
Backups, exports, run directories and raters' browsers keep their copies: this store cannot reach them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from baro.feedback import schema
from baro.feedback.database import Store, log_event, redacting
from baro.feedback.project import Project, project_by_id
from baro.feedback.refusals import Refused
from baro.feedback.withdrawals import keep_up

REMOVED = "[removed]"
MAX_WHY = 2000


def redact(
    store: Store, entity_id: str, why: str, actor: str, *, message: int | None = None, project_id: str | None = None
) -> dict[str, Any]:
    """Overwrite what a prompt, a response (an edit is one), a judgment or a skipped task says with REMOVED.

    ``message``: of a prompt this message alone, counted from 1. ``project_id``: only if it is in this project. Returns
    what it was (``entity``), its project, how many tasks count no more, and the ids of prompts and responses that have
    the same text and still have it.
    """
    if not 1 <= len(why.strip()) <= MAX_WHY:
        raise Refused("invalid", f"say why the text is removed, in 1 to {MAX_WHY:,} characters; it stays in the log")
    done = store.write(lambda connection: _redact(connection, entity_id, why.strip(), actor, message, project_id))
    store.forget()
    return done


def _redact(
    connection: Connection, entity_id: str, why: str, actor: str, message: int | None, inside: str | None
) -> dict[str, Any]:
    for entity, find in FOUND.items():
        row = find(connection, entity_id)
        if row is None or inside not in (None, row.project_id):
            continue
        if message is not None and entity != "prompt":
            raise Refused("invalid", f"{entity_id} is no prompt but a {entity}; only a prompt has messages")
        project = project_by_id(connection, row.project_id)
        with redacting(connection):
            same = REMOVE[entity](connection, row, message)
        details = {"why": why} | ({} if message is None else {"message": message})
        number = log_event(connection, actor, "redact", entity, entity_id, details)
        fact = {"event_id": number, "project_id": project.id, "entity": entity, "entity_id": entity_id, "why": why}
        connection.execute(insert(schema.redaction).values(**fact))
        tasks = _no_more(connection, project, entity, entity_id)
        return {"entity": entity, "project": project.name, "tasks": tasks, "same_text": same}
    raise Refused("not_found", f"there is no prompt, response, judgment or skipped task {entity_id!r}")


def _no_more(connection: Connection, project: Project, entity: str, entity_id: str) -> int:
    """Tasks that show the text are not handed out any more, and what was being written of them is dropped."""
    task, item = schema.task, schema.task_item
    shows = {
        "prompt": task.c.prompt_id == entity_id,
        "response": task.c.id.in_(select(item.c.task_id).where(item.c.response_id == entity_id)),
    }.get(entity)
    if shows is None:
        return 0
    inside = select(schema.assignment.c.id).join(task, task.c.id == schema.assignment.c.task_id).where(shows)
    connection.execute(delete(schema.draft).where(schema.draft.c.assignment_id.in_(inside)))
    return len(keep_up(connection, project, shows))


# ---------------------------------------------------------------------------------------------------- what an id is of


def _in_task(table: Table, *where: Any) -> Any:
    return select(table, schema.task.c.project_id).join(schema.task, schema.task.c.id == table.c.task_id).where(*where)


def _prompt(connection: Connection, found: str) -> Any:
    return connection.execute(select(schema.prompt).where(schema.prompt.c.id == found)).first()


def _response(connection: Connection, found: str) -> Any:
    table, prompt = schema.response, schema.prompt
    query = select(table, prompt.c.project_id).join(prompt, prompt.c.id == table.c.prompt_id)
    return connection.execute(query.where(table.c.id == found)).first()


def _judgment(connection: Connection, found: str) -> Any:
    return connection.execute(_in_task(schema.judgment, schema.judgment.c.id == found)).first()


def _skip(connection: Connection, found: str) -> Any:
    table = schema.assignment
    return connection.execute(_in_task(table, table.c.id == found, table.c.state == "skipped")).first()


# ------------------------------------------------------------------------------------------------------------ removing


def _remove_prompt(connection: Connection, row: Any, message: int | None) -> list[str]:
    table, turns = schema.prompt, row.messages
    if message is not None and not 1 <= message <= len(turns):
        raise Refused("invalid", f"prompt {row.id} has {len(turns)} messages, and none is number {message}")
    texts = [turn | {"content": REMOVED} if message in (None, at) else turn for at, turn in enumerate(turns, 1)]
    connection.execute(update(table).where(table.c.id == row.id).values(messages=texts, extra={}))
    return _with_the_same_text(connection, table, row)


def _remove_response(connection: Connection, row: Any, _: int | None) -> list[str]:
    table = schema.response
    connection.execute(update(table).where(table.c.id == row.id).values(text=REMOVED))
    return _with_the_same_text(connection, table, row)


def _with_the_same_text(connection: Connection, table: Table, row: Any) -> list[str]:
    gone = select(schema.redaction.c.entity_id)
    query = select(table.c.id).where(table.c.sha256 == row.sha256, table.c.id != row.id, table.c.id.not_in(gone))
    return list(connection.execute(query.order_by(table.c.id)).scalars())


def _remove_judgment(connection: Connection, row: Any, _: int | None) -> list[str]:
    """What was written beside an answer, in all its revisions, which repeat it; the answer itself stays."""
    table = schema.judgment
    mine = select(table.c.id, table.c.comment).where(table.c.assignment_id == row.assignment_id)
    comments = {one.id: one.comment for one in connection.execute(mine)}
    said = [one for one, comment in comments.items() if comment]
    connection.execute(update(table).where(table.c.id.in_(said)).values(comment=REMOVED))
    for held, column, removed in (
        (schema.judged_thumb, "reasons", lambda found: [REMOVED] if found else []),
        (schema.judged_edit, "critique", lambda found: REMOVED if found else ""),
        (schema.judged_edit, "spans", lambda found: [one | {"note": REMOVED} for one in found]),
        (schema.adjudication, "note", lambda found: REMOVED if found else ""),
    ):
        for one in connection.execute(select(held).where(held.c.judgment_id.in_(comments))).all():
            same = [column_ == getattr(one, column_.name) for column_ in held.primary_key]
            connection.execute(update(held).where(*same).values({column: removed(getattr(one, column))}))
    connection.execute(delete(schema.draft).where(schema.draft.c.assignment_id == row.assignment_id))
    return []


def _remove_skip(connection: Connection, row: Any, _: int | None) -> list[str]:
    """Why a task was left to others, and what was said of it."""
    assignment, event = schema.assignment, schema.event
    connection.execute(update(assignment).where(assignment.c.id == row.id).values(skip_reason=REMOVED))
    here = (event.c.entity == "assignment") & (event.c.entity_id == row.id) & (event.c.action == "skipped")
    for one in connection.execute(select(event).where(here)).all():
        words = {name: REMOVED for name in ("reason", "comment") if one.details.get(name)}
        connection.execute(update(event).where(event.c.id == one.id).values(details=one.details | words))
    connection.execute(delete(schema.draft).where(schema.draft.c.assignment_id == row.id))
    return []


FOUND: dict[str, Callable[[Connection, str], Any]] = {
    "prompt": _prompt, "response": _response, "judgment": _judgment, "skip": _skip,
}  # fmt: skip
REMOVE: dict[str, Callable[[Connection, Any, int | None], list[str]]] = {
    "prompt": _remove_prompt, "response": _remove_response, "judgment": _remove_judgment, "skip": _remove_skip,
}  # fmt: skip
