"""Files of rows, one row at a time: JSON Lines, JSON arrays, CSV and Parquet, plain or gzipped, and folders of them.

What cannot be read stops with file and line (in tables the row's number) and says what to do.
"""

from __future__ import annotations

import difflib
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from baro.data.rows import Row, kind_of
from baro.data.tables import csv_rows, parquet_rows
from baro.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
NO_ROWS = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "export.json"}
)
_GZIP, _PARQUET, _BOM = b"\x1f\x8b", b"PAR1", b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Files:
    """The files behind one input, in their order. Iterating reads all rows anew, and holds one at a time.

    ``name``: of the file or folder. ``says``: what was chosen in a folder, empty for a file.
    """

    name: str
    paths: tuple[Path, ...]
    says: str = ""

    def __iter__(self) -> Iterator[Row]:
        for path in self.paths:
            yield from _rows(path)


def find_files(path: str | Path) -> Files:
    """A file, or in a folder all ``train*`` files, or else all files, in the order of their names."""
    path = Path(path)
    if not path.exists():
        _not_found(path)
    if not path.is_dir():
        if not _known(path):
            raise DataError(f"{path.name}: its type is unknown; give one of {', '.join(SUFFIXES)}, or one with .gz")
        return Files(path.name, (path,))
    inside = sorted(one for one in path.rglob("*") if one.is_file() and _known(one) and one.name not in NO_ROWS)
    inside = [one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts)]
    train = [one for one in inside if one.name.startswith("train")]
    chosen = _once_each(train or inside)
    if not chosen:
        raise DataError(f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}; give a file with rows")
    left = [one.name for one in inside if one not in chosen]
    says = f"of the folder {path.name}: " + _some([one.name for one in chosen])
    return Files(path.name, tuple(chosen), says + (f"; left out: {_some(left)}" if left else ""))


def _once_each(paths: list[Path]) -> list[Path]:
    """Files that differ in their type alone hold the same rows: of data.jsonl and data.parquet the first is taken."""
    plain = {one: one.with_name(one.name.removesuffix(".gz")) for one in paths}
    by_type = sorted(paths, key=lambda one: -SUFFIXES.index(plain[one].suffix))
    kept = {plain[one].with_suffix(""): one for one in by_type}.values()  # the last of a name stays
    return [one for one in paths if one in kept]


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file or folder at once. Blank lines are passed over."""
    return list(find_files(path))


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any] | str]) -> None:
    """Write JSON Lines, gzipped where the name ends with .gz; strings are lines and stay as they are.

    The file appears whole or not at all.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                zipped.writelines(map(_as_line, rows))
        else:
            file.writelines(map(_as_line, rows))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar name, if any is similar at all."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)), None)


def _as_line(row: Mapping[str, Any] | str) -> bytes:
    line = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)
    return f"{line}\n".encode()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _known(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(SUFFIXES)


def _not_found(path: Path) -> NoReturn:
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = nearest(path.name, beside)
    raise DataError(f"{path}: no such file" + (f"; {similar} is there" if similar else ""))


# ------------------------------------------------------------------------------------------------------- one file


def _rows(path: Path) -> Iterator[Row]:
    """The rows of one file; what it holds decides how it is read, and its name where that is text."""
    with _opened(path) as content:
        head = content.peek(8192)  # type: ignore[attr-defined]  # buffered readers have it
        csv = path.name.removesuffix(".gz").endswith(".csv")
        if head[:4] == _PARQUET:
            rows = parquet_rows(path, content)
        elif b"\0" in head[:8192]:
            raise DataError(f"{path.name}:1: is a binary or UTF-16 file; give JSON Lines in UTF-8")
        elif csv:
            rows = csv_rows(path, decoded_lines(path, content))
        else:
            rows = _array(path, content) if head.lstrip(_BOM + b" \t\r\n")[:1] == b"[" else _lines(path, content)
        empty = True
        for row in rows:
            empty = False
            yield row
    if empty:
        what = "a line of column names and rows below it" if csv else "one JSON object in each line"
        raise DataError(f"{path.name}:1: is empty; give a file with {what}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked where they are gzipped."""
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] != _GZIP:
                yield file
                return
            with gzip.GzipFile(fileobj=file) as zipped, io.BufferedReader(zipped) as unzipped:
                yield unzipped
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read ({error}); copy it again") from error


def decoded_lines(path: Path, content: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8 with their ends, without Windows' byte order mark."""
    for number, line in enumerate(content, start=1):
        line = line.removeprefix(_BOM) if number == 1 else line
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path.name}:{number}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8; "
                "save it as UTF-8"
            ) from error


def _lines(path: Path, content: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(decoded_lines(path, content), start=1):
        if line.strip():
            text = line.rstrip("\r\n")
            with _placed(path, number):
                columns = json.loads(text)
            yield _row(f"{path.name}:{number}", text, columns, "\\ud" in text or "\\uD" in text)


def _array(path: Path, content: Iterable[bytes]) -> Iterator[Row]:
    """An array's objects, one after the other; its text is held, the position of an object stands for its line."""
    text, decoder = "".join(decoded_lines(path, content)), json.JSONDecoder()
    suspect = "\\ud" in text or "\\uD" in text
    position, number, end = _skip(text, text.index("[") + 1), 0, ""
    with _placed(path, 1):
        while text[position : position + 1] != "]":
            item, position = decoder.raw_decode(text, position)
            number += 1
            yield _row(f"{path.name}:{number}", None, item, suspect)
            position = _skip(text, position)
            end = text[position : position + 1]
            if end not in (",", "]") or not end:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            position = _skip(text, position + 1) if end == "," else position
        if _skip(text, position + 1) < len(text):
            raise json.JSONDecodeError("Extra data", text, _skip(text, position + 1))


def _skip(text: str, position: int) -> int:
    """The next position that is no white space."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


@contextmanager
def _placed(path: Path, number: int) -> Iterator[None]:
    """``number`` is the line in which the text begins that the block parses."""
    try:
        yield
    except json.JSONDecodeError as error:
        key = f"{path.name}:{number + error.lineno - 1}"
        raise DataError(
            f"{key}: broken JSON at column {error.colno} ({error.msg}); mend or remove this line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}:{number}: cannot be read ({error}); mend or remove this line") from error


def _row(key: str, text: str | None, columns: Any, suspect: bool) -> Row:
    """``suspect``: there may be half of a surrogate pair in it, which is legal JSON and no legal text."""
    if not isinstance(columns, dict):
        raise DataError(f"{key}: is {kind_of(columns)}; a row is an object with named columns")
    if suspect:
        try:
            json.dumps(columns, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{key}: holds half a character (a lone \\ud... escape); mend or remove this line"
            ) from error
    return Row(key, text, columns)
