"""A process that outlives its server: what it says goes into a file, and it holds a lock for as long as it lives.

A lock needs no process id, which could be another's by now: the child inherits the locked file, and the system lets it
go at the child's end, however that comes. For who wants to end it, the child writes its id into the file first of all:
its parent may be dead by then.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 5  # between SIGTERM and SIGKILL
LOOK_SECONDS = 0.1
CHUNK = 65_536


class Detached:
    """What is at work behind a lock, started by this server or by an earlier one."""

    def __init__(self, lock: Path, output: Path, child: subprocess.Popen[bytes] | None = None):
        self.lock, self.output, self.child = lock, output, child

    @classmethod
    def start(cls, command: Sequence[str], lock: Path, output: Path, environment: Mapping[str, str]) -> Detached:
        """Start it; what it says on stderr is added to ``output``."""
        nothing = subprocess.DEVNULL
        with output.open("ab") as told, lock.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            first = ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(lock)]
            child = subprocess.Popen(
                [*first, *command], stdin=nothing, stdout=nothing, stderr=told, env=environment,
                pass_fds=[held.fileno()], start_new_session=True,
            )  # fmt: skip
        return cls(lock, output, child)

    @property
    def alive(self) -> bool:
        """Whether it is still at work."""
        return is_locked(self.lock)

    def follow(self, say: Callable[[str], object], bar: Callable[[str], object]) -> int | None:
        """Wait for its end, and tell every line that it says, and meanwhile the one that is not ended.

        Returns what it ended with; None where only an earlier server, its parent, could know.
        """
        text, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
        with self.output.open("rb") as told:
            while True:
                over = not self.alive  # asked before the last look
                chunk = told.read(CHUNK)
                *lines, text = re.split(r"[\r\n]", text + decoder.decode(chunk))
                for line in lines:
                    say(line)
                bar(text)
                if over and not chunk:
                    break
                if not chunk:
                    time.sleep(LOOK_SECONDS)
        say(text)
        return None if self.child is None else self.child.wait()

    def end(self) -> None:
        """Ask it to end, and end it if it does not."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            asked, end = False, time.monotonic() + GRACE_SECONDS
            while self.alive and time.monotonic() < end:
                asked = asked or self._signal(how)
                time.sleep(LOOK_SECONDS)

    def _signal(self, how: signal.Signals) -> bool:
        number = self.lock.read_text()
        with suppress(ProcessLookupError):
            if number.endswith("\n"):
                os.kill(int(number), how)
        return number.endswith("\n")


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
