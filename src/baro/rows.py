"""Files of JSON rows that only grow. No torch here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baro.errors import DataError, RunError
from baro.files import saving, sync_to_disk


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
        line = json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"
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
                sync_to_disk(self.path)

    def drop_broken_end(self) -> None:
        """Take back a last line that a killed process did not finish."""
        if self.path.exists():
            self.truncate(self.path.read_bytes().rfind(b"\n") + 1)


def finite(value: Any) -> Any:
    """The same value with null for NaN and infinities, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
