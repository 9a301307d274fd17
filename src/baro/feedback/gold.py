"""Known answers: told to a task that nobody has been given, or to a copy of one that was handed out already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, exists, select, update

from baro.feedback import answers, schema
from baro.feedback.criteria import criteria_of
from baro.feedback.database import for_update, log_event
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
    here = (table.c.id == task_id) & (table.c.project_id == project.id) & table.c.repeat_of.is_(None)
    row = connection.execute(for_update(connection, select(table).where(here), of=table)).first()
    if row is None:
        raise Refused("not_found", "there is no such task in this project")
    shown = _responses(connection, task_id)
    same = select(table.c.id).where(table.c.prompt_id == row.prompt_id, table.c.kind == row.kind, table.c.is_gold)
    if any(set(_responses(connection, one)) == set(shown) for one in connection.execute(same).scalars().all()):
        raise Refused("conflict", "this task has a known answer already")
    _check(connection, project, row.kind, len(shown), answer)
    known = answer.model_dump(mode="json")
    if connection.execute(select(exists().where(schema.assignment.c.task_id == task_id))).scalar_one():
        return add_gold(connection, project, task_id, known, actor, note)
    values = {"is_gold": True, "gold_answer": known, "places": 0}
    connection.execute(update(table).where(table.c.id == task_id).values(**values))
    log_event(connection, actor, "gold", "task", task_id, {"note": note})
    return task_id


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


def _responses(connection: Connection, task_id: str) -> list[str]:
    """By slot."""
    item = schema.task_item
    query = select(item.c.response_id).where(item.c.task_id == task_id).order_by(item.c.slot)
    return list(connection.execute(query).scalars())


def _check(connection: Connection, project: Project, kind: str, items: int, answer: answers.AnyAnswer) -> None:
    """Refused for an answer that is none to this task."""
    problems = answer.problems(items) if answer.kind == kind else [f"the task is of kind {kind}"]
    if isinstance(answer, answers.CriteriaAnswer):
        known = {one.key for one in criteria_of(connection, project.id)}
        problems += [f"there is no criterion {key!r}" for key in answer.scores if key not in known]
    if problems:
        raise Refused("invalid", problems[0], problems=problems)
