"""JSON that a model wrote, read strictly, and compared with a schema: the part of JSON Schema that needs no patterns.

A schema with another keyword is refused before anything is read, since an unknown keyword would hold for everything.
https://json-schema.org/draft/2020-12, whose meaning the keywords have; numbers are compared as decimals.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sized
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

Check = Callable[[Any, Any], bool]


def read_json(text: str) -> Any:
    """The value of a text that is JSON and nothing else; ValueError where it is not, or where one key stands twice.

    RecursionError where it is nested deeper than Python follows; ``mismatch`` raises it likewise.
    """
    return json.loads(text, parse_float=_decimal, parse_constant=_no_number, object_pairs_hook=_each_key_once)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]} is no number that can be held") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def mismatch(value: Any, schema: Any, place: str = "the value") -> str | None:
    """Where a value is not what the schema says, in words; None where it is."""
    if isinstance(schema, bool):
        return None if schema else f"{place} is not allowed"
    for keyword, holds in _CHECKS.items():
        if keyword in schema and not holds(value, schema[keyword]):
            return f"{place} does not fit {keyword}: {repr(schema[keyword])[:60]}"
    for inner, inner_schema, inner_place in _inside(value, schema, place):
        if found := mismatch(inner, inner_schema, inner_place):
            return found
    return None


def unknown_keyword(schema: Any, place: str = "json_schema") -> str | None:
    """What of a schema cannot be checked, in words; None where all of it can."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, Mapping):
        return f"{place} is no schema; a schema is a block of keywords, true or false"
    for keyword, said in schema.items():
        if keyword not in (*_CHECKS, *_NESTED, *_SAY_NOTHING):
            return f"{place}: {keyword!r} is not checked here; checked are {', '.join((*_CHECKS, *_NESTED))}"
        fits = _SHAPES.get(keyword)
        if fits is not None and not fits(said):
            return f"{place}.{keyword} is {repr(said)[:60]}, which it may not be"
    for inner, inner_place in _schemas(schema, place):
        if found := unknown_keyword(inner, inner_place):
            return found
    return None


def _schemas(schema: Mapping[str, Any], place: str) -> Iterator[tuple[Any, str]]:
    for name, inner in schema.get("properties", {}).items():
        yield inner, f"{place}.properties.{name}"
    for keyword in ("additionalProperties", "items", "not"):
        if keyword in schema:
            yield schema[keyword], f"{place}.{keyword}"
    for keyword in ("anyOf", "allOf", "oneOf"):
        for i, inner in enumerate(schema.get(keyword, ())):
            yield inner, f"{place}.{keyword}.{i}"


def _inside(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[tuple[Any, Any, str]]:
    """The parts of a value, each with the schema that it must fit."""
    if isinstance(value, dict):
        named = schema.get("properties", {})
        for key, inner in value.items():
            if key in named or "additionalProperties" in schema:
                rest = schema.get("additionalProperties", True)
                yield inner, named.get(key, rest), f"{place}.{key}"
    if isinstance(value, list) and "items" in schema:
        yield from ((inner, schema["items"], f"{place}[{i}]") for i, inner in enumerate(value))


def _is(value: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        return number and (kind == "number" or isinstance(value, int) or value == value.to_integral_value())
    kinds = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
    return isinstance(value, kinds[kind])


def _same(one: Any, other: Any) -> bool:
    return bool(_key(one) == _key(other))


def _key(value: Any) -> Any:
    """Equal for values that JSON calls equal: 1 and 1.0, not 1 and true."""
    if isinstance(value, list):
        return "list", tuple(map(_key, value))
    if isinstance(value, Mapping):
        return "object", frozenset((name, _key(inner)) for name, inner in value.items())
    return type(value) if isinstance(value, bool) else "", _exact(value)


def _exact(value: Any) -> Any:
    """A number of a schema as it is written there, not as a float has it."""
    return Decimal(repr(value)) if isinstance(value, float) else value


def _number(holds: Callable[[Any, Any], bool]) -> Check:
    return lambda value, limit: not _is(value, "number") or holds(value, _exact(limit))


def _size(kind: type[Sized], holds: Callable[[int, int], bool]) -> Check:
    return lambda value, limit: not isinstance(value, kind) or holds(len(value), limit)


def _unique(value: Any, wanted: bool) -> bool:
    return not wanted or not isinstance(value, list) or len(set(map(_key, value))) == len(value)


def _at_least(value: Any, limit: Any) -> bool:
    return bool(value >= limit)


def _at_most(value: Any, limit: Any) -> bool:
    return bool(value <= limit)


_CHECKS: dict[str, Check] = {
    "type": lambda value, kinds: any(_is(value, one) for one in ([kinds] if isinstance(kinds, str) else kinds)),
    "enum": lambda value, known: any(_same(value, one) for one in known),
    "const": _same,
    "required": lambda value, names: not isinstance(value, dict) or all(name in value for name in names),
    "minimum": _number(_at_least),
    "maximum": _number(_at_most),
    "exclusiveMinimum": _number(lambda value, limit: bool(value > limit)),
    "exclusiveMaximum": _number(lambda value, limit: bool(value < limit)),
    "minLength": _size(str, _at_least),
    "maxLength": _size(str, _at_most),
    "minItems": _size(list, _at_least),
    "maxItems": _size(list, _at_most),
    "uniqueItems": _unique,
    "minProperties": _size(dict, _at_least),
    "maxProperties": _size(dict, _at_most),
    "anyOf": lambda value, schemas: any(mismatch(value, one) is None for one in schemas),
    "allOf": lambda value, schemas: all(mismatch(value, one) is None for one in schemas),
    "oneOf": lambda value, schemas: sum(mismatch(value, one) is None for one in schemas) == 1,
    "not": lambda value, schema: mismatch(value, schema) is not None,
}
_NESTED = ("properties", "additionalProperties", "items")
_SAY_NOTHING = ("$schema", "$id", "$comment", "title", "description", "default", "examples")
_KINDS = ("string", "number", "integer", "boolean", "object", "array", "null")


def _is_count(said: Any) -> bool:
    return isinstance(said, int) and not isinstance(said, bool) and said >= 0


def _is_limit(said: Any) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said)


def _is_kind(said: Any) -> bool:
    return said in _KINDS if isinstance(said, str) else isinstance(said, list) and all(one in _KINDS for one in said)


def _are_names(said: Any) -> bool:
    return isinstance(said, list) and all(isinstance(one, str) for one in said)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "type": _is_kind,
    "required": _are_names,
    "properties": lambda said: isinstance(said, Mapping),
    "uniqueItems": lambda said: isinstance(said, bool),
    **dict.fromkeys(("enum", "anyOf", "allOf", "oneOf"), lambda said: isinstance(said, list) and bool(said)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_limit),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_count),
}
