"""Verifiers: what is read as right, what as wrong, and what is an error and no score."""

import time

import pytest

from baro.config import load_config
from baro.errors import ConfigError, RewardError
from baro.grpo_config import Config as GrpoConfig
from baro.records import Message, Rollout, Score, said
from baro.reward_config import RewardTerm
from baro.rewards.verified import Verified
from baro.rewards.verifiers import VerifierReward, load_verifier
from baro.verifier_config import VERIFIERS

LEAST = {"policy": "-", "prompts": "-"}


def made(told):
    """The reward of a verifier's block, as a config of GRPO has it."""
    term = load_config(GrpoConfig, None, values=LEAST | {"rewards": [{"verifier": told}]}).terms[0]
    return load_verifier(term.verifier, name=term.called)


def looked(told, text, **row):
    prompt = (Message("user", "How many?"),)
    return made(told).check([Rollout(prompt, said(text), extra=row)])[0]


FLEXIBLE = {"name": "gsm8k", "method": "flexible"}


@pytest.mark.parametrize(
    "written",
    [
        "18", "18.0", "18.000", "$18", "$18.00", "\\$18", "18%", "18 dollars", "₩18", "18원", "18개입니다.", "１８",
        "정답은 18이다", "**18**", "36/2", "\\frac{36}{2}", "1.8e1", "0.18 × 10^2", "+18", "018", "USD18",
    ],
)  # fmt: skip
@pytest.mark.parametrize("gold", ["18", "18.0", "18.00", 18, 18.0, "$18", "Half of 36.\n#### 18", "36/2"])
def test_a_number_counts_by_its_value(written, gold):
    assert looked(FLEXIBLE, f"So it is {written}", answer=gold).score == 1
    if written != "정답은 18이다":
        assert looked("gsm8k", f"36 / 2\n#### {written}", answer=gold).score == 1


@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("1,234", "1234"), ("1,234,567.50", "1234567.5"), ("1{,}234", "1,234"), ("-5", "-5"), ("−5", "-5"),
        ("-$5", "-5"), ("$-5", "-5"), ("–5", "-5"), ("½", "0.5"), ("2½", "5/2"), ("1 1/2", "1.5"),
        ("-1 1/2", "-1.5"), (".5", "1/2"), ("2 million", "2,000,000"), ("18만 5천 원", "185000"), ("3억", "300000000"),
        ("5천만", "50000000"), ("0", "-0"), ("2 × 10⁶", "2000000"), ("x = -7", "-7"),
    ],
)  # fmt: skip
def test_spellings_of_one_number(written, gold):
    assert looked(FLEXIBLE, f"It is {written}", answer=gold).score == 1


@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("19", "18"), ("-18", "18"), ("18.01", "18"), ("1,8", "18"), ("1.8", "18"), ("180", "18"), ("0.333", "1/3"),
        ("10-5", "-5"), ("10^6", "6"), ("5²", "52"), ("x2", "2"), ("3:30", "30"), ("1.2.3", "3"), ("5만", "5"),
        ("\\frac{3}{4}", "4"), ("1/0", "0"), ("3/4/2020", "2020"), ("5 million", "5"), ("9" * 200, "9"),
        ("1e999999999", "1"), ("1e9999", "1"), ("2 × 10^99999999", "2"), ("0.5", "50%"),
        ("no number", "18"), ("", "18"), ("eighteen", "18"),
    ],
)  # fmt: skip
def test_what_is_another_number_or_none_is_wrong(written, gold):
    found = looked(FLEXIBLE, written, answer=gold)
    assert (found.score, found.error) == (0, None)
    assert found.reason


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("#### 18", 1), ("####18", 1), ("#### 17\n#### 18", 1), ("#### 18\nThat is all.", 1), ("#### - 18", 0),
        ("18", 0), ("#### 17", 0), ("#### 18\n#### 17", 0), ("#### 17 or 18", 0), ("#### 18, 17", 0), ("####", 0),
        ("#### 9*2", 0), ("#### 9*2 = 18", 0), ("#### none\n18", 0), ("", 0),
    ],
)  # fmt: skip
def test_strict_takes_the_one_number_after_the_last_mark(text, score):
    assert looked("gsm8k", text, answer="18").score == score


@pytest.mark.parametrize("row", [{}, {"answer": None}, {"answer": "unknown"}, {"answer": "3 or 4"}, {"answer": True}])
def test_a_row_that_does_not_say_what_is_right_is_an_error_and_no_score(row):
    found = looked("gsm8k", "#### 3", **row)
    assert found.score is None
    assert found.error.startswith("gsm8k: the row")


@pytest.mark.parametrize(
    ("told", "text", "answer", "score"),
    [
        ({"compare": "exact"}, " Seoul\n", "Seoul", 1),
        ({"compare": "exact"}, "seoul", "Seoul", 0),
        ({}, "seoul.", "Seoul", 1),
        ({}, "서울", "서울", 1),
        ({"compare": "exact"}, "서울", "서울", 1),
        ({}, "Ｓｅｏｕｌ  city", "seoul city", 1),
        ({}, "Café", "café", 1),
        ({}, "Seoul", ["Busan", "Seoul"], 1),
        ({}, "The answer is Seoul", "Seoul", 0),
        ({"after": "Answer:"}, "Perhaps. Answer: Busan. Answer: Seoul.", "Seoul", 1),
        ({"after": "Answer:"}, "Seoul", "Seoul", 0),
        ({}, "", "Seoul", 0),
        ({}, "3", 3, 1),
    ],
)
def test_text(told, text, answer, score):
    assert looked({"name": "text", **told}, text, answer=answer).score == score


@pytest.mark.parametrize(
    ("text", "answer", "score"),
    [
        ("B", "B", 1), ("(b)", "B", 1), ("B.", "B", 1), ("②", "B", 1), ("나", "B", 1), ("2번", "②", 1), ("B", "②", 1),
        ("The answer is (B).", "B", 1), ("Answer: B", "(B)", 1), ("정답: ②", "B", 1), ("정답은 2번입니다.", "나", 1),
        ("답은 나입니다", "B", 1), ("so \\boxed{B}", "B", 1), ("(B) because it is", "B", 1), ("B) it is", "B", 1),
        ("The answer is A. No, the answer is B.", "B", 1), ("the answer is **B**", "B", 1),
        ("A dog", "A", 0), ("The answer is A dog? B", "B", 0), ("C", "B", 0), ("", "B", 0), ("A or B", "B", 0),
        ("The answer is A or B", "A", 0), ("정답: ①②", "A", 0), ("\\boxed{A, B}", "A", 0), ("Answer: A/B", "A", 0),
        ("정답은 ① 또는 ②", "A", 0), ("The answer is a dog", "A", 0), ("The answer is a.", "A", 1),
        ("정답은 가 아니라 나", "A", 0), ("정답은 ①이 아니다. 정답은 ②", "B", 1), ("A. x\nB. y\nC. z", "A", 0),
        ("A. x\nB. y\nAnswer: B", "B", 1), ("The answer is not B", "B", 0), ("The answer is A, a fruit.", "A", 1),
        ("The answer is B. A is wrong.", "B", 1), ("① x\n② y", "A", 0), ("B. It is B.", "B", 1),
        ("The answer is Because", "B", 0), ("2.5", "B", 0), ("가나다", "가", 0),
    ],
)  # fmt: skip
def test_choice(text, answer, score):
    assert looked("choice", text, answer=answer).score == score


def test_a_numbered_choice_needs_to_be_told_where_it_begins():
    assert looked({"name": "choice", "count_from": 0}, "B", answer=1).score == 1
    assert looked({"name": "choice", "count_from": 1}, "A", answer="1").score == 1
    assert "set count_from" in looked("choice", "B", answer=1).error
    assert "names none of 4 choices" in looked({"name": "choice", "choices": 4}, "E", answer="E").error


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("gsm", "did you mean 'gsm8k'"),
        ("verity", "the verifiers are "),
        ({"method": "strict"}, "its name is missing"),
        ({"name": "gsm8k", "methd": "strict"}, "did you mean 'rewards.0.verifier.method'"),
        ({"name": "gsm8k", "method": "loose"}, "'strict' or 'flexible'"),
        (["gsm8k"], "a block of its options"),
    ],
)
def test_a_wrong_block_gets_a_sentence(told, reason):
    with pytest.raises(ConfigError, match=r"rewards\.0\.verifier") as error:
        made(told)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("term", "reason"),
    [
        ({}, "either by .* or verifier"),
        ({"by": "m:f", "verifier": "gsm8k"}, "either by .* or verifier"),
        ({"verifier": "gsm8k", "combine": "worst"}, "combine is for several"),
        ({"verifier": "gsm8k", "penalty": 1.0}, "penalty is for several"),
    ],
)
def test_a_term_has_one_source(term, reason):
    with pytest.raises(ValueError, match=reason):
        RewardTerm(**term)


def test_a_term_is_called_by_its_verifier():
    assert RewardTerm(verifier="gsm8k").called == "gsm8k"
    with pytest.raises(ConfigError, match="two rewards are called 'gsm8k'"):
        load_config(GrpoConfig, None, values=LEAST | {"rewards": [{"verifier": "gsm8k"}, {"verifier": FLEXIBLE}]})


class Broken:
    """A verifier that answers what it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def check(self, rollouts):
        return [self.answer() for _ in rollouts]

    def right(self, row):
        return None


@pytest.mark.parametrize(
    "answer",
    [lambda: 1 / 0, lambda: Verified(None), lambda: Verified(float("nan")), lambda: Verified(0.0, error="no server")],
)
def test_what_fails_has_an_error_and_no_number(answer):
    """Never a 0 in its place."""
    found = VerifierReward(Broken(answer), name="broken").score([Rollout((), said("x"))] * 2)
    assert [one.value for one in found] == [None, None]
    assert all(one.error.startswith("broken") for one in found)


def test_a_score_too_few_stops_the_run():
    broken = VerifierReward(Broken(None), name="broken")
    broken.verifier.check = lambda rollouts: []
    with pytest.raises(RewardError, match="0 scores for 1"):
        broken.score([Rollout((), said("x"))])


def test_scores_of_a_verifier_are_those_of_any_reward():
    assert made("gsm8k").score([Rollout((), said("#### 3"), extra={"answer": "3"})]) == [Score(1.0)]


# ------------------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("told", "text", "score"),
    [
        ({"pattern": "<think>.*</think>.+"}, "<think>a\nb</think> 3", 1),
        ({"pattern": "<think>.*</think>.+"}, "\n<think>a</think> 3\n", 1),
        ({"pattern": "<think>.*</think>.+"}, "First <think>a</think> 3", 0),
        ({"pattern": "<think>.*</think>", "where": "anywhere"}, "First <think>a</think> 3", 1),
        ({"pattern": "가+"}, "가가", 1),
        ({"pattern": ""}, "", 1),
    ],
)
def test_format(told, text, score):
    assert looked({"name": "format", **told}, text).score == score


def test_a_pattern_that_takes_too_long_is_an_error_and_no_score():
    slow = {"name": "format", "pattern": "(a|aa)+", "deadline_seconds": 0.05}
    started = time.monotonic()
    found = looked(slow, "a" * 60 + "b")
    assert found.score is None
    assert found.error == "format: the pattern took longer than 0.05 seconds"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("schema", "text", "score"),
    [
        (None, '{"a": 1}', 1), (None, "a", 0), (None, '```json\n{"a": 1}\n```', 0), (None, "[" * 100_000, 0),
        ({"required": ["a"]}, '{"a": 1}', 1), ({"required": ["a"]}, '{"b": 1}', 0), (None, "9" * 10_000, 0),
        ({"items": True}, "[" * 900 + "]" * 900, 1), ({"const": []}, "[" * 900 + "]" * 900, 0),
    ],
)  # fmt: skip
def test_json(schema, text, score):
    assert looked({"name": "json", "json_schema": schema}, text).score == score


@pytest.mark.parametrize(
    ("told", "text", "score"),
    [
        ({"at_most": 2, "unit": "words"}, "one two", 1),
        ({"at_most": 2, "unit": "words"}, "one two three", 0),
        ({"at_least": 2, "unit": "words"}, "one", 0),
        ({"at_least": 1, "at_most": 3, "unit": "characters"}, "가나다", 1),
        ({"at_most": 3, "unit": "tokens"}, "one two three four", 1),
        ({"at_most": 2, "unit": "tokens"}, "one", 0),
    ],
)
def test_length(told, text, score):
    rollout = Rollout((), said(text), completion_ids=(5, 6, 7))
    assert made({"name": "length", **told}).check([rollout])[0].score == score


@pytest.mark.parametrize(
    ("told", "text", "score"),
    [
        ({}, "a b c a b c", 3 / 4),
        ({}, "a b", 1),
        ({}, "", 1),
        ({"n": 1}, "a a a a", 1 / 4),
        ({"n": 2, "unit": "characters"}, "aaaa", 1 / 3),
        ({"n": 2, "unit": "tokens"}, "x", 1 / 2),
    ],
)
def test_repetition(told, text, score):
    rollout = Rollout((), said(text), completion_ids=(5, 5, 5))
    assert made({"name": "repetition", **told}).check([rollout])[0].score == pytest.approx(score)


@pytest.mark.parametrize("told", [{"name": "length", "at_most": 3}, {"name": "repetition", "unit": "tokens"}])
def test_tokens_that_are_not_known_are_an_error(told):
    assert looked(told, "some text").error.endswith("set unit: words or characters")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("format", "pattern' is missing"),
        ({"name": "format", "pattern": "(a"}, "no regular expression"),
        ({"name": "format", "pattern": "a", "deadline_seconds": 0}, "greater than 0"),
        ("length", "every length fits"),
        ({"name": "length", "at_least": 3, "at_most": 2}, "no length"),
        ({"name": "length", "at_most": -1}, "at least 0"),
        ({"name": "json", "json_schema": {"pattern": "a"}}, "not checked here"),
        ({"name": "repetition", "n": 0}, "at least 1"),
        ({"name": "choice", "choices": 9}, "at most 5"),
        ({"name": "text", "comparison": "exact"}, "unknown key"),
    ],
)
def test_wrong_options_get_a_sentence(told, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        made(told)
    assert "rewards.0" in str(error.value)
    assert "\n" not in str(error.value)


ASSERTS = {"test_list": ["assert double(2) == 4"]}
BUSY = "import time\nwhile time.process_time() < 1.3: pass\ndef double(x): return 2 * x"
OPTIONS = {
    ("gsm8k", "answer"): ({}, "gold", {"answer": 3, "gold": 4}, "#### 3"),
    ("gsm8k", "method"): ({}, "flexible", {"answer": 3}, "3"),
    ("text", "answer"): ({}, "gold", {"answer": "a", "gold": "b"}, "a"),
    ("text", "after"): ({}, "So:", {"answer": "a"}, "So: a"),
    ("text", "compare"): ({}, "exact", {"answer": "A"}, "a"),
    ("choice", "answer"): ({}, "gold", {"answer": "A", "gold": "B"}, "A"),
    ("choice", "count_from"): ({"count_from": 0}, 1, {"answer": 1}, "B"),
    ("choice", "choices"): ({}, 2, {"answer": "C"}, "C"),
    ("format", "pattern"): ({"pattern": "a"}, "b", {}, "a"),
    ("format", "where"): ({"pattern": "a"}, "anywhere", {}, "ba"),
    ("format", "deadline_seconds"): ({"pattern": "(a|aa)+"}, 1e-6, {}, "a" * 22 + "b"),
    ("json", "json_schema"): ({}, {"type": "object"}, {}, "1"),
    ("length", "at_least"): ({"at_least": 1, "unit": "words"}, 2, {}, "a"),
    ("length", "at_most"): ({"at_most": 1, "unit": "words"}, 0, {}, "a"),
    ("length", "unit"): ({"at_most": 1, "unit": "words"}, "characters", {}, "ab"),
    ("repetition", "n"): ({}, 2, {}, "a b a b"),
    ("repetition", "unit"): ({}, "characters", {}, "a a a b"),
    ("code", "cpu_seconds"): ({}, 1, ASSERTS, BUSY),
    ("code", "deadline_seconds"): ({}, 1.0, ASSERTS, "import time\ntime.sleep(1.2)\ndef double(x): return 2 * x"),
    ("code", "memory_mb"): ({}, 128, ASSERTS, "x = bytearray(200 << 20)\ndef double(x): return 2 * x"),
    ("code", "unsafe_local"): (
        {},
        True,
        ASSERTS,
        "import os\ndouble = lambda x: 2 * x * os.path.exists('/etc/passwd')",
    ),
    ("math", "answer"): ({}, "gold", {"answer": "1", "gold": "2"}, "\\boxed{2}"),
    ("math", "deadline_seconds"): ({}, 1e-3, {"answer": "1"}, "\\boxed{1}"),
}
"""By verifier and option: what is set besides, another value, a row, and a completion that it is another thing for."""


ELSEWHERE = [("math", "unsafe_local")]  # test_math.py: what changes is where it runs
KEYS = [(one.model_fields["name"].default, field) for one in VERIFIERS for field in one.model_fields if field != "name"]


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ELSEWHERE], ids=".".join)
def test_every_option_of_every_verifier_changes_what_it_finds(key, request):
    name, option = key
    if name in ("code", "math"):
        request.getfixturevalue("sandbox_holds")
    beside, value, row, text = OPTIONS[name, option]
    one, other = ({"name": name, **beside, **changed} for changed in ({}, {option: value}))
    assert looked(one, text, **row) != looked(other, text, **row)


LONG = 50_000
HOSTILE = {
    "digits": "9" * LONG, "commas": "1," * LONG, "fractions": "1/" * LONG, "powers": "1^" * LONG, "dots": ".1" * LONG,
    "minuses": "-" * LONG, "currency": "$-" * LONG, "blanks": "A" + " " * LONG + "x", "marks": "####" * LONG,
    "lines": "#### 1\n" * LONG, "answers": "the answer is " * LONG, "brackets": "[" * LONG, "objects": '{"a":' * LONG,
    "stars": "*" * LONG, "units": "1만 " * LONG, "frac": "\\frac{1}{" * LONG, "braces": "^{1" * LONG,
    "half": "½" * LONG, "raised": "⁹" * LONG,
    "exponent": "1e" + "9" * LONG, "boxed": "\\boxed{" * LONG, "parts": "1 1/2 " * LONG,
    "combining": "e" + "\u0301" * LONG, "quotes": '"' * LONG, "jamo": "\u1100" * LONG, "nothing": "\0" * LONG,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "told",
    [
        "gsm8k", FLEXIBLE, "text", "choice", "json", {"name": "repetition", "unit": "characters"}, "repetition",
        {"name": "length", "at_most": 3, "unit": "words"}, {"name": "json", "json_schema": {"uniqueItems": True}},
    ],
)  # fmt: skip
def test_no_completion_takes_long_or_breaks_what_reads_it(told, name):
    """Of some hundred thousand characters, more than any completion has: each is looked at, and none is right."""
    started = time.perf_counter()
    found = looked(told, HOSTILE[name], answer="B" if told == "choice" else "18")
    assert time.perf_counter() - started < 2
    assert found.error is None
    assert found.score == 0 or told not in ("gsm8k", FLEXIBLE, "text", "choice", "json")


@pytest.mark.parametrize("before", [0, 10, 2990, 2999, 3000, 3500, 3999, 4000, 4001, 40_000])
@pytest.mark.parametrize(("written", "value"), [("18만 5천 3", 185_003), ("1 1/2", 1.5), ("$-1,234.50", -1234.5)])
def test_the_last_number_is_whole_wherever_a_long_text_is_cut(before, written, value):
    for text in ("7 " * 3000 + written + "." * before, "y " * before + written, "7 " * 3000 + written + " " * before):
        assert looked(FLEXIBLE, text, answer=value).score == 1
