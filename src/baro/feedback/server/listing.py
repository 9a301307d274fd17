"""What managers see of the store, page by page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, or_, select

from baro.feedback import schema, view
from baro.feedback.again import rounds_of
from baro.feedback.changes import Chosen
from baro.feedback.criteria import criteria_of
from baro.feedback.gold import note_of
from baro.feedback.refusals import Refused
from baro.feedback.render import prompt_start, to_html
from baro.feedback.withdrawn import withdrawn_at


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())


def _page(connection: Connection, query: Select[Any], offset: int, limit: int) -> dict[str, Any]:
    rows = connection.execute(query.offset(offset).limit(limit)).all()
    return {"total": _count(connection, query.order_by(None)), "offset": offset, "items": rows}


def projects(connection: Connection, ids: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Projects, all unless given, with how much is in each; of its people (``raters``) those who may judge are told
    apart."""
    table, rater = schema.project, schema.rater
    members = select(func.count()).select_from(schema.member).where(schema.member.c.project_id == table.c.id)
    answers = select(func.count()).select_from(schema.response).join(schema.prompt)
    counts = []
    for name, query in (
        ("prompts", select(func.count()).select_from(schema.prompt).where(schema.prompt.c.project_id == table.c.id)),
        ("responses", answers.where(schema.prompt.c.project_id == table.c.id)),
        ("tasks", select(func.count()).select_from(schema.task).where(schema.task.c.project_id == table.c.id)),
        ("raters", members),
        ("judging", members.join(rater).where(schema.member.c.role == "rater", rater.c.active)),
    ):
        counts.append(query.scalar_subquery().label(name))
    query = select(table.c.id, table.c.name, table.c.state, table.c.created_ms, *counts).order_by(table.c.name)
    return [row._asdict() for row in connection.execute(query) if ids is None or row.id in ids]


def people(connection: Connection, project_id: str, offset: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
    """Who works on a project, and as what; managers of the whole store work on none."""
    rater, member, session = schema.rater, schema.member, schema.session
    joined = select(func.count()).select_from(session).where(session.c.rater_id == rater.c.id).scalar_subquery()
    query = select(rater, member.c.role, joined.label("sessions")).join(member)
    query = query.where(member.c.project_id == project_id).order_by(rater.c.created_ms, rater.c.id)
    names = ("id", "pseudonym", "role", "lang", "active", "created_ms")
    return [
        {name: getattr(row, name) for name in names} | {"joined": row.sessions > 0}
        for row in connection.execute(query.offset(offset).limit(limit))
    ]


def events(connection: Connection, project_id: str, offset: int, limit: int) -> dict[str, Any]:
    """What happened to a project and to what is in it; who did it by pseudonym, where it was a person."""
    event, rater, task, member = schema.event, schema.rater, schema.task, schema.member
    tasks = select(task.c.id).where(task.c.project_id == project_id)
    inside = [
        select(member.c.rater_id).where(member.c.project_id == project_id),
        tasks,
        *(
            select(table.c.id).where(table.c.project_id == project_id)
            for table in (schema.guideline, schema.generation, schema.export)
        ),
        *(select(table.c.id).where(table.c.task_id.in_(tasks)) for table in (schema.assignment, schema.judgment)),
        select(schema.redaction.c.entity_id).where(schema.redaction.c.project_id == project_id),
    ]
    here = or_(event.c.entity_id == project_id, *(event.c.entity_id.in_(ids) for ids in inside))
    columns = (event.c.at_ms, event.c.actor, event.c.action, event.c.entity, event.c.entity_id, rater.c.pseudonym)
    query = select(*columns).outerjoin(rater, rater.c.id == event.c.actor).where(here).order_by(event.c.id.desc())
    page = _page(connection, query, offset, limit)
    rows = [row._asdict() for row in page["items"]]
    return page | {"items": [row | {"actor": row.pop("pseudonym") or row["actor"]} for row in rows]}


def prompts(connection: Connection, project_id: str, offset: int, limit: int) -> dict[str, Any]:
    """Prompts with their numbers of answers."""
    table, response = schema.prompt, schema.response
    count = select(func.count()).select_from(response).where(response.c.prompt_id == table.c.id).scalar_subquery()
    columns = (table.c.id, table.c.messages, table.c.source, table.c.extra, table.c.created_ms)
    query = select(*columns, count.label("responses")).where(table.c.project_id == project_id).order_by(table.c.id)
    page, gone = _page(connection, query, offset, limit), withdrawn_at(connection, project_id)
    items = [row._asdict() for row in page["items"]]
    for one in items:
        one |= {"withdrawn": one["id"] in gone.prompts, "removed": one["id"] in gone.removed}
    return page | {"items": items}


def messages(
    connection: Connection, project_id: str, ids: Sequence[str] | None
) -> list[tuple[str, list[dict[str, str]]]]:
    """The conversations of these prompts, of all unless given."""
    table = schema.prompt
    query = select(table.c.id, table.c.messages).where(table.c.project_id == project_id).order_by(table.c.id)
    found = [(row.id, row.messages) for row in connection.execute(query)]
    if ids is None:
        return found
    unknown = set(ids) - {prompt_id for prompt_id, _ in found}
    if unknown:
        raise Refused("invalid", f"there is no prompt {min(unknown)!r} in this project")
    wanted = set(ids)
    return [one for one in found if one[0] in wanted]


# --------------------------------------------------------------------------------------------------------------- tasks


def tasks(connection: Connection, project_id: str, chosen: Chosen, offset: int, limit: int) -> dict[str, Any]:
    """The chosen tasks; hidden repeats are no tasks of their own here."""
    table, judgment = schema.task, schema.judgment
    count = select(func.count(judgment.c.assignment_id.distinct())).where(judgment.c.task_id == table.c.id)
    query = select(table, schema.prompt.c.messages, count.scalar_subquery().label("judgments")).join(schema.prompt)
    query = query.where(chosen.where(project_id))
    page = _page(connection, query.order_by(table.c.priority.desc(), table.c.order_key), offset, limit)
    rounds = rounds_of(connection, {row.prompt_id for row in page["items"] if not row.open})
    items = [_task_row(row) | {"later": _beside(rounds, row.id)["later"]} for row in page["items"]]
    return page | {"items": items}


def _task_row(row: Row[Any]) -> dict[str, Any]:
    names = ("id", "kind", "overlap", "places", "priority", "open", "withdrawn", "is_gold", "policy", "score",
             "judgments", "created_ms")  # fmt: skip
    start = prompt_start(row.messages)
    return {name: getattr(row, name) for name in names} | {"prompt": row.prompt_id, "prompt_start": start}


def project_of_task(connection: Connection, task_id: str) -> str | None:
    """The id of its project; None where there is no such task."""
    found = select(schema.task.c.project_id).where(schema.task.c.id == task_id)
    return connection.execute(found).scalar()


def task(connection: Connection, task_id: str) -> dict[str, Any]:
    """One task with the models behind its responses and every judgment, the revised and retracted ones, too."""
    row = connection.execute(select(schema.task).where(schema.task.c.id == task_id)).first()
    if row is None:
        raise Refused("not_found", "there is no such task")
    prompt = connection.execute(select(schema.prompt).where(schema.prompt.c.id == row.prompt_id)).one()
    project = connection.execute(select(schema.project.c.name).where(schema.project.c.id == row.project_id))
    names = ("id", "kind", "overlap", "places", "priority", "open", "withdrawn", "is_gold", "gold_answer", "policy",
             "score", "propensity", "repeat_of", "created_ms")  # fmt: skip
    told = {name: getattr(row, name) for name in names} | {"project": project.scalar_one()}
    told["gold_answer"] = row.gold_answer or None  # withdrawn: a task that is closed
    turns = [{"role": turn["role"], **_text(turn["content"])} for turn in prompt.messages]
    told |= {"prompt": {"id": prompt.id, "source": prompt.source, "messages": turns}}
    told["withdrawn_by"] = _withdrawn_by(connection, row) if row.withdrawn else None
    told |= {"gold_note": note_of(connection, task_id) if row.is_gold else ""}
    told |= _beside(rounds_of(connection, {row.prompt_id}), task_id)
    told |= {"responses": _responses(connection, task_id), "judgments": _judgments(connection, task_id)}
    return told | {"skips": _skips(connection, task_id)}


def _withdrawn_by(connection: Connection, row: Row[Any]) -> str:
    """Whether the task itself is withdrawn, or its prompt, or one of its texts was removed."""
    item, gone = schema.task_item, withdrawn_at(connection, row.project_id)
    shown = connection.execute(select(item.c.response_id).where(item.c.task_id == row.id)).scalars()
    if not gone.removed.isdisjoint((row.prompt_id, *shown)):
        return "removed"
    return "prompt" if row.prompt_id in gone.prompts else "task"


def _beside(rounds: Sequence[Sequence[str]], task_id: str) -> dict[str, str | None]:
    """What a task asks again (``earlier``), and what asks it again (``later``)."""
    own = next((one for one in rounds if task_id in one), [task_id])
    at = own.index(task_id)
    return {"earlier": own[at - 1] if at else None, "later": own[at + 1] if at + 1 < len(own) else None}


def _text(content: str) -> dict[str, str]:
    return {"text": content, "html": to_html(content)}


def _responses(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    item, response, generation = schema.task_item, schema.response, schema.generation
    query = (
        select(item.c.slot, response, generation.c.model, generation.c.settings)
        .select_from(item.join(response).outerjoin(generation, response.c.generation_id == generation.c.id))
        .where(item.c.task_id == task_id).order_by(item.c.slot)
    )  # fmt: skip
    names = ("id", "slot", "author", "model", "settings", "finished", "parent_id")
    return [{name: getattr(row, name) for name in names} | _text(row.text) for row in connection.execute(query)]


def _judgments(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """Answers by position, as they were given; ``shown`` says which response stood at each position."""
    table, assignment, rater = schema.judgment, schema.assignment, schema.rater
    query = (
        select(
            table, rater.c.pseudonym, assignment.c.purpose, schema.adjudication.c.reason, schema.adjudication.c.note,
            schema.guideline.c.version.label("guideline_version"), schema.guideline.c.lang.label("guideline_lang"),
            schema.judged_edit.c.edited_id,
        )
        .select_from(
            table.join(assignment, assignment.c.id == table.c.assignment_id)
            .join(rater, rater.c.id == table.c.rater_id)
            .outerjoin(schema.adjudication, schema.adjudication.c.judgment_id == table.c.id)
            .outerjoin(schema.guideline, schema.guideline.c.id == table.c.guideline_id)
            .outerjoin(schema.judged_edit, schema.judged_edit.c.judgment_id == table.c.id)
        )
        .where(table.c.task_id == task_id).order_by(table.c.event_id)
    )  # fmt: skip
    names = ("id", "pseudonym", "purpose", "revision", "action", "submitted_ms", "active_ms", "visible_ms", "changes",
             "confidence", "comment", "flags", "guideline_id", "guideline_version", "guideline_lang", "ui_version",
             "reason", "note", "edited_id")  # fmt: skip
    found = []
    for row in connection.execute(query).all():
        shown = positions(connection, row.assignment_id)
        told = {name: getattr(row, name) for name in names} | {"rater": row.rater_id, "shown": shown}
        found.append(told | {"answer": answer_of(connection, row, shown)})
    return found


def _skips(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """Who left the task to others, with what they told of it."""
    table, rater, event = schema.assignment, schema.rater, schema.event
    query = select(table.c.id, table.c.rater_id, table.c.closed_ms, rater.c.pseudonym).join(rater)
    skipped = {
        row.id: row for row in connection.execute(query.where(table.c.task_id == task_id, table.c.state == "skipped"))
    }
    if not skipped:  # events have no index by what they are about
        return []
    told = select(event.c.entity_id, event.c.details).where(event.c.entity_id.in_(skipped), event.c.action == "skipped")
    found = []
    for assignment_id, details in connection.execute(told.order_by(event.c.id)):
        row = skipped[assignment_id]
        who = {"assignment": assignment_id, "rater": row.rater_id, "pseudonym": row.pseudonym, "at_ms": row.closed_ms}
        found.append(who | {"reason": "", "comment": "", "flags": []} | details)
    return found


def positions(connection: Connection, assignment_id: str) -> list[str]:
    """The response at each position of an assignment's screen."""
    here = schema.assignment.c.id == assignment_id
    assignment = connection.execute(select(schema.assignment).where(here)).one()
    return [one.id for one in view.shown_responses(connection, assignment)]


def answer_of(connection: Connection, judgment: Row[Any], shown: list[str]) -> dict[str, Any] | None:
    """What one judgment says, by position; None of one that takes another back."""
    if judgment.action == "retract":
        return None
    return {"kind": judgment.kind} | view.said_by_position(connection, judgment, shown)


# ------------------------------------------------------------------------------------------------ guidelines, criteria


def guidelines(connection: Connection, project_id: str, offset: int, limit: int) -> dict[str, Any]:
    """All versions, the newest first."""
    table = schema.guideline
    query = select(table.c.id, table.c.version, table.c.lang, table.c.body, table.c.created_ms)
    query = query.where(table.c.project_id == project_id).order_by(table.c.event_id.desc())
    page = _page(connection, query, offset, limit)
    return page | {"items": [row._asdict() | {"html": to_html(row.body)} for row in page["items"]]}


def guideline(connection: Connection, guideline_id: str) -> Row[Any]:
    """One version."""
    row = connection.execute(select(schema.guideline).where(schema.guideline.c.id == guideline_id)).first()
    if row is None:
        raise Refused("not_found", "there is no such guideline")
    return row


def criteria(connection: Connection, project_id: str) -> list[dict[str, Any]]:
    """The criteria in their order."""
    names = ("key", "labels", "low", "high", "weight")
    return [{name: getattr(row, name) for name in names} for row in criteria_of(connection, project_id)]
