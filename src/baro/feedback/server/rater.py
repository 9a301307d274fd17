"""What a rater's page and programs call: the next task, answers, drafts, their own history."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy import Connection, Row, select

from baro.feedback import assign, judge, people, schema, view
from baro.feedback.answers import MAX_TEXT, Flag, Submission
from baro.feedback.catalogue import LANGUAGES, catalogue
from baro.feedback.judge import Stored as Judgment
from baro.feedback.people import Rater
from baro.feedback.project import Project, project_by_id
from baro.feedback.refusals import Refused
from baro.feedback.server import listing
from baro.feedback.server.checked import Body, CheckedRoute, Nothing
from baro.feedback.server.sessions import (
    MAX_TOKEN,
    Adjudicator,
    Id,
    Name,
    SignedIn,
    Stored,
    check_of,
    drop_cookie,
    project_of,
    set_cookie,
    token_of,
)

MAX_DRAFT = 2_000_000  # bytes of JSON
OPEN_AGAIN = ("leased", "expired", "submitted", "extra")
router = APIRouter(prefix="/api", route_class=CheckedRoute)


class Invite(Body):
    """The secret of an invitation's link; ``verifier``: one's own, the same for every attempt to send this."""

    token: str = Field(min_length=1, max_length=MAX_TOKEN)
    verifier: str | None = Field(None, min_length=32, max_length=MAX_TOKEN)


class Language(Body):
    """A language of the page."""

    lang: Literal["en", "ko"]


class Held(Body):
    """The secret of a lease."""

    lease: str = Field(max_length=MAX_TOKEN)


class Skip(Held):
    """Why a task is not judged, and what is to be told of it all the same."""

    reason: str = Field(min_length=1, max_length=2000)
    comment: str = Field("", max_length=MAX_TEXT)
    flags: list[Flag] = Field([], max_length=30)


class Draft(Held):
    """What is being written, and the version that it was made from."""

    version: int = Field(ge=0, le=1_000_000_000)
    answer: dict[str, Any]


class Retraction(Held):
    """``key``: the same for every attempt to take this judgment back."""

    key: str = Field(min_length=8, max_length=100)


class Settled(Body):
    """An answer that settles a disagreement, and why there was one."""

    submission: Submission
    reason: Literal["ambiguous", "guideline_gap", "rater_error", "subjective"]
    note: str = Field("", max_length=10_000)


# ------------------------------------------------------------------------------------------------------ who is working


@router.post("/session")
def open_session(request: Request, store: Stored, given: Invite) -> Response:
    """A session for an invitation that nobody has used; the same one for who asks again with the same verifier."""

    def work(connection: Connection) -> tuple[str, dict[str, Any]]:
        token = people.redeem(connection, given.token, given.verifier)
        return token, me_json(connection, people.who(connection, token))

    token, me = store.write(work)
    response = JSONResponse({"rater": me}, 201)
    set_cookie(request, response, token)
    return response


@router.delete("/session")
def close_session(request: Request, store: Stored, rater: SignedIn) -> Response:
    """Take the session back."""
    token = token_of(request)
    assert token is not None, "who is signed in has one"
    store.write(lambda connection: people.close_session(connection, token))
    response = Response(status_code=204)
    drop_cookie(request, response)
    return response


@router.get("/me")
def me(store: Stored, rater: SignedIn) -> Response:
    """Who is asking."""
    with store.read() as connection:
        return JSONResponse(me_json(connection, rater))


@router.patch("/me")
def change_me(store: Stored, rater: SignedIn, given: Language) -> Response:
    """The language of the page."""

    def work(connection: Connection) -> dict[str, Any]:
        people.set_lang(connection, rater.id, given.lang)
        return me_json(connection, rater) | {"lang": given.lang}

    return JSONResponse(store.write(work))


def me_json(connection: Connection, rater: Rater) -> dict[str, Any]:
    """A rater as they see themselves."""
    who = {"id": rater.id, "pseudonym": rater.pseudonym, "lang": rater.lang}
    who |= {"manages_all": people.manages_all(connection, rater.id)}
    return who | {"projects": people.projects_of(connection, rater)}


@router.get("/texts/{lang}")
def texts(lang: str) -> Response:
    """The words of the pages, for anybody."""
    if lang not in LANGUAGES:
        raise Refused("not_found", f"the languages are {', '.join(LANGUAGES)}")
    return JSONResponse(dict(catalogue(lang)))


# --------------------------------------------------------------------------------------------------------------- tasks


@router.post("/projects/{project}/next")
def next_task(store: Stored, rater: SignedIn, project: Name, given: Nothing) -> Response:
    """The next task, or the one that is held already under a new lease."""

    def work(connection: Connection) -> tuple[Project, assign.Lease | None]:
        found = project_of(connection, rater, project)
        return found, assign.claim(connection, rater, found)

    found, lease = store.write(work)
    return Response(status_code=204) if lease is None else show(store, rater, found, lease)


def show(store: Stored, rater: Rater, project: Project, lease: assign.Lease) -> Response:
    """A task under a lease; rendered after the transaction that made it, which others wait for."""
    with store.read() as connection:
        return JSONResponse(view.task_view(connection, rater, project, lease))


@router.get("/assignments/{assignment}")
def look(store: Stored, rater: SignedIn, assignment: Id) -> Response:
    """A task of one's own as it stands, without a lease."""
    with store.read() as connection:
        mine, project = _mine(connection, rater, assignment)
        seen = view.task_view(connection, rater, project, assign.Lease(mine.id, "", mine.expires_ms))
        return JSONResponse(seen | {"lease": None})


@router.post("/assignments/{assignment}/open")
def open_again(store: Stored, rater: SignedIn, assignment: Id, given: Nothing) -> Response:
    """A task of one's own under a new lease: to revise what was submitted, or to go on in this window."""

    def work(connection: Connection) -> tuple[Project, assign.Lease]:
        mine, project = _mine(connection, rater, assignment)
        if mine.state not in OPEN_AGAIN:
            raise Refused("conflict", f"this task is {mine.state}; ask for the next one")
        return project, assign.renew_secret(connection, mine.id, project.settings)

    return show(store, rater, *store.write(work))


def _mine(connection: Connection, rater: Rater, assignment_id: str) -> tuple[Row[Any], Project]:
    """An assignment of the rater's own with its project."""
    table, task = schema.assignment, schema.task
    query = select(table, task.c.project_id).join(task).where(table.c.id == assignment_id)
    row = connection.execute(query.where(table.c.rater_id == rater.id)).first()
    if row is None:
        raise Refused("not_found", "there is no such assignment of yours")
    return row, project_by_id(connection, row.project_id)


@router.post("/assignments/{assignment}/renew")
def renew(store: Stored, rater: SignedIn, assignment: Id, given: Held) -> Response:
    """A longer lease."""

    def work(connection: Connection) -> int:
        _, project = _mine(connection, rater, assignment)
        return assign.renew(connection, assignment, rater.id, given.lease, project.settings)

    return JSONResponse({"expires_ms": store.write(work)})


@router.post("/assignments/{assignment}/release")
def release(store: Stored, rater: SignedIn, assignment: Id, given: Held) -> Response:
    """Give a task back; it may come again."""
    store.write(lambda connection: assign.give_back(connection, assignment, rater.id, given.lease))
    return Response(status_code=204)


@router.post("/assignments/{assignment}/skip")
def skip(store: Stored, rater: SignedIn, assignment: Id, given: Skip) -> Response:
    """Leave a task to others."""

    def work(connection: Connection) -> None:
        shown = listing.positions(connection, _mine(connection, rater, assignment)[0].id)
        if any(one.position >= len(shown) for one in given.flags):
            raise Refused("invalid", f"a problem is reported of a response that is not there: there are {len(shown)}")
        flags = [{"response_id": shown[one.position], "flag": one.flag} for one in given.flags]
        told = {"comment": given.comment} if given.comment else {}
        told |= {"flags": flags} if flags else {}
        assign.give_back(connection, assignment, rater.id, given.lease, skip_reason=given.reason, told=told)

    store.write(work)
    return Response(status_code=204)


@router.put("/assignments/{assignment}/draft")
def save_draft(store: Stored, rater: SignedIn, assignment: Id, given: Draft) -> Response:
    """Keep what is being written; the newer one comes back where there is one."""
    size = len(json.dumps(given.answer, ensure_ascii=False).encode())
    if size > MAX_DRAFT:
        refused = Refused("invalid", f"a draft has at most {MAX_DRAFT:,} bytes, not {size:,}; submit it in parts")
        refused.code, refused.status = "too_large", 413
        raise refused
    version = store.write(
        lambda connection: assign.save_draft(
            connection, assignment, rater.id, given.lease, given.version, given.answer
        )
    )  # fmt: skip
    return JSONResponse({"version": version})


# ---------------------------------------------------------------------------------------------------------- judgments


@router.post("/assignments/{assignment}/judgment")
def submit(store: Stored, rater: SignedIn, assignment: Id, given: Submission) -> Response:
    """Take an answer: 201 once it is on the disk, 200 with the same body where its key was sent before."""
    return _judged(store, lambda connection: judge.submit(connection, assignment, rater.id, given))


@router.post("/assignments/{assignment}/adjudication")
def settle(store: Stored, rater: Adjudicator, assignment: Id, given: Settled) -> Response:
    """Take the answer that settles a disagreement."""

    def work(connection: Connection) -> Judgment:
        task = select(schema.assignment.c.task_id).where(schema.assignment.c.id == assignment)
        found = listing.project_of_task(connection, connection.execute(task).scalar() or "")
        check_of(connection, rater, found, "assignment of yours")
        told = (given.submission, given.reason, given.note)
        return judge.adjudicate(connection, assignment, rater.id, *told)

    return _judged(store, work)


@router.post("/assignments/{assignment}/retract")
def retract(store: Stored, rater: SignedIn, assignment: Id, given: Retraction) -> Response:
    """Take a judgment back."""
    return _judged(store, lambda connection: judge.retract(connection, assignment, rater.id, given.lease, given.key))


def _judged(store: Stored, work: Any) -> Response:
    def with_answer(connection: Connection) -> tuple[Judgment, dict[str, Any] | None]:
        done = work(connection)
        return done, said(connection, done.judgment_id)

    done, answer = store.write(with_answer)
    names = {"judgment": done.judgment_id, "assignment": done.assignment_id, "revision": done.revision}
    told = names | {"action": done.action, "submitted_ms": done.submitted_ms, "answer": answer}
    return JSONResponse(told, 201 if done.new else 200)


def said(connection: Connection, judgment_id: str) -> dict[str, Any] | None:
    """The answer of one judgment by position, None of one that takes another back."""
    row = connection.execute(select(schema.judgment).where(schema.judgment.c.id == judgment_id)).one()
    return listing.answer_of(connection, row, listing.positions(connection, row.assignment_id))


@router.get("/projects/{project}/history")
def history(
    store: Stored,
    rater: SignedIn,
    project: Name,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    since: Annotated[int | None, Query(ge=0, le=2**53)] = None,
) -> Response:
    """One's own last judgments; ``since``: when the day began whose active time is told."""
    with store.read() as connection:
        found = project_of(connection, rater, project)
        return JSONResponse(view.history(connection, rater.id, found.id, limit, since))


@router.get("/projects/{project}/guideline")
def guideline(store: Stored, rater: SignedIn, project: Name) -> Response:
    """What raters go by."""
    with store.read() as connection:
        found = view.guideline_view(connection, project_of(connection, rater, project).id, rater.lang)
    return Response(status_code=204) if found is None else JSONResponse(found)
