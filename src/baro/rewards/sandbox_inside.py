"""The server inside bubblewrap: it forks one walled process after another, and ends them when it is told to.

    socket (standard input) <- {"do": "program" | "tests" | "script" | "end", "job": number, ...} with file descriptors
    socket                  -> {"job": number, "side": ..., "begun": true}, and later its end

Each side is PID 1 of a namespace of its own; when it ends, the kernel kills everything that it left. The server holds
nothing that a program might want to read: sides get what they need through descriptors that pass through here unread.
Run as ``python -s -P -S sandbox_inside.py SETTINGS``, SETTINGS as JSON; the standard library alone.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

ROOT = str(Path(__file__).parents[2])
sys.path.append(ROOT)
from baro.rewards import sandbox_sides, sandbox_walls  # noqa: E402

sys.path.remove(ROOT)  # a program imports nothing of this package

USUAL = (
    *("bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq"),
    *("itertools", "json", "math", "operator", "os", "random", "re", "statistics", "string", "sys", "time", "typing"),
)
"""Modules that are imported before any fork; tests may use them without importing them."""

OWN_FRAMES = 30  # below a program; it gets the recursion that it is used to
MOST_FILES = 1024  # that the server has open; six for a job


@dataclass
class Side:
    """One forked side; ``told`` is where it says why it could not begin, ``watched`` becomes readable at its end."""

    job: str
    name: str
    process: int
    told: int
    watched: int
    killed: bool = False


@dataclass
class Server:
    """Sides that run, and the pipes that wait for a job's tests."""

    channel: socket.socket
    settings: Mapping[str, Any]
    modules: Mapping[str, types.ModuleType]
    sides: dict[int, Side] = field(default_factory=dict)  # by what is watched
    waiting: dict[str, tuple[int, int]] = field(default_factory=dict)  # job -> what its tests write to, read from

    def serve(self) -> None:
        """Until the parent closes its end."""
        self.poll = select.poll()
        self.poll.register(self.channel, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.channel.fileno():
                    body, fds, _, _ = socket.recv_fds(self.channel, 65536, 8)
                    if not body:
                        return
                    self.take(json.loads(body), list(fds))
                else:
                    self.bury(fd)

    def say(self, message: Mapping[str, Any]) -> None:
        self.channel.send(json.dumps(message, allow_nan=False).encode())

    def take(self, message: Mapping[str, Any], fds: list[int]) -> None:
        """Do what the parent wants."""
        job, what = message["job"], message["do"]
        if what == "end":
            self.end(job)
            return
        group = fds.pop() if message["group"] else None  # the cgroup of the program's memory
        work: partial[None]
        if what == "program":
            calls, answers = os.pipe(), os.pipe()
            self.waiting[job] = (calls[1], answers[0])
            fds += [calls[0], answers[1]]
            work = partial(sandbox_sides.answer_calls, *fds)
        elif what == "script":
            work = partial(script, *fds)
        elif job in self.waiting:
            fds += self.waiting.pop(job)
            work = partial(sandbox_sides.decide, self.modules, *fds)
        else:
            work = partial(trusted, self.modules, *fds)
        owner, unsafe = (os.getuid(), os.getgid()), self.settings["unsafe"]
        self.begin(job, what, Beginning(work, tuple(fds), message["limits"], group, unsafe, owner))
        for fd in [*fds, *([] if group is None else [group])]:
            os.close(fd)
        self.say({"job": job, "side": what, "begun": True})

    def begin(self, job: str, name: str, side: Beginning) -> None:
        heard, told = os.pipe()
        process = sandbox_walls.forked(alone=not side.unsafe)
        if process == 0:
            be_the_side(side, told)
        os.close(told)
        watched = os.pidfd_open(process)
        self.sides[watched] = Side(job, name, process, heard, watched)
        self.poll.register(watched, select.POLLIN)

    def bury(self, watched: int) -> None:
        """Tell how a side ended; the kernel has killed what it left, or it is done here."""
        side = self.sides.pop(watched)
        self.poll.unregister(watched)
        _, status = os.waitpid(side.process, 0)
        if self.settings["unsafe"]:
            self.kill_orphans()
        ended: dict[str, Any] = {
            "code": os.waitstatus_to_exitcode(status),
            "on_request": side.killed,
        }
        os.set_blocking(side.told, False)
        with contextlib.suppress(BlockingIOError):  # another side, forked at that moment, holds the other end
            failed = os.read(side.told, 4096)
            ended |= {"failed": failed.decode(errors="replace")} if failed else {}
        os.close(side.told)
        os.close(watched)
        self.say({"job": side.job, "side": side.name, "ended": ended})

    def end(self, job: str) -> None:
        """Kill the job's sides; each reports its end."""
        for side in self.sides.values():
            if side.job == job and not side.killed:
                os.kill(side.process, signal.SIGKILL)  # not yet waited for, so that its number is still its own
                side.killed = True
        for fd in self.waiting.pop(job, ()):
            os.close(fd)

    def kill_orphans(self) -> None:
        """Without PID namespaces: what ended sides left is this process's by now, and is killed."""
        ours = {side.process for side in self.sides.values()}
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                orphans = {int(one) for one in file.read().split()} - ours
            if not orphans:
                return
            for orphan in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
            for orphan in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan, 0)


@dataclass(frozen=True)
class Beginning:
    """A side before it is forked: its work, the descriptors that it may have, its limits."""

    work: partial[None]
    fds: tuple[int, ...]
    limits: Mapping[str, int]
    group: int | None
    unsafe: bool
    owner: tuple[int, int]  # the server's uid and gid, which nobody has in new namespaces


def be_the_side(side: Beginning, told: int) -> NoReturn:
    """In the new process, PID 1 of its namespace: walls, then the work, then nothing."""
    try:
        os.setsid()  # signals to a process group would cross the PID namespace
        keep_only({*side.fds, told, *([] if side.group is None else [side.group])})
        if side.group is not None:
            os.write(side.group, b"0")
            os.close(side.group)
        if not side.unsafe:
            sandbox_walls.map_and_mount(*side.owner)
        os.chdir("/tmp")
        sandbox_walls.set_limits(side.limits)
        sandbox_walls.drop_capabilities()
        if sandbox_walls.is_known_machine():
            sandbox_walls.filter_system_calls(signals=not side.unsafe)
    except BaseException as error:
        os.write(told, f"the sandbox: {sandbox_sides.described(error)}".encode())
        os._exit(0)
    os.close(told)
    status = 1
    with contextlib.suppress(BaseException):
        sandbox_sides.begin_side()
        side.work()
        status = 0
    os._exit(status)


def keep_only(fds: set[int]) -> None:
    """Close all other descriptors; 0, 1 and 2 are nothing."""
    low = 3
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MOST_FILES)
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)


def script(source: int, given: int, output: int) -> None:
    """A program with standard input and output of its own."""
    os.dup2(given, 0)
    os.dup2(output, 1)
    os.close(given)
    os.close(output)
    sandbox_sides.run_script(source)


def trusted(modules: Mapping[str, types.ModuleType], source: int, verdict: int) -> None:
    """Baro's own function on a value that nobody trusts: ``{"module": ..., "value": ...}`` to ``check(value)``."""
    asked = sandbox_sides.given(source)
    try:
        found = modules[asked["module"]].check(asked["value"])
    except BaseException as error:
        found = {"error": sandbox_sides.described(error)}
    os.write(verdict, (asked["nonce"] + json.dumps(found, allow_nan=False)).encode())


def main() -> None:
    settings = json.loads(sys.argv[1])
    if settings["unsafe"]:
        sandbox_walls.LIBC.prctl(sandbox_walls.SET_SUBREAPER, 1, 0, 0, 0)
    elif sandbox_walls.is_known_machine():
        sandbox_walls.become_nobody()
    else:
        raise OSError("the sandbox knows the system calls of Linux on x86_64 alone")
    sys.path += settings["paths"]
    sys.argv = ["program.py"]
    sys.set_int_max_str_digits(0)
    sys.setrecursionlimit(sys.getrecursionlimit() + OWN_FRAMES)
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # which come with the module site, and that is left out
    modules = {name: importlib.import_module(name) for name in (*USUAL, *settings["modules"])}
    random.seed(0)  # the same program gives the same verdict again
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MOST_FILES, hard), hard))
    gc.collect()
    gc.freeze()
    gc.disable()
    channel = socket.socket(fileno=os.dup(0))
    server = Server(channel, settings, modules)
    server.say({"ready": True})
    server.serve()
    os._exit(0)


if __name__ == "__main__":
    main()
