"""CSV, Parquet, folders and the hub's cache: the same rows as JSON Lines, and refusals with a place."""

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as arrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet
from typer.testing import CliRunner

from baro import cli
from baro.config import DataConfig
from baro.data import hub
from baro.data.check import check_file, split_file
from baro.data.convert import convert_file
from baro.data.encode import account, encode_demonstrations
from baro.data.files import find_files, read_rows
from baro.data.formats import read_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError, DataError
from baro.inputs import resolve
from baro.methods.stage import Reader
from baro.records import Demonstration, Message, Preference, Ranking
from baro.runs import RunDir

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
    whole = table(tmp_path, [good]).read_bytes()
    (tmp_path / "rows.parquet").write_bytes(whole[:-20])
    assert refusal(tmp_path / "rows.parquet").startswith("rows.parquet: cannot be read (")


def test_columns_of_bytes_are_left_out_and_told_once(tmp_path, caplog):
    rows = [{"prompt": "a", "completion": "b", "image": b"x", "pictures": [{"bytes": b"y", "path": "p"}], "id": 1}]
    with caplog.at_level("WARNING", logger="baro"):
        assert read_records(table(tmp_path, rows)).records[0].extra == {"id": 1}
    assert caplog.messages == ["rows.parquet: left out, since they hold bytes: 'image', 'pictures'"]


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
        f"{tmp_path}/empty: no file in this folder ends in .jsonl, .json, .csv, .tsv, .parquet, .arrow; give a file "
        "with rows"
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


# ------------------------------------------------------------------------------------------ what spreadsheets write

PAIRS = [["prompt", "chosen", "rejected"], ["Hi, you", "Hello!", "No."], ["안녕", "반가워요", "싫어요"]]


def joined(rows: list[list[str]], by: str) -> str:
    return "".join(by.join(f'"{cell}"' if by in cell else cell for cell in row) + "\r\n" for row in rows)


def pairs_in(path: Path) -> list[tuple[str, str, str]]:
    return [(p.prompt[0].content, p.chosen[0].content, p.rejected[0].content) for p in read_records(path).records]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize(
    ("by", "note"), [(",", ""), (";", "cells are separated by ';'; "), ("\t", "cells are separated by tabs; ")]
)
def test_what_separates_cells_is_seen_in_the_line_of_names_and_said(tmp_path, name, by, note):
    path = csv(tmp_path, "\ufeff" + joined(PAIRS, by), name)
    assert pairs_in(path) == [tuple(row) for row in PAIRS[1:]]
    assert read_records(path).description == f"{name}: preferences; {note}prompt, 'chosen' and 'rejected' as named"
    with pytest.raises(DataError, match=rf"^{name}:4: has 2 cells, and the first line names 3 columns; quote cells"):
        read_rows(csv(tmp_path, joined([*PAIRS, ["a", "b"]], by), name))


def test_a_line_that_tells_the_separator_is_no_row(tmp_path):
    path = csv(tmp_path, "sep=;\r\n" + joined(PAIRS, ";"))
    assert pairs_in(path) == [tuple(row) for row in PAIRS[1:]]
    assert read_rows(path)[0].key == "rows.csv:3"
    assert [row.columns for row in read_rows(csv(tmp_path, "text\na; b\n"))] == [{"text": "a; b"}]


@pytest.mark.parametrize(
    "text",
    [
        "prompt,completion,,\na,b,,\nc,d,,\n",
        "prompt,,completion\na,,b\nc,,d\n",
        "prompt,completion\na,b,,\n,\nc,d\n , \n\n",
        " prompt ,completion,\na,b,\nc,d,\n,,\n",
    ],
)
def test_empty_columns_and_rows_are_passed_over(tmp_path, text):
    assert [row.columns for row in read_rows(csv(tmp_path, text))] == [
        {"prompt": "a", "completion": "b"},
        {"prompt": "c", "completion": "d"},
    ]


def test_a_cell_under_no_name_is_not_lost(tmp_path):
    with pytest.raises(DataError) as error:
        read_rows(csv(tmp_path, "prompt,completion,\na,b,\nc,d,e\n"))
    assert str(error.value) == ("rows.csv:3: the cell 'e' stands under no name; name its column in the first line")


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_an_empty_cell_that_is_needed_drops_its_row(tmp_path, kind):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "note": "x"}]
    rows += [{"prompt": "a", "chosen": "b", "rejected": None, "note": "x"}]
    rows += [{"prompt": "d", "chosen": "e", "rejected": "f", "note": None}]
    if kind == "parquet":
        path = table(tmp_path, rows)
    else:
        cells = [list(rows[0]), *([cell or "" for cell in row.values()] for row in rows)]
        path = csv(tmp_path, joined(cells, {"csv": ",", "tsv": "\t"}[kind]), f"rows.{kind}")
    ledger = Ledger("rows")
    loaded = read_records(path)
    account(loaded, ledger)
    assert ledger.kept == 2
    assert [(one.reason, one.sentence) for one in ledger.dropped] == [
        ("missing cell", "the cell under 'rejected' is empty; fill it in or remove the row")
    ]
    assert [one.extra for one in loaded.records] == [{"note": "x"}, {"note": None}]
    _, converted = convert_file(path, "prompt/chosen/rejected", tmp_path / "out.jsonl")
    assert (converted.kept, [one.reason for one in converted.dropped]) == (2, ["missing cell"])
    assert check_file(path, None, 100).ledger.kept == 2
    assert split_file(path, 1, "row", tmp_path / "out", 0)[2]["train"] == 2


def test_nan_is_null_and_an_infinity_is_none_in_a_parquet_file(tmp_path):
    good = {"prompt": "a", "completion": "b"}
    (record,) = read_records(table(tmp_path, [good | {"x": float("nan"), "y": [float("nan")]}])).records
    assert record.extra == {"x": None, "y": [None]}
    assert refusal(table(tmp_path, [good | {"x": float("inf")}])) == (
        "rows.parquet:1: column 'x' holds an infinity, which is no number in JSON; write null there"
    )


ENCODED = {
    "cp949": ("한국어 문장입니다", "Korean Excel"),
    "cp932": ("こんにちは、お元気ですか", "Japanese Excel"),
    "gb18030": ("你好，世界，我们是朋友", "Chinese Excel"),
    "cp1252": ("déjà vu", "Western Excel"),
}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("encoding", ENCODED)
def test_another_encoding_is_guessed_and_read_when_it_is_named(tmp_path, encoding, name):
    text, program = ENCODED[encoding]
    line = f'{{"prompt": "{text}", "completion": "c"}}\n'
    lines = f"prompt,completion\na,b\n{text},c\n" if name.endswith("csv") else line
    (tmp_path / name).write_bytes(lines.encode(encoding))
    sentence = refusal(tmp_path / name)
    assert f"is not UTF-8; it looks like {encoding} ({program}): save it as UTF-8 (Excel: CSV UTF-8), or" in sentence
    assert sentence.endswith(f"or give --encoding {encoding} (`data.encoding: {encoding}` in a config)")
    assert read_records(tmp_path / name, reading=Reading(encoding=encoding)).records[-1].prompt[0].content == text


def test_utf_16_is_read_when_it_is_named(tmp_path):
    (tmp_path / "rows.csv").write_bytes(joined(PAIRS, "\t").encode("utf-16"))
    assert refusal(tmp_path / "rows.csv").startswith("rows.csv:1: looks like UTF-16: save it as UTF-8")
    loaded = read_records(tmp_path / "rows.csv", reading=Reading(encoding="utf-16"))
    assert [one.chosen[0].content for one in loaded.records] == ["Hello!", "반가워요"]


def test_an_encoding_that_does_not_fit_or_is_none(tmp_path):
    (tmp_path / "rows.csv").write_bytes("prompt,completion\na,b\n한,b\n".encode())
    with pytest.raises(DataError, match=r"^rows.csv:\d: in this line or below it stands what is no ascii \("):
        list(read_records(tmp_path / "rows.csv", reading=Reading(encoding="ascii")))
    with pytest.raises(ConfigError, match=r"^cp94: no such encoding; give one as utf-8, cp949, cp1252 or utf-16"):
        read_records(tmp_path / "rows.csv", reading=Reading(encoding="cp94"))


def test_the_command_line_and_a_config_take_an_encoding(tmp_path, monkeypatch, capsys):
    (tmp_path / "rows.csv").write_bytes("prompt,completion\n한국,b\n".encode("cp949"))
    monkeypatch.chdir(tmp_path)
    arguments = ["data", "convert", "rows.csv", "--to", "prompt/completion", "--out", "out.jsonl"]
    assert CliRunner().invoke(cli.app, [*arguments, "--encoding", "cp949"]).exit_code == 0
    assert (tmp_path / "out.jsonl").read_text() == '{"prompt": "한국", "completion": "b"}\n'
    assert CliRunner().invoke(cli.app, ["data", "check", "rows.csv", "--encoding", "cp949"]).exit_code == 0
    arguments = ["data", "prompts", "rows.csv", "--all-agreed", "--out", "prompts.jsonl", "--encoding", "cp949"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert (tmp_path / "prompts.jsonl").read_text() == '{"prompt": "한국"}\n'
    (tmp_path / "two.csv").write_bytes("prompt,completion\n한국,b\n서울,c\n".encode("cp949"))
    train, held, _ = split_file(tmp_path / "two.csv", 1, "row", tmp_path / "out", 0, "cp949")
    written = (train.read_text() + held.read_text()).splitlines()
    assert sorted(written) == ['{"prompt": "서울", "completion": "c"}', '{"prompt": "한국", "completion": "b"}']
    run = RunDir.open(tmp_path / "run", verb="sft", config=DataConfig(), inputs={}, parents=[])
    template = Template(train_tokenizer(["한국"], 300))
    reader = Reader(run, template, DataConfig(encoding="cp949"), Demonstration, encode_demonstrations)
    loaded, _ = reader.read("demonstrations", "rows.csv")
    assert loaded.records[0].prompt[0].content == "한국"
    with pytest.raises(DataError, match="is not UTF-8"):
        Reader(run, template, DataConfig(), Demonstration, encode_demonstrations).read("text", "rows.csv")
