"""The math verifier: what math-verify finds equal, and where Baro differs from it."""

import pytest

from baro.errors import ConfigError
from baro.records import Rollout, said
from baro.rewards import math as verifier
from baro.rewards.verifiers import load_verifier
from baro.verifier_config import Math


def looked(pairs, **options):
    reward = load_verifier(Math(**options), name="math")
    return reward.check([Rollout((), said(text), extra={"answer": gold}) for gold, text in pairs])


RIGHT = [
    ("18", r"So it is $\boxed{18}$."), ("18", "It is 18."), (18, r"\boxed{18.0}"), ("1/2", r"\boxed{\frac{1}{2}}"),
    (r"\frac{1}{2}", "$0.5$"), ("18", r"\boxed{x=18}"), ("18", r"\boxed{2\cdot 9=18}"), ("18", r"\boxed{f(2)=18}"),
    (r"2\sqrt{2}", r"\boxed{\sqrt{8}}"), (r"\{1,2\}", r"\boxed{\{2,1\}}"), ("(0,1]", r"\boxed{(0,1]}"),
    (r"The sum is \boxed{18}.", r"\boxed{18}"), ("x^2+2x+1", r"\boxed{(x+1)^2}"), ("x=5", r"\boxed{5}"),
    ("18", r"\boxed{17+1=18}"),
]  # fmt: skip
WRONG = [
    ("18", r"\boxed{17}"), ("18", "I do not know."), ("18", ""), ("18", r"\boxed{17=18}"), ("18", r"\boxed{5=18}"),
    ("18", "$17=18$"), ("18", r"\boxed{x=17=18}"), ("18", r"\boxed{17=17+1=18}"), ("18", r"\boxed{17\equiv 18}"),
    ("18", r"\boxed{(17=18)}"), ("18", r"\boxed{17<18}"), ("18", r"\boxed{18 \text{ or } 17}"),
    ("1/3", r"\boxed{0.33}"), ("18", r"\boxed{17,18}"), ("18", r"\boxed{\frac{35}{2}=18}"),
]  # fmt: skip


def test_what_is_equal_and_what_is_not(sandbox_holds):
    found = looked([*RIGHT, *WRONG])
    scores = [(pair, one.score) for pair, one in zip([*RIGHT, *WRONG], found, strict=True)]
    assert scores == [*((pair, 1.0) for pair in RIGHT), *((pair, 0.0) for pair in WRONG)]
    by_reason = {pair: one.reason for pair, one in zip([*RIGHT, *WRONG], found, strict=True)}
    assert by_reason["18", r"\boxed{17=18}"] == "17=18: 17 is not 18"


def test_equal_answers_are_read_alike(sandbox_holds):
    """So that they vote together; a false equation has a vote of its own."""
    alike = [r"\boxed{\frac{1}{2}}", "It is 0.5.", r"\boxed{x=1/2}", r"\boxed{\frac{2}{4}}"]
    assert {one.read for one in looked([("1", text) for text in alike])} == {"1/2"}
    other = looked([("18", r"\boxed{17=18}"), ("18", "18"), ("18", "I do not know.")])
    assert [one.read for one in other] == ["17=18", "18", None]


@pytest.mark.parametrize(
    "text", [r"\boxed{99999999!}", r"\boxed{9^{9^{9^9}}}", r"\boxed{" + "(" * 400 + "1" + ")" * 400 + "}"]
)
def test_what_takes_too_long_is_an_error_and_no_score(sandbox_holds, text):
    (found,) = looked([("18", text)], deadline_seconds=1.0)
    assert found.score is None
    assert found.error == "math: more than 1 seconds" or "its 1 s of CPU time or its memory were used up" in found.error


def test_a_row_whose_answer_says_nothing_is_an_error(sandbox_holds):
    unread, missing = looked([("???", r"\boxed{1}"), (None, r"\boxed{1}")])
    assert unread.error == "math: math-verify reads nothing in the row's answer '???'"
    assert "no column 'answer'" in missing.error


def test_what_a_row_says_is_right(sandbox_holds):
    made = load_verifier(Math(), name="math").verifier
    assert [made.right({"answer": one}) for one in ("18", r"\boxed{3}", None)] == [r"\boxed{18}", r"\boxed{3}", None]


def test_it_runs_without_bubblewrap_where_that_is_asked_for():
    found = looked([("18", r"\boxed{36/2}"), ("18", r"\boxed{17=18}")], unsafe_local=True)
    assert [one.score for one in found] == [1.0, 0.0]


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(verifier, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'baro\[math\]'"):
        load_verifier(Math(), name="math")
