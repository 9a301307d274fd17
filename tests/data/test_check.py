"""What people see of a file, and the two files that a split writes."""

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from baro import cli
from baro.data.check import check_file, kind_called, split_file
from baro.data.formats import read_records
from baro.errors import ConfigError, DataError
from baro.records import Demonstration, Rated


def shown(report) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(report)
    return console.file.getvalue()


def test_three_rows_with_their_scored_tokens_marked(jsonl, plain):
    rows = [{"prompt": "hi", "completion": f"hello{' now' * i}"} for i in range(5)]
    report = check_file(jsonl([*rows, rows[0]]), plain, 50)
    text = shown(report)
    assert "  prompt: <s>·User:· ·hi·⏎\n    ·Assistant:\n" in text
    assert "  completion 1: ⟦ ·hello·</s>⟧\n" in text
    assert text.count("prompt:") == 3
    assert "rows.jsonl: demonstrations; the answer is 'completion'" in text
    assert "dropped: duplicate" in text
    found = json.loads(json.dumps(report.to_json()))
    assert found["rows"][0]["key"] == "rows.jsonl:1"
    assert found["rows"][0]["sequences"][1] == [[" ", 1, True], ["hello", 1, True], ["</s>", 1, True]]
    assert (found["ledger"]["rows"], found["ledger"]["kept"]) == (6, 5)


def test_unscored_turns_are_outside_the_brackets(jsonl, chatml):
    said = [
        {"role": r, "content": c} for r, c in zip(["user", "assistant"] * 2, ["hi", "ok", "why", "no"], strict=True)
    ]
    text = shown(check_file(jsonl([{"messages": said}]), chatml, 50))
    assert "⟦ok·<|im_end|>⟧·⏎" in text
    assert "·⏎\n    ⟦no·<|im_end|>⟧" in text


def test_characters_of_several_tokens_are_shown_whole(jsonl, byte_level):
    report = check_file(jsonl([{"prompt": "글", "completion": "꽃"}]), byte_level, 50)
    assert report.to_json()["rows"][0]["sequences"][1] == [
        [" ", 1, True],
        ["꽃", 3, True],
        ["<|eos|>", 1, True],
    ]


def test_a_terminal_is_not_given_orders(jsonl, byte_level):
    text = shown(check_file(jsonl([{"prompt": "a", "completion": "\x1b[2J\u202e\r"}]), byte_level, 50))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\u001b" in text


def test_without_a_tokenizer_the_columns_and_the_ledger_remain(jsonl):
    report = check_file(jsonl([{"prompt": "a", "chosen": "b", "rejected": "b"}] * 2), None, 50)
    assert report.rows == ()
    assert [entry.reason for entry in report.ledger.dropped] == ["equal pair", "equal pair"]
    assert "no tokenizer given" in shown(report)


def test_a_split_writes_rows_as_they_stood_and_no_prompt_twice(jsonl, tmp_path):
    lines = [f'{{"completion":  "답 {i}",   "prompt": "질문 {i % 10}"}}' for i in range(40)]
    path = jsonl(lines)
    train, held, counts = split_file(path, 0.25, "prompt", tmp_path / "out", seed=0)
    assert counts == {"train": 32, "held_out": 8, "train_prompts": 8, "held_out_prompts": 2}
    written = [one.read_text().splitlines() for one in (train, held)]
    assert sorted(written[0] + written[1]) == sorted(lines)
    assert written[0] == [line for line in lines if line in written[0]]  # in their order
    prompts = [{record.prompt for record in read_records(one).records} for one in (train, held)]
    assert prompts[0].isdisjoint(prompts[1])
    assert (train.name, held.name) == ("train.jsonl", "held_out.jsonl")


def test_a_split_by_row_and_of_raw_text(jsonl, tmp_path):
    rows = [{"prompt": "same", "completion": str(i)} for i in range(20)]
    _, _, counts = split_file(jsonl(rows), 5, "row", tmp_path, seed=0)
    assert (counts["train"], counts["held_out"]) == (15, 5)
    texts = [{"text": str(i % 10)} for i in range(20)]
    train, held, _ = split_file(jsonl(texts), 6, "prompt", tmp_path, seed=0)
    assert set(train.read_text().splitlines()).isdisjoint(held.read_text().splitlines())
    with pytest.raises(DataError, match="cannot be held out"):
        split_file(jsonl(rows), 5, "prompt", tmp_path, seed=0)


def test_the_split_depends_on_the_content_and_the_seed_only(jsonl, tmp_path):
    rows = [{"prompt": str(i), "completion": "c"} for i in range(30)]
    first = set(split_file(jsonl(rows), 9, "prompt", tmp_path / "a", seed=0)[1].read_text().splitlines())
    turned = jsonl(rows[::-1], "turned.jsonl")
    assert set(split_file(turned, 9, "prompt", tmp_path / "b", seed=0)[1].read_text().splitlines()) == first
    assert set(split_file(turned, 9, "prompt", tmp_path / "c", seed=1)[1].read_text().splitlines()) != first


# ------------------------------------------------------------------------------------------------------------ warnings


def test_text_that_was_rendered_already_is_warned_of(jsonl, chatml):
    rows = [{"prompt": f"<|im_start|>user\nhi {i}<|im_end|>", "completion": "ok"} for i in range(4)]
    (warning,) = check_file(jsonl(rows), None, 50).warnings
    assert warning.startswith("template mismatch: 4 of the first 4 rows hold '<|im_")
    special = [{"prompt": f"hi </s> {i}", "completion": "ok"} for i in range(4)]
    assert check_file(jsonl(special), None, 50).warnings == ()
    report = check_file(jsonl(special), chatml, 50)
    assert "4 of the first 4 rows hold '</s>', which a chat template writes" in report.warnings[0]
    assert "warning: template mismatch" in shown(report).replace("\n", " ")
    assert report.to_json()["warnings"] == list(report.warnings)


def test_a_word_that_people_quote_now_and_then_is_no_mismatch(jsonl):
    rows = [{"prompt": f"what is [INST]? {i}" if i == 7 else str(i), "completion": "ok"} for i in range(200)]
    assert check_file(jsonl(rows), None, 50).warnings == ()
    assert check_file(jsonl([{"text": "User: hi"}] * 2), None, 50).warnings == ()


@pytest.mark.parametrize(("up", "warned"), [(1, True), (3, False), (6, False), (8, True)])
def test_unbalanced_thumbs(jsonl, up, warned):
    rows = [{"prompt": str(i), "completion": "ok", "label": i < up} for i in range(8)]
    warnings = check_file(jsonl(rows), None, 50).warnings
    assert [w.startswith(f"unbalanced thumbs: {up} up and {8 - up} down in the first 8 rows") for w in warnings] == (
        [True] if warned else []
    )


# -------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def baro(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, ["data", *map(str, arguments)])


def test_check_as_another_kind(jsonl, baro):
    path = jsonl([{"Q": "hi", "A": "yes"}, {"Q": "hi", "A": "no"}])
    assert "rows.jsonl: prompts" in baro("check", path, "--max-dropped-fraction", 0.5).stdout
    found = json.loads(baro("check", path, "--as", "demonstrations", "--json").stdout)
    assert found["description"] == "rows.jsonl: demonstrations; the prompt is 'Q'; the answer is 'A'"
    assert found["ledger"]["kept"] == 2
    assert kind_called("demonstrations") is Demonstration
    assert kind_called("rated-answers") is Rated
    with pytest.raises(
        ConfigError, match=r"^--as pears: no such kind of record; give one of prompts, demonstrations, "
    ):
        kind_called("pears")


def test_convert_prints_the_file_and_tells_the_rest_on_stderr(jsonl, baro, tmp_path):
    path = jsonl([{"prompt": "hi", "chosen": "yes", "rejected": "no"}])
    done = baro("convert", path, "--to", "transcripts", "--out", "out.jsonl.gz")
    assert (done.exit_code, done.stdout) == (0, "out.jsonl.gz\n")
    assert "preferences; prompt, 'chosen' and 'rejected' as named" in done.stderr
    assert read_records(tmp_path / "out.jsonl.gz").records == read_records(path).records


def test_a_split_of_a_table_writes_json_lines(tmp_path, baro):
    (tmp_path / "rows.csv").write_text("prompt,completion\n" + "".join(f"{i},답 {i}\n" for i in range(9)))
    train, held, counts = split_file(tmp_path / "rows.csv", 3, "row", tmp_path / "out", seed=0)
    assert (counts["train"], counts["held_out"]) == (6, 3)
    together = read_records(train).records + read_records(held).records
    assert {one.completion[0].content for one in together} == {f"답 {i}" for i in range(9)}
