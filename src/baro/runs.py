"""Run directories: what a stage leaves behind, safe to kill at any moment. No torch here.

run.json        config, seed, versions, threads, inputs with SHA-256, parents, status, times
run.lock        held by the one process that may write here; the kernel frees it when that process dies
metrics.jsonl   one row per logged step, append only       samples.jsonl   likewise
checkpoints/    step-000123/, the newest last              model/, records.jsonl   what the stage produced
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from baro.config import Config, identity
from baro.errors import BackendError, ConfigError, DataError, RunError

FORMAT = 1  # of run directories; it grows when an older Baro could not read what a newer one writes
ANY_ENVIRONMENT = "BARO_ALLOW_ENVIRONMENT_CHANGE"  # set by --allow-environment-change, for every stage of a pipeline
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
    with _beside(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        fault_point("before-fsync")
        _sync(partial)
        os.replace(partial, path)
        fault_point("after-rename")
        _sync(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` when the block ends, or goes if the block raises."""
    with _beside(path) as partial:
        partial.mkdir(parents=True)
        yield partial
        fault_point("before-fsync")
        for inside in [*partial.rglob("*"), partial]:
            _sync(inside)
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


def _rename_over(partial: Path, path: Path) -> None:
    """A folder cannot be renamed over another: the older one steps aside, and comes back if we are killed here."""
    older = path.with_name(f".{path.name}.replaced")
    if path.exists():
        _remove(older)
        os.rename(path, older)
        fault_point("between-renames")
    os.rename(partial, path)
    fault_point("after-rename")
    _sync(path.parent)
    _remove(older)


def _sync(path: Path) -> None:
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


def _parse_rows(path: Path, content: bytes) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a row ({error}); write one JSON object on each line") from None
        rows.append(row)
    return rows


class JsonLines:
    """A file of JSON rows that only grows. A row is in the file when ``append`` returns, on the disk after ``sync``.

    NaN and infinities are written as null, so that the file is JSON for every reader: null is a figure without a value.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n"
        with saving(self.path), open(self.path, "ab") as file:
            file.write(line.encode("utf-8", "backslashreplace"))  # half a surrogate pair becomes its JSON escape

    def read(self) -> list[dict[str, Any]]:
        """The rows so far, without one that is just being written."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return _parse_rows(self.path, content[: content.rfind(b"\n") + 1])

    @property
    def offset(self) -> int:
        """The file's size in bytes: what a checkpoint keeps and ``truncate`` takes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, offset: int) -> None:
        """Take back every row after ``offset``; RunError if the file is shorter than that."""
        if self.offset < offset:
            lost = f"{self.path}: {self.offset} bytes are left of the {offset} that its checkpoint knows"
            raise RunError(f"{lost}; the file was changed after the run wrote it, so start again with another --out")
        if self.offset > offset:
            os.truncate(self.path, offset)

    def sync(self) -> None:
        if self.path.exists():
            with saving(self.path):
                _sync(self.path)

    def drop_broken_end(self) -> None:
        """Take back a last line that a killed process did not finish."""
        if self.path.exists():
            self.truncate(self.path.read_bytes().rfind(b"\n") + 1)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def default_out(verb: str, hash: str) -> Path:
    """Where a run goes without ``--out``: the same command finds the same directory."""
    return Path("runs") / f"{verb}-{hash}"


class RunDir:
    """A stage's directory: ``open`` to write it (one process at a time), ``load`` to read it.

    ``manifest`` is its run.json. ``close()`` lets other processes in; so does the end of this one, however it comes.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path, self.manifest = path, manifest
        self.verb: str = manifest["verb"]
        self.metrics = JsonLines(path / "metrics.jsonl")
        self.samples = JsonLines(path / "samples.jsonl")
        self.model = path / "model"
        self.records = path / "records.jsonl"
        self.checkpoints = path / "checkpoints"
        self.close: Callable[[], object] = lambda: None

    @classmethod
    def open(
        cls, path: Path, *, verb: str, config: Config, inputs: Mapping[str, str], parents: Sequence[Path | str] = (),
        allow_environment_change: bool = False
    ) -> RunDir:  # fmt: skip
        """Create a run directory, or take one up again where it was left; ``finished`` says that nothing is to do.

        inputs: the SHA-256 of each input. Raises RunError if another process is at work here, and if the directory was
        begun by another verb, config or data, or (while unfinished) under other versions or threads.
        """
        wanted = _manifest(verb, config, inputs, parents)
        _make_directory(path)
        run = cls(path, wanted)
        run.close = weakref.finalize(run, os.close, _lock(path))
        with ExitStack() as on_the_way_out:
            on_the_way_out.callback(run.close)
            run._take_up(wanted, set(_flat(wanted["config"])) - set(_flat(identity(config))), allow_environment_change)
            if not run.finished:
                on_the_way_out.pop_all()
        return run

    @classmethod
    def load(cls, path: Path) -> RunDir:
        """A run directory to read from, whether or not a process is at work in it. RunError if it is none."""
        return cls(path, _read_manifest(path))

    @property
    def finished(self) -> bool:
        return bool(self.manifest["status"] == "finished")

    def finish(self, status: Literal["finished", "stopped"] = "finished") -> None:
        """Say how it ended, and let others in. A stopped run is taken up again by the next ``open``."""
        self.sync()
        self.manifest |= {"status": status, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        self._write()
        self.close()

    def sync(self) -> None:
        """Wait until all rows are on the disk; a checkpoint that knows their offsets comes after this."""
        self.metrics.sync()
        self.samples.sync()

    def checkpoint_folders(self) -> list[Path]:
        """All checkpoints, the newest last."""
        return sorted(self.checkpoints.glob("step-*"), key=lambda folder: int(folder.name.removeprefix("step-")))

    @property
    def latest_checkpoint(self) -> Path | None:
        return self.checkpoint_folders()[-1] if self.checkpoint_folders() else None

    def _take_up(self, wanted: dict[str, Any], free_keys: set[str], allow_environment_change: bool) -> None:
        """Find out what is here under our lock: nothing, a run to go on with, or another run."""
        remove_leftovers(self.path)
        if (self.path / "run.json").exists():
            self.manifest = _read_manifest(self.path)
            changes = _changes(_subject(self.manifest, free_keys), _subject(wanted, free_keys))
            if changes and (self.finished or not self._is_bare()):
                way_out = "go back to that, or choose another --out"
                raise RunError(f"{self.path}: this run was started with {changes}; {way_out}")
            if self.finished:
                return
            if changes:  # a mended file or key after an error, and nothing is lost: begin anew
                self.manifest = wanted
                (self.path / "ledger.json").unlink(missing_ok=True)
            self._adopt(wanted, allow_environment_change)
        self._write()  # first: a folder without run.json would be taken for somebody else's
        self.checkpoints.mkdir(exist_ok=True)
        _sync(self.path)
        self.metrics.drop_broken_end()
        self.samples.drop_broken_end()

    def _is_bare(self) -> bool:
        """Whether nothing was made here yet."""
        known = {"run.json", "run.lock", "ledger.json", "checkpoints"}
        return {inside.name for inside in self.path.iterdir()} <= known and self.latest_checkpoint is None

    def _adopt(self, wanted: dict[str, Any], allow_environment_change: bool) -> None:
        """Go on with the run that is here, under this process's environment."""
        old, new = self.manifest["environment"], wanted["environment"]
        changes = _changes(*({key: env[key] for key in new if key in old and key != "platform"} for env in (old, new)))
        if changes and not (allow_environment_change or ANY_ENVIRONMENT in os.environ):
            lost = "it would not go on bit for bit; go back to that, or pass --allow-environment-change"
            raise RunError(f"{self.path}: this run was started with {changes}, so {lost}")
        if changes:
            self.manifest.setdefault("earlier_environments", []).append(old)
            self.manifest["environment"] = new
        self.manifest |= {"config": wanted["config"], "status": "running", "finished": None}

    def _write(self) -> None:
        write_atomic(self.path / "run.json", json.dumps(self.manifest, ensure_ascii=False, indent=2) + "\n")


def _manifest(verb: str, config: Config, inputs: Mapping[str, str], parents: Sequence[Path | str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "verb": verb,
        "config": config.model_dump(mode="json"),
        "seed": getattr(getattr(config, "trainer", config), "seed", None),
        "inputs": dict(inputs),
        "parents": [str(parent) for parent in parents],
        "environment": _environment(),
        "status": "running",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
    }


def _environment() -> dict[str, Any]:
    packages = ("torch", "transformers", "tokenizers", "numpy", "baro")
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    torch = sys.modules.get("torch")  # its own count where it is loaded, else the one that it would start with
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    threads = {"torch_threads": torch.get_num_threads()} if torch else {"threads": int(wished or os.cpu_count() or 1)}
    return versions | threads | {"platform": platform.platform()}


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {inside.name for inside in path.iterdir() if not inside.name.endswith((".partial", "run.lock"))}
    except OSError as error:
        raise RunError(f"{path}: cannot be a run directory ({error.strerror}); choose another --out") from None
    if names and "run.json" not in names:
        raise RunError(f"{path}: is not empty and not a run directory (it has {min(names)}); choose another --out")


def _lock(path: Path) -> int:
    """Take the directory for this process, until the descriptor is closed or the process dies."""
    descriptor = os.open(path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode().strip()
        os.close(descriptor)
        raise RunError(f"{path}: process {owner} is at work here; wait for it, or choose another --out") from None
    os.pwrite(descriptor, f"{os.getpid():<20}".encode(), 0)
    return descriptor


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "run.json").read_bytes())
        written_as, writer = manifest["format"], manifest["environment"].get("baro")
    except FileNotFoundError:
        raise RunError(f"{path}: is not a run directory (it has no run.json); check the path") from None
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}/run.json: is damaged ({error}); run its stage again with another --out") from None
    if written_as != FORMAT:
        way_out = f"use baro {writer}, which wrote it, or run the stage again with another --out"
        raise RunError(f"{path}: is of format {written_as} and this version of baro reads format {FORMAT}; {way_out}")
    return manifest


def _subject(manifest: Mapping[str, Any], free_keys: set[str]) -> dict[str, Any]:
    """What makes a run this run and no other: its verb, its config without ``free_keys``, its data."""
    settings = {key: value for key, value in _flat(manifest["config"]).items() if key not in free_keys}
    inputs = {f"input {name}": value[:16] if len(value) == 64 else value for name, value in manifest["inputs"].items()}
    return {"verb": manifest["verb"], **settings, **inputs}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, key by key, as ``beta 0.1 (now 0.2)``; empty if nothing does."""
    was = {key: json.dumps(value, ensure_ascii=False)[:60] for key, value in old.items()}
    now = {key: json.dumps(value, ensure_ascii=False)[:60] for key, value in new.items()}
    keys = [key for key in {**old, **new} if key not in old or key not in new or old[key] != new[key]]
    return ", ".join(f"{key} {was.get(key, 'not set')} (now {now.get(key, 'not set')})" for key in keys)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested blocks as one level of dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
