"""What stands between the network and the application: ASGI middlewares, and a filter for logs.

From the outside in: SecurityHeaders, RateLimit, SameOrigin, BodyLimit, application. Each keeps its state, if any, in
itself and in one process. Starlette answers an unexpected exception from outside all middlewares; ``error_response``
therefore carries the headers itself.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "baro_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types baro"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
DRAINED_BYTES, DRAIN_SECONDS = 2**20, 2.0  # read and thrown away of a body that was refused
ONE_YEAR_SECONDS = 31_536_000


def is_static(scope: Scope) -> bool:
    """Whether a request is for a file below /static/."""
    return scope["path"].removeprefix(scope.get("root_path", "")).startswith("/static/")


def error_response(
    code: str, status: int, message: str, *, retry_after_seconds: float | None = None, **more: Any
) -> JSONResponse:
    """The JSON of every refusal: ``{"error": code, "message": message, **more}``."""
    headers = HEADERS | {"cache-control": "no-store"}
    if retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, math.ceil(retry_after_seconds)))
    return JSONResponse({"error": code, "message": message, **more}, status, headers=headers)


class SecurityHeaders:
    """Headers on every answer, over whatever the application says; only what is below /static/ may be cached."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._set(scope, message)
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)

    def _set(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers[name] = value
        if not is_static(scope) or message["status"] >= 400:
            headers["cache-control"] = "no-store"
        if scope["scheme"] == "https":
            headers["strict-transport-security"] = f"max-age={ONE_YEAR_SECONDS}"


class BodyLimit:
    """Refuses a body of more than ``limit`` bytes, and one not there ``seconds`` after the application first asked.

    Nothing is buffered: bytes are counted as the application reads them, and up to 1 MB of a refused body is read on
    while its sender is told. An application sees a refused body end as if
    the client had gone, and whatever it answers to that, or raises, the client gets our refusal.
    """

    def __init__(self, app: ASGIApp, *, limit: int, seconds: float = 60):
        self.app, self.limit, self.seconds = app, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        stated = Headers(scope=scope).getlist("content-length")
        if any(not (length.isascii() and length.isdigit()) for length in stated) or len(set(stated)) > 1:
            return await error_response("invalid", 400, "Content-Length must be one number")(scope, receive, send)
        body = _Body(receive, send, self.limit, self.seconds)
        if any(len(length) > 18 or int(length) > self.limit for length in stated):
            body.refusal = body.too_large()
            return await body.finish(scope)
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if body.refusal is None or body.started:
                raise
        return await body.finish(scope)


class _Body:
    """One request's body, and the answer to it."""

    def __init__(self, receive: Receive, send: Send, limit: int, seconds: float):
        self._receive, self._send, self.limit, self.seconds = receive, send, limit, seconds
        self.read_bytes, self.complete, self.started = 0, False, False
        self.deadline: float | None = None
        self.refusal: JSONResponse | None = None

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        if self.complete:  # the application waits for the client to go; it may wait
            return await self._receive()
        if self.deadline is None:
            self.deadline = anyio.current_time() + self.seconds
        message: Message | None = None
        with anyio.CancelScope(deadline=self.deadline):
            message = await self._receive()
        if message is None:
            self.refusal = self.too_slow()
            return {"type": "http.disconnect"}
        return self._counted(message)

    def _counted(self, message: Message) -> Message:
        self.read_bytes += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self.read_bytes <= self.limit:
            return message
        self.refusal = self.too_large()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The application's answer; unless its body was refused before it began to answer."""
        if self.refusal is None or self.started:
            self.started = True
            await self._send(message)

    async def finish(self, scope: Scope) -> None:
        if self.refusal is None or self.started:
            return
        self.refusal.headers["connection"] = "close"  # do not read on for the rest
        slow = self.refusal.status_code != 413
        await self.refusal(scope, self._receive, self._send if slow else self._send_and_drain)

    async def _send_and_drain(self, message: Message) -> None:
        """A client that is still sending when the connection is closed is reset, and never reads why."""
        if message["type"] != "http.response.body":
            return await self._send(message)
        await self._send(message | {"more_body": True})
        left, done = DRAINED_BYTES, self.complete
        with anyio.move_on_after(DRAIN_SECONDS):
            while left > 0 and not done:
                read = await self._receive()
                left -= len(read.get("body", b""))
                done = not read.get("more_body", False)
        return await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def too_large(self) -> JSONResponse:
        message = f"the body is larger than {self.limit} bytes"
        return error_response("too_large", 413, message, limit=self.limit)

    def too_slow(self) -> JSONResponse:
        message = f"the body did not arrive within {self.seconds:g} seconds"
        return error_response("busy", 503, message, retry_after_seconds=1)


class SameOrigin:
    """Refuses what another site makes a browser send.

    A request that may change something and carries a cookie must be JSON (which a form cannot send) and must come from
    a page of this host: by Sec-Fetch-Site, or where the browser has none, by Origin. Without a cookie a bearer token
    is proof enough; without both (an invite being used), only what a browser's headers say counts. ``hosts``: the
    names, without a port, under which this server may be asked for anything (another site may let its name point
    here, and then is the same origin to a browser); none: under any.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str] = ()):
        self.app, self.hosts = app, {host.strip("[]").lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is not None:
            return await error_response("bad_origin", 403, problem)(scope, receive, send)
        return await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        if self.hosts and _hostname(headers.getlist("host")) not in self.hosts:
            return "the server does not go by the name in Host; add it to its hosts"
        return None if scope["method"] in SAFE_METHODS else _foreign(headers)


def _hostname(hosts: list[str]) -> str | None:
    try:
        return urlsplit(f"//{hosts[0]}").hostname if len(hosts) == 1 else None
    except ValueError:
        return None


def _foreign(headers: Headers) -> str | None:
    """What is wrong with a request that may change something; None when it may go on."""
    browser = "origin" in headers or "sec-fetch-site" in headers
    if "cookie" not in headers and ("authorization" in headers or not browser):
        return None
    kind = headers.getlist("content-type")
    if len(kind) != 1 or kind[0].split(";")[0].strip().lower() != "application/json":
        return "Content-Type must be application/json"
    sites = headers.getlist("sec-fetch-site")
    if sites:
        return None if sites == ["same-origin"] else "the request comes from another site"
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) == 1 and len(origins) == 1 and _same_host(origins[0], hosts[0]):
        return None
    return "the request names no Origin of this host"


def _same_host(origin: str, host: str) -> bool:
    try:
        stated, own = urlsplit(origin), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}[stated.scheme]
        same_port = (stated.port or usual) == (own.port or usual)
    except (KeyError, ValueError):  # "null", another scheme, a port that is no number
        return False
    return bool(stated.hostname) and stated.hostname == own.hostname and same_port


class RateLimit:
    """A token bucket for each session and one for each address; a request needs a token of both.

    The session alone would not do: anybody can make up session cookies. Addresses get more, since many people may
    share one. At most ``max_buckets`` of each are kept; the least recently used is forgotten, that is, full again.
    Static files cost nothing: they come from memory, and a page without one of them is dead.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        per_second: float = 10,
        burst: int = 60,
        address_factor: float = 20,
        max_buckets: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.app = app
        self.sessions = _Buckets(per_second, burst, max_buckets, clock)
        self.addresses = _Buckets(per_second * address_factor, burst * address_factor, max_buckets, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wait = self._wait_seconds(scope) if scope["type"] == "http" and not is_static(scope) else 0.0
        if wait > 0:
            message = "too many requests; try again later"
            response = error_response("rate_limited", 429, message, retry_after_seconds=wait)
            return await response(scope, receive, send)
        return await self.app(scope, receive, send)

    def _wait_seconds(self, scope: Scope) -> float:
        wait = self.addresses.take(network(scope["client"][0] if scope.get("client") else ""))
        session = _session(Headers(scope=scope))
        return wait if wait > 0 or session is None else self.sessions.take(session)


class _Buckets:
    def __init__(self, per_second: float, burst: float, max_buckets: int, clock: Callable[[], float]):
        self.per_second, self.burst, self.max_buckets, self.clock = per_second, burst, max_buckets, clock
        self.kept: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # key: tokens, when they were counted

    def take(self, key: bytes) -> float:
        """Takes a token; the seconds until there is one, 0 when one was taken."""
        now = self.clock()
        tokens, before = self.kept.pop(key, (self.burst, now))
        tokens = min(self.burst, tokens + (now - before) * self.per_second)
        taken = tokens >= 1
        self.kept[key] = (tokens - taken, now)
        while len(self.kept) > self.max_buckets:
            self.kept.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self.per_second


def network(host: str) -> bytes:
    """Who is calling: an address, or the network of 2^64 addresses that one household has in IPv6."""
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return host.encode()
    return address.packed[:8] if address.version == 6 and not address.ipv4_mapped else address.packed


def _session(headers: Headers) -> bytes | None:
    """A digest of the request's token, whatever it is worth."""
    cookie = re.search(rf"(?:^|;) ?{COOKIE}=([^;]+)", headers.get("cookie", ""))
    token = headers.get("authorization") or (cookie[1] if cookie else None)
    return hashlib.blake2b(token.encode(), digest_size=16).digest() if token else None


_SECRETS = re.compile(
    r"""(
        \bBearer\s+
      | \bauthorization["']?\s*[:=,]\s*(?:b?["'])?(?:(?:Bearer|Basic)\s+)?
      | \bbaro_session=
      | /join\#
      | [?&](?:token|lease)=
      | \\?["'](?:token|lease|verifier)\\?["']\s*:\s*\\?["']
    )[^\s"'\\;,&<>]+""",
    re.IGNORECASE | re.VERBOSE,
)


def redacted(text: str) -> str:
    """A text without the tokens and leases in it."""
    return _SECRETS.sub(r"\1[redacted]", text)


class RedactTokens(logging.Filter):
    """Takes tokens out of log records: put it on the handlers, or on the loggers of uvicorn."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):  # uvicorn's access log counts on its five arguments
            record.args = tuple(redacted(value) if isinstance(value, str) else value for value in record.args)
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_text = redacted(record.exc_text) if record.exc_text else record.exc_text
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the handler reports arguments that do not fit
            return True
        if redacted(message) != message:
            record.msg, record.args = redacted(message), ()
            record.__dict__.pop("color_message", None)
        return True
