"""What cannot be read stops, and says where and what to do. Sentences are compared whole."""

import gzip
import json

import pytest

from baro.data.files import find_files, read_rows, write_rows
from baro.errors import DataError

GOOD = {"prompt": "p", "completion": "c"}


def refusal(path) -> str:
    with pytest.raises(DataError) as error:
        read_rows(path)
    return str(error.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.json.gz"])
def test_every_file_type_is_read(tmp_path, name):
    rows = [{"text": "하나"}, {"text": "둘"}]
    text = json.dumps(rows, ensure_ascii=False, indent=1) if ".json" in name and ".jsonl" not in name else None
    text = text or "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    read = read_rows(tmp_path / name)
    assert [row.columns for row in read] == rows
    assert [row.key for row in read] == [f"{name}:1", f"{name}:2"]


def test_content_decides_whether_it_is_gzipped_and_whether_it_is_an_array(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    (tmp_path / "rows.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert [row.columns["text"] for row in read_rows(tmp_path / "rows.jsonl")] == ["a"]
    assert [row.key for row in read_rows(tmp_path / "rows.json")] == ["rows.json:1", "rows.json:2"]


def test_line_ends_byte_order_mark_and_blank_lines_do_not_matter(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b\xe2\x80\xa8c"}\r\n\n\n')
    rows = read_rows(path)
    assert [(row.key, row.columns["text"]) for row in rows] == [("rows.jsonl:1", "a"), ("rows.jsonl:3", "b\u2028c")]
    assert rows[0].line == '{"text": "a"}'


def test_broken_json_in_line_412(jsonl):
    path = jsonl([GOOD] * 411 + ['{"prompt": "p", "completion" "c"}'] + [GOOD])
    assert refusal(path) == (
        "rows.jsonl:412: broken JSON at column 30 (Expecting ':' delimiter); fix or remove this line"
    )


def test_broken_json_in_an_array_names_its_line(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[\n {"text": "a"},\n {"text": }\n]')
    assert refusal(path) == "rows.json:3: broken JSON at column 11 (Expecting value); fix or remove this line"


def test_bad_utf8_names_the_byte(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    assert refusal(path) == (
        "rows.jsonl:2: byte 11 of the line (0xff) is not UTF-8; it looks like cp1252 (Western Excel): save it as UTF-8 "
        "(Excel: CSV UTF-8), or give --encoding cp1252 (`data.encoding: cp1252` in a config)"
    )


def test_half_a_character_is_not_text(jsonl):
    path = jsonl([{"text": "a"}, r'{"text": "\ud83d"}'])
    assert refusal(path) == r"rows.jsonl:2: holds half a character (a lone \ud... escape); fix or remove this line"
    whole = read_rows(jsonl([r'{"text": "\ud83d\ude00"}']))
    assert whole[0].columns["text"] == "😀"


@pytest.mark.parametrize(("line", "kind"), [("[1]", "a list"), ("null", "null"), ('"x"', "text"), ("3", "a number")])
def test_a_row_must_be_an_object(jsonl, line, kind):
    assert refusal(jsonl([GOOD, line])) == f"rows.jsonl:2: is {kind}; a row is an object with named columns"


def test_absurd_rows_are_refused_not_crashed_on(jsonl):
    assert "rows.jsonl:1: cannot be read (" in refusal(jsonl(["[" * 100_000]))
    assert "rows.jsonl:1: cannot be read (" in refusal(jsonl(['{"text": ' + "9" * 5000 + "}"]))


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"\n \n")
    (tmp_path / "image.jsonl").write_bytes(b"\x89PNG\r\n\0\0")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-9])
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "table.xlsx").write_text("a,b\n")
    assert refusal(tmp_path / "empty.jsonl") == (
        "empty.jsonl:1: is empty; give a file with one JSON object in each line"
    )
    assert refusal(tmp_path / "image.jsonl") == "image.jsonl:1: is a binary file; give JSON Lines"
    assert refusal(tmp_path / "cut.jsonl.gz").startswith("cut.jsonl.gz: cannot be read (")
    assert refusal(tmp_path / "table.csv") == (
        "table.csv:1: is empty; give a file with a line of column names and rows below it"
    )
    assert refusal(tmp_path / "table.xlsx") == (
        "table.xlsx: its type is unknown; give one of .jsonl, .json, .csv, .tsv, .parquet, .arrow, or one with .gz"
    )
    assert refusal(tmp_path / "emty.jsonl") == f"{tmp_path}/emty.jsonl: no such file; empty.jsonl is there"
    assert refusal(tmp_path / "gone" / "x.jsonl") == f"{tmp_path}/gone/x.jsonl: no such file"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl.gz"
    write_rows(path, [{"text": "가"}, '{"text":   "as it was"}'])
    before = path.read_bytes()
    assert gzip.decompress(before).decode() == '{"text": "가"}\n{"text":   "as it was"}\n'
    with pytest.raises(TypeError):
        write_rows(path, [{"text": object()}])
    assert path.read_bytes() == before
    write_rows(path, [{"text": "가"}, '{"text":   "as it was"}'])
    assert path.read_bytes() == before  # no time stamp inside
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl.gz"]


def test_the_same_rows_in_two_types_are_read_once(tmp_path):
    for name in ("data.csv", "data.jsonl", "more.jsonl"):
        (tmp_path / name).write_text("text\nx\n" if name.endswith("csv") else '{"text": "x"}\n')
    (tmp_path / "export.json").write_text("{}")
    found = find_files(tmp_path)
    assert [one.name for one in found.paths] == ["data.jsonl", "more.jsonl"]
    assert found.says.endswith("left out: data.csv")
