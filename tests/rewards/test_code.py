"""The code verifier: which part of a completion is the program, which columns are tests, and what it scores."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from baro.config import load_config
from baro.errors import ConfigError, DataError
from baro.records import Message, Prompt, Rollout, said
from baro.reward_config import RewardTerm
from baro.rewards import sandbox_start
from baro.rewards.code import NoTests, code_in, problem_of
from baro.rewards.own_data import try_on_own_data
from baro.rewards.sandbox import shared_sandbox
from baro.rewards.verifiers import load_verifier
from baro.verifier_config import Code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```py\nx = 1\n```\n```python\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\nwhich prints\n```text\n1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```PYTHON\nx = 1\n```", "x = 1\n"),
        ("~~~python\nx = '''\n```\n'''\n~~~", "x = '''\n```\n'''\n"),
        ("````python\nx = 1\n```\n````", "x = 1\n```\n"),
        ("```python\nx = 1", "x = 1"),
        ("```python\n    return 1\n```", "    return 1\n"),
        ("```java\nint x;\n```", "int x;\n"),
        ("in words `x = 1` only", "in words `x = 1` only"),
        ("   ```python\n   x = 1\n   ```", "   x = 1\n"),
        ("", ""),
    ],
)
def test_the_program_is_the_last_block_of_python(text, code):
    assert code_in(text) == code


def test_many_fences_take_no_long_time():
    assert code_in("```\n" * 20_001) == ""


ASSERTS = {"test_list": ["assert double(2) == 4", "assert double(-1) == -2"]}
HUMAN = {
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert half(8) == 4",
    "entry_point": "double",
}
PROMPT = "def half(x):\n    return x // 2\n\ndef double(x):\n    '''Twice x.'''\n"
CASES = {"input_output": {"inputs": ["2\n", "5\n"], "outputs": ["4", "10\n"]}}
RIGHT = "def double(x): return 2 * x"
ROOT = Path(__file__).parents[2]


def looked(row, text, prompt="Write a function.", **options):
    reward = load_verifier(Code(**{"cpu_seconds": 2, **options}), name="code")
    return reward.check([Rollout((Message("user", prompt),), said(text), extra=row)])[0]


@pytest.mark.parametrize(
    ("row", "text", "prompt", "score"),
    [
        (ASSERTS, f"```python\n{RIGHT}\n```", "In words.", 1),
        (ASSERTS, "```python\ndef double(x): return 4\n```", "In words.", 0),
        (ASSERTS, "I do not know.", "In words.", 0),
        ({"test_setup_code": "import math as m", "test_list": ["assert m.sqrt(double(8)) == 4"]}, RIGHT, "", 1),
        ({"test_imports": ["import math as m"], "test_list": ["assert m.sqrt(double(8)) == 4"]}, RIGHT, "", 1),
        ({"test_list": ["assert sum(1, 2) == 3"], "code": "def sum(a, b): return 3"}, "def sum(a, b): return 3", "", 1),
        (HUMAN, "    return 2 * x\n", PROMPT, 1),
        (HUMAN, "    return x\n", PROMPT, 0),
        (HUMAN, f"```python\n{RIGHT}\n```", PROMPT, 1),
        (HUMAN, f"```python\n{RIGHT}\n```", f"Complete this.\n```python\n{PROMPT}```", 1),
        (HUMAN, f"```python\n{RIGHT}\n```", f"Complete this function:\n\n{PROMPT}", 1),
        (HUMAN, "    return half(4 * x)\n", f"Complete this function:\n\n{PROMPT}", 1),
        (HUMAN, "```python\n    return half(4 * x)\n```", PROMPT, 1),
        (CASES, "print(2 * int(input()))", "In words.", 1),
        (CASES, "print(4)", "In words.", 0),
        (CASES, "print(2 * int(input()), end='  \\n\\n')", "In words.", 1),
        ({"input_output": json.dumps(CASES["input_output"])}, "print(2 * int(input()))", "", 1),
        ({"tests": [{"input": "2", "output": "4"}, {"input": "3", "output": "6"}]}, "print(2 * int(input()))", "", 1),
    ],
)  # fmt: skip
def test_scores(sandbox_holds, row, text, prompt, score):
    found = looked(row, text, prompt)
    assert (found.score, found.error) == (score, None)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"answer": "4"}, "the row has no tests: no column 'test_list'"),
        ({"test": "def check(f): pass"}, "no 'entry_point'"),
        ({"test": "def check(f): pass", "entry_point": "a b"}, "no 'entry_point'"),
        ({"test_list": "   "}, "'test_list' is empty"),
        ({"test_list": []}, "'test_list' is empty"),
        ({"test_list": [3]}, "neither a text nor a list of texts"),
        ({"input_output": "{"}, "neither inputs with outputs"),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, "neither inputs with outputs"),
        ({"tests": []}, "neither inputs with outputs"),
        ({"tests": [{"input": 1, "output": "2"}]}, "neither inputs with outputs"),
    ],
)
def test_rows_without_tests_are_an_error(sandbox_holds, row, error):
    with pytest.raises(NoTests, match=error):
        problem_of(row, "")
    found = looked(row, RIGHT)
    assert found.score is None
    assert error in found.error


def test_a_case_that_is_other_than_wanted_is_told(sandbox_holds):
    found = looked(CASES, "print(4)")
    assert found.reason == "1 of 2 cases as wanted; the first other: the output begins '4\\n', wanted is '10\\n'"


def test_the_rows_own_solutions_are_tried_before_a_run(sandbox_holds):
    term = RewardTerm(verifier="code")
    words, code = (Message("user", "Double."),), (Message("user", PROMPT),)
    good = [
        Prompt(words, {**ASSERTS, "code": RIGHT}),
        Prompt(code, {**HUMAN, "canonical_solution": "    return 2 * x\n"}),
    ]
    try_on_own_data({"code": term}, good, ["a:1", "a:2"])
    bad = [*good, Prompt(words, {**ASSERTS, "code": "def double(x): return x"})]
    with pytest.raises(DataError, match=r"a:3: code calls the row's own answer wrong .line 1 of the tests"):
        try_on_own_data({"code": term}, bad, ["a:1", "a:2", "a:3"])


def test_without_bubblewrap_it_refuses_at_the_start(monkeypatch):
    monkeypatch.setattr(sandbox_start.shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox_start, "find_spec", lambda name: None)
    shared_sandbox.cache_clear()
    for name in ("code", "math"):
        term = load_config(RewardTerm, None, values={"verifier": name})
        with pytest.raises(ConfigError, match="not installed: `apt-get install bubblewrap`"):
            load_verifier(term.verifier, name=name)
    assert looked(ASSERTS, RIGHT, unsafe_local=True).score == 1


def test_verifiers_of_one_process_share_a_pool(sandbox_holds):
    one, other = (load_verifier(Code(), name=name).verifier.sandbox for name in ("a", "b"))
    assert one is other
    assert load_verifier(Code(memory_mb=256), name="c").verifier.sandbox is not one


def test_the_benchmark_tells_what_passes_and_what_is_refused(sandbox_holds, tmp_path):
    human = [
        {"task_id": f"H/{k}", "prompt": PROMPT, "canonical_solution": "    return 2 * x\n", **HUMAN} for k in range(3)
    ]
    mbpp = [{"task_id": k, "prompt": "Double.", "code": RIGHT, **ASSERTS} for k in range(2)]
    mbpp += [{"task_id": 9, "prompt": "Double.", "code": RIGHT, "test_list": ["assert missing_module.double(2)"]}]
    mbpp += [
        {"task_id": 10, "prompt": "Double.", "code": RIGHT, "test_list": ["import numpy", "assert double(2) == 4"]}
    ]
    (tmp_path / "human.jsonl").write_text("\n".join(map(json.dumps, human)))
    with gzip.open(tmp_path / "mbpp.json.gz", "wt") as file:
        json.dump(mbpp, file)
    command = [sys.executable, "-m", "benchmarks.sandbox", tmp_path / "human.jsonl", tmp_path / "mbpp.json.gz"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True).stdout
    assert "HumanEval, canonical solutions: 3 of 3 pass, 0 score 0, 0 are refused" in told
    assert "MBPP sanitized, canonical solutions: 2 of 4 pass, 0 score 0, 2 are refused" in told
    assert "  10: the tests cannot run: ModuleNotFoundError: No module named 'numpy'" in told
    assert "  9: the tests fail before they call the program: AttributeError" in told
    assert "HumanEval, mutations: 0 of 3 pass, 3 score 0, 0 are refused" in told
