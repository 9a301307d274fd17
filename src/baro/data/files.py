"""Files of rows, one row at a time: JSON, CSV, Parquet and Arrow, plain or gzipped, and folders of them.

What cannot be read stops with file and line (in tables the row's number) and says what to do.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from baro.data.json_rows import json_rows
from baro.data.rows import Notes, Row
from baro.data.splits import asked_for, called, choose, hub_name
from baro.data.tables import ARROW_FILE, arrow_rows, csv_rows, parquet_rows
from baro.errors import ConfigError, DataError
from baro.files import atomic_file, hash_path

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
UTF_8 = "utf-8"
READ_BYTES = 1 << 16
NO_ROWS = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "export.json"}
)
_GZIP, _PARQUET, _BOM, _ARROW_STREAM = b"\x1f\x8b", b"PAR1", b"\xef\xbb\xbf", b"\xff\xff\xff\xff"
_ENCODINGS = (  # tried in this order; most of what is not ASCII must be of the script
    ("cp932", "Japanese Excel", "[ぁ-ヿ一-鿿。、]"),
    ("cp949", "Korean Excel", "[가-힣ㄱ-ㅣ]"),
    ("gb18030", "Chinese Excel", "[一-鿿，。]"),
    ("cp1252", "Western Excel", "[À-ÿ‘’“”–—…€]"),
)
_HOW = "save it as UTF-8 (Excel: CSV UTF-8), or give --encoding {0} (`data.encoding: {0}` in a config)"


@dataclass(frozen=True)
class Files:
    """The files behind one input, in their order. Iterating reads all rows anew, and holds one at a time.

    name: of the file or folder. called: what keys call each file, no two alike. chosen: what was chosen in a folder.
    encoding: of files of text. notes: what the files turned out to be while they were read.
    """

    name: str
    paths: tuple[Path, ...]
    called: tuple[str, ...]
    chosen: str = ""
    encoding: str = UTF_8
    notes: Notes = field(default_factory=dict, compare=False)

    def __iter__(self) -> Iterator[Row]:
        for path, name in zip(self.paths, self.called, strict=True):
            yield from _rows(path, name, self.encoding, self.notes)

    @property
    def says(self) -> str:
        """What was chosen in a folder, and what form the files have so far."""
        return "; ".join([self.chosen] * bool(self.chosen) + list(self.notes))

    @cached_property
    def sha256(self) -> str:
        """Of the files that are read and of what keys call them; of one file that of its content."""
        if len(self.paths) == 1:
            return hash_path(self.paths[0])
        lines = [f"{hash_path(path)}  {name}\n" for path, name in zip(self.paths, self.called, strict=True)]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def find_files(path: str | Path, encoding: str = UTF_8) -> Files:
    """A file, a folder's files for training, or of ``FOLDER#SPLIT`` those of a split, in the order of their names."""
    path, split = asked_for(Path(path))
    try:
        encoding = codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(f"{encoding}: no such encoding; give one as utf-8, cp949, cp1252 or utf-16") from None
    if not path.exists():
        _not_found(path)
    if not path.is_dir():
        if not _known(path):
            raise DataError(f"{path.name}: its type is unknown; give one of {', '.join(SUFFIXES)}, or one with .gz")
        return Files(path.name, (path,), (path.name,), encoding=encoding)
    inside = sorted(one for one in path.rglob("*") if one.is_file() and _known(one) and _may_hold_rows(one))
    inside = [one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts)]
    chosen = _once_each(choose(inside, path, split, SUFFIXES))
    if not chosen:
        raise DataError(f"{called(path)}: no file in this folder ends in {', '.join(SUFFIXES)}; give a file with rows")
    names = [one.name for one in chosen]
    if len(set(names)) < len(names):
        names = [one.relative_to(path).as_posix() for one in chosen]
    name = hub_name(path) or path.name
    left = [one.name for one in inside if one not in chosen]
    says = f"of the folder {name}: {_some(names)}" + (f"; left out: {_some(left)}" if left else "")
    name = f"{name}{':' if hub_name(path) else '#'}{split}" if split else name
    return Files(name, tuple(chosen), tuple(names), says, encoding)


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
    with atomic_file(path) as partial, partial.open("wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                zipped.writelines(map(_as_line, rows))
        else:
            file.writelines(map(_as_line, rows))


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar name, if any is similar at all."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)), None)


def _as_line(row: Mapping[str, Any] | str) -> bytes:
    line = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, allow_nan=False)
    return f"{line}\n".encode()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _may_hold_rows(path: Path) -> bool:
    """Not what the datasets library writes beside its rows."""
    return path.name not in NO_ROWS and not (path.suffix == ".arrow" and path.name.startswith(("cache-", "indices")))


def _known(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(SUFFIXES)


def _not_found(path: Path) -> NoReturn:
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = nearest(path.name, beside)
    raise DataError(f"{path}: no such file" + (f"; {similar} is there" if similar else ""))


# ------------------------------------------------------------------------------------------------------- one file


def _rows(path: Path, name: str, encoding: str, notes: Notes) -> Iterator[Row]:
    """The rows of one file; what it holds decides how it is read, and its name where that is text."""
    with _opened(path) as content:
        head = content.peek(8192)[:8192]  # type: ignore[attr-defined]  # buffered readers have it
        is_table = path.name.removesuffix(".gz").endswith((".csv", ".tsv"))
        if head[:4] == _PARQUET:
            rows = parquet_rows(name, content)
        elif head[:6] == ARROW_FILE or head[:4] == _ARROW_STREAM:
            rows = arrow_rows(name, content)
        elif b"\0" in head and encoding == UTF_8:
            utf_16 = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            way_out = f"looks like UTF-16: {_HOW.format('utf-16')}" if utf_16 else "is a binary file; give JSON Lines"
            raise DataError(f"{name}:1: {way_out}")
        else:
            lines = decoded_lines(name, content, encoding)
            rows = csv_rows(name, lines, notes) if is_table else json_rows(name, lines, notes)
        empty = True
        for row in rows:
            empty = False
            yield row
    if empty:
        what = "a line of column names and rows below it" if is_table else "one JSON object in each line"
        raise DataError(f"{name}:1: is empty; give a file with {what}")


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


def decoded_lines(name: str, content: BinaryIO, encoding: str = UTF_8) -> Iterator[str]:
    """Lines of text with their ends, without Windows' byte order mark."""
    if encoding != UTF_8:
        yield from _lines_in(name, content, encoding)
        return
    for number, line in enumerate(content, start=1):
        line = line.removeprefix(_BOM) if number == 1 else line
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            place = f"{name}:{number}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8"
            guess, program = guessed(line)
            looks = f"it looks like {guess} ({program}): {_HOW.format(guess)}" if guess else "save it as UTF-8"
            raise DataError(f"{place}; {looks}") from error


def _lines_in(name: str, content: BinaryIO, encoding: str) -> Iterator[str]:
    decoder, number, rest, part = codecs.getincrementaldecoder(encoding)(), 0, "", b" "
    while part:
        part = content.read(READ_BYTES)
        try:
            *lines, rest = (rest + decoder.decode(part, final=not part)).split("\n")
        except UnicodeError as error:  # UTF-16 without its mark raises the base of UnicodeDecodeError
            reason = getattr(error, "reason", str(error))
            raise DataError(
                f"{name}:{number + 1}: in this line or below it stands what is no {encoding} ({reason}); give "
                "another encoding, or save it as UTF-8"
            ) from error
        for line in lines:
            number += 1
            yield (line.removeprefix("\ufeff") if number == 1 else line) + "\n"
    if rest:
        yield rest if number else rest.removeprefix("\ufeff")


def guessed(line: bytes) -> tuple[str, str]:
    """What encoding a line that is not UTF-8 is likely to have, and who writes it so; empty where nothing fits."""
    for encoding, program, script in _ENCODINGS:
        try:
            strange = [char for char in line.decode(encoding) if ord(char) > 127]
        except UnicodeDecodeError:
            continue
        if sum(re.match(script, char) is not None for char in strange) > 0.8 * len(strange):
            return encoding, program
    return "", ""
