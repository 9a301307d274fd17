"""CSV, Parquet, folders and the hub's cache: the same rows as JSON Lines, and refusals with a place."""

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as arrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from baro.data import hub
from baro.data.files import find_files, read_rows
from baro.data.formats import read_records
from baro.errors import ConfigError, DataError
from baro.inputs import resolve
from baro.records import Demonstration, Message, Preference, Ranking

PAIR = Preference((Message("user", "hi"),), (Message("assistant", "yes"),), (Message("assistant", "no"),), 0.75)


def refusal(path) -> str:
    with pytest.raises(DataError) as error:
        list(read_records(path))
    return str(error.value)


def csv(folder: Path, text: str, name: str = "rows.csv") -> Path:
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder / name


def table(folder: Path, rows: list[dict], name: str = "rows.parquet") -> Path:
    parquet.write_table(arrow.Table.from_pylist(rows), folder / "x.parquet", row_group_size=2)
    content = (folder / "x.parquet").read_bytes()
    (folder / "x.parquet").unlink()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


# ---------------------------------------------------------------------------------------------------------------- CSV


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_csv_with_quotes_line_ends_and_numbers(tmp_path, name):
    path = csv(tmp_path, '\ufeffrejected,prompt,chosen,p_chosen\r\nno,hi,yes,0.75\r\n"a ""b"",\nc",d,e,1\r\n', name)
    loaded = read_records(path)
    assert loaded.keys == (f"{name}:2", f"{name}:4")  # the line in which the row ends
    assert loaded.records[0] == PAIR
    assert loaded.records[1].rejected[0].content == 'a "b",\nc'


def test_lists_stand_in_a_csv_as_json_and_text_stays_text(tmp_path):
    path = csv(tmp_path, 'prompt,responses,ranks,note\n"[1, 2]","[""a"", ""b""]","[2, 1]","{x}"\n')
    (record,) = read_records(path).records
    assert isinstance(record, Ranking)
    assert (record.prompt[0].content, record.ranks, record.extra) == ("[1, 2]", (2, 1), {"note": "{x}"})
    messages = '"[{""role"": ""user"", ""content"": ""hi""}]"'
    (record,) = read_records(csv(tmp_path, f"prompt,completion\n{messages},42\n")).records
    assert record == Demonstration((Message("user", "hi"),), (Message("assistant", "42"),))
    (thumb,) = read_records(csv(tmp_path, "prompt,completion,label\nhi,yes,True\n")).records
    assert thumb.label is True


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "prompt,completion\na,b\na,b,c\n",
            "rows.csv:3: has 3 cells, and the first line names 2 columns; quote cells that hold a comma",
        ),
        ("prompt,prompt\na,b\n", "rows.csv:1: the column 'prompt' stands there twice; rename one"),
        (
            'prompt,completion\na,"b" c\n',
            "rows.csv:2: cannot be read (',' expected after '\"'); quote cells that hold a quote, a comma or a line "
            "end",
        ),
        (
            "prompt,chosen,rejected,margin\na,b,c,1\na,b,c,x\n",
            "rows.csv:3: column 'margin' is text; a finite number is needed",
        ),
        ("", "rows.csv:1: is empty; give a file with a line of column names and rows below it"),
    ],
)
def test_a_csv_that_cannot_be_read_says_where(tmp_path, text, sentence):
    assert refusal(csv(tmp_path, text)) == sentence


def test_a_csv_in_another_encoding(tmp_path):
    (tmp_path / "rows.csv").write_bytes("prompt,completion\na,b\n한,b\n".encode("cp949"))
    assert refusal(tmp_path / "rows.csv") == ("rows.csv:3: byte 1 of the line (0xc7) is not UTF-8; save it as UTF-8")


# ------------------------------------------------------------------------------------------------------------ Parquet


@pytest.mark.parametrize("name", ["rows.parquet", "rows.parquet.gz"])
def test_parquet_with_messages_and_times(tmp_path, name):
    said = [{"content": "hi", "role": "user"}, {"content": "안녕", "role": "assistant"}]
    rows = [{"messages": said, "day": date(2024, 2, 29), "price": Decimal("1.50"), "tags": ["x", None]}] * 5
    loaded = read_records(table(tmp_path, rows, name))
    assert loaded.keys == tuple(f"{name}:{i}" for i in range(1, 6))
    assert loaded.records[4] == Demonstration(
        (Message("user", "hi"),),
        (Message("assistant", "안녕"),),
        {"day": "2024-02-29", "price": "1.50", "tags": ["x", None]},
    )


def test_parquet_that_cannot_be_read_says_where(tmp_path):
    good = {"prompt": "a", "completion": "b"}
    assert refusal(table(tmp_path, [good, good | {"completion": None}])) == (
        "rows.parquet:2: column 'completion' is null; text or a list of messages is needed"
    )
    assert refusal(table(tmp_path, [good | {"image": b"x"}])) == (
        "rows.parquet:1: column 'image' holds bytes, which is no text; leave this column out"
    )
    whole = table(tmp_path, [good]).read_bytes()
    (tmp_path / "rows.parquet").write_bytes(whole[:-20])
    assert refusal(tmp_path / "rows.parquet").startswith("rows.parquet: cannot be read (")


# ------------------------------------------------------------------------------------------------------------ folders


def test_a_folder_gives_its_training_files_in_order_and_says_what_it_leaves_out(tmp_path):
    folder = tmp_path / "set"
    (folder / "data" / ".cache").mkdir(parents=True)
    for name, number in (("train-1.jsonl", 2), ("train-0.jsonl", 1), ("test.jsonl", 3), (".cache/train.jsonl", 4)):
        (folder / "data" / name).write_text(f'{{"text": "{number}"}}\n')
    (folder / "dataset_infos.json").write_text("{}")
    (folder / "README.md").write_text("x")
    loaded = read_records(folder)
    assert [record.completion[0].content for record in loaded.records] == ["1", "2"]
    assert loaded.keys == ("train-0.jsonl:1", "train-1.jsonl:1")
    assert loaded.description == (
        "set: demonstrations; of the folder set: train-0.jsonl, train-1.jsonl; left out: test.jsonl; 'text' is raw text"
    )


def test_a_folder_without_training_files_gives_all_of_them(tmp_path):
    csv(tmp_path, "text\na\n", "b.csv")
    (tmp_path / "a.json").write_text('[{"text": "1"}, {"text": "2"}]')
    table(tmp_path, [{"text": "p"}], "c.parquet")
    assert [row.key for row in find_files(tmp_path)] == ["a.json:1", "a.json:2", "b.csv:2", "c.parquet:1"]
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == (
        f"{tmp_path}/empty: no file in this folder ends in .jsonl, .json, .csv, .parquet; give a file with rows"
    )


# ------------------------------------------------------------------------------------------------------- JSON arrays


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[{"text": "a"} {"text": "b"}]', "rows.json:1: broken JSON at column 16 (Expecting ',' delimiter); "),
        ('[{"text": "a"},\n{"text": "b"}', "rows.json:2: broken JSON at column 14 (Expecting ',' delimiter); "),
        ('[{"text": "a"}]\n{}', "rows.json:2: broken JSON at column 1 (Extra data); "),
        ('[{"text": "a"}, 3]', "rows.json:2: is a number; a row is an object with named columns"),
        ("[]", "rows.json:1: is empty; give a file with one JSON object in each line"),
    ],
)
def test_arrays_that_cannot_be_read(tmp_path, text, sentence):
    (tmp_path / "rows.json").write_text(text)
    assert refusal(tmp_path / "rows.json").startswith(sentence)


def test_an_array_may_be_called_json_lines(tmp_path):
    (tmp_path / "rows.jsonl").write_text('\ufeff [\n {"text": "a"} ,\n {"text": "b"}\n]\n')
    assert [row.columns["text"] for row in read_rows(tmp_path / "rows.jsonl")] == ["a", "b"]


# ---------------------------------------------------------------------------------------------------------------- hub


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """A cache as the hub's library leaves it, with one data set and two revisions."""
    folder = tmp_path / "hub" / "datasets--some--pairs"
    for commit, answer in (("a" * 40, "new"), ("b" * 40, "old")):
        (folder / "snapshots" / commit / "data").mkdir(parents=True)
        (folder / "snapshots" / commit / "data" / "train.jsonl").write_text(f'{{"text": "{answer}"}}\n')
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def test_a_hub_id_is_read_from_the_cache(hub_cache):
    records = read_records(hub.fetch_rows("some/pairs")).records
    assert [record.completion[0].content for record in records] == ["new"]
    old = read_records(hub.fetch_rows(f"some/pairs@{'b' * 40}")).records
    assert [record.completion[0].content for record in old] == ["old"]


def test_a_hub_id_that_is_not_in_the_cache_is_one_sentence(hub_cache):
    with pytest.raises(ConfigError) as error:
        hub.fetch_rows("some/others")
    assert str(error.value) == (
        "some/others: no such file, and the hub's data set cannot be had (HF_HUB_OFFLINE is set and it is not in the "
        "cache); unset it to download, or give a path"
    )


def test_an_input_may_be_a_hub_id_and_a_mistyped_path_is_none(hub_cache, tmp_path, monkeypatch):
    assert resolve("some/pairs", "records") == hub_cache / "snapshots" / ("a" * 40)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    with pytest.raises(ConfigError, match=r"^some/pairs: no such file or folder; give a run directory, a path, or a"):
        resolve("some/pairs", "records")
