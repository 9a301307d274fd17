"""What is wrong with a config, in sentences: which key in which line, what was expected, what was probably meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]
Origin = tuple[int, str]  # the order in which values were given, and the place that an error names


def problem_sentences(
    cls: type[BaseModel], given: Any, origins: dict[KeyPath, Origin], error: ValidationError
) -> list[str]:
    """One sentence per key that is wrong, in the order of the file; missing keys last."""
    problems: dict[KeyPath, list[ErrorDetails]] = {}
    for problem in error.errors(include_url=False):
        problems.setdefault(_real_path(problem, given), []).append(problem)
    found = []
    # Of a union every member complains; the one that was meant is that whose own check spoke, for which all of its keys
    # were right, else the member that got deepest.
    checked = [path for path, same_key in problems.items() if same_key[0]["type"] == "value_error"]
    for path, same_key in problems.items():
        below = any(len(other) > len(path) and other[: len(path)] == path for other in problems)
        inside = any(len(path) > len(other) and path[: len(other)] == other for other in checked)
        if path in checked or not (below or inside):
            lengths = [length for length in range(len(path) + 1) if path[:length] in origins]
            order, place = origins[path[: lengths[-1]]]
            sentence = f"{place}: " * bool(place) + _sentence(cls, path, same_key)
            found.append((same_key[0]["type"] == "missing", order, sentence))
    return [sentence for *_, sentence in sorted(found, key=lambda problem: problem[:2])]


def _real_path(problem: ErrorDetails, given: Any) -> KeyPath:
    """Pydantic's location without the names of union members that it puts between keys."""
    path: KeyPath = ()
    here = given
    for position, part in enumerate(problem["loc"]):
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            if problem["type"] != "missing" or position < len(problem["loc"]) - 1:
                continue
        path = (*path, part)
    return path


_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a block of keys"),
    **dict.fromkeys(("string_type", "invalid_key"), "text"),
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def _sentence(cls: type[BaseModel], path: KeyPath, problems: list[ErrorDetails]) -> str:
    key, first = dotted(path), problems[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {_suggestion(cls, path)}"
    if first["type"] == "missing":
        fields = [block.model_fields.get(str(path[-1])) for block in _blocks_at(cls, path[:-1])]
        meaning = next((f" ({field.description})" for field in fields if field and field.description), "")
        otherwise = "" if any(isinstance(part, int) for part in path) else f", or pass --set {key}=VALUE"
        return f"the key '{key}' is missing{meaning}; add it{otherwise}"
    if not all(problem["type"] in _EXPECTED for problem in problems):
        words = first["msg"].removeprefix("Value error, ")
        return f"'{key}': {words}" if key else words
    expected = [_EXPECTED[problem["type"]].format(**problem.get("ctx", {})) for problem in problems]
    sentence = f"'{key}' must be {' or '.join(dict.fromkeys(expected))}, not {shown(first['input'])}"
    near = get_close_matches(str(first["input"]), re.findall(r"'([^']*)'", expected[0]), n=1)
    if near:
        return f"{sentence}; did you mean '{near[0]}'?"
    quotes = expected == ["text"] and isinstance(first["input"], int | float)
    return sentence + "; put it in quotes if it is meant as text" * quotes


def _suggestion(cls: type[BaseModel], path: KeyPath) -> str:
    """The key that was probably meant: this name in another block, else the nearest name in this block."""
    name, here = str(path[-1]), [field for block in _blocks_at(cls, path[:-1]) for field in block.model_fields]
    meant = [key for key in _all_keys(cls) if key[-1] == name]
    meant = meant or [(*path[:-1], near) for near in get_close_matches(name, here, n=1)]
    if meant:
        return f"did you mean {' or '.join(repr(dotted(key)) for key in meant)}?"
    return f"the keys here are {', '.join(here)}"


def union_members(annotation: Any) -> list[Any]:
    """The types that a union allows."""
    if get_origin(annotation) not in (Union, UnionType, Annotated):
        return [annotation]
    return [kind for member in get_args(annotation) for kind in union_members(member)]


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The Config classes in an annotation, inside lists and mappings too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for member in get_args(annotation) for block in _blocks(member)]


def _blocks_at(cls: type[BaseModel], path: KeyPath) -> list[type[BaseModel]]:
    """The classes that the block at ``path`` may have."""
    blocks = [cls]
    for part in path:
        fields = [block.model_fields[str(part)] for block in blocks if part in block.model_fields]
        # A list index or a mapping's own key names no field.
        blocks = [inner for field in fields for inner in _blocks(field.annotation)] or blocks
    return blocks


def _all_keys(cls: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    for name, field in cls.model_fields.items():
        yield (*path, name)
        for block in _blocks(field.annotation) if len(path) < 4 else ():  # a block may hold itself
            yield from _all_keys(block, (*path, name))


def dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)


def shown(value: object) -> str:
    """A value in an error: what kind it is and, where it is short, what it is."""
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, Mapping | list | tuple):
        return "a block of keys" if isinstance(value, Mapping) else "a list"
    return json.dumps(value) if value is None or isinstance(value, bool | int | float) else repr(value)[:60]
