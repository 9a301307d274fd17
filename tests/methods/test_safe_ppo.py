"""Safe PPO's half without gradient, on numbers worked by hand; runs with two critics, apart and on one backbone."""

import json
import math

import pytest
import torch

from baro.batch import Sample, branch
from baro.config import load_config
from baro.errors import ConfigError
from baro.evaluate.constraint_section import constraint_section, held
from baro.evaluate.stages import Stage
from baro.evaluate.words import WORDS
from baro.methods import safe_ppo
from baro.models.forward import ScoredModel
from baro.protocols import LocalWorld
from baro.rows import JsonLines

WORLD = LocalWorld()
LEAST = {"policy": "-", "prompts": "-", "reward_model": "r", "cost_model": "c", "constraint": {"limit": 0.0}}


def sample(*costs: float) -> Sample:
    return Sample(torch.tensor([1]), tuple(branch([2]).with_(fields={"cost": cost}) for cost in costs))


def multiplier(**constraint) -> safe_ppo.Multiplier:
    return safe_ppo.Multiplier(safe_ppo.ConstraintConfig(**{"limit": 1.0} | constraint))


def test_the_window_is_a_mean_over_completions_of_whole_rollouts():
    """Rollouts of costs 4; 1, 1, 1; 0: the window of two has means 4, 7/4 and 3/4, all completions alike."""
    found = multiplier(window=2, learning_rate=0.1)
    rollouts = [torch.tensor(costs) for costs in ([4.0], [1.0, 1.0, 1.0], [0.0])]
    assert [found.look(costs, WORLD) for costs in rollouts] == pytest.approx([4.0, 1.75, 0.75])
    first = math.exp(0.1 * 1.0 * 3.0)
    second = math.exp(math.log(first) + 0.1 * first * 0.75)
    third = math.exp(math.log(second) - 0.1 * second * 0.25)
    assert found.value == pytest.approx(third)


def test_it_waits_and_what_was_waited_for_is_in_the_window():
    found = multiplier(delay=2, window=3)
    values = []
    for _ in range(3):
        found.look(torch.tensor([2.0]), WORLD)
        values.append(found.value)
    assert values == pytest.approx([1.0, 1.0, math.exp(0.1)])


def test_it_is_resumed_bit_for_bit():
    found, again = multiplier(window=2, delay=1), multiplier(window=2, delay=1)
    rollouts = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) + 1
    for costs in rollouts[:3]:
        found.look(costs, WORLD)
    again.load_state_dict(json.loads(json.dumps(found.state_dict())))
    for costs in rollouts[3:]:
        assert found.look(costs, WORLD) == again.look(costs, WORLD)
        assert found.value == again.value


def test_the_mean_is_the_same_however_ranks_share_it():
    """Two ranks with one and three completions: what each tells of its own is added up before anything is divided."""

    class Half(LocalWorld):
        def sum(self, values):
            return {key: value + {"cost": 3.0, "completions": 3}[key] for key, value in values.items()}

    one, two = multiplier(), multiplier()
    assert one.look(torch.tensor([5.0, 1.0, 1.0, 1.0]), WORLD) == two.look(torch.tensor([5.0]), Half()) == 2.0
    assert one.value == two.value


def test_the_interval_is_over_prompts():
    """Means 1 and 3 of two prompts: 2 ± 1.96 √(2/2), however many completions each has; none of one prompt."""
    found = safe_ppo.interval_of_mean([sample(0.0, 2.0), sample(3.0, 3.0, 3.0), sample()], WORLD)
    assert found == pytest.approx({"cost_low": 2 - 1.959964, "cost_high": 2 + 1.959964})
    assert safe_ppo.interval_of_mean([sample(1.0, 2.0)], WORLD) == {}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"constraint": {}}, "constraint.limit"),
        ({"cost_model": None}, "give either cost_model"),
        ({"costs": [{"by": "m:f"}]}, "give either cost_model"),
        ({"cost_model": None, "costs": [{"by": "a:f"}, {"by": "b:f"}]}, "two costs are called 'f'"),
        (
            {"cost_model": None, "costs": [{"judge": "m:j"}], "rollout": {"completions": 2}},
            "its mean is 1/2 whatever they cost",
        ),
        ({"reward_shaping": {"whiten": True}}, "scales rewards and their KL and not those of the costs"),
        ({"constraint": {"limit": 0, "mode": "fixed", "window": 2}}, "window does nothing in mode fixed"),
        ({"constraint": {"limit": 0, "mode": "threshold", "multiplier": 2}}, "multiplier does nothing in mode thres"),
        ({"constraint": {"limit": 0, "floor": 2, "multiplier": 1}}, "multiplier starts at 1, outside floor 2"),
        ({"constraint": {"limit": 0, "multiplier": 0}}, "multiplier starts at 0, outside floor 0.01"),
        (
            {"constraint": {"limit": 0, "mode": "threshold"}, "cost_value_model": "c"},
            "in constraint.mode threshold costs have no value model",
        ),
        (
            {"evaluation": {"prompts": "p", "rewards": [{"by": "c"}], "keep": "c"}},
            "c is trained on, and keeps the weights that have learned to please it",
        ),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_is_refused_before_anything_runs(changes, sentence):
    with pytest.raises(ConfigError) as refused:
        load_config(safe_ppo.Config, None, values=LEAST | changes)
    assert sentence in str(refused.value)


# --------------------------------------------------------------------------------------------------------------- runs

REWARDS = """
def length(prompts, completions, **columns):
    return [len(one) / 4 for one in completions]


def vowels(prompts, completions, **columns):
    return [sum(one.count(v) for v in "aeiou") / 2 for one in completions]
"""
SETTINGS = {
    "policy": "policy",
    "prompts": "prompts.jsonl",
    "rewards": [{"by": "test_safe_rewards:length"}],
    "costs": [{"by": "test_safe_rewards:vowels"}],
    "constraint": {"limit": 0.5},
    "rollout": {"prompts": 4, "completions": 2, "epochs": 1, "minibatches": 2},
    "sampling": {"max_new_tokens": 6},
    "trainer": {"steps": 4, "learning_rate": 1e-2},
}


@pytest.fixture
def run(policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "test_safe_rewards.py").write_text(REWARDS)
    rows = [{"prompt": f"Say {word} {n}."} for n in range(4) for word in ("hi", "bye")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(out="run", **changes):
        settings = SETTINGS | {"policy": str(policy)} | changes
        return safe_ppo.run(load_config(safe_ppo.Config, None, values=settings), out)

    return start


def logged(found):
    return [row for row in JsonLines(found.path / "metrics.jsonl").read() if "loss/policy" in row]


def test_two_totals_two_critics_and_what_is_told(run):
    found = run()
    rows = logged(found)
    assert {path.name for path in found.path.iterdir()} >= {"model", "value_model", "cost_value_model"}
    for row in rows:
        assert row["objective/costs"] == pytest.approx(row["objective/cost/vowels"])
        assert row["objective/scores"] == pytest.approx(row["objective/score/length"])
        assert row["constraint/cost_low"] <= row["constraint/mean_cost"] <= row["constraint/cost_high"]
    assert all(row["loss/cost_value"] > 0 and row["grad_norm/cost_value_model"] > 0 for row in rows)
    first, later = rows[0], rows[2]  # two updates a rollout
    assert first["constraint/lambda"] == pytest.approx(math.exp(0.1 * (first["constraint/mean_cost"] - 0.5)))
    moved = math.log(later["constraint/lambda"]) - math.log(first["constraint/lambda"])
    assert moved == pytest.approx(0.1 * first["constraint/lambda"] * (later["constraint/mean_cost"] - 0.5), abs=1e-6)


def test_over_the_threshold_a_completion_has_less_than_every_other(run, monkeypatch):
    seen = []
    stream = safe_ppo.Prepare._stream

    def noted(self, critic, scores, of, **options):
        seen.append((scores.clone(), [one.fields for sample in of.samples for one in sample.completions]))
        return stream(self, critic, scores, of, **options)

    monkeypatch.setattr(safe_ppo.Prepare, "_stream", noted)
    found = run(constraint={"limit": 0.0, "mode": "threshold"})
    assert not (found.path / "cost_value_model").exists()
    for scores, fields in seen:
        lowest = min(one["score"] for one in fields)
        expected = [lowest - 1 if one["cost"] > 0 else one["score"] for one in fields]
        assert scores.tolist() == pytest.approx(expected)
        assert {one["cost"] > 0 for one in fields} == {True, False}
    rows = logged(found)
    assert all("constraint/lambda" not in row for row in rows)
    assert 0 < sum(row["constraint/over_limit_fraction"] for row in rows) < len(rows)


def test_six_roles_on_one_backbone_have_the_losses_of_models_apart(run):
    lora = {"lora": {"r": 2}}
    shared, apart = run("shared", **lora), run("apart", **lora, shared_trunk=False)
    for one, other in zip(logged(shared), logged(apart), strict=True):
        for name in ("loss/policy", "loss/value", "loss/cost_value", "constraint/lambda", "objective/costs"):
            assert one[name] == pytest.approx(other[name], abs=2e-5), name
    for name in ("model", "value_model", "cost_value_model"):
        assert (shared.path / name / "config.json").exists()


def test_two_value_heads_start_from_numbers_of_their_own(run, monkeypatch):
    kept = {}
    start = safe_ppo.Objective.__init__

    def noted(self, policy: ScoredModel, *critics_and_config) -> None:
        start(self, policy, *critics_and_config)
        kept.update({name: one.scalar_head.weight.clone() for name, one in self.critics.items()})

    monkeypatch.setattr(safe_ppo.Objective, "__init__", noted)
    run(lora={"r": 2})
    assert not torch.equal(kept["value_model"], kept["cost_value_model"])


# ------------------------------------------------------------------------------------------------------------- report


def a_stage(tmp_path, costs, limit=1.0):
    """Rollouts of two updates each, with a cost and its interval of ± 0.2."""
    rows = [
        {
            "step": 2 * k + update, "rollout": k, "constraint/mean_cost": cost, "objective/scores": 2.0,
            "constraint/cost_low": cost - 0.2, "constraint/cost_high": cost + 0.2, "constraint/lambda": 1.0 + k,
            "constraint/over_limit_fraction": 0.5, "objective/costs": cost + 0.1 * (-1) ** update,
        }
        for k, cost in enumerate(costs)
        for update in (1, 2)
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Stage("safe", tmp_path, {"verb": "safe-ppo", "config": {"constraint": {"limit": limit}}})


def test_the_last_quarter_of_the_rollouts_is_held_against_the_limit(tmp_path):
    """Of eight rollouts the last two, costs 0.6 and 1.0: 0.8 ± √(2 · 0.2²)/2."""
    found = held(a_stage(tmp_path, [9, 9, 9, 9, 9, 9, 0.6, 1.0]))
    half = math.sqrt(2 * 0.2**2) / 2
    assert (found.cost.value, found.cost.low, found.cost.high) == pytest.approx((0.8, 0.8 - half, 0.8 + half))
    assert (found.multiplier, found.score, found.over) == pytest.approx((7.5, 2.0, 0.5))
    assert found.verdict == "limit_held"


@pytest.mark.parametrize(("cost", "verdict"), [(0.7, "limit_held"), (1.1, "limit_open"), (1.3, "limit_broken")])
def test_a_limit_within_the_interval_is_not_told_apart(tmp_path, cost, verdict):
    assert held(a_stage(tmp_path, [cost])).verdict == verdict


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_run_under_a_limit_has_a_section(tmp_path, language):
    words = WORDS[language]
    page = constraint_section([a_stage(tmp_path, [1.5, 0.5])], words)
    assert words["limit_held"] in page
    assert "0.500 [0.300, 0.700]" in page
    assert page.count("<figure") == 3
    assert held(Stage("other", tmp_path, {"config": {}})) is None
    assert constraint_section([], words) == ""
