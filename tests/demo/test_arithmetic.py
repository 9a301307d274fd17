"""The verifiable task: its sums are right, nobody has seen the held-out operands, and the whole of it runs, tiny."""

import json
import re

import pytest
import yaml

from baro.demo import arithmetic
from baro.demo import run as demo
from baro.demo.arithmetic import Problem, files_of, operands, steps
from baro.errors import ConfigError
from baro.pipeline import run_pipeline

SIZES = {"text": 300, "demonstrations": 24, "problems": 8, "validation": 4, "held_out": 6}
LEARNED_FROM = ("text", "demonstrations", "problems", "all_answers")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (347, 285, ["7+5=12", "4+8+1=13", "3+2+1=6"]),
        (999, 999, ["9+9=18", "9+9+1=19", "9+9+1=19"]),
        (120, 305, ["0+5=5", "2+0=2", "1+3=4"]),
        (7, 95, ["7+5=12", "0+9+1=10"]),
        (4, 3, ["4+3=7"]),
    ],
)
def test_a_sum_is_worked_out_from_the_right(first, second, expected):
    assert steps(first, second) == expected


def test_questions_and_answers_in_both_languages():
    english, korean = Problem(347, 285, "en", 0), Problem(347, 286, "ko", 1)
    assert english.prompt == "What is 347 + 285?"
    assert english.answer(worked=True, marked=True) == "7+5=12 4+8+1=13 3+2+1=6 #### 632"
    assert english.answer(worked=False, marked=False) == "Answer: 632"
    assert (Problem(347, 285, "ko", 1).prompt, korean.prompt) == (
        "347에 285를 더하면 얼마예요?",
        "347에 286을 더하면 얼마예요?",
    )
    assert korean.answer(worked=True, marked=False) == "7+6=13 4+8+1=13 3+2+1=6 답: 633"


def numbers(row):
    return [int(one) for one in re.findall(r"\d+", " ".join(row.values()))]


def asked(row):
    return re.findall(r"\d+", row["prompt"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_operands_stand_in_nothing_that_is_learned_from(seed):
    files = files_of(seed)
    unseen = {int(one) for name in ("held_out", "validation") for row in files[name] for one in asked(row)}
    assert unseen <= set(operands("held_out"))
    assert len(unseen) > 140
    for name in LEARNED_FROM:
        assert not unseen & {one for row in files[name] for one in numbers(row)}, name


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_sum_stands_in_two_files(seed):
    files = files_of(seed)
    files["text"] = [{"prompt": row["text"].split("\n")[0]} for row in files["text"]]
    sums = {name: [tuple(sorted(asked(row))) for row in rows] for name, rows in files.items()}
    sums["text"] = [one for one in sums["text"] if len(max(one, key=len)) == 3]
    apart = [sums[name] for name in ("text", "demonstrations", "problems", "validation", "held_out")]
    assert sum(map(len, apart)) == len({one for part in apart for one in part})
    assert set(sums["all_answers"]) == {*sums["demonstrations"], *sums["problems"]}
    assert len(sums["text"]) == 0.3 * len(files["text"])


def test_all_answers_are_right_and_problems_have_none_to_imitate():
    files = files_of(1)
    for row in [*files["demonstrations"], *files["all_answers"]]:
        assert numbers({"": row["completion"]})[-1] == sum(map(int, asked(row)))
        for terms, total in re.findall(r"([0-9+]+)=(\d+)", row["completion"]):
            assert sum(map(int, terms.split("+"))) == int(total)
    for name in ("problems", "validation", "held_out"):
        assert all(row.keys() == {"prompt", "answer"} for row in files[name])
        assert all(int(row["answer"]) == sum(map(int, asked(row))) for row in files[name])
    assert len(files["demonstrations"]) <= 500


@pytest.mark.parametrize(
    ("name", "column", "worked"),
    [("text", "text", 0.9), ("demonstrations", "completion", 0.5), ("all_answers", "completion", 1.0)],
)
def test_how_many_answers_have_steps_and_how_many_the_mark(name, column, worked):
    answers = [row[column] for row in files_of(2)[name]]
    for found, expected in ((["=" in one for one in answers], worked), (["####" in one for one in answers], 0.5)):
        assert abs(sum(found) / len(found) - expected) < 0.06


def test_the_same_seed_makes_the_same_files_and_another_does_not():
    assert files_of(3, SIZES) == files_of(3, SIZES)
    assert all(files_of(3, SIZES)[name] != files_of(4, SIZES)[name] for name in files_of(3, SIZES))


def small(outline):
    """The task's stages with a tiny model and a few steps."""
    stages = outline["stages"]
    stages["base"]["architecture"] |= {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 4}
    for stage in stages.values():
        if "trainer" in stage:
            stage["trainer"] = {k: v for k, v in stage["trainer"].items() if k != "epochs"} | {"steps": 2}
        if "sampling" in stage:
            stage["sampling"] = stage["sampling"] | {"max_new_tokens": 8}
        if stage["do"] == "grpo":
            stage["rollout"] = {"prompts": 4, "completions": 2}
    return outline


def test_the_whole_task_runs_and_tells_accuracy_and_form_of_everybody(tmp_path):
    outline = small(demo.arithmetic_pipeline(tmp_path / "data", 0, SIZES))
    runs = run_pipeline(outline, out=tmp_path / "out")
    everybody = ("sft", "grpo", "grpo-random-reward", "grpo-format-reward", "sft-longer", "sft-all-answers")
    for stage in ("evaluation", "greedy"):
        told = {figure["name"] for figure in json.loads((runs[stage].path / "figures.json").read_text())}
        assert told >= {f"{one}/reward/{name}" for one in everybody for name in ("right", "form")}
    vocabulary = json.loads((runs["base"].path / "model" / "tokenizer.json").read_text())["model"]["vocab"]
    with_digits = [token for token in vocabulary if re.search(r"\d", token) and not token.startswith("<")]
    assert sorted(with_digits) == list("0123456789")
    assert (runs["report"].path / "report.html").exists()


def test_only_the_problems_and_what_measures_have_results():
    """Who imitates sees no file of problems; who is rewarded sees no worked answer of them."""
    stages = yaml.safe_load((demo.files("baro.demo") / "arithmetic.yaml").read_text())["stages"]
    for stage in stages.values():
        given = stage.get("demonstrations") or stage.get("prompts") or stage.get("text", "")
        by_verb = {
            "base": "DATA/text.jsonl",
            "sft": ("DATA/demonstrations.jsonl", "DATA/all_answers.jsonl"),
            "grpo": "DATA/problems.jsonl",
            "evaluate": "DATA/held_out.jsonl",
            "report": "",
        }
        assert given in by_verb[stage["do"]]
    assert [name for name, stage in stages.items() if "DATA/all_answers" in str(stage)] == ["sft-all-answers"]


def test_three_seeds_have_their_figures_in_one_file(tmp_path, monkeypatch):
    def runs(outline, out):
        for stage in ("evaluation", "greedy"):
            (out / stage).mkdir(parents=True)
            figure = {"name": "grpo/reward/right", "value": outline["seed"] / 10, "low": 0.0, "high": 1.0}
            (out / stage / "figures.json").write_text(json.dumps([figure]))

    monkeypatch.setattr(demo, "run_pipeline", runs)
    monkeypatch.setattr(arithmetic, "files_of", lambda seed, sizes: {"held_out": []})
    demo.run_demo(5, all=True, out=tmp_path, task="arithmetic")
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["greedy"] == {
        "grpo/reward/right": {"seed-5": [0.5, 0.0, 1.0], "seed-6": [0.6, 0.0, 1.0], "seed-7": [0.7, 0.0, 1.0]}
    }
    assert told["evaluation"] == told["greedy"]
    with pytest.raises(ConfigError, match="--arithmetic and --human exclude each other"):
        demo.run_demo(human=25, task="arithmetic")
