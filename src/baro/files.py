"""Files that are whole or not there: atomic writes, hashes, and where tests kill a process. No torch here."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from baro.errors import BackendError, ConfigError

_reached: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Kill this process here if BARO_FAULT says ``name``, or ``name:k`` for the k-th time; for tests."""
    wanted, _, count = os.environ.get("BARO_FAULT", "").partition(":")
    _reached[name] += 1
    if wanted == name and _reached[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn a full disk into a BackendError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        way_out = "the last checkpoint is intact: free some space and run the same command again"
        raise BackendError(f"{path}: cannot be saved because the disk is full; {way_out}") from error


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file so that ``path`` holds, at any moment, what it held before or all of ``content``."""
    with atomic_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; that file takes the place of ``path`` when the block ends, or goes if it raises."""
    with _beside(path) as partial:
        yield partial
        fault_point("before-fsync")
        sync_to_disk(partial)
        os.replace(partial, path)
        fault_point("after-rename")
        sync_to_disk(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` when the block ends, or goes if the block raises."""
    with _beside(path) as partial:
        partial.mkdir(parents=True)
        yield partial
        fault_point("before-fsync")
        for inside in [*partial.rglob("*"), partial]:
            sync_to_disk(inside)
        _rename_over(partial, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A free name in the same folder; whatever still lies there when the block ends is removed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with saving(path):
        try:
            _remove(partial)
            yield partial
        finally:
            _remove(partial)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def remove_leftovers(root: Path) -> None:
    """Clear away what a killed process was writing below ``root``, and put back what it was replacing."""
    for partial in list(root.rglob(".*.partial")):
        _remove(partial)
    for older in list(root.rglob(".*.replaced")):
        path = older.with_name(older.name[1:].removesuffix(".replaced"))
        _remove(older) if path.exists() else os.rename(older, path)


@contextmanager
def shared_lock(path: Path, *, when_alone: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that many processes may hold together; one that finds nobody else calls ``when_alone`` first.

    The kernel frees it when the process dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            when_alone()
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _rename_over(partial: Path, path: Path) -> None:
    """A folder cannot be renamed over another: the older one steps aside, and comes back if we are killed here."""
    older = path.with_name(f".{path.name}.replaced")
    if path.exists():
        _remove(older)
        os.rename(path, older)
        fault_point("between-renames")
    os.rename(partial, path)
    fault_point("after-rename")
    sync_to_disk(path.parent)
    _remove(older)


def sync_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative file names with the SHA-256 of each; 64 hex digits."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise ConfigError(f"{path}: there is no such file or folder; check the path")
    files = sorted((inside.relative_to(path).as_posix(), inside) for inside in path.rglob("*") if inside.is_file())
    lines = [f"{hash_path(inside)}  {name}\n" for name, inside in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
