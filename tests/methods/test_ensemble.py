"""Reward ensembles: what members say together, how they are trained in one run, and what is refused before anything."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from methods.conftest import PROMPTS
from pydantic import ValidationError

from baro import scorers
from baro.config import load_config
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.declared import inputs_in
from baro.errors import ConfigError, GuardStop, RewardError
from baro.evaluate import config as evaluation
from baro.functional.ensembles import Scale
from baro.methods import critic, dpo, label, ppo, reward
from baro.methods.members import member_config, resampled
from baro.models.load import Architecture, load_scalar_model, load_value_model, new_policy, save_policy
from baro.pipeline import load_pipeline
from baro.records import Message, Rollout, Score, said
from baro.reward_config import RewardTerm
from baro.rewards.ensemble import EnsembleReward, Member, measured
from baro.rewards.figures import mean_rows
from baro.scorers import load_each, load_reward, load_scorer

WORDS = ["red", "green", "blue", "black", "white", "brown"]
PAIRS = [
    {"prompt": prompt, "chosen": f"{prompt} {word}", "rejected": f"no {word} here"}
    for prompt in PROMPTS
    for word in WORDS
]


class Given:
    """A source whose scores are given, by completion."""

    def __init__(self, name: str, **scores: float | Score | None) -> None:
        self.name, self.scores = name, scores

    def score(self, rollouts):
        found = [self.scores[one.text] for one in rollouts]
        return [one if isinstance(one, Score) else Score(one) for one in found]


def rollouts(*texts: str) -> list[Rollout]:
    return [Rollout((Message("user", "q"),), said(text)) for text in texts]


def ensemble(sources, scales=None, **options) -> EnsembleReward:
    scales = scales or [Scale(0.0, 1.0)] * len(sources)
    members = [Member(source, scale) for source, scale in zip(sources, scales, strict=True)]
    return EnsembleReward(members, name="e", **options)


# ----------------------------------------------------------------------------------------------------- the combination


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 7 / 6),
        ({"combine": "worst"}, 0.5),
        ({"combine": "variance"}, 7 / 6 - 0.5 * 42 / 108),
        ({"combine": "variance", "penalty": 2.0}, 7 / 6 - 2.0 * 42 / 108),
    ],
)
def test_members_are_centred_and_scaled_first_and_the_result_is_in_their_units(options, expected):
    """Scores 1, 2 and 0.5 in units of each member's own sd, whatever its zero: means 10, 0, −4; sds 2, 1, 3."""
    scales = [Scale(10.0, 2.0), Scale(0.0, 1.0), Scale(-4.0, 3.0)]
    sources = [Given("a", x=12.0), Given("b", x=2.0), Given("c", x=-2.5)]
    (found,) = ensemble(sources, scales, **options).score(rollouts("x"))
    assert found.value == pytest.approx(2.0 + 2.0 * expected)  # common mean (10 + 0 − 4) / 3, common sd (2 + 1 + 3) / 3
    assert found.std == pytest.approx(2.0 * math.sqrt(42 / 108))
    (turned,) = ensemble(sources[::-1], scales[::-1], **options).score(rollouts("x"))
    assert turned == found


def test_an_offset_alone_does_not_make_a_member_the_worst():
    sources = [Given("low", x=-100.0, y=-101.0), Given("high", x=50.0, y=51.0)]
    scales, _ = measured(sources, rollouts("x", "y"), where="rows")
    x, y = ensemble(sources, scales, combine="worst").score(rollouts("x", "y"))
    assert x.value == y.value  # each is the worse one once


@pytest.mark.parametrize("combine", ["mean", "worst", "variance"])
def test_copies_of_one_model_are_the_model(combine):
    source = Given("a", x=0.3, y=-7.1)
    found = ensemble([source] * 3, [Scale(0.7, 1.9)] * 3, combine=combine).score(rollouts("x", "y"))
    assert [one.value for one in found] == pytest.approx([0.3, -7.1], abs=1e-12)
    assert [one.std for one in found] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_planted_disagreement_lowers_what_is_penalised_and_nothing_else():
    sources = [Given("a", sure=1.0, disputed=3.0), Given("b", sure=1.0, disputed=-1.0)]
    by = {
        how: ensemble(sources, combine=how).score(rollouts("sure", "disputed")) for how in ("mean", "worst", "variance")
    }
    assert [one.value for one in by["mean"]] == [1.0, 1.0]
    assert [one.value for one in by["variance"]] == [1.0, -1.0]  # 1 − 0.5 · 4
    assert [one.value for one in by["worst"]] == [1.0, -1.0]
    assert [one.std for one in by["mean"]] == [0.0, 2.0]


def test_a_member_that_fails_fails_the_score_and_one_without_opinion_does_not():
    one = Given("a", failed=Score(None, "broken"), alone=2.0, silent=None)
    other = Given("b", failed=1.0, alone=None, silent=None)
    failed, alone, silent = ensemble([one, other]).score(rollouts("failed", "alone", "silent"))
    assert (failed.value, failed.error) == (None, "e: broken")
    assert (alone.value, alone.error, alone.std) == (2.0, None, 0.0)
    assert (silent.value, silent.error) == (None, None)
    assert math.isnan(failed.std)
    assert math.isnan(silent.std)


def test_what_members_are_scaled_on():
    sources = [Given("a", x=1.0, y=3.0, z=None), Given("b", x=0.0, y=10.0, z=5.0)]
    scales, scored = measured(sources, rollouts("x", "y", "z"), where="rows")
    assert (scales, scored) == ([(2.0, 1.0), (5.0, 5.0)], [True, True, False])  # z is not everybody's
    with pytest.raises(ConfigError, match=r"rows: b cannot be scaled on it: its 2 scores are all the same"):
        measured([sources[0], Given("b", x=1.0, y=1.0)], rollouts("x", "y"), where="rows")
    with pytest.raises(RewardError, match="1 of 2 scores failed"):
        measured([Given("a", x=1.0, y=Score(None, "broken"))], rollouts("x", "y"), where="rows")


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        ({"by": ["a"]}, "by is a list of one, and an ensemble has two members at least"),
        ({"by": []}, "by is a list of one, and an ensemble has two members at least"),
        ({"by": ["a", "m:f"]}, "scaled_on is missing, and nothing says what zero and unit the scores of m:f have"),
        ({"by": "a", "scaled_on": "rows"}, "scaled_on is for a list in by"),
        ({"by": "m:f", "combine": "worst"}, "combine is for several members, and m:f is one"),
        ({"by": "one", "combine": "worst"}, "combine is for several members, and one is one"),
        ({"by": ["a", "b"], "penalty": 0.1}, "penalty is used by combine: variance"),
        ({"by": ["a", "b"], "combine": "worst", "penalty": 0.1}, "penalty is used by combine: variance"),
    ],
)
@pytest.mark.parametrize("place", ["rewards", "label", "best_of"])
def test_what_does_not_fit_together_is_one_sentence_wherever_it_stands(term, sentence, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one").mkdir()
    Path("one/config.json").write_text("{}")
    config_class, values = {
        "rewards": (ppo.Config, {"policy": "p", "prompts": "q", "rewards": [term]}),
        "label": (label.Config, {"answers": "q", **term}),
        "best_of": (
            evaluation.Config,
            {"prompts": "q", "policies": ["p"], "against": "p", "best_of": {"n": 2, **term}},
        ),
    }[place]
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(config_class, None, values=values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("twice", ["a", "./a/"])
def test_a_model_is_no_two_members(twice):
    with pytest.raises(ValidationError, match=r"'a' (is named twice|and './a/' are the same); keep one"):
        RewardTerm(by=["a", "b", twice])


def test_a_pipeline_knows_that_a_stage_trains_one_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model", "pairs", "prompts"):
        Path(name).write_text("")
    stages = {
        "reward": {"do": "reward", "model": "model", "preferences": "pairs"},
        "ppo": {
            "do": "ppo",
            "policy": "model",
            "prompts": "prompts",
            "rewards": [{"by": "reward", "combine": "worst"}],
        },
    }
    with pytest.raises(ConfigError, match=r"combine is for several members, and 'reward' trains one; .* members: 4"):
        load_pipeline({"stages": stages})
    stages["reward"]["members"] = 2
    stages["other"] = {"do": "reward", "model": "model", "preferences": "pairs"}
    stages["ppo"]["rewards"].append({"by": ["reward", "other"], "combine": "variance", "scaled_on": "pairs"})
    *_, stage = load_pipeline({"stages": stages}, out=tmp_path).stages
    assert stage.needs == ("reward", "other")
    found = {one.key: (one.value, one.kind) for one in inputs_in(ppo.Config, stage.config)}
    assert found["rewards.1.by.1"] == (str(tmp_path / "other"), "scorer")
    assert found["rewards.1.scaled_on"] == ("pairs", "records")
    assert [term.called for term in stage.config.terms] == ["reward", "ensemble"]


def test_bootstrap_needs_several_members():
    with pytest.raises(ConfigError, match="bootstrap makes members differ, and members is 1"):
        load_config(reward.Config, None, values={"model": "m", "preferences": "p", "bootstrap": True})


# --------------------------------------------------------------------------------------------------------- one run


@pytest.fixture(scope="module")
def folder(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    (folder / "held.jsonl").write_text("".join(json.dumps(row | {"p_chosen": 0.75}) + "\n" for row in PAIRS[:9]))
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    rows = [{"prompt": row["prompt"], "responses": [row["chosen"], row["rejected"]]} for row in PAIRS]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def values_of(policy, folder, **changes):
    trainer = {"steps": 4, "learning_rate": 0.01, "batch_size": 8, "checkpoint_every": 2, "held_out": "held.jsonl"}
    trainer |= {"held_out": str(folder / "held.jsonl")} | changes.pop("trainer", {})
    data = {"max_length": 96}
    return {
        "model": str(policy),
        "preferences": str(folder / "pairs.jsonl"),
        "trainer": trainer,
        "data": data,
        **changes,
    }


@pytest.fixture(scope="module")
def train(policy, folder):
    """Reward runs by their settings, each trained once."""
    known = {}

    def trained(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            config = load_config(reward.Config, None, values=values_of(policy, folder, **changes))
            known[key] = reward.run(config, folder / f"run-{len(known)}")
        return known[key]

    return trained


def figures(path):
    return {row["name"]: row["value"] for row in json.loads((path / "figures.json").read_text())}


def answers():
    return [
        Rollout((Message("user", PROMPTS[0]),), said(text)) for text in (f"{PROMPTS[0]} red", "no red here", "hello")
    ]


def weights(folder):
    return load_scalar_model(folder).state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_members_are_runs_of_one_model_with_seeds_of_their_own(train):
    run = train(members=3)
    config = reward.Config(**run.manifest["config"])
    seeds = [member_config(config, k).trainer.seed for k in range(3)]
    assert seeds[0] == 0
    assert len(set(seeds)) == 3
    members = [weights(run.model / "members" / str(k)) for k in range(3)]
    for seed, found in zip(seeds[:2], members, strict=False):
        assert same(found, weights(train(trainer={"seed": seed}).model))
    assert not same(members[0], members[1])
    assert not same(members[1], members[2])
    assert len(run.metrics.read()) == len(json.loads(json.dumps(train().metrics.read())))


def test_an_ensemble_run_scores_by_all_of_its_members(train):
    run = train(members=3)
    source = load_reward(str(run.path))
    alone = [load_reward(str(run.model / "members" / str(k))) for k in range(3)]
    scales = [Scale(one.model.measured.mean, one.model.measured.sd) for one in alone]
    assert source.score(answers()) == ensemble(alone, scales).score(answers())
    listed = RewardTerm(by=[str(run.model / "members" / str(k)) for k in (2, 0, 1)], combine="worst")
    together = load_scorer(listed, name="r", run=run)
    assert together.score(answers()) == source.with_("worst", None).score(answers())
    (kept,) = json.loads((run.path / "scales.json").read_text())
    assert kept["scaled_on"] is None
    assert list(kept["members"].values()) == [scales[k]._asdict() for k in (2, 0, 1)]
    for k, member in enumerate(load_each(str(run.path))):
        (found, *_), (plain, *_) = member.score(answers()), alone[k].score(answers())
        assert found.value == pytest.approx(source.scale.mean + source.scale.sd * scales[k].scaled(plain.value))


@pytest.mark.parametrize("changes", [{}, {"head": "ffn", "pooling": "mean"}])
def test_adapters_on_one_backbone_are_the_models_that_they_would_be_alone(train, changes):
    lora = {"lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]}} | changes
    run = train(members=2, **lora)
    backbones = list(run.model.rglob("model.safetensors"))
    assert backbones == [run.model / "backbone" / "model.safetensors"]
    source = load_reward(str(run.path))
    trunks = {id(member.source.model.trunk) for member in source.members}
    assert len(trunks) == 1
    config = reward.Config(**run.manifest["config"])
    for k, member in enumerate(source.members):
        alone = load_reward(str(train(**lora, trainer={"seed": member_config(config, k).trainer.seed}).path))  # merged
        expected = [one.value for one in alone.score(answers())]
        assert [one.value for one in member.source.score(answers())] == pytest.approx(expected, abs=1e-5)
    one, other = ([s.value for s in m.source.score(answers())] for m in source.members)
    assert one != other


def test_bootstrap_gives_every_member_rows_of_its_own(train):
    samples = list(range(100))
    drawn = [list(resampled(samples, 0, k)) for k in range(2)]
    assert [len(one) for one in drawn] == [100, 100]
    assert drawn[0] != drawn[1]
    assert 50 < len(set(drawn[0])) < 75  # 63 of a hundred on average
    assert list(resampled(samples, 0, 1)) == drawn[1] != list(resampled(samples, 1, 1))
    plain, own = train(members=2), train(members=2, bootstrap=True)
    assert not same(weights(plain.model / "members/0"), weights(own.model / "members/0"))
    kept = [json.loads((run.model / "members/1/reward_head.json").read_text())["measured"] for run in (plain, own)]
    assert kept[0]["sha256"] == kept[1]["sha256"]  # measured on the same rows all the same
    assert kept[0]["completions"] == 2 * len(PAIRS)


def test_what_figures_say(train):
    run = train(members=3)
    found = figures(run.path)
    own = [figures(run.path / "members" / str(k)) for k in range(3)]
    for k, member in enumerate(own):
        assert found[f"ensemble/member/{k}/accuracy"] == member["reward_model/accuracy"]
    assert found["reward_model/vote_ceiling"] == pytest.approx(0.75)
    right = found["reward_model/accuracy"]
    assert found["reward_model/vote_agreement"] == pytest.approx(0.75 * right + 0.25 * (1 - right))
    assert {"ensemble/worst/accuracy", "ensemble/std", "ensemble/divided"} <= found.keys()
    quarters = [found[f"reward_model/accuracy_by_margin/{n}"] for n in (1, 2, 3, 4)]
    assert sum(q * n for q, n in zip(quarters, (3, 2, 2, 2), strict=True)) / 9 == pytest.approx(right)
    assert found["ensemble/std"] > 0


def test_the_means_of_members_metrics():
    one = [{"step": 0, "eval/loss": 1.0}, {"step": 1, "loss": 2.0, "accuracy": 0.5, "perf/step_seconds": 1.0}]
    other = [{"step": 0, "eval/loss": 3.0}, {"step": 1, "loss": None}]
    assert list(mean_rows([one, other])) == [{"step": 0, "eval/loss": 2.0}, {"step": 1, "loss": 2.0, "accuracy": 0.5}]


def test_a_member_that_is_finished_is_not_trained_again(policy, folder, monkeypatch, tmp_path):
    trained, fit = [], reward.stage.fit_offline

    def failing(run, *arguments, **options):
        trained.append(run.path.name)
        if trained == ["0", "1"]:
            raise GuardStop("stopped for a reason")
        fit(run, *arguments, **options)

    monkeypatch.setattr(reward.stage, "fit_offline", failing)
    config = load_config(reward.Config, None, values=values_of(policy, folder, members=3))
    with pytest.raises(GuardStop):
        reward.run(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    run = reward.run(config, tmp_path / "run")
    assert trained == ["0", "1", "1", "2"]
    assert run.finished
    monkeypatch.setattr(reward.stage, "fit_offline", fit)
    assert reward.run(config, tmp_path / "run").path == run.path


def test_ppo_and_label_say_how_much_members_differ(policy, folder, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train(members=3)
    values = {
        "policy": str(policy), "prompts": str(folder / "prompts.jsonl"), "accept_weak_reward_model": True,
        "rewards": [{"by": str(run.path), "combine": "variance", "penalty": 2.0, "name": "r"}],
        "rollout": {"prompts": 4, "epochs": 1, "minibatches": 1}, "sampling": {"max_new_tokens": 4},
        "data": {"max_length": 96}, "trainer": {"steps": 1, "learning_rate": 1e-3},
    }  # fmt: skip
    rows = {}
    for combine in ("mean", "worst", "variance"):
        values["rewards"][0] |= {"combine": combine, "penalty": 2.0 if combine == "variance" else None}
        config = load_config(ppo.Config, None, values=values)
        rows[combine] = next(row for row in ppo.run(config, tmp_path / combine).metrics.read() if "loss" in row)
    spread = {round(row["objective/score/r/std"], 9) for row in rows.values()}
    assert len(spread) == 1
    assert spread.pop() > 0
    scores = [rows[combine]["objective/score/r"] for combine in ("mean", "worst", "variance")]
    assert scores[0] > scores[1]
    assert scores[0] > scores[2]
    start = load_value_model(run.model / "members" / "0", seed=0)
    assert critic.value_start(config, None, config.terms) == str(run.model / "members" / "0")
    assert start.measured is not None

    labelled = label.run(label.Config(answers=str(folder / "answers.jsonl"), by=str(run.path)), tmp_path / "labelled")
    assert figures(labelled.path)["disagreement"] > 0


def test_lists_are_scaled_on_the_rows_that_are_named_and_once(train, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = train(), train(trainer={"seed": 7})
    rows = str(folder / "answers.jsonl")
    config = label.Config(answers=rows, by=[str(one.path), str(other.path)], combine="worst", scaled_on=rows)
    done = label.run(config, tmp_path / "labelled")
    (kept,) = json.loads((done.path / "scales.json").read_text())
    assert (kept["scaled_on"], list(kept["members"])) == (rows, [str(one.path), str(other.path)])
    assert done.manifest["inputs"].keys() == {"by.0", "by.1", "answers", "scaled_on"}
    assert json.loads((done.path / "ledger.json").read_text())["scaled_on"]["kept"] == len(PAIRS)
    monkeypatch.setattr(scorers, "measured", None)  # not measured again
    assert len(load_scorer(config, name="ensemble", run=done).members) == 2


def test_members_of_a_list_that_do_not_go_together(train, policy, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, run = train(), train(members=3)
    fewer = Path("fewer.jsonl")
    fewer.write_text("".join(json.dumps(row) + "\n" for row in PAIRS[:12]))
    elsewhere = train(preferences=str(fewer.resolve()))
    template = Template(train_tokenizer([" ".join(row.values()) for row in PAIRS], 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), Path("other"))
    template.save(Path("other"))
    tokens = train(model=str(Path("other").resolve()))
    for other, sentence in [
        (str(run.model / "members" / "0"), "are the same reward model; name different ones"),
        (str(elsewhere.path), r"were trained on different rows, so that .*; give scaled_on: FILE"),
        (str(tokens.path), "have different tokenizers or templates, and an ensemble's members share one"),
        (str(run.path), "does not say on which rows its scores have which mean; give scaled_on: FILE"),
    ]:
        with pytest.raises(ConfigError, match=sentence) as caught:
            load_scorer(RewardTerm(by=[str(one.path), other]), name="r", run=one)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValidationError, match="combine is for several members"):
        RewardTerm(by=str(one.path), combine="worst")


def test_an_ensemble_is_no_one_model(train, policy, folder, tmp_path):
    for changes in ({}, {"lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]}}):
        run = train(members=2, **changes)
        for values in ({"policy": str(run.path)}, {"policy": str(policy), "ref_policy": str(run.path)}):
            config = {"preferences": str(folder / "pairs.jsonl"), "data": {"max_length": 96}} | values
            with pytest.raises(ConfigError, match="is a reward or value model"):
                dpo.run(load_config(dpo.Config, None, values=config), tmp_path / f"dpo-{len(changes)}-{len(values)}")
        again = load_config(reward.Config, None, values=values_of(policy, folder) | {"model": str(run.path)})
        with pytest.raises(ConfigError, match="is an ensemble of reward models, and one model is needed; give"):
            reward.run(again, tmp_path / f"again-{len(changes)}")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda model: (model / "ensemble.json").unlink(), "lacks ensemble.json, without which its scores are others"),
        (lambda model: (model / "ensemble.json").write_text("{}"), "ensemble.json: is damaged .*; copy the run again"),
        (lambda model: (model / "members/1").rename(model / "lost"), "members/1: is missing, and .* needs it"),
    ],
)
def test_an_ensemble_that_was_copied_in_part(policy, folder, tmp_path, monkeypatch, damage, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("baro"), "disabled", True)
    run = reward.run(
        load_config(reward.Config, None, values=values_of(policy, folder, members=2, trainer={"steps": 1}))
    )
    damage(run.model)
    with pytest.raises(ConfigError, match=sentence):
        load_reward(str(run.path))
