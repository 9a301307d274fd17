"""What a manager puts in and looks at: projects, prompts, answers, tasks, known answers."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from baro.data.chat_logs import Personal
from baro.feedback import people
from baro.feedback import project as projects
from baro.feedback.answers import AnyAnswer
from baro.feedback.changes import Chosen, Kind, TaskState
from baro.feedback.database import Store
from baro.feedback.gold import make_gold, replace_gold, withdraw_gold
from baro.feedback.intake import ChatLog, Source, take
from baro.feedback.people import Rater
from baro.feedback.refusals import Refused
from baro.feedback.server import listing
from baro.feedback.server.checked import Body, CheckedRoute, Nothing
from baro.feedback.server.jobs import Draw, Job, Jobs
from baro.feedback.server.sessions import Id, Limit, Manager, Name, Offset, Stored, check_of, project_of
from baro.feedback.settings import ProjectSettings
from baro.feedback.states import state_of

MAX_TASKS = 100_000
Short = Annotated[str, StringConstraints(max_length=200)]
router = APIRouter(prefix="/api/manage", route_class=CheckedRoute)


class NewProject(Body):
    """A project's name and what differs from the usual settings."""

    name: str = Field(min_length=1, max_length=100)
    settings: dict[str, Any] = Field({})


class Changes(Body):
    """Settings that change."""

    settings: dict[str, Any]


class Chat(Body):
    """The conditions under which people's conversations become prompts."""

    personal: Personal = "drop"
    all_agreed: bool = False


class Rows(Body):
    """Rows of any layout, or a file's text. ``name``: what the source is called from now on."""

    name: str = Field("upload", min_length=1, max_length=200)
    rows: list[dict[str, Any]] | None = Field(None, min_length=1)
    text: str | None = Field(None, min_length=1)
    format: Literal["jsonl", "json", "csv"] = "jsonl"


class Prompts(Rows):
    """Rows with prompts; with ``chat`` every turn of a person's is one."""

    chat: Chat | None = None


class Answers(Rows):
    """Rows with answers, and who wrote them."""

    model: str = Field(min_length=1, max_length=200)
    settings: dict[str, Any] = Field({})


class Generate(Body):
    """What to draw, and for which prompts: all unless given."""

    policies: list[dict[str, Any]] = Field(min_length=1, max_length=20)
    prompts: list[Short] | None = Field(None, min_length=1, max_length=100_000)


class Tasks(Body):
    """Which tasks to make of the answers that are there."""

    kind: Kind
    overlap: int | None = Field(None, ge=1, le=50)
    per_prompt: int = Field(1, ge=1, le=100)
    size: int | None = Field(None, ge=1, le=9)
    priority: int = Field(0, ge=-1_000_000, le=1_000_000)
    seed: int = Field(0, ge=0, le=2**31)
    prompts: list[Short] | None = Field(None, min_length=1, max_length=100_000)
    policy: Literal["random"] = "random"


class Gold(Body):
    """A task's known answer: in the words of an answer, slots for positions."""

    task: Short
    answer: AnyAnswer
    note: str = Field("", max_length=2000)


class Withdrawn(Body):
    """A task whose known answer is taken back, and why."""

    task: Short
    note: str = Field("", max_length=2000)


# ------------------------------------------------------------------------------------------------------------ projects


@router.get("/projects")
def list_projects(store: Stored, manager: Manager) -> Response:
    """The projects that this person manages, with their counts; who manages all of them may create others."""
    with store.read() as connection:
        theirs = {one["id"] for one in people.projects_of(connection, manager, "manager")}
        creates = people.manages_all(connection, manager.id)
        return JSONResponse({"projects": listing.projects(connection, theirs), "may_create": creates})


@router.post("/projects")
def create_project(store: Stored, manager: Manager, given: NewProject) -> Response:
    """A new project."""
    settings = ProjectSettings.model_validate(given.settings)

    def work(connection: Connection) -> dict[str, Any]:
        if not people.manages_all(connection, manager.id):
            raise Refused("forbidden", "this is for managers of the whole store")
        return _told(connection, projects.create_project(connection, given.name, settings, manager.id))

    return JSONResponse(store.write(work), 201)


@router.get("/projects/{project}")
def get_project(store: Stored, manager: Manager, project: Name) -> Response:
    """A project with its settings."""
    with store.read() as connection:
        return JSONResponse(_told(connection, project_of(connection, manager, project)))


@router.patch("/projects/{project}")
def change_project(store: Stored, manager: Manager, project: Name, given: Changes) -> Response:
    """New settings from now on."""

    def work(connection: Connection) -> dict[str, Any]:
        found = project_of(connection, manager, project)
        settings = projects.change_settings(connection, found, given.settings, manager.id)
        return _told(connection, projects.Project(found.id, found.name, settings))

    return JSONResponse(store.write(work))


def _told(connection: Connection, project: projects.Project) -> dict[str, Any]:
    settings = project.settings.model_dump(mode="json")
    return {"id": project.id, "name": project.name, "state": state_of(connection, project.id), "settings": settings}


@router.get("/projects/{project}/events")
def list_events(store: Stored, manager: Manager, project: Name, offset: Offset = 0, limit: Limit = 50) -> Response:
    """What happened, the newest first."""
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(listing.events(connection, found.id, offset, limit))


# ------------------------------------------------------------------------------------------------- prompts and answers


@router.post("/projects/{project}/prompts")
def add_prompts(store: Stored, manager: Manager, project: Name, given: Prompts) -> Response:
    """Prompts, of any layout that holds some."""
    chat = None if given.chat is None else ChatLog(**given.chat.model_dump())
    return _take(store, manager, project, given, Source(given.name, prompts_only=True, chat=chat))


@router.get("/projects/{project}/prompts")
def list_prompts(store: Stored, manager: Manager, project: Name, offset: Offset = 0, limit: Limit = 50) -> Response:
    """Prompts in the order in which they came."""
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(listing.prompts(connection, found.id, offset, limit))


@router.post("/projects/{project}/responses")
def add_responses(store: Stored, manager: Manager, project: Name, given: Answers) -> Response:
    """Answers of one model, with the prompts that are new."""
    return _take(store, manager, project, given, Source(given.name, given.model, given.settings))


def _take(store: Stored, manager: Manager, project: Name, given: Rows, source: Source) -> Response:
    if (given.rows is None) == (given.text is None):
        raise Refused("invalid", "give either rows or text")
    with store.read() as connection:
        found = project_of(connection, manager, project)
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in given.rows or ())
    suffix = given.format if given.text is not None else "jsonl"
    return JSONResponse(take(store, found, given.text or lines, suffix, source, manager.id))


@router.get("/policies")
def list_policies(request: Request, manager: Manager) -> Response:
    """What answers can be drawn from, by the names that the server's operator gave."""
    return JSONResponse({"policies": sorted(_jobs(request).policies)})


@router.post("/projects/{project}/generate")
def generate(request: Request, store: Stored, manager: Manager, project: Name, given: Generate) -> Response:
    """Draw answers; goes on by itself."""
    draws = [Draw.model_validate(one) for one in given.policies]
    with store.read() as connection:
        found = project_of(connection, manager, project)
        prompts = listing.messages(connection, found.id, given.prompts)
    return JSONResponse({"job": _jobs(request).start(found, draws, prompts, manager.id)}, 202)


@router.get("/jobs/{job}")
def get_job(request: Request, store: Stored, manager: Manager, job: Id) -> Response:
    """How far a job is."""
    return JSONResponse(_job(request, store, manager, job).to_json())


@router.post("/jobs/{job}/again")
def start_job_again(request: Request, store: Stored, manager: Manager, job: Id, given: Nothing) -> Response:
    """Start a job again that was cut short, from where it was left."""
    _jobs(request).again(_job(request, store, manager, job).folder.name)
    return get_job(request, store, manager, job)


@router.post("/jobs/{job}/cancel")
def cancel_job(request: Request, store: Stored, manager: Manager, job: Id, given: Nothing) -> Response:
    """End a job for good; what was imported before stays."""
    _jobs(request).cancel(_job(request, store, manager, job).folder.name, manager.id)
    return get_job(request, store, manager, job)


def _job(request: Request, store: Store, manager: Rater, job_id: str) -> Job:
    """A job of a project that this person manages."""
    found = _jobs(request).get(job_id)
    with store.read() as connection:
        check_of(connection, manager, found.project_id, "job")
    return found


@router.get("/projects/{project}/jobs")
def list_jobs(request: Request, store: Stored, manager: Manager, project: Name) -> Response:
    """A project's last jobs, the newest first."""
    with store.read() as connection:
        found = project_of(connection, manager, project)
    return JSONResponse({"jobs": [job.to_json() for job in _jobs(request).of(found.id)]})


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


# --------------------------------------------------------------------------------------------------------------- tasks


@router.post("/projects/{project}/tasks")
def make_tasks(store: Stored, manager: Manager, project: Name, given: Tasks) -> Response:
    """Tasks of the answers that are there; prompts that have too few are named."""
    wanted = given.model_dump(exclude={"kind", "policy"})

    def work(connection: Connection) -> dict[str, Any]:
        found = project_of(connection, manager, project)
        done = projects.make_tasks(connection, found, given.kind, **wanted, actor=manager.id)
        if done.added > MAX_TASKS:
            raise Refused("invalid", f"that would be {done.added:,} tasks at once; make at most {MAX_TASKS:,}")
        return {"added": done.added, "known": done.known, "refused": [one.to_json() for one in done.refused]}

    return JSONResponse(store.write(work))


@router.get("/projects/{project}/tasks")
def list_tasks(
    store: Stored,
    manager: Manager,
    project: Name,
    state: Annotated[TaskState | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
    source: Annotated[str | None, Query(max_length=200)] = None,
    priority: Annotated[int | None, Query(ge=-1_000_000, le=1_000_000)] = None,
    offset: Offset = 0,
    limit: Limit = 50,
) -> Response:
    """The tasks to which all of this applies, in the order in which they are handed out."""
    chosen = Chosen(state=state, kind=kind, source=source, priority=priority)
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(listing.tasks(connection, found.id, chosen, offset, limit))


@router.get("/tasks/{task}")
def get_task(store: Stored, manager: Manager, task: Id) -> Response:
    """Everything about a task: who wrote what, and who said what."""
    with store.read() as connection:
        check_of(connection, manager, listing.project_of_task(connection, task), "task")
        return JSONResponse(listing.task(connection, task))


@router.post("/projects/{project}/gold")
def add_gold(store: Stored, manager: Manager, project: Name, given: Gold) -> Response:
    """Tell the answer to a task, or to a copy where it was handed out already; it comes up now and then from now on."""

    def work(connection: Connection) -> str:
        found = project_of(connection, manager, project)
        return make_gold(connection, found, given.task, given.answer, given.note, manager.id)

    return JSONResponse({"task": store.write(work)}, 201)


@router.put("/projects/{project}/gold")
def change_gold(store: Stored, manager: Manager, project: Name, given: Gold) -> Response:
    """Replace a task's known answer, for those who have judged it, too."""

    def work(connection: Connection) -> None:
        found = project_of(connection, manager, project)
        replace_gold(connection, found, given.task, given.answer, given.note, manager.id)

    store.write(work)
    return JSONResponse({"task": given.task})


@router.post("/projects/{project}/gold/withdraw")
def take_gold_back(store: Stored, manager: Manager, project: Name, given: Withdrawn) -> Response:
    """Withdraw a known answer; tells the task that is asked like any other in its place, if there is none already."""

    def work(connection: Connection) -> str | None:
        found = project_of(connection, manager, project)
        return withdraw_gold(connection, found, given.task, given.note, manager.id)

    return JSONResponse({"task": store.write(work)})
