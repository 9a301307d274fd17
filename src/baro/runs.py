"""Run directories: what a stage leaves behind, safe to kill at any moment. No torch here.

run.json        config, seed, versions, threads, inputs with SHA-256, parents, status, times
run.lock        held by the one process that may write here; the kernel frees it when that process dies
metrics.jsonl   one row per logged step, append only       samples.jsonl   likewise
checkpoints/    step-000123/, the newest last              model/, records.jsonl   what the stage produced
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from baro.config import Config, identity
from baro.errors import RunError
from baro.files import remove_leftovers, sync_to_disk, write_atomic
from baro.rows import JsonLines

FORMAT = 1  # of run directories; it grows when an older Baro could not read what a newer one writes
ANY_ENVIRONMENT = "BARO_ALLOW_ENVIRONMENT_CHANGE"  # set by --allow-environment-change, for every stage of a pipeline
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "pyarrow", "numpy", "baro")
"""Whose versions are a part of a run: they compute it, or read its tokens, weights and tables."""


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
        environment: Mapping[str, str] = {}, allow_environment_change: bool = False
    ) -> RunDir:  # fmt: skip
        """Create a run directory, or take one up again where it was left; ``finished`` says that nothing is to do.

        inputs: the SHA-256 of each input. environment: what the stage computes with, besides versions and threads.
        Raises RunError if another process is at work here, and if the directory was begun by another verb, config or
        data, or (while unfinished) in another environment.
        """
        wanted = _manifest(verb, config, inputs, parents)
        wanted["environment"] |= environment
        _make_directory(path)
        run = cls(path, wanted)
        run.close = weakref.finalize(run, os.close, _lock(path))
        with ExitStack() as on_the_way_out:
            on_the_way_out.callback(run.close)
            run._take_up(
                wanted,
                set(flat_settings(wanted["config"])) - set(flat_settings(identity(config))),
                allow_environment_change,
            )
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

    def note(self, key: str, value: str) -> None:
        """Add a value to a list of the manifest, once."""
        values = self.manifest.setdefault(key, [])
        if value not in values:
            values.append(value)
            self._write()

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
            if changes:  # a corrected file or key after an error, and nothing is lost: start again
                self.manifest = wanted
                (self.path / "ledger.json").unlink(missing_ok=True)
            self._adopt(wanted, allow_environment_change)
        self._write()  # first: a folder without run.json would be taken for somebody else's
        self.checkpoints.mkdir(exist_ok=True)
        sync_to_disk(self.path)
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
        manifest = json.dumps(self.manifest, ensure_ascii=False, indent=2, allow_nan=False)
        write_atomic(self.path / "run.json", manifest + "\n")


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
    versions = {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}}
    torch = sys.modules.get("torch")  # its own count where it is loaded, else the one that it would start with
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    threads = {"torch_threads": torch.get_num_threads()} if torch else {"threads": int(wished or os.cpu_count() or 1)}
    return versions | threads | {"platform": platform.platform()}


def _version(package: str) -> str | None:
    """None for one that is not there: what reads tables need not be, and baro itself may run from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
    settings = {key: value for key, value in flat_settings(manifest["config"]).items() if key not in free_keys}
    inputs = {f"input {name}": value[:16] if len(value) == 64 else value for name, value in manifest["inputs"].items()}
    return {"verb": manifest["verb"], **settings, **inputs}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, key by key, as ``beta 0.1 (now 0.2)``; empty if nothing does."""
    was = {key: json.dumps(value, ensure_ascii=False)[:60] for key, value in old.items()}
    now = {key: json.dumps(value, ensure_ascii=False)[:60] for key, value in new.items()}
    keys = [key for key in {**old, **new} if key not in old or key not in new or old[key] != new[key]]
    return ", ".join(f"{key} {was.get(key, 'not set')} (now {now.get(key, 'not set')})" for key in keys)


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's values by their keys with dots; an empty block is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        block = isinstance(value, Mapping) and value
        flat |= flat_settings(value, f"{prefix}{key}.") if block else {f"{prefix}{key}": value}
    return flat
