"""Clients that send half of a request and wait: the page goes on for everybody else. Over sockets of this machine."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
import uvicorn

from baro.feedback.server.connections import Connections, Guarded
from baro.feedback.server.security import BodyLimit
from baro.feedback.server.serve import MAX_CONNECTIONS, _config, listen


async def hello(scope, receive, send):
    """Reads the body and says so; /slow takes its time."""
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/slow":
        await SLOW.wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Gate:
    """Opens when a test says so, for requests in the server's thread."""

    def __init__(self) -> None:
        self.open = threading.Event()

    async def wait(self) -> None:
        import anyio

        while not self.open.is_set():
            await anyio.sleep(0.01)


SLOW = Gate()
Ask = Callable[[bytes], socket.socket]


@contextmanager
def served(config: uvicorn.Config) -> Iterator[Ask]:
    SLOW.open.clear()
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    with ExitStack() as sockets:

        def ask(first: bytes) -> socket.socket:
            made = sockets.enter_context(socket.create_connection(listening.getsockname()[:2], timeout=10))
            made.sendall(first)
            return made

        while not server.started:
            time.sleep(0.01)
        yield ask
        SLOW.open.set()
    server.should_exit = True
    thread.join(20)
    listening.close()


def config(app=hello, **limits):
    known = Connections(**({"most": 20, "per_address": 20, "header_seconds": 30} | limits))
    return uvicorn.Config(
        app,
        http=partial(Guarded, known=known),
        log_level="error",
        ws="none",
        timeout_graceful_shutdown=1,
        lifespan="off",
    )


def answer(connection: socket.socket) -> bytes:
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def answer_or_reset(connection: socket.socket) -> bytes:
    try:
        return answer(connection)
    except ConnectionResetError:
        return b""


def keep_sending(connection: socket.socket, part: bytes, times: int, pause: float = 0) -> None:
    for _ in range(times):
        connection.sendall(part)
        time.sleep(pause)


WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: "


@pytest.mark.parametrize("behind_https_proxy", [False, True])
def test_hundreds_of_half_sent_headers_leave_the_page_working(behind_https_proxy):
    """The attack that made every request a 503 for as long as it lasted, with what ``serve`` is run with."""
    made = _config(hello, behind_https_proxy)
    made.lifespan = "off"
    with served(made) as ask:
        for _ in range(MAX_CONNECTIONS + 20):
            ask(HALF)
        for _ in range(20):
            before = time.monotonic()
            assert answer(ask(WHOLE)).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - before < 5


def test_headers_have_a_deadline():
    """Also when they trickle, and for a later request of a connection; not while a request is answered."""
    with served(config(header_seconds=0.4)) as ask:
        silent, half, trickle = ask(b""), ask(HALF), ask(HALF)
        again = ask(WHOLE.replace(b"close", b"keep-alive"))
        assert again.recv(65536).startswith(b"HTTP/1.1 200 ")
        again.sendall(HALF)
        slow = ask(WHOLE.replace(b"/ ", b"/slow "))
        with pytest.raises(OSError):
            keep_sending(trickle, b"x", 200, pause=0.02)
        assert all(b"HTTP/1.1 408 " in answer(one) for one in (silent, half, again))
        SLOW.open.set()
        assert answer(slow).startswith(b"HTTP/1.1 200 ")


def test_the_oldest_that_waits_gives_way():
    """Of its own address; requests under way are never cut, and where all are, the new connection goes."""
    with served(config(per_address=3)) as ask:
        slow = [ask(WHOLE.replace(b"/ ", b"/slow "))]
        time.sleep(0.1)
        first, second = ask(HALF), ask(HALF)
        time.sleep(0.1)
        slow.append(ask(WHOLE.replace(b"/ ", b"/slow ")))
        assert answer_or_reset(first) == b""
        second.sendall(b"\r\nConnection: close\r\n\r\n")
        assert answer(second).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.1)
        slow.append(ask(WHOLE.replace(b"/ ", b"/slow ")))
        time.sleep(0.1)
        assert answer_or_reset(ask(HALF)) == b""  # all three places are at work
        SLOW.open.set()
        assert [answer(one)[:15] for one in slow] == [b"HTTP/1.1 200 OK"] * 3


class Fake:
    """A connection for the book-keeping alone."""

    def __init__(self, address: bytes, waits: bool = True):
        self.address, self.waits, self.transport, self.closed = address, waits, self, False

    def abort(self) -> None:
        self.closed = True


def test_the_address_with_most_gives_way_when_all_are_too_many():
    known = Connections(most=5, per_address=4)
    many = [Fake(b"a") for _ in range(4)]
    few = [Fake(b"b"), Fake(b"c")]
    for one in [*many, *few]:
        known.add(one)
    assert [one.closed for one in [*many, *few]] == [True, False, False, False, False, False]
    for one in [*many, *few]:
        known.discard(one)
    assert known.open == {}


@pytest.mark.parametrize("kilobytes", [200, 900])
def test_a_refused_body_is_read_on_until_its_sender_knows(kilobytes):
    """Who writes all before reading gets the 413, not a reset."""
    with served(config(BodyLimit(hello, limit=1000))) as ask:
        body = b"x" * (kilobytes * 1000)
        sender = ask(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        sender.sendall(body)
        time.sleep(0.2)
        assert answer(sender).startswith(b"HTTP/1.1 413 ")


def test_a_refused_body_without_end_is_not_read_for_ever():
    with served(config(BodyLimit(hello, limit=1000))) as ask:
        sender = ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            keep_sending(sender, b"2710\r\n" + b"x" * 10_000 + b"\r\n", 4_000)
