"""Rows of tables: CSV and Parquet."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from baro.data.cells import is_messages, parsed
from baro.data.rows import Row
from baro.errors import DataError

LISTS = frozenset(
    {"messages", "conversations", "conversation", "responses", "completions", "ranks", "ranking", "ratings", "scores"}
    | {"finished"}
)
"""Columns whose cells are lists; in a CSV they stand as JSON. Messages may stand so in any column."""


def csv_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    """Rows of text below a line of column names; the key has the line in which a row ends."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines, strict=True)
    try:
        names = next(reader, [])
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise DataError(f"{path.name}:1: the column {min(repeated)!r} stands there twice; rename one")
        for cells in reader:
            key = f"{path.name}:{reader.line_num}"
            if len(cells) not in (0, len(names)):
                raise DataError(
                    f"{key}: has {len(cells)} cells, and the first line names {len(names)} columns; quote cells that "
                    "hold a comma"
                )
            if cells:
                yield Row(key, None, {name: _cell(name, text) for name, text in zip(names, cells, strict=True)})
    except csv.Error as error:
        raise DataError(
            f"{path.name}:{reader.line_num}: cannot be read ({error}); quote cells that hold a quote, a comma or a "
            "line end"
        ) from error


def _cell(name: str, text: str) -> Any:
    value = parsed(text)
    return value if name in LISTS or is_messages(value) else text


def parquet_rows(path: Path, content: BinaryIO) -> Iterator[Row]:
    """Rows of a Parquet file, a thousand in memory at a time; the key has the row's number, from 1."""
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        source = content if path.suffix != ".gz" else arrow.BufferReader(content.read())
        table = parquet.ParquetFile(source)
        number = 0
        for batch in table.iter_batches(batch_size=1000):
            for columns in batch.to_pylist():
                number += 1
                key = f"{path.name}:{number}"
                yield Row(key, None, {name: _plain(value, key, name) for name, value in columns.items()})
    except arrow.ArrowException as error:
        raise DataError(f"{path.name}: cannot be read ({error}); write or copy it again") from error


def _plain(value: Any, key: str, column: str) -> Any:
    """The value as JSON has it: times as ISO 8601 text, decimals as text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [_plain(one, key, column) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one, key, column) for name, one in value.items()}
    raise DataError(f"{key}: column {column!r} holds {type(value).__name__}, which is no text; leave this column out")
