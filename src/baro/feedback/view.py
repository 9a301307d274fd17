"""A task as its rater sees it: positions on the screen, texts, and nothing that says who wrote what."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from baro.feedback import schema
from baro.feedback.assign import Lease, available, ran_out_before
from baro.feedback.criteria import criteria_of
from baro.feedback.ids import now_ms
from baro.feedback.people import Rater
from baro.feedback.project import Project, latest_guideline
from baro.feedback.render import diff_html, prompt_start, to_html

LEFT = (5, 10, 20, 50, 100, 200, 500, 1000)
"""The number of tasks left is told as the next of these: an exact one would fall with each task of the queue and stand
still with each known answer and hidden repeat. Counting further tells a rater nothing."""
DAY_MS = 86_400_000
DIFF_AT_MOST = 20_000  # characters of both texts together


def task_view(connection: Connection, rater: Rater, project: Project, lease: Lease) -> dict[str, Any]:
    """Everything that the page needs to show one task."""
    assignment, task = _assignment(connection, lease.assignment_id)
    responses = shown_responses(connection, assignment)
    prompt = connection.execute(
        select(schema.prompt.c.messages).where(schema.prompt.c.id == task.prompt_id)
    ).scalar_one()
    texts = [one.text for one in responses]
    shows_diff = project.settings.diff and len(texts) == 2 and sum(map(len, texts)) <= DIFF_AT_MOST
    return {
        "assignment": assignment.id,
        "lease": lease.secret,
        "state": assignment.state,
        "expires_ms": lease.expires_ms,
        "now_ms": now_ms(),
        "purpose": assignment.purpose,
        "kind": task.kind,
        "project": _project(project, task.kind),
        "prompt": [{"role": turn["role"], **_text(turn["content"])} for turn in prompt],
        "responses": [
            {"position": position, "finished": one.finished, **_text(one.text)}
            for position, one in enumerate(responses)
        ],
        "diff": diff_html(*texts) if shows_diff else None,
        "criteria": _criteria(connection, project.id) if task.kind == "criteria" else [],
        "guideline": _guideline(connection, project.id, rater.lang),
        "draft": _draft(connection, assignment.id),
        "before": ran_out_before(connection, assignment.id) if assignment.state == "leased" else None,
        "answer": current_answer(connection, assignment),
        "progress": progress(connection, rater.id, project.id),
    }


def _text(content: str) -> dict[str, str]:
    return {"text": content, "html": to_html(content)}


def _project(project: Project, kind: str) -> dict[str, Any]:
    chosen = project.settings.model_dump(mode="json", include={"diff", "categories", "thumb_reasons"})
    blur = kind == "safety" if project.settings.blur is None else project.settings.blur
    return {"id": project.id, "name": project.name, "blur": blur} | chosen


def _assignment(connection: Connection, assignment_id: str) -> tuple[Row[Any], Row[Any]]:
    assignment = connection.execute(select(schema.assignment).where(schema.assignment.c.id == assignment_id)).one()
    return assignment, connection.execute(select(schema.task).where(schema.task.c.id == assignment.task_id)).one()


def shown_responses(connection: Connection, assignment: Row[Any]) -> list[Row[Any]]:
    """A task's responses in the order of an assignment's screen."""
    item, response = schema.task_item, schema.response
    query = select(item.c.slot, response.c.id, response.c.text, response.c.finished).join(response)
    by_slot = {row.slot: row for row in connection.execute(query.where(item.c.task_id == assignment.task_id))}
    return [by_slot[slot] for slot in assignment.display_order]


def _criteria(connection: Connection, project_id: str) -> list[dict[str, Any]]:
    rows = criteria_of(connection, project_id)
    return [{"key": row.key, "low": row.low, "high": row.high, "labels": row.labels} for row in rows]


def _guideline(connection: Connection, project_id: str, lang: str) -> dict[str, Any] | None:
    row = latest_guideline(connection, project_id, lang)
    return None if row is None else {"id": row.id, "version": row.version}


def guideline_view(connection: Connection, project_id: str, lang: str) -> dict[str, Any] | None:
    """The guideline that a rater reads."""
    row = latest_guideline(connection, project_id, lang)
    if row is None:
        return None
    return {"id": row.id, "version": row.version, "lang": row.lang, "html": to_html(row.body)}


def _draft(connection: Connection, assignment_id: str) -> dict[str, Any] | None:
    row = connection.execute(select(schema.draft).where(schema.draft.c.assignment_id == assignment_id)).first()
    return None if row is None else {"version": row.version, "answer": row.answer}


def progress(connection: Connection, rater_id: str, project_id: str) -> dict[str, int | None]:
    """How many tasks a rater has done here, and at most how many are open to them (None: more than all in LEFT)."""
    query = select(schema.task.c.id).where(available(rater_id, project_id)).limit(LEFT[-1] + 1).subquery()
    left = connection.execute(select(func.count()).select_from(query)).scalar_one()
    return {
        "done": connection.execute(_done(rater_id, project_id)).scalar_one(),
        "left": next((one for one in LEFT if left <= one), None),
    }


def _done(rater_id: str, project_id: str) -> Any:
    assignment = schema.assignment
    return (
        select(func.count()).select_from(assignment).join(schema.task)
        .where(assignment.c.rater_id == rater_id, assignment.c.state.in_(("submitted", "extra")))
        .where(schema.task.c.project_id == project_id)
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- what was said before


def current_judgment(connection: Connection, assignment_id: str) -> Row[Any] | None:
    """The newest revision, None if it was taken back or there is none."""
    table = schema.judgment
    query = select(table).where(table.c.assignment_id == assignment_id).order_by(table.c.revision.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None or row.action == "retract" else row


def current_answer(connection: Connection, assignment: Row[Any]) -> dict[str, Any] | None:
    """What a rater submitted, by position, as the page sent it."""
    row = current_judgment(connection, assignment.id)
    if row is None:
        return None
    at = [one.id for one in shown_responses(connection, assignment)]
    flags = [{"position": at.index(one["response_id"]), "flag": one["flag"]} for one in row.flags]
    said = {"comment": row.comment, "confidence": row.confidence, "flags": flags}
    return {"answer": {"kind": row.kind} | said_by_position(connection, row, at)} | said


def _judged(connection: Connection, table: Any, judgment_id: str) -> list[Row[Any]]:
    return list(connection.execute(select(table).where(table.c.judgment_id == judgment_id)))


def _by_position(connection: Connection, table: Any, judgment_id: str, at: list[str]) -> list[Row[Any]]:
    rows = {row.response_id: row for row in _judged(connection, table, judgment_id)}
    return [rows[one] for one in at]


def said_by_position(connection: Connection, row: Row[Any], at: list[str]) -> dict[str, Any]:
    """What a judgment says, without its kind, as the page sends it; ``at``: the response at each position."""
    pairs = {
        one.dimension: {"outcome": one.outcome, "position": one.position, "strength": one.strength}
        for one in _judged(connection, schema.judged_pair, row.id)
    }
    match row.kind:
        case "pair":
            return {"choice": pairs["overall"]}
        case "rank":
            return {"ranks": [one.rank for one in _by_position(connection, schema.judged_rank, row.id, at)]}
        case "thumb":
            found = _by_position(connection, schema.judged_thumb, row.id, at)
            return {"thumbs": [{"good": one.good, "reasons": one.reasons} for one in found]}
        case "safety":
            found = _by_position(connection, schema.judged_safety, row.id, at)
            fields = ("safe", "severity", "categories")
            return {"marks": [{name: getattr(one, name) for name in fields} for one in found], **pairs}
        case "criteria":
            return {"scores": _scores(connection, row.id, at)}
    return _edit(connection, row.id, at)


def _scores(connection: Connection, judgment_id: str, at: list[str]) -> dict[str, list[int | None]]:
    table = schema.judged_score
    query = select(schema.criterion.c.key, table.c.response_id, table.c.score).join(schema.criterion)
    scores: dict[str, list[int | None]] = {}
    for one in connection.execute(query.where(table.c.judgment_id == judgment_id)):
        scores.setdefault(one.key, [None] * len(at))[at.index(one.response_id)] = one.score
    return scores


def _edit(connection: Connection, judgment_id: str, at: list[str]) -> dict[str, Any]:
    (one,) = _judged(connection, schema.judged_edit, judgment_id)
    edited = schema.response.c.id == one.edited_id
    text = connection.execute(select(schema.response.c.text).where(edited)).scalar_one_or_none()
    return {"position": at.index(one.response_id), "text": text, "critique": one.critique, "spans": one.spans}


def history(
    connection: Connection, rater_id: str, project_id: str, limit: int, since: int | None = None
) -> dict[str, Any]:
    """A rater's own last judgments here, newest first, with how many there are and the active time of this day.

    since: when the day began where the rater is; the day of UTC unless given.
    """
    table, task = schema.judgment, schema.task
    later = table.alias()
    newest = select(func.max(later.c.revision)).where(later.c.assignment_id == table.c.assignment_id).scalar_subquery()
    query = (
        select(table, schema.prompt.c.messages).join(task, task.c.id == table.c.task_id).join(schema.prompt)
        .where(table.c.rater_id == rater_id, task.c.project_id == project_id, table.c.revision == newest)
        .where(table.c.action != "retract").order_by(table.c.event_id.desc()).limit(limit)
    )  # fmt: skip
    items = [
        {
            "assignment": row.assignment_id,
            "kind": row.kind,
            "submitted_ms": row.submitted_ms,
            "prompt_start": prompt_start(row.messages),
            "revision": row.revision,
            "action": row.action,
        }
        for row in connection.execute(query)
    ]
    midnight = now_ms() // DAY_MS * DAY_MS if since is None else since
    today = and_(table.c.rater_id == rater_id, task.c.project_id == project_id, table.c.submitted_ms >= midnight)
    worked = select(func.coalesce(func.sum(table.c.active_ms), 0)).join(task, task.c.id == table.c.task_id)
    spent = connection.execute(worked.where(today)).scalar_one()
    done = connection.execute(_done(rater_id, project_id)).scalar_one()
    return {"done": done, "today_ms": int(spent), "items": items}
