"""Figures with numbers worked by hand, and the whole stage on tiny models."""

import json
import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from baro.data.files import read_rows
from baro.data.formats import read_records
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import DataError, RewardError
from baro.evaluate import evaluate, metrics
from baro.functional.statistics import Interval
from baro.inputs import load_template
from baro.models.load import (
    Architecture,
    load_policy,
    new_policy,
    new_scalar_model,
    save_policy,
    save_scalar_model,
)
from baro.records import Message, Preference, Verdict
from baro.rewards.judging import average_orders

PROMPTS = ["Say hi.", "Say bye.", "Name a colour.", "One and one?", "Go on.", "Why?"]


# --- metrics


def test_win_rate_is_the_mean_with_an_interval_over_prompts():
    verdicts = np.array([1.0, 1.0, 0.5, 0.0])  # two prompts, two answers each
    found = metrics.mean_over_prompts(verdicts, np.array([0, 0, 1, 1]), seed=0)
    assert found == Interval(0.625, 0.25, 1.0, 2)  # resampled prompts: both the second, or both the first


def test_a_share_that_never_differs_still_has_an_interval():
    """The bootstrap would say [1, 1], as if 3 prompts had settled it."""
    all_won = metrics.share_over_prompts(np.ones(6), np.repeat([0, 1, 2], 2), seed=0)
    assert (all_won.value, all_won.high, all_won.n) == (1.0, 1.0, 3)
    assert all_won.low == pytest.approx(0.4385, abs=1e-4)  # 1 / (1 + z²/3), z = 1.96
    none_won = metrics.share_over_prompts(np.zeros(3), np.arange(3), seed=0)
    assert (none_won.low, none_won.high) == (0.0, pytest.approx(0.5615, abs=1e-4))
    mixed, prompts = np.array([1.0, 0.5, 0.0]), np.arange(3)
    assert metrics.share_over_prompts(mixed, prompts, seed=0) == metrics.mean_over_prompts(mixed, prompts, seed=0)


def test_both_orders_cancel_a_side_bias():
    assert average_orders(Verdict(1.0), Verdict(1.0)).p_first == 0.5
    assert average_orders(Verdict(0.9), Verdict(0.3)).p_first == pytest.approx(0.8)
    assert average_orders(Verdict(1.0), Verdict(None, "late")).error == "late"


def test_distinct_2_counts_different_word_pairs():
    #        the cat, cat sat | the cat, cat ran, ran .   -> 4 different of 5
    assert metrics.distinct_2(["The cat sat", "the cat ran."]) == 4 / 5
    assert metrics.distinct_2(["one", ""]) == 0.0
    assert metrics.distinct_2(["안녕 하세요 안녕"]) == 1.0


def test_pair_accuracy_counts_ties_half_and_turns_round_where_p_chosen_is_low():
    gaps = np.array([1.0, -1.0, 0.0, -2.0, 3.0])
    p_chosen = np.array([1.0, 0.9, 1.0, 0.2, 0.5])  # right, wrong, tie, right, no better one
    found = metrics.pair_accuracy(gaps, p_chosen)
    assert found.value == 2.5 / 4
    assert found.n == 4
    assert found.low < 2.5 / 4 < found.high


def test_unigram_baseline_by_hand():
    # chosen: kind 2, no 1 (C = 3); rejected: no 2 (R = 2); V = 2
    model = metrics.UnigramBaseline.fit(["kind kind", "no"], ["no no"])
    assert model.weights["kind"] == pytest.approx(math.log(3 / 5) - math.log(1 / 4))
    assert model.weights["no"] == pytest.approx(math.log(2 / 5) - math.log(3 / 4))
    assert model.score("Kind, unknown") == model.weights["kind"]


def test_length_control_takes_length_out():
    rng = np.random.default_rng(0)
    longer = rng.integers(-20, 40, size=400)
    verdicts = (rng.random(400) < 1 / (1 + np.exp(-longer / 8))).astype(float)  # only length decides
    prompts = np.arange(400)
    plain = metrics.mean_over_prompts(verdicts, prompts, seed=0)
    controlled = metrics.length_controlled(verdicts, longer, prompts, seed=0)
    assert plain.low > 0.6
    assert controlled.low < 0.5 < controlled.high


def test_length_control_is_left_out_where_all_lengths_differ_equally():
    same = np.full(5, 3)
    assert metrics.length_controlled(np.ones(5), same, np.arange(5), seed=0) is None


def test_the_table_keeps_the_figures_of_a_policy_together():
    figures = {"sft/tokens": 3.0, "ppo/tokens": 4.0, "sft/win_rate/gold": Interval(0.5, 0.4, 0.6, 9)}
    columns = [list(column.cells) for column in evaluate.table_of(figures).columns]
    assert columns == [
        ["sft/tokens", "sft/win_rate/gold", "ppo/tokens"],
        ["3.000", "0.500", "4.000"],
        ["", "0.400 to 0.600", ""],
        ["", "9", ""],
    ]


# --- the stage


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two tiny policies and a reward model that read the same tokens."""
    root = tmp_path_factory.mktemp("models")
    template = Template(train_tokenizer([f"User: {prompt}\nAssistant: hello" for prompt in PROMPTS] * 3, 280), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=128, intermediate_size=24)
    for name, seed in (("sft", 0), ("ppo", 1)):
        policy = new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=seed)
        with torch.no_grad():
            policy.model.get_input_embeddings().weight.mul_(15)  # far from uniform, so that the two differ
        save_policy(policy, root / name)
        template.save(root / name)
    save_scalar_model(new_scalar_model(root / "sft", seed=3), root / "rm")
    template.save(root / "rm")
    return root


class Longer:
    """Prefers the longer answer; but what is shown first has an advantage of five characters."""

    def compare(self, pairs):
        gaps = [len(a.text) - len(b.text) for a, b in pairs]
        return [Verdict(0.5 if gap == -5 else float(gap > -5)) for gap in gaps]


class Silent:
    def compare(self, pairs):
        return [Verdict(None, "no answer") for _ in pairs]


@pytest.fixture
def judges(monkeypatch):
    module = ModuleType("fake_judges")
    module.longer, module.silent = Longer(), Silent()
    module.characters = lambda prompts, completions, **columns: [float(len(text)) for text in completions]
    monkeypatch.setitem(sys.modules, "fake_judges", module)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    """Four pairs; the chosen one is longer in three of them."""
    texts = [("hello there", "hi"), ("a b c", "a"), ("yes yes", "no"), ("no", "yes please")]
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": PROMPTS[i], "chosen": one, "rejected": other} for i, (one, other) in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def figures(run):
    return {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}


def test_policies_against_one_of_them(models, judges, prompts, tmp_path):
    config = evaluate.Config(
        policies=[str(models / "sft"), str(models / "ppo")],
        against=str(models / "sft"),
        prompts=prompts,
        judges={"longer": "fake_judges:longer"},
        rewards={"rm": str(models / "rm"), "characters": "fake_judges:characters"},
        best_of={"n": 3, "by": "fake_judges:characters"},
        completions=2,
        sampling={"max_new_tokens": 6},
    )
    run = evaluate.run(config, tmp_path / "run")
    found = figures(run)
    kinds = {
        "win_rate/longer", "win_rate_length_controlled/longer", "reward/rm", "reward/characters", "kl", "tokens",
        "finished_fraction", "distinct_2",
    }  # fmt: skip
    for name in ("sft-self", "ppo"):
        assert {what.partition("/")[2] for what in found if what.startswith(f"{name}/")} >= kinds - {
            "win_rate_length_controlled/longer"
        }
    assert not any(name.startswith("sft/win_rate") for name in found)  # it is what the others are compared with
    assert found["sft/kl"]["value"] == found["sft-self/kl"]["value"] == 0.0
    assert found["ppo/kl"]["value"] > 0.0
    assert found["ppo/kl"]["n"] == len(PROMPTS)
    assert found["best-of-3/kl_bound"]["value"] == pytest.approx(math.log(3) - 2 / 3)
    assert found["best-of-3/reward/characters"]["value"] > found["sft/reward/characters"]["value"]


def test_losses_on_given_texts_and_of_the_reference_on_own_answers(models, prompts, tmp_path):
    answers = tmp_path / "answers.jsonl"
    rows = [{"prompt": PROMPTS[0], "responses": ["hello", "a b"]}, {"prompt": PROMPTS[1], "responses": ["c", "hello"]}]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = evaluate.Config(
        policies={"new": str(models / "ppo"), "old": str(models / "sft")},
        against=str(models / "sft"),
        prompts=prompts,
        loss_on=str(answers),
        sampling={"max_new_tokens": 8},
    )
    found = figures(evaluate.run(config, tmp_path / "run"))
    template, policy = Template.load(models / "ppo"), load_policy(models / "ppo").model
    losses = []
    for row in rows:
        for text in row["responses"]:
            one = template.encode((Message("user", row["prompt"]),), (Message("assistant", text),))
            ids = torch.tensor([one.prompt_ids + one.completion_ids])
            with torch.no_grad():
                logprobs = torch.log_softmax(policy(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
            losses.append(float(-logprobs[len(one.prompt_ids) - 1 :].mean()))
    assert found["new/loss"]["value"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert found["new/loss"]["n"] == 4
    assert {name for name in found if name.endswith("/loss")} == {"new/loss", "old/loss"}
    assert found["old/ref_loss"]["value"] > 0
    # log π − log π_ref summed is the KL estimate; a policy's own answers surprise the reference more than itself
    assert found["new/ref_loss"]["value"] > found["old/ref_loss"]["value"]


def test_comparisons_stand_side_by_side_and_agree_with_the_figures(models, judges, prompts, tmp_path):
    config = evaluate.Config(
        policies={"new": str(models / "ppo"), "old": str(models / "sft")},
        against=str(models / "sft"),
        prompts=prompts,
        judges={"longer": "fake_judges:longer"},
        rewards={"characters": "fake_judges:characters"},
        sampling={"max_new_tokens": 8},
    )
    run = evaluate.run(config, tmp_path / "run")
    rows = [row.columns for row in read_rows(run.path / "comparisons.jsonl")]
    assert [row["prompt"] for row in rows] == PROMPTS
    verdicts = []
    for row in rows:
        new, old = row["answers"]["new"], row["answers"]["old"]
        gap = len(new) - len(old)
        # in both orders the advantage of the left side cancels, and leaves a band of ties
        verdicts.append(0.75 * (gap == 5) + 0.5 * (abs(gap) < 5) + 0.25 * (gap == -5) + 1.0 * (gap > 5))
        assert row["scores"]["longer"]["new"] == verdicts[-1]
        assert row["scores"]["characters"]["new"] == len(new)
        assert "old" not in row["scores"]["longer"]
        assert set(row["answers"]) == {"new", "old", "old-self"}
    assert figures(run)["new/win_rate/longer"]["value"] == pytest.approx(np.mean(verdicts))
    assert any(row["answers"]["old"] != row["answers"]["old-self"] for row in rows)  # a second draw


def test_kl_is_the_mean_log_ratio_of_the_policys_own_samples(models, prompts, tmp_path):
    """Enumerate one token: with one sampled token the estimate must approach the exact KL."""
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"prompt": "Say hi."}) + "\n")
    config = evaluate.Config(
        policies=[str(models / "ppo")], against=str(models / "sft"), prompts=str(path), completions=1500,
        sampling={"max_new_tokens": 1},
    )  # fmt: skip
    found = figures(evaluate.run(config, tmp_path / "run"))["ppo/kl"]["value"]
    ids = torch.tensor([load_template(str(models / "sft")).encode_prompt((Message("user", "Say hi."),))])
    with torch.no_grad():
        ours, theirs = (load_policy(models / name).model(ids).logits[0, -1].log_softmax(-1) for name in ("ppo", "sft"))
    exact = float((ours.exp() * (ours - theirs)).sum())
    assert exact > 0.5  # two models that differ
    assert found == pytest.approx(exact, rel=0.1)


def test_limit_and_no_against(models, judges, prompts, tmp_path):
    config = evaluate.Config(
        policies=[str(models / "ppo")], prompts=prompts, limit=2, rewards={"characters": "fake_judges:characters"},
        sampling={"max_new_tokens": 3},
    )  # fmt: skip
    found = figures(evaluate.run(config, tmp_path / "run"))
    assert found["ppo/tokens"]["n"] == 2
    assert "ppo/kl" not in found


def test_a_judge_that_fails_stops_the_evaluation(models, judges, prompts, tmp_path):
    config = evaluate.Config(
        policies=[str(models / "ppo")], against=str(models / "sft"), prompts=prompts,
        judges={"silent": "fake_judges:silent"}, sampling={"max_new_tokens": 2},
    )  # fmt: skip
    with pytest.raises(RewardError, match=r"silent: ppo: 6 of 6 judgments failed.*no answer"):
        evaluate.run(config, tmp_path / "run")


def test_pairs(models, judges, pairs, tmp_path):
    config = evaluate.Config(
        policies=[str(models / "ppo")],
        ref_policy=str(models / "sft"),
        pairs=pairs,
        baseline_pairs=pairs,
        judges={"longer": "fake_judges:longer"},
        rewards={"rm": str(models / "rm"), "characters": "fake_judges:characters"},
    )
    found = figures(evaluate.run(config, tmp_path / "run"))
    assert set(found) == {
        "rm/pair_accuracy", "characters/pair_accuracy", "longer/pair_accuracy", "ppo/pair_accuracy",
        "baseline/longer_wins", "baseline/unigram",
    }  # fmt: skip
    assert found["characters/pair_accuracy"]["value"] == found["baseline/longer_wins"]["value"] == 0.75
    # gaps in characters 9, 4, 5, -9: p = 1, 0.5, 0.75, 0, and a verdict above one half counts as right
    assert found["longer/pair_accuracy"]["value"] == (1 + 0.5 + 1 + 0) / 4
    assert found["baseline/unigram"]["n"] == 4


@pytest.mark.parametrize(
    "scorer",
    [
        lambda models: {"judges": {"longer": "fake_judges:longer"}},
        lambda models: {"rewards": {"characters": "fake_judges:characters"}},
        lambda models: {"rewards": {"rm": str(models / "rm")}},
        lambda models: {"policies": [str(models / "ppo")], "ref_policy": str(models / "sft")},
    ],
    ids=["judge", "function", "reward model", "policy"],
)
def test_pairs_of_which_none_has_a_better_side_are_refused(scorer, models, judges, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"chosen": "hi", "rejected": "hi"}, {"chosen": "hello", "rejected": "hi", "p_chosen": 0.5}]
    path.write_text("".join(json.dumps({"prompt": "Say hi."} | row) + "\n" for row in rows))
    config = evaluate.Config(pairs=str(path), **scorer(models))
    with pytest.raises(DataError, match=r"pairs\.jsonl: no pair has a better side .*; give other pairs"):
        evaluate.run(config, tmp_path / "run")


def test_implicit_reward_is_the_difference_of_log_ratios(models, pairs, tmp_path):
    """The stage's verdicts against sums over the plain models' logits."""
    template = load_template(str(models / "sft"))
    ours, theirs = load_policy(models / "ppo").model, load_policy(models / "sft").model

    def log_ratio(prompt, completion):
        prompt_ids, ids, _, _ = template.encode(prompt, completion)
        whole = torch.tensor([prompt_ids + ids])
        with torch.no_grad():
            rows = [m(whole).logits[0, len(prompt_ids) - 1 : -1].log_softmax(-1) for m in (ours, theirs)]
        return sum(float(rows[0][t, token] - rows[1][t, token]) for t, token in enumerate(ids))

    records = read_records(pairs, Preference).records
    expected = np.mean([log_ratio(p.prompt, p.chosen) > log_ratio(p.prompt, p.rejected) for p in records])
    config = evaluate.Config(policies=[str(models / "ppo")], ref_policy=str(models / "sft"), pairs=pairs)
    found = figures(evaluate.run(config, tmp_path / "run"))
    assert found["ppo/pair_accuracy"]["value"] == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "give prompts .* or loss_on"),
        ({"prompts": "p"}, "policies is empty"),
        ({"prompts": "p", "policies": ["a"], "judges": {"j": "m:J"}}, "judges compare with `against`"),
        ({"prompts": "p", "policies": ["a"], "best_of": {"n": 2, "by": "m:f"}}, "best_of draws from `against`"),
        ({"pairs": "p", "judges": {"x": "m:J"}, "rewards": {"x": "m:f"}}, "judges and rewards are called 'x'"),
        ({"pairs": "p", "policies": ["a"]}, "needs ref_policy"),
        ({"pairs": "p", "rewards": {"a/b": "m:f"}}, "has a '/'"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate.Config(**changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("model", {"policies": ["runs/a/model", "runs/b/model"]}),
        ("a", {"policies": ["runs/a"], "against": "others/a"}),
        ("a", {"policies": {"a": "runs/x"}, "rewards": {"a": "runs/r"}}),
        ("a", {"policies": {"a": "runs/x"}, "against": "runs/y", "judges": {"a": "m:J"}}),
        ("a", {"against": "runs/a", "policies": ["runs/x"], "rewards": {"a": "runs/r"}}),
        ("best-of-4", {"policies": ["best-of-4"], "against": "y", "best_of": {"n": 4, "by": "m:f"}}),
        ("c", {"policies": ["c"], "against": "y", "best_of": {"c": {"n": 4, "by": "m:f"}}}),
        ("a-self", {"policies": {"a": "x", "a-self": "y"}, "against": "x"}),
        ("", {"policies": ["."]}),
    ],
)
def test_two_of_one_name_are_refused_before_anything_runs(name, changes):
    with pytest.raises(ValueError, match=f"called '{name}'" if name else "the name '' is empty"):
        evaluate.Config(prompts="p", **changes)


def test_a_policy_whose_name_ends_like_a_second_draws_keeps_its_loss(models, pairs, tmp_path):
    policies = {"my-self": str(models / "ppo"), "old": str(models / "sft")}
    config = evaluate.Config(policies=policies, against=str(models / "sft"), loss_on=pairs)
    found = {
        row["name"] for row in json.loads((evaluate.run(config, tmp_path / "run").path / "figures.json").read_text())
    }
    assert found == {"my-self/loss", "old/loss"}
