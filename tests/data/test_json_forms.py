"""Rows of JSON in every form that is met: read where there is one way to read it, one sentence otherwise."""

import json

import pytest

from baro.data.check import split_file
from baro.data.convert import convert_file
from baro.data.files import find_files, read_rows, write_rows
from baro.data.formats import read_records
from baro.errors import DataError

ROWS = [{"prompt": "Hi", "chosen": "Hello!", "rejected": "No."}, {"prompt": "Bye", "chosen": "Bye!", "rejected": "Go."}]
COMMAS = "a comma at the end of a line is passed over"
COLUMNS = {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}


def pretty(value) -> str:
    return json.dumps(value, indent=2)


FORMS = {
    "lines": ("\n".join(map(json.dumps, ROWS)), ""),
    "lines with commas": (",\n".join(map(json.dumps, ROWS)) + ",\n", COMMAS),
    "lines with commas but the last": (",\n".join(map(json.dumps, ROWS)), COMMAS),
    "an array": (json.dumps(ROWS), ""),
    "an array over lines": ("\n\n" + pretty(ROWS), ""),
    "pretty objects": ("\n".join(map(pretty, ROWS)), "each object stands on several lines"),
    "pretty objects with commas": (",\n\n".join(map(pretty, ROWS)), "each object stands on several lines"),
    "under data": (json.dumps({"data": ROWS}), "the rows stand under 'data'"),
    "under data, pretty": (
        pretty({"version": "1.0", "data": ROWS, "licence": "x"}),
        "the rows stand under 'data'; left out beside it: 'version', 'licence'",
    ),
    "under rows": (json.dumps({"rows": ROWS}), "the rows stand under 'rows'"),
    "pandas columns": (json.dumps(COLUMNS), "columns by number, as pandas writes them"),
    "pandas columns, pretty": (pretty(COLUMNS), "columns by number, as pandas writes them"),
    "pandas index": (json.dumps({str(i): row for i, row in enumerate(ROWS)}), "rows by number, as pandas writes them"),
    "pandas split": (
        json.dumps({"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}),
        "columns and rows of cells",
    ),
    "columns as lists": (json.dumps({k: [row[k] for row in ROWS] for k in ROWS[0]}), "each column is one list"),
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows_and_is_told(tmp_path, form, name, ends):
    text, note = FORMS[form]
    (tmp_path / name).write_bytes(text.replace("\n", ends).encode())
    files = find_files(tmp_path / name)
    assert [row.columns for row in files] == ROWS
    assert files.says == note
    assert note in read_records(tmp_path / name).description
    assert [json.loads(row.line) for row in files] == ROWS


MEND = "; fix or remove this line"
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "completion": "Hello!"},
        {"messages": MESSAGES},
        {"chosen": MESSAGES, "rejected": [*MESSAGES[:1], {"role": "assistant", "content": "No."}]},
        {"prompt": "Hi", "responses": ["a", "b"], "ranks": [1, 2]},
        {"prompt": "Hi", "completion": "Hello!", "data": [{"x": 1}]},
        {"text": "x", "meta": {"0": 1}},
    ],
)
@pytest.mark.parametrize("write", [json.dumps, pretty])
def test_one_object_that_is_a_row_stays_one(tmp_path, row, write):
    (tmp_path / "rows.json").write_text(write(row))
    assert [one.columns for one in read_rows(tmp_path / "rows.json")] == [row]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"text": "a" "b"}\n', "rows.json:1: broken JSON at column 14 (Expecting ',' delimiter)" + MEND),
        ('{"text": "a"} {"text": "b"}\n', "rows.json:1: broken JSON at column 15 (Extra data)" + MEND),
        ('{\n "text": "a"\n', "rows.json:3: broken JSON at column 1 (Expecting ',' delimiter)" + MEND),
        (
            json.dumps({"train": ROWS, "data": ROWS}),
            "rows.json:1: rows stand under 'data' and 'train'; write those to read into a file of their own",
        ),
        ('{"text": "a"},\n{"text": }\n', "rows.json:2: broken JSON at column 10 (Expecting value)" + MEND),
        (
            '{"text": "a", "x": Infinity}\n',
            "rows.json:1: cannot be read (Infinity is no number in JSON; write null or a number); fix or remove this "
            "line",
        ),
        (
            '{"text": "a", "x": 1e999}\n',
            "rows.json:1: cannot be read (1e999 is beyond all floats); fix or remove this line",
        ),
    ],
)
def test_what_no_form_fits_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError) as error:
        read_rows(tmp_path / "rows.json")
    assert str(error.value) == sentence


def strict(line: str) -> dict:
    """As readers do that know JSON's own numbers only."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("form", ["lines", "array", "pretty"])
def test_a_missing_number_is_null_and_never_written(tmp_path, form):
    rows = [row | {"agreement": float("nan"), "NaN": "NaN"} for row in ROWS]
    plain = [row | {"agreement": None, "NaN": "NaN"} for row in ROWS]
    forms = {"lines": "\n".join(map(json.dumps, rows)), "array": json.dumps(rows), "pretty": pretty(rows)}
    (tmp_path / "rows.json").write_text(forms[form] + "\n")
    assert [one.extra for one in read_records(tmp_path / "rows.json").records] == [
        {"agreement": None, "NaN": "NaN"},
        {"agreement": None, "NaN": "NaN"},
    ]
    convert_file(tmp_path / "rows.json", "prompt/chosen/rejected", tmp_path / "out.jsonl")
    assert [strict(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == plain
    *written, _ = split_file(tmp_path / "rows.json", 1, "row", tmp_path / "out", seed=0)
    halves = [strict(line) for one in written for line in one.read_text().splitlines()]
    assert sorted(halves, key=plain.index) == plain


def test_no_infinity_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_rows(tmp_path / "rows.jsonl", [{"x": float("inf")}])
    assert list(tmp_path.iterdir()) == []
