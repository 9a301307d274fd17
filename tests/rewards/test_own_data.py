"""Verifiers tried on their own data: a run whose verifier calls its answers wrong, or all of them right, is refused."""

import json
import logging

import pytest
from methods.conftest import policy  # noqa: F401

from baro.config import load_config
from baro.errors import DataError
from baro.evaluate import config as evaluation
from baro.evaluate import evaluate
from baro.methods import grpo, ppo
from baro.records import Message, Prompt
from baro.reward_config import ScoredBy
from baro.rewards import verifiers
from baro.rewards.own_data import try_on_own_data
from baro.rewards.verified import Verified


def tried(rows, verifier="gsm8k", **options):
    prompts = [Prompt((Message("user", f"Question {i}"),), row) for i, row in enumerate(rows)]
    keys = [f"rows.jsonl:{i + 1}" for i in range(len(rows))]
    try_on_own_data({"maths": ScoredBy(verifier=verifier)}, prompts, keys, **options)


@pytest.fixture
def replaced(monkeypatch):
    """Put a function in place of what a verifier finds."""

    def replace(look):
        monkeypatch.setattr(verifiers.Gsm8kVerifier, "look", lambda self, rollout: look(rollout))

    return replace


GOOD = [{"answer": f"It is {i}.\n#### {i}"} for i in range(20)]


@pytest.mark.parametrize(
    ("verifier", "rows"),
    [
        ("gsm8k", GOOD),
        ({"name": "gsm8k", "method": "flexible", "answer": "gold"}, [{"gold": "1,234.5"}, {"gold": -3}, {"gold": 0.1}]),
        ("text", [{"answer": "서울"}, {"answer": ["Busan", "부산"]}, {"answer": 3}]),
        ({"name": "text", "after": "Answer:"}, [{"answer": "서울"}]),
        ("choice", [{"answer": "B"}, {"answer": "②"}, {"answer": "(다)"}, {"answer": "5번"}]),
        ({"name": "choice", "count_from": 0}, [{"answer": 0}, {"answer": 4}]),
        ({"name": "format", "pattern": "a+"}, [{}]),
        ({"name": "length", "at_least": 3}, [{}]),
        ("json", [{}]),
        ("repetition", [{}]),
    ],
)  # fmt: skip
def test_verifiers_call_their_own_answers_right(verifier, rows, caplog):
    caplog.set_level(logging.INFO, "baro")
    tried(rows, verifier)
    assert not [one for one in caplog.records if one.levelno > logging.INFO]


def test_rows_that_say_nothing_are_named_with_their_number():
    with pytest.raises(DataError, match=r"rows.jsonl:1: maths: .*no column 'answer'.*solution.*so 20 of 20 rows"):
        tried([{"solution": "3"}] * 20)


def test_few_rows_that_say_nothing_are_told(caplog):
    tried([*GOOD, {"answer": "see above"}], max_error_fraction=0.05)
    assert "rows.jsonl:21: maths: the row's answer is 'see above'" in caplog.text
    with pytest.raises(DataError, match=r"rows.jsonl:21: .* 1 of 21 rows"):
        tried([*GOOD, {"answer": "see above"}], max_error_fraction=0.0)


def test_a_verifier_that_calls_one_own_answer_wrong_is_refused(replaced):
    replaced(lambda rollout: Verified(float("7" not in rollout.text), "I dislike sevens"))
    with pytest.raises(DataError, match=r"rows.jsonl:8: maths calls the row's own answer wrong \(I dislike.*2 of 20"):
        tried(GOOD)


def test_a_verifier_that_calls_everything_right_is_refused(replaced):
    replaced(lambda rollout: Verified(1.0, "good"))
    with pytest.raises(DataError, match=r"calls the answer of rows.jsonl:2 right here too, and so in all of 19"):
        tried(GOOD)


@pytest.mark.parametrize(
    ("verifier", "answers"),
    [
        ("gsm8k", ["4", "4.0", "2 + 2.\n#### 4", "8/2", "$4"]),
        ("text", ["yes", "Yes", "YES.", "yes!", "yEs"]),
        ("choice", ["B", "②", "(나)", "2번", "b"]),
    ],
)
def test_rows_that_all_have_one_answer_say_nothing_about_the_verifier(verifier, answers, caplog):
    with caplog.at_level("INFO", logger="baro"):
        tried([{"answer": one} for one in answers * 3], verifier)
    assert [one.getMessage() for one in caplog.records] == ["maths: calls the answers of its own data right (15 rows)"]


def test_rows_without_an_answer_are_not_counted_as_right_nor_taken_from_those_that_are(caplog):
    with caplog.at_level("INFO", logger="baro"):
        tried([*GOOD, {"solution": "3"}], max_error_fraction=0.1)
    assert caplog.records[-1].getMessage() == "maths: calls the answers of its own data right (20 rows)"


def breaks(rollout):
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (lambda rollout: Verified(0.0, "never"), "own answer wrong .never."),
        (lambda rollout: Verified(1.0, "always"), "tells right from wrong in none"),
        (lambda rollout: Verified(None, error="no server"), "no server"),
        (breaks, "raised KeyError: 'lost'"),
        (lambda rollout: Verified(float("nan")), "finite"),
    ],
    ids=["always 0", "always 1", "fails", "raises", "nan"],
)
@pytest.mark.parametrize("verb", ["grpo", "ppo", "evaluate"])
def test_a_broken_verifier_stops_the_run_with_a_sentence(verb, look, said, policy, tmp_path, replaced, monkeypatch):  # noqa: F811
    """Broken on purpose, in every way: no run goes on with scores that mean nothing."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {i} and 1?", "answer": f"#### {i + 1}"} for i in range(8)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replaced(look)
    if verb == "evaluate":
        values = {"policies": [str(policy)], "prompts": "sums.jsonl", "rewards": {"right": {"verifier": "gsm8k"}}}
        stage, config_class = evaluate, evaluation.Config
    else:
        stage = {"grpo": grpo, "ppo": ppo}[verb]
        config_class = stage.Config
        rollout = {"prompts": 4, "completions": 2, "minibatches": 1}
        values = {"policy": str(policy), "prompts": "sums.jsonl", "rewards": [{"verifier": "gsm8k"}]}
        values |= {"rollout": rollout, "trainer": {"steps": 1}}
    values["sampling"] = {"max_new_tokens": 4}
    with pytest.raises(DataError, match=f"sums.jsonl:[0-9].*{said}"):
        stage.run(load_config(config_class, None, values=values), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
