"""Checkpoints: the State of a training run as JSON and safetensors, complete or not there at all.

    step-000123/
        checkpoint.json      the step, and the size and SHA-256 of every other file
        state.json           the State; a tensor is {"$tensor": "/model/lm_head.weight"}, an infinity {"$float": "inf"}
        model.safetensors    the tensors below State["model"]; one file for each key that has tensors

A State holds dicts with text keys, lists, text, whole numbers, floats (kept to the last bit), bools, None and tensors.
Tensors come back on the CPU, detached; tensors that were one (tied weights) come back as one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.distributed.tensor import DTensor

from baro.errors import RunError
from baro.files import atomic_directory, fault_point, hash_path, write_atomic
from baro.protocols import State
from baro.runs import RunDir
from baro.tensor_files import in_file_order, write_tensors

KEPT = 2  # checkpoints of a run: the newest, and one in case that somebody damages it


def save_checkpoint(
    run: RunDir, step: int, state: State, *, keep: int = KEPT, whole: Callable[[Tensor], Tensor] = Tensor.cpu
) -> Path:
    """Save the state after ``step``, then remove all but the ``keep`` newest checkpoints; returns the new one's folder.

    A checkpoint of the same step is replaced. ``whole`` puts a tensor on the CPU, and makes one of a sharded one: of
    each in its turn, so that there is never a second copy of all. The other ranks call ``join_checkpoint`` meanwhile.
    Raises TypeError for a state that cannot be saved, and BackendError, with the older checkpoints intact, if the disk
    is full.
    """
    if keep < 1:
        raise ValueError("keep must be at least 1: the newest checkpoint stays")
    packer = _Packer()
    document, parts = packer.value(state, ""), _by_top_level_key(packer.tensors)
    path = run.checkpoints / f"step-{step:06d}"
    run.sync()  # a checkpoint knows how long the rows' files are, so the rows reach the disk first
    with atomic_directory(path) as folder:
        files = {}
        for name, part in parts.items():
            files[f"{name}.safetensors"] = write_tensors(folder / f"{name}.safetensors", part, whole)
            fault_point("between-files")
        written = _to_json(document)
        (folder / "state.json").write_bytes(written)
        fault_point("between-files")
        files["state.json"] = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
        (folder / "checkpoint.json").write_bytes(_to_json({"step": step, "files": files}))
    remove_old_checkpoints(run, keep=keep)
    return path


def join_checkpoint(state: State, whole: Callable[[Tensor], Tensor]) -> None:
    """What a rank that writes nothing does while rank 0 saves the same state: give its shards, in the same order."""
    packer = _Packer()
    packer.value(state, "")
    for part in _by_top_level_key(packer.tensors).values():
        for tensor in in_file_order(part).values():
            if isinstance(tensor, DTensor):
                whole(tensor)


def remove_old_checkpoints(run: RunDir, *, keep: int = KEPT) -> None:
    """Remove all but the ``keep`` newest; what is left after a kill is removed when the run is taken up again."""
    for old in run.checkpoint_folders()[:-keep]:
        _remove(old)


def load_checkpoint(run: RunDir) -> tuple[int, State] | None:
    """The newest checkpoint's step and state, or None if there is none. RunError names a damaged file and a way out."""
    folder = run.latest_checkpoint
    if folder is None:
        return None
    older = run.checkpoint_folders()[:-1]
    start = f"from {older[-1].name}" if older else "from the beginning"
    problem = _damage(folder)
    if problem:
        raise RunError(f"{folder}: {problem}; remove this folder and run the same command again to go on {start}")
    return read_checkpoint(folder)


def read_checkpoint(folder: Path) -> tuple[int, State]:
    """A checkpoint's step and state; ``load_checkpoint`` looks first whether it is whole."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= _read_tensors(file)[0]
    step = json.loads((folder / "checkpoint.json").read_bytes())["step"]
    return step, unpack_state(json.loads((folder / "state.json").read_bytes()), tensors)


def write_state(path: Path, state: State) -> None:
    """Write a state as one safetensors file, its JSON in the header; complete or not there at all."""
    document, tensors = pack_state(state)
    write_atomic(path, save(tensors, metadata={"state": _to_json(document).decode()}))


def read_state(path: Path) -> State:
    """What ``write_state`` wrote. RunError for a file that is not whole."""
    try:
        tensors, metadata = _read_tensors(path)
        state: State = unpack_state(json.loads(metadata["state"]), tensors)
        return state
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove it and run the same command again") from error


def pack_state(state: State) -> tuple[Any, dict[str, Tensor]]:
    """A state as a JSON value and the tensors that it refers to, by JSON pointer (RFC 6901).

    The tensors are contiguous, on the CPU, and share no memory with each other (safetensors wants that); they may
    share it with the state's. Raises TypeError that names the place of anything else than a State holds.
    """
    packer, storages = _Packer(), set()
    document, packed = packer.value(state, ""), {}
    for name, tensor in packer.tensors.items():
        storage = (tensor.device, tensor.untyped_storage().data_ptr())
        own = tensor.resolve_neg().cpu().contiguous()
        packed[name] = own.clone() if storage in storages and own.data_ptr() == tensor.data_ptr() else own
        storages.add(storage)
    return document, packed


def unpack_state(document: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that ``pack_state`` took apart."""
    if isinstance(document, list):
        return [unpack_state(value, tensors) for value in document]
    if not isinstance(document, dict):
        return document
    if "$tensor" in document:
        return tensors[document["$tensor"]]
    if "$float" in document:
        return float(document["$float"])
    return {key.removeprefix("$"): unpack_state(value, tensors) for key, value in document.items()}


class _Packer:
    """One walk through a state; ``tensors`` fills on the way, with the state's own."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[object, ...], str] = {}

    def value(self, value: Any, where: str) -> Any:
        if isinstance(value, Tensor):
            return {"$tensor": self.tensor(value.detach(), where)}
        if isinstance(value, dict):
            return {self.key(key, where): self.value(inner, f"{where}/{_escaped(key)}") for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, f"{where}/{position}") for position, inner in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            return {"$float": float.__repr__(value)}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"state{where} is a {type(value).__name__}; a state holds dict, list, str, numbers and tensors")

    def key(self, key: object, where: str) -> str:
        if not isinstance(key, str):
            raise TypeError(f"state{where} has the key {key!r}, a {type(key).__name__}; the keys of a state are str")
        return f"${key}" if key.startswith("$") else key  # so that no key of ours can be mistaken for a reference

    def tensor(self, tensor: Tensor, where: str) -> str:
        """Pack one tensor; returns the name under which it is, which is another's if both are the same memory."""
        if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized or tensor.is_meta:
            raise TypeError(
                f"state{where} is a sparse, quantised, complex or meta tensor; a state's are dense, real and in memory"
            )
        if not isinstance(tensor, DTensor):  # a sharded one shares its memory with no other
            storage = (tensor.device, tensor.untyped_storage().data_ptr())
            view = (*storage, tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride())
            if tensor.numel() and view in self._names:
                return self._names[view]
            self._names[view] = where
        self.tensors[where] = tensor
        return where


def _escaped(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _by_top_level_key(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each file. TypeError for a top-level key that is no file name."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key = name.split("/")[1]
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            raise TypeError(f"state/{key} names a file; its key must consist of letters, digits, - and _")
        parts.setdefault(key, {})[name] = tensor
    return parts


def _to_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata.

    Copied, because safetensors maps the file: the mapping would keep a removed checkpoint's disk space, and its
    alignment is not torch's own, on which the last bits of a matrix product may depend.
    """
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def as_os_error() -> Iterator[None]:
    """Safetensors reports a full disk only in words; raise what Python's own files raise."""
    try:
        yield
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        files = json.loads((folder / "checkpoint.json").read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "checkpoint.json is missing or damaged"
    for name, written in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if (folder / name).stat().st_size != written["bytes"] or hash_path(folder / name) != written["sha256"]:
            return f"{name} is not what was written (its SHA-256 differs)"
    return None


def _remove(folder: Path) -> None:
    """Remove a checkpoint; killed on the way, it is no checkpoint any more, and the next ``RunDir.open`` clears it."""
    doomed = folder.rename(folder.with_name(f".{folder.name}.old.partial"))
    for file in sorted(doomed.iterdir()):
        file.unlink()
        fault_point("while-deleting")
    doomed.rmdir()
