"""What raters go by, and what becomes of it: guidelines, criteria, and what a new version asks again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy import Connection

from baro.feedback import again
from baro.feedback import project as projects
from baro.feedback.answers import MAX_TEXT
from baro.feedback.criteria import Criterion, shipped_criteria
from baro.feedback.criteria import set_criteria as change_criteria
from baro.feedback.refusals import Refused
from baro.feedback.render import diff_html, to_html
from baro.feedback.server import listing
from baro.feedback.server.checked import Body, CheckedRoute
from baro.feedback.server.manager import Kind
from baro.feedback.server.sessions import Id, Limit, Manager, Name, Offset, Stored, check_of, project_of

Lang = Literal["en", "ko"]
router = APIRouter(prefix="/api/manage", route_class=CheckedRoute)


class Guideline(Body):
    """A guideline in Markdown."""

    lang: Lang
    body: str = Field(min_length=1, max_length=MAX_TEXT)


class Text(Body):
    """Some Markdown."""

    text: str = Field(max_length=MAX_TEXT)


class Again(Body):
    """What is asked again: ``which`` of what was judged under an older guideline, and of which kinds; all if none."""

    which: again.Which = "all"
    kinds: list[Kind] = Field([], max_length=6)
    overlap: int | None = Field(None, ge=1, le=50)


# ---------------------------------------------------------------------------------------------------------- guidelines


@router.get("/projects/{project}/guidelines")
def list_guidelines(
    store: Stored, manager: Manager, project: Name, offset: Offset = 0, limit: Limit = 50
) -> Response:  # fmt: skip
    """All versions, the newest first."""
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(listing.guidelines(connection, found.id, offset, limit))


@router.post("/projects/{project}/guidelines")
def publish_guideline(store: Stored, manager: Manager, project: Name, given: Guideline) -> Response:
    """The next version; the same text again is none."""

    def work(connection: Connection) -> dict[str, Any]:
        found = project_of(connection, manager, project)
        made = projects.publish_guideline(connection, found, given.lang, given.body, manager.id)
        row = listing.guideline(connection, made)
        return {"id": row.id, "version": row.version, "lang": row.lang}

    return JSONResponse(store.write(work) | {"html": to_html(given.body)}, 201)


@router.post("/preview")
def preview_markdown(manager: Manager, given: Text) -> Response:
    """Markdown as raters would see it."""
    return JSONResponse({"html": to_html(given.text)})


@router.get("/guidelines/{guideline}/diff/{other}")
def diff_guidelines(store: Stored, manager: Manager, guideline: Id, other: Id) -> Response:
    """In what two versions of one project's guideline differ; null where they are too long to compare."""
    with store.read() as connection:
        one, another = listing.guideline(connection, guideline), listing.guideline(connection, other)
        for found_in in (one, another):
            check_of(connection, manager, found_in.project_id, "guideline")
    if one.project_id != another.project_id:
        raise Refused("invalid", "the guidelines are of two projects")
    found = diff_html(one.body, another.body)
    return JSONResponse({"left": one.version, "right": another.version, "diff": found and list(found)})


@router.get("/projects/{project}/again")
def preview_again(
    store: Stored,
    manager: Manager,
    project: Name,
    which: again.Which = "all",
    kinds: Annotated[list[Kind], Query(max_length=6)] = [],  # noqa: B006
    overlap: Annotated[int | None, Query(ge=1, le=50)] = None,
) -> Response:
    """What asking again would take: tasks, judgments, hours and cost."""
    with store.read() as connection:
        found = project_of(connection, manager, project)
        return JSONResponse(again.preview(connection, found, again.Choice(which, kinds, overlap)))


@router.post("/projects/{project}/again")
def ask_again(store: Stored, manager: Manager, project: Name, given: Again) -> Response:
    """Ask again what was judged under an older guideline; the same call again asks nothing twice."""
    choice = again.Choice(given.which, given.kinds, given.overlap)

    def work(connection: Connection) -> dict[str, int]:
        return again.ask_again(connection, project_of(connection, manager, project), choice, manager.id)

    return JSONResponse(store.write(work))


# ------------------------------------------------------------------------------------------------------------ criteria


@router.get("/criteria")
def shipped(manager: Manager) -> Response:
    """The criteria that come with Baro."""
    return JSONResponse({"criteria": shipped_criteria()})


@router.get("/projects/{project}/criteria")
def list_criteria(store: Stored, manager: Manager, project: Name) -> Response:
    """The criteria in their order."""
    with store.read() as connection:
        return JSONResponse({"criteria": listing.criteria(connection, project_of(connection, manager, project).id)})


@router.put("/projects/{project}/criteria")
def set_criteria(
    store: Stored, manager: Manager, project: Name, given: Annotated[list[Criterion], Field(max_length=50)]
) -> Response:
    """Add criteria, or change the words and weights of known ones."""

    def work(connection: Connection) -> list[dict[str, Any]]:
        found = project_of(connection, manager, project)
        change_criteria(connection, found, [one.model_dump() for one in given], manager.id)
        return listing.criteria(connection, found.id)

    return JSONResponse({"criteria": store.write(work)})
