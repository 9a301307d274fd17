"""What stands before the application: body limits, headers, origins, rates, and logs without tokens."""

import asyncio
import json
import logging
import sys

import pytest
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient
from uvicorn.logging import AccessFormatter

from baro.feedback.server.security import (
    DRAINED_BYTES,
    HEADERS,
    BodyLimit,
    RateLimit,
    RedactTokens,
    SameOrigin,
    SecurityHeaders,
    error_response,
    redacted,
)

TOKEN = "s3cr3t-T0ken_value.42"
JSON = ("content-type", "application/json")
COOKIE = ("cookie", f"baro_session={TOKEN}")


class Answer:
    """What an application sent."""

    def __init__(self):
        self.status, self.headers, self.body, self.messages = None, {}, b"", []

    async def send(self, message):
        self.messages.append(message["type"])
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.body += message.get("body", b"")

    @property
    def json(self):
        return json.loads(self.body)


def ask(app, method="POST", path="/api/x", headers=(), body=None, client=("10.0.0.1", 5000), scheme="http"):
    """One request by ASGI itself; ``body`` is an asynchronous function that gives the next message."""

    async def empty():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "scheme": scheme,
        "headers": [(name.encode(), value.encode()) for name, value in headers], "client": client,
    }  # fmt: skip
    answer = Answer()
    asyncio.run(app(scope, body or empty, answer.send))
    return answer


async def yes(scope, receive, send):
    await PlainTextResponse("yes")(scope, receive, send)


async def reads_all(scope, receive, send):
    """An application that reads to the end; a client that left ends it without an answer."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return await PlainTextResponse(str(size))(scope, receive, send)


async def swallows(scope, receive, send):
    """An application that answers 400 whatever goes wrong, as FastAPI does while it reads JSON."""
    try:
        message = await receive()
        while message["type"] != "http.disconnect" and message.get("more_body"):
            message = await receive()
        raise ConnectionError("the client has gone")
    except ConnectionError:
        await PlainTextResponse("there was an error parsing the body", 400)(scope, receive, send)


async def raises(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ConnectionError("the client has gone")


def stream(chunks, chunk=b"x" * 65_536, given=None):
    """So many chunks, made when asked for; ``given`` counts them."""
    left = chunks

    async def receive():
        nonlocal left
        left -= 1
        if given is not None:
            given.append(len(chunk))
        return {"type": "http.request", "body": chunk, "more_body": left > 0}

    return receive


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("application", [reads_all, swallows, raises])
def test_a_gigabyte_is_refused_after_the_limit(application):
    given = []
    answer = ask(BodyLimit(application, limit=1_000_000), body=stream(16_384, given=given))
    assert (answer.status, answer.json["error"], answer.json["limit"]) == (413, "too_large", 1_000_000)
    # the first chunk above the limit was the last one that the application saw; a further megabyte was thrown away
    assert sum(given) == 16 * 65_536 + DRAINED_BYTES
    assert answer.headers["connection"] == "close"
    assert answer.messages == ["http.response.start", "http.response.body", "http.response.body"]


def test_a_stated_length_is_refused_at_once():
    given = []
    for stated in ("1001", "9" * 5_000):
        answer = ask(
            BodyLimit(reads_all, limit=1_000), headers=[("content-length", stated)], body=stream(1, given=given)
        )
        assert (answer.status, answer.json["error"]) == (413, "too_large")
    assert given == [65_536] * 2  # thrown away, so that its sender reads why


@pytest.mark.parametrize("stated", [["-1"], ["1e3"], ["٣"], [" 1"], [""], ["1", "2"]])
def test_a_length_that_is_no_number(stated):
    answer = ask(BodyLimit(yes, limit=10), headers=[("content-length", text) for text in stated])
    assert (answer.status, answer.json["error"]) == (400, "invalid")


@pytest.mark.parametrize("headers", [(), [("transfer-encoding", "chunked")], [("content-length", "1")]])
def test_bytes_are_counted_whatever_is_stated(headers):
    app = BodyLimit(reads_all, limit=100)
    assert ask(app, headers=headers, body=stream(10, b"1234567890")).body == b"100"
    assert ask(app, headers=headers, body=stream(11, b"1234567890")).status == 413


def test_a_slow_body():
    """Bytes that keep trickling in do not put the deadline off."""

    async def trickle():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def never():
        await asyncio.sleep(3_600)

    for body in (trickle, never):
        for application in (reads_all, swallows, raises):
            answer = ask(BodyLimit(application, limit=1_000_000, seconds=0.05), body=body)
            assert (answer.status, answer.json["error"]) == (503, "busy")
            assert answer.headers["retry-after"] == "1"


def test_a_long_answer_to_a_short_body_has_no_deadline():
    async def words():
        for _ in range(5):
            await asyncio.sleep(0.03)
            yield "word "

    async def slow(scope, receive, send):
        assert not (await receive()).get("more_body")
        await StreamingResponse(words())(scope, receive, send)

    gone = asyncio.Event()
    messages = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def body():
        if not messages:
            await gone.wait()
        return messages.pop()

    assert ask(BodyLimit(slow, limit=10, seconds=0.02), body=body).body == b"word " * 5


def test_the_applications_own_errors_stay():
    async def broken(scope, receive, send):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        ask(BodyLimit(broken, limit=10))


def test_an_answer_that_has_begun_is_not_answered_again():
    async def early(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await raises(scope, receive, send)

    answer = Answer()
    with pytest.raises(ConnectionError):
        asyncio.run(BodyLimit(early, limit=10)({"type": "http", "headers": []}, stream(10), answer.send))
    assert answer.messages == ["http.response.start"]


def test_with_fastapi():
    """FastAPI turns what happens while it reads JSON into a 400; the client still learns what it was."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/api/x")
    async def store(request: Request) -> int:
        return len(await request.json())

    @app.post("/api/typed")
    async def typed(body: dict[str, str]) -> int:
        return len(body)

    app.add_middleware(BodyLimit, limit=1_000)
    app.add_middleware(SecurityHeaders)
    client = TestClient(app, raise_server_exceptions=False)
    assert client.post("/api/x", json=["x"] * 10).json() == 10
    for path in ("/api/x", "/api/typed"):
        refused = client.post(path, content=iter([b'{"a":"'] + [b"x" * 100] * 50), headers=dict([JSON]))
        assert (refused.status_code, refused.json()["error"]) == (413, "too_large")
        assert refused.headers["content-security-policy"] == HEADERS["content-security-policy"]


# --- headers ----------------------------------------------------------------------------------------------------------


def test_headers():
    answer = ask(SecurityHeaders(yes), "GET", "/judge/x")
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        "require-trusted-types-for 'script'; trusted-types baro"
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in answer.headers
    https = ask(SecurityHeaders(yes), "GET", "/", scheme="https")
    assert https.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("path", "status", "cached"),
    [("/static/x.js", 200, "immutable"), ("/static/x.js", 404, "no-store"), ("/api/static/x", 200, "no-store"),
     ("/staticx", 200, "no-store")],
)  # fmt: skip
def test_only_static_files_are_cached(path, status, cached):
    async def cacheable(scope, receive, send):
        headers = {"cache-control": "immutable", "Content-Security-Policy": "default-src *"}
        await PlainTextResponse("x", status, headers=headers)(scope, receive, send)

    answer = ask(SecurityHeaders(cacheable), "GET", path)
    assert answer.headers["cache-control"] == cached
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_error_response_carries_the_headers_itself():
    """Starlette answers an unexpected exception outside of all middlewares."""
    response = error_response("rate_limited", 429, "slowly", retry_after_seconds=0.2, problems=["x"])
    assert json.loads(response.body) == {"error": "rate_limited", "message": "slowly", "problems": ["x"]}
    assert response.headers["retry-after"] == "1"
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert response.headers["cache-control"] == "no-store"


# --- origins ----------------------------------------------------------------------------------------------------------

HOST = ("host", "baro.example:8000")
OURS = ("origin", "http://baro.example:8000")
THEIRS = ("origin", "https://evil.example")


def site(value):
    return ("sec-fetch-site", value)


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, COOKIE, JSON, OURS],
        [HOST, COOKIE, JSON, site("same-origin")],
        [HOST, COOKIE, JSON, site("same-origin"), OURS],
        [HOST, COOKIE, ("content-type", "Application/JSON; charset=utf-8"), OURS],
        [("host", "baro.example"), COOKIE, JSON, ("origin", "https://baro.example")],
        [("host", "baro.example:443"), COOKIE, JSON, ("origin", "https://BARO.example")],
        [("host", "[::1]:8000"), COOKIE, JSON, ("origin", "http://[::1]:8000")],
        [HOST, ("authorization", f"Bearer {TOKEN}")],
        [HOST, ("authorization", f"Bearer {TOKEN}"), ("content-type", "text/csv")],
        [HOST, JSON],  # a client without a session: no browser, nothing to protect
    ],
)
def test_own_requests_pass(headers):
    assert ask(SameOrigin(yes), headers=headers).body == b"yes"


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, COOKIE, JSON],
        [HOST, COOKIE, JSON, THEIRS],
        [HOST, COOKIE, JSON, site("cross-site")],
        [HOST, COOKIE, JSON, site("same-site"), OURS],
        [HOST, COOKIE, JSON, site("none")],
        [HOST, COOKIE, JSON, site("same-origin"), site("cross-site")],
        [HOST, COOKIE, JSON, ("origin", "null")],
        [HOST, COOKIE, JSON, ("origin", "")],
        [HOST, COOKIE, JSON, ("origin", "http://baro.example")],
        [HOST, COOKIE, JSON, ("origin", "http://baro.example:8000.evil.example")],
        [HOST, COOKIE, JSON, ("origin", "http://baro.example:8000@evil.example")],
        [HOST, COOKIE, JSON, ("origin", "http://baro.example:x")],
        [HOST, COOKIE, JSON, ("origin", "ftp://baro.example:8000")],
        [HOST, COOKIE, JSON, OURS, THEIRS],
        [HOST, ("host", "evil.example"), COOKIE, JSON, OURS],
        [COOKIE, JSON, OURS],
        [HOST, COOKIE, OURS],
        [HOST, COOKIE, OURS, ("content-type", "text/plain")],
        [HOST, COOKIE, OURS, ("content-type", "application/x-www-form-urlencoded")],
        [HOST, COOKIE, OURS, ("content-type", "text/plain; x=application/json")],
        [HOST, COOKIE, OURS, JSON, ("content-type", "text/plain")],
        [HOST, COOKIE, JSON, ("authorization", f"Bearer {TOKEN}"), THEIRS],
        [HOST, JSON, THEIRS],  # signing somebody in from another site
        [HOST, ("content-type", "text/plain"), site("cross-site")],
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_foreign_requests_are_refused(headers, method):
    answer = ask(SameOrigin(yes), method, headers=headers)
    assert (answer.status, answer.json["error"]) == (403, "bad_origin")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_not_affected(method):
    assert ask(SameOrigin(yes), method, headers=[HOST, COOKIE, THEIRS, site("cross-site")]).status == 200


def test_only_known_hosts():
    """Another site may let its own name point to this machine: to a browser that is the same origin."""
    app = SameOrigin(yes, hosts=("Baro.example", "127.0.0.1", "[::1]"))
    for host in ("baro.example", "BARO.example:8000", "127.0.0.1:1", "[::1]:8000"):
        assert ask(app, "GET", headers=[("host", host)]).status == 200
    rebound = [JSON, COOKIE, ("host", "evil.example"), ("origin", "http://evil.example"), site("same-origin")]
    for headers in (rebound, [], [("host", "")], [HOST, HOST], [("host", "[::1")], [("host", "baro.example.evil")]):
        for method in ("GET", "POST"):
            assert ask(app, method, headers=headers).status == 403


# --- rates ------------------------------------------------------------------------------------------------------------


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def limited(**settings):
    clock = Clock()
    return RateLimit(yes, clock=clock, **({"per_second": 2, "burst": 4, "address_factor": 3} | settings)), clock


def statuses(app, count, **request):
    return [ask(app, **request).status for _ in range(count)]


def test_static_files_cost_no_token():
    """A load of a page is forty of them: six quick ones used to leave it dead."""
    app, _ = limited()
    mine = [COOKIE]
    assert [ask(app, path="/static/1/dom.js", headers=mine).status for _ in range(100)] == [200] * 100
    assert statuses(app, 5, headers=mine) == [200] * 4 + [429]
    assert [ask(app, path="/staticfiles", headers=mine).status for _ in range(2)] == [429] * 2


def test_a_session_has_a_bucket_that_refills():
    app, clock = limited()
    mine, other = [COOKIE], [("authorization", "Bearer other")]
    assert statuses(app, 5, headers=mine) == [200] * 4 + [429]
    refused = ask(app, headers=mine)
    assert (refused.json["error"], refused.headers["retry-after"]) == ("rate_limited", "1")
    assert statuses(app, 1, headers=other) == [200]
    clock.now += 0.5
    assert statuses(app, 2, headers=mine) == [200, 429]
    clock.now += 3_600
    assert statuses(app, 5, headers=mine) == [200] * 4 + [429]


def test_made_up_sessions_share_their_address():
    app, clock = limited()
    seen = [ask(app, headers=[("cookie", f"a=b; baro_session={n}")]).status for n in range(20)]
    assert seen == [200] * 12 + [429] * 8
    assert statuses(app, 1, headers=[COOKIE], client=("10.0.0.2", 1)) == [200]
    clock.now += 0.5
    assert statuses(app, 4) == [200] * 3 + [429]


def test_one_household_of_ipv6_is_one_address():
    app, _ = limited()
    assert [ask(app, client=(f"2001:db8::{n:x}", 1)).status for n in range(13)] == [200] * 12 + [429]
    assert ask(app, client=("2001:db8:0:1::1", 1)).status == 200
    assert statuses(app, 13, client=None) == [200] * 12 + [429]
    mapped = [ask(app, client=(f"::ffff:10.0.0.{n}", 1)).status for n in range(13)]
    assert mapped == [200] * 13


def test_buckets_are_bounded():
    app, _ = limited(max_buckets=50, address_factor=1_000)
    for n in range(500):
        ask(app, headers=[("cookie", f"baro_session={n}{'x' * 1_000}")], client=(f"10.0.{n // 256}.{n % 256}", 1))
    assert len(app.sessions.kept) == len(app.addresses.kept) == 50
    assert sum(sys.getsizeof(key) for key in app.sessions.kept) < 50 * 64


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"authorization: {TOKEN}",
        f"{{'authorization': 'Bearer {TOKEN}'}}",
        f"[(b'authorization', b'Bearer {TOKEN}'), (b'cookie', b'x=y; baro_session={TOKEN}; z=1')]",
        f"Set-Cookie: baro_session={TOKEN}; HttpOnly",
        f'{{"token": "{TOKEN}", "lease":"{TOKEN}"}}',
        f"{{'lease': '{TOKEN}'}}",
        f'{{"verifier": "{TOKEN}"}}',
        f'"{{\\"token\\": \\"{TOKEN}\\"}}"',
        f"GET /x?a=1&token={TOKEN} HTTP/1.1",
        f"http://127.0.0.1:8000/join#{TOKEN}",
    ],
)
def test_redacted(text):
    assert TOKEN not in redacted(text)
    assert "[redacted]" in redacted(text)


@pytest.mark.parametrize(
    "text", ["5,000 tokens per second", "the lease of 3 was lost", '{"tokens": "x"}', "100 % done"]
)
def test_other_words_stay(text):
    assert redacted(text) == text


def logged(*arguments, formatter=None, **more):
    records = []
    logger = logging.Logger("uvicorn.access")
    handler = logging.Handler()
    handler.emit = lambda record: records.append((formatter or logging.Formatter()).format(record))
    handler.addFilter(RedactTokens())
    logger.addHandler(handler)
    logger.info(*arguments, **more)
    return records[0]


def test_log_records():
    access = AccessFormatter('%(client_addr)s "%(request_line)s" %(status_code)s', use_colors=False)
    arguments = ('%s - "%s %s HTTP/%s" %d', "10.0.0.1:5", "GET", f"/x?lease={TOKEN}&b=%20", "1.1", 200)
    assert logged(*arguments, formatter=access) == '10.0.0.1:5 "GET /x?lease=[redacted]&b=%20 HTTP/1.1" 200 OK'
    assert logged('{"token": "%s"} %d %%', TOKEN, 7) == '{"token": "[redacted]"} 7 %'
    assert logged("%(body)s", {"body": {"token": TOKEN}}) == "{'token': '[redacted]'}"
    assert logged("headers %s", [(b"authorization", b"Bearer " + TOKEN.encode())]).endswith("b'Bearer [redacted]')]")
    assert logged("100% done") == "100% done"


def test_tracebacks_in_logs():
    try:
        raise ValueError(f'body was {{"token": "{TOKEN}"}}')
    except ValueError as error:
        shown = logged("failed", exc_info=error)
    assert "ValueError" in shown
    assert TOKEN not in shown


def test_a_record_that_does_not_fit_is_left_to_its_handler():
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%d %d", (1,), None)
    assert RedactTokens().filter(record)
