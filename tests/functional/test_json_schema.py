"""JSON read strictly, and the keywords of JSON Schema that are checked, each by a value that fits and another."""

import pytest

from baro.functional.json_schema import mismatch, read_json, unknown_keyword


@pytest.mark.parametrize(
    ("schema", "fits", "not_fits"),
    [
        ({"type": "object"}, "{}", "[]"),
        ({"type": "integer"}, "1.0", "1.5"),
        ({"type": "integer"}, "1e400", "1e-400"),
        ({"type": "number"}, "1e999999999", "true"),
        ({"type": "boolean"}, "true", "1"),
        ({"type": "null"}, "null", "0"),
        ({"type": ["string", "null"]}, "null", "0"),
        ({"enum": [1, "a"]}, "1.0", "true"),
        ({"const": 0.1}, "0.1", "0.10000000000000001"),
        ({"const": {"a": [1, {"b": None}]}}, '{"a": [1.0, {"b": null}]}', '{"a": [1, {"b": 0}]}'),
        ({"required": ["a"]}, '{"a": 1}', "{}"),
        ({"properties": {"a": {"type": "string"}}}, '{"a": "x", "b": 1}', '{"a": 1}'),
        ({"properties": {"a": True}, "additionalProperties": False}, '{"a": 1}', '{"b": 1}'),
        ({"additionalProperties": {"type": "string"}}, '{"b": "x"}', '{"b": 1}'),
        ({"items": {"minimum": 2}}, "[2, 3]", "[2, 1]"),
        ({"minItems": 1}, "[1]", "[]"),
        ({"maxItems": 1}, "[1]", "[1, 2]"),
        ({"uniqueItems": True}, "[1, true, [1], [true]]", "[1, 1.0]"),
        ({"minimum": 0.1}, "0.1", "0.09999999999999999999"),
        ({"maximum": 3}, '"text"', "3.5"),
        ({"exclusiveMinimum": 3}, "4", "3"),
        ({"exclusiveMaximum": 3}, "2", "3.0"),
        ({"minLength": 2}, '"가나"', '"가"'),
        ({"maxLength": 2}, '"가나"', '"가나다"'),
        ({"minProperties": 1}, '{"a": 1}', "{}"),
        ({"maxProperties": 1}, '{"a": 1}', '{"a": 1, "b": 2}'),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, "3", "2"),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "3", "3.5"),
        ({"oneOf": [{"minimum": 3}, {"maximum": 5}]}, "2", "4"),
        ({"not": {"type": "string"}}, "1", '"1"'),
        (True, "1", None),
        ({"title": "anything"}, "1", None),
    ],
)
def test_keywords(schema, fits, not_fits):
    assert unknown_keyword(schema) is None
    assert mismatch(read_json(fits), schema) is None
    if not_fits is not None:
        assert mismatch(read_json(not_fits), schema)


def test_a_mismatch_says_where():
    schema = {"properties": {"a": {"items": {"type": "string"}}}}
    assert mismatch(read_json('{"a": ["x", 1]}'), schema) == "the value.a[1] does not fit type: 'string'"


@pytest.mark.parametrize(
    "text",
    [
        "", "text", "{", '{"a": 1} and more', "```json\n{}\n```", "NaN", "-Infinity", '{"a": 1, "a": 2}',
        "1e9999999999999999999999", "9" * 5000, "'a'", "[1,]",
    ],
)  # fmt: skip
def test_what_is_no_json(text):
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"pattern": "a+"}, "'pattern' is not checked here"),
        ({"properties": {"a": {"$ref": "#"}}}, "json_schema.properties.a: '$ref'"),
        ({"items": 3}, "json_schema.items is no schema"),
        ({"type": "text"}, "json_schema.type"),
        ({"required": "a"}, "json_schema.required"),
        ({"minLength": -1}, "json_schema.minLength"),
        ({"minimum": "3"}, "json_schema.minimum"),
        ({"enum": []}, "json_schema.enum"),
        ({"properties": []}, "json_schema.properties"),
        ({"anyOf": [{"a": 1}]}, "json_schema.anyOf.0"),
        ({"uniqueItems": 1}, "json_schema.uniqueItems"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema, reason):
    assert reason in unknown_keyword(schema)
