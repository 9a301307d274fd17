"""Folders: which files are read is decided by their names, parsed as split and shard, or refused with the list."""

from pathlib import Path, PurePosixPath

import pyarrow as arrow
import pytest
from huggingface_hub import constants
from pyarrow import feather, ipc

from baro.data.files import SUFFIXES, find_files, read_rows
from baro.data.formats import read_records
from baro.data.splits import split_of
from baro.errors import DataError
from baro.inputs import hash_input, resolve, run_of
from baro.pipeline import load_pipeline
from baro.records import Demonstration, content_hash


def folder_of(folder: Path, names: list[str]) -> Path:
    """A folder with a row in each file that tells its name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'{{"text": "{name}"}}\n')
    return folder


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train_prefs-00000-of-00001.parquet", "train_prefs"),
        ("data/train-00003-of-00010-a09b74b3ef9c3b56.parquet", "train"),
        ("train-0.jsonl.gz", "train"),
        ("train.1.jsonl", "train"),
        ("train2.jsonl", "train"),
        ("train_v2.jsonl", "train_v2"),
        ("greet_dev.csv", "greet_dev"),
        ("default/train/0000.parquet", "train"),
        ("validation/data-00000-of-00001.arrow", "validation"),
        ("harmless-base/test.jsonl.gz", "test"),
        ("held_out.jsonl", "held_out"),
        ("more.jsonl", "more"),
    ],
)
def test_a_name_is_split_and_shard(path, split):
    assert split_of(Path(PurePosixPath(path)), SUFFIXES) == split


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["train-0.jsonl", "train-1.jsonl", "test.jsonl"], ["train-0.jsonl", "train-1.jsonl"]),
        (["greet_train.jsonl", "greet_test.jsonl", "greet_dev.jsonl"], ["greet_train.jsonl"]),
        (["data.jsonl", "more.jsonl", "eval_data.jsonl"], ["data.jsonl", "more.jsonl"]),
        (["contest.jsonl", "devices.jsonl", "latest.jsonl"], ["contest.jsonl", "devices.jsonl", "latest.jsonl"]),
        (["TrainSet.jsonl", "ValidSet.jsonl"], ["TrainSet.jsonl"]),
        (["train.jsonl", "held_out.jsonl", "holdout.jsonl"], ["train.jsonl"]),
        (["train/a.jsonl", "test/a.jsonl"], ["train/a.jsonl"]),
        (["a/train.jsonl", "b/train.jsonl", "b/test.jsonl"], ["a/train.jsonl", "b/train.jsonl"]),
    ],
)
def test_what_a_folder_gives_unasked(tmp_path, names, read):
    assert [row.columns["text"] for row in read_rows(folder_of(tmp_path, names))] == read


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["train_prefs-00000-of-00001.jsonl", "train_sft.jsonl", "train_gen.jsonl", "test_prefs.jsonl"],
            "{0}: several splits are for training: train_gen, train_prefs, train_sft; name the one to read, as in "
            "{0}#train_gen",
        ),
        (
            ["train.jsonl", "x_train.jsonl"],
            "{0}: several splits are for training: train, x_train; name the one to read, as in {0}#train",
        ),
        (
            ["test.jsonl", "dev.jsonl"],
            "{0}: holds only dev, test, which is not for training; name the split to read, as in {0}#dev",
        ),
    ],
)
def test_a_folder_that_leaves_a_choice_is_refused_with_the_list(tmp_path, names, sentence):
    with pytest.raises(DataError) as error:
        find_files(folder_of(tmp_path, names))
    assert str(error.value) == sentence.format(tmp_path)


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("train_prefs", ["data/train_prefs-0.jsonl", "data/train_prefs-1.jsonl"]),
        ("train_sft", ["data/train_sft.jsonl"]),
        ("test_prefs", ["data/test_prefs.jsonl"]),
        ("data/train_sft", ["data/train_sft.jsonl"]),
        ("data/train_sft.jsonl", ["data/train_sft.jsonl"]),
    ],
)
def test_a_split_that_is_asked_for(tmp_path, asked, read):
    names = ["train_prefs-0", "train_prefs-1", "train_sft", "test_prefs"]
    folder = folder_of(tmp_path / "uf", [f"data/{name}.jsonl" for name in names])
    path = resolve(f"{folder}#{asked}", "records")
    assert [row.columns["text"] for row in read_rows(path)] == read
    assert read_records(path).name == f"uf#{asked}"


def test_a_split_that_is_not_there(tmp_path):
    folder_of(tmp_path, ["train_sft.jsonl", "test.jsonl"])
    with pytest.raises(DataError) as error:
        find_files(f"{tmp_path}#train_prefs")
    assert str(error.value) == f"{tmp_path}: has no split 'train_prefs'; it has test, train_sft"
    with pytest.raises(DataError, match="is a file and has no splits; give the file alone"):
        find_files(f"{tmp_path}/test.jsonl#test")


def test_a_name_with_a_hash_is_a_name(tmp_path):
    folder_of(tmp_path, ["a#train/rows.jsonl"])
    assert [row.columns["text"] for row in read_rows(tmp_path / "a#train")] == ["a#train/rows.jsonl"]


def test_keys_of_files_of_one_name_differ(tmp_path):
    folder_of(tmp_path, ["a/train.jsonl", "b/train.jsonl"])
    loaded = read_records(tmp_path)
    assert loaded.keys == ("a/train.jsonl:1", "b/train.jsonl:1")
    assert [one.completion[0].content for one in loaded.at(["a/train.jsonl:1"], Demonstration)] == ["a/train.jsonl"]


def test_the_hash_is_of_what_is_read(tmp_path):
    folder = folder_of(tmp_path / "uf", ["train_a.jsonl", "train_b.jsonl", "test.jsonl"])
    before = {one: hash_input(f"{folder}#{one}", "records") for one in ("train_a", "train_b")}
    (folder / "train_b.jsonl").write_text('{"text": "another"}\n')
    (folder / "README.md").write_text("x")
    after = {one: hash_input(f"{folder}#{one}", "records") for one in ("train_a", "train_b")}
    assert after["train_a"] == before["train_a"]
    assert after["train_b"] != before["train_b"]


def test_a_split_of_a_run_has_it_as_parent(tmp_path):
    folder = folder_of(tmp_path / "run", ["train.jsonl", "held_out.jsonl"])
    (folder / "run.json").write_text("{}")
    assert run_of(f"{folder}#train") == folder
    assert run_of(f"{folder}/train.jsonl") == folder


def test_a_pipeline_takes_a_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "uf", ["train_sft.jsonl", "train_prefs.jsonl"])
    text = "out: runs/x\nstages:\n  base: {do: base, text: '%s'}\n"
    for value in ("uf#train_sft", "owner/name:train_sft"):
        (tmp_path / "p.yaml").write_text(text % value)
        (stage,) = load_pipeline(tmp_path / "p.yaml").stages
        assert stage.config.text == value


def test_a_split_at_the_hub(tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "datasets--some--uf"
    folder_of(folder / "snapshots" / ("a" * 40), ["data/train_sft.jsonl", "data/train_prefs.jsonl", "data/test.jsonl"])
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = read_records(resolve("some/uf:train_prefs", "records"))
    assert (loaded.name, loaded.keys) == ("some/uf:train_prefs", ("train_prefs.jsonl:1",))
    assert loaded.description.startswith("some/uf:train_prefs: demonstrations; of the folder some/uf: train_prefs.js")
    pinned = resolve(f"some/uf@{'a' * 40}:test", "records")
    assert [row.columns["text"] for row in read_rows(pinned)] == ["data/test.jsonl"]
    with pytest.raises(DataError) as error:
        find_files(resolve("some/uf", "records"))
    assert str(error.value) == (
        "some/uf: several splits are for training: train_prefs, train_sft; name the one to read, as in "
        "some/uf:train_prefs"
    )


# -------------------------------------------------------------------------------------------------------------- Arrow


def stream(path: Path, table: arrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def test_a_folder_of_save_to_disk(tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(2500)]
    for split in ("train", "test"):
        stream(tmp_path / split / "data-00000-of-00001.arrow", arrow.Table.from_pylist(rows))
        (tmp_path / split / "state.json").write_text("{}")
        (tmp_path / split / "dataset_info.json").write_text("{}")
    stream(tmp_path / "train" / "cache-0123456789abcdef.arrow", arrow.Table.from_pylist(rows))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = read_rows(tmp_path)
    assert [row.columns for row in found] == rows
    assert found[-1].key == "data-00000-of-00001.arrow:2500"
    feather.write_feather(arrow.Table.from_pylist(rows), tmp_path / "x.arrow")
    assert [row.columns for row in read_rows(tmp_path / "x.arrow")] == rows
    (tmp_path / "x.arrow").write_bytes((tmp_path / "x.arrow").read_bytes()[:100])
    with pytest.raises(DataError, match=r"^x.arrow: cannot be read \("):
        read_rows(tmp_path / "x.arrow")


def test_the_stored_name_of_samples_tells_folders_apart(tmp_path):
    one = find_files(folder_of(tmp_path / "one", ["a/train.jsonl", "b/train.jsonl"]))
    (tmp_path / "two").mkdir()
    other = find_files(folder_of(tmp_path / "two", ["a/train.jsonl", "c/train.jsonl"]))
    assert content_hash([one.sha256]) != content_hash([other.sha256])
