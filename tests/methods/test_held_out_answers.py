"""Held-out prompts along an online run: what is logged, and which weights are kept."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from baro.config import load_config
from baro.errors import ConfigError
from baro.methods import ppo

MINE = """
def shorter(prompts, completions, **columns):
    return [-float(len(one)) for one in completions]

rows = iter([0.0, 1.0, 5.0, 2.0, 3.0])  # of the start and of every second step

def told(prompts, **columns):
    value = next(rows)
    return [value] * len(prompts)

def silent(prompts, **columns):
    return [None] * len(prompts)

def broken(prompts, **columns):
    return [float("nan")] * len(prompts)

class Longer:
    def compare(self, pairs):
        from baro.records import Verdict
        return [Verdict((1 + (len(a.text) > len(b.text)) - (len(a.text) < len(b.text))) / 2) for a, b in pairs]

longer = Longer()
"""


@pytest.fixture
def train(policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "held_out_of_mine", raising=False)
    (tmp_path / "held_out_of_mine.py").write_text(MINE)
    for name, words in (("prompts", ("Say", "Tell")), ("held_out", ("Ask",))):
        rows = [{"prompt": f"{word} {n}."} for word in words for n in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(out: str, **changes):
        values = {
            "policy": str(policy), "prompts": "prompts.jsonl", "rewards": [{"by": "held_out_of_mine:shorter"}],
            "rollout": {"prompts": 4, "epochs": 1, "minibatches": 2}, "sampling": {"max_new_tokens": 4},
            "data": {"max_length": 96}, "trainer": {"steps": 8, "learning_rate": 1e-3, "schedule": "constant"},
        }  # fmt: skip
        return ppo.run(load_config(ppo.Config, None, values=values | changes), out)

    return run


def by(name: str) -> dict:
    return {"by": f"held_out_of_mine:{name}"}


def test_answers_to_held_out_prompts_are_looked_at_along_the_run(train):
    told = {"prompts": "held_out.jsonl", "rewards": [by("shorter")], "judge": "held_out_of_mine:longer", "every": 4}
    rows = [row for row in train("run", evaluation=told).metrics.read() if "eval/tokens" in row]
    assert [row["step"] for row in rows] == [0, 4, 8]
    assert rows[0]["eval/win_rate"] == 0.5  # the policy as it starts, against itself, on the same random numbers
    assert rows[0]["eval/score/shorter"] < 0
    ledger = json.loads((train("run", evaluation=told).path / "ledger.json").read_text())
    assert {"prompts", "evaluation.prompts"} <= ledger.keys()


def test_the_weights_kept_are_the_best_by_the_named_reward(train):
    told = {"prompts": "held_out.jsonl", "rewards": [by("told")], "every": 2}
    best = train("best", evaluation=told | {"keep": "told"}).path
    fourth = train("fourth", trainer={"steps": 4, "learning_rate": 1e-3, "schedule": "constant"}).path
    last = train("last").path
    kept, expected, other = (load_file(folder / "model" / "model.safetensors") for folder in (best, fourth, last))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in kept.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"rewards": [by("told")]}, "evaluation.rewards is about held-out prompts; give evaluation.prompts"),
        ({"keep": "told"}, "evaluation.keep is about held-out prompts"),
        ({"prompts": "held_out.jsonl"}, "nobody looks at the answers"),
        ({"prompts": "held_out.jsonl", "rewards": [by("told")], "keep": "win_rate"}, "can be kept by told$"),
        ({"prompts": "held_out.jsonl", "rewards": [by("told"), by("told")]}, "two rewards are called 'told'"),
        ({"prompts": "held_out.jsonl", "rewards": [by("shorter")], "keep": "shorter"}, "shorter is trained on"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_runs(train, told, sentence):
    with pytest.raises(ConfigError, match=sentence):
        train("run", evaluation=told)


def test_a_reward_that_fails_stops_the_run_and_one_without_opinion_is_nan(train):
    from baro.errors import RewardError

    told = {"prompts": "held_out.jsonl", "rewards": [by("silent")], "every": 4}
    rows = [row for row in train("silent", evaluation=told).metrics.read() if "eval/tokens" in row]
    assert [row["eval/score/silent"] for row in rows] == [None] * 3
    with pytest.raises(RewardError, match="evaluation: 4 of 4 judgments of broken failed"):
        train("broken", evaluation=told | {"rewards": [by("broken")]})
