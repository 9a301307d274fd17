"""Runs programs that nobody trusts: a pool that starts when it is first used and ends with its process.

Programs run behind the walls of bubblewrap (`sandbox_inside`): no network, no files but a read-only system, limits on
CPU time, memory, processes, files and output. A program and its tests are two processes. What passes between them are
the values of literals; the verdict comes from the tests' process through a pipe that the program never has, behind a
nonce that is made after the program was forked. One deadline begins with the job. Nothing that a program wrote is
evaluated or unpickled here: this process reads one JSON object of at most 1 MiB.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import cache

from baro.errors import ConfigError
from baro.rewards.sandbox_jobs import Checked, Job, Limits, Outcome, content_key
from baro.rewards.sandbox_round import TEST_PROCESSES, Round
from baro.rewards.sandbox_start import ENVIRONMENT, WITHOUT, MemoryGroups, find_bwrap, inside_command, machine_memory

MOST_PROCESSES = 32  # of one program, threads included, where a control group bounds their memory together
FEWER_PROCESSES = 8  # where none does: each may take the whole of ``memory_mb``
START_SECONDS = 60.0
REMEMBERED, LONGEST_KEPT = 20_000, 10_000  # outcomes, and characters of output

log = logging.getLogger("baro")


class Sandbox:
    """The pool. ``run`` may be called from any thread; a forked child starts a pool of its own.

    ``modules`` are modules with a function ``check`` for `Trusted` jobs, found in ``paths``. ConfigError where
    bubblewrap is missing or its walls do not hold here.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        jobs: int = 0,
        unsafe_local: bool = False,
        modules: Sequence[str] = (),
        paths: Sequence[str] = (),
    ) -> None:
        self.limits, self.unsafe_local = limits or Limits(), unsafe_local
        self.jobs = jobs or max(2, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 0)
        self.modules, self.paths = tuple(modules), tuple(paths)
        self._lock = threading.RLock()
        self._known: OrderedDict[str, Outcome] = OrderedDict()
        self._server: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Start the server, unless it runs, and try its walls."""
        with self._lock:
            if self._server is not None and self._pid == os.getpid() and self._server.poll() is None:
                return
            self.close()
            if sys.platform != "linux":
                raise ConfigError("programs of models are run on Linux alone, with unsafe_local too")
            bwrap = None if self.unsafe_local else find_bwrap()
            if bwrap is None and not self.unsafe_local:
                raise ConfigError(WITHOUT)
            if self.unsafe_local:
                log.warning("unsafe_local: programs that a model wrote run as your own user, without bubblewrap; they "
                            "may read and change your files")  # fmt: skip
            command = inside_command(bwrap, self.modules, self.paths)
            self._groups = MemoryGroups(0 if self.unsafe_local else self.jobs, self.limits.memory_mb << 20)
            atexit.register(self.close)
            try:
                self._start(command)
            except ConfigError:
                self._groups.close()
                raise
            if not self.unsafe_local:
                self._try_walls()

    def close(self) -> None:
        """End the server and everything inside; the next job starts it again."""
        with self._lock:
            server, self._server = self._server, None
            if server is None:
                return
            atexit.unregister(self.close)
            self._channel.close()
            self._said.close()
            if self._pid == os.getpid():
                server.kill()
                server.wait()
                self._groups.close()
            self._over.set()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes of jobs, in their order; a job that stood there before is not run again."""
        keys = [content_key(one) for one in jobs]
        with self._lock:
            new = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self._known}
            fresh = dict(zip(new, self._run(list(new.values())) if new else [], strict=True))
            found = [fresh[key] if key in fresh else self._known[key] for key in keys]
            self._known |= {key: one for key, one in fresh.items() if _is_kept(one)}
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run them all. What was inside when the server died is run once more, one at a time."""
        found: dict[int, Outcome] = {}
        waiting = deque(enumerate(jobs))
        while waiting:
            lost = self._round(waiting, found, self.jobs)
            for place, job in lost:
                if self._round(deque([(place, job)]), found, 1):
                    found[place] = Outcome(None, error="the sandbox ended twice while this program ran")
        return [found[place] for place in range(len(jobs))]

    def _round(self, waiting: deque[tuple[int, Job]], found: dict[int, Outcome], width: int) -> list[tuple[int, Job]]:
        """Outcomes into ``found``; the jobs that were inside when the server died."""
        self.start()
        one = Round(self._channel, self.limits, self._processes(), self._groups.made)
        try:
            one.run(waiting, width)
        except (OSError, EOFError):
            self.close()
        except BaseException:  # interrupted: what is inside would answer the next call
            self.close()
            raise
        found |= one.found
        return [(lost.place, lost.job) for lost in one.running.values()]

    def _start(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel, self._pid = ours, os.getpid()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        started: list[subprocess.Popen[bytes] | OSError] = []
        ready, over = threading.Event(), threading.Event()
        self._over = over

        def begin() -> None:
            nothing, said = subprocess.DEVNULL, self._said
            try:  # in a session of its own, so that Ctrl-C at a terminal is for us alone
                given = theirs.fileno()
                started.append(
                    subprocess.Popen(
                        command,
                        stdin=given,
                        stdout=nothing,
                        stderr=said,
                        env=ENVIRONMENT,
                        cwd="/",
                        start_new_session=True,
                    )
                )
            except OSError as error:
                started.append(error)
                over.set()
            ready.set()
            over.wait()

        # bubblewrap ends with the thread that started it, so that thread lasts as long
        threading.Thread(target=begin, name="sandbox", daemon=True).start()
        ready.wait()
        theirs.close()
        if isinstance(started[0], OSError):
            raise ConfigError(f"the sandbox does not start: {started[0]}")
        self._server = started[0]
        ours.settimeout(START_SECONDS)
        try:
            heard = ours.recv(65536)
        except OSError:
            heard = b""
        if not heard:
            self._server.kill()
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise ConfigError(f"the sandbox does not start: {lines[-1] if lines else 'no answer'}; a container may "
                              "forbid user namespaces")  # fmt: skip

    def _try_walls(self) -> None:
        """ConfigError where a program could do what the walls should keep it from; whatever the limits of jobs are."""
        limits = Limits(deadline_seconds=START_SECONDS, memory_mb=max(256, self.limits.memory_mb))
        one = Round(self._channel, limits, self._processes(), self._groups.made)
        tests = f"assert probe({self._processes()}) == []"
        one.run(deque([(0, Checked((PROBE,), tests))]), 1)
        if not one.found[0].passed:
            self.close()
            raise ConfigError(f"the sandbox does not hold on this machine: {one.found[0].error or one.found[0].reason}")

    def _processes(self) -> int:
        """Of one program. Without control groups all jobs together stay within half of the machine's memory."""
        if self._groups.made:
            return MOST_PROCESSES
        each = self.jobs * (self.limits.memory_mb << 20)
        return max(1, min(FEWER_PROCESSES, machine_memory() // 2 // each - TEST_PROCESSES))


def _is_kept(one: Outcome) -> bool:
    """What the clock ended, or a failure, may end otherwise on another day; long outputs would fill the memory."""
    return one.error is None and not one.timed_out and len(one.output) <= LONGEST_KEPT


@cache
def shared_sandbox(
    limits: Limits, unsafe_local: bool, modules: tuple[str, ...] = (), paths: tuple[str, ...] = ()
) -> Sandbox:
    """The one pool of this process for these options, with what it remembers."""
    return Sandbox(limits, unsafe_local=unsafe_local, modules=modules, paths=paths)


PROBE = '''
import ctypes, os, socket, time

def probe(processes):
    """What this program can do and should not."""
    found = []
    for path in ("/", "/usr", "/dev", "/code", os.path.dirname(os.__file__)):
        try:
            os.close(os.open(path + "/written", os.O_CREAT | os.O_WRONLY))
            found.append("it writes into " + path)
        except OSError:
            pass
    try:
        socket.socket()
        found.append("it opens sockets")
    except OSError:
        pass
    if os.listdir("/proc") or os.path.exists("/etc/passwd") or os.getpid() != 1 or os.getuid() == 0:
        found.append("it sees processes or files of the machine, or is root")
    if ctypes.CDLL(None).unshare(0x10000000) == 0:
        found.append("it makes namespaces")
    forked = 0
    try:
        while forked < processes:
            if os.fork() == 0:
                time.sleep(60)
            forked += 1
        found.append("it forks more than it may")
    except OSError:
        pass
    return found
'''
