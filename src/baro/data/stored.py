"""Samples in memory-mapped files: a million of them cost no memory, and a second run finds them ready.

A file with few rows becomes a list and nothing is written. Of a larger one the samples are stored in the cache folder
under a name made of everything they depend on: the rows' bytes, the template, ``max_length``, and the code that made
them. Deleting the folder costs nothing but the time to make them again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from baro.batch import Branch, Sample
from baro.data.encode import QUIET_BELOW
from baro.data.formats import Loaded
from baro.data.lazy import LazySamples
from baro.data.ledger import Ledger
from baro.data.template import Template
from baro.files import atomic_directory, remove_leftovers, shared_lock
from baro.records import content_hash

Encode = Callable[[Loaded, Template, int, Ledger], Iterable[Sample]]
IN_MEMORY = QUIET_BELOW  # samples of a file that is read anew each time
FLUSHED = 1 << 16  # values of one column that wait in memory

COLUMNS = {  # by sample, by completion, by token; "ends" are running totals, so that any sample is found at once
    "key_ends": np.int64,
    "prompt_ends": np.int64,
    "branch_ends": np.int64,
    "token_ends": np.int64,
    "value_ends": np.int64,
    "last": np.int32,
    "kinds": np.int32,  # which names a completion's values have
    "keys": np.uint8,
    "prompt_ids": np.int32,
    "ids": np.int32,
    "scored": np.bool_,
    "values": np.float64,
}


def cache_folder() -> Path:
    """Where everything lies that can be made again: $BARO_CACHE, or ~/.cache/baro."""
    return Path(os.environ.get("BARO_CACHE", Path.home() / ".cache" / "baro"))


@contextmanager
def into_cache() -> Iterator[None]:
    """Write into the cache inside. What killed processes left there goes as soon as nobody else writes."""
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    with shared_lock(root / "cache.lock", when_alone=lambda: remove_leftovers(root)):
        yield


def encode_cached(
    loaded: Loaded, encode: Encode, template: Template, max_length: int, ledger: Ledger
) -> Sequence[Sample]:
    """What ``encode`` makes of the records, and its ledger: from the cache, or made now and kept there if large."""
    name = _name(loaded, encode, template, max_length)
    folder = cache_folder() / "samples" / name if name else None
    if folder is not None and (folder / "index.json").exists():
        stored = StoredSamples(folder)
        ledger.restore(stored.header["ledger"])
        return stored
    samples = iter(encode(loaded, template, max_length, ledger))
    first = list(islice(samples, IN_MEMORY))
    if len(first) < IN_MEMORY or folder is None:
        return [*first, *samples]
    with into_cache(), atomic_directory(folder) as partial:
        kinds = _write(partial, chain(first, samples))
        index = {"kinds": kinds, "ledger": ledger.state()}
        (partial / "index.json").write_text(json.dumps(index, ensure_ascii=False, allow_nan=False))
    return StoredSamples(folder)


class StoredSamples(LazySamples):
    """The samples of a folder, made when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.header: dict[str, Any] = json.loads((folder / "index.json").read_text())
        self._kinds: list[tuple[list[str], list[str]]] = self.header["kinds"]
        self._columns = {name: _mapped(folder / name, kind) for name, kind in COLUMNS.items()}

    def __len__(self) -> int:
        return len(self._columns["key_ends"])

    def sample(self, i: int) -> Sample:
        key = self._part("keys", "key_ends", i).tobytes().decode()
        first, last = self._range("branch_ends", i)
        prompt_ids = torch.from_numpy(self._part("prompt_ids", "prompt_ends", i).astype(np.int64))
        return Sample(prompt_ids, tuple(self._branch(j) for j in range(first, last)), key)

    def _branch(self, j: int) -> Branch:
        fields, units = self._kinds[self._columns["kinds"][j]]
        values = self._part("values", "value_ends", j).tolist()
        return Branch(
            ids=torch.from_numpy(self._part("ids", "token_ends", j).astype(np.int64)),
            scored=torch.from_numpy(self._part("scored", "token_ends", j).copy()),
            last=int(self._columns["last"][j]),
            fields=dict(zip(fields, values[: len(fields)], strict=True)),
            units=dict(zip(units, values[len(fields) :], strict=True)),
        )

    def _part(self, name: str, ends: str, i: int) -> np.ndarray:
        first, last = self._range(ends, i)
        return self._columns[name][first:last]

    def _range(self, ends: str, i: int) -> tuple[int, int]:
        column = self._columns[ends]
        return int(column[i - 1]) if i else 0, int(column[i])


class Picked(LazySamples):
    """Some of a sequence's samples, without a copy."""

    def __init__(self, samples: Sequence[Sample], indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, i: int) -> Sample:
        return self.samples[int(self.indices[i])]


# ----------------------------------------------------------------------------------------------------------- writing


class _Column:
    """A file to which values are added; ``total`` counts them."""

    def __init__(self, file: BinaryIO, kind: type) -> None:
        self.file, self.kind, self.total = file, kind, 0
        self.waiting: list[Any] = []

    def add(self, values: Sequence[Any]) -> int:
        self.waiting.extend(values)
        self.total += len(values)
        if len(self.waiting) >= FLUSHED:
            self.flush()
        return self.total

    def flush(self) -> None:
        self.file.write(np.asarray(self.waiting, dtype=self.kind).tobytes())
        self.waiting = []


def _write(folder: Path, samples: Iterable[Sample]) -> list[tuple[list[str], list[str]]]:
    """Write every column; returns the names of the values that completions have, numbered by ``kinds``."""
    kinds: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    branches = 0
    with ExitStack() as files:
        opened = {name: files.enter_context((folder / name).open("wb")) for name in COLUMNS}
        columns = {name: _Column(opened[name], kind) for name, kind in COLUMNS.items()}
        for sample in samples:
            branches += len(sample.completions)
            _add(columns, sample, branches, kinds)
        for column in columns.values():
            column.flush()
    return [(list(fields), list(units)) for fields, units in kinds]


def _add(columns: dict[str, _Column], sample: Sample, branches: int, kinds: dict[Any, int]) -> None:
    """``branches``: how many completions there are so far, with this sample's."""
    columns["key_ends"].add([columns["keys"].add(sample.key.encode())])
    columns["prompt_ends"].add([columns["prompt_ids"].add(sample.prompt_ids.tolist())])
    columns["branch_ends"].add([branches])
    for one in sample.completions:
        if one.token_fields or one.skip or one.partner:
            raise TypeError(f"{sample.key}: token fields, skip and partner are for Prepare; encoders make none of them")
        columns["token_ends"].add([columns["ids"].add(one.ids.tolist())])
        columns["scored"].add(one.scored.tolist())
        columns["last"].add([one.last])
        columns["value_ends"].add([columns["values"].add([*one.fields.values(), *one.units.values()])])
        columns["kinds"].add([kinds.setdefault((tuple(one.fields), tuple(one.units)), len(kinds))])


def _mapped(path: Path, kind: type) -> np.ndarray:
    if path.stat().st_size == 0:  # prompts have no completions, and an empty file cannot be mapped
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")


def _name(loaded: Loaded, encode: Encode, template: Template, max_length: int) -> str | None:
    """Equal if the samples are; None for a function that has no name of its own, as lambdas do."""
    module = sys.modules.get(getattr(encode, "__module__", ""))
    qualified = getattr(encode, "__qualname__", "")
    if module is None or getattr(module, qualified, None) is not encode:
        return None
    rows = [loaded.files.sha256, loaded.files.called, loaded.files.encoding]
    made_by = [module.__name__, qualified, _code(Path(inspect.getfile(module))), version("tokenizers")]
    kind = [loaded.kind.__name__, loaded.fit.layout.name, dict(loaded.fit.names), asdict(loaded.fit.reading)]
    return content_hash([rows, kind, template.fingerprint, max_length, made_by])


def _code(encoder: Path) -> str:
    """The version of the encoder: a hash of its module and of the modules beside this one."""
    sources = [*sorted(Path(__file__).parent.glob("*.py")), encoder]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
