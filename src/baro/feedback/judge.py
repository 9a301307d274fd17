"""Taking a judgment: every one that was acknowledged is in the store, once, and none is ever changed.

A revision is a further judgment of the same assignment, and so is taking it back. The same key sent again gets the same
answer. Work that comes late is kept: it takes a free place, or counts as a vote beyond the overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from baro.feedback import answers, ids, schema
from baro.feedback.adapt import reconsider
from baro.feedback.answers import Submission
from baro.feedback.assign import check_secret, close, counted, own_assignment, take_place
from baro.feedback.criteria import criteria_of
from baro.feedback.database import for_update, log_event
from baro.feedback.ids import new_id, sha256
from baro.feedback.project import project_by_id
from baro.feedback.refusals import Refused


@dataclass(frozen=True)
class Stored:
    """A judgment as it stands in the store. ``new``: false for a key that was sent before."""

    judgment_id: str
    assignment_id: str
    revision: int
    action: str
    submitted_ms: int
    new: bool


def submit(connection: Connection, assignment_id: str, rater_id: str, given: Submission) -> Stored:
    """Store an answer. Refused if it does not fit the task, or if the lease's secret is no longer worth anything."""
    mine = own_assignment(connection, assignment_id, rater_id)  # locked first: the same key twice at once is in turn
    before = _known(connection, given.key, mine, ("submit", "revise"))
    if before is not None:
        return before
    table = schema.task
    task = connection.execute(for_update(connection, select(table).where(table.c.id == mine.task_id), of=table)).one()
    _check(connection, task, given)
    check_secret(mine, given.lease)
    mine = _place(connection, task, mine)
    stored = _store(connection, task, mine, given)
    if mine.purpose == "judge":
        reconsider(connection, project_by_id(connection, task.project_id), task.id)
    return stored


def adjudicate(
    connection: Connection, assignment_id: str, rater_id: str, given: Submission, reason: str, note: str = ""
) -> Stored:
    """Store the answer that settles a disagreement, with why there was one."""
    if reason not in schema.REASONS:
        raise Refused("invalid", f"{reason!r} is no reason; give one of {', '.join(schema.REASONS)}")
    if own_assignment(connection, assignment_id, rater_id).purpose != "adjudicate":
        raise Refused("conflict", "this task was given to you to judge, not to settle")
    stored = submit(connection, assignment_id, rater_id, given)
    if stored.new:
        where = schema.judgment.c.id == stored.judgment_id
        task_id = connection.execute(select(schema.judgment.c.task_id).where(where)).scalar_one()
        row = {"judgment_id": stored.judgment_id, "task_id": task_id, "reason": reason, "note": note}
        connection.execute(insert(schema.adjudication).values(**row))
    return stored


def retract(connection: Connection, assignment_id: str, rater_id: str, secret: str, key: str) -> Stored:
    """Take a judgment back: it stays in the store and counts no more; the task may come to the rater again."""
    mine = own_assignment(connection, assignment_id, rater_id)
    before = _known(connection, key, mine, ("retract",))
    if before is not None:
        return before
    check_secret(mine, secret)
    if mine.state not in ("submitted", "extra"):
        raise Refused("conflict", f"this task is {mine.state}; there is nothing to take back")
    task = connection.execute(select(schema.task).where(schema.task.c.id == mine.task_id)).one()
    stored = _insert(connection, task, mine, {"idempotency_key": key, "action": "retract", "ui_version": ""})
    if mine.state == "submitted" and mine.purpose == "judge":
        take_place(connection, task, +1)
    close(connection, mine, "released")
    return stored


def _known(connection: Connection, key: str, mine: Row[Any], actions: tuple[str, ...]) -> Stored | None:
    table = schema.judgment
    row = connection.execute(select(table).where(table.c.idempotency_key == key)).first()
    if row is None:
        return None
    # A late answer may have gone to the rater's newer assignment of the same task: the task is what must be the same.
    if (row.rater_id, row.task_id) != (mine.rater_id, mine.task_id) or row.action not in actions:
        raise Refused("conflict", "this key was used for another judgment; make a new one for each")
    return _stored(row, new=False)


def _stored(row: Any, *, new: bool) -> Stored:
    return Stored(row.id, row.assignment_id, row.revision, row.action, row.submitted_ms, new)


def _check(connection: Connection, task: Row[Any], given: Submission) -> None:
    """That the answer is one to this task."""
    answer = given.answer
    if answer.kind != task.kind:
        raise Refused("invalid", f"the task is of kind {task.kind}, the answer of kind {answer.kind}")
    count = select(func.count()).select_from(schema.task_item).where(schema.task_item.c.task_id == task.id)
    items = connection.execute(count).scalar_one()
    problems = answer.problems(items)
    if problems and problems[0].startswith("safety_conflict"):
        raise Refused("safety_conflict", problems[0].partition(": ")[2])
    problems += [f"there is no response at position {one.position}" for one in given.flags if one.position >= items]
    if isinstance(answer, answers.CriteriaAnswer):
        problems += _scale_problems(connection, task.project_id, answer)
    if given.guideline_id is not None:
        here = (schema.guideline.c.id == given.guideline_id) & (schema.guideline.c.project_id == task.project_id)
        if connection.execute(select(schema.guideline.c.id).where(here)).first() is None:
            problems.append("there is no such guideline in this project")
    if problems:
        raise Refused("invalid", problems[0], problems=problems)


def _scale_problems(connection: Connection, project_id: str, answer: answers.CriteriaAnswer) -> list[str]:
    known = {row.key: row for row in criteria_of(connection, project_id)}
    problems = [f"there is no criterion {key!r}" for key in answer.scores if key not in known]
    problems += [f"criterion {key!r} has no scores" for key in known if key not in answer.scores]
    for key, row in known.items():
        wrong = [s for s in answer.scores.get(key, []) if s is not None and not row.low <= s <= row.high]
        problems += [f"criterion {key!r} goes from {row.low} to {row.high}, not to {score}" for score in wrong]
    return problems


def _place(connection: Connection, task: Row[Any], mine: Row[Any]) -> Row[Any]:
    """The assignment that the judgment goes to, which holds a place from now on if there is one."""
    there = _newer(connection, mine) if mine.state in schema.GIVEN_UP else None
    if there is not None and there.purpose != mine.purpose:
        raise Refused("conflict", "you have this task for another purpose by now; answer it there")
    mine = there or mine
    if mine.state in ("submitted", "extra"):
        return mine
    if mine.state == "leased" or mine.purpose == "adjudicate" or not counted(task):
        close(connection, mine, "submitted")
    elif task.places > 0:
        take_place(connection, task, -1)
        close(connection, mine, "submitted")
    else:
        close(connection, mine, "extra")
    return mine


def _newer(connection: Connection, mine: Row[Any]) -> Row[Any] | None:
    """The same rater's other assignment of the task, taken after this one ran out; its display order is the same."""
    table = schema.assignment
    query = select(table).where(
        table.c.task_id == mine.task_id, table.c.rater_id == mine.rater_id, table.c.id != mine.id,
        table.c.state.not_in(schema.GIVEN_UP),
    )  # fmt: skip
    return connection.execute(for_update(connection, query, of=table)).first()


# -------------------------------------------------------------------------------------------------------------- storing


def _insert(connection: Connection, task: Row[Any], mine: Row[Any], values: dict[str, Any]) -> Stored:
    table = schema.judgment
    newest = select(func.max(table.c.revision)).where(table.c.assignment_id == mine.id)
    revision = (connection.execute(newest).scalar_one() or 0) + 1
    action = values.pop("action", None) or ("submit" if revision == 1 else "revise")
    made = new_id()
    number = log_event(connection, mine.rater_id, action, "judgment", made, {"assignment": mine.id})
    row = {"id": made, "assignment_id": mine.id, "task_id": task.id, "rater_id": mine.rater_id, "kind": task.kind}
    row |= {"revision": revision, "action": action, "event_id": number, "opened_ms": mine.leased_ms}
    row |= {"submitted_ms": ids.now_ms(), "guideline_id": mine.guideline_id, "changes": 0, "comment": "", "flags": []}
    connection.execute(insert(table).values(**row | values))
    return Stored(made, mine.id, revision, action, row["submitted_ms"], True)


def _store(connection: Connection, task: Row[Any], mine: Row[Any], given: Submission) -> Stored:
    at = _responses(connection, task.id, mine.display_order)
    values = given.model_dump(include={"ui_version", "active_ms", "visible_ms", "changes", "confidence", "comment"})
    values |= {"idempotency_key": given.key, "guideline_id": given.guideline_id or mine.guideline_id}
    values |= {"flags": [{"response_id": at[one.position], "flag": one.flag} for one in given.flags]}
    stored = _insert(connection, task, mine, values)
    key = {"judgment_id": stored.judgment_id, "task_id": task.id}
    for table, rows in _rows(connection, task, mine.rater_id, given.answer, at):
        connection.execute(insert(table), [key | row for row in rows])
    return stored


def _responses(connection: Connection, task_id: str, display_order: list[int]) -> list[str]:
    """The response at each position of the screen."""
    table = schema.task_item
    rows = connection.execute(select(table.c.slot, table.c.response_id).where(table.c.task_id == task_id))
    by_slot = {row.slot: row.response_id for row in rows}
    return [by_slot[slot] for slot in display_order]


def _choice(dimension: str, choice: answers.Choice, at: list[str]) -> dict[str, Any]:
    winner = None if choice.position is None else at[choice.position]
    row = choice.model_dump(include={"outcome", "strength", "position"})
    return row | {"dimension": dimension, "winner_id": winner}


def _rows(
    connection: Connection, task: Row[Any], rater_id: str, answer: Any, at: list[str]
) -> list[tuple[Any, list[dict[str, Any]]]]:
    """An answer as rows of the tables that hold its kind."""
    match answer:
        case answers.PairAnswer():
            return [(schema.judged_pair, [_choice("overall", answer.choice, at)])]
        case answers.RankAnswer():
            ranks = [{"response_id": one, "rank": rank} for one, rank in zip(at, answer.ranks, strict=True)]
            return [(schema.judged_rank, ranks)]
        case answers.ThumbAnswer():
            thumbs = [{"response_id": one} | thumb.model_dump() for one, thumb in zip(at, answer.thumbs, strict=True)]
            return [(schema.judged_thumb, thumbs)]
        case answers.SafetyAnswer():
            marks = [{"response_id": one} | mark.model_dump() for one, mark in zip(at, answer.marks, strict=True)]
            pairs = [_choice("helpful", answer.helpful, at), _choice("safer", answer.safer, at)]
            return [(schema.judged_safety, marks), (schema.judged_pair, pairs)]
        case answers.CriteriaAnswer():
            ids = {row.key: row.id for row in criteria_of(connection, task.project_id)}
            scores = [
                {"response_id": one, "criterion_id": ids[key], "score": score}
                for key, row in answer.scores.items()
                for one, score in zip(at, row, strict=True)
            ]
            return [(schema.judged_score, scores)]
        case answers.EditAnswer():
            return [(schema.judged_edit, [_edit(connection, task, rater_id, answer, at[answer.position])])]
    raise AssertionError(f"{answer.kind} is a kind of answer without a table")


def _edit(
    connection: Connection, task: Row[Any], rater_id: str, answer: answers.EditAnswer, base_id: str
) -> dict[str, Any]:
    """An edit makes a new response; the old one stays as it was."""
    table = schema.response
    base = connection.execute(select(table.c.text).where(table.c.id == base_id)).scalar_one()
    wrong = [one for one in answer.spans if not one.start < one.end <= len(base)]
    if wrong:
        raise Refused("invalid", f"a remark is about characters {wrong[0].start} to {wrong[0].end} of {len(base)}")
    edited = None
    if answer.text is not None:
        if answer.text == base:
            raise Refused("invalid", "the edited text equals the response; leave it out to give a critique alone")
        edited = new_id()
        row = {"id": edited, "prompt_id": task.prompt_id, "author": "human", "rater_id": rater_id, "parent_id": base_id}
        row |= {"text": answer.text, "finished": True, "sha256": sha256(answer.text), "created_ms": ids.now_ms()}
        connection.execute(insert(table).values(**row))
    spans = [one.model_dump() for one in answer.spans]
    return {"response_id": base_id, "edited_id": edited, "critique": answer.critique, "spans": spans}
