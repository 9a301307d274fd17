"""Right and wrong answers: accuracy, pass@k and maj@n by hand, in a whole evaluation, and in its report."""

import json
import re
import sys
from types import ModuleType

import numpy as np
import pytest

from baro.config import load_config
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.evaluate import evaluate
from baro.evaluate.config import Config, Reward
from baro.evaluate.findings import summary
from baro.evaluate.report import build_report
from baro.evaluate.solved import ks, right_from, solved_figures
from baro.evaluate.stages import read_stages
from baro.evaluate.words import WORDS
from baro.models.load import Architecture, new_policy, save_policy
from baro.runs import RunDir

NAN = float("nan")


@pytest.mark.parametrize(("tries", "expected"), [(1, []), (2, [2]), (3, [2, 3]), (8, [2, 4, 8]), (10, [2, 4, 8, 10])])
def test_k_are_powers_of_two_and_all(tries, expected):
    assert ks(tries) == expected


def test_figures_by_hand():
    """Four problems of four answers: 0, 1, 4 and 2 of them right; the vote is for what was read most often."""
    scores = np.array([0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0], dtype=float)
    read = ["7", "7", "8", None, "3", "5", "5", None, "1", "1", "1", "1", "2", "2", "9", "9"]
    found = solved_figures(scores, 1.0, np.repeat(np.arange(4), 4), read=read, seed=0)
    assert {name: round(one.value, 6) for name, one in found.items()} == {
        "accuracy": 7 / 16,
        "pass_at_2": round((0 + 0.5 + 1 + 5 / 6) / 4, 6),
        "pass_at_4": 0.75,
        "maj_at_4": (0 + 0 + 1 + 0.5) / 4,
        "unsolved_fraction": 0.25,
    }
    assert {one.n for one in found.values()} == {4}  # problems, not answers
    assert found["accuracy"].low < 0.2
    assert found["accuracy"].high > 0.7  # an interval over 16 answers would be half as wide
    assert "maj_at_4" not in solved_figures(scores, 1.0, np.repeat(np.arange(4), 4), read=None, seed=0)


def test_answers_that_could_not_be_looked_at_count_nowhere():
    scores = np.array([1, NAN, NAN, 0, 0, 1, NAN, NAN, NAN])
    found = solved_figures(scores, 1.0, np.repeat(np.arange(3), 3), read=["a", "b", "b", "c", "c", "a", *"ddd"], seed=0)
    assert {name: (round(one.value, 6), one.n) for name, one in found.items()} == {
        "accuracy": (0.5, 2),
        "pass_at_2": (round(2 / 3, 6), 1),  # of the second problem alone
        "pass_at_3": (1.0, 1),
        "maj_at_3": (0.5, 2),
        "unsolved_fraction": (0.0, 2),
    }
    assert solved_figures(np.full(3, NAN), 1.0, np.arange(3), read=None, seed=0) == {}


def test_which_rewards_say_right_or_wrong():
    both, graded = np.array([0.0, 1.0, NAN]), np.array([0.0, 0.4, 1.0])
    assert right_from(Reward(verifier="gsm8k"), [both, both]) == 1.0
    assert right_from(Reward(verifier="gsm8k"), [both, graded]) is None
    assert right_from(Reward(verifier="gsm8k", right_from=0.4), [graded]) == 0.4
    assert right_from(Reward(by="m:f"), [both]) is None  # a reward that happens to be 0 or 1
    assert right_from(Reward(by="m:f", right_from=0.5), [both]) == 0.5


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    template = Template(train_tokenizer(["Say hi. yes no blue"], 270), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=64, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=270, special=template.special, seed=0), tmp_path / "policy")
    template.save(tmp_path / "policy")
    rows = [{"prompt": f"Say {word}.", "answer": word, "letter": word[0]} for word in ("blue", "yes", "no")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = ModuleType("rewards_of_solved")
    module.odd = lambda completions, **columns: [len(text) % 2 for text in completions]
    monkeypatch.setitem(sys.modules, "rewards_of_solved", module)
    monkeypatch.chdir(tmp_path)
    return {"policies": {"new": "policy"}, "prompts": "prompts.jsonl", "sampling": {"max_new_tokens": 3}}


def evaluated(given, out="run"):
    run = evaluate.run(load_config(Config, None, values=given), out)
    return run, {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}


def test_an_evaluation_counts_what_was_solved(at_work, caplog):
    rewards = {
        "odd": {"by": "rewards_of_solved:odd", "right_from": 1.0},
        "plain": "rewards_of_solved:odd",
        "said": {"verifier": {"name": "text"}},
    }
    run, found = evaluated(at_work | {"completions": 4, "rewards": rewards})
    rows = [json.loads(line) for line in (run.path / "comparisons.jsonl").read_text().splitlines()]
    by_problem = {}
    for row in rows:
        by_problem.setdefault(row["prompt"], []).append(row["scores"]["odd"]["new"])
    hits = [sum(scores) for scores in by_problem.values()]
    assert found["new/accuracy/odd"]["value"] == pytest.approx(sum(hits) / 12)
    assert found["new/pass_at_4/odd"]["value"] == pytest.approx(sum(hit > 0 for hit in hits) / 3)
    assert found["new/pass_at_2/odd"]["n"] == 3
    assert "new/maj_at_4/odd" not in found  # nothing says which answers are the same
    assert not any(name.endswith("/plain") and "reward" not in name for name in found)
    assert found["new/pass_at_4/said"]["value"] == found["new/maj_at_4/said"]["value"] == 0.0
    assert found["new/unsolved_fraction/said"]["value"] == 1.0
    assert (
        "none of its answers to 3 problems is right by said (pass@k is 0); GRPO would have no gradient" in caplog.text
    )


def test_another_bound_comes_to_something_else_and_one_answer_has_an_accuracy(at_work):
    odd = {"by": "rewards_of_solved:odd"}
    found = [
        evaluated(at_work | {"rewards": {"odd": odd | {"right_from": one}}}, f"run-{one}")[1] for one in (0.0, 1.0)
    ]
    accuracies = [one["new/accuracy/odd"]["value"] for one in found]
    assert accuracies[0] == 1.0 > accuracies[1]
    assert {name.split("/")[1] for name in found[0]} == {
        "accuracy",
        "reward",
        "tokens",
        "finished_fraction",
        "distinct_2",
    }


# ---------------------------------------------------------------------------------------------------------- the report


def report_of(tmp_path, figures, language="en"):
    run = RunDir.open(tmp_path / "evaluation", verb="evaluate", config=Config(policies=["p"], prompts="x"), inputs={})
    run.close()
    rows = [{"name": name, "value": v, "low": low, "high": high, "n": n} for name, (v, low, high, n) in figures.items()]
    (run.path / "figures.json").write_text(json.dumps(rows))
    page = build_report([run.path], tmp_path / "report", title="Sums", language=language).read_text()
    return page, [one.sentence for one in summary(read_stages([run.path], {}), WORDS[language])]


FIGURES = {
    "sft/accuracy/sums": (0.25, 0.2, 0.3, 200), "sft/pass_at_2/sums": (0.4, 0.34, 0.46, 200),
    "sft/pass_at_8/sums": (0.7, 0.64, 0.76, 200), "sft/maj_at_8/sums": (0.3, 0.24, 0.36, 200),
    "sft/unsolved_fraction/sums": (0.3, 0.24, 0.36, 200),
    "grpo/accuracy/sums": (0.81, 0.77, 0.85, 200), "grpo/pass_at_2/sums": (0.85, 0.81, 0.89, 200),
    "grpo/pass_at_8/sums": (0.9, 0.86, 0.94, 200), "grpo/maj_at_8/sums": (0.84, 0.8, 0.88, 200),
    "grpo/unsolved_fraction/sums": (0.1, 0.06, 0.14, 200),
    "base/accuracy/sums": (0.0, 0.0, 0.02, 200), "base/pass_at_8/sums": (0.0, 0.0, 0.02, 200),
    "sft/pass_at_4/sums": (0.55, 0.5, 0.6, 200), "grpo/pass_at_4/sums": (0.88, 0.84, 0.92, 200),
}  # fmt: skip


ENGLISH = [
    "SFT by sums: share of right answers 0.25 [0.20, 0.30], n=200; of problems with a right one in 8 answers 0.70 "
    "[0.64, 0.76].",
    "base by sums: no right answer to any of 200 problems, in 8 answers to each. GRPO would learn nothing, as all "
    "answers to a problem get the same reward: easier problems or demonstrations come first.",
]
KOREAN = ["SFT(sums 기준): 정답률 0.25 [0.20, 0.30], n=200, 답변 8개 안에 정답이 있는 문제의 비율 0.70 [0.64, 0.76]."]


@pytest.mark.parametrize(
    ("language", "title", "sentences"), [("en", "Problems solved", ENGLISH), ("ko", "푼 문제", KOREAN)]
)
def test_a_report_says_what_was_solved(tmp_path, language, title, sentences):
    page, said = report_of(tmp_path, FIGURES, language)
    assert set(sentences) <= set(said)
    (section,) = re.findall(r'<section id="solved".*?</section>', page, re.DOTALL)
    assert title in section
    heads = re.findall(r"<th [^>]*>([^<]*)</th>", section.partition("</thead>")[0])
    assert heads[1:7] == [
        WORDS[language]["accuracy"],
        "pass@2",
        "pass@4",
        "pass@8",
        "maj@8",
        WORDS[language]["unsolved"],
    ]
    first = section.partition("<tbody>")[2].partition("</tr>")[0]
    assert re.findall(r">(0\.\d\d) <", first) == ["0.25", "0.40", "0.55", "0.70", "0.30", "0.30"]
    assert section.count('<svg class="plot"') == 2
    assert 'id="reward"' not in page  # none of these is a reward model's accuracy
