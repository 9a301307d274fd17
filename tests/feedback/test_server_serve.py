"""The server as a process: started, reached over a socket, told to stop."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from baro.errors import BackendError, ConfigError
from baro.feedback import people
from baro.feedback.client import Client
from baro.feedback.database import Store
from baro.feedback.server import serve

START = "import sys; from baro.feedback.server.serve import serve; serve(sys.argv[1], port=0)"


class Running:
    """A server's process, what it says, its address and its first link."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process, self.lines = process, list[str]()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        for _ in range(3000):
            if any("/join#" in line for line in self.lines):
                break
            time.sleep(0.01)
        self.address = self.lines[0].rpartition(" at ")[2].strip()
        self.link = self.lines[1].rpartition(" ")[2].strip()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def end(self) -> str:
        self._reader.join(30)
        return "".join(self.lines)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    Store.open(tmp_path, create=True).close()
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    made = Running(process)
    yield made
    process.kill()
    process.wait()
    made.end()
    assert process.stderr is not None
    process.stderr.close()


def test_first_start_work_and_sigterm(running: Running, tmp_path: Path):
    process, address, link = running.process, running.address, running.link
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
    assert link.startswith(f"{address}/join#")
    with Client.join(link) as manager:
        assert manager.me()["manages_all"] is True
        manager.create_project("colours", {"repeat_fraction": 0, "gold_fraction": 0})
        rows = [{"prompt": "which?", "responses": ["blue", "red"]}]
        assert manager.add_responses("colours", rows, "m")["added"] == 2
        assert manager.make_tasks("colours", "pair")["added"] == 1
        invited = manager.invite("colours", lang="en")
        assert invited["link"].startswith(f"{address}/join#")
        with Client.join(invited["link"]) as rater:
            task = rater.next("colours")
            rater.submit(task, {"kind": "pair", "choice": {"outcome": "tie"}}, comment="같다")
            assert rater.next("colours") is None
            assert raw(address, b"GET /static/../schema.py HTTP/1.1").startswith(b"HTTP/1.1 404 ")
            assert raw(address, b"GET /static/%2e%2e/schema.py HTTP/1.1").startswith(b"HTTP/1.1 404 ")
            assert raw(address, b"GET http://evil.example/ HTTP/1.1").startswith(b"HTTP/1.1 404 ")
            assert raw(address, b"POST /api/session HTTP/1.1\r\nContent-Length: 99999999999").startswith(
                b"HTTP/1.1 413 "
            )
            assert b"\r\nserver:" not in raw(address, b"GET /join?token=not-for-logs HTTP/1.1").lower()
            secrets = [link.partition("#")[2], manager.token, rater.token, task["lease"], "not-for-logs"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    logged = running.end().replace(link, "the link, once")
    assert "POST /api/projects/colours/next" in logged
    assert "Traceback" not in logged
    assert not [one for one in secrets if one in logged]
    store = Store.open(tmp_path)
    assert serve.first_link(store) is None
    store.close()


def raw(address: str, request: bytes) -> bytes:
    """What the server answers to bytes that no client would send."""
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request + f"\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while part := connection.recv(65536):
            found += part
    return found


def test_the_first_link_is_made_until_it_is_used(tmp_path: Path):
    store = Store.open(tmp_path, create=True)
    one, two = serve.first_link(store), serve.first_link(store)
    assert one is not None
    assert two is not None
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM rater").scalar() == 1
    store.write(lambda connection: people.redeem(connection, two))
    assert serve.first_link(store) is None
    store.close()


def test_others_reach_it_only_by_a_name_or_a_proxy():
    serve.check_address("127.0.0.1", (), False)
    serve.check_address("::1", (), False)
    serve.check_address("localhost", (), False)
    serve.check_address("0.0.0.0", ("feedback.example",), False)
    serve.check_address("0.0.0.0", (), True)
    for host in ("0.0.0.0", "::", "192.168.0.2", "example.org", ""):
        with pytest.raises(ConfigError, match="others on the network"):
            serve.check_address(host, (), False)
    for name in ("*", "", "http://x", "x/y", "*.example"):
        with pytest.raises(ConfigError, match="no name of a host"):
            serve.check_address("0.0.0.0", (name,), False)


def test_the_address_that_people_see():
    assert serve.public_address("127.0.0.1", 80, (), False) == "http://127.0.0.1:80"
    assert serve.public_address("::1", 80, (), False) == "http://[::1]:80"
    assert serve.public_address("0.0.0.0", 80, ("a.example",), False) == "http://a.example:80"
    assert serve.public_address("127.0.0.1", 80, ("a.example",), True) == "https://a.example"


def test_a_port_that_is_taken(tmp_path: Path):
    Store.open(tmp_path, create=True).close()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BackendError, match="choose another --port"):
        serve.serve(tmp_path, port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="holds no feedback"):
        serve.serve(tmp_path / "nothing", port=0)


def test_no_answer_waits_for_a_delayed_acknowledgement():
    with (
        serve.listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
