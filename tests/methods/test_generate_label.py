"""Answers drawn from a tiny model, and what judges, functions and a reward model make of them."""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from methods.conftest import PROMPTS

import baro
from baro import scorers
from baro.compute import ComputeConfig
from baro.data.formats import read_records
from baro.data.template import Template
from baro.errors import ConfigError, DataError, RewardError, RunError
from baro.methods import generate, label
from baro.models.load import new_scalar_model, save_scalar_model
from baro.records import Answers, Demonstration, Message, Preference, Ranking, Verdict
from baro.reward_config import RewardTerm

SOURCE = Path(baro.__file__).parent


@pytest.fixture(scope="module")
def reward_model(policy, tmp_path_factory):
    """A folder with an untrained reward model on the same tokens."""
    folder = tmp_path_factory.mktemp("reward")
    save_scalar_model(new_scalar_model(policy, seed=3), folder)
    Template.load(policy).save(folder)
    return folder


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt, "topic": i}) + "\n" for i, prompt in enumerate(PROMPTS)))
    return path


@pytest.fixture
def answers(tmp_path):
    """Rows of answers as `baro generate` writes them."""

    def write(*groups):
        rows = [{"prompt": f"q{i}", "responses": list(group)} for i, group in enumerate(groups)]
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


class ByLength:
    """Prefers the longer answer, with what certainty it was made with, and remembers what it was shown."""

    def __init__(self, p=1.0):
        self.p, self.shown = p, []

    def compare(self, pairs):
        self.shown += [(a.text, b.text) for a, b in pairs]
        return [Verdict(self.verdict(len(a.text), len(b.text))) for a, b in pairs]

    def verdict(self, one, other):
        return 0.5 if one == other else self.p if one > other else 1 - self.p


class LeftFirst:
    """Prefers whatever is shown first."""

    def compare(self, pairs):
        return [Verdict(1.0) for _ in pairs]


class Failing:
    """Fails on every answer with an x."""

    def compare(self, pairs):
        return [Verdict(None, "timed out") if "x" in a.text + b.text else Verdict(1.0) for a, b in pairs]


def characters(prompts, completions, **columns):
    return [float(len(completion)) for completion in completions]


@pytest.fixture
def raters(monkeypatch):
    """The raters above as an importable module; the judge that certain says."""
    module = ModuleType("fake_raters")
    module.by_length, module.soft = ByLength(), ByLength(0.8)
    module.left, module.failing, module.characters = LeftFirst(), Failing(), characters
    monkeypatch.setitem(sys.modules, "fake_raters", module)
    return module


def figures(run):
    return {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}


def said(completion):
    return completion[0].content


# --- generate


def test_generate_writes_answers_that_are_read_back(policy, prompts, tmp_path):
    config = generate.Config(policy=str(policy), prompts=str(prompts), n=3, sampling={"max_new_tokens": 5})
    run = generate.run(config, tmp_path / "run")
    records = read_records(run.records, Answers).records
    assert [record.prompt for record in records] == [(Message("user", prompt),) for prompt in PROMPTS]
    assert all(len(record.completions) == len(record.finished) == 3 for record in records)
    assert [record.extra for record in records] == [{"topic": i} for i in range(4)]
    assert figures(run)["answers"]["value"] == 12
    assert 1 <= figures(run)["tokens"]["value"] <= 5
    assert run.finished


def test_the_same_seed_draws_the_same_answers_and_another_others(policy, prompts, tmp_path):
    def drawn(seed, out):
        config = generate.Config(
            policy=str(policy), prompts=str(prompts), n=2, seed=seed, sampling={"max_new_tokens": 6}
        )
        return generate.run(config, tmp_path / out).records.read_text()

    assert drawn(0, "a") == drawn(0, "b") != drawn(1, "c")


def test_limit_takes_the_first_prompts_and_does_not_change_their_answers(policy, prompts, tmp_path):
    def drawn(limit, out):
        config = generate.Config(
            policy=str(policy), prompts=str(prompts), n=2, limit=limit, sampling={"max_new_tokens": 6}
        )
        return read_records(generate.run(config, tmp_path / out).records, Answers).records

    assert drawn(2, "two") == drawn(None, "all")[:2]


def test_chunks_do_not_change_what_is_drawn(policy, prompts, tmp_path, monkeypatch):
    config = generate.Config(policy=str(policy), prompts=str(prompts), n=2, sampling={"max_new_tokens": 6})
    whole = generate.run(config, tmp_path / "whole").records.read_text()
    monkeypatch.setattr(generate, "CHUNK", 1)
    assert generate.run(config, tmp_path / "cut").records.read_text() == whole


def test_a_finished_run_is_returned_as_it_is_and_another_config_is_refused(policy, prompts, tmp_path, monkeypatch):
    config = generate.Config(policy=str(policy), prompts=str(prompts), n=1, sampling={"max_new_tokens": 2})
    generate.run(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(generate, "load_policy", lambda folder: pytest.fail("loaded a model for a finished run"))
        assert generate.run(config, tmp_path / "run").finished
    with pytest.raises(RunError, match=r"n 1 \(now 2\)"):
        generate.run(config.model_copy(update={"n": 2}), tmp_path / "run")


def test_a_prompt_without_room_for_an_answer_is_dropped_with_a_sentence(policy, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "Say hi."}) + "\n" + json.dumps({"prompt": "very " * 60}) + "\n")
    limits = {"max_length": 60, "max_dropped_fraction": 0.5}
    config = generate.Config(policy=str(policy), prompts=str(path), n=1, sampling={"max_new_tokens": 4}, data=limits)
    run = generate.run(config, tmp_path / "run")
    assert len(read_records(run.records, Answers).records) == 1
    (ledger,) = json.loads((run.path / "ledger.json").read_text()).values()
    assert ledger["kept"] == 1
    assert list(ledger["dropped"]) == ["long.jsonl:2"]


def test_a_prompt_beyond_the_models_positions_is_named_with_its_line(policy, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "Say hi."}) + "\n" + json.dumps({"prompt": "Say hi. " * 40}) + "\n")
    config = generate.Config(policy=str(policy), prompts=str(path), n=1, sampling={"max_new_tokens": 4})
    with pytest.raises(DataError, match=r"long\.jsonl:2: the prompt has \d+ tokens, and max_length is 92"):
        generate.run(config, tmp_path / "run")


# --- label: pairs


def test_pairs_are_disjoint_and_a_larger_count_goes_on_with_the_others():
    assert label.choose_pairs(5, None) == [(0, 1), (2, 3)]
    assert label.choose_pairs(4, 1) == [(0, 1)]
    assert label.choose_pairs(4, 4) == [(0, 1), (2, 3), (0, 2), (0, 3)]
    assert label.choose_pairs(1, None) == []


def test_a_hard_judge_gives_plain_pairs(answers, raters, tmp_path):
    path = answers(["a", "aaa", "bb", "b"], ["cccc", "c"])
    run = label.run(label.Config(answers=path, by="fake_raters:by_length"), tmp_path / "run")
    pairs = read_records(run.records, Preference).records
    assert [(said(p.chosen), said(p.rejected), p.p_chosen) for p in pairs] == [
        ("aaa", "a", 1.0),
        ("bb", "b", 1.0),
        ("cccc", "c", 1.0),
    ]
    assert "p_chosen" not in run.records.read_text()
    assert figures(run)["pairs"]["value"] == 3


def test_a_soft_judge_gives_probabilities(answers, raters, tmp_path):
    run = label.run(label.Config(answers=answers(["a", "aaa"]), by="fake_raters:soft"), tmp_path / "run")
    (pair,) = read_records(run.records, Preference).records
    assert said(pair.chosen) == "aaa"
    assert pair.p_chosen == pytest.approx(0.8)


def test_equal_answers_and_ties_are_left_out_with_a_sentence(answers, raters, tmp_path):
    path = answers(["a", "a"], ["a", "b"], ["a", "bb"])  # the same, a tie, a pair
    run = label.run(label.Config(answers=path, by="fake_raters:by_length"), tmp_path / "run")
    assert {name: figures(run)[name]["value"] for name in ("pairs", "identical", "ties", "errors")} == {
        "pairs": 1,
        "identical": 1,
        "ties": 1,
        "errors": 0,
    }
    (ledger,) = json.loads((run.path / "ledger.json").read_text()).values()
    assert ledger["dropped"] == {
        "answers.jsonl:1 answers 1 and 2": "these two texts cannot be told apart, or were judged before",
        "answers.jsonl:2 answers 1 and 2": "neither answer is better",
    }


def test_when_nothing_is_left_it_stops(answers, raters, tmp_path):
    config = label.Config(answers=answers(["a", "b"], ["c", "c"]), by="fake_raters:by_length")
    with pytest.raises(DataError, match=r"2 of 2 rows cannot be used \(1 identical, 1 tie\)"):
        label.run(config, tmp_path / "run")


def test_a_judge_sees_both_orders_and_a_side_bias_shows_in_the_figures(answers, raters, tmp_path):
    path = answers(*[[f"a{i}", f"b{i}"] for i in range(40)])
    run = label.run(label.Config(answers=path, by="fake_raters:left"), tmp_path / "run")
    pairs = read_records(run.records, Preference).records
    first = sum(said(pair.chosen).startswith("a") for pair in pairs)
    assert 10 <= first <= 30  # a favoured side favours no answer
    assert all(pair.extra["left"] == "chosen" for pair in pairs)
    assert figures(run)["left_preferred"] | {"low": 0, "high": 1} == {
        "name": "left_preferred", "value": 1.0, "low": 0, "high": 1, "n": 40,
    }  # fmt: skip


def test_sides_follow_from_the_seed(answers, raters, tmp_path):
    path = answers(*[[f"a{i}", f"bb{i}"] for i in range(20)])

    def shown(seed, out):
        raters.by_length.shown.clear()
        label.run(label.Config(answers=path, by="fake_raters:by_length", seed=seed), tmp_path / out)
        return list(raters.by_length.shown)

    assert shown(0, "a") == shown(0, "b") != shown(1, "c")


def test_the_recorded_side_is_the_one_that_was_shown(answers, raters, tmp_path):
    path = answers(*[[f"a{i}", f"bb{i}"] for i in range(20)])
    run = label.run(label.Config(answers=path, by="fake_raters:by_length"), tmp_path / "run")
    for pair, (left, _) in zip(read_records(run.records, Preference).records, raters.by_length.shown, strict=True):
        assert left == said(pair.chosen if pair.extra["left"] == "chosen" else pair.rejected)


def test_a_judge_that_fails_too_often_stops_the_run(answers, raters, tmp_path):
    path = answers(["ax", "b"], *[[f"a{i}", f"b{i}"] for i in range(17)], ["cx", "d"])
    with pytest.raises(RewardError, match="2 of 19 judgments failed, more than 5%; the first: timed out"):
        label.run(label.Config(answers=path, by="fake_raters:failing"), tmp_path / "run")


def test_a_judge_that_fails_seldom_loses_those_pairs(answers, raters, tmp_path):
    path = answers(["ax", "b"], *[[f"a{i}", f"b{i}"] for i in range(19)])
    run = label.run(label.Config(answers=path, by="fake_raters:failing"), tmp_path / "run")
    assert figures(run)["pairs"]["value"] == 19
    assert figures(run)["errors"]["value"] == 1


# --- label: functions, reward models, ranks, best


def test_a_function_with_trls_signature(answers, raters, tmp_path):
    run = label.run(label.Config(answers=answers(["a", "aaa"]), by="fake_raters:characters"), tmp_path / "run")
    (pair,) = read_records(run.records, Preference).records
    assert (said(pair.chosen), said(pair.rejected), pair.p_chosen, pair.extra) == ("aaa", "a", 1.0, {})


def test_ranks_skip_after_a_tie():
    assert label.competition_ranks([5.0, 3.0, 3.0, 1.0]) == (1, 2, 2, 4)


@pytest.mark.parametrize("by", ["fake_raters:characters", "fake_raters:by_length"])
def test_ranks_by_score_and_by_round_robin(by, answers, raters, tmp_path):
    path = answers(["a", "aaa", "bbb", "aa"], ["a", "b"])
    run = label.run(label.Config(answers=path, by=by, **{"as": "ranks"}), tmp_path / "run")
    (ranking,) = read_records(run.records, Ranking).records
    assert ranking.ranks == (4, 1, 1, 3)
    assert figures(run)["ranks"]["value"] == 1
    assert figures(run)["ties"]["value"] == 1  # the second prompt's answers are equally good


@pytest.mark.parametrize("by", ["fake_raters:characters", "fake_raters:by_length"])
def test_best_becomes_a_demonstration(by, answers, raters, tmp_path):
    path = answers(["a", "aaa", "bb"], ["c", "d"])
    run = label.run(label.Config(answers=path, by=by, as_="best"), tmp_path / "run")
    assert [said(d.completion) for d in read_records(run.records, Demonstration).records] == ["aaa", "c"]


def test_a_reward_model_labels_what_generate_wrote(policy, reward_model, prompts, tmp_path):
    drawing = generate.Config(policy=str(policy), prompts=str(prompts), n=4, sampling={"max_new_tokens": 5})
    answered = generate.run(drawing, tmp_path / "answers")
    run = label.run(label.Config(answers=str(answered.path), by=str(reward_model)), tmp_path / "run")
    pairs = read_records(run.records, Preference).records
    assert len(pairs) == 8 - figures(run)["identical"]["value"] - figures(run)["ties"]["value"]
    assert run.manifest["parents"] == [str(answered.path)]


def test_what_is_no_judge_is_refused(answers, raters, tmp_path):
    raters.number = 3
    with pytest.raises(ConfigError, match="fake_raters:number"):
        label.run(label.Config(answers=answers(["a", "b"]), by="fake_raters:number"), tmp_path / "run")


def test_a_file_without_responses_says_what_is_needed(raters, prompts, tmp_path):
    with pytest.raises(DataError, match=r"prompts\.jsonl:1: .*responses"):
        label.run(label.Config(answers=str(prompts), by="fake_raters:by_length"), tmp_path / "run")


def test_a_reward_model_is_placed_as_the_policy_beside_it(reward_model, monkeypatch):
    told = []
    load = scorers.load_scalar_model
    monkeypatch.setattr(scorers, "load_scalar_model", lambda folder, compute: (told.append(compute), load(folder))[1])
    compute = ComputeConfig(device="cpu", dtype="float32", gradient_checkpointing=True)
    scorers.load_reward(str(reward_model), compute=compute)
    scorers.load_rewards([RewardTerm(by=str(reward_model))], "rewards", compute=compute, run=None)
    assert told == [ComputeConfig(device="cpu", dtype="float32")] * 2  # it has no backward pass


@pytest.mark.parametrize("path", [*SOURCE.glob("methods/*.py"), *SOURCE.glob("evaluate/*.py")], ids=lambda p: p.stem)
def test_whoever_loads_a_model_passes_the_compute_block_on(path):
    loaders = {"load_policy", "load_reward", "load_rewards", "load_scorer", "load_members", "new_policy"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in loaders:
            assert "compute" in {keyword.arg for keyword in node.keywords}, f"{path.name}:{node.lineno}"
