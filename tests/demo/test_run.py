"""The demo's pipeline: who may see the gold judge, and the whole of it once, very small."""

import json

import pytest

from baro.demo import people
from baro.demo import run as demo
from baro.errors import ConfigError
from baro.feedback import coefficients
from baro.pipeline import load_pipeline, run_pipeline

TRAINING = ("base", "sft", "reward", "dpo", "ppo", "feedback collect", "generate")


def small(tmp_path, monkeypatch):
    """The demo's stages, with hardly any data and a few steps."""
    sizes = {"text": 300, "demonstrations": 60, "feedback": 40, "policy": 16, "held_out": 12}
    monkeypatch.setattr(demo, "SIZES", sizes)
    monkeypatch.setattr(coefficients, "RESAMPLES", 20)
    monkeypatch.setattr(people, "GOOD_ENOUGH", 0.2)  # nobody likes what four steps have taught
    demo.write_data(tmp_path / "data", 0)
    outline = demo.pipeline(tmp_path / "data", 0, with_controls=True)
    stages = outline["stages"]
    stages["base"]["architecture"] |= {"vocabulary": 400, "hidden_size": 32, "intermediate_size": 64, "layers": 1}
    stages["shown"]["hold_out"] = 8
    for stage in stages.values():
        if "trainer" in stage:
            stage["trainer"] = {k: v for k, v in stage["trainer"].items() if k != "epochs"} | {"steps": 4}
        if "sampling" in stage:
            stage["sampling"] = stage["sampling"] | {"max_new_tokens": 8}
        if stage["do"] in ("ppo", "grpo"):
            count = stage["rollout"]["completions"]
            stage["rollout"] = {"prompts": 8 // count, "completions": count, "epochs": 1, "minibatches": 2}
            stage["accept_weak_reward_model"] = True  # four steps make no good one
        if stage["do"] in ("reward", "dpo", "kto", "evaluate"):
            stage["data"] = {"max_dropped_fraction": 0.9}
    return outline


@pytest.mark.parametrize("with_controls", [False, True])
def test_no_training_stage_names_the_gold_judge(tmp_path, with_controls):
    stages = demo.pipeline(tmp_path, 0, with_controls=with_controls)["stages"]
    named = {name for name, stage in stages.items() if "world:gold" in json.dumps(stage)}
    assert named == {"labels_of_gold", "evaluation"}
    assert all(stages[name]["do"] == "evaluate" for name in named)
    assert {stage["do"] for stage in stages.values()} >= {*TRAINING, *(["kto", "grpo"] if with_controls else [])}


def test_with_a_person_the_pairs_of_one_stage_wait_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    monkeypatch.setattr(demo, "SIZES", dict.fromkeys(demo.SIZES, 20))
    demo.write_data(tmp_path, 0)
    simulated = demo.pipeline(tmp_path, 0, with_controls=False)
    outline = demo.judged_by_a_person(simulated, 25)
    pipeline = load_pipeline(outline, out=tmp_path / "out")
    configs = {stage.name: stage.config for stage in pipeline.stages}
    judged = configs["judged"]
    assert (judged.kind, judged.choose.count, judged.by, judged.lang, judged.open_page) == (
        "pair",
        25,
        None,
        "ko",
        True,
    )
    assert configs["judged_held_out"].by == "baro.demo.world:people"
    assert configs["ppo"].accept_weak_reward_model
    assert simulated["stages"]["judged"]["by"] == "baro.demo.world:people"
    with pytest.raises(ConfigError, match="--all and --human exclude each other"):
        demo.run_demo(all=True, human=25)


def test_the_same_seed_writes_the_same_data(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIZES", dict.fromkeys(demo.SIZES, 20))
    for folder in ("a", "b"):
        demo.write_data(tmp_path / folder, 3)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_whole_demo_runs_and_then_has_nothing_to_do(tmp_path, monkeypatch, caplog):
    outline = small(tmp_path, monkeypatch)
    runs = run_pipeline(outline, out=tmp_path / "out")
    report = json.loads((runs["report"].path / "report.json").read_text())
    names = {figure["name"] for figure in report["figures"]}
    controls = ("ppo-kl-off", "ppo-random-reward", "best-of-8", "length-only", "sft-self")
    for policy in ("dpo", "kto", "grpo", "ppo", *controls):
        assert f"{policy}/win_rate_length_controlled/gold_without_conciseness" in names
    said = " ".join(finding["sentence"] for finding in report["summary"])
    assert "The reward model of reward is weak: its accuracy on held-out pairs may be as low as" in said
    assert "ppo was trained on the weak reward model of reward: its reward means nothing." in said
    assert (runs["report"].path / "report.html").stat().st_size > 50_000
    for run in runs.values():
        run.close()
    weights = (runs["ppo"].path / "model" / "model.safetensors").read_bytes()
    with caplog.at_level("INFO", logger="baro"):
        again = run_pipeline(outline, out=tmp_path / "out")
    assert "there was nothing to do" in caplog.text
    assert (again["ppo"].path / "model" / "model.safetensors").read_bytes() == weights
