"""What answers are scored by: a project's criteria, and those that come with Baro, in English and Korean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, model_validator
from sqlalchemy import Connection, Row, insert, select, update

from baro.config import MAY_REPEAT, Config, load_config
from baro.declared import check_names
from baro.errors import ConfigError
from baro.feedback import schema
from baro.feedback.database import log_event
from baro.feedback.ids import new_id
from baro.feedback.refusals import Refused

if TYPE_CHECKING:
    from baro.feedback.project import Project

LOW, HIGH = 1, 5


class Label(Config):
    """A criterion's words in one language."""

    name: str = Field(min_length=1, max_length=200)
    anchors: list[Annotated[str, StringConstraints(max_length=1000)]] = Field(
        [],
        max_length=101,
        description="words for each score, from low to high, or none",
        json_schema_extra=MAY_REPEAT,
    )


class Criterion(Config):
    """A criterion with its scale."""

    key: str = Field(pattern="^[a-z][a-z0-9_]{0,49}$", description="its column in an export")
    labels: dict[Literal["en", "ko"], Label] = Field(min_length=1)
    low: int = Field(LOW, ge=0, le=100)
    high: int = Field(HIGH, ge=0, le=100)
    weight: float = Field(1.0, ge=0, le=1000)

    @model_validator(mode="after")
    def _words_for_each_score(self) -> Criterion:
        scores = self.high - self.low + 1
        for lang, label in self.labels.items():
            if len(label.anchors) not in (0, scores):
                raise ValueError(
                    f"criterion {self.key!r} has {len(label.anchors)} anchors in {lang!r} and {scores} scores; "
                    "write one for each score, or none"
                )
        return self


class Criteria(Config):
    """A file of criteria."""

    criteria: list[Criterion] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _keys_differ(self) -> Criteria:
        check_names([one.key for one in self.criteria], "criteria", "give each a key of its own, which is its column")
        return self


def own_criteria(path: Path) -> list[dict[str, Any]]:
    """The criteria of a YAML file, as ``set_criteria`` takes them; ConfigError with the line of what is wrong."""
    return [one.model_dump() for one in load_config(Criteria, path).criteria]


def shipped_criteria(keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """All of them, or these, as ``set_criteria`` takes them."""
    known = yaml.safe_load((files("baro.feedback") / "criteria.yaml").read_text(encoding="utf-8"))
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is none of the criteria that come with Baro: {', '.join(known)}")
    return [
        {"key": key, "labels": labels, "low": LOW, "high": HIGH, "weight": 1.0}
        for key, labels in known.items()
        if not keys or key in keys
    ]


def criteria_of(connection: Connection, project_id: str) -> list[Row[Any]]:
    """A project's criteria in their order, ``overall`` last: a general impression must not colour the others."""
    table = schema.criterion
    rows = connection.execute(select(table).where(table.c.project_id == project_id).order_by(table.c.position)).all()
    return sorted(rows, key=lambda row: row.key == "overall")


def check_there_are_some(connection: Connection, project: Project) -> None:
    """Refused where a project has no criterion yet."""
    if not criteria_of(connection, project.id):
        raise Refused(
            "invalid",
            "a criteria task needs criteria to score; write them on the page of the guidelines, or take Baro's with "
            f"`baro feedback criteria {project.name}`",
        )


def set_criteria(connection: Connection, project: Project, criteria: Iterable[Mapping[str, Any]], actor: str) -> None:
    """Add criteria, or change the words and weight of known ones; a scale never changes under scores that exist."""
    table = schema.criterion
    known = {row.key: row for row in connection.execute(select(table).where(table.c.project_id == project.id))}
    criteria = list(criteria)
    counts = Counter(one["key"] for one in criteria)
    if twice := [key for key, count in counts.items() if count > 1]:
        raise Refused("invalid", f"criterion {twice[0]!r} is given twice; keep one")
    for position, one in enumerate(criteria):
        before = known.get(one["key"])
        _check_criterion(one)
        if before is not None and (before.low, before.high) != (one["low"], one["high"]):
            key, scale = one["key"], f"{before.low} to {before.high}"
            raise Refused("invalid", f"criterion {key!r} goes from {scale}; another scale needs another key")
        values = {"labels": one["labels"], "weight": float(one.get("weight", 1.0)), "position": position}
        if before is not None:
            connection.execute(update(table).where(table.c.id == before.id).values(**values))
        else:
            row = {"id": new_id(), "project_id": project.id, "key": one["key"], "low": one["low"], "high": one["high"]}
            connection.execute(insert(table).values(**row, **values))
    log_event(connection, actor, "criteria", "project", project.id)


def _check_criterion(one: Mapping[str, Any]) -> None:
    key = one["key"]
    if not 1 <= len(key) <= 100:
        raise Refused("invalid", "a criterion's key has 1 to 100 characters")
    if not -1000 <= one["low"] < one["high"] <= 1000:
        raise Refused("invalid", f"criterion {key!r}: the scale must go up, between -1000 and 1000")
    if not isfinite(one.get("weight", 1.0)):
        raise Refused("invalid", f"criterion {key!r}: the weight must be a number")
