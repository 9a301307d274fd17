"""Files of rows: JSON Lines and JSON arrays, plain or gzipped. What cannot be read stops with file and line."""

from __future__ import annotations

import difflib
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from baro.errors import DataError

SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: ``key`` is ``file:line``, ``line`` its own text, ``columns`` what that says."""

    key: str
    line: str
    columns: dict[str, Any]


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file. Blank lines are passed over; in an array, the position stands for the line."""
    path = Path(path)
    content = _content(path)
    if b"\0" in content[:8192]:
        raise DataError(f"{path.name}:1: is a binary or UTF-16 file; give JSON Lines in UTF-8")
    text_lines = io.BytesIO(content.removeprefix(b"\xef\xbb\xbf"))  # Windows' byte order mark
    array = ".json" in path.suffixes and content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    rows = list(_array(path, text_lines) if array else _lines(path, text_lines))
    if not rows:
        raise DataError(f"{path.name}:1: is empty; give a file with one JSON object in each line")
    return rows


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any] | str]) -> None:
    """Write JSON Lines, gzipped where the name ends with .gz; strings are lines and stay as they are.

    The file appears whole or not at all.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    content = "".join(f"{line}\n" for line in lines).encode()
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar name, if any is similar at all."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)), None)


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give one of the files in it")
    if not path.exists():
        _not_found(path)
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path.name}: its type is unknown; give one of {', '.join(SUFFIXES)}")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read ({error}); copy it again") from error


def _not_found(path: Path) -> NoReturn:
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = nearest(path.name, beside)
    raise DataError(f"{path}: no such file" + (f"; {similar} is there" if similar else ""))


def _lines(path: Path, content: io.BytesIO) -> Iterator[Row]:
    for number, line in enumerate(content, start=1):
        if line.strip():
            text = _decoded(f"{path.name}:{number}", line).rstrip("\r\n")
            yield _row(f"{path.name}:{number}", text, _parsed(path, number, text), "\\ud" in text.lower())


def _array(path: Path, content: io.BytesIO) -> Iterator[Row]:
    text = "".join(_decoded(f"{path.name}:{number}", line) for number, line in enumerate(content, start=1))
    suspect = "\\ud" in text.lower()
    for number, item in enumerate(_parsed(path, 1, text), start=1):
        yield _row(f"{path.name}:{number}", json.dumps(item, ensure_ascii=False), item, suspect)


def _decoded(key: str, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{key}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8; save it as UTF-8"
        ) from error


def _parsed(path: Path, number: int, text: str) -> Any:
    """``number`` is the line in which ``text`` begins."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        key = f"{path.name}:{number + error.lineno - 1}"
        raise DataError(
            f"{key}: broken JSON at column {error.colno} ({error.msg}); mend or remove this line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}:{number}: cannot be read ({error}); mend or remove this line") from error


def _row(key: str, line: str, columns: Any, suspect: bool) -> Row:
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
    return Row(key, line, columns)


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds[type(value)]
