"""Between layouts of the same record: nothing is lost, and what a layout cannot hold is told."""

import json

import pytest

from baro.data.convert import TARGETS, convert_file
from baro.data.formats import read_records
from baro.errors import ConfigError, DataError

CHAT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "b"},
]
SYSTEM = {"role": "system", "content": "be kind"}
ROWS = {
    "demonstrations": [
        {"prompt": "hi", "completion": "yes", "id": 1},
        {
            "prompt": [SYSTEM, CHAT[0]],
            "completion": [*CHAT[1:], {"role": "assistant", "content": "예"}],
        },
    ],
    "preferences": [
        {"prompt": "hi", "chosen": "yes", "rejected": "no", "p_chosen": 0.75, "margin": 2.0, "id": 1},
        {"prompt": CHAT, "chosen": "yes", "rejected": ""},
    ],
    "rankings": [{"prompt": "hi", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "id": 1}],
    "thumbs": [{"prompt": "hi", "completion": "a", "label": False}],
    "rated": [{"prompt": "hi", "responses": ["a", "b"], "scores": [{"x": 1.0}, {"y": 2.0}]}],
    "safety": [
        {"prompt": "hi", "responses": ["a", "b"], "unsafe": [0, None], "safety_ranks": [2, 1], "p_safer": 0.2, "id": 1},
        {"prompt": CHAT, "responses": ["a"], "unsafe": [1], "severity": [3], "categories": [["Theft", "Privacy"]]},
    ],
    "prompts": [{"prompt": CHAT, "answer": "4"}],
}


@pytest.fixture
def converted(jsonl, tmp_path):
    """Convert rows: what was written, and the ledger."""

    def run(rows, to):
        _, ledger = convert_file(jsonl(rows), to, tmp_path / "out.jsonl")
        return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()], ledger

    return run


@pytest.mark.parametrize("kind", ROWS)
def test_every_layout_of_a_kind_carries_the_same_records(converted, jsonl, tmp_path, kind):
    loaded = read_records(jsonl(ROWS[kind], "in.jsonl"))
    targets = [name for name, (makes, _) in TARGETS.items() if makes is loaded.kind]
    assert targets
    for to in targets:
        rows, ledger = converted(ROWS[kind], to)
        assert (len(rows), ledger.dropped) == (len(ROWS[kind]), [])
        assert read_records(tmp_path / "out.jsonl", loaded.kind).records == loaded.records


def test_columns_go_by_the_names_that_were_asked_for(converted):
    assert converted(ROWS["preferences"][:1], "instruction/chosen_response/rejected_response")[0] == [
        {
            "id": 1,
            "instruction": "hi",
            "chosen_response": "yes",
            "rejected_response": "no",
            "p_chosen": 0.75,
            "margin": 2.0,
        }
    ]
    (row,) = converted(ROWS["demonstrations"][:1], "instruction/input/output")[0]
    assert row == {"id": 1, "instruction": "hi", "output": "yes"}
    (row,) = converted(ROWS["demonstrations"][:1], "conversations")[0]
    assert row["conversations"] == [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]
    (row,) = converted(ROWS["rankings"], "prompt/ranking")[0]
    assert row == {"id": 1, "prompt": "hi", "completion_0": "a", "completion_1": "b", "completion_2": "c"} | {
        "ranking": [2, 1, 2]
    }
    (row,) = converted(ROWS["preferences"][1:], "transcripts")[0]
    assert row["chosen"] == "\n\nHuman: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant: yes"


def test_what_a_layout_cannot_hold_is_left_out_and_told(converted):
    pair = {"prompt": "hi", "chosen": "yes", "rejected": "no"}
    rows = [
        pair,
        pair | {"prompt": [SYSTEM, *CHAT]},
        pair | {"prompt": "a\n\nHuman: b"},
        pair | {"chosen": "a", "rejected": "a"},  # equal, and no pair at all: nothing tells where the answer begins
    ]
    written, ledger = converted(rows, "transcripts")
    assert (len(written), ledger.kept) == (2, 2)
    assert [str(entry) for entry in ledger.dropped] == [
        "rows.jsonl:2: a transcript has no place for a system message",
        "rows.jsonl:3: would be read back as something else; this layout cannot hold it",
    ]
    _, ledger = converted([ROWS["demonstrations"][0] | {"output": "x"}], "prompt/output")
    assert [str(entry) for entry in ledger.dropped] == [
        "rows.jsonl:1: has a column 'output' of its own, which this layout needs for something else"
    ]


def test_refusals(jsonl, tmp_path):
    with pytest.raises(DataError) as error:
        convert_file(jsonl(ROWS["preferences"]), "messages", tmp_path / "o.jsonl")
    assert str(error.value) == (
        "rows.jsonl: holds preferences, and messages is for demonstrations; give one of prompt/chosen/rejected, "
        "chosen/rejected, transcripts"
    )
    with pytest.raises(ConfigError, match=r"^--to prompt/chosen: no such layout; give one of prompt/completion, "):
        convert_file(jsonl(ROWS["preferences"]), "prompt/chosen", tmp_path / "o.jsonl")
    with pytest.raises(ConfigError, match=r"o\.csv: is no name for JSON Lines; let it end in \.jsonl"):
        convert_file(jsonl(ROWS["preferences"]), "transcripts", tmp_path / "o.csv")
    assert not (tmp_path / "o.jsonl").exists()
