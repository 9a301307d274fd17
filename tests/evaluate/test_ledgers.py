"""A file that is read twice, as another input or in another model's tokens, has an account of each reading."""

import json

import pytest

from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.evaluate import evaluate
from baro.methods import sft
from baro.models.load import Architecture, new_policy, save_policy

ROWS = [{"prompt": f"like {one}?", "chosen": f"yes {one}", "rejected": "no"} for one in ("red", "green", "blue")]
LONG = {"prompt": "abcdefghij" * 6, "chosen": "yes", "rejected": "no"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two policies of one tokenizer, with templates of their own, and a file with one long row."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, LONG]))
    tokenizer = train_tokenizer([" ".join(row.values()) for row in ROWS], 300)
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=128, intermediate_size=16)
    for kind in ("plain", "none"):
        template = Template(tokenizer, kind)
        save_policy(new_policy(shape, vocabulary=300, special=template.special, seed=0), tmp_path / kind)
        template.save(tmp_path / kind)
    return tmp_path


def accounts(run):
    return json.loads((run.path / "ledger.json").read_text())


def test_training_and_held_out_rows_of_one_file(world):
    trainer = {"steps": 1, "batch_size": 2, "learning_rate": 0.01, "held_out": "pairs.jsonl"}
    run = sft.run(sft.Config(policy="plain", demonstrations="pairs.jsonl", trainer=trainer), world / "run")
    found = accounts(run)
    assert [(key, found[key]["input"], found[key]["kept"]) for key in found] == [
        ("demonstrations", "pairs.jsonl", 4),
        ("trainer.held_out", "pairs.jsonl", 4),
    ]


def test_one_file_in_the_tokens_of_two_models(world):
    """With words around the turns the long row is too long for max_length, without them it is not."""
    config = evaluate.Config(
        policies=["plain", "none"],
        prompts="pairs.jsonl",
        loss_on="pairs.jsonl",
        sampling={"max_new_tokens": 4},
        data={"max_length": 68, "max_dropped_fraction": 0.5},
    )
    found = accounts(evaluate.run(config, world / "run"))
    assert {key: list(found[key]["dropped"]) for key in found} == {
        "prompts/plain": ["pairs.jsonl:4"],
        "prompts/none": [],
        "loss_on/plain": ["pairs.jsonl:4"],
        "loss_on/none": [],
    }


def test_pairs_in_the_tokens_of_two_policies(world):
    """A policy's ratio is to the reference, which reads the same tokens; each evaluation has one of the two."""
    found = {}
    for kind in ("plain", "none"):
        config = evaluate.Config(
            policies={"other": kind, "same": kind},
            ref_policy=str(world / kind),
            pairs="pairs.jsonl",
            data={"max_length": 68, "max_dropped_fraction": 0.5},
        )
        found |= {
            (kind, key): one["kept"] for key, one in accounts(evaluate.run(config, world / f"run {kind}")).items()
        }
    assert found == {("plain", "pairs/other"): 3, ("none", "pairs/other"): 4}
