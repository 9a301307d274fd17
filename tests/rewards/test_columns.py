"""The columns of the usual data sets, read unasked: prompts, with what says what is right kept as it stands."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from baro.data.formats import read_records
from baro.records import Demonstration, Message, Prompt, Rollout, said
from baro.reward_config import ScoredBy
from baro.rewards.verifiers import load_verifier

PAIRS = "def check(candidate):\n    assert candidate([1.0, 2.0], 0.5) == False\n"
SETS = {
    "GSM8K": ("question", {"question": "How many?", "answer": "3 * 6 = <<3*6=18>>18\n#### 18"}),
    "MATH": ("problem", {"problem": "Find it.", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{18}."}),
    "MATH-500": ("problem", {"problem": "Find it.", "solution": "So \\boxed{18}.", "answer": "18", "unique_id": "a/1"}),
    "HumanEval": (
        "prompt",
        {
            "task_id": "HumanEval/0", "prompt": 'def near(xs):\n    """Near?"""\n', "entry_point": "near",
            "canonical_solution": "    return False\n", "test": PAIRS,
        },
    ),
    "MBPP": (
        "text",
        {
            "text": "Write near.", "code": "def near(xs): return 1", "task_id": 601, "test_setup_code": "",
            "test_list": ["assert near([1]) == 1", "assert near([]) == 1"], "challenge_test_list": ["assert 0"],
        },
    ),
    "sanitized MBPP": (
        "prompt",
        {
            "source_file": "a.py", "task_id": 2, "prompt": "Write near.", "code": "def near(): pass",
            "test_imports": ["import math"], "test_list": ["assert near() is None", "assert True is True"],
        },
    ),
    "stdin and stdout": (
        "prompt", {"prompt": "Add.", "tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "", "output": ""}]},
    ),
    "ground_truth": ("prompt", {"prompt": "How many?", "ground_truth": "18", "source": "x"}),
    "ground_truth in a block": (
        "prompt",
        {
            "data_source": "sums", "prompt": [{"role": "user", "content": "How many?"}],
            "reward_model": {"style": "rule", "ground_truth": "18"}, "extra_info": {"split": [["a"], ["b", "c"]]},
        },
    ),
    "ARC": (
        "question",
        {"id": "a", "question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
    ),
    "MMLU": ("question", {"question": "Which?", "choices": ["x", "y", "z", "u"], "subject": "law", "answer": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_rows_are_prompts_with_their_columns_kept(tmp_path, name):
    column, row = SETS[name]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (record,) = read_records(tmp_path / "rows.jsonl", Prompt).records
    said_ = row[column] if isinstance(row[column], str) else row[column][0]["content"]
    assert record.prompt == (Message("user", said_),)
    assert record.extra == {key: value for key, value in row.items() if key != column}
    assert read_records(tmp_path / "rows.jsonl").kind is Prompt


@pytest.mark.parametrize("name", SETS)
def test_the_same_from_a_table(tmp_path, name):
    """Lists of lists and blocks come back from Parquet as they went in."""
    column, row = SETS[name]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    (record,) = read_records(tmp_path / "rows.parquet", Prompt).records
    assert record.extra == {key: value for key, value in row.items() if key != column}


def test_a_solution_is_what_is_imitated_where_there_is_a_short_answer_too(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(SETS["MATH-500"][1]) + "\n")
    (record,) = read_records(tmp_path / "rows.jsonl", Demonstration).records
    assert record.completion == said("So \\boxed{18}.")


@pytest.mark.parametrize(
    ("row", "verifier", "right", "wrong"),
    [
        (SETS["GSM8K"][1], "gsm8k", "#### 18", "#### 19"),
        (SETS["MATH-500"][1], "gsm8k", "#### 18", "#### 19"),
        (SETS["ground_truth"][1], "gsm8k", "#### 18", "#### 19"),
        (SETS["ground_truth in a block"][1], "gsm8k", "#### 18", "#### 19"),
        (SETS["ground_truth in a block"][1], {"name": "gsm8k", "answer": "reward_model.ground_truth"}, "#### 18", "18"),
        (SETS["ground_truth"][1], {"name": "gsm8k", "answer": "ground_truth"}, "#### 18", "18"),
        (SETS["ground_truth"][1], "text", "18", "19"),
        (SETS["ARC"][1], "choice", "B", "A"),
        (SETS["MMLU"][1], {"name": "choice", "count_from": 0}, "C", "B"),
        ({"answer.short": "18"}, {"name": "text", "answer": "answer.short"}, "18", "19"),
    ],
)
def test_what_is_right_is_found_unasked(row, verifier, right, wrong):
    reward = load_verifier(ScoredBy(verifier=verifier).verifier, name="v")
    rollouts = [Rollout((Message("user", "?"),), said(text), extra=row) for text in (right, wrong)]
    assert [one.score for one in reward.check(rollouts)] == [1, 0]


def test_a_column_that_was_named_is_not_replaced_by_another():
    reward = load_verifier(ScoredBy(verifier={"name": "gsm8k", "answer": "gold"}).verifier, name="v")
    (found,) = reward.check([Rollout((), said("#### 18"), extra={"answer": "18", "ground_truth": "18"})])
    assert "no column 'gold'" in found.error
