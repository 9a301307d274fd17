"""The feedback server as one ASGI application, and how it says no.

From outside to inside: headers on every answer, requests of one sender per minute, hosts and origins, the size of a
body, and the routes. Every error is JSON with a code; nothing of the server's inside is told.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError, OperationalError, TimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from baro.errors import BackendError, BaroError
from baro.feedback.database import Store
from baro.feedback.refusals import Refused
from baro.feedback.server import manage_changes, manage_guidelines, manage_people, manager, pages, rater
from baro.feedback.server.checked import MANAGERS
from baro.feedback.server.figures import Figures
from baro.feedback.server.jobs import Jobs
from baro.feedback.server.security import (
    BodyLimit,
    RateLimit,
    SameOrigin,
    SecurityHeaders,
    error_response,
    redacted,
)

log = logging.getLogger("baro")
LOCAL = ("127.0.0.1", "localhost", "[::1]")
MAX_BODY, MAX_IMPORT = 4 * 2**20, 64 * 2**20  # bytes of a request; of a manager's, which may bring a file
WAIT_SECONDS = 2  # told to who came while the database was busy
PROBLEMS_TOLD = 20
_OFF = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
_HTTP_CODES = {404: "not_found", 405: "not_found", 413: "too_large"}


def create_app(
    store: Store,
    *,
    files: Path,
    hosts: Sequence[str] = LOCAL,
    https: bool = False,
    policies: Mapping[str, str] | None = None,
    max_body: int = MAX_BODY,
    max_import: int = MAX_IMPORT,
    per_second: float = 20,
    burst: int = 120,
    docs: bool = False,
) -> FastAPI:
    """The application.

    files: a folder for exports and drawn answers. hosts: the names under which the server is reached. https: cookies
    travel by HTTPS only. policies: what managers may draw answers from, by the name that they see. per_second, burst:
    requests of one session. docs: serve /openapi.json.
    """
    jobs = Jobs(store, files / "jobs", policies or {})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.open()
        yield
        await run_in_threadpool(jobs.close)
        store.close()

    app = FastAPI(
        title="Baro feedback", lifespan=lifespan, telemetry=_OFF, redirect_slashes=False, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
    )  # fmt: skip
    app.state.store, app.state.files, app.state.jobs, app.state.https = store, files, jobs, https
    app.state.figures = Figures()
    for kind in _SAID:
        app.add_exception_handler(kind, _say)
    for part in (pages, rater, manager, manage_changes, manage_guidelines, manage_people):
        app.include_router(part.router)

    # the last one added is the outermost
    app.add_middleware(_Bodies, max_body=max_body, max_import=max_import)
    app.add_middleware(SameOrigin, hosts=tuple(hosts))
    app.add_middleware(RateLimit, per_second=per_second, burst=burst)
    app.add_middleware(SecurityHeaders)
    return app


class _Bodies:
    """Managers may send files, everybody else only what a page sends."""

    def __init__(self, app: ASGIApp, max_body: int, max_import: int):
        self.usual = BodyLimit(app, limit=max_body)
        self.imports = BodyLimit(app, limit=max_import)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        imports = scope["type"] == "http" and scope["path"].startswith(MANAGERS)
        await (self.imports if imports else self.usual)(scope, receive, send)


# -------------------------------------------------------------------------------------------------------------- errors


def _say(_: Request, error: Exception) -> Response:
    """The answer to a request that failed."""
    match error:
        case Refused():
            return error_response(error.code, error.status, str(error), **error.more)
        case BackendError() | OperationalError() | TimeoutError():
            log.warning("%s", redacted(str(error)))
            message = "the server cannot use its database now; nothing was saved, try again"
            return error_response("busy", 503, message, retry_after_seconds=WAIT_SECONDS)
        case IntegrityError():
            return error_response("conflict", 409, "something else was there first; load the page again")
        case RequestValidationError() | ValidationError():
            problems = [_problem(one) for one in error.errors()[:PROBLEMS_TOLD]]
            return error_response("invalid", 422, problems[0], problems=problems)
        case BaroError():
            return error_response("invalid", 422, str(error), problems=[str(error)])
        case HTTPException():
            code = _HTTP_CODES.get(error.status_code, "invalid")
            status = 422 if error.status_code == 400 else error.status_code
            return error_response(code, status, str(error.detail))
    # Starlette raises the error again behind this answer, and uvicorn logs it
    return error_response("internal", 500, "the server failed; what happened is in its log")


_SAID = (BaroError, RequestValidationError, ValidationError, HTTPException, OperationalError, TimeoutError,
         IntegrityError, Exception)  # fmt: skip


def _problem(error: Mapping[str, Any]) -> str:
    """Which field, and what is wrong with it; not what was given."""
    where = ".".join(str(part) for part in error["loc"] if part != "body")
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"{where[:200]}: {what[:300]}" if where else what[:300]
