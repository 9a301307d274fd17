"""Rows of JSON, in whatever form it stands: lines, arrays, objects over several lines, one object that holds them all.

What can be read in one way only is read, and what form it had is noted; anything else stops with its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

from baro.data.messages import is_messages
from baro.data.rows import Notes, Row, kind_of
from baro.data.tables import LISTS
from baro.errors import DataError

HOLDERS = ("data", "rows", "records", "examples", "instances", "items", "train")
_OF_A_ROW = frozenset({"prompt", "question", "instruction", "query", "text", "messages", "conversations", "chosen"})


def finite(text: str) -> float:
    """A float that JSON can hold."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is beyond all floats")
    return value


def _constant(text: str) -> None:
    """NaN is how tables write a missing number; infinities are neither numbers of JSON nor missing."""
    if text != "NaN":
        raise ValueError(f"{text} is no number in JSON; write null or a number")


_DECODER = json.JSONDecoder(parse_float=finite, parse_constant=_constant)


def json_rows(name: str, lines: Iterable[str], notes: Notes) -> Iterator[Row]:
    """The rows of a text, lines one at a time where each holds an object of its own."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    number, line = first
    if line.lstrip()[:1] == "[" or not _is_whole(name, number, line):
        skipped = "\n" * (number - 1)
        text = skipped + line + "".join(line for _, line in _with_blanks(number, numbered))
        yield from _array(name, text) if line.lstrip()[:1] == "[" else _objects(name, text, notes)
        return
    second = next(numbered, None)
    if second is None:
        yield from _single(name, number, line, notes)
        return
    for number, line in chain([first, second], numbered):
        yield _line(name, number, line, notes)


def _with_blanks(number: int, numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines with the blank ones that were passed over, so that a position tells its line."""
    for later, line in numbered:
        yield later, "\n" * (later - number - 1) + line
        number = later


def _is_whole(name: str, number: int, line: str) -> bool:
    """Whether a line holds an object; False where the object goes on below. Broken ones are an error here."""
    text = line.strip()
    try:
        _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos < len(text):
            with _placed(name, number):
                raise
        return False
    except (ValueError, RecursionError):
        return True  # which is said where the line is read
    return True


def _line(name: str, number: int, line: str, notes: Notes) -> Row:
    text = line.rstrip("\r\n")
    with _placed(name, number):
        if text.rstrip().endswith(","):
            text = text.rstrip()[:-1]
            notes["a comma at the end of a line is passed over"] = None
        columns = _whole(text)
    return row_of(f"{name}:{number}", None if "NaN" in text else text, columns, _suspect(text))


def _whole(text: str) -> Any:
    value, end = _DECODER.raw_decode(text, _skip(text, 0))
    if _skip(text, end) < len(text):
        raise json.JSONDecodeError("Extra data", text, _skip(text, end))
    return value


def _array(name: str, text: str) -> Iterator[Row]:
    """An array's objects, one after the other; its text is held, the position of an object stands for its line."""
    suspect = _suspect(text)
    position, number, end = _skip(text, text.index("[") + 1), 0, ""
    with _placed(name, 1):
        while text[position : position + 1] != "]":
            item, position = _DECODER.raw_decode(text, position)
            number += 1
            yield row_of(f"{name}:{number}", None, item, suspect)
            position = _skip(text, position)
            end = text[position : position + 1]
            if end not in (",", "]") or not end:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            position = _skip(text, position + 1) if end == "," else position
        if _skip(text, position + 1) < len(text):
            raise json.JSONDecodeError("Extra data", text, _skip(text, position + 1))


def _objects(name: str, text: str, notes: Notes) -> Iterator[Row]:
    """Objects over several lines, one after the other, maybe with commas between them; the key has a row's number."""
    found, position, suspect = [], _skip(text, 0), _suspect(text)
    with _placed(name, 1):
        while position < len(text):
            item, position = _DECODER.raw_decode(text, position)
            found.append(item)
            position = _skip(text, position)
            position = _skip(text, position + 1) if text[position : position + 1] == "," else position
    if len(found) == 1 and isinstance(found[0], dict):
        yield from _inside(name, None, found[0], suspect, notes)
        return
    notes["each object stands on several lines"] = None
    for number, item in enumerate(found, start=1):
        yield row_of(f"{name}:{number}", None, item, suspect)


def _single(name: str, number: int, line: str, notes: Notes) -> Iterator[Row]:
    """A file of one line: one row, or all of them."""
    row = _line(name, number, line, notes)
    yield from _inside(name, row, row.columns, _suspect(line), notes)


def _inside(name: str, row: Row | None, columns: dict[str, Any], suspect: bool, notes: Notes) -> Iterator[Row]:
    """The rows that one object holds, or the row that it is."""
    rows, form = held_by(name, columns)
    if rows is None:
        yield row or row_of(f"{name}:1", None, columns, suspect)
        return
    notes[form] = None
    for number, item in enumerate(rows, start=1):
        yield row_of(f"{name}:{number}", None, item, suspect)


def held_by(name: str, whole: Mapping[str, Any]) -> tuple[list[Any] | None, str]:
    """The rows that the only object of a file holds, and in which form; None where it is a row itself."""
    lists = [] if _OF_A_ROW & set(whole) else [key for key in HOLDERS if _are_rows(whole.get(key))]
    if len(lists) > 1:
        listed = " and ".join(map(repr, lists))
        raise DataError(f"{name}:1: rows stand under {listed}; write those to read into a file of their own")
    if lists:
        beside = [repr(key) for key in whole if key != lists[0]]
        left_out = f"; left out beside it: {', '.join(beside)}" if beside else ""
        return whole[lists[0]], f"the rows stand under {lists[0]!r}{left_out}"
    if set(whole) >= {"columns", "data"} and _is_split(whole):
        return [dict(zip(whole["columns"], cells, strict=True)) for cells in whole["data"]], "columns and rows of cells"
    values = list(whole.values())
    if values and all(isinstance(value, dict) and value for value in values):
        if all(key.isdigit() for value in values for key in value) and len({tuple(value) for value in values}) == 1:
            rows = [{column: cells[number] for column, cells in whole.items()} for number in values[0]]
            return rows, "columns by number, as pandas writes them"
        if all(key.isdigit() for key in whole):
            return values, "rows by number, as pandas writes them"
    columns = all(isinstance(value, list) and value and not is_messages(value) for value in values)
    columns = columns and not any(name in LISTS and not isinstance(value[0], list) for name, value in whole.items())
    telling = columns and any(isinstance(value[0], str | list) for value in values)
    if telling and len({len(value) for value in values}) == 1:
        rows = [{column: cells[number] for column, cells in whole.items()} for number in range(len(values[0]))]
        return rows, "each column is one list"
    return None, ""


def _are_rows(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)
    ) and not is_messages(value)


def _is_split(whole: Mapping[str, Any]) -> bool:
    columns, cells = whole["columns"], whole["data"]
    return (
        isinstance(columns, list)
        and all(isinstance(one, str) for one in columns)
        and isinstance(cells, list)
        and all(isinstance(row, list) and len(row) == len(columns) for row in cells)
    )


def _skip(text: str, position: int) -> int:
    """The next position that is no white space."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _suspect(text: str) -> bool:
    """Whether there may be half of a surrogate pair in it, which is legal JSON and no legal text."""
    return "\\ud" in text or "\\uD" in text


@contextmanager
def _placed(name: str, number: int) -> Iterator[None]:
    """``number`` is the line in which the text begins that the block parses."""
    try:
        yield
    except json.JSONDecodeError as error:
        key = f"{name}:{number + error.lineno - 1}"
        raise DataError(f"{key}: broken JSON at column {error.colno} ({error.msg}); fix or remove this line") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}:{number}: cannot be read ({error}); fix or remove this line") from error


def row_of(key: str, text: str | None, columns: Any, suspect: bool) -> Row:
    """A row, or the reason why this is none."""
    if not isinstance(columns, dict):
        raise DataError(f"{key}: is {kind_of(columns)}; a row is an object with named columns")
    if suspect:
        try:
            json.dumps(columns, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{key}: holds half a character (a lone \\ud... escape); fix or remove this line"
            ) from error
    return Row(key, text, columns)
