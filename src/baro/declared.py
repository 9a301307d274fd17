"""What a config names from outside of itself, and what it calls it in logs. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

FEEDBACK = "feedback:"


def is_object(value: str) -> bool:
    """Whether a value names a Python object, ``module:NAME``, and no path or feedback project."""
    return ":" in value and not value.startswith(FEEDBACK) and not Path(value).exists()


def default_name(value: str) -> str:
    """What logs call a value that was given no name: NAME of ``module:NAME``, else the last part of the path."""
    return value.rpartition(":")[2] if is_object(value) else Path(value).name


def check_names(names: Iterable[str], what: str, way_out: str) -> None:
    """Raise ValueError for two equal names, and for one that cannot be a part of a metric's name.

    Names serve logs: two things of one name would be one in every table, and one would overwrite the other.
    """
    counts = Counter(list(names))
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"two {what} are called {twice[0]!r}; {way_out}")
    if unfit := [name for name in counts if not name or "/" in name]:
        reason = "has a '/', which separates the parts of a metric's name" if unfit[0] else "is empty"
        raise ValueError(f"the name {unfit[0]!r} {reason}; {way_out}")
