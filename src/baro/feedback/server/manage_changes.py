"""What a manager changes of what is there: the project's state, tasks, prompts, and texts that have to go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints
from sqlalchemy import Connection, select

from baro.feedback import changes, schema
from baro.feedback.changes import Action, Kind, TaskState
from baro.feedback.database import Store
from baro.feedback.intake import in_parts
from baro.feedback.people import Rater
from baro.feedback.project import Project
from baro.feedback.redaction import MAX_WHY, redact
from baro.feedback.refusals import Refused
from baro.feedback.server.checked import Body, CheckedRoute
from baro.feedback.server.sessions import Manager, Name, Stored, project_of
from baro.feedback.withdrawals import withdraw_prompts

router = APIRouter(prefix="/api/manage", route_class=CheckedRoute)
One = Annotated[str, StringConstraints(min_length=1, max_length=40)]
SOURCES = 200  # that are told; any other can be written all the same
PROMPTS_AT_ONCE = 100  # in one transaction, with all their tasks


class State(Body):
    """What a project is from now on: open, paused or ended."""

    state: Annotated[str, StringConstraints(max_length=20)]


class Choice(Body):
    """Which tasks: all of these must apply; at least one, or ``all`` for every task of the project."""

    kind: Kind | None = None
    source: str | None = Field(None, max_length=200)
    state: TaskState | None = None
    priority: int | None = None
    tasks: list[One] | None = Field(None, min_length=1, max_length=10_000)
    all: bool = False

    def chosen(self) -> changes.Chosen:
        """Refused where nothing is said: a request that lacks its filter must not change every task."""
        given = self.model_dump(exclude={"all"}, exclude_none=True)
        if bool(given) == self.all:
            raise Refused("invalid", "say which tasks (kind, source, state, priority or tasks), or all: true alone")
        return changes.Chosen.model_validate(given)


class Change(Body):
    """What is to become of which tasks."""

    which: Choice
    action: Action
    value: int | None = None

    def change(self) -> changes.Change:
        """The change by itself."""
        return changes.Change(action=self.action, value=self.value)


class Undo(Body):
    """The events that are taken back, as the change told them."""

    events: list[int] = Field(min_length=1, max_length=10_000)


class Prompts(Body):
    """Prompts by id, and why they count no more."""

    prompts: list[One] = Field(min_length=1, max_length=10_000)
    why: str = Field("", max_length=MAX_WHY)


class Removal(Body):
    """Whose text is removed, and why; ``message``: this one of a prompt's, counted from 1."""

    id: One
    why: str = Field(min_length=1, max_length=MAX_WHY)
    message: int | None = Field(None, ge=1)


@router.post("/projects/{project}/state")
def set_state(store: Stored, manager: Manager, project: Name, given: State) -> Response:
    """Pause, resume or end a project."""

    def work(connection: Connection) -> dict[str, Any]:
        return changes.set_state(connection, project_of(connection, manager, project), given.state, manager.id)

    return JSONResponse(store.write(work))


@router.post("/projects/{project}/tasks/change/preview")
def preview(store: Stored, manager: Manager, project: Name, given: Change) -> Response:
    """How many tasks that would be."""
    chosen, change = given.which.chosen(), given.change()
    with store.read() as connection:
        return JSONResponse(changes.preview(connection, project_of(connection, manager, project), chosen, change))


@router.post("/projects/{project}/tasks/change")
def change_tasks(store: Stored, manager: Manager, project: Name, given: Change) -> Response:
    """Change them; the events say what was, so that it can be undone."""
    chosen, change = given.which.chosen(), given.change()
    found = _project(store, manager, project)
    return JSONResponse(changes.change_tasks(store, found, chosen, change, manager.id))


@router.post("/projects/{project}/tasks/undo")
def undo(store: Stored, manager: Manager, project: Name, given: Undo) -> Response:
    """Take changes of tasks and prompts back, where nobody has changed them since."""
    return JSONResponse(changes.undo(store, _project(store, manager, project), given.events, manager.id))


@router.post("/projects/{project}/prompts/withdraw")
def withdraw(store: Stored, manager: Manager, project: Name, given: Prompts) -> Response:
    """These prompts and all their tasks count no more; what was judged stays."""
    return _prompts(store, manager, project, given, withdrawn=True)


@router.post("/projects/{project}/prompts/restore")
def restore(store: Stored, manager: Manager, project: Name, given: Prompts) -> Response:
    """They count again."""
    return _prompts(store, manager, project, given, withdrawn=False)


def _prompts(store: Store, manager: Rater, project: str, given: Prompts, *, withdrawn: bool) -> Response:
    found = _project(store, manager, project)

    def work(connection: Connection, part: Sequence[str]) -> dict[str, int]:
        return withdraw_prompts(connection, found, part, manager.id, withdrawn=withdrawn, why=given.why)

    done = list(in_parts(store, sorted(set(given.prompts)), work, PROMPTS_AT_ONCE))
    return JSONResponse({name: sum(one[name] for one in done) for name in ("prompts", "tasks", "judgments")})


@router.post("/projects/{project}/redact")
def remove(store: Stored, manager: Manager, project: Name, given: Removal) -> Response:
    """Overwrite a text for ever. Refused with "not_found" for what is in another project."""
    found = _project(store, manager, project)
    return JSONResponse(redact(store, given.id, given.why, manager.id, message=given.message, project_id=found.id))


def _project(store: Store, manager: Rater, project: str) -> Project:
    with store.read() as connection:
        return project_of(connection, manager, project)


@router.get("/projects/{project}/sources")
def sources(store: Stored, manager: Manager, project: Name) -> Response:
    """Where the prompts came from, for a choice of tasks."""
    table = schema.prompt
    with store.read() as connection:
        own = table.c.project_id == project_of(connection, manager, project).id
        query = select(table.c.source).where(own).distinct().order_by(table.c.source).limit(SOURCES + 1)
        found = list(connection.execute(query).scalars())
        return JSONResponse({"sources": found[:SOURCES], "more": len(found) > SOURCES})
