"""What a manager does about people, and what comes out: raters, invitations, figures, disagreements, exports."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import Field
from sqlalchemy import Connection, func, select
from starlette.background import BackgroundTask

from baro.feedback import assign, habits, ids, people, schema
from baro.feedback.derive import newest_act, newest_event
from baro.feedback.people import DAY_MS, INVITE_DAYS, Rater
from baro.feedback.project import Project, project_by_id
from baro.feedback.refusals import Refused
from baro.feedback.server import listing
from baro.feedback.server.checked import Body, CheckedRoute, Nothing
from baro.feedback.server.figures import Figures
from baro.feedback.server.rater import show
from baro.feedback.server.sessions import Adjudicator, Id, Limit, Manager, Name, Offset, Stored, check_of, project_of

BLIND = ("task", "kind", "prompt", "prompt_start")  # what adjudicators see of a disagreement
router = APIRouter(prefix="/api/manage", route_class=CheckedRoute)


class Invitation(Body):
    """Who is invited: somebody new, ``count`` people, or with ``rater`` who has lost their link or works elsewhere.

    role: in this project; without one somebody new is a rater, and who is known stays what they are.
    """

    pseudonym: str | None = Field(None, min_length=1, max_length=60)
    role: Literal["rater", "adjudicator", "manager"] | None = None
    lang: Literal["en", "ko"] = "ko"
    rater: str | None = Field(None, max_length=60)
    count: int = Field(1, ge=1, le=1000)


class Wanted(Body):
    """An export: its layout and settings."""

    layout: str = Field(min_length=1, max_length=40)
    settings: dict[str, Any] = Field({})


# -------------------------------------------------------------------------------------------------------------- people


@router.get("/projects/{project}/raters")
def list_raters(request: Request, store: Stored, manager: Manager, project: Name) -> Response:
    """Who works here, and the figures of those who have judged something."""
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(
            {"raters": listing.people(connection, found.id), "figures": _figures(request, connection, found, "raters")}
        )


@router.post("/projects/{project}/invites")
def invite(request: Request, store: Stored, manager: Manager, project: Name, given: Invitation) -> Response:
    """A link for each; its token stands after the #, so that no server and no log sees it."""
    if given.count > 1 and (given.rater or given.pseudonym):
        raise Refused("invalid", "a pseudonym and rater are about one person; leave count out")
    address = str(request.base_url).rstrip("/")

    def work(connection: Connection) -> list[dict[str, Any]]:
        found = project_of(connection, manager, project)
        if given.rater is None:
            options = {"role": given.role or "rater", "lang": given.lang, "pseudonym": given.pseudonym}
            options |= {"actor": manager.id}
            invited = [people.add_rater(connection, found.id, **options) for _ in range(given.count)]
        else:
            people.check_theirs(connection, manager, given.rater)
            invited = [people.active_id(people.rater_by_id(connection, given.rater))]
            if given.rater == manager.id and given.role not in (None, "manager"):
                raise Refused("conflict", "you cannot change your own role; another manager can")
            people.add_member(connection, found.id, invited[0], manager.id, given.role)
        names = people.pseudonyms_of(connection, invited)
        tokens = [(one, people.invite(connection, one, actor=manager.id)) for one in invited]
        return [{"rater": one, "pseudonym": names[one], "link": f"{address}/join#{token}"} for one, token in tokens]

    made = store.write(work)
    return JSONResponse(made[0] | {"people": made, "expires_ms": ids.now_ms() + INVITE_DAYS * DAY_MS}, 201)


@router.post("/raters/{rater}/revoke")
def revoke(store: Stored, manager: Manager, rater: Id, given: Nothing) -> Response:
    """End a rater's sessions and invitations; what they judged stays."""
    return _leave(store, manager, rater, people.revoke)


@router.post("/raters/{rater}/erase")
def erase(store: Stored, manager: Manager, rater: Id, given: Nothing) -> Response:
    """Forget who a rater is; what they judged stays."""
    return _leave(store, manager, rater, people.erase)


def _leave(store: Stored, manager: Rater, rater_id: str, end: Any) -> Response:
    def work(connection: Connection) -> None:
        people.rater_by_id(connection, rater_id)
        if rater_id == manager.id:
            raise Refused("conflict", "you cannot end your own access; another manager can")
        people.check_theirs(connection, manager, rater_id)
        end(connection, rater_id, manager.id)

    store.write(work)
    return Response(status_code=204)


# ------------------------------------------------------------------------------------------------------------- figures


@router.get("/projects/{project}/progress")
def progress(request: Request, store: Stored, manager: Manager, project: Name) -> Response:
    """How far it is, and what it cost."""
    return _panel(request, store, manager, project, "progress")


@router.get("/projects/{project}/agreement")
def agreement(
    request: Request,
    store: Stored,
    manager: Manager,
    project: Name,
    guidelines: Literal["all", "newest"] = "all",
    policy: Literal["all", "random"] = "all",
) -> Response:
    """How far raters agree, under every guideline or the newest only, on all tasks or those drawn at random."""
    return _panel(request, store, manager, project, "agreement", guidelines, policy)


@router.get("/projects/{project}/bias")
def bias(request: Request, store: Stored, manager: Manager, project: Name) -> Response:
    """Habits that have nothing to do with the answers."""
    return _panel(request, store, manager, project, "bias")


@router.get("/projects/{project}/bias/{habit}")
def bias_judgments(store: Stored, manager: Manager, project: Name, habit: habits.Habit, limit: Limit = 50) -> Response:
    """The judgments behind one habit's share, the newest first."""
    with store.read() as connection:
        return JSONResponse(habits.judgments(connection, project_of(connection, manager, project), habit, limit))


def _panel(request: Request, store: Stored, manager: Rater, project: str, which: str, *more: Any) -> Response:
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(_figures(request, connection, found, which, *more))


def _figures(request: Request, connection: Connection, project: Project, which: str, *more: Any) -> Any:
    from baro.feedback import panel

    figures: Figures = request.app.state.figures
    state = None if which == "progress" else newest_event(connection)  # tasks are handed out without an event
    compute = partial(getattr(panel, which), connection, project, *more)
    return figures.get((which, project.id, *more), state, newest_act(connection), compute)


# ------------------------------------------------------------------------------------------------------- disagreements


@router.get("/projects/{project}/adjudication")
def adjudication(store: Stored, rater: Adjudicator, project: Name, limit: Limit = 50) -> Response:
    """The tasks on which raters disagree; who settles them does not see who said what."""
    from baro.feedback import panel

    with store.read() as connection:
        here = project_of(connection, rater, project)
        everything, role = panel.disagreements(connection, here, None), people.role_in(connection, rater.id, here.id)
    found = everything[:limit]
    if role != "manager":
        found = [{name: one[name] for name in BLIND} for one in found]
    return JSONResponse({"total": len(everything), "items": found})


@router.post("/tasks/{task}/adjudicate")
def adjudicate(store: Stored, rater: Adjudicator, task: Id, given: Nothing) -> Response:
    """The task, for who settles it."""

    def work(connection: Connection) -> tuple[Project, assign.Lease]:
        project = _project_of_task(connection, rater, task)
        return project, assign.lease_to_adjudicate(connection, task, rater, project)

    return show(store, rater, *store.write(work))


def _project_of_task(connection: Connection, rater: Rater, task_id: str) -> Project:
    found = listing.project_of_task(connection, task_id)
    check_of(connection, rater, found, "task to adjudicate")
    assert found is not None, "what is of no project was refused"
    return project_by_id(connection, found)


# ------------------------------------------------------------------------------------------------------------- exports


@router.post("/projects/{project}/exports/preview")
def preview(store: Stored, manager: Manager, project: Name, given: Wanted) -> Response:
    """The first rows of an export, its counts, and what is left out."""
    from baro.feedback import exports

    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(exports.preview(connection, found, given.layout, given.settings))


@router.post("/projects/{project}/exports")
def export(request: Request, store: Stored, manager: Manager, project: Name, given: Wanted) -> Response:
    """Write an export; its folder's name is the server's."""
    from baro.feedback import exports

    with store.read() as connection:
        found = project_of(connection, manager, project)
    done = exports.write(store, found, given.layout, given.settings, _folder(request), manager.id)
    with store.read() as connection:
        row = connection.execute(select(schema.export).where(schema.export.c.id == done["id"])).one()
    return JSONResponse(_told(row, _here(request)), 201)


def _folder(request: Request) -> Path:
    files: Path = request.app.state.files
    return files / "exports"


def _here(request: Request) -> dict[str, Path]:
    """The folders of the exports that this server has, by their ids; none that became a link."""
    root = _folder(request)
    inside = root.iterdir() if root.is_dir() else ()
    return {one.name.rpartition("-")[2]: one for one in inside if one.is_dir() and not one.is_symlink()}


def _told(row: Any, here: Mapping[str, Path]) -> dict[str, Any]:
    names = ("id", "layout", "settings", "watermark", "rows", "dropped", "sha256", "created_ms", "created_by")
    return {name: getattr(row, name) for name in names} | {"here": row.id in here}


@router.get("/projects/{project}/exports")
def list_exports(
    request: Request,
    store: Stored,
    manager: Manager,
    project: Name,
    offset: Offset = 0,
    limit: Annotated[Limit, Query()] = 50,
) -> Response:
    """Exports, the newest first, and whether they can be downloaded here."""
    table = schema.export
    with store.read() as connection:
        own = table.c.project_id == project_of(connection, manager, project).id
        rows = connection.execute(select(table).where(own).order_by(table.c.id.desc()).offset(offset).limit(limit))
        total = connection.execute(select(func.count()).select_from(table).where(own)).scalar_one()
        here = _here(request)
        items = [_told(row, here) for row in rows]
        return JSONResponse({"total": total, "offset": offset, "items": items})


@router.get("/exports/{export}/download")
def download(request: Request, store: Stored, manager: Manager, export: Id) -> Response:
    """An export's folder as a zip."""
    with store.read() as connection:
        of = select(schema.export.c.project_id).where(schema.export.c.id == export)
        check_of(connection, manager, connection.execute(of).scalar(), "export")
    folder = _here(request).get(export)
    if folder is None:
        raise Refused("not_found", "there is no such export here; the command line may have written it elsewhere")
    packed = tempfile.NamedTemporaryFile(prefix="baro-export-", suffix=".zip", delete=False)  # noqa: SIM115
    with packed, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    ended = BackgroundTask(Path(packed.name).unlink)
    return FileResponse(packed.name, media_type="application/zip", filename=f"{folder.name}.zip", background=ended)
