"""Requests to a feedback server: what passes is waited out, and what could happen twice is sent again with care."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from baro.errors import BackendError, ConfigError
from baro.feedback.refusals import STATUS, Refused

ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 20.0
Json = Any
SLOW_SECONDS = 600.0  # for figures over everything that was judged; asked once, lest they be computed twice at once
SAFE, CAREFUL = True, False  # to send again: after any failure, or only where the server did not take it up


@cache
def _authorities() -> ssl.SSLContext:
    """Whom to trust over HTTPS. Read once: a stage has a client for each of its people."""
    return httpx2.create_ssl_context(trust_env=False)


class Calls:
    """The connection of one session. ``token``: the session's secret."""

    def __init__(
        self,
        address: str,
        token: str,
        *,
        attempts: int = ATTEMPTS,
        timeout_seconds: float = 30,
        transport: httpx2.BaseTransport | None = None,
        pause: Callable[[float], object] = time.sleep,
    ):
        if urlsplit(address).scheme not in ("http", "https"):
            raise ConfigError(f"{address}: is no address of a server; give http://HOST:PORT")
        self.address, self.token, self.attempts, self._pause = address.rstrip("/"), token, attempts, pause
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=self.address, headers=headers, timeout=timeout_seconds, transport=transport, trust_env=False,
            verify=_authorities(),
        )  # fmt: skip

    def _manage(self, method: str, path: str, body: Json = None, again: bool = CAREFUL) -> Json:
        return self._call(method, f"/api/manage/{path}", body, again if method != "GET" else SAFE)

    def _slow(self, method: str, path: str, body: Json = None) -> Json:
        """What takes its time on a large project."""
        return self._send(method, f"/api/manage/{path}", body, CAREFUL, timeout=SLOW_SECONDS).json()

    def _end(self, task: Mapping[str, Any], how: str, body: Json) -> None:
        """What was ended by an attempt whose answer got lost is ended."""
        tries: list[int] = []
        try:
            self._send("POST", at_assignment(task["assignment"], how), body, SAFE, tries)
        except Refused as refused:
            if refused.code != "conflict" or len(tries) == 1:
                raise

    def _call(self, method: str, path: str, body: Json = None, again: bool = SAFE) -> Json | None:
        response = self._send(method, path, body, again)
        return None if response.status_code == 204 else response.json()

    def _send(
        self,
        method: str,
        path: str,
        body: Json,
        again: bool,
        tries: list[int] | None = None,
        timeout: float | None = None,
    ) -> httpx2.Response:
        """Send until there is an answer; ``tries`` gets an entry for each attempt."""
        problem, tries = "", [] if tries is None else tries
        content = None if body is None else json.dumps(body).encode()  # the server says what is wrong with odd text
        kind = {} if body is None else {"Content-Type": "application/json"}
        patience = self._http.timeout if timeout is None else timeout
        for attempt in range(self.attempts):
            tries.append(attempt)
            wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt)
            try:
                response = self._http.request(method, path, content=content, headers=kind, timeout=patience)
            except httpx2.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                if not (again or isinstance(error, httpx2.ConnectError)):
                    break
            else:
                if response.status_code < 400:
                    return response
                if response.status_code < 500 and response.status_code != 429:
                    raise _refused(response)
                problem = f"{response.status_code}: {_message(response)}"
                if not (again or response.status_code in (429, 503)):
                    break
                wait = max(wait, _retry_after(response))
            if attempt < self.attempts - 1:
                self._pause(wait)
        raise BackendError(f"{self.address}: {method} {path.partition('?')[0]} did not succeed ({problem}); try later")


def name_of(name: str) -> str:
    return quote(name, safe="")


def at_assignment(assignment: str, what: str) -> str:
    return f"/api/assignments/{name_of(assignment)}/{what}"


def in_project(project: str, what: str = "") -> str:
    return f"projects/{name_of(project)}" + (f"/{what}" if what else "")


def _message(response: httpx2.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _refused(response: httpx2.Response) -> Exception:
    """The server's refusal as it was raised there."""
    try:
        told = dict(response.json())
    except (ValueError, TypeError):
        told = {}
    code, message = told.pop("error", ""), str(told.pop("message", response.reason_phrase))
    if code in STATUS:
        return Refused(code, message, **told)
    return BackendError(f"the server refused with {response.status_code}: {message}")


def _retry_after(response: httpx2.Response) -> float:
    try:
        return max(0.0, min(60.0, float(response.headers.get("Retry-After", 0))))
    except ValueError:
        return 0.0
