"""Known answers: told to a task that nobody has been given, or to a copy of one that was handed out already.

They can be replaced and withdrawn. Judgments never change by that, only what they are measured by: a withdrawn answer
is the empty one of a closed task, which still tells that its judgments were never votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select, update

from baro.feedback import answers, ids, schema
from baro.feedback.criteria import criteria_of
from baro.feedback.database import for_update, log_event
from baro.feedback.ids import new_id
from baro.feedback.project import Project, add_task
from baro.feedback.refusals import Refused


def make_gold(
    connection: Connection, project: Project, task_id: str, answer: answers.AnyAnswer, note: str, actor: str
) -> str:
    """Tell a task's answer, slots standing for positions; returns the id of the task that is handed out with it.

    A task that nobody was given becomes that task. One that was handed out keeps its judgments and goes on as it was:
    a copy of it gets the answer. Refused where the same answers have a known one already.
    """
    table = schema.task
    row = _task(connection, project, task_id)
    if any(one.is_gold and one.open for one in _alike(connection, row)):
        raise Refused("conflict", "this task has a known answer already; replace that one, or withdraw it first")
    _check(connection, project, row, answer)
    known = answer.model_dump(mode="json")
    if _was_given(connection, task_id):
        return add_gold(connection, project, task_id, known, actor, note)
    values = {"is_gold": True, "gold_answer": known, "places": 0, "open": True}
    connection.execute(update(table).where(table.c.id == task_id).values(**values))
    log_event(connection, actor, "gold", "task", task_id, {"note": note})
    return task_id


def replace_gold(
    connection: Connection, project: Project, task_id: str, answer: answers.AnyAnswer, note: str, actor: str
) -> None:
    """Tell another answer to a task with a known one: whoever was measured by the former is measured by this one."""
    row = _known_task(connection, project, task_id)
    _check(connection, project, row, answer)
    here = schema.task.c.id == task_id
    connection.execute(update(schema.task).where(here).values(gold_answer=answer.model_dump(mode="json")))
    log_event(connection, actor, "gold", "task", task_id, {"note": note, "former": row.gold_answer})


def withdraw_gold(connection: Connection, project: Project, task_id: str, note: str, actor: str) -> str | None:
    """Take a known answer back; returns the ordinary task that takes its place, None where there is one already.

    What was judged stays beside the data, as raters gave it, and measures nobody any more: the task is closed, and its
    answer is empty. A task that became gold before anybody was given it is asked again like any other.
    """
    table, item = schema.task, schema.task_item
    row = _known_task(connection, project, task_id)
    log_event(connection, actor, "withdraw", "task", task_id, {"note": note, "former": row.gold_answer})
    there, given = any(not one.is_gold for one in _alike(connection, row)), _was_given(connection, task_id)
    ordinary = {"is_gold": False, "gold_answer": None, "places": row.overlap}
    here = update(table).where(table.c.id == task_id)
    if not there and not given:
        connection.execute(here.values(**ordinary))
        return task_id
    connection.execute(here.values(open=False, gold_answer={}))
    if there:
        return None
    made = new_id()
    connection.execute(insert(table).values(**row._asdict() | ordinary | {"id": made, "created_ms": ids.now_ms()}))
    shown = connection.execute(select(item).where(item.c.task_id == task_id)).all()
    connection.execute(insert(item), [one._asdict() | {"task_id": made} for one in shown])
    return made


def note_of(connection: Connection, task_id: str) -> str:
    """What was said beside a task's known answer when it was told last."""
    event = schema.event
    here = (event.c.entity_id == task_id) & (event.c.action == "gold")
    query = select(event.c.details).where(here).order_by(event.c.id.desc()).limit(1)
    return str((connection.execute(query).scalar() or {}).get("note", ""))


def add_gold(
    connection: Connection, project: Project, task_id: str, answer: Mapping[str, Any], actor: str, note: str = ""
) -> str:
    """A copy of a task whose answer is known; the task itself stays as it was. Slots stand for positions."""
    task = schema.task
    here = (task.c.id == task_id) & (task.c.project_id == project.id)
    row = connection.execute(select(task).where(here)).first()
    if row is None:
        raise Refused("not_found", "there is no such task")
    made = add_task(connection, project, row.kind, row.prompt_id, _responses(connection, task_id), gold=answer)
    log_event(connection, actor, "gold", "task", made, {"copy_of": task_id, "note": note})
    return made


def _task(connection: Connection, project: Project, task_id: str) -> Row[Any]:
    """A task of the project, locked."""
    table = schema.task
    here = (table.c.id == task_id) & (table.c.project_id == project.id) & table.c.repeat_of.is_(None)
    row = connection.execute(for_update(connection, select(table).where(here), of=table)).first()
    if row is None:
        raise Refused("not_found", "there is no such task in this project")
    return row


def _known_task(connection: Connection, project: Project, task_id: str) -> Row[Any]:
    row = _task(connection, project, task_id)
    if not row.is_gold or not row.open:
        raise Refused("conflict", "this task has no known answer")
    return row


def _was_given(connection: Connection, task_id: str) -> bool:
    return bool(connection.execute(select(exists().where(schema.assignment.c.task_id == task_id))).scalar_one())


def _alike(connection: Connection, row: Row[Any]) -> list[Row[Any]]:
    """The tasks that ask the same of the same answers, this one among them."""
    table, shown = schema.task, set(_responses(connection, row.id))
    same = table.c.repeat_of.is_(None) & (table.c.prompt_id == row.prompt_id) & (table.c.kind == row.kind)
    rows = connection.execute(select(table).where(same)).all()
    return [one for one in rows if set(_responses(connection, one.id)) == shown]


def _responses(connection: Connection, task_id: str) -> list[str]:
    """By slot."""
    item = schema.task_item
    query = select(item.c.response_id).where(item.c.task_id == task_id).order_by(item.c.slot)
    return list(connection.execute(query).scalars())


def _check(connection: Connection, project: Project, row: Row[Any], answer: answers.AnyAnswer) -> None:
    """Refused for an answer that is none to this task."""
    items, kind = len(_responses(connection, row.id)), row.kind
    problems = answer.problems(items) if answer.kind == kind else [f"the task is of kind {kind}"]
    if isinstance(answer, answers.CriteriaAnswer):
        known = {one.key for one in criteria_of(connection, project.id)}
        problems += [f"there is no criterion {key!r}" for key in answer.scores if key not in known]
    if problems:
        raise Refused("invalid", problems[0], problems=problems)
