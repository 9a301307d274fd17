"""Takes jobs through the server of a sandbox, several at a time, each with a deadline from its own start."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import selectors
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baro.rewards.sandbox_jobs import MOST_BYTES, NONCE_CHARS, Checked, Heard, Job, Limits, Outcome, Script, outcome

TEST_PROCESSES = 2  # of the tests' side
ANSWER_SECONDS = 20.0  # for the server to do what it was told, on a machine under load


@dataclass
class Running:
    """A job inside."""

    place: int
    job: Job
    started: float
    deadline: float
    group: Path | None
    nonce: str = ""
    pipe: int = -1  # of its verdict or its output, while that is open
    said: bytes = b""
    asked: int = 0  # sides
    ended: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stopped: str = ""


class Round:
    """One call's jobs. ``found`` gets their outcomes by place; OSError or EOFError where the server is gone."""

    def __init__(self, channel: socket.socket, limits: Limits, processes: int, groups: Sequence[Path]) -> None:
        self.channel, self.limits, self.processes = channel, limits, processes
        self.groups = deque(groups)
        self.running: dict[str, Running] = {}
        self.found: dict[int, Outcome] = {}

    def run(self, waiting: deque[tuple[int, Job]], width: int) -> None:
        """Take jobs from ``waiting`` until none is left; those inside are in ``running`` meanwhile."""
        self.channel.settimeout(ANSWER_SECONDS)
        with selectors.DefaultSelector() as self.selector:
            self.selector.register(self.channel, selectors.EVENT_READ)
            try:
                self._run(waiting, width)
            finally:
                for one in self.running.values():
                    self._close_pipe(one)

    def _run(self, waiting: deque[tuple[int, Job]], width: int) -> None:
        while waiting or self.running:
            while waiting and len(self.running) < width:
                self._begin(*waiting.popleft())
            soonest = min(one.deadline for one in self.running.values())
            for key, _ in self.selector.select(max(0.0, soonest - time.monotonic())):
                if key.data is None:
                    self._hear()
                elif key.data in self.running:
                    self._read(key.data)
            for number, one in list(self.running.items()):
                if one.pipe < 0 and len(one.ended) == one.asked:
                    self._finish(number, one)
                elif time.monotonic() > one.deadline:
                    self._late(number, one)

    def _begin(self, place: int, job: Job) -> None:
        number, now = secrets.token_hex(8), time.monotonic()
        group = self.groups.popleft() if self.groups and isinstance(job, Checked | Script) else None
        one = Running(place, job, now, now + self.limits.deadline_seconds, group)
        self.running[number] = one
        if isinstance(job, Checked):
            self._ask("program", number, [memory_file({"sources": job.sources})])
        elif isinstance(job, Script):
            given, output = memory_file(job.given), self._new_pipe(number)
            self._ask("script", number, [memory_file({"sources": job.sources}), given, output])
        else:
            self._ask_with_nonce(number, {"module": job.module, "value": job.value})

    def _ask_with_nonce(self, number: str, spec: Mapping[str, Any]) -> None:
        self.running[number].nonce = nonce = secrets.token_hex(NONCE_CHARS // 2)
        self._ask("tests", number, [memory_file({**spec, "nonce": nonce}), self._new_pipe(number)])

    def _new_pipe(self, number: str) -> int:
        """Where a side writes; the other end is watched."""
        one = self.running[number]
        one.pipe, theirs = os.pipe()
        self.selector.register(one.pipe, selectors.EVENT_READ, number)
        return theirs

    def _ask(self, what: str, number: str, fds: list[int]) -> None:
        """Have a side forked; the descriptors are the server's from here on."""
        one = self.running[number]
        one.asked += 1
        limits = {
            "cpu_seconds": self.limits.cpu_seconds,
            "memory_bytes": self.limits.memory_mb << 20,
            "processes": TEST_PROCESSES if what == "tests" else self.processes,
        }
        grouped = one.group is not None and what != "tests"
        if grouped:
            fds.append(os.open(one.group / "cgroup.procs", os.O_WRONLY))  # type: ignore[operator]
        message = {"do": what, "job": number, "limits": limits, "group": grouped}
        try:
            socket.send_fds(self.channel, [json.dumps(message, allow_nan=False).encode()], fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _end(self, number: str) -> None:
        self.channel.send(json.dumps({"do": "end", "job": number}, allow_nan=False).encode())

    def _hear(self) -> None:
        body = self.channel.recv(65536)
        if not body:
            raise EOFError
        message = json.loads(body)
        one = self.running[message["job"]]
        if "ended" in message:
            one.ended[message["side"]] = message["ended"]
            if "failed" in message["ended"] and not one.stopped:
                one.stopped = "a side could not begin"
                self._end(message["job"])
        elif message["side"] == "program" and isinstance(one.job, Checked) and not one.stopped:
            self._ask_with_nonce(message["job"], {**asdict(one.job), "sources": None})

    def _read(self, number: str) -> None:
        """More of a verdict or an output, up to 1 MiB; with the end of a verdict its program ends."""
        one = self.running[number]
        part = os.read(one.pipe, min(65536, MOST_BYTES + 1 - len(one.said)))
        one.said += part
        if len(one.said) > MOST_BYTES:
            one.said = one.said[:MOST_BYTES]
            self._stop(number, f"more than {MOST_BYTES} bytes of output")
        elif not part:
            self._close_pipe(one)
            if isinstance(one.job, Checked):
                self._end(number)

    def _stop(self, number: str, why: str) -> None:
        one = self.running[number]
        one.stopped, one.deadline = one.stopped or why, time.monotonic() + ANSWER_SECONDS
        self._close_pipe(one)
        self._end(number)

    def _late(self, number: str, one: Running) -> None:
        if one.stopped:
            raise EOFError  # it was told to end the job, and did not
        self._stop(number, f"more than {self.limits.deadline_seconds:g} seconds")

    def _close_pipe(self, one: Running) -> None:
        if one.pipe >= 0:
            self.selector.unregister(one.pipe)
            os.close(one.pipe)
            one.pipe = -1

    def _finish(self, number: str, one: Running) -> None:
        seconds = time.monotonic() - one.started
        self.found[one.place] = outcome(
            one.job, Heard(one.nonce, one.said, one.ended, one.stopped, seconds, self.limits.cpu_seconds)
        )
        if one.group is not None:
            self.groups.append(one.group)
        del self.running[number]


def memory_file(content: Any) -> int:
    """A file that is only in memory and that nobody can change any more: text as it is, everything else as JSON."""
    body = content if isinstance(content, str) else json.dumps(content, allow_nan=False)
    fd = os.memfd_create("given", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, fd)
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(body.encode("utf-8", "surrogatepass" if isinstance(content, str) else "strict"))
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
                    | fcntl.F_SEAL_SEAL)  # fmt: skip
        undo.pop_all()
    return fd
