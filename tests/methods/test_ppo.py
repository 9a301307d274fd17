"""PPO's half without gradient, on numbers worked by hand; and the terms of its reward in a run."""

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from baro import cli
from baro.batch import Sample, branch
from baro.config import load_config
from baro.errors import ConfigError
from baro.methods import ppo
from baro.methods.shaping import Scores
from baro.online_config import RewardShapingConfig
from baro.pipeline import load_pipeline
from baro.protocols import LocalWorld
from baro.reward_config import RewardTerm
from baro.runs import RunDir


@pytest.mark.parametrize(
    ("shaping", "expected"),
    [
        ({}, [3.0, -0.5, 2.0]),
        ({"clip": 1.0}, [1.0, -0.5, 1.0]),
        ({"missing_eos": "subtract", "missing_eos_penalty": 0.75}, [3.0, -0.5, 1.25]),
        ({"missing_eos": "replace", "missing_eos_penalty": 2.0}, [3.0, -0.5, -2.0]),
        ({"clip": 1.0, "missing_eos": "subtract"}, [1.0, -0.5, 0.0]),
    ],
)
def test_what_becomes_of_a_score(shaping, expected):
    scored = [(3.0, True), (-0.5, True), (2.0, False)]  # the last one did not end
    branches = [branch([1]).with_(fields={"score": score, "finished": float(ended)}) for score, ended in scored]
    samples = [Sample(torch.tensor([1]), tuple(branches))]
    assert torch.equal(Scores(RewardShapingConfig(**shaping), [])(samples, LocalWorld()), torch.tensor(expected))


def test_terms_of_one_name_are_refused_where_the_config_is_read():
    values = {"policy": "-", "prompts": "-", "rewards": [{"by": "a:r"}, {"by": "b:r", "weight": -1.0}]}
    with pytest.raises(ConfigError, match="two rewards are called 'r'; give one of them another name"):
        load_config(ppo.Config, None, values=values)
    for by, name in [("runs/helpful", "helpful"), ("runs/helpful/", "helpful"), ("owner/rm", "rm"), ("a.b:r", "r")]:
        assert RewardTerm(by=by).called == name
    with pytest.raises(ConfigError, match="'/'"):
        load_config(ppo.Config, None, values=values | {"rewards": [{"by": "a:r", "name": "a/r"}]})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "give either reward_model"),
        ({"reward_model": "r", "rewards": [{"by": "m:f"}]}, "give either reward_model"),
        ({"reward_model": "r", "sampling": {"top_p": 0.9}}, "top_k, top_p and min_p must be left out"),
        ({"reward_model": "r", "sampling": {"top_k": 5}}, "top_k, top_p and min_p must be left out"),
        ({"reward_model": "r", "sampling": {"temperature": 0}}, "temperature is 0"),
        ({"reward_model": "r", "sampling": {"max_new_tokens": 1024}}, "leaves no room for a prompt"),
        ({"reward_model": "r", "clip_range": 1.5}, "'clip_range' must be less than 1"),
        ({"reward_model": "r", "clip_range": 0}, "'clip_range' must be greater than 0"),
        ({"reward_model": "r", "trainer": {"keep": "best"}}, "unknown key 'trainer.keep'"),
        ({"reward_model": "r", "trainer": {"held_out": "f"}}, "unknown key 'trainer.held_out'"),
        ({"reward_model": "r", "trainer": {"batch_size": 4}}, "unknown key 'trainer.batch_size'"),
        ({"reward_model": "r", "kl": {"horizon": 10}}, "horizon is how fast"),
        ({"reward_model": "r", "reward_shaping": {"missing_eos_penalty": 2.0}}, "missing_eos_penalty is used by"),
    ],
)
def test_a_pipeline_refuses_before_its_first_stage(tmp_path, monkeypatch, changes, sentence):
    monkeypatch.chdir(tmp_path)
    for name in ("policy", "prompts", "r", "f"):
        (tmp_path / name).write_text("")
    stage = {"do": "ppo", "policy": "policy", "prompts": "prompts"} | changes
    (tmp_path / "mine.yaml").write_text(f"stages:\n  learn: {json.dumps(stage)}\n")
    with pytest.raises(ConfigError, match=rf"^mine\.yaml:2: .*{sentence}"):
        load_pipeline("mine.yaml")


@pytest.mark.parametrize(("steps", "rollouts"), [(1, 1), (4, 1), (6, 2), (10, 3)])
def test_as_many_steps_as_the_config_says(policy, tmp_path, monkeypatch, steps, rollouts):
    """Four updates a rollout: ten steps are two rollouts and a half, not twelve or sixteen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "ones_of_mine.py").write_text("def r(prompts, **columns):\n    return [1.0] * len(prompts)\n")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(4)))
    values = {
        "policy": str(policy), "prompts": "prompts.jsonl", "rewards": [{"by": "ones_of_mine:r"}],
        "rollout": {"prompts": 4, "epochs": 2, "minibatches": 2}, "sampling": {"max_new_tokens": 4},
        "data": {"max_length": 96}, "trainer": {"steps": steps, "learning_rate": 1e-3},
    }  # fmt: skip
    rows = [row for row in ppo.run(load_config(ppo.Config, None, values=values), "out").metrics.read() if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    assert rows[-1]["rollout"] == rollouts - 1
    assert rows[-1]["learning_rate"] == pytest.approx(1e-3 / steps)  # linear, down to the last of these steps


def test_every_term_of_a_reward_counts(policy, tmp_path, monkeypatch):
    """10·(+1) and 3·(−1) are 7, though both functions have one name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, score in (("ten_of_mine", 10.0), ("three_of_mine", 3.0)):
        source = f"def r(prompts, completions, completion_ids, **columns):\n    return [{score}] * len(prompts)\n"
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(4)))
    (tmp_path / "ppo.yaml").write_text(
        f"policy: {policy}\nprompts: prompts.jsonl\n"
        "rewards:\n  - {by: ten_of_mine:r, weight: 1}\n  - {by: three_of_mine:r, weight: -1, name: minus}\n"
        "rollout: {prompts: 4, epochs: 1, minibatches: 1}\nsampling: {max_new_tokens: 4}\ndata: {max_length: 96}\n"
        "trainer: {steps: 1}\n"
    )
    done = CliRunner().invoke(cli.app, ["ppo", "ppo.yaml", "--out", "here"])
    assert done.exit_code == 0, done.exception
    (row,) = [row for row in RunDir.load(Path("here")).metrics.read() if "objective/scores" in row]
    assert row["objective/scores"] == 7.0
    assert {name: row[name] for name in row if "objective/score/" in name} == {
        "objective/score/r": 10.0,
        "objective/score/minus": 3.0,
    }


def rewarded(policy, folder, monkeypatch, rewards: str):
    """One step of `baro ppo` on two tasks under functions, one of which waits."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "by_task", raising=False)
    head = "prompts, completions, completion_ids, task, **columns"
    (folder / "by_task.py").write_text(
        f"def maths({head}):\n    return [2.0 if t == 'maths' else None for t in task]\n"
        f"async def greeting({head}):\n    return [4.0 if t == 'greet' else None for t in task]\n"
        f"def nothing({head}):\n    return [None for t in task]\n"
        f"def number({head}):\n    return 1.0\n"
    )
    rows = [{"prompt": f"Say {n}.", "task": "maths" if n < 3 else "greet"} for n in range(4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "ppo.yaml").write_text(
        f"policy: {policy}\nprompts: prompts.jsonl\nrewards: {rewards}\n"
        "rollout: {prompts: 4, epochs: 1, minibatches: 1}\nsampling: {max_new_tokens: 4}\ndata: {max_length: 96}\n"
        "trainer: {steps: 1}\n"
    )
    return CliRunner().invoke(cli.app, ["ppo", "ppo.yaml", "--out", "here"])


def test_a_reward_without_an_opinion_leaves_the_completion_to_the_others(policy, tmp_path, monkeypatch):
    done = rewarded(policy, tmp_path, monkeypatch, "[{by: 'by_task:maths'}, {by: 'by_task:greeting', weight: 0.5}]")
    assert done.exit_code == 0, done.exception
    (row,) = [row for row in RunDir.load(Path("here")).metrics.read() if "objective/scores" in row]
    assert row["objective/scores"] == 2.0  # 2 for each of three, 0.5 · 4 for the fourth
    assert row["objective/score/maths"] == 2.0  # of those that it scored, not of all
    assert row["objective/score/greeting"] == 4.0


@pytest.mark.parametrize(
    ("rewards", "sentence", "code"),
    [
        ("[{by: 'by_task:maths'}]", "1 of 4 scores failed, more than rollout.max_error_fraction=0.05 allows", 1),
        ("[{by: 'by_task:nothing'}]", "the first: no reward scores this completion (nothing returned None)", 1),
        ("[{by: 'by_task:number'}]", "number: returned float; a list of numbers is needed, one for each", 2),
    ],
)
def test_a_completion_that_no_reward_scores_is_a_failure(policy, tmp_path, monkeypatch, rewards, sentence, code):
    done = rewarded(policy, tmp_path, monkeypatch, rewards)
    assert sentence in str(done.exception)
    assert done.exception.exit_code == code
