"""What a manager changes of a project and of the tasks that are there, many at once, and takes back again.

Tasks are chosen by what they are. They are changed by hundreds, each part in a transaction and with an event of its own
that says what every task was before, so that it can be undone: what somebody else has changed since stays as it is.
Tasks with a known answer and hidden repeats stand beside the queue and are never among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from sqlalchemy import Connection, Row, Select, and_, case, exists, func, not_, or_, select, update

from baro.config import Config
from baro.feedback import schema
from baro.feedback.assign import end_leases
from baro.feedback.database import Store, for_update, log_event
from baro.feedback.intake import in_parts
from baro.feedback.project import Project
from baro.feedback.refusals import Refused
from baro.feedback.states import WAY, state_of
from baro.feedback.withdrawals import by_its_prompt, withdraw_prompts, withdraw_tasks

Action = Literal["close", "reopen", "priority", "overlap", "withdraw", "restore"]
TaskState = Literal["open", "full", "closed", "gold", "withdrawn"]
Kind = Literal["pair", "rank", "thumb", "safety", "criteria", "edit"]
INVERSE: dict[str, Action] = {"close": "reopen", "reopen": "close", "withdraw": "restore", "restore": "withdraw"}
RANGES = {"priority": (-1_000_000, 1_000_000), "overlap": (1, 50)}  # of the actions that take a value
AT_ONCE = 500  # tasks in one transaction and one event


class Chosen(Config):
    """Which tasks: those to which all of this applies."""

    kind: Kind | None = Field(None, description="of this kind")
    source: str | None = Field(None, max_length=200, description="whose prompt came from this file")
    state: TaskState | None = Field(None, description="open, full, closed or withdrawn")
    priority: int | None = Field(None, description="of this priority")
    tasks: tuple[str, ...] | None = Field(None, min_length=1, max_length=10_000, description="these, by id")

    def where(self, project_id: str) -> Any:
        """The condition on ``task``; hidden repeats are never chosen."""
        task, prompt = schema.task, schema.prompt
        here = [task.c.project_id == project_id, task.c.repeat_of.is_(None)]
        here += [] if self.kind is None else [task.c.kind == self.kind]
        here += [] if self.priority is None else [task.c.priority == self.priority]
        here += [] if self.state is None else [in_state(self.state)]
        here += [] if self.tasks is None else [task.c.id.in_(self.tasks)]
        if self.source is not None:
            from_there = select(prompt.c.id).where(prompt.c.project_id == project_id, prompt.c.source == self.source)
            here.append(task.c.prompt_id.in_(from_there))
        return and_(*here)


class Change(Config):
    """What is to become of them. ``value``: the new priority or overlap."""

    action: Action
    value: int | None = None

    @model_validator(mode="after")
    def _value_fits(self) -> Change:
        bounds = RANGES.get(self.action)
        if (bounds is None) != (self.value is None):
            raise ValueError(f"{self.action} takes {'no value' if bounds is None else 'a value'}")
        if bounds and not bounds[0] <= (self.value or 0) <= bounds[1]:
            raise ValueError(f"{self.action} lies between {bounds[0]:,} and {bounds[1]:,}, and this is {self.value:,}")
        return self


def in_state(state: TaskState) -> Any:
    """The condition on ``task``: open has free places, full has none, closed is not handed out any more."""
    task = schema.task
    return {
        "open": and_(task.c.open, not_(task.c.withdrawn), task.c.places > 0),
        "full": and_(task.c.open, not_(task.c.withdrawn), task.c.places == 0, not_(task.c.is_gold)),
        "closed": and_(not_(task.c.open), not_(task.c.withdrawn)),
        "gold": and_(task.c.is_gold, task.c.open, not_(task.c.withdrawn)),
        "withdrawn": task.c.withdrawn,
    }[state]


# -------------------------------------------------------------------------------------------------- the project's state


def set_state(connection: Connection, project: Project, state: str, actor: str) -> dict[str, Any]:
    """Open, paused or ended; returns the state, and how many leases ended with it."""
    if state not in schema.STATES:
        raise Refused("invalid", f"a project is {', '.join(schema.STATES[:-1])} or {schema.STATES[-1]}, not {state!r}")
    table, task = schema.project, schema.task
    connection.execute(for_update(connection, select(table.c.id).where(table.c.id == project.id), of=table)).one()
    if state_of(connection, project.id) == state:
        return {"state": state, "leases": 0}
    connection.execute(update(table).where(table.c.id == project.id).values(state=state))
    ended = 0
    if state == "ended":
        own = select(task.c.id).where(task.c.project_id == project.id)
        judging = schema.assignment.c.purpose == "judge"
        ended = end_leases(connection, schema.assignment.c.task_id.in_(own) & judging)
    log_event(connection, actor, WAY[state], "project", project.id, {"leases": ended})
    return {"state": state, "leases": ended}


# --------------------------------------------------------------------------------------------------------- many at once


def preview(connection: Connection, project: Project, chosen: Chosen, change: Change) -> dict[str, int]:
    """How many tasks are chosen, how many would change, and of these: the judgments, and those in somebody's hands."""
    _check_known(connection, project, chosen)
    task, assignment = schema.task, schema.assignment
    all_, some = _ordinary(project, chosen), _changing(project, chosen, change)
    ids = select(task.c.id).where(some)

    def count(query: Select[Any]) -> int:
        return int(connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())

    held = select(assignment.c.id).where(assignment.c.task_id.in_(ids), assignment.c.purpose == "judge")
    return {
        "tasks": count(select(task.c.id).where(all_)),
        "changed": count(ids),
        "judgments": count(held.where(assignment.c.state.in_(("submitted", "extra")))),
        "in_hand": count(held.where(assignment.c.state == "leased")),
    }


def change_tasks(store: Store, project: Project, chosen: Chosen, change: Change, actor: str) -> dict[str, Any]:
    """Change the chosen tasks; returns how many changed, how many were so already, and the numbers of the events."""
    with store.read() as connection:
        _check_known(connection, project, chosen)
        query = select(schema.task.c.id).where(_ordinary(project, chosen)).order_by(schema.task.c.id)
        ids = list(connection.execute(query).scalars())

    def work(connection: Connection, part: Sequence[str]) -> tuple[int, int | None]:
        return _change(connection, project, part, change, actor)

    return _told(len(ids), list(in_parts(store, ids, work, AT_ONCE)))


def undo(store: Store, project: Project, events: Sequence[int], actor: str) -> dict[str, Any]:
    """Take back what these events changed, the last one first, where nobody has changed it since."""
    total, done = 0, []
    for number in sorted(set(events), reverse=True):
        size, parts = store.write(lambda connection, number=number: _undo(connection, project, number, actor))
        total += size
        done += parts
    return _told(total, done)


def _told(size: int, done: Sequence[tuple[int, int | None]]) -> dict[str, Any]:
    changed = sum(n for n, _ in done)
    return {"changed": changed, "same": size - changed, "events": [number for _, number in done if number is not None]}


def _ordinary(project: Project, chosen: Chosen) -> Any:
    return and_(chosen.where(project.id), not_(schema.task.c.is_gold))


def _check_known(connection: Connection, project: Project, chosen: Chosen) -> None:
    """Refused for the id of a task that is not in this project, or that has a known answer."""
    if chosen.tasks is None:
        return
    task = schema.task
    query = select(task.c.id, task.c.is_gold).where(Chosen(tasks=chosen.tasks).where(project.id))
    known = {row.id: row.is_gold for row in connection.execute(query)}
    for one in chosen.tasks:
        if one not in known:
            raise Refused("not_found", f"there is no task {one!r} in this project")
        if known[one]:
            raise Refused("conflict", f"task {one} has a known answer; replace that, or withdraw it first")


def _new_overlap(value: int | None) -> Any:
    """As wanted, and no less than the judgments and leases that a task has."""
    held = schema.task.c.overlap - schema.task.c.places
    return case((held > value, held), else_=value)


def _changing(project: Project, chosen: Chosen, change: Change) -> Any:
    """The condition on tasks that would not stay as they are."""
    return and_(_ordinary(project, chosen), _differs(project, change))


def _differs(project: Project, change: Change) -> Any:
    task, value, later = schema.task, change.value, schema.task.alias()
    match change.action:
        case "close":
            return task.c.open
        case "reopen":
            return and_(not_(task.c.open), not_(exists().where(later.c.again_of == task.c.id)))
        case "withdraw":
            return not_(task.c.withdrawn)
        case "restore":
            return and_(task.c.withdrawn, not_(by_its_prompt(project.id)))
        case "overlap":
            return task.c.overlap != _new_overlap(value)
    return task.c.priority != value


def _change(
    connection: Connection, project: Project, ids: Sequence[str], change: Change, actor: str, **more: Any
) -> tuple[int, int | None]:
    """Change those of some tasks that are not so yet; how many, and the event's number."""
    task = schema.task
    here = _changing(project, Chosen(tasks=tuple(ids)), change)
    query = select(task).where(here).order_by(task.c.id)
    rows = {row.id: row for row in connection.execute(for_update(connection, query, of=task))}
    if not rows:
        return 0, None
    details = {"value": change.value, "former": _former(rows.values(), change), **more}
    number = log_event(connection, actor, change.action, "project", project.id, details)
    if change.action in ("withdraw", "restore"):
        withdraw_tasks(connection, project, sorted(rows), change.action == "withdraw", number)
    else:
        connection.execute(update(task).where(task.c.id.in_(rows)).values(_values(change)))
    return len(rows), number


def _former(rows: Iterable[Row[Any]], change: Change) -> list[dict[str, Any]]:
    """What the tasks are and what they become, those that are alike together."""
    found: dict[tuple[int | None, int | None], list[str]] = {}
    for row in rows:
        was = getattr(row, change.action, None)
        now = max(change.value or 0, row.overlap - row.places) if change.action == "overlap" else change.value
        found.setdefault((was, now), []).append(row.id)
    return [{"was": was, "now": now, "tasks": ids} for (was, now), ids in found.items()]


def _values(change: Change) -> dict[str, Any]:
    task = schema.task
    match change.action:
        case "priority":
            return {"priority": change.value}
        case "overlap":
            wanted = _new_overlap(change.value)
            # what a manager wants is wanted whatever the votes say, unless they have asked for more already
            plain = or_(task.c.first_overlap == task.c.overlap, wanted < task.c.first_overlap)
            first = case((plain, wanted), else_=task.c.first_overlap)
            return {"overlap": wanted, "first_overlap": first, "places": wanted - (task.c.overlap - task.c.places)}
    return {"open": change.action == "reopen"}


def _undo(
    connection: Connection, project: Project, number: int, actor: str
) -> tuple[int, list[tuple[int, int | None]]]:  # fmt: skip
    """How many tasks or prompts an event was about, and what became of them."""
    event = schema.event
    row = connection.execute(select(event).where(event.c.id == number)).first()
    details: Mapping[str, Any] = {} if row is None or row.entity_id != project.id else row.details
    if "former" in details:
        assert row is not None
        return _back(connection, project, row, actor)
    if "prompts" in details:
        assert row is not None
        prompts, withdrawn = details["prompts"], row.action == "restore"
        withdraw_prompts(connection, project, prompts, actor, withdrawn=withdrawn, why=f"undoes event {number}")
        return len(prompts), [(len(prompts), None)]
    raise Refused("not_found", f"event {number} is no change of this project that can be undone")


def _back(connection: Connection, project: Project, row: Any, actor: str) -> tuple[int, list[tuple[int, int | None]]]:
    former: Sequence[Mapping[str, Any]] = row.details["former"]
    done = []
    for part in former:
        still = part["tasks"]
        if row.action in INVERSE:
            change = Change(action=INVERSE[row.action])
        else:
            same = select(schema.task.c.id).where(schema.task.c.id.in_(still), schema.task.c[row.action] == part["now"])
            change, still = Change(action=row.action, value=part["was"]), list(connection.execute(same).scalars())
        if still:
            done.append(_change(connection, project, still, change, actor, undoes=row.id))
    return sum(len(part["tasks"]) for part in former), done
