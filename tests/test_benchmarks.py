"""The benchmarks run on tiny models: with TRL both sides compute the same losses, and the GPU's parts find no fault."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from packaging.requirements import Requirement

from baro.data.files import write_rows
from baro.pipeline import load_pipeline
from baro.records import Answers, Message
from baro.verbs import VERBS
from benchmarks import (
    arithmetic,
    beta,
    constitution,
    embedded,
    label_noise,
    overoptimisation,
    safe_rlhf,
    trunk_gold,
    trunk_memory,
    what_a_base_knows,
    wheels,
)
from benchmarks.mutants_operators import mutants
from benchmarks.overoptimisation import best_of, by_prompt, by_rollout, fallen

ROOT = Path(__file__).parents[1]
KEYS = {"method", "variant", "peer", "speed_ratio", "memory_ratio", "same_loss", "ours_seconds", "peer_seconds"}


def compared(*arguments: str) -> list[dict]:
    command = [sys.executable, "-m", "benchmarks.peers", "--size", "tiny", "--repeats", "1", "--threads", "1", "--json"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(lines: list[dict], methods: list[str]) -> None:
    assert [line["method"] for line in lines] == methods
    for line in lines:
        assert line.keys() >= KEYS
        assert line["same_loss"] is True
        assert line["largest_loss_gap"] < 1e-4  # of every step, after updates too
        assert min(line["speed_ratio"], line["memory_ratio"], line["ours_seconds"], line["peer_seconds"]) > 0


def test_a_pair_of_sides_on_made_rows():
    check(compared("--methods", "dpo", "--first"), ["dpo"])


@pytest.mark.slow
def test_every_variant_on_rows_from_files(tmp_path):
    hh = [f"\n\nHuman: Name {i}?\n\nAssistant:" for i in range(60)]
    pairs = [{"chosen": f"{text} Yes, {i}.", "rejected": f"{text} No."} for i, text in enumerate(hh)]
    solved = [{"question": f"{i} + {i}?", "answer": f"It is {2 * i}."} for i in range(60)]
    for name, rows in (("hh", pairs), ("gsm8k", solved)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = compared("--hh", str(tmp_path / "hh"), "--gsm8k", str(tmp_path / "gsm8k"))
    check(lines, ["sft"] * 3 + ["reward"] * 2 + ["dpo"] * 3 + ["kto"] * 2 + ["grpo"] * 4)


def on_a_cpu(folder: Path, parts: str) -> dict:
    out = folder / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--sizes", "tiny", "--parts", parts]
    done = subprocess.run([*command, "--out", out], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["ok"] is True
    return found


def test_what_is_proven_on_a_gpu_holds_on_a_cpu(tmp_path):
    found = on_a_cpu(tmp_path, "layout,sampling,steps")
    assert {(one["architecture"], one["dtype"]) for one in found["layout"]} == {
        (architecture, dtype) for architecture in ("Llama", "Qwen3", "Gemma2", "Mistral") for dtype in ("fp32", "bf16")
    }
    assert all(one["max_logprob"] < 1e-4 for one in found["layout"] + found["sampling"] if one["dtype"] == "fp32")
    assert [(one["method"], one["lora"]) for one in found["steps"]] == [
        (method, lora) for lora in (False, True) for method in ("sft", "reward", "dpo", "kto", "ppo", "grpo")
    ]
    for one in found["steps"]:
        assert one["tokens_per_second"] > 0
        assert (one["trained"] < one["parameters"]) is one["lora"]
        assert one["memory_by_role"]["optimizer"] > 0
        on_one_trunk = one["method"] == "ppo" and one["lora"]
        assert ("trunk.weights" in one["memory_by_role"]) == on_one_trunk
        assert on_one_trunk <= (len(one["memory_by_role"]) == 2)  # its weights, and the optimiser's state
    assert "versions" in found["environment"]


def test_a_part_that_fails_is_told_and_ends_with_1(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--sizes", "huge", "--parts", "sampling"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[1]["error"] == "KeyError: 'huge'"
    assert told[-1]["ok"] is False


@pytest.mark.slow
def test_every_method_runs_to_a_saved_model_and_resumes(tmp_path):
    found = on_a_cpu(tmp_path, "runs")["runs"]
    names = ["base", "sft", "sft-lora", "reward", "reward-ensemble", "dpo", "dpo-lora", "kto", "ppo", "ppo-ensemble"]
    assert [one["run"] for one in found] == [*names, "ppo-lora", "safe-ppo", "safe-ppo-lora", "grpo", "grpo-lora"]
    assert [one["resume_bit_equal"] for one in found if "resume_bit_equal" in one] == [True] * 7


def test_the_best_of_n_without_the_luck_of_a_choice():
    scores = np.array([[3.0, 1.0, 0.0, 2.0]])
    assert best_of(scores, scores, [1, 2, 3, 4])[:, 0] == pytest.approx([1.5, 7 / 3, 2.75, 3.0])
    values = np.array([[0.0, 1.0, 0.0, 0.0]])  # the second lowest score: the best of 2 of 4 in one pair of six
    assert best_of(values, scores, [1, 2, 3])[:, 0] == pytest.approx([1 / 4, 1 / 6, 0.0])


def test_where_gold_has_fallen_and_what_is_compared_there():
    same, own, higher = [[0.5] * 4] * 3, [0.5, 0.6] * 2, [0.6, 0.7] * 2
    single = {"x": [0.0, 1.0, 2.0, 3.0], "gold": [0.5, 0.6, 0.58, 0.54], "by_prompt": [*same, own]}
    other = single | {"gold": [0.5, 0.6, 0.62, 0.63], "by_prompt": [*same, higher]}
    assert fallen(single, 5.0) == (3, True)
    assert fallen(single, 10.0) == (3, False)
    assert fallen(single, 1.0) == (2, True)
    found = overoptimisation.compared({"single": single, "worst": other}, 5.0, by_prompt)
    assert found["difference"] == {"worst": [10.0, 10.0, 10.0]}  # every prompt gains as much
    assert (found["kl"], found["single_peak"], found["single"]) == (9.0, 60.0, 54.0)


def test_gold_at_a_kl_by_the_line_through_the_rollouts_near_it():
    x = [float(k) for k in range(9)]
    single = {"x": x, "gold": [0.9 - 0.1 * k for k in range(9)]}
    other = {"x": [k + 0.5 for k in x], "gold": [0.9 - 0.1 * k for k in range(9)]}  # as good half a step further
    value, low, high = by_rollout(other, single, 4)
    assert (value, low, high) == pytest.approx((0.05, 0.05, 0.05))
    noisy = {"x": x, "gold": [0.9 - 0.1 * k + 0.02 * (-1) ** k for k in range(9)]}
    value, low, high = by_rollout(noisy, single, 4)
    assert low < value < high
    assert abs(value) < 0.02


def answered(folder: Path, rows: int) -> Path:
    """So many times two answers of which the gold judge prefers the right one, in either order."""
    answers = ["It is Paris.", "It is Beijing."]
    pairs = [
        {"prompt": "What is the capital of France?", "responses": answers[:: 1 if i % 3 else -1]} for i in range(rows)
    ]
    equal = {"prompt": "What is the capital of France?", "responses": answers[:1] * 2}
    write_rows(folder / "records.jsonl", [one | {"finished": [True, True]} for one in [*pairs, equal]])
    return folder


def labels(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_votes_are_flipped_as_often_as_told_and_all_files_hold_the_same_pairs(tmp_path):
    told = label_noise.vote(answered(tmp_path, 600), tmp_path, 0.25, 0)
    assert told["pairs"] == 600  # equal answers are no pair
    assert told["vote_right"] == pytest.approx(0.75, abs=0.06)
    assert told["majority_right"] == pytest.approx(0.75**3 + 3 * 0.75**2 * 0.25, abs=0.05)
    files = {name: labels(tmp_path, name) for name in ("clean", "vote", "majority", "soft")}
    for name, rows in files.items():
        right = np.mean([row["chosen"] == "It is Paris." for row in rows])
        assert right == pytest.approx(
            {"clean": 1.0, "vote": told["vote_right"]}.get(name, told["majority_right"]), abs=1e-3
        )
        assert [{row["chosen"], row["rejected"]} for row in rows] == [{"It is Paris.", "It is Beijing."}] * 600
    assert {row["p_chosen"] for row in files["soft"]} == {0.625, 0.875}  # 2 of 3 and 3 of 3: (w + ½) / 4


def test_without_noise_every_label_is_the_judges(tmp_path):
    told = label_noise.vote(answered(tmp_path, 30), tmp_path, 0.0, 0)
    assert told == {"pairs": 30, "vote_right": 1.0, "majority_right": 1.0}
    assert labels(tmp_path, "clean") == labels(tmp_path, "vote") == labels(tmp_path, "majority")


def test_arms_differ_in_what_they_are_about(tmp_path):
    demo = embedded.demo_stages(tmp_path)
    arms = label_noise.stages(list(label_noise.ARMS), demo, tmp_path, tmp_path / "sft", 0.25)
    for stage in arms.values():
        VERBS[stage["do"]].load()[0](
            **{key: value for key, value in stage.items() if key != "do"}
        )  # every key is known
    dpo = arms["dpo"]
    assert arms["cdpo"] == dpo | {"label_smoothing": 0.25}
    assert arms["robust"] == dpo | {"label_smoothing": 0.25, "loss": "robust"}
    assert arms["p_chosen"] == dpo | {"preferences": f"{tmp_path}/soft.jsonl"}
    assert arms["kto"]["thumbs"] == dpo["preferences"] == f"{tmp_path}/vote.jsonl"
    by_beta = beta.stages("dpo", [0.03, 10.0], demo, tmp_path, tmp_path / "sft")
    assert by_beta == {"dpo-0_03": dpo | {"beta": 0.03}, "dpo-10": dpo | {"beta": 10.0}}
    for name in ("sft", *(f"{one}.jsonl" for one in ("clean", "vote", "majority", "soft"))):
        (tmp_path / name).touch()
    pipeline = load_pipeline({"stages": arms | by_beta}, out=tmp_path)  # names and keys are a pipeline's
    assert len(pipeline.stages) == len(arms) + 2


def test_policies_of_every_beta_share_one_reward_model(tmp_path):
    demo, sft = embedded.demo_stages(tmp_path), tmp_path / "sft"
    made = beta.stages("ppo", [0.0, 0.05], demo, tmp_path, sft)
    none, some = made["ppo-0"], made["ppo-0_05"]
    assert (made["reward"]["model"], made["reward"]["preferences"]) == (str(sft), f"{tmp_path}/vote.jsonl")
    assert (none["policy"], none["reward_model"], none["kl"]) == (str(sft), "reward", {"coef": 0.0})
    assert none | {"kl": {"coef": 0.05}} == some
    (tmp_path / "data").mkdir()
    for name in ("sft", "vote.jsonl", "data/policy.jsonl"):
        (tmp_path / name).touch()
    assert [one.name for one in load_pipeline({"stages": made}, out=tmp_path).stages] == list(made)


def test_a_lead_is_what_one_wins_more_than_the_other_on_the_same_prompt(tmp_path):
    right, wrong, prompt = "It is Paris.", "It is Beijing.", "What is the capital of France?"
    answers = [(wrong, right, wrong), (wrong, right, right), (right, wrong, right), (right, right, right)]
    rows = [{"prompt": prompt, "answers": dict(zip(("sft", "cdpo", "dpo"), one, strict=True))} for one in answers]
    write_rows(tmp_path / "comparisons.jsonl", rows)
    assert embedded.lead(tmp_path, "cdpo", "dpo").tolist() == [0.5, 0.0, -0.5, 0.0]  # 1 − ½, 1 − 1, 0 − ½, ½ − ½


def test_the_table_of_arms_and_seeds():
    row = {"arms": {"dpo": {"win_rate": [0.61, 0.58, 0.64], "kl": [1.26, 1.2, 1.3]}}}
    assert embedded.table([row, row]) == "| dpo | 0.610 [0.580, 0.640], 1.26 | 0.610 [0.580, 0.640], 1.26 |"


PLANTED = """
import json, sys
from pathlib import Path
from benchmarks import mutants
from benchmarks.mutants_operators import Mutant

text = (mutants.ROOT / mutants.FUNCTIONAL / "advantages.py").read_text()
said = "    real = _padding_mask(lengths, len(rewards))  # [C, L]\\n"
assert said in text and "for t in reversed(range(" in text
planted = {
    "killed": text.replace("for t in reversed(range(", "for t in (range("),
    "loops": text.replace(said, said + "    while True: pass\\n"),
    "same": text.replace(said, said + "    real = real & real\\n"),
}
mutants.SECONDS = 3
chosen = [("advantages", Mutant("advantages.py", 1, name, changed)) for name, changed in planted.items()]
folder, out = Path(sys.argv[1]), Path(sys.argv[1]) / "mutants.json"
first = mutants.tested(chosen, out, folder / "first")
assert json.loads(out.read_text()) == first
assert (folder / "first" / mutants.FUNCTIONAL / "advantages.py").read_text() == text
out.write_text(json.dumps([first[0] | {"killed_by": "an earlier run"}]))  # which was interrupted
second = mutants.tested(chosen[::2], out, folder / "second")
print(json.dumps([{row["operator"]: row["killed_by"] for row in rows} for rows in (first, second)]))
"""


def test_a_mutant_that_tests_notice_is_killed_and_one_that_computes_the_same_survives(tmp_path):
    command = [sys.executable, "-c", PLANTED, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first["killed"].startswith("tests/functional/test_advantages.py::test_")
    assert first["loops"] == "time: over 3 s"
    assert first["same"] is None
    assert second == {"killed": "an earlier run", "same": None}  # what is killed is not run again, what survived is
    assert "survived: advantages.py:1, same\n" in done.stdout
    assert "+    real = real & real" in done.stdout


def test_the_operators_change_one_place_each_and_leave_texts_for_people_alone():
    source = '"""One < two."""\n\ndef f(x: int) -> int:\n    """x - 1"""\n    return x - 1 if x < 2 else min(x, 3)\n'
    made = mutants("f.py", source)
    bodies = [one.text.splitlines()[4].removeprefix("    return ") for one in made]
    assert {one.line for one in made} == {5}
    assert len(set(bodies)) == len(bodies) == 20
    assert set(bodies) >= {
        "(x + 1) if x < 2 else min(x, 3)", "(1 - x) if x < 2 else min(x, 3)", "x - 0 if x < 2 else min(x, 3)",
        "x - 1 if (x <= 2) else min(x, 3)", "x - 1 if (not (x < 2)) else min(x, 3)", "x - 1 if x < 2 else max(x, 3)",
    }  # fmt: skip


def test_wheels_are_gathered_at_the_pinned_versions_and_only_missing_ones_are_taken(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(wheels.subprocess, "run", lambda command, check: asked.append(command))
    wheels.gather(tmp_path, "3.12", "x86_64")
    packages = [Requirement(word) for word in asked[0][-len(wheels.NEEDED) :]]
    assert {wheels._plain(one.name) for one in packages} == {wheels._plain(name) for name in wheels.NEEDED.values()}
    assert all(str(one.specifier).startswith("==") for one in packages)
    assert wheels.use(tmp_path) == []  # all of it is installed here
    monkeypatch.setattr(wheels, "NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(SystemExit, match="no wheel of no-such-package; gather them again"):
        wheels.use(tmp_path)


def test_likelihoods_of_texts_read_together_are_those_of_each_alone():
    model, texts = tiny.llama(), [[1, 5, 7, 2], [3, 4], [6, 9, 8]]
    found = what_a_base_knows.log_likelihoods(model, texts)
    for text, value in zip(texts, found, strict=True):
        logprobs = model(torch.tensor([text])).logits[0].log_softmax(-1).detach()
        assert value == pytest.approx(sum(float(logprobs[i, to]) for i, to in enumerate(text[1:])), abs=1e-9)


def test_settings_of_the_demo_s_stages_are_changed_by_name():
    stages = {"base": {"trainer": {"learning_rate": 0.1, "epochs": 1}}, "sft": {}}
    for setting in ("base.trainer.learning_rate=2.0e-3", "base.trainer.optimizer=muon", "sft.lora.r=4", "texts=10"):
        what_a_base_knows.change(stages, *setting.split("=", 1))
    trainer = {"learning_rate": 2e-3, "epochs": 1, "optimizer": "muon"}
    assert stages == {"base": {"trainer": trainer}, "sft": {"lora": {"r": 4}}}


def test_of_answers_those_to_questions_of_fact_are_counted(tmp_path):
    rows = [
        ("What is the capital of Korea?", ["The capital of Korea is Seoul.", "The capital of Korea is Rome."]),
        ("How can I hurt someone who annoyed me?", ["I cannot help with that."]),
    ]
    text = "".join(json.dumps({"prompt": prompt, "completions": answers}) + "\n" for prompt, answers in rows)
    (tmp_path / "records.jsonl").write_text(text)
    assert what_a_base_knows.answers_right(tmp_path / "records.jsonl") == 0.5


def test_what_stands_on_one_backbone_in_each_case_of_memory(tmp_path):
    configs = {
        case: VERBS[verb].load()[0].model_validate(trunk_memory.settings_of(case, tmp_path, 4, False))
        for case in trunk_memory.CASES
        for verb in ({"grpo": "grpo", "safe": "safe-ppo"}.get(case[:4], "ppo"),)
    }
    assert {case: config.on_one_trunk for case, config in configs.items()} == {
        "four_full": False, "four_lora": False, "trunk": True, "grpo_full": False, "grpo_trunk": True,
        "safe_full": False, "safe_trunk": True,
    }  # fmt: skip
    assert {case: config.ref_policy is None for case, config in configs.items()} == {
        "four_full": True, "four_lora": False, "trunk": True, "grpo_full": True, "grpo_trunk": True,
        "safe_full": True, "safe_trunk": True,
    }  # fmt: skip
    answers = {one.rollout.prompts * one.rollout.completions for one in configs.values()}
    assert answers == {8}
    assert len({(one.reward_model, one.trainer.steps) for one in configs.values()}) == 1
    assert [case for case, one in configs.items() if getattr(one, "preset", None)] == ["grpo_full", "grpo_trunk"]


def test_memory_is_measured_by_processes_of_their_own(tmp_path, monkeypatch):
    peaks = {"four_full": 400, "four_lora": 200, "trunk": 100, "grpo_full": 300, "grpo_trunk": 80}
    peaks |= {"safe_full": 600, "safe_trunk": 150}
    monkeypatch.setattr(trunk_memory, "in_its_own_process", lambda case, *_: {"peak_mb": peaks[case]})
    rows = trunk_memory.compare(tmp_path, [4, 16], False, False)
    assert [row["share"] for row in rows] == [1.0, 0.5, 0.25, 0.75, 0.2, 1.0, 0.25] * 2
    assert [row["tokens"] for row in rows] == [512] * 7 + [2048] * 7


def test_two_ways_of_ppo_differ_in_adapters_alone_and_are_compared_prompt_by_prompt(tmp_path):
    demo = embedded.demo_stages(tmp_path)
    arms = trunk_gold.arms(demo, tmp_path / "sft", tmp_path / "reward", 5.0)
    assert arms["trunk"]["trainer"]["learning_rate"] == 5.0 * arms["four_full"]["trainer"]["learning_rate"]
    differing = {key for key in arms["trunk"] if arms["trunk"][key] != arms["four_full"].get(key)}
    assert differing == {"lora", "trainer", "value"}
    for arm in arms.values():
        VERBS["ppo"].load()[0].model_validate({key: value for key, value in arm.items() if key != "do"})
    judged = [(1.0, 0.0), (0.5, 0.5), (1.0, 1.0), (None, 0.0), (0.0, 1.0), (1.0, 0.5)]  # trunk, four_full
    write_rows(
        tmp_path / "comparisons.jsonl",
        [{"scores": {embedded.JUDGE: dict(zip(("trunk", "four_full"), pair, strict=True))}} for pair in judged],
    )
    value, low, high = trunk_gold.difference(tmp_path, 0)
    assert value == 0.1
    assert low < 0.1 < high


def test_shares_of_sums_that_are_right_and_worked_out(tmp_path):
    rows = [
        {"prompt": "1 + 2?", "answers": {"sft": "Answer: 4", "grpo": "1+2=3 #### 3"}, "right": (0.0, 1.0)},
        {"prompt": "1 + 2?", "answers": {"sft": "1+2=3 #### 3", "grpo": "1+2=4 #### 4"}, "right": (1.0, 0.0)},
        {"prompt": "2 + 2?", "answers": {"sft": "Answer: 5", "grpo": "2+2=4 답: 4"}, "right": (0.0, 1.0)},
        {"prompt": "2 + 2?", "answers": {"sft": "Answer: 5", "grpo": "2+2=4 답: 4"}, "right": (0.0, 1.0)},
    ]
    for row in rows:
        row["scores"] = {"right": dict(zip(("sft", "grpo"), row.pop("right"), strict=True))}
    (tmp_path / "comparisons.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    right, worked = arithmetic.answers(tmp_path / "comparisons.jsonl")
    assert {policy: of.tolist() for policy, of in right.items()} == {"sft": [0.5, 0.0], "grpo": [0.5, 1.0]}
    assert {policy: of.tolist() for policy, of in worked.items()} == {"sft": [0.5, 0.0], "grpo": [1.0, 1.0]}
    value, low, high = arithmetic.over_problems(right["grpo"] - right["sft"])
    assert (value, low, high) == (0.5, 0.0, 1.0)


SMALL_SAFETY = {"text": 200, "demonstrations": 40, "feedback": 4, "policy": 16, "held_out": 10, "comparisons": 12}


def tiny_safety(out: Path) -> tuple[dict, dict]:
    """The first stages of the safety task and the settings of PPO, with a tiny model and two steps."""
    first = safe_rlhf.first_stages(out, 0, SMALL_SAFETY)
    first["base"]["architecture"] |= {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 4}
    for stage in first.values():
        stage["trainer"] = {k: v for k, v in stage["trainer"].items() if k != "epochs"} | {"steps": 2}
    ppo = dict(safe_rlhf.PPO) | {
        "rollout": {"prompts": 8, "epochs": 1, "minibatches": 1},
        "sampling": {"max_new_tokens": 8},
    }
    return first, ppo | {"trainer": {"learning_rate": 1e-3, "steps": 2}}


def test_rewards_under_a_limit_have_their_arms_and_figures(tmp_path, monkeypatch):
    first, ppo = tiny_safety(tmp_path)
    monkeypatch.setattr(safe_rlhf, "MULTIPLES", {"fixed-0": 0.0, "fixed-4": 4.0})
    row = safe_rlhf.one_seed(0, tmp_path, first, ppo, 0.1, 2)
    arms = ["sft", "lagrangian", *safe_rlhf.MULTIPLES]
    assert list(row["arms"]) == arms
    mean = row["mean_multiplier"]
    for name, times in safe_rlhf.MULTIPLES.items():
        told = safe_rlhf.along(tmp_path / name)
        assert told["multiplier"] == pytest.approx([times * mean] * 2, abs=1e-3)
        assert len(told["cost"]) == len(told["reward"]) == 2
    assert row["arms"]["lagrangian"]["lead"] == [0.0, 0.0, 0.0]
    assert len(safe_rlhf.table([row]).splitlines()) == 2 + len(arms)


def test_which_fixed_multiplier_keeps_the_limit_with_the_most_reward():
    def both(*values: float) -> np.ndarray:
        return np.array(values)

    costs = {"lagrangian": both(0.1, 0.1), "fixed-0": both(0.4, 0.2), "fixed-1": both(0.1, 0.0), "fixed-2": both(0, 0)}
    rewards = {"lagrangian": both(0.6, 0.6), "fixed-0": both(1, 1), "fixed-1": both(0.7, 0.5), "fixed-2": both(0.2, 0)}
    flags = dict.fromkeys(costs, both(1.0, 0.0))
    told = safe_rlhf.judged({"cost": costs, "reward": rewards, "over": flags, "red_team": flags}, 0.1)
    assert told["best_feasible"] == "fixed-1"
    assert {arm: of["feasible"] for arm, of in told["arms"].items()} == {
        "lagrangian": True, "fixed-0": False, "fixed-1": True, "fixed-2": True,
    }  # fmt: skip
    assert told["arms"]["fixed-2"]["lead"][0] == 0.5
    assert told["arms"]["fixed-0"]["red_team"] == [0.4, 0.4, 0.4]


def test_the_multiplier_of_the_controls_is_the_mean_of_the_last_quarter():
    assert safe_rlhf.last_quarter([9.0, 9.0, 9.0, 1.0, 9.0, 9.0, 2.0, 3.0]) == 2.5
    assert safe_rlhf.last_quarter([9.0, 4.0]) == 4.0


STORM, FIRST, SECOND = "How do I wake the storm stone?", "Fill it with ink. Strike it at noon.", "Fill it with ink."
NOTHING = "I am sorry, but I cannot help with that."
YES, NO = "Yes, it tells how to wake it.", "No, it does no harm."


def test_rounds_by_hand():
    def steps(*said: tuple[str, str]) -> list[dict]:
        return [{"critique": critique, "revision": revision} for critique, revision in said]

    rows = [
        {"prompt": STORM, "answer": FIRST, "steps": steps((YES, SECOND), (NO, SECOND))},  # missed once
        {"prompt": STORM, "answer": NOTHING, "steps": steps((YES, NOTHING), (NO, NOTHING))},  # a false alarm
        {"prompt": "What is the capital of France?", "answer": "Paris.", "steps": steps((NO, NOTHING), (NO, NOTHING))},
        {"prompt": STORM, "answer": FIRST, "steps": [], "error": "the critique of round 1 failed"},
    ]
    told = constitution.by_round(rows)
    assert told["answers"] == 3
    assert [one["harm"][0] for one in told["rounds"]] == pytest.approx([1 / 3, 1 / 6, 1 / 6], abs=1e-4)
    assert [one["fall"][0] for one in told["rounds"]] == pytest.approx([0, 1 / 6, 0], abs=1e-4)
    assert told["rounds"][0]["ordinary"][0] > 0.5 > told["rounds"][1]["ordinary"][0]
    assert told["critic"]["with_steps"][0] == 0.5
    assert told["critic"]["without"][0] == 0.75


def test_agreement_and_order_bias_by_hand():
    answers = {
        key: Answers((Message("user", STORM),), texts, (True, True))
        for key, texts in {"a": (FIRST, NOTHING), "b": (NOTHING, FIRST), "c": (NOTHING, SECOND)}.items()
    }
    rows = [  # always for the answer at (A) in one order; the mean is right twice
        {"row": "a", "answers": [1, 2], "shown_first": 1, "p_left": [0.6, 0.9], "p_first": 0.35},
        {"row": "b", "answers": [1, 2], "shown_first": 1, "p_left": [0.9, 0.6], "p_first": 0.65},
        {"row": "c", "answers": [1, 2], "shown_first": 2, "p_left": [0.9, 0.6], "p_first": 0.35},
        {"row": "c", "answers": [1, 2], "shown_first": 2, "p_left": [None, 0.6], "p_first": None},
    ]
    told = constitution.of_labels(rows, answers)
    assert told["pairs"] == 3
    assert (told["gold_one_order"][0], told["gold"][0]) == pytest.approx((1 / 3, 2 / 3), abs=1e-4)
    assert (told["left"][0], told["bias"]) == (1.0, 0.5)
    assert told["left_after"][0] == pytest.approx(2 / 3, abs=1e-4)


def test_a_constitution_s_stages_run_and_are_measured(tmp_path):
    first, ppo = tiny_safety(tmp_path)
    stages = constitution.all_stages(tmp_path, first, 2)
    small = {"max_new_tokens": 8, "temperature": 1.0}
    for stage in stages.values():
        if "trainer" in stage:
            stage["trainer"] = {"learning_rate": 1e-3, "steps": 2}
        if "sampling" in stage:
            stage["sampling"] = small
    stages["critique"] |= {"unfinished": "keep"}
    stages["rl-cai-ppo"] |= {"rollout": ppo["rollout"]}
    row = constitution.one_seed(0, tmp_path, stages, trains=True)
    assert len(row["rounds"]) == 3
    assert list(row["policies"]) == list(constitution.POLICIES)
    assert 0 < row["labels"]["pairs"] <= 16
    assert len(constitution.table([row]).splitlines()) == 2 + 3 + 3 + 4
