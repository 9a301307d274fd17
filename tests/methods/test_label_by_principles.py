"""Answers compared by a constitution: log-probs of two options, both orders, clamped; verdicts where there are none."""

import json
import math
from collections import Counter

import pytest
from methods.chatting import Written
from pydantic import ValidationError

from baro.data.formats import read_records
from baro.errors import RewardError
from baro.functional.options import p_first_option, p_of_verdicts, verdict_in
from baro.judge_config import JudgingConfig
from baro.methods import label
from baro.records import Preference, Thumb

CONSTITUTION = """
language: en
principles:
  - {name: kind, principle: {en: Be kind.}}
  - {name: brief, principle: {en: Be brief.}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONSTITUTION)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def labelled(monkeypatch, folder):
    """Run ``label`` on groups of answers, by a model written here; the run, and the model."""
    number = iter(range(100))

    def run(groups, model, out=None, **changes):
        rows = groups if isinstance(groups[0], dict) else [
            {"prompt": f"q{i}", "responses": list(group)} for i, group in enumerate(groups)
        ]  # fmt: skip
        (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr(label, "load_chat_model", lambda config, *, compute, run: model)
        values = {"answers": "answers.jsonl", "constitution": "mine.yaml", "labeller": {"model": "model"}} | changes
        return label.run(label.Config(**values), out or f"out-{next(number)}")

    return run


def sides(question):
    """The texts at (A) and (B)."""
    first = question.split("\n\n(A) ")[1].split("\n\n(B) ")[0]
    return first, question.split("\n\n(B) ")[1].split("\n\n")[0]


def by_length(lean=0.0, scale=1.0):
    """log p of the options: the longer text is likelier by its length, and what is at (A) by ``lean``."""

    def scores(question):
        first, second = sides(question)
        gap = scale * (len(first) - len(second)) + lean
        return -math.log1p(math.exp(-gap)), -math.log1p(math.exp(gap))

    return scores


def figures(run):
    return {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}


def comparisons(run):
    return [json.loads(line) for line in (run.path / "judgments.jsonl").read_text().splitlines()]


def test_the_softmax_of_two_options_and_the_clamp():
    assert [p_of_verdicts(one) for one in ([0], [1, 1], [0, 0, 1])] == pytest.approx([2 / 3, 1 / 4, 3 / 5])
    with pytest.raises(ValueError, match="no verdict was drawn"):
        p_of_verdicts([])
    assert p_first_option((-1.2, -2.0)) == pytest.approx(0.689974, abs=1e-6)
    assert p_first_option((-2.0, -1.2)) == pytest.approx(1 - 0.689974, abs=1e-6)
    assert (p_first_option((0.0, -1e9)), p_first_option((-1e9, 0.0))) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("judging", "p"),
    [
        ({}, 0.689974),
        ({"clamp": [0.4, 0.6]}, 0.6),
        ({"clamp": [0.2, 0.8]}, 0.689974),
        ({"reasoning": True}, 0.6),  # unless a clamp is given
        ({"reasoning": True, "clamp": [0.0, 1.0]}, 0.689974),
    ],
)
def test_the_label_is_the_clamped_mean_of_both_orders(labelled, judging, p):
    def scores(question):
        return (-1.2, -2.0) if sides(question)[0] == "good" else (-2.0, -1.2)

    run = labelled([["bad", "good"]], Written(scores=scores), judging=judging)
    (record,) = read_records(run.records, Preference).records
    assert (record.chosen[0].content, record.rejected[0].content) == ("good", "bad")
    assert record.p_chosen == pytest.approx(p, abs=1e-6)


def test_both_orders_are_asked_by_one_principle_and_averaged(labelled):
    model = Written(scores=by_length(lean=2.0))
    run = labelled([["aa", "b"], ["c", "dddd"]], model)
    assert len(model.questions) == 4
    for one, other in zip(model.questions[::2], model.questions[1::2], strict=True):
        assert sides(one[-1].content) == sides(other[-1].content)[::-1]
        assert (
            one[-1].content.split("Which answer fits this better? ")[1].split("\n")[0]
            == (other[-1].content.split("Which answer fits this better? ")[1].split("\n")[0])
        )

    def sigma(x):
        return 1 / (1 + math.exp(-x))

    first, second = read_records(run.records, Preference).records
    assert first.p_chosen == pytest.approx((sigma(1 + 2) + 1 - sigma(-1 + 2)) / 2)
    assert second.p_chosen == pytest.approx((sigma(3 + 2) + 1 - sigma(-3 + 2)) / 2)
    for row, record in zip(comparisons(run), (first, second), strict=True):
        assert max(row["p_first"], 1 - row["p_first"]) == pytest.approx(record.p_chosen)
        assert row["principle"] in ("kind", "brief")
        assert row["p_left"][0] != row["p_left"][1]


def test_principles_are_drawn_for_each_comparison(labelled):
    groups = [[f"answer {i}", f"other {i} and more"] for i in range(40)]
    run = labelled(groups, Written(scores=by_length()))
    drawn = [row["principle"] for row in comparisons(run)]
    assert 10 < Counter(drawn)["kind"] < 30
    assert drawn == [row["principle"] for row in comparisons(labelled(groups, Written(scores=by_length())))]
    assert drawn != [row["principle"] for row in comparisons(labelled(groups, Written(scores=by_length()), seed=1))]


def test_order_bias_before_and_after_the_mean(labelled):
    groups = [[f"{'x' * (1 + i % 3)}{i % 10}", f"{'x' * (1 + (i + 1) % 3)}{i % 10}"] for i in range(60)]
    biased = figures(labelled(groups, Written(scores=by_length(lean=30.0, scale=0.5))))
    assert biased["left_preferred/one_order"]["value"] == 1.0
    assert biased["left_preferred/one_order"]["low"] > 0.9
    assert biased["left_preferred"]["low"] < 0.5 < biased["left_preferred"]["high"]
    assert biased["same_position"]["value"] == 1.0
    fair = figures(labelled(groups, Written(scores=by_length())))
    assert fair["same_position"]["value"] == 0.0
    assert fair["left_preferred/one_order"]["low"] < 0.5 < fair["left_preferred/one_order"]["high"]
    assert fair["option_mass"]["value"] == pytest.approx(1.0)


def test_little_mass_on_the_options_is_said(labelled, caplog):
    run = labelled([["aa", "b"]], Written(scores=lambda question: (-5.0, -6.0)))
    assert figures(run)["option_mass"]["value"] == pytest.approx(math.exp(-5) + math.exp(-6))
    assert "mostly begins otherwise" in caplog.text


@pytest.mark.parametrize(
    ("text", "found"),
    [("(A)", 0), ("(B) is better", 1), ("B", 1), ("**(A)**", 0), (" A.", 0), ("(A)가 낫습니다", 0),
     ("A better answer is (B)", 0), ("Answer", None), ("Both", None), ("", None), ("neither (A)", None)],
)  # fmt: skip
def test_verdicts_in_words(text, found):
    assert verdict_in(text) == found


def test_a_labeller_without_log_probs_is_asked_often_and_is_never_certain(labelled, caplog):
    caplog.set_level("INFO", logger="baro")

    def longer(conversation, key):
        first, second = sides(conversation[-1].content)
        return "(A)" if len(first) > len(second) else "(B)"

    model = Written(longer)
    run = labelled([["aa", "b"], ["c", "dddd"]], model, judging={"verdicts": 6})
    assert len(model.asked) == 2 * 2 * 6
    assert [one.p_chosen for one in read_records(run.records, Preference).records] == [7 / 8, 7 / 8]
    assert figures(run)["sampled_verdicts"]["value"] == 2
    assert "option_mass" not in figures(run)
    assert "written gives no log-probs: 6 verdicts are drawn in each order" in caplog.text


def test_verdicts_that_name_no_side_are_failures_and_some_are_left_out(labelled):
    def sometimes(conversation, key):
        first, second = sides(conversation[-1].content)
        return "Neither." if "bad" in (first, second) or key % 2 else "(A)" if first == "one" else "(B)"

    groups = [["one", "other"], ["bad", "good"]]
    run = labelled(groups, Written(sometimes), judging={"verdicts": 4}, max_error_fraction=0.5)
    (record,) = read_records(run.records, Preference).records
    assert (record.chosen[0].content, record.p_chosen) == ("one", 0.75)  # two of four verdicts, (2 + 1) / (2 + 2)
    assert figures(run)["errors"]["value"] == 1
    ledger = json.loads((run.path / "ledger.json").read_text())["answers"]["dropped"]
    why = "the judgment failed: no verdict begins with (A) or (B); the first: 'Neither.'"
    assert ledger == {"answers.jsonl:2 answers 1 and 2": why}
    with pytest.raises(RewardError, match=r"1 of 2 comparisons failed.*no verdict begins with \(A\) or \(B\).*Neither"):
        labelled(groups, Written(sometimes), judging={"verdicts": 4})


def test_reasoning_comes_first_and_stands_in_the_question(labelled):
    model = Written(lambda conversation, key: "The first is longer.", by_length())
    labelled([["aa", "b"]], model, judging={"reasoning": True})
    assert all(one[-1].content.endswith("without deciding yet.") for one in model.asked)
    assert [turn.content for turn in model.questions[0][1:]] == [
        "The first is longer.",
        "So which one is it? Reply with (A) or (B) alone.",
    ]


def test_thumbs_for_kto(labelled):
    groups = [["aaa", "b"], ["cc", "cc"], ["d", "ee", "fff"]]
    run = labelled(groups, Written(scores=by_length()), as_="thumbs", pairs_per_prompt=3)
    thumbs = {record.completion[0].content: record.label for record in read_records(run.records, Thumb).records}
    assert thumbs == {"aaa": True, "b": False, "d": False, "fff": True}  # ee wins once and loses once
    assert figures(run)["thumbs"]["value"] == 4


def test_ranks_and_the_best_are_wins_in_a_round_robin(labelled):
    model = Written(scores=by_length())
    run = labelled([["d", "ee", "fff"]], model, as_="best")
    (record,) = read_records(run.records).records
    assert record.completion[0].content == "fff"
    assert len(model.questions) == 6


def test_agreement_with_the_labels_that_rows_carry(labelled):
    pairs = [
        {"prompt": f"q{i}", "chosen": "long answer" if i else "no", "rejected": "no" if i else "long answer"}
        for i in range(10)
    ]
    run = labelled(pairs, Written(scores=by_length()))
    assert (figures(run)["agreement"]["value"], figures(run)["agreement"]["n"]) == (0.9, 10)
    assert {one.chosen[0].content for one in read_records(run.records, Preference).records} == {"long answer"}
    ranked = [{"prompt": "q", "responses": ["a", "bb", "ccc"], "ranks": [3, 1, 1]}]
    found = figures(labelled(ranked, Written(scores=by_length()), pairs_per_prompt=3))["agreement"]
    assert (found["value"], found["n"]) == (1.0, 2)  # ties say nothing
    assert "agreement" not in figures(labelled([["a", "bb"]], Written(scores=by_length())))


def test_agreement_by_who_wrote_the_answers(labelled):
    """The model that likes long answers agrees with people on mine, and on half of theirs."""
    rows = [
        {"prompt": "1", "chosen": "long answer", "rejected": "no", "chosen_model": "mine", "rejected_model": "mine"},
        {"prompt": "2", "chosen": "long answer", "rejected": "no", "chosen_model": "mine", "rejected_model": "theirs"},
        {"prompt": "3", "chosen": "no", "rejected": "long answer", "chosen_model": "theirs", "rejected_model": "own"},
        {"prompt": "4", "chosen": "no", "rejected": "long answer"},
    ]
    found = figures(labelled(rows, Written(scores=by_length())))
    told = {name: (row["value"], row["n"]) for name, row in found.items() if name.startswith("agreement")}
    assert told == {
        "agreement": (0.5, 4), "agreement/mine": (1.0, 2), "agreement/own": (0.0, 1), "agreement/theirs": (0.5, 2)
    }  # fmt: skip
    ranked = [{"prompt": "q", "responses": ["a", "bb", "ccc"], "ranks": [3, 1, 2], "models": ["x", "y", "z"]}]
    found = figures(labelled(ranked, Written(scores=by_length()), pairs_per_prompt=3))
    assert {name: found[f"agreement/{name}"]["value"] for name in "xyz"} == {"x": 1.0, "y": 0.5, "z": 0.5}


def test_scores_of_the_first_judgment_do_not_become_margins_of_the_second(labelled):
    rows = [{"prompt": "q", "chosen": "no", "rejected": "longer", "score_chosen": 9.0, "score_rejected": 1.0}]
    (record,) = read_records(labelled(rows, Written(scores=by_length())).records, Preference).records
    assert (record.chosen[0].content, record.margin, record.extra.get("score_chosen")) == ("longer", 0.0, None)


def test_equal_comparisons_are_asked_once(labelled):
    rows = [{"prompt": "q", "responses": ["a", "bb"]} for _ in range(3)]
    model = Written(scores=by_length())
    assert len(read_records(labelled(rows, model).records, Preference).records) == 3
    assert len(model.questions) == 2


def test_a_failed_call_fails_every_row_that_asked_it(labelled):
    rows = [{"prompt": "q", "responses": ["a", "bb"]} for _ in range(3)]
    rows.append({"prompt": "r", "responses": ["c", "dd"]})
    model = Written(scores=lambda question: None if "User: q" in question else by_length()(question))
    run = labelled(rows, model, max_error_fraction=0.75)
    assert figures(run)["errors"]["value"] == 3
    dropped = json.loads((run.path / "ledger.json").read_text())["answers"]["dropped"]
    assert set(dropped.values()) == {"the judgment failed: no answer in 60 s"}
    with pytest.raises(RewardError, match="of 4 comparisons failed"):
        labelled(rows, model, max_error_fraction=0.5)


def test_a_run_that_was_broken_off_goes_on_where_it_was(labelled):
    groups = [[f"answer {i}", f"other {i} and more"] for i in range(9)]
    whole = labelled(groups, Written(scores=by_length()), out="whole")
    model = Written(scores=by_length(), at_once=4)
    options = model.options

    def broken(conversations, wanted):
        if len(model.questions) >= 8:
            raise KeyboardInterrupt
        return options(conversations, wanted)

    model.options = broken
    with pytest.raises(KeyboardInterrupt):
        labelled(groups, model, out="broken")
    model.options = options
    run = labelled(groups, model, out="broken")
    assert len(model.questions) == 18
    for name in ("records.jsonl", "judgments.jsonl", "calls.jsonl", "figures.json"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_a_yaml_file_in_by_is_a_constitution():
    short = label.Config(answers="a", by="mine.yaml", labeller={"model": "model"})
    assert (short.by, short.constitution) == (None, "mine.yaml")
    assert short == label.Config(answers="a", constitution="mine.yaml", labeller={"model": "model"})


REFUSED = {
    "labeller is missing": {"constitution": "general"},
    "labeller goes with constitution": {"by": "m:judge", "labeller": {"model": "m"}},
    "judging goes with constitution": {"by": "m:judge", "judging": {"verdicts": 2}},
    "or constitution": {},
    "give either by": {"by": "m:judge", "constitution": "general", "labeller": {"model": "m"}},
}


@pytest.mark.parametrize("words", REFUSED)
def test_who_judges_must_be_clear(words):
    with pytest.raises(ValidationError, match=words):
        label.Config(answers="a", **REFUSED[words])


@pytest.mark.parametrize("clamp", [[0.6, 0.4], [0.5, 0.5], [0.1, 0.6], [0.4], [-0.1, 1.1]])
def test_a_clamp_has_two_sides(clamp):
    with pytest.raises(ValidationError, match=r"lowest p below 0\.5 and a highest one, which add up to 1"):
        JudgingConfig(clamp=clamp)
