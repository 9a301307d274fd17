"""Who is asking. Identity comes from the session alone: a browser's cookie or a program's bearer token.

A request with an Authorization header is judged by that header only, so that a cookie never stands in for a bad token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response
from sqlalchemy import Connection

from baro.feedback.database import Store
from baro.feedback.people import DAY_MS, SESSION_DAYS, Rater, check_member, meant_for, roles_of, who
from baro.feedback.project import Project, get_project
from baro.feedback.refusals import Refused

COOKIE = "baro_session"
MAX_TOKEN = 200


def store_of(request: Request) -> Store:
    """The store that the application was made with."""
    store: Store = request.app.state.store
    return store


def token_of(request: Request) -> str | None:
    """The session's secret that a request carries."""
    given = request.headers.get("authorization")
    if given is None:
        token = request.cookies.get(COOKIE, "")
    else:
        scheme, _, token = given.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
    return token if 0 < len(token) <= MAX_TOKEN else None


def signed_in(request: Request) -> Rater:
    """Whose request it is; Refused if nobody's."""
    token = token_of(request)
    if token is None:
        raise Refused("unauthorized", "there is no session; open your invitation link, or ask for another")
    with store_of(request).read() as connection:
        return who(connection, token)


def visitor(request: Request) -> Rater | None:
    """Whose request it is, None if nobody's: for pages, which send visitors on."""
    try:
        return signed_in(request)
    except Refused:
        return None


def _only(*roles: str) -> Callable[[Rater, Store], Rater]:
    """Who has one of these roles in some project comes as such; whether in this one, project_of tells."""

    def check(
        rater: Annotated[Rater, Depends(signed_in)], store: Annotated[Store, Depends(store_of)]
    ) -> Rater:  # fmt: skip
        with store.read() as connection:
            if roles_of(connection, rater).isdisjoint(roles):
                raise Refused("forbidden", meant_for(roles))
        return replace(rater, comes_as=roles)

    return check


Stored = Annotated[Store, Depends(store_of)]
SignedIn = Annotated[Rater, Depends(signed_in)]
Visitor = Annotated[Rater | None, Depends(visitor)]
Manager = Annotated[Rater, Depends(_only("manager"))]
Adjudicator = Annotated[Rater, Depends(_only("adjudicator", "manager"))]
Id = Annotated[str, Path(min_length=1, max_length=40)]
Name = Annotated[str, Path(min_length=1, max_length=100)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]


def project_of(connection: Connection, rater: Rater, name: str) -> Project:
    """A project by its name, for who has a role there in which they may do what they ask for.

    Another's project and one that is not there are refused in the same words.
    """
    try:
        project = get_project(connection, name)
    except Refused:
        raise Refused("not_found", "there is no such project") from None
    check_member(connection, rater, project.id)
    return project


def check_of(connection: Connection, rater: Rater, project_id: str | None, what: str) -> None:
    """The same for what is asked for by its id; of another's project it is refused as if it were not there."""
    try:
        check_member(connection, rater, project_id or "")
    except Refused as refused:
        if refused.code != "not_found":
            raise
        raise Refused("not_found", f"there is no such {what}") from None


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Lax and not Strict, which would drop the cookie when an invitation is opened from a message."""
    response.set_cookie(
        COOKIE, token, max_age=SESSION_DAYS * DAY_MS // 1000, path="/", httponly=True, samesite="lax",
        secure=_by_https(request),
    )  # fmt: skip


def drop_cookie(request: Request, response: Response) -> None:
    """The browser forgets the session."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax", secure=_by_https(request))


def _by_https(request: Request) -> bool:
    return bool(request.app.state.https) or request.url.scheme == "https"
