"""Every input row is accounted for: kept, truncated, or dropped, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from baro.errors import DataError
from baro.files import write_atomic

WAY_OUT = "fix them, or raise data.max_length or data.max_dropped_fraction"


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened to one row. ``reason`` is the same for all rows of a kind, ``sentence`` tells of this one."""

    key: str
    reason: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.key}: {self.sentence}"


@dataclass
class Ledger:
    """The account of one input.

    repeated: rows that hold nothing more where a larger record is read as a smaller one: they say again what an earlier
    one said (four pairs hold one prompt four times), or are thumbs down where answers to imitate are wanted. They are
    left out and not counted as dropped. votes: rows that judge what an earlier one judged; each is used and counts.
    """

    name: str
    kept: int = 0
    dropped: list[Entry] = field(default_factory=list)
    truncated: list[Entry] = field(default_factory=list)
    repeated: list[Entry] = field(default_factory=list)
    votes: list[Entry] = field(default_factory=list)

    def keep(self) -> None:
        """The row is used."""
        self.kept += 1

    def drop(self, key: str, reason: str, sentence: str) -> None:
        """The row cannot be used."""
        self.dropped.append(Entry(key, reason, sentence))

    def truncate(self, key: str, reason: str, sentence: str) -> None:
        """The row is used, but not all of it; it is kept as well."""
        self.truncated.append(Entry(key, reason, sentence))

    def pass_over(self, key: str, reason: str, sentence: str) -> None:
        """The row holds nothing that an earlier one did not."""
        self.repeated.append(Entry(key, reason, sentence))

    def vote(self, key: str, sentence: str) -> None:
        """The row is used, and judges what was judged before."""
        self.votes.append(Entry(key, "judged before", sentence))

    def state(self) -> dict[str, Any]:
        """All of it as JSON, for ``restore``."""
        parts = {word: [[e.key, e.reason, e.sentence] for e in entries] for word, entries in self._parts()}
        return {"kept": self.kept, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` told of."""
        self.kept = state["kept"]
        for word, entries in self._parts():
            entries[:] = [Entry(*one) for one in state[word]]

    @property
    def rows(self) -> int:
        """All rows that were looked at."""
        return self.kept + len(self.dropped) + len(self.repeated)

    def check(self, max_dropped_fraction: float, way_out: str = WAY_OUT) -> None:
        """Raise DataError, with counts and the first three sentences, where too many rows cannot be used."""
        dropped = len(self.dropped)
        if self.kept and dropped <= max_dropped_fraction * self.rows:
            return
        if not self.rows:
            raise DataError(f"{self.name}: holds no row; give a file with at least one record")
        counts = ", ".join(f"{count} {reason}" for reason, count in Counter(e.reason for e in self.dropped).items())
        limit = "none is left" if not self.kept else f"more than max_dropped_fraction {max_dropped_fraction} allows"
        first = "".join(f"\n  {entry}" for entry in self.dropped[:3])
        raise DataError(
            f"{self.name}: {dropped} of {self.rows} rows cannot be used ({counts}), {limit}; "
            f"{way_out}. The first:{first}"
        )

    def summary(self) -> Table:
        """A table of counts, each with one row as an example."""
        table = Table("rows", "", "for example", title=self.name, title_justify="left")
        table.add_row(f"{self.kept:,}", "kept", "")
        for word, entries in self._parts():
            counts = Counter(entry.reason for entry in entries)
            for reason, count in counts.items():
                example = next(entry for entry in entries if entry.reason == reason)
                table.add_row(f"{count:,}", f"{word}: {reason}", Text(str(example)))
        return table

    def to_json(self) -> dict[str, Any]:
        """Counts, and every row that was not used whole."""
        parts = {word: {entry.key: entry.sentence for entry in entries} for word, entries in self._parts()}
        return {"name": self.name, "rows": self.rows, "kept": self.kept, **parts}

    def _parts(self) -> list[tuple[str, list[Entry]]]:
        return [
            ("dropped", self.dropped),
            ("truncated", self.truncated),
            ("repeated", self.repeated),
            ("votes", self.votes),
        ]


def write_ledger(run: Path, key: str, value: str, ledger: Ledger) -> None:
    """Add an input's account to the ``ledger.json`` of a run directory.

    key: where the config names the input, as ``preferences`` or ``trainer.held_out``; of a file that several models
    read, each in its own tokens, ``KEY/READER``. value: what the config says there. One file under two keys, or with
    two readers, has two accounts.
    """
    path = run / "ledger.json"
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    told = before | {key: {"input": value, **ledger.to_json()}}
    write_atomic(path, json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False))
