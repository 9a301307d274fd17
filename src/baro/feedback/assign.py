"""Who judges what: tasks are leased to raters, each rater at most once, each task to no more raters than it wants.

A lease is not a lock that can strand work. It runs out, and whoever asks next frees what has run out; there is no
process in the background. ``places`` of a task is always its overlap less its leased and submitted assignments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, func, insert, literal, not_, or_, select, text, update

from baro.feedback import ids, schema
from baro.feedback.database import for_update, log_event, secret_seed
from baro.feedback.ids import keyed_hash, new_id, new_secret, same_secret, sha256, uniform
from baro.feedback.people import Rater, role_in
from baro.feedback.project import Project, latest_guideline
from baro.feedback.refusals import Refused
from baro.feedback.settings import ProjectSettings
from baro.feedback.states import check_open

REPEAT_AFTER = 10  # other judgments between a task and its hidden repeat
REPEATED_KINDS = ("pair", "safety")  # whose sides can be swapped


@dataclass(frozen=True)
class Lease:
    """An assignment with the secret that lets its rater submit; the secret is told once."""

    assignment_id: str
    secret: str
    expires_ms: int


def claim(connection: Connection, rater: Rater, project: Project) -> Lease | None:
    """The rater's next task: the one they hold already, else a hidden repeat, one with a known answer, or a new one.

    None when nothing is left for them. A task held already gets a new secret, and the older one is worth nothing. A
    rater's own lease that ran out goes on, as long as nobody has been given its place. Refused while the project is
    paused, and after its end.
    """
    now = ids.now_ms()
    check_open(connection, project.id)
    _one_claim_at_a_time(connection, rater.id)
    held = _held(connection, rater.id, project.id, now)
    if held is not None:
        return renew_secret(connection, held.id, project.settings)
    end_leases(connection, schema.assignment.c.expires_ms < now)
    task = _drawn_apart(connection, rater, project) or _next_in_queue(connection, rater.id, project.id)
    return None if task is None else _lease(connection, task, rater, project.settings, now)


def _one_claim_at_a_time(connection: Connection, rater_id: str) -> None:
    """Two windows of one rater must not get two tasks."""
    table = schema.rater
    connection.execute(for_update(connection, select(table.c.id).where(table.c.id == rater_id), of=table)).first()


def _lease(
    connection: Connection, task: Row[Any], rater: Rater, settings: ProjectSettings, now: int, purpose: str = "judge"
) -> Lease:
    secret, made = new_secret(), new_id()
    lease = Lease(made, secret, now + int(settings.lease_minutes * 60_000))
    guideline = latest_guideline(connection, task.project_id, rater.lang)
    row = {"id": made, "task_id": task.id, "rater_id": rater.id, "purpose": purpose, "state": "leased"}
    row |= {"display_order": _display_order(connection, task, rater.id), "lease_sha256": sha256(secret)}
    row |= {"guideline_id": guideline.id if guideline else None, "leased_ms": now, "expires_ms": lease.expires_ms}
    connection.execute(insert(schema.assignment).values(**row))
    _carry_draft(connection, made)
    if purpose == "judge" and counted(task):
        _move_places(connection, [task.id], -1)
    return lease


def counted(task: Any) -> bool:
    """Whether a task's places are counted: tasks with a known answer and hidden repeats stand beside the queue."""
    return not task.is_gold and task.repeat_of is None


def _move_places(connection: Connection, task_ids: list[str], by: int) -> None:
    table = schema.task
    here = table.c.id.in_(task_ids) & not_(table.c.is_gold) & table.c.repeat_of.is_(None)
    connection.execute(update(table).where(here).values(places=table.c.places + by))


def end_leases(connection: Connection, here: Any) -> int:
    """Leases that run out give their places back; those that somebody is answering at this moment are left alone.

    ``here``: which assignments. Returns how many. What is sent late is taken all the same (judge.py).
    """
    table = schema.assignment
    late = select(table.c.id).where(text(schema.LEASED), here)
    late = for_update(connection, late, of=table, skip_locked=True)
    ended = update(table).where(table.c.id.in_(late)).values(state="expired", closed_ms=ids.now_ms())
    freed = connection.execute(ended.returning(table.c.task_id, table.c.purpose)).all()
    for task_id in sorted(row.task_id for row in freed if row.purpose == "judge"):  # sorted: no deadlocks among claims
        _move_places(connection, [task_id], +1)
    return len(freed)


def _held(connection: Connection, rater_id: str, project_id: str, now: int) -> Row[Any] | None:
    """What a rater has in hand; not what ran out and was closed, since nobody is asked that any more."""
    table = schema.assignment
    query = select(table).join(schema.task).where(
        table.c.rater_id == rater_id, table.c.state == "leased", table.c.purpose == "judge",
        schema.task.c.project_id == project_id, or_(table.c.expires_ms >= now, schema.task.c.open),
    )  # fmt: skip
    query = query.order_by(table.c.leased_ms).limit(1)
    return connection.execute(for_update(connection, query, of=table)).first()


def renew_secret(connection: Connection, assignment_id: str, settings: ProjectSettings) -> Lease:
    """A new secret and a new term for an assignment; whoever holds the older secret has lost it."""
    secret = new_secret()
    expires = ids.now_ms() + int(settings.lease_minutes * 60_000)
    here = schema.assignment.c.id == assignment_id
    connection.execute(update(schema.assignment).where(here).values(lease_sha256=sha256(secret), expires_ms=expires))
    return Lease(assignment_id, secret, expires)


# ---------------------------------------------------------------------------------------------------------- which task


def _not_yet(rater_id: str) -> Any:
    """Not seen by this rater, and none of its answers written by them."""
    assignment, item, response = schema.assignment, schema.task_item, schema.response
    seen = exists().where(
        assignment.c.task_id == schema.task.c.id, assignment.c.rater_id == rater_id, text(f"assignment.{schema.KEPT}")
    )
    own = select(item.c.task_id).join(response).where(response.c.rater_id == rater_id)  # few, and looked up once
    return and_(not_(seen), schema.task.c.id.not_in(own))


def available(rater_id: str, project_id: str) -> Any:
    """The queue's tasks that are open to a rater."""
    table = schema.task
    return and_(table.c.project_id == project_id, text(schema.QUEUED), _not_yet(rater_id))


def _next_in_queue(connection: Connection, rater_id: str, project_id: str) -> Row[Any] | None:
    table = schema.task
    query = select(table).where(available(rater_id, project_id))
    query = query.order_by(table.c.priority.desc(), table.c.order_key).limit(1)
    found = connection.execute(for_update(connection, query, of=table, skip_locked=True)).first()
    if found is not None or connection.dialect.name != "postgresql":
        return found
    # What is left may be in the hands of others for a moment: who says "nothing left" has waited for them.
    return connection.execute(for_update(connection, query, of=table)).first()


def _drawn_apart(connection: Connection, rater: Rater, project: Project) -> Row[Any] | None:
    """Now and then a hidden repeat or a task with a known answer; drawn for each number of tasks that a rater had."""
    settings = project.settings
    if not (settings.repeat_fraction or settings.gold_fraction):
        return None
    if role_in(connection, rater.id, project.id) == "manager":
        return None
    table = schema.assignment
    mine = select(func.count()).select_from(table).where(table.c.rater_id == rater.id)
    drawn = uniform(secret_seed(connection), "apart", rater.id, connection.execute(mine).scalar_one())
    if drawn < settings.repeat_fraction:
        return _repeat(connection, rater.id, project.id)
    if drawn < settings.repeat_fraction + settings.gold_fraction:
        gold = select(schema.task).where(
            schema.task.c.project_id == project.id, schema.task.c.is_gold, schema.task.c.open,
            not_(schema.task.c.withdrawn), _not_yet(rater.id),
        )  # fmt: skip
        return connection.execute(gold.order_by(schema.task.c.order_key).limit(1)).first()
    return None


def _repeat(connection: Connection, rater_id: str, project_id: str) -> Row[Any] | None:
    """A copy of a task that the rater judged at least REPEAT_AFTER judgments ago, for them alone."""
    task, assignment, judgment = schema.task, schema.assignment, schema.judgment
    copies = task.alias()
    repeated = exists().where(copies.c.repeat_of == task.c.id, copies.c.reserved_for == rater_id)
    query = (
        select(task).select_from(
            task.join(assignment, assignment.c.task_id == task.c.id)
            .join(judgment, judgment.c.assignment_id == assignment.c.id)
        )
        .where(judgment.c.revision == 1)
        .where(assignment.c.rater_id == rater_id, assignment.c.state == "submitted", assignment.c.purpose == "judge")
        .where(task.c.project_id == project_id, task.c.kind.in_(REPEATED_KINDS), not_(task.c.is_gold))
        .where(task.c.repeat_of.is_(None), not_(task.c.withdrawn), not_(repeated))
        .order_by(judgment.c.event_id.desc()).offset(REPEAT_AFTER).limit(1)
    )  # fmt: skip
    first = connection.execute(query).first()
    if first is None:
        return None
    made = new_id()
    row = first._asdict() | {"id": made, "repeat_of": first.id, "reserved_for": rater_id, "again_of": None}
    row |= {"overlap": 1, "first_overlap": 1, "places": 0}
    connection.execute(insert(task).values(**row | {"created_ms": ids.now_ms()}))
    items = connection.execute(select(schema.task_item).where(schema.task_item.c.task_id == first.id)).all()
    connection.execute(insert(schema.task_item), [one._asdict() | {"task_id": made} for one in items])
    return connection.execute(select(task).where(task.c.id == made)).one()


# --------------------------------------------------------------------------------------------------------------- sides


def _display_order(connection: Connection, task: Row[Any], rater_id: str) -> list[int]:
    """Which slot stands at each position: a secret random order for the task, mirrored for every second rater.

    Of the orders of a task (rotations of one permutation, each with its mirror image) the one is taken that the fewest
    raters have seen, so that two raters of a pair always see it from both sides. A repeat mirrors what was seen first.
    Who gets a task again sees it as before: what they send late, from an older window, means the same.
    """
    table = schema.assignment
    query = select(table.c.rater_id, table.c.state, table.c.display_order)
    seen = connection.execute(query.where(table.c.task_id == (task.repeat_of or task.id))).all()
    own = [row.display_order for row in seen if row.rater_id == rater_id]
    if task.repeat_of is not None:
        return own[0][::-1]
    if own:
        return own[0]
    items = select(func.count()).select_from(schema.task_item).where(schema.task_item.c.task_id == task.id)
    orders = orders_of(secret_seed(connection), task.order_key, connection.execute(items).scalar_one())
    opened = Counter(tuple(row.display_order) for row in seen)  # who let it go may yet come back
    held = Counter(tuple(row.display_order) for row in seen if row.state not in schema.GIVEN_UP)
    return min(orders, key=lambda one: (held[tuple(one)], opened[tuple(one)]))


def orders_of(seed: str, order_key: str, items: int) -> list[list[int]]:
    """The orders in which a task is shown, in the order of their use."""
    base = sorted(range(items), key=lambda slot: keyed_hash(seed, "order", order_key, slot))
    orders: list[list[int]] = []
    for turn in range(items):
        rotated = base[turn:] + base[:turn]
        orders += [one for one in (rotated, rotated[::-1]) if one not in orders]
    return orders


# ---------------------------------------------------------------------------------------- while a rater holds an answer


def own_assignment(connection: Connection, assignment_id: str, rater_id: str, secret: str | None = None) -> Row[Any]:
    """An assignment of this rater, locked; Refused for anybody else's, and for a secret that is worth nothing."""
    table = schema.assignment
    query = select(table).where(table.c.id == assignment_id, table.c.rater_id == rater_id)
    row = connection.execute(for_update(connection, query, of=table)).first()
    if row is None:
        raise Refused("not_found", "there is no such assignment of yours")
    if secret is not None:
        check_secret(row, secret)
    return row


def check_secret(row: Row[Any], secret: str) -> None:
    """Refused for a secret that a newer one has replaced."""
    if not same_secret(secret, row.lease_sha256):
        raise Refused("lease_lost", "this task was opened again elsewhere, in another window perhaps")


def renew(connection: Connection, assignment_id: str, rater_id: str, secret: str, settings: ProjectSettings) -> int:
    """A new term for a lease that still holds; returns when it ends."""
    row = own_assignment(connection, assignment_id, rater_id, secret)
    if row.state != "leased":
        raise Refused("lease_lost", f"this task is {row.state}; what you submit is taken all the same")
    expires = ids.now_ms() + int(settings.lease_minutes * 60_000)
    connection.execute(update(schema.assignment).where(schema.assignment.c.id == row.id).values(expires_ms=expires))
    return expires


def give_back(
    connection: Connection,
    assignment_id: str,
    rater_id: str,
    secret: str,
    *,
    skip_reason: str | None = None,
    told: Mapping[str, Any] | None = None,
) -> None:
    """End a lease without an answer. A skipped task is not shown to this rater again; a released one may be.

    told: what else the rater said of a task that they skip, for its event.
    """
    row = own_assignment(connection, assignment_id, rater_id, secret)
    if row.state != "leased":
        raise Refused("conflict", f"this task is {row.state} already")
    state = "released" if skip_reason is None else "skipped"
    close(connection, row, state, skip_reason=skip_reason)
    if row.purpose == "judge":
        _move_places(connection, [row.task_id], +1)
    details = {"reason": skip_reason, **(told or {})} if skip_reason else {}
    log_event(connection, rater_id, state, "assignment", row.id, details)


def close(connection: Connection, row: Row[Any], state: str, **values: Any) -> None:
    """Set how an assignment ended."""
    here = schema.assignment.c.id == row.id
    connection.execute(update(schema.assignment).where(here).values(state=state, closed_ms=ids.now_ms(), **values))


def take_place(connection: Connection, task: Row[Any], by: int) -> None:
    """Count a place of the task as taken (-1) or free (+1), where places are counted."""
    if counted(task):
        _move_places(connection, [task.id], by)


def lease_to_adjudicate(connection: Connection, task_id: str, rater: Rater, project: Project) -> Lease:
    """The task for who settles a disagreement: beside its places, and refused to who has judged it or still may, and to
    the author of one of its answers."""
    _one_claim_at_a_time(connection, rater.id)
    table = schema.assignment
    here = (schema.task.c.id == task_id) & (schema.task.c.project_id == project.id)
    task = connection.execute(select(schema.task).where(here)).first()
    if task is None or task.repeat_of is not None:
        raise Refused("not_found", "there is no such task to adjudicate")
    if task.withdrawn:
        raise Refused("conflict", "this task was withdrawn; there is nothing to settle any more")
    mine = select(table).where(table.c.task_id == task_id, table.c.rater_id == rater.id).order_by(table.c.leased_ms)
    had = connection.execute(mine).all()
    if any(row.purpose == "judge" and row.state != "released" for row in had):
        raise Refused("conflict", "you have had this task to judge yourself; somebody else has to settle it")
    busy = (table.c.task_id == task_id) & (table.c.purpose == "adjudicate") & (table.c.rater_id != rater.id)
    others = select(table.c.id).where(busy, text(schema.LEASED), table.c.expires_ms >= ids.now_ms())
    if connection.execute(others).first() is not None:
        raise Refused("conflict", "somebody else is settling this task just now; take another one")
    item, response = schema.task_item, schema.response
    own = select(item.c.slot).join(response).where(item.c.task_id == task_id, response.c.rater_id == rater.id)
    if connection.execute(own).first() is not None:
        raise Refused("conflict", "one of its answers is an edit of yours; somebody else has to settle it")
    held = [row for row in had if row.state not in schema.GIVEN_UP]
    if held:
        return renew_secret(connection, held[0].id, project.settings)
    return _lease(connection, task, rater, project.settings, ids.now_ms(), "adjudicate")


# -------------------------------------------------------------------------------------------------------------- drafts


def save_draft(
    connection: Connection, assignment_id: str, rater_id: str, secret: str, version: int, answer: dict[str, Any]
) -> int:
    """Keep what is being written; returns the new version. Refused with the newer one if there is one."""
    own_assignment(connection, assignment_id, rater_id, secret)
    table = schema.draft
    found = connection.execute(select(table).where(table.c.assignment_id == assignment_id)).first()
    if (found.version if found else 0) != version:
        raise Refused(
            "stale_draft", "a newer draft of this answer is there", version=found.version if found else 0,
            answer=found.answer if found else None,
        )  # fmt: skip
    values = {"version": version + 1, "answer": answer, "updated_ms": ids.now_ms()}
    if found is None:
        connection.execute(insert(table).values(assignment_id=assignment_id, **values))
    else:
        connection.execute(update(table).where(table.c.assignment_id == assignment_id).values(**values))
    return version + 1


def ran_out_before(connection: Connection, assignment_id: str) -> str | None:
    """The rater's assignment of the same task before this one, if its lease ran out: what was written there goes on."""
    table = schema.assignment
    mine = table.alias()
    query = select(table.c.id, table.c.state).join(
        mine, and_(table.c.task_id == mine.c.task_id, table.c.rater_id == mine.c.rater_id, table.c.id != mine.c.id)
    )
    query = query.where(mine.c.id == assignment_id, table.c.purpose == mine.c.purpose)
    row = connection.execute(query.order_by(table.c.leased_ms.desc(), table.c.id.desc()).limit(1)).first()
    return row.id if row is not None and row.state == "expired" else None


def _carry_draft(connection: Connection, assignment_id: str) -> None:
    """A draft goes on in its version, so that a browser which kept a newer one knows that it is newer."""
    table = schema.draft
    before = ran_out_before(connection, assignment_id)
    if before is None:
        return
    row = select(literal(assignment_id), table.c.version, table.c.answer, table.c.updated_ms)
    row = row.where(table.c.assignment_id == before)
    connection.execute(insert(table).from_select(["assignment_id", "version", "answer", "updated_ms"], row))
