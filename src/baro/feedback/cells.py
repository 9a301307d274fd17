"""CSV that a spreadsheet opens as it is meant: UTF-8 that Excel knows by its first bytes, and no cell that is run."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from baro.errors import ConfigError

BOM = "\ufeff"  # without it, Excel takes UTF-8 for the code page of its country
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
"""What a cell must not begin with: OWASP's list, with the full-width signs that Excel takes for the same in CJK."""


def csv_of(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The file."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow([safe_cell(head) for head in heads])
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return (BOM + sink.getvalue()).encode()


def safe_cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return value


def write_private_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A new file that its owner alone may read; ConfigError where it cannot be made."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(csv_of(heads, rows))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); name another file") from None
