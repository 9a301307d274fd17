"""The example pipelines run to their reports on generated data and tiny models: every key of them is accepted."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.demo import world
from baro.models.load import Architecture, new_policy, save_policy
from baro.pipeline import run_pipeline

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {
    "trainer": {"steps": 2, "epochs": None, "batch_size": 4},
    "sampling": {"max_new_tokens": 8},
    "rollout": {"prompts": 4, "completions": 1, "epochs": 1, "minibatches": 2},
    "architecture": {"vocabulary": 300, "hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2},
    "best_of": {},
    "hold_out": 6,
    "n": 8,
    "completions": 2,
    "layers": 1,
}


@pytest.fixture
def inputs(tmp_path):
    """Stand-ins for the files and the model that the examples name."""
    openings = [
        json.loads(line)["prompt"] for line in (EXAMPLES / "stories" / "phrases.jsonl").read_text().splitlines()
    ]
    moods = ["a good happy day", "a bad sad day"] * 100  # words of their own, so that some answers have a sentiment
    template = Template(train_tokenizer([*openings * 3, *moods], 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=128, intermediate_size=24)
    model = tmp_path / "stories260k"
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), model)
    template.save(model)
    pairs = tmp_path / "hh.jsonl.gz"
    with gzip.open(pairs, "wt") as file:
        for n in range(24):
            start = f"\n\nHuman: Say {n}.\n\nAssistant:"
            file.write(json.dumps({"chosen": f"{start} Gladly: {n}", "rejected": f"{start} No."}) + "\n")
    dialogues = tmp_path / "chatbot.csv.gz"
    with gzip.open(dialogues, "wt", encoding="utf-8") as file:
        file.write("Q,A,label\n" + "".join(f"{n}번째 질문이에요,{n}번째 대답이에요.,{n % 3}\n" for n in range(240)))
    for part, count in (("train", 60), ("test", 6)):
        with gzip.open(tmp_path / f"gsm8k_{part}.jsonl.gz", "wt") as file:
            for n in range(count):
                row = {
                    "question": f"{part} {n} and 1?",
                    "answer": f"It is {n}+1=<<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}",
                }
                file.write(json.dumps(row) + "\n")
    problems = [
        {
            "task_id": n,
            "prompt": f"Add {n}.",
            "code": f"def add_{n}(x):\n    return x + {n}",
            "test_imports": [],
            "test_list": [f"assert add_{n}(1) == {n + 1}", f"assert add_{n}(-{n}) == 0"],
        }
        for n in range(20)
    ]
    with gzip.open(tmp_path / "sanitized-mbpp.json.gz", "wt") as file:
        json.dump(problems, file)
    labelled_answers(tmp_path)
    demo = tmp_path / "demo"
    for name in ("feedback", "held_out"):
        (demo / "data").mkdir(parents=True, exist_ok=True)
        rows = "".join(json.dumps(row) + "\n" for row in world.prompts(0, 16, name))
        (demo / "data" / f"{name}.jsonl").write_text(rows)
    shutil.copytree(model, demo / "sft")
    return {
        "runs/demo-0": str(demo),
        "../shared/models/stories260k": str(model),
        "../shared/data/hh_harmless_test.jsonl.gz": str(pairs),
        "../shared/data/chatbot_ko.csv.gz": str(dialogues),
        "../shared/data/gsm8k": str(tmp_path / "gsm8k"),
        "../shared/data/xstest_completions_": str(tmp_path / "xstest_completions_"),
        "../shared/data/square_response": str(tmp_path / "square_response"),
        "../shared/data/sanitized-mbpp.json.gz": str(tmp_path / "sanitized-mbpp.json.gz"),
        "examples/stories/phrases.jsonl": str(EXAMPLES / "stories" / "phrases.jsonl"),
        "runs/hh_rlhf": str(tmp_path / "hh_rlhf"),
    }


def labelled_answers(folder: Path) -> None:
    """XSTest's and SQuARe's columns: who refuses, and three raters who do not agree."""
    full, refused = "1_full_compliance", "2_full_refusal"
    kinds = ("homonyms", "contrast_homonyms", "definitions", "contrast_definitions")
    for who in ("gpt4", "llama2orig", "mistralinstruct"):
        lines = ["id,type,prompt,completion,annotation_1,annotation_2,agreement,final_label,gpt4_label"]
        for n in range(48):
            said = full if who == "mistralinstruct" and n % 8 else refused
            answer = f"{'Sure' if said == full else 'No'} it is {n} says {who}"
            lines.append(f"v{n},{kinds[n % 4]},Tell me {n}?,{answer},{said},{said},True,{said},{said}")
        with gzip.open(folder / f"xstest_completions_{who}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    rows = []
    for n in range(60):
        votes = ["non-acceptable" if (n + k) % 4 < 2 else "acceptable" for k in range(3)]
        raw = {"Q2: Acceptable or Non-acceptable": [{"workerID": k, "acceptable?": one} for k, one in enumerate(votes)]}
        label = int(votes.count("acceptable") > 1)
        row = {"question": f"{n // 2}번 질문인가?", "response": f"{n}번 {'나쁜 ' * (1 - label)}대답이다."}
        rows.append(row | {"acceptable?": label, "question_category": "predictive", "raw_annotations": raw})
    with gzip.open(folder / "square_response_test_ood_annotations.json.gz", "wt") as file:
        json.dump(rows, file)


def shrunk(value: Any, inputs: dict[str, str]) -> Any:
    """The pipeline with its inputs replaced and its sizes cut down."""
    if isinstance(value, str):
        for name, path in inputs.items():
            value = value.replace(name, path)
        return value
    if isinstance(value, list):
        return [shrunk(one, inputs) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: shrunk(inner, inputs) for key, inner in value.items()}
    for key, small in SMALL.items():
        if isinstance(small, dict) and small and key in found:
            found[key] |= small
        elif key in found:
            found[key] = small
    return found


@pytest.mark.parametrize(
    "names",
    [
        ["stories/pipeline"],
        ["instruct_ko/pipeline"],
        ["hh_rlhf/pipeline", "hh_rlhf/ablation"],
        ["next_round/pipeline"],
        ["gsm8k/pipeline"],
        ["code/pipeline"],
        ["safety/pipeline"],
    ],
)
def test_an_example_runs_to_its_report(names, inputs, tmp_path, monkeypatch, request):
    if "code/pipeline" in names:
        request.getfixturevalue("sandbox_holds")
    monkeypatch.chdir(EXAMPLES.parent)
    for name in names:
        outline = shrunk(yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text()), inputs)
        out = tmp_path / outline.pop("out").rpartition("/")[2]
        for stage in outline["stages"].values():
            if stage["do"] in ("ppo", "grpo"):
                stage["accept_weak_reward_model"] = True
                stage["trainer"].pop("batch_size")  # a step's size is said by rollout
            if stage["do"] == "grpo":
                stage["rollout"]["completions"] = 2  # they are compared with each other
        run_pipeline(outline, out=out)
        assert "<svg" in (out / "report" / "report.html").read_text()
    if "safety/pipeline" in names:
        assert "<svg" in (out / "mistral_compared" / "frontier.svg").read_text()
        assert not (out / "square_compared" / "frontier.svg").exists()
        figures = {one["name"] for one in json.loads((out / "mistral_compared" / "figures.json").read_bytes())}
        rates = ("sign_accuracy", "balanced_accuracy", "auroc")
        assert {f"{who}/{rate}" for who in ("cost", "words", "prompt", "length", "who") for rate in rates} <= figures
        assert {f"cost/above/{who}/auroc" for who in ("words", "prompt", "length", "who")} <= figures
    if "code/pipeline" in names:
        verdicts = [json.loads(line) for line in (out / "audit" / "verified.jsonl").read_text().splitlines()]
        assert [(one["known"], one["score"]) for one in verdicts] == [(True, 1.0), (False, 0.0)] * 20
        figures = {one["name"]: one["value"] for one in json.loads((out / "evaluation" / "figures.json").read_bytes())}
        assert figures["grpo/accuracy/right"] == figures["grpo/pass_at_2/right"] == 0  # 8 tokens are no program
