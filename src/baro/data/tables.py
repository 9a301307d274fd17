"""Rows of tables: CSV, Parquet and Arrow."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Any, BinaryIO

from baro.data.cells import parsed
from baro.data.messages import is_messages
from baro.data.rows import Notes, Row
from baro.errors import DataError

TAB = "\t"
ARROW_FILE = b"ARROW1"

log = logging.getLogger("baro")
LISTS = frozenset(
    {"messages", "conversations", "conversation", "responses", "completions", "ranks", "ranking", "ratings", "scores"}
    | {"finished"}
)
"""Columns whose cells are lists; in a CSV they stand as JSON. Messages may stand so in any column."""


def csv_rows(path: str, lines: Iterable[str], notes: Notes) -> Iterator[Row]:
    """Rows of text below a line of column names; the key has the line in which a row ends. Empty cells are null.

    Cells may be separated by commas, or by what the line of names shows: semicolons, tabs.
    """
    csv.field_size_limit(sys.maxsize)
    lines, delimiter, skipped = _delimited(iter(lines))
    if delimiter != ",":
        notes[f"cells are separated by {'tabs' if delimiter == TAB else repr(delimiter)}"] = None
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    try:
        names = [name.strip() for name in next(reader, [])]
        repeated = {name for name in names if name and names.count(name) > 1}
        if repeated:
            raise DataError(f"{path}:{1 + skipped}: the column {min(repeated)!r} stands there twice; rename one")
        for cells in reader:
            if any(map(str.strip, cells)):
                key = f"{path}:{reader.line_num + skipped}"
                yield Row(key, None, _columns(key, names, cells, delimiter), table=True)
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num + skipped}: cannot be read ({error}); quote cells that hold a quote, a comma or "
            "a line end"
        ) from error


def _delimited(lines: Iterator[str]) -> tuple[Iterator[str], str, int]:
    """The lines, what stands between their cells, and how many were passed over (spreadsheets write ``sep=;``)."""
    first, skipped = next(lines, ""), 0
    said = re.fullmatch(r'"?sep=(.)"?\s*', first)
    if said:
        return lines, said[1], 1
    found = ","
    if len(next(csv.reader([first]), [])) == 1:
        found = next((one for one in (";", TAB) if len(next(csv.reader([first], delimiter=one), [])) > 1), ",")
    return chain([first] if first else [], lines), found, skipped


def _columns(key: str, names: list[str], cells: list[str], delimiter: str) -> dict[str, Any]:
    """A row's cells by name. What has no name and is empty is what spreadsheets write beside a table."""
    beyond = [cell for cell in cells[len(names) :] if cell.strip()]
    if len(cells) < len(names) or beyond:
        raise DataError(
            f"{key}: has {len(cells)} cells, and the first line names {len(names)} columns; quote cells that hold a "
            + {",": "comma", ";": "semicolon", TAB: "tab"}.get(delimiter, repr(delimiter))
        )
    by_name = list(zip(names, cells[: len(names)], strict=True))
    nameless = next((cell for name, cell in by_name if not name and cell.strip()), None)
    if nameless is not None:
        raise DataError(f"{key}: the cell {nameless[:40]!r} stands under no name; name its column in the first line")
    return {name: _cell(name, text) for name, text in by_name if name}


def _cell(name: str, text: str) -> Any:
    if not text:
        return None
    value = parsed(text)
    return value if name in LISTS or is_messages(value) else text


def parquet_rows(path: str, content: BinaryIO) -> Iterator[Row]:
    """Rows of a Parquet file, a thousand in memory at a time; the key has the row's number, from 1."""
    from pyarrow import parquet

    def batches() -> Iterator[Any]:
        yield from parquet.ParquetFile(_seekable(content)).iter_batches(batch_size=1000)

    return _arrow_rows(path, batches)


def arrow_rows(path: str, content: BinaryIO) -> Iterator[Row]:
    """Rows of a file of Arrow, as datasets' ``save_to_disk`` writes them (a stream) or Feather is (a file)."""
    from pyarrow import ipc

    def batches() -> Iterator[Any]:
        source = _seekable(content)
        if content.peek(6)[:6] == ARROW_FILE:  # type: ignore[attr-defined]  # buffered readers have it
            opened = ipc.open_file(source)
            wholes: Iterable[Any] = map(opened.get_batch, range(opened.num_record_batches))
        else:
            wholes = ipc.open_stream(source)
        for whole in wholes:
            yield from (whole.slice(start, 1000) for start in range(0, whole.num_rows, 1000))

    return _arrow_rows(path, batches)


def _seekable(content: BinaryIO) -> Any:
    """What pyarrow reads from: the file itself, or all of it where it is unpacked on the way."""
    import pyarrow as arrow

    return content if isinstance(getattr(content, "raw", None), io.FileIO) else arrow.BufferReader(content.read())


def _arrow_rows(path: str, batches: Callable[[], Iterator[Any]]) -> Iterator[Row]:
    import pyarrow as arrow

    try:
        number = 0
        for batch in batches():
            bytes_in = tuple(one.name for one in batch.schema if _holds_bytes(one.type))
            if bytes_in:
                _tell_bytes(path, bytes_in)
                batch = batch.drop_columns(list(bytes_in))
            for columns in batch.to_pylist():
                number += 1
                key = f"{path}:{number}"
                plain = {name: _plain(value, key, name) for name, value in columns.items()}
                yield Row(key, None, plain, table=True)
    except arrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read ({error}); write or copy it again") from error


def _holds_bytes(kind: Any) -> bool:
    """Whether a column's type has bytes in it, which are images or sound and no text."""
    from pyarrow import types

    if types.is_nested(kind):
        return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


@cache
def _tell_bytes(name: str, columns: tuple[str, ...]) -> None:
    """Once, however often the file is read."""
    log.warning("%s: left out, since they hold bytes: %s", name, ", ".join(map(repr, columns)))


def _plain(value: Any, key: str, column: str) -> Any:
    """The value as JSON has it: times as ISO 8601 text, decimals as text, NaN as null."""
    if isinstance(value, float) and not math.isfinite(value):
        if value == value:
            raise DataError(f"{key}: column {column!r} holds an infinity, which is no number in JSON; write null there")
        return None  # a missing number
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
