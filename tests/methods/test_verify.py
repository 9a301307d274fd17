"""``baro verify``: a line for each completion, what is refused, what is told, and how often a verifier is wrong."""

import gc
import json
import random
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baro import cli
from baro.rewards import verifiers
from baro.rewards.verified import Verified

ROWS = [
    {"id": "a", "question": "1+1?", "completion": "#### 2", "answer": "2", "is_correct": True},
    {"id": "b", "question": "1+2?", "completion": "#### 4", "answer": "3", "is_correct": False},
    {"question": "1+3?", "completion": "It is 4", "answer": "4", "is_correct": True},
    {"id": 7, "question": "1+4?", "completion": "", "answer": "So.\n#### 5", "is_correct": False},
]


@pytest.fixture
def verify(tmp_path, monkeypatch):
    """Write rows, run the command on them, and give exit code, lines, stderr, and what is wrong in one sentence."""
    monkeypatch.chdir(tmp_path)

    def run(rows, *words, name="rows.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        monkeypatch.setattr(sys, "argv", ["baro"])
        done = CliRunner().invoke(cli.app, ["verify", name, *words])
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return done, lines

    return run


def test_a_line_for_each_row_in_the_order_of_the_file(verify, tmp_path):
    done, lines = verify(ROWS, "--verifier", "gsm8k")
    assert [line.pop("seconds") >= 0 for line in lines] == [True] * 4
    assert lines == [
        {"row": "rows.jsonl:1", "id": "a", "score": 1.0, "reason": "2 is right"},
        {"row": "rows.jsonl:2", "id": "b", "score": 0.0, "reason": "4, right is 3"},
        {"row": "rows.jsonl:3", "score": 0.0, "reason": "there is no ####"},
        {"row": "rows.jsonl:4", "id": 7, "score": 0.0, "reason": "there is no ####"},
    ]
    directory = tmp_path / done.stderr.splitlines()[-1]
    assert json.loads((directory / "run.json").read_text())["status"] == "finished"
    assert [json.loads(line)["row"] for line in (directory / "verified.jsonl").read_text().splitlines()] == [
        line["row"] for line in lines
    ]


def test_the_same_command_says_the_same_again(verify):
    first, again = verify(ROWS, "--verifier", "gsm8k"), verify(ROWS, "--verifier", "gsm8k")
    assert first[1] == again[1]
    assert "finished already" in again[0].stderr


def test_options_beside_the_name(verify):
    _, lines = verify(ROWS, "--verifier", "gsm8k", "--set", "verifier.method=flexible")
    assert [line["score"] for line in lines] == [1, 0, 1, 0]


def test_an_audit_counts_both_ways_of_being_wrong(verify, caplog):
    done, lines = verify(ROWS, "--verifier", "gsm8k", "--audit", "--json")
    (result,) = lines
    figures = {one["name"]: (one["value"], one["n"]) for one in result["figures"]}
    assert figures == {
        "errors": (0.0, 4), "accepted": (0.25, 4), "false_positives": (0.0, 2), "false_negatives": (0.5, 2),
    }  # fmt: skip
    assert all(one["low"] <= one["value"] <= one["high"] for one in result["figures"])
    assert "rows.jsonl:3: is known to be right, and the score is 0: there is no ####" in done.stderr
    assert "1 of 4 completions differ from what is known of them" in done.stderr


@pytest.mark.parametrize("column", ["known", "is_correct", "label"])
@pytest.mark.parametrize(("right", "wrong"), [(True, False), (1, 0), ("true", "false"), ("1", "0")])
def test_columns_that_know(verify, column, right, wrong):
    rows = [{"prompt": "p", "completion": f"#### {i}", "answer": 1, column: right if i == 1 else wrong} for i in (1, 2)]
    _, lines = verify(rows, "--verifier", "gsm8k", "--audit")
    assert [line["known"] for line in lines] == [True, False]


def test_answers_of_a_run_have_a_line_each(verify):
    rows = [{"prompt": "p", "responses": ["#### 1", "#### 2"], "finished": [True, True], "answer": 2}]
    _, lines = verify(rows, "--verifier", "gsm8k")
    assert [(line["row"], line["completion"], line["score"]) for line in lines] == [
        ("rows.jsonl:1", 1, 0.0), ("rows.jsonl:1", 2, 1.0),
    ]  # fmt: skip


def test_rows_without_completions_have_their_own_answers_looked_at(verify):
    done, lines = verify([{"question": "1+1?", "answer": "It is 2.\n#### 2"}] * 3, "--verifier", "gsm8k")
    assert [line["score"] for line in lines] == [1, 1, 1]
    assert "tells none from another" not in done.stderr


@pytest.mark.parametrize(
    ("rows", "words", "sentence"),
    [
        (ROWS, [], "the key 'verifier' is missing"),
        (ROWS, ["--verifier", "gsm"], "did you mean 'gsm8k'?"),
        (ROWS, ["--verifier", "format"], "'verifier.pattern' is missing"),
        (ROWS, ["--verifier", "gsm8k", "--set", "verifier.answer=gold"], "rows.jsonl:1: gsm8k: .*no column 'gold'"),
        ([{**ROWS[0], "is_correct": "maybe"}], ["--verifier", "gsm8k", "--audit"], "rows.jsonl:1: column 'is_correct'"),
        ([{"prompt": "p", "completion": "3", "answer": 3}], ["--verifier", "gsm8k", "--audit"], "no row has a verdict"),
        ([{"prompt": "p", "completion": "3", "score": 0.5}], ["--verifier", "gsm8k"], "other judgments than right or"),
        ([{"prompt": "p", "chosen": "3", "rejected": "4"}], ["--verifier", "gsm8k"], "other judgments than right or"),
        ([{"prompt": "p", "completion": "3"}], ["--verifier", "gsm8k", "--file", "x"], "file is given twice"),
    ],
)
def test_what_is_refused(verify, rows, words, sentence):
    done, lines = verify(rows, *words)
    assert (lines, done.exit_code) == ([], 1)
    assert done.exception.exit_code == 2
    assert re.search(sentence, str(done.exception))


def test_too_many_errors_are_told_when_all_lines_are_written(verify, monkeypatch):
    """Of a verifier that breaks at what is not its own answer: every line is there, with its error."""

    def look(self, rollout):
        return Verified(1.0, "") if rollout.text == "#### 2" else 1 / 0

    monkeypatch.setattr(verifiers.Gsm8kVerifier, "look", look)
    rows = [{"id": i, "question": f"{i}?", "completion": f"It is {i}", "answer": "2"} for i in range(9)]
    done, lines = verify(rows, "--verifier", "gsm8k")
    assert [line["id"] for line in lines] == list(range(9))
    assert all("score" not in line and "ZeroDivisionError" in line["error"] for line in lines)
    assert done.exception.exit_code == 1
    assert "9 of 9 completions failed" in str(done.exception)


@pytest.mark.parametrize("text", ["#### 5", "It is 5"])
def test_one_score_for_everything_is_told(verify, text):
    done, _ = verify(
        [{"question": f"{i}?", "completion": text, "answer": "5"} for i in range(9)], "--verifier", "gsm8k"
    )
    assert "every one of 9 completions that have a score has" in done.stderr


def test_what_was_killed_begins_again(verify, monkeypatch):
    """Its rows so far are written anew, each once."""
    look, calls = verifiers.Gsm8kVerifier.look, iter(range(10**6))

    def killed(self, rollout):
        if next(calls) > 350:  # the rows' own answers are looked at first, and crossed
            raise KeyboardInterrupt
        return look(self, rollout)

    rows = [{"id": i, "question": f"{i}?", "completion": f"#### {i}", "answer": i} for i in range(150)]
    with monkeypatch.context() as patch:
        patch.setattr(verifiers.Gsm8kVerifier, "look", killed)
        some = verify(rows, "--verifier", "gsm8k")[1]
    gc.collect()  # the run that was killed lets go of its directory
    done, lines = verify(rows, "--verifier", "gsm8k")
    assert 0 < len(some) < 150
    assert [line["id"] for line in lines] == list(range(150))
    written = (Path(done.stderr.splitlines()[-1]) / "verified.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in written] == list(range(150))


# ------------------------------------------------------------------------------------------------------------- audit


def solutions(count: int, seed: int) -> list[dict]:
    """Worked sums, written in many ways, half of them with a wrong result; what is right is known by arithmetic.

    The wrong ones are those that a careless reader takes for right: the result stands elsewhere in the text, a digit or
    the sign is off, a unit makes it another number, two answers are given.
    """
    draw = random.Random(seed)
    write = [
        str, lambda n: f"{n:,}", lambda n: f"${n:,}.00", lambda n: f"{n}.0", lambda n: f"**{n}**", lambda n: f"{n}개",
        lambda n: f"{n} dollars", lambda n: f"{2 * n}/2", lambda n: f"₩{n:,}", lambda n: f"{n}%",
        lambda n: f"{n}원입니다.",
        lambda n: str(n).replace("-", "−"), lambda n: "".join(chr(ord(c) + 0xFEE0) for c in str(n)),
    ]  # fmt: skip
    spoil = [
        lambda n: str(n + draw.choice([1, -1, 10, 100])), lambda n: str(-n) if n else "1", lambda n: f"{n}0",
        lambda n: f"{n}.5", lambda n: f"{n} or {n + 1}", lambda n: f"{n}^2", lambda n: f"{n}만", lambda n: "no number",
        lambda n: f"{n}, no: {n + 1}", lambda n: f"{n}/7",
        lambda n: f"{n} million", lambda n: f"x{n}",
    ]  # fmt: skip
    rows = []
    for i in range(count):
        a, b = draw.randint(-50, 9999), draw.randint(1, 999)
        total, known = a + b, i % 2 == 0
        total = total or 17
        said = draw.choice(write)(total) if known else draw.choice(spoil)(total)
        text = f"First {a}, then {b} more, which may be {total}.\n#### {said}"
        rows.append({"id": i, "question": f"{a} and {b}?", "completion": text, "answer": f"{total}", "known": known})
    return rows


def test_the_audit_of_generated_solutions(verify, tmp_path):
    """2,400 of them: the strict reader is wrong about none, which leaves at most 0.32% each way at 95%."""
    _, (result,) = verify(solutions(2400, seed=1), "--verifier", "gsm8k", "--audit", "--json")
    figures = {one["name"]: one for one in result["figures"]}
    for name in ("false_positives", "false_negatives"):
        assert (figures[name]["value"], figures[name]["n"]) == (0.0, 1200), name
        assert figures[name]["high"] == pytest.approx(0.0032, abs=1e-4)
    assert figures["errors"]["value"] == 0


def test_the_last_number_is_taken_from_before_where_the_end_has_none(verify):
    """What the flexible reader is worse at: a result in the working counts where what ends the text is no number."""
    rows = solutions(2400, seed=1)
    _, lines = verify(rows, "--verifier", "gsm8k", "--set", "verifier.method=flexible", "--audit")
    accepted = [row["completion"] for row, line in zip(rows, lines, strict=True) if line["score"] > line["known"]]
    assert 0.1 < len(accepted) / 1200 < 0.2
    assert all(re.search(r"#### (no number|x-?\d+)$", text) for text in accepted)
    assert not [line for line in lines if line["score"] < line["known"]]


def chosen(count: int, seed: int) -> list[dict]:
    """Answers to questions with five choices, half of them right; wrong ones name another, two, all, or none."""
    draw = random.Random(seed)
    forms = ["ABCDE", "①②③④⑤", "가나다라마", [f"{i}번" for i in range(1, 6)]]
    say = [
        "The answer is {}.", "Answer: {}", "**Answer:** {}", "정답: {}", "정답은 {}입니다.", "{}", "({})",
        "So \\boxed{{{}}}.",
        "I thought of {other}. The answer is ({}).", "답은 {}", "The answer is {other}? No: the answer is {}.",
        "A dog and a cat.\nFinal answer: {}", "The correct choice is {}, since {other} is too small.",
    ]  # fmt: skip
    spoil = [
        "The answer is {} or {other}.", "정답: {} 또는 {other}", "\\boxed{{{}, {other}}}", "I do not know, {} perhaps.",
        "The answer is {other}. It is not {}.", "Answer: {other}", "{other}", "정답은 {other}입니다.", "",
        "{}? {other}? Who knows.", "The answer is not {}.", "The answer is {}/{other}", "답은 {}, {other}",
    ]  # fmt: skip
    rows = []
    for i in range(count):
        form, known = draw.choice(forms), i % 2 == 0
        right, other = draw.sample(range(5), 2)
        text = draw.choice(say if known else spoil).format(form[right], other=form[other])
        gold = draw.choice(forms)[right]
        rows.append({"id": i, "question": "Which?", "completion": text, "answer": gold, "known": known})
    return rows


def test_the_audit_of_generated_choices(verify):
    rows = chosen(2400, seed=2)
    _, lines = verify(rows, "--verifier", "choice", "--audit")
    wrong = [row for row, line in zip(rows, lines, strict=True) if line["score"] != line["known"]]
    assert [row["completion"] for row in wrong] == []
    assert len(lines) == 2400
