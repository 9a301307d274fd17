"""Programs that run in forks of one process which has imported everything: seconds less for each of them.

As a script: imports the modules that its arguments name, and reads one JSON request a line. {"program", "arguments",
"cwd", "env", "said"} starts a program, whose pid is answered; stdout and stderr go to the files said.out and said.err.
{"poll": pid} answers the exit code, -9 for a SIGKILL, or null while it runs. The parent never computes anything, and
has one thread: that makes forking it safe.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

BARO = "from baro.cli import main\nmain(sys.argv[1:])"  # the command line


class Fork:
    """A program that was started, as subprocess.Popen has it."""

    def __init__(self, forks: Forks, pid: int, said: Path):
        self.forks, self.pid, self.said = forks, pid, said
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.forks.ask({"poll": self.pid})
        return self.returncode

    def wait(self, seconds: float = 600) -> int:
        until = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < until, f"it still runs after {seconds} s: {self.output}"
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """SIGKILL. Until it is waited for, its pid is nobody else's."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _printed(self, suffix: str) -> str:
        path = Path(f"{self.said}.{suffix}")
        return path.read_text() if path.exists() else ""

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._printed("out")

    @property
    def errors(self) -> str:
        return self._printed("err")


class Forks:
    """The process that forks, with so many modules; what its programs print goes to files of a folder."""

    def __init__(self, folder: Path, imported: Sequence[str], **env: str):
        self.folder, self.started, self._turn = folder, 0, threading.Lock()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, __file__, *imported],
            cwd=folder,
            env=os.environ | threads | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])} | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, request: Mapping[str, Any]) -> Any:
        with self._turn:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return self._read()

    def start(self, program: str, *arguments: object, cwd: Path | None = None, **env: str) -> Fork:
        """Begin a program, which finds its arguments in ``sys.argv[1:]``."""
        self.started += 1
        said, folder = self.folder / str(self.started), str(cwd or Path.cwd())
        request = {"program": program, "arguments": [str(one) for one in arguments], "cwd": folder, "env": env}
        return Fork(self, self.ask(request | {"said": str(said)}), said)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def run(request: dict[str, Any]) -> NoReturn:
    """The forked child's whole life."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, suffix in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{request['said']}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        sys.argv[1:] = request["arguments"]
        exec(request["program"], {"__name__": "forked", "sys": sys})
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def poll(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve() -> None:
    """Answer requests until stdin ends; then whoever is left is killed."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1
    os.fsync = os.fstat  # a kill loses nothing that is on its way to the disk
    gc.freeze()
    print(json.dumps("ready"), flush=True)
    living = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            answer = poll(request["poll"])
            living -= set() if answer is None else {request["poll"]}
        elif (answer := os.fork()) == 0:
            run(request)
        else:
            living.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
