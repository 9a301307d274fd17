"""What every route checks of a request before it looks at it: that all text in it is text.

JSON may hold NUL and halves of surrogate pairs, which no database keeps and no page shows, and Python's parser takes
NaN and UTF-16 as well. They are refused here once, so that no later step meets them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from baro.feedback.refusals import Refused
from baro.feedback.server.sessions import signed_in

MANAGERS = "/api/manage/"
MAX_NESTING = 100


class Body(BaseModel):
    """What comes with a request: nothing unknown, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Nothing(Body):
    """``{}``."""


class CheckedRoute(APIRoute):
    """A route that reads and checks the body first; a manager's, which may be large, only for who has a session."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            check_text(list(request.path_params.values()))
            check_text(list(request.query_params.multi_items()))
            if request.url.path.startswith(MANAGERS):
                await run_in_threadpool(signed_in, request)
            if request.method not in ("GET", "HEAD"):
                request = _Parsed(request.scope, request.receive)
                await request.json()
            return await handle(request)

        return checked


class _Parsed(Request):
    """A request whose JSON is parsed strictly, and once."""

    async def json(self) -> Any:
        if not hasattr(self, "_checked"):
            self._checked = await run_in_threadpool(parse, await self.body())
        return self._checked


def parse(content: bytes) -> Any:
    """A body's JSON, None if it is empty; Refused for anything that is no JSON by the book."""
    if not content:
        return None
    try:
        text = content.decode()
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise Refused("invalid", f"the body is nested deeper than {MAX_NESTING} levels") from None
    except ValueError as error:
        what = f"no UTF-8 at byte {error.start + 1}" if isinstance(error, UnicodeDecodeError) else str(error)
        message = f"the body is no JSON: {what[:200]}"
        raise Refused("invalid", message, problems=[message]) from None
    check_text(value)
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def check_text(value: Any) -> None:
    """Refuse NUL and half characters anywhere in a JSON value, and nesting that nobody means."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _check(one)
            elif isinstance(one, dict):
                inner += one.keys()
                inner += one.values()
            elif isinstance(one, list | tuple):
                inner += one
        level, depth = inner, depth + 1
        if depth > MAX_NESTING:
            raise Refused("invalid", f"the body is nested deeper than {MAX_NESTING} levels")


def _check(text: str) -> None:
    if "\0" in text or not (text.isascii() or _encodes(text)):
        problem = "a text holds NUL or half a character (a lone \\ud... escape); take it out"
        raise Refused("invalid", problem, problems=[problem])


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
