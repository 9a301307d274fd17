"""One row of a file, and how its place is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from baro.errors import DataError

T = TypeVar("T")
Notes = dict[str, None]
"""What a file turned out to be while it was read, for its description: each once, in order."""


class Unusable(DataError):
    """A row that can be read and not be used: the reason, the same for all its kind, and a sentence on this one.

    expected: the file is of such rows by its nature (thumbs down where answers to imitate are wanted), so that they do
    not count as faults.
    """

    def __init__(self, reason: str, sentence: str, *, expected: bool = False) -> None:
        super().__init__(sentence)
        self.reason, self.sentence, self.expected = reason, sentence, expected


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: ``key`` is ``file:line``, ``text`` how it stands there (None: not as JSON).

    ``table``: it is one of a table, which holds null where a cell is empty.
    """

    key: str
    text: str | None
    columns: dict[str, Any]
    table: bool = False

    @property
    def line(self) -> str:
        """The row as a line of JSON: its own where it is one."""
        return self.text if self.text is not None else json.dumps(self.columns, ensure_ascii=False, allow_nan=False)


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a {type(value).__name__}")


def placed(key: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call, and say which row it was that failed."""
    try:
        return function(*arguments)
    except Unusable:
        raise  # the ledger says where
    except DataError as error:
        raise DataError(f"{key}: {error}") from error
