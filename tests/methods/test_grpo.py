"""GRPO: advantages in a rollout, what is left out, what is drawn again, presets, and a run that learns."""

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import torch

from baro.batch import Sample, branch, flat, with_flat
from baro.collate import collate
from baro.config import load_config
from baro.errors import ConfigError, GuardStop, RewardError
from baro.grpo_config import PRESETS, Config
from baro.measure import MetricSums
from baro.methods import grpo
from baro.methods.baselines import standardised_each
from baro.models.forward import ScoredModel, flat_forward
from baro.protocols import LocalWorld
from baro.rollout.engine import Engine
from baro.rollout.fresh import OldLogprobs

LEAST = {"policy": "-", "prompts": "-", "rewards": [{"by": "m:a"}, {"by": "m:b"}], "sampling": {"max_new_tokens": 4}}
NAN = float("nan")


def config(**values):
    return load_config(Config, None, values=LEAST | values)


def group(*scores, ended=None, **fields):
    """A prompt with a completion of so many tokens as its place says, for each score."""
    done = []
    for i, score in enumerate(scores):
        own = {name: values[i] for name, values in fields.items()}
        told = {"score": score, "finished": float(ended[i] if ended else True), "rollout": 0.0}
        old = {"old_logprobs": torch.full((i + 1,), -1.0)}
        done.append(branch(list(range(4, 5 + i))).with_(token_fields=old, fields=told | own))
    return Sample(torch.tensor([1, 2]), tuple(done))


def fresh(told):
    policy = ScoredModel(tiny.llama(0))
    return grpo.Prepare(policy, policy, told)


def prepared(samples, told):
    done = fresh(told)(samples, LocalWorld())
    return [one for sample in done for one in sample.completions]


def first(one):
    values = one.token_fields["advantages"].tolist()
    assert len(set(values)) == 1
    return values[0]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, [0.7071, -0.7071, 0.0, 0.0]),
        ({"advantage": {"scale": "none"}}, [1.0, -1.0, 0.0, 0.0]),
        ({"advantage": {"ddof": 0}}, [1.0, -1.0, 0.0, 0.0]),
        ({"advantage": {"epsilon": 1.0}}, [1 / (2**0.5 + 1), -1 / (2**0.5 + 1), 0.0, 0.0]),
        ({"advantage": {"baseline": "leave_one_out", "scale": "none"}}, [2.0, -2.0, 0.0, 0.0]),
        ({"advantage": {"baseline": "rank", "scale": "none"}}, [0.5, -0.5, 0.0, 0.0]),
        ({"advantage": {"baseline": "batch", "scale": "none"}}, [-0.25, -2.25, 1.25, 1.25]),
        ({"advantage": {"scale": "batch"}}, [1 / 2.75**0.5, -1 / 2.75**0.5, 0.0, 0.0]),
        ({"reward_shaping": {"clip": 0.5}}, [0.0, 0.0, 0.0, 0.0]),
        ({"overlong_buffer": 4, "advantage": {"scale": "none"}}, [1.125, -1.125, 0.125, -0.125]),
    ],
)
def test_advantages_of_a_rollout(told, expected):
    """Rewards 3, 1 and 4.5, 4.5; the completions have one and two tokens."""
    done = prepared([group(3.0, 1.0), group(4.5, 4.5)], config(**told))
    assert [first(one) for one in done] == pytest.approx(expected, abs=2e-4)
    assert [one.fields["tied"] for one in done][2:] == [float("overlong_buffer" not in told)] * 2
    assert [one.units["learned_tokens"] for one in done] == [1.0, 2.0, 1.0, 2.0]


def test_a_completion_that_did_not_end_is_left_out_of_loss_and_denominators():
    done = prepared([group(3.0, 1.0, ended=[True, False])], config(truncated="leave_out"))
    assert [first(one) != 0 for one in done] == [True, False]
    assert [dict(one.units) for one in done] == [
        {"learned_tokens": 1.0, "learned_completions": 1.0},
        {"learned_tokens": 0.0, "learned_completions": 0.0},
    ]
    assert [one.fields["learned"] for one in done] == [1.0, 0.0]


def test_rewards_of_different_scales_count_alike():
    """By their sum the second one alone decides; and where it is silent, it is not 0."""
    a, b = [1.0, 0.0, 1.0, 0.0], [0.0, 100.0, NAN, NAN]
    samples = [group(100.0, 1.0, 1.0, 0.0, **{"score/a": a, "score/b": b})]
    done = prepared(samples, config(advantage={"terms": "each"}))
    half = 0.5 / math.sqrt(1 / 3)
    raw = torch.tensor([half - 0.5**0.5, -half + 0.5**0.5, half, -half], dtype=torch.float64)
    expected = ((raw - raw.mean()) / raw.std()).tolist()
    assert [first(one) for one in done] == pytest.approx(expected, abs=1e-3)
    assert expected[0] > expected[1]
    silent = [(1.0, torch.full((2,), NAN))]
    nothing = standardised_each(silent, torch.tensor([0, 0]), 1, config().advantage, LocalWorld())
    assert nothing.tolist() == [0.0, 0.0]


# ------------------------------------------------------------------------------------------------- what is skipped

IDLE = {"dr_grpo", "dapo", "gspo", "cispo", "dppo"}
"""Presets without a KL: what has no advantage has no gradient."""
SKIPPING = [(name, {"preset": name, "aggregate": how}) for name in PRESETS for how in ("token", "sequence", "constant")]
SKIPPING += [("left out", {"truncated": "leave_out", "kl": {"coef": 0.5}})]


def drawn_groups():
    """Three prompts of four completions; the first one's scores are equal, and one completion has not ended."""
    drawn = torch.Generator().manual_seed(2)
    groups = []
    for scores in ([1.0] * 4, [0.0, 1.0, 0.0, 1.0], [2.0, 1.0, 1.5, 1.5]):
        done = []
        for i, score in enumerate(scores):
            ids = torch.randint(4, 23, (2 + int(torch.randint(5, (), generator=drawn)),), generator=drawn)
            old = {"old_logprobs": -3.0 + torch.randn(len(ids), generator=drawn).double()}
            told = {"score": score, "finished": float(i != 3), "rollout": 0.0}
            done.append(branch(ids).with_(token_fields=old, fields=told))
        groups.append(Sample(torch.tensor([1, 2, len(groups) + 4]), tuple(done)))
    return groups


def unskipped(samples):
    return [s.with_completions([one.with_(skip=False) for one in s.completions]) for s in samples]


def gradient(told, samples, *, budget, ranks):
    """Of one step, summed over micro-batches and ranks; and its metrics."""
    policy = ScoredModel(tiny.llama(0))
    objective = grpo.Objective(policy, told)
    shares = [collate(samples[rank::ranks], micro_batch_tokens=budget, hidden_size=16, atom="completion")
              for rank in range(ranks)]  # fmt: skip
    batches, sums = [batch for own in shares for batch in own], MetricSums()
    totals = {unit: sum(one.units.get(unit, 0.0) for one in batches) for unit in batches[0].units}
    for batch in batches:
        for output in objective.losses(batch, totals):
            output.loss.backward()
            sums.add(output)
    return {name: one.grad for name, one in policy.named_parameters()}, sums.over(LocalWorld())


@pytest.mark.parametrize(("name", "changes"), SKIPPING, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_skipped_changes_no_gradient_and_no_figure_of_completions(name, changes):
    told = config(**changes)
    samples = grpo.Prepare(ScoredModel(tiny.llama(0)), ScoredModel(tiny.llama(7)), told)(drawn_groups(), LocalWorld())
    skipped = [one.skip for sample in samples for one in sample.completions]
    if name in IDLE:  # the tied prompt, and two that are their prompt's mean
        assert [i for i, skip in enumerate(skipped) if skip] == [0, 1, 2, 3, 10, 11]
    elif name == "left out":
        assert [i for i, skip in enumerate(skipped) if skip] == [3, 7, 11]
    else:
        assert not any(skipped)
    expected, plain = gradient(told, unskipped(samples), budget=1000, ranks=1)
    for budget, ranks in ((1000, 1), (16, 1), (24, 2), (1000, 3)):
        found, metrics = gradient(told, samples, budget=budget, ranks=ranks)
        for key, one in found.items():
            assert (one - expected[key]).abs().max() <= 1e-9, (key, budget, ranks)
        for key, value in metrics.items():
            if key in ("loss", "loss/policy") or key.startswith("objective/"):
                assert value == pytest.approx(plain[key], abs=1e-6), key
    lengths = torch.tensor([one.scored_tokens for sample in samples for one in sample.completions])
    share = float(lengths[torch.tensor(skipped)].sum() / lengths.sum())
    assert metrics["objective/skipped_fraction"] == pytest.approx(share)
    assert (share > 0.2) == (name in IDLE or name == "left out")


def test_a_step_of_tied_prompts_is_told_of(at_work):
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:same"}],
        "rollout": {"prompts": 3, "completions": 2},
        "trainer": {"learning_rate": 1e-3, "steps": 2},
    }
    found = rows(grpo.run(load_config(Config, None, values=given), "runs/same"))
    assert [row["objective/skipped_fraction"] for row in found] == [1.0, 1.0]
    assert [row["objective/scores"] for row in found] == [0.5, 0.5]
    assert [row["grad_norm"] for row in found] == [0.0, 0.0]
    assert "policy/entropy" not in found[0]


def test_a_reward_that_says_nothing_stops_the_run():
    prepare = fresh(config())
    for _ in range(grpo.SILENT - 1):
        prepare([group(0.0, 0.0)], LocalWorld())
    state = prepare.state_dict()
    prepare([group(0.0, 1.0)], LocalWorld())
    assert prepare.silent == 0
    prepare.load_state_dict(state)
    with pytest.raises(GuardStop, match="nothing can be learned"):
        prepare([group(1.0, 1.0)], LocalWorld())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_what_is_not_given(name):
    made = config(preset=name)

    def check(preset, block):
        for key, value in preset.items():
            if isinstance(value, dict):
                check(value, getattr(block, key))
            else:
                assert getattr(block, key) == value

    check(PRESETS[name], made)
    given = config(preset=name, kl={"coef": 0.7}, rollout={"completions": 5})
    assert (given.kl.coef, given.rollout.completions) == (0.7, 5)
    assert given.kl.place == made.kl.place
    assert ("kl.coef=0.7" in grpo.told(PRESETS[name], given)) == ("kl" in PRESETS[name])


TOLD = {
    "grpo": "aggregate=sequence, kl.coef=0.04",
    "dr_grpo": "advantage.scale=none, aggregate=constant",
    "dapo": "clip_range_high=0.28, rollout.draws=4",
    "rloo": "advantage.baseline=leave_one_out, advantage.scale=none, policy_loss=sequence_clip, aggregate=sequence, "
    "kl.coef=0.05, kl.place=reward",
    "reinforce_pp": "advantage.baseline=batch, advantage.scale=batch, kl.coef=0.01, kl.place=reward",
    "gspo": "policy_loss=gspo, clip_range=0.0003, clip_range_high=0.0004, aggregate=sequence",
    "cispo": "policy_loss=cispo, limit=5.0",
    "dppo": "advantage.scale=none, policy_loss=dppo, limit=0.2",
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_sets_in_the_log_and_in_the_record(name, at_work, caplog):
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:first"}], "rollout": {"prompts": 2, "completions": 2},
        "trainer": {"learning_rate": 1e-3, "steps": 1}, "preset": name,
    }  # fmt: skip
    with caplog.at_level("INFO", "baro"):
        run = grpo.run(load_config(Config, None, values=given), "runs/preset")
    assert [one for one in caplog.messages if one.startswith("preset")] == [f"preset {name}: {TOLD[name]}"]
    assert json.loads((run.path / "run.json").read_text())["preset"] == [f"{name}: {TOLD[name]}"]
    given["advantage"] = {"baseline": "group", "scale": "batch"}
    said = TOLD[name].replace("scale=none", "scale=batch").replace("=leave_one_out", "=group")
    changed = said.replace("baseline=batch", "baseline=group")
    assert grpo.told(PRESETS[name], load_config(Config, None, values=given)) == changed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kl": {"coef": 0.1, "estimator": "k1"}}, "k1 has no gradient in the loss"),
        ({"kl": {"coef": 0.1, "estimator": "k3", "place": "reward"}}, "pulls elsewhere than the KL"),
        ({"kl": {"target": 1.0}}, "0 stays 0"),
        ({"kl": {"reference": "ema"}}, "moves what the KL is measured from"),
        ({"advantage": {"baseline": "rank"}}, "set scale: none"),
        ({"advantage": {"scale": "none", "ddof": 0}}, "ddof is of the deviation"),
        ({"advantage": {"terms": "each", "scale": "none"}}, "leave out baseline and scale"),
        ({"advantage": {"terms": "each"}, "overlong_buffer": 2}, "overlong_buffer is of their sum"),
        ({"advantage": {"terms": "each"}, "kl": {"coef": 1.0, "place": "reward"}}, "kl.place: reward is of their sum"),
        ({"policy_loss": "cispo", "clip_range": 0.1}, "clip_range is not used by policy_loss: cispo"),
        ({"limit": 3.0}, "limit is not used by policy_loss: clip"),
        ({"policy_loss": "cispo", "limit": 0.5}, "below 1 it cuts fresh samples"),
        ({"policy_loss": "dppo", "limit": 2.0}, "difference of probabilities"),
        ({"overlong_buffer": 5}, "more than sampling.max_new_tokens"),
        ({"rollout": {"completions": 1}}, "sample two or more"),
        ({"rollout": {"completions": 1, "draws": 2}}, "raise completions"),
        ({"reward_shaping": {"whiten": True}}, "scales rewards of tokens"),
        ({"sampler_gate": {"band": [1.5, 2.0]}}, "it must hold 1, the ratio of an exact sampler"),
        ({"sampler_gate": {"band": [-0.5, 2.0]}}, "band is -0.5 to 2"),
        ({"sampler_gate": {"statistic": "product"}}, "give level: sequence"),
        ({"sampler_gate": {"band": [0.5]}}, "band"),
        ({"preset": "ppo"}, "preset"),
    ],
)
def test_what_would_do_nothing_or_wrong_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config(**changes)


RUN = """
def early(prompts, completions, completion_ids, **columns):
    return [sum(token < 140 for token in ids) / max(1, len(ids)) for ids in completion_ids]
def first(prompts, completions, completion_ids, **columns):
    return [float(ids[0] % 2) for ids in completion_ids]
def same(prompts, completions, **columns):
    return [0.5] * len(completions)
def fails_when_drawn_again(prompts, completions, completion_ids, **columns):
    again = len(completion_ids) < 16
    return [float("nan") if again and i == 0 else float(ids[0] % 2) for i, ids in enumerate(completion_ids)]
"""


@pytest.fixture
def at_work(tmp_path, policy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "rewards_of_grpo", raising=False)
    (tmp_path / "rewards_of_grpo.py").write_text(RUN)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Say {word}."}) + "\n" for word in "abcdef"))
    return {"policy": str(policy), "prompts": "prompts.jsonl", "sampling": {"max_new_tokens": 6}}


def rows(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("changes", [{}, {"lora": {"r": 4, "alpha": 64}, "kl": {"coef": 0.01}}], ids=["whole", "lora"])
def test_a_run_learns_and_has_a_reference_only_where_it_is_compared_with(at_work, changes, monkeypatch):
    asked = []
    reference = grpo.reference
    monkeypatch.setattr(grpo, "reference", lambda *given: asked.append(1) or reference(*given))
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:early"}], "rollout": {"prompts": 6, "completions": 8},
        "trainer": {"learning_rate": 0.03, "steps": 15},
    }  # fmt: skip
    run = grpo.run(load_config(Config, None, values=given | changes), "runs/grpo")
    found = rows(run)
    if changes:  # adapters below a new head have little to say
        assert found[1]["objective/kl"] > 0.01
    else:
        assert found[-1]["objective/scores"] > found[0]["objective/scores"] + 0.2
    assert bool(asked) == bool(changes)
    assert ("objective/kl" in found[0]) == ("loss/kl" in found[0]) == bool(changes)
    assert (run.path / "model/config.json").exists()


def test_prompts_whose_scores_are_equal_are_drawn_again(at_work):
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:first"}],
        "rollout": {"prompts": 3, "completions": 2},
        "trainer": {"learning_rate": 1e-3, "steps": 8},
    }
    once = grpo.run(load_config(Config, None, values=given), "runs/once")
    given["rollout"]["draws"] = 8
    again = grpo.run(load_config(Config, None, values=given), "runs/again")

    def tied(run):
        return sum(row["objective/tied_fraction"] for row in rows(run)) / 8

    assert tied(once) > 0.2 > tied(again)
    assert "objective/draws" not in rows(once)[0]
    assert sum(row["objective/draws"] for row in rows(again)) > 8


def test_failed_scores_are_a_share_of_the_whole_rollout(at_work):
    """One failure among the few that are drawn again is no reason to stop, and one in twenty of all is."""
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:fails_when_drawn_again"}],
        "rollout": {"prompts": 8, "completions": 2, "draws": 2, "max_error_fraction": 0.06},
        "trainer": {"learning_rate": 1e-3, "steps": 2},
    }
    run = grpo.run(load_config(Config, None, values=given), "runs/allowed")
    assert all(row["objective/draws"] > 1 for row in rows(run))  # there were such draws
    given["rollout"]["max_error_fraction"] = 0.01
    with pytest.raises(RewardError, match=r"1 of \d+ scores failed"):
        grpo.run(load_config(Config, None, values=given), "runs/stopped")


# ---------------------------------------------------------------------------------------- a sampler that is not exact


@pytest.mark.parametrize(
    ("gate", "weights", "gated"),
    [
        (None, [[1.0], [1.0, 1.0]], None),
        ({}, [[0.5], [2.0, 1.0]], [0.0, 1.0]),
        ({"mode": "mask", "band": [0.75, 5.0]}, [[0.0], [4.0, 1.0]], [1.0, 0.0]),
        ({"level": "sequence", "mode": "mask"}, [[0.5], [0.0, 0.0]], [0.0, 2.0]),
        ({"level": "sequence", "mode": "mask", "statistic": "geometric_mean"}, [[0.5], [2.0, 2.0]], [0.0, 0.0]),
    ],
)
def test_advantages_weigh_by_the_ratio_to_the_sampler(gate, weights, gated):
    """Ratios 0.5 in one completion, 4 and 1 in the other; advantages 1 and -1."""
    ratios = iter([[0.5], [4.0, 1.0]])
    (sample,) = [group(3.0, 1.0)]
    done = [
        one.with_(
            token_fields={"sampler_logprobs": one.token_fields["old_logprobs"] - torch.tensor(next(ratios)).log()}
        )
        for one in sample.completions
    ]
    told = config(advantage={"scale": "none"}, sampler_gate=gate)
    found = prepared([sample.with_completions(done)], told)
    assert [one.token_fields["advantages"].tolist() for one in found] == [
        pytest.approx([sign * weight for weight in own]) for sign, own in zip((1, -1), weights, strict=True)
    ]
    assert [one.fields.get("gated_tokens") for one in found] == (gated or [None, None])
    gaps = [math.exp(-1), math.exp(-1) * 0.75]
    assert [one.fields["sampler_gap"] for one in found] == pytest.approx(gaps, abs=1e-6)
    assert [one.skip for one in found] == [not any(own) for own in weights]


@pytest.fixture
def rough(monkeypatch):
    """A sampler that says three times the probability of every third token id; and how many of its tokens it was."""
    counted = {"wrong": 0, "all": 0}
    generate = Engine.generate

    def wrong(self, *given):
        found = generate(self, *given)
        for one in (one for own in found for one in own):
            marks = [token % 3 == 0 for token in one.ids]
            counted["wrong"], counted["all"] = counted["wrong"] + sum(marks), counted["all"] + len(marks)
        return [
            [
                replace(one, logprobs=tuple(lp + math.log(3) * (token % 3 == 0)
                                            for token, lp in zip(one.ids, one.logprobs, strict=True)))
                for one in own
            ]
            for own in found
        ]  # fmt: skip

    monkeypatch.setattr(Engine, "exact", property(lambda self: False))
    monkeypatch.setattr(Engine, "generate", wrong)
    return counted


def test_a_gate_changes_what_is_learned_and_tells_the_share_gated(at_work, rough, caplog):
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:early"}],
        "rollout": {"prompts": 6, "completions": 4},
        "trainer": {"learning_rate": 0.01, "steps": 1},
    }
    found = {}
    gates = {"none": None, "clip": {"band": [0.5, 2.0]}, "wide": {"band": [0, 9]}}
    for name, gate in (gates | {"mask": {"mode": "mask", "band": [0.5, 2.0]}}).items():
        rough.update(wrong=0, all=0)
        run = grpo.run(load_config(Config, None, values=given | {"sampler_gate": gate}), f"runs/{name}")
        found[name] = rows(run)[0]
        share = rough["wrong"] / rough["all"]
        assert 0.1 < share < 0.6
        assert found[name].get("sampler/gated_fraction") == (
            {"none": None, "wide": 0.0}.get(name, pytest.approx(share, abs=1e-6))
        )
        assert found[name]["sampler/gap"] > 1e-4
    assert len({row["grad_norm"] for row in found.values()}) == 4
    assert "the sampler is exact here" not in caplog.text


@pytest.mark.parametrize("exact", [False, True])
def test_a_rollout_that_is_found_again_keeps_what_its_sampler_said(exact):
    """Of a killed run, on a machine of other bits: log-probs are computed anew, the sampler's stay."""
    policy = ScoredModel(tiny.llama(0))
    drawn = [Sample(torch.tensor([1, 2]), (branch([4, 5, 6]),))]
    now = flat_forward(policy, drawn, "logprobs", micro_batch_tokens=100, world=LocalWorld())
    said = now + torch.tensor([0.2, 0.0, -0.1])
    ready = OldLogprobs(policy, SimpleNamespace(exact=exact), micro_batch_tokens=100)
    first = ready.recomputed(with_flat(drawn, {"old_logprobs": now if exact else said}), LocalWorld())
    assert torch.equal(flat(first, "old_logprobs"), now)
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(1.01)
    again = ready.recomputed(first, LocalWorld())
    assert not torch.equal(flat(again, "old_logprobs"), now)
    kept = [one.token_fields.get("sampler_logprobs") for one in again[0].completions]
    assert kept == [None] if exact else torch.equal(kept[0], said)


def test_an_exact_sampler_has_nothing_to_gate_and_the_log_says_so(at_work, caplog):
    given = at_work | {
        "rewards": [{"by": "rewards_of_grpo:early"}], "rollout": {"prompts": 2, "completions": 2},
        "trainer": {"learning_rate": 0.01, "steps": 2},
    }  # fmt: skip
    with caplog.at_level("INFO", "baro"):
        run = grpo.run(load_config(Config, None, values=given | {"sampler_gate": {}}), "runs/exact")
    assert sum("the sampler is exact here" in one for one in caplog.messages) == 1
    assert [row["sampler/gated_fraction"] for row in rows(run)] == [0.0, 0.0]
    assert "sampler/gap" not in rows(run)[0]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"clip_range": 0.2}, [True, True, True, False]),
        ({"clip_range": 0.2, "clip_range_high": 1.0}, [False, True, True, False]),
        ({"policy_loss": "gspo", "clip_range": 0.2}, [False, False, True, True]),
        ({"policy_loss": "sequence_clip", "clip_range": 0.2}, [False, False, True, True]),
        ({"policy_loss": "cispo", "limit": 1.4}, [True, False, False, False]),
        ({"policy_loss": "dppo", "limit": 0.04}, [True, False, True, False]),
    ],
)
def test_what_lies_beyond_the_bound(told, expected):
    """Ratios 1.5 and 0.75 in one completion, 0.5 and 1 in the other; old probabilities are 0.1."""
    ratios = torch.tensor([1.5, 0.75, 0.5, 1.0])
    old = torch.full((4,), 0.1).log()
    done = [branch([4, 5]).with_(token_fields={"old_logprobs": old[:2], "advantages": torch.ones(2)}) for _ in range(2)]
    (batch,) = collate([Sample(torch.tensor([1, 2]), tuple(done))], micro_batch_tokens=100, hidden_size=16)
    objective = grpo.Objective(ScoredModel(tiny.llama(0)), config(**told))
    _, beyond = objective._policy_loss(batch, old + ratios.log())
    assert beyond.tolist() == expected
