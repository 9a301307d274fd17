"""Verifiers in runs: PPO, GRPO, evaluate, label and a pipeline take them wherever a reward is named."""

import json
import logging

import pytest
from methods.conftest import policy  # noqa: F401

from baro.config import load_config
from baro.data.formats import read_records
from baro.evaluate import config as evaluation
from baro.evaluate import evaluate
from baro.methods import grpo, label, ppo
from baro.pipeline import load_pipeline, run_pipeline
from baro.records import Preference

ROWS = [{"question": f"What is {i} and 1?", "answer": f"#### {i + 1}"} for i in range(8)]
WORDS = {"verifier": {"name": "length", "unit": "characters", "at_most": 9}, "weight": 0.5, "name": "brief"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "sums.jsonl", ROWS)
    return tmp_path


def online(policy, **values):  # noqa: F811
    return {
        "policy": str(policy), "prompts": "sums.jsonl", "rewards": [{"verifier": "gsm8k"}, WORDS],
        "rollout": {"prompts": 4, "completions": 2, "epochs": 1, "minibatches": 1}, "trainer": {"steps": 2},
        "sampling": {"max_new_tokens": 6}, **values,
    }  # fmt: skip


@pytest.mark.parametrize("stage", [ppo, grpo])
def test_a_policy_is_rewarded_by_verifiers_each_logged_by_itself(stage, policy, folder, caplog):  # noqa: F811
    caplog.set_level(logging.INFO, "baro")
    run = stage.run(load_config(stage.Config, None, values=online(policy)), folder / "run")
    for row in run.metrics.read():
        assert row["objective/score/gsm8k"] == 0  # an untrained model says no sums
        assert 0 <= row["objective/score/brief"] <= 1
        assert row["objective/scores"] == pytest.approx(0.5 * row["objective/score/brief"])
    assert "gsm8k: calls the answers of its own data right (8 rows)" in caplog.text


def test_the_verifier_that_is_trained_on_may_keep_the_weights(policy, folder):  # noqa: F811
    """On held-out prompts it says what is right; a reward model there would say what has learned to please it."""
    write(folder / "others.jsonl", [{"question": f"And {i}?", "answer": str(i)} for i in range(4)])
    kept = {"prompts": "others.jsonl", "rewards": [{"verifier": "gsm8k"}], "every": 1, "keep": "gsm8k"}
    run = grpo.run(load_config(grpo.Config, None, values=online(policy, evaluation=kept)), folder / "run")
    assert [row["eval/score/gsm8k"] for row in run.metrics.read() if "eval/score/gsm8k" in row] == [0, 0, 0]


def test_policies_are_evaluated_by_verifiers(policy, folder):  # noqa: F811
    rewards = {"right": {"verifier": {"name": "gsm8k", "method": "flexible"}}, "brief": {"verifier": WORDS["verifier"]}}
    best_of = {"n": 2, "verifier": WORDS["verifier"]}
    values = {"policies": {"new": str(policy)}, "against": str(policy), "prompts": "sums.jsonl", "rewards": rewards}
    values |= {"best_of": best_of, "sampling": {"max_new_tokens": 6}}
    run = evaluate.run(load_config(evaluation.Config, None, values=values), folder / "run")
    figures = {one["name"]: one["value"] for one in json.loads((run.path / "figures.json").read_text())}
    assert {"new/reward/right", "new/reward/brief", "best-of-2/reward/right"} <= figures.keys()
    assert figures["best-of-2/reward/brief"] >= figures["new/reward/brief"]


def test_answers_are_labelled_by_a_verifier(folder):
    rows = [{"prompt": f"{i}?", "responses": [f"#### {i}", "#### 99"], "right": i} for i in range(4)]
    write(folder / "answers.jsonl", rows)
    values = {"answers": "answers.jsonl", "verifier": {"name": "gsm8k", "answer": "right"}}
    run = label.run(load_config(label.Config, None, values=values), folder / "run")
    chosen = [one.chosen[0].content for one in read_records(run.records, Preference).records]
    assert chosen == [f"#### {i}" for i in range(4)]


def test_a_stage_of_a_pipeline_verifies_what_another_has_drawn(policy, folder):  # noqa: F811
    stages = {
        "drawn": {
            "do": "generate", "policy": str(policy), "prompts": "sums.jsonl", "n": 2, "sampling": {"max_new_tokens": 4},
        },
        "checked": {"do": "verify", "file": "drawn", "verifier": "gsm8k"},
    }  # fmt: skip
    (folder / "p.yaml").write_text(json.dumps({"stages": stages}))
    runs = run_pipeline(load_pipeline(folder / "p.yaml", out=folder / "out"))
    lines = [json.loads(line) for line in (runs["checked"].path / "verified.jsonl").read_text().splitlines()]
    assert [(line["completion"], line["score"]) for line in lines] == [(1, 0.0), (2, 0.0)] * 8
