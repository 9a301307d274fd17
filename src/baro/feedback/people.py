"""Raters, the links that invite them, and their sessions. No names, no addresses: a pseudonym is enough.

Every secret is 256 random bits and lies in the store as its SHA-256 only. An invite works once; a session can be taken
back at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, literal, select, update

from baro.feedback import ids, schema
from baro.feedback.database import COMMAND_LINE, log_event, secret_seed
from baro.feedback.ids import keyed_hash, new_id, new_secret, sha256
from baro.feedback.refusals import Refused

DAY_MS = 86_400_000
LANGS = ("en", "ko")
INVITE_DAYS, SESSION_DAYS = 14, 30
ASK_AGAIN_MS = 10 * 60_000  # how long who lost the reply to an invite may ask for it again


@dataclass(frozen=True)
class Rater:
    """Somebody with a session.

    comes_as: the roles in which what is asked for may be done; check_member compares them with the one that the rater
    has in the project which it is about.
    """

    id: str
    pseudonym: str
    lang: str
    comes_as: Sequence[str] = schema.ROLES


def add_rater(
    connection: Connection,
    project_id: str | None,
    *,
    role: str = "rater",
    lang: str = "ko",
    pseudonym: str | None = None,
    actor: str = COMMAND_LINE,
) -> str:
    """A new rater, a member of the project in this role. Without a pseudonym the next free number is taken.

    Without a project a manager manages all of the store; a rater works on none yet.
    """
    table = schema.rater
    check_role(role)
    if project_id is None and role == "adjudicator":
        raise Refused("invalid", "an adjudicator settles the disagreements of a project; name it")
    check_lang(lang)
    name = _next_pseudonym(connection, role) if pseudonym is None else pseudonym.strip()
    if not 1 <= len(name) <= 60 or not name.isprintable():
        raise Refused("invalid", "a pseudonym has 1 to 60 visible characters")
    if ids.looks_like_id(name):
        raise Refused("invalid", f"{name!r} looks like an id, and would be taken for one; choose another pseudonym")
    if connection.execute(select(table.c.id).where(table.c.pseudonym == name)).first():
        raise Refused("conflict", f"there is a {name!r} already; choose another pseudonym")
    made = new_id()
    row = {"id": made, "pseudonym": name, "lang": lang, "manages_all": project_id is None and role == "manager"}
    connection.execute(insert(table).values(**row, active=True, created_ms=ids.now_ms()))
    if project_id is not None:
        connection.execute(insert(schema.member).values(project_id=project_id, rater_id=made, role=role))
    log_event(connection, actor, "add", "rater", made, {"role": role})
    return made


def add_member(connection: Connection, project_id: str, rater_id: str, actor: str, role: str | None = None) -> None:
    """Let somebody who is known work on this project, too, as a rater unless a role is given; or change their role."""
    table = schema.member
    check_role(role or "rater")
    if manages_all(connection, rater_id):
        if role not in (None, "manager"):
            raise Refused("conflict", "who manages every project of the store has no other role in one of them")
        return
    here = (table.c.project_id == project_id) & (table.c.rater_id == rater_id)
    had = connection.execute(select(table.c.role).where(here)).scalar()
    if had is None:
        row = {"project_id": project_id, "rater_id": rater_id, "role": role or "rater"}
        connection.execute(insert(table).values(**row))
        log_event(connection, actor, "join", "rater", rater_id, {"project": project_id, "role": row["role"]})
    elif role not in (None, had):
        connection.execute(update(table).where(here).values(role=role))
        log_event(connection, actor, "role", "rater", rater_id, {"project": project_id, "role": role})


def check_role(role: str) -> None:
    """Refused for what nobody can be in a project."""
    if role not in schema.ROLES:
        raise Refused("invalid", f"{role!r} is no role; give one of {', '.join(schema.ROLES)}")


def check_lang(lang: str) -> None:
    """Refused for a language that the pages do not have."""
    if lang not in LANGS:
        raise Refused("invalid", f"there is no page in {lang!r}; give one of {', '.join(LANGS)}")


def _next_pseudonym(connection: Connection, role: str) -> str:
    table = schema.rater
    number = connection.execute(select(func.count()).select_from(table)).scalar_one() + 1
    taken = set(connection.execute(select(table.c.pseudonym).where(table.c.pseudonym.startswith(f"{role}-"))).scalars())
    while f"{role}-{number}" in taken:
        number += 1
    return f"{role}-{number}"


def rater_by_id(connection: Connection, rater_id: str) -> Row[Any]:
    """A rater's row; Refused where nobody has this id."""
    row = connection.execute(select(schema.rater).where(schema.rater.c.id == rater_id)).first()
    if row is None:
        raise Refused("not_found", f"there is no rater with the id {rater_id!r}")
    return row


def pseudonyms_of(connection: Connection, rater_ids: Sequence[str]) -> dict[str, str]:
    """By id."""
    table = schema.rater
    rows = connection.execute(select(table.c.id, table.c.pseudonym).where(table.c.id.in_(rater_ids)))
    return {row.id: row.pseudonym for row in rows}


def rater_by_pseudonym(connection: Connection, pseudonym: str) -> Row[Any]:
    """A rater's row; Refused where nobody is called so."""
    row = connection.execute(select(schema.rater).where(schema.rater.c.pseudonym == pseudonym)).first()
    if row is None:
        raise Refused("not_found", f"there is no rater {pseudonym!r}")
    return row


def find_rater(connection: Connection, given: str) -> Row[Any]:
    """Who is meant on a command line: what looks like an id is one, since no pseudonym does."""
    return (rater_by_id if ids.looks_like_id(given) else rater_by_pseudonym)(connection, given)


def active_id(rater: Row[Any]) -> str:
    """A rater's id; Refused for who works here no longer."""
    if not rater.active:
        raise Refused("conflict", f"{rater.pseudonym} is not active any more; invite somebody new")
    return str(rater.id)


def invite(
    connection: Connection, rater_id: str, *, days: float = INVITE_DAYS, actor: str = COMMAND_LINE
) -> str:  # fmt: skip
    """The secret of a link that opens one session for the rater."""
    rater_by_id(connection, rater_id)
    token = new_secret()
    created = ids.now_ms()
    row = {"token_sha256": sha256(token), "rater_id": rater_id, "created_ms": created}
    connection.execute(insert(schema.invite).values(**row, expires_ms=created + int(days * DAY_MS)))
    log_event(connection, actor, "invite", "rater", rater_id)
    return token


def redeem(connection: Connection, token: str, verifier: str | None = None) -> str:
    """A session's secret for an invite that nobody has used.

    verifier: a secret that who asks has made for this. The session's secret then follows from both, so that asking
    again, after the reply was lost, gives the same session, for ASK_AGAIN_MS and while it has not been taken back. The
    invite alone is worth nothing any more, and nothing has to be stored for this.
    """
    table, now = schema.invite, ids.now_ms()
    here = table.c.token_sha256 == sha256(token)
    fresh = here & table.c.used_ms.is_(None) & (table.c.expires_ms > now)
    done = connection.execute(update(table).where(fresh).values(used_ms=now).returning(table.c.rater_id)).first()
    secret = None if verifier is None else _secret_of(connection, token, verifier)
    if done is not None:
        return open_session(connection, done.rater_id, secret=secret)
    opened = schema.session.c.token_sha256 == sha256(secret or "")
    same = select(table.c.used_ms).join(schema.session, table.c.rater_id == schema.session.c.rater_id)
    same = same.where(here, table.c.used_ms > now - ASK_AGAIN_MS, opened, schema.session.c.revoked_ms.is_(None))
    if secret is None or connection.execute(same).first() is None:
        raise Refused("unauthorized", "this link is unknown, was used already or has expired; ask for another")
    return secret


def _secret_of(connection: Connection, token: str, verifier: str) -> str:
    """Of the session that an invite opens for who made the verifier; to be had with both only."""
    found = keyed_hash(secret_seed(connection), "session", sha256(token), sha256(verifier))
    return base64.urlsafe_b64encode(found).decode().rstrip("=")


def open_session(
    connection: Connection,
    rater_id: str,
    *,
    kind: str = "browser",
    days: float = SESSION_DAYS,
    secret: str | None = None,
) -> str:
    """A session's secret: a browser's cookie or a program's bearer token. A new one unless it is given."""
    active = connection.execute(select(schema.rater.c.active).where(schema.rater.c.id == rater_id)).scalar_one_or_none()
    if not active:
        raise Refused("unauthorized", "this rater is not active")
    token, created = secret or new_secret(), ids.now_ms()
    row = {"token_sha256": sha256(token), "rater_id": rater_id, "kind": kind, "created_ms": created}
    connection.execute(insert(schema.session).values(**row, expires_ms=created + int(days * DAY_MS)))
    log_event(connection, rater_id, "session", "rater", rater_id, {"kind": kind})
    return token


def who(connection: Connection, token: str) -> Rater:
    """Whose session this is; Refused if it is nobody's, was taken back or has expired."""
    session, rater = schema.session, schema.rater
    query = select(rater).join(session).where(
        session.c.token_sha256 == sha256(token), session.c.revoked_ms.is_(None), session.c.expires_ms > ids.now_ms(),
        rater.c.active,
    )  # fmt: skip
    row = connection.execute(query).first()
    if row is None:
        raise Refused("unauthorized", "there is no session; open your invitation link, or ask for another")
    return Rater(row.id, row.pseudonym, row.lang)


def close_session(connection: Connection, token: str) -> None:
    """Take back one session."""
    here = schema.session.c.token_sha256 == sha256(token)
    connection.execute(update(schema.session).where(here).values(revoked_ms=ids.now_ms()))


def revoke(connection: Connection, rater_id: str, actor: str) -> None:
    """Take back every session and invite of a rater; what they judged stays."""
    rater_by_id(connection, rater_id)
    for table, column in ((schema.session, "revoked_ms"), (schema.invite, "used_ms")):
        here = (table.c.rater_id == rater_id) & table.c[column].is_(None)
        connection.execute(update(table).where(here).values({column: ids.now_ms()}))
    connection.execute(update(schema.rater).where(schema.rater.c.id == rater_id).values(active=False))
    log_event(connection, actor, "revoke", "rater", rater_id)


def erase(connection: Connection, rater_id: str, actor: str) -> None:
    """Forget who a rater is: the pseudonym goes, sessions end, judgments and labels stay."""
    revoke(connection, rater_id, actor)
    gone = f"erased-{rater_id[-8:]}"
    connection.execute(update(schema.rater).where(schema.rater.c.id == rater_id).values(pseudonym=gone))
    log_event(connection, actor, "erase", "rater", rater_id)


def manages_all(connection: Connection, rater_id: str) -> bool:
    """Whether somebody manages every project of the store, and may make new ones."""
    table = schema.rater
    return bool(connection.execute(select(table.c.manages_all).where(table.c.id == rater_id)).scalar())


def projects_of(connection: Connection, rater: Rater, *roles: str) -> list[dict[str, Any]]:
    """The projects a rater works on, and their role in each; with ``roles`` those where they have one of these."""
    project, member = schema.project, schema.member
    everywhere = manages_all(connection, rater.id)
    role = literal("manager") if everywhere else member.c.role
    query = select(project.c.id, project.c.name, project.c.state, role.label("role")).order_by(project.c.name)
    if not everywhere:
        query = query.join(member).where(member.c.rater_id == rater.id)
    return [row._asdict() for row in connection.execute(query) if not roles or row.role in roles]


def roles_of(connection: Connection, rater: Rater) -> set[str]:
    """Every role that a rater has in some project."""
    if manages_all(connection, rater.id):
        return {"manager"}
    table = schema.member
    return set(connection.execute(select(table.c.role).where(table.c.rater_id == rater.id).distinct()).scalars())


def role_in(connection: Connection, rater_id: str, project_id: str) -> str | None:
    """What somebody is in a project; None: nothing."""
    rater, member = schema.rater, schema.member
    here = (member.c.rater_id == rater.c.id) & (member.c.project_id == project_id)
    query = select(rater.c.manages_all, member.c.role).select_from(rater.outerjoin(member, here))
    row = connection.execute(query.where(rater.c.id == rater_id)).first()
    if row is None:
        return None
    return "manager" if row.manages_all else row.role


def check_member(connection: Connection, rater: Rater, project_id: str) -> None:
    """Refused with "not_found" for who has no role in the project, so that nobody learns which projects there are, and
    with "forbidden" for who has another there than the rater comes as."""
    role = role_in(connection, rater.id, project_id)
    if role is None:
        raise Refused("not_found", "there is no such project")
    if role not in rater.comes_as:
        raise Refused("forbidden", meant_for(rater.comes_as))


def meant_for(roles: Sequence[str]) -> str:
    """Why somebody else is refused."""
    return f"this is for {' and '.join(f'{role}s' for role in roles)} of the project"


def check_theirs(connection: Connection, manager: Rater, rater_id: str) -> None:
    """Refused unless all that somebody does in the store is in projects which this person manages.

    An invitation opens a session as that rater, in all of their projects, and an end of access ends it in all of them.
    With "not_found" for who is in none of the manager's projects.
    """
    if manages_all(connection, manager.id):
        return
    table = schema.member
    theirs = set(connection.execute(select(table.c.project_id).where(table.c.rater_id == rater_id)).scalars())
    managed = {one["id"] for one in projects_of(connection, manager, "manager")}
    if not theirs & managed:
        raise Refused("not_found", f"there is no rater with the id {rater_id!r}")
    if theirs - managed:
        raise Refused("forbidden", "this rater works in a project of others, too; ask a manager of the whole store")


def set_lang(connection: Connection, rater_id: str, lang: str) -> None:
    """The language of the rater's page."""
    check_lang(lang)
    connection.execute(update(schema.rater).where(schema.rater.c.id == rater_id).values(lang=lang))
