"""What a report is made of: each stage's run directory, read once. Optional files may be missing, never broken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from baro.errors import DataError
from baro.evaluate.markup import finite
from baro.rows import JsonLines
from baro.runs import RunDir

Row = Mapping[str, Any]


class Figure(NamedTuple):
    """A number that the report quotes, with its interval and the independent units it rests on."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """Value, low and high, where all three are known."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return self.value, self.low, self.high

    @classmethod
    def of(cls, row: Row) -> Figure:
        """A row of figures.json; what is not a finite number is not known."""
        value, low, high, n = (finite(row.get(key)) for key in ("value", "low", "high", "n"))
        return cls(str(row["name"]), value, low, high, None if n is None else int(n))


@dataclass(frozen=True)
class Stage:
    """A run directory under the name that the report gives it."""

    name: str
    path: Path
    manifest: Row

    @property
    def verb(self) -> str:
        return str(self.manifest.get("verb", ""))

    @property
    def config(self) -> Row:
        found = self.manifest.get("config")
        return found if isinstance(found, Mapping) else {}

    @property
    def reward_terms(self) -> list[tuple[str, float]]:
        """What an online stage was rewarded by, with weights."""
        if self.config.get("reward_model"):
            return [(str(self.config["reward_model"]), 1.0)]
        terms = self.config.get("rewards")
        found = [term for term in terms if isinstance(term, Mapping)] if isinstance(terms, list) else []
        return [(scored_by(term), term.get("weight", 1.0)) for term in found]

    @property
    def environment(self) -> Row:
        """Versions and threads."""
        found = self.manifest.get("environment")
        return found if isinstance(found, Mapping) else {}

    @property
    def parents(self) -> list[str]:
        return [str(parent) for parent in self.manifest.get("parents") or []]

    @property
    def seconds(self) -> float | None:
        """From start to finish, with the pauses of a run that was taken up again."""
        try:
            times = [datetime.fromisoformat(self.manifest[key]) for key in ("started", "finished")]
        except (KeyError, TypeError, ValueError):
            return None
        return (times[1] - times[0]).total_seconds()

    @cached_property
    def metrics(self) -> Sequence[Row]:
        return JsonLines(self.path / "metrics.jsonl").read()

    @cached_property
    def samples(self) -> Sequence[Row]:
        return JsonLines(self.path / "samples.jsonl").read()

    @cached_property
    def comparisons(self) -> list[Row]:
        return [
            row for row in JsonLines(self.path / "comparisons.jsonl").read() if isinstance(row.get("answers"), Mapping)
        ]

    @cached_property
    def revised(self) -> list[Row]:
        """Answers with their critiques and revisions."""
        return [row for row in JsonLines(self.path / "steps.jsonl").read() if isinstance(row.get("steps"), list)]

    @cached_property
    def figures(self) -> list[Figure]:
        """figures.json; what is not a finite number is a figure without a value."""
        rows = _read_json(self.path / "figures.json", [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
            raise DataError(f"{self.path / 'figures.json'}: not a list of figures with names; run the stage again")
        return [Figure.of(row) for row in rows]

    @cached_property
    def ledgers(self) -> dict[str, Row]:
        """The account of each input, by where the config names it, and by who read it where several did."""
        found = _read_json(self.path / "ledger.json", {})
        return {str(key): part for key, part in found.items() if isinstance(part, dict)} if found else {}

    def series(self, name: str) -> tuple[list[float], list[float | None]]:
        """Steps and values of a metric, where it was logged."""
        rows = [row for row in self.metrics if name in row and finite(row.get("step")) is not None]
        return [row["step"] for row in rows], [finite(row[name]) for row in rows]

    def known(self, name: str) -> list[float]:
        """A metric's values that are numbers."""
        return [value for value in self.series(name)[1] if value is not None]

    @cached_property
    def cost(self) -> list[Figure]:
        """What the run took: seconds, steps, the most memory, and the middle of the logged speeds."""
        speeds = sorted(self.known("perf/tokens_per_second"))
        memory = self.known("perf/peak_memory_bytes")
        steps = [step for row in self.metrics if (step := finite(row.get("step"))) is not None]
        found = {
            "perf/seconds": self.seconds,
            "perf/steps": max(steps, default=None),
            "perf/peak_memory_bytes": max(memory, default=None),
            "perf/tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        }
        return [Figure(name, value) for name, value in found.items()]


def scored_by(asked: Any) -> str:
    """What scores, from a config's value: one source or several, a judge, a chat model, or a verifier."""
    if not isinstance(asked, Mapping):
        return str(asked)
    chat = asked.get("rubric") or asked.get("judge")
    if isinstance(chat, Mapping):
        server = chat.get("server")
        named = f"{server['model']} at {server['base_url']}" if server else str(chat.get("model") or chat.get("by"))
        return f"{named} ({', '.join(chat['criteria'])})" if chat.get("criteria") else named
    by, verifier = asked.get("by") or chat, asked.get("verifier")
    if isinstance(verifier, Mapping):
        options = ", ".join(f"{key}: {value}" for key, value in verifier.items() if key != "name")
        return f"{verifier.get('name')} ({options})"
    return " and ".join(map(str, by)) if isinstance(by, list) else str(by)


def _read_json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); run the stage again") from None


def read_stages(runs: Sequence[Path], names: Mapping[str, str]) -> list[Stage]:
    """The run directories in the given order; a run without a name is called by its folder, twice-used names count up.

    Raises RunError for what is not a run directory and DataError for a file in it that cannot be read.
    """
    by_place = {_place(path): name for path, name in names.items()}
    stages: list[Stage] = []
    for path in map(Path, runs):
        wanted = by_place.get(_place(path), path.resolve().name)
        taken = {stage.name for stage in stages}
        name = next(n for n in _numbered(wanted) if n not in taken)
        stages.append(Stage(name, path, RunDir.load(path).manifest))
    return stages


def _numbered(name: str) -> Iterator[str]:
    yield name
    count = 2
    while True:
        yield f"{name} {count}"
        count += 1


def _place(path: str | Path) -> str:
    return os.path.realpath(path)


def parents_of(stage: Stage, stages: Sequence[Stage]) -> list[Stage | str]:
    """A stage's parents: stages of this report where they are here, else the paths that were written down.

    A pipeline that was moved as a whole still finds its own: a folder name that only one stage has is enough.
    """
    by_place = {_place(other.path): other for other in stages}
    folders = [Path(_place(other.path)).name for other in stages]
    by_folder = {f: other for f, other in zip(folders, stages, strict=True) if folders.count(f) == 1}
    found: list[Stage | str] = []
    for path in dict.fromkeys(stage.parents):
        known = by_place.get(_place(path)) or by_folder.get(Path(path).name)
        found.append(known if known is not None and known is not stage else path)
    return found
