"""What stands in one cell of a row: text, numbers, words for yes and no. Errors name the column, not the row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from baro.data.rows import kind_of
from baro.errors import DataError

Columns = Mapping[str, Any]


def string(columns: Columns, column: str) -> str:
    """A cell that must be text."""
    value = columns[column]
    if not isinstance(value, str):
        raise DataError(f"column {column!r} is {kind_of(value)}; text is needed")
    return value


def number(value: Any, place: str) -> float:
    """A finite number; tables of text hold it as digits."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise DataError(f"{place} is {kind_of(value)}; a finite number is needed") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{place} is {kind_of(value)}; a finite number is needed")
    return float(value)


def whole(value: Any) -> int | None:
    """A whole number, None where it is none; tables hold it as digits, or as 2.0."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,9}(\.0+)?", value):
        return int(float(value))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def truth(value: Any) -> bool | None:
    """true or false, 1 or 0, also as the words and digits that tables of text hold; None where it is none of them."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    number = whole(value)
    return None if number is None else {0: False, 1: True}.get(number)


def empty(value: Any) -> bool:
    """Whether the cell says nothing: null, or an empty cell of a table."""
    return value is None or value == ""


def listed(columns: Columns, column: str) -> list[Any]:
    """A cell that must be a list."""
    value = columns[column]
    if not isinstance(value, list):
        raise DataError(f"column {column!r} is {kind_of(value)}; a list is needed")
    return value


def parsed(text: str) -> Any:
    """The list or object that a cell of a table spells out as JSON; any other text as it is."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
