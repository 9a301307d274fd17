"""What a config names from outside of itself: declared once, on the field that holds it. No torch here.

    class Config(blocks.Config):
        policy: Model
        preferences: Records
        rewards: list[RewardTerm]        # whose field ``by`` is a Scorer
        policies: list[Model] | dict[str, Model]

From these types come what a run's directory is named by and refuses to go on with, its parents, what may name a stage
in a pipeline, and what ``--help`` and the documents list. A name in a log is made here too; no name is an identity.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from baro.problems import KeyPath

Kind = Literal["model", "records", "scorer", "object", "run", "constitution"]
FEEDBACK = "feedback:"


@dataclass(frozen=True)
class Input:
    """The mark of a field whose text names something, and of what kind that is."""

    kind: Kind


Model = Annotated[str, Input("model")]
"""A model: a run, a folder, or a hub id."""
Records = Annotated[str, Input("records")]
"""Rows: a run, a file or folder, a hub id, or ``feedback:PROJECT``."""
Scorer = Annotated[str, Input("scorer")]
"""What gives scores or verdicts: a reward run or folder, or ``module:NAME``."""
Object = Annotated[str, Input("object")]
"""``module:NAME`` alone: a judge, simulated people."""
ConstitutionFile = Annotated[str, Input("constitution")]
"""A constitution: the name of one that comes with Baro, or the path of a YAML file."""
Run = Annotated[str, Input("run")]
"""A run directory itself, whatever it made."""


@dataclass(frozen=True)
class Named:
    """One thing that a config names: under which key, and what stands there."""

    path: KeyPath
    value: str
    kind: Kind

    @property
    def key(self) -> str:
        """The key with dots, as ``rewards.0.by``."""
        return ".".join(map(str, self.path))


def inputs_in(config: type[BaseModel], values: BaseModel | Mapping[str, Any], path: KeyPath = ()) -> Iterator[Named]:
    """Everything that the values of a config name, in the order of its fields; ``values`` may not be checked yet."""
    for name, field in config.model_fields.items():
        if isinstance(values, BaseModel):
            key, value = name, getattr(values, name, None)
        else:
            key = name if name in values else field.alias or name
            value = values.get(key)
        yield from _below(_marked(field), value, (*path, key))


def declared_keys(config: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Kind, FieldInfo]]:
    """The keys of a config that name something, with dots, their kinds and fields; of lists the key of the whole."""
    for name, field in config.model_fields.items():
        annotation = _marked(field)
        block = _block(annotation)
        if block is not None:
            yield from declared_keys(block, (*path, name))
        elif kind := next(_kinds(annotation), None):
            yield ".".join((*path, name)), kind, field


def _marked(field: FieldInfo) -> Any:
    """A field's type with its mark, which pydantic takes off the outside of it."""
    mark = next((one for one in field.metadata if isinstance(one, Input)), None)
    return field.annotation if mark is None else Annotated[field.annotation, mark]


def _below(annotation: Any, value: Any, path: KeyPath) -> Iterator[Named]:
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        mark = next((one for one in members[1:] if isinstance(one, Input)), None)
        if mark is None:
            yield from _below(members[0], value, path)
        elif isinstance(value, str):
            yield Named(path, value, mark.kind)
    elif origin in (Union, UnionType):
        for member in members:
            yield from _below(member, value, path)
    elif origin is list and isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _below(members[0], inner, (*path, i))
    elif origin is dict and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _below(members[1], inner, (*path, key))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, Mapping | BaseModel):
        yield from inputs_in(type(value) if isinstance(value, BaseModel) else annotation, value, path)


def _block(annotation: Any) -> type[BaseModel] | None:
    """The config class of a field that is one block, or none."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    found = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
    return found[0] if len(found) == len([one for one in members if one is not type(None)]) == 1 else None


def _kinds(annotation: Any) -> Iterator[Kind]:
    if isinstance(annotation, Input):
        yield annotation.kind
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from (kind for _, kind, _ in declared_keys(annotation))
    else:
        for member in get_args(annotation):
            yield from _kinds(member)


# ------------------------------------------------------------------------------------------------------------- names


def is_object(value: str) -> bool:
    """Whether a value names a Python object, ``module:NAME``, and no path or feedback project."""
    return ":" in value and not value.startswith(FEEDBACK) and not Path(value).exists()


def default_name(value: str) -> str:
    """What logs call a value that was given no name: NAME of ``module:NAME``, else the last part of the path."""
    return value.rpartition(":")[2] if is_object(value) else Path(value).name


def check_once(values: Iterable[str]) -> None:
    """Raise ValueError where a list names one thing twice, be it by two spellings of one path."""
    known: dict[str, str] = {}
    for value in values:
        place = value if is_object(value) else os.path.normpath(value)
        if (before := known.get(place)) is not None:
            twice = f"{value!r} is named twice" if before == value else f"{before!r} and {value!r} are the same"
            raise ValueError(f"{twice}; keep one")
        known[place] = value


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
