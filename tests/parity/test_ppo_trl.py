"""PPO's values, losses and gradients equal what TRL 1.12's PPOTrainer recorded; docs/parity.md says what differs.

``record_ppo.py`` wrote the values and says how. Where every completion fills the width of its rollout, all is common.
Where one ends before, TRL has a step more behind its end token, with a value and the score. Then ours is told of
completions longer by one token: the rest must be equal still.
"""

import json
from functools import partial
from itertools import accumulate, chain, pairwise
from pathlib import Path

import ppo_models
import pytest
import torch
from torch import Tensor

from baro.batch import GroupBatch, Sample, branch, flat
from baro.collate import collate
from baro.functional import policy as equations
from baro.functional.advantages import gae, mean_and_variance, whiten_with
from baro.functional.policy import clipped_policy_loss, clipped_value_loss, kl_shaped_rewards
from baro.functional.tokens import kl_k1
from baro.methods import ppo, shaping
from baro.methods.shaping import Scores
from baro.models.forward import ScoredModel, flat_forward, forward_samples
from baro.protocols import LocalWorld

RECORDED = json.loads(Path(__file__).with_name("ppo_trl_1_12.json").read_text())
CASES, END, PAD = RECORDED["cases"], RECORDED["end"], RECORDED["pad"]
K1 = [name for name, case in CASES.items() if case["settings"]["kl_estimator"] == "k1"]
COMMON = [name for name in K1 if name.startswith("full")]
WORLD = LocalWorld()
VALUE, GRADIENT = 1e-6, 1e-7
"""What may differ: of a value itself, or of 1 where that is larger; of a gradient its norm."""
BUDGET = 40
"""Tokens of a micro-batch: every step is cut in several."""


def config(case: dict, **changes: object) -> ppo.Config:
    """TRL's settings under our names; its temperature has 1e-7 added."""
    told = case["settings"]
    values = {
        "kl": {"coef": told["kl_coef"]},
        "gamma": told["gamma"],
        "gae_lambda": told["lam"],
        "clip_range": told["cliprange"],
        "value": {"clip_range": told["cliprange_value"]},
        "sampling": {"temperature": told["temperature"] + 1e-7},
        "reward_shaping": {
            "missing_eos": "subtract",
            "missing_eos_penalty": told["missing_eos_penalty"],
            "whiten": told["whiten_rewards"],
        },
        "trainer": {"micro_batch_tokens": BUDGET},
    }
    return ppo.Config(policy="-", prompts="-", reward_model="-", **{**values, **changes})


def samples(case: dict, *, longer: bool = False, **fields: list[list[float]]) -> list[Sample]:
    """Prompts with two completions each; ``longer`` by the step that TRL has after an end before the width's."""
    known, rollout = RECORDED["completions"][case["completions"]], case["rollout"]
    length = rollout["value_lengths" if longer else "lengths"]
    found, row = [], 0
    for prompt, completions in zip(RECORDED["prompts"], known, strict=True):
        branches = []
        for ids in completions:
            assert length[row] - len(ids) in ((0, 1) if longer else (0,))
            tokens = {name: torch.tensor(of[row], dtype=torch.float64) for name, of in fields.items()}
            one = branch([*ids, PAD][: length[row]], last=len(ids) - 1)
            carried = {"score": rollout["raw_scores"][row], "finished": float(ids[-1] == END), "rollout": 0.0}
            branches.append(one.with_(token_fields=tokens, fields=carried))
            row += 1
        found.append(Sample(torch.tensor(prompt), tuple(branches)))
    return found


def models(case: dict, *, trained: bool) -> dict[str, ScoredModel]:
    """As they were while TRL sampled, or when it had the gradient."""
    found = ppo_models.rollout_models()
    if trained and case["moved"]:
        ppo_models.take_an_update(found["policy"], found["value_model"])
    return {name: ScoredModel(model) for name, model in found.items()}


def joined(rows: list[list[float]]) -> Tensor:
    return torch.tensor(list(chain.from_iterable(rows)), dtype=torch.float64)


def equal(found: Tensor | float, recorded: Tensor | float) -> None:
    found, recorded = torch.as_tensor(found).double(), torch.as_tensor(recorded).double()
    assert found.shape == recorded.shape
    far = (found - recorded).abs() / recorded.abs().clamp(min=1.0)
    assert float(far.max()) <= VALUE, (float(far.max()), found, recorded)


def equal_gradients(model: ScoredModel, recorded: dict[str, list[float]], *, times: float = 1.0) -> None:
    found = ppo_models.sketch(ppo_models.gradients(model.model))
    assert found.keys() == recorded.keys()
    for name, theirs in recorded.items():
        norm = theirs[0]
        assert norm > 1e-4
        far = max(abs(times * mine - its) for mine, its in zip(found[name], theirs, strict=True))
        assert far <= GRADIENT * norm, (name, far / norm)


@pytest.mark.parametrize("name", RECORDED["weights"])
def test_the_weights_are_those_of_the_recording(name):
    role = name.removeprefix("moved ")
    model = models({"moved": True}, trained=name != role)[role].model
    assert ppo_models.fingerprint(model) == RECORDED["weights"][name], (
        "these are other random weights than TRL had: of another torch or transformers; record again"
    )


# --------------------------------------------------------------------------------------------------------- the rollout


def check_forwards(case: dict, told: ppo.Config) -> None:
    """Log-probs at the temperature, values, and scores at the end token; TRL pads prompts on the left, ours does not.

    TRL has the sampled log-probs in fp32; they alone need the whole tolerance.
    """
    rollout, given, roles = case["rollout"], samples(case), models(case, trained=False)
    forward = partial(flat_forward, micro_batch_tokens=BUDGET, world=WORLD)
    sharp = {"output": "logprobs", "temperature": told.sampling.temperature}
    old, ref = (forward(roles[role], given, **sharp) for role in ("policy", "ref_policy"))
    equal(old, joined(rollout["logprobs"]))
    equal(ref, joined(rollout["ref_logprobs"]))
    if case["settings"]["kl_estimator"] == "k1":
        equal(kl_k1(old, ref), joined(rollout["kl"]))
    longer = samples(case, longer=True)
    equal(forward(roles["value_model"], longer, output="values"), joined(rollout["values"]))
    scores = forward_samples(roles["reward_model"], given, ["scores"], micro_batch_tokens=BUDGET, world=WORLD)
    equal(torch.stack(list(chain.from_iterable(scores["scores"]))), torch.tensor(rollout["raw_scores"]))


def check_stream(case: dict, told: ppo.Config) -> None:
    """From TRL's log-probs, values and scores to its rewards, advantages and returns."""
    rollout, given = case["rollout"], samples(case)
    scores = Scores(told.reward_shaping, told.terms)(given, WORLD).double()
    equal(scores, torch.tensor(rollout["scores"]))
    lengths = torch.tensor(rollout["value_lengths"])
    values = joined(rollout["values"])
    old, ref = (joined(after_the_end(case, rollout[name])) for name in ("logprobs", "ref_logprobs"))
    raw, returns = ppo.stream(scores, values, old, ref, lengths, kl_coef=told.kl.coef, config=told, world=WORLD)
    equal(raw, joined(rollout["returns"]) - values)
    equal(returns, joined(rollout["returns"]))
    if not told.reward_shaping.whiten:
        rewards = ppo.kl_shaped_rewards(scores, old, ref, lengths, kl_coef=told.kl.coef)
        equal(rewards, joined(rollout["rewards"]))
    raw = joined(cut(raw, rollout))
    equal(whiten_with(raw, **ppo.everywhere(raw, WORLD)), joined(rollout["advantages"]))


def after_the_end(case: dict, rows: list[list[float]]) -> list[list[float]]:
    """The step behind the end has the same log-prob in both policies, and so no KL."""
    longer = case["rollout"]["value_lengths"]
    return [row + [1.0] * (length - len(row)) for row, length in zip(rows, longer, strict=True)]


def cut(values: Tensor, rollout: dict) -> list[list[float]]:
    """Rows of the step-longer completions, without that step."""
    parts = values.split(rollout["value_lengths"])
    return [part[:length].tolist() for part, length in zip(parts, rollout["lengths"], strict=True)]


def check_prepare(case: dict, told: ppo.Config) -> None:
    """The whole half without gradient, from tokens on; its returns at the tokens that TRL has too."""
    rollout, roles = case["rollout"], models(case, trained=False)
    prepare = ppo.Prepare(roles["policy"], roles["ref_policy"], roles["value_model"], told)
    found = prepare(samples(case, old_logprobs=rollout["logprobs"]), WORLD)
    equal(flat(found, "advantages"), joined(rollout["advantages"]))
    for name in ("values", "returns"):
        equal(flat(found, name), joined(cut(joined(rollout[name]), rollout)))
    kl = [one.fields["kl"] for sample in found for one in sample.completions]
    equal(sum(kl) / len(kl), case["logged"]["objective/kl"])


# ---------------------------------------------------------------------------------------------------------- the update


def step(case: dict, told: ppo.Config, given: list[Sample], number: int) -> tuple[ScoredModel, float, dict]:
    """One of the objective's two losses over a step in several micro-batches: its model, value and metrics."""
    roles = models(case, trained=True)
    objective = ppo.Objective(roles["policy"], roles["value_model"], told)
    batches = collate(given, micro_batch_tokens=BUDGET, hidden_size=16, term="rollout")
    assert len(batches) > 1
    totals = {"tokens": float(sum(batch.units["tokens"] for batch in batches))}
    loss, metrics = 0.0, {}
    for batch in batches:
        output = list(objective.losses(batch, totals))[number]
        output.loss.backward()
        loss += float(output.loss.detach())
        for name, (total, _) in output.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + float(total)
    return roles[("policy", "value_model")[number]], loss, metrics


def check_policy_step(case: dict, told: ppo.Config) -> None:
    """Loss, gradient, ratio, approximate KL and entropy. TRL's means of the last three are over filler too."""
    rollout, update, logged = case["rollout"], case["update"], case["logged"]
    zeros = [[0.0] * length for length in rollout["lengths"]]
    fields = {"old_logprobs": rollout["logprobs"], "advantages": rollout["advantages"]}
    given = samples(case, **fields, values=zeros, returns=zeros)
    policy, loss, metrics = step(case, told, given, 0)
    equal(loss, update["policy_loss"])
    equal_gradients(policy, update["policy_gradients"])
    forward = partial(flat_forward, micro_batch_tokens=BUDGET, world=WORLD, temperature=told.sampling.temperature)
    new, old = forward(policy, given, output="logprobs"), joined(rollout["logprobs"])
    equal(new, joined(update["logprobs"]))
    tokens, cells = len(new), len(rollout["lengths"]) * max(rollout["lengths"])
    equal(metrics["policy/approx_kl"] / cells, logged["policy/approxkl_avg"])
    equal((metrics["policy/ratio"] + cells - tokens) / cells, logged["val/ratio"])
    if tokens == cells:
        equal(metrics["policy/entropy"] / tokens, logged["policy/entropy_avg"])
    advantages = joined(rollout["advantages"])
    losses = clipped_policy_loss(new, old, advantages, clip_range=told.clip_range)
    bites = (losses > -advantages * (new - old).exp() + 1e-12).double().mean()
    equal(bites, logged["policy/clipfrac_avg"])
    assert metrics["policy/clip_fraction"] / tokens >= float(bites)  # ours counts ratios, TRL losses that it changes


def check_value_step(case: dict, told: ppo.Config) -> None:
    """Loss and gradient, over the step behind the end too. TRL weighs the value loss, ours has a model of its own."""
    rollout, update = case["rollout"], case["update"]
    zeros = [[0.0] * length for length in rollout["value_lengths"]]
    fields = {"values": rollout["values"], "returns": rollout["returns"]}
    given = samples(case, longer=True, **fields, old_logprobs=zeros, advantages=zeros)
    value_model, loss, _ = step(case, told, given, 1)
    equal(loss, update["value_loss"])
    equal_gradients(value_model, update["value_model_gradients"], times=case["settings"]["vf_coef"])
    new = flat_forward(value_model, given, output="values", micro_batch_tokens=BUDGET, world=WORLD)
    equal(new, joined(update["values"]))
    returns, old = joined(rollout["returns"]), joined(rollout["values"])
    losses = clipped_value_loss(new, old, returns, clip_range=told.value.clip_range)
    bites = (losses > 0.5 * (new - returns).square() + 1e-12).double().mean()
    equal(bites, update["value_clip_fraction"])


# --------------------------------------------------------------------------------------------------- what is compared

CHECKS = [check_forwards, check_stream, check_policy_step, check_value_step]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", K1)
def test_ppo(name, check):
    check(CASES[name], config(CASES[name]))


@pytest.mark.parametrize("name", [*COMMON, "ragged, lambda 1"])
def test_prepared_at_once(name):
    """With λ and γ 1 an advantage is all rewards to come less the value, wherever the score stands among them."""
    check_prepare(CASES[name], config(CASES[name]))


def test_k3_from_its_rewards_on():
    """Ours has no k3 in the reward: its gradient there is that of KL(π‖π_ref) − KL(π_ref‖π). All else is the same."""
    case = CASES["full, k3"]
    rollout, told = case["rollout"], config(case)
    log_ratio = joined(rollout["ref_logprobs"]) - joined(rollout["logprobs"])
    equal(log_ratio.exp() - 1 - log_ratio, joined(rollout["kl"]))
    lengths = torch.tensor(rollout["lengths"])
    rewards = -told.kl.coef * joined(rollout["kl"])
    rewards = rewards.index_add(0, lengths.cumsum(0) - 1, torch.tensor(rollout["scores"], dtype=torch.float64))
    equal(rewards, joined(rollout["rewards"]))
    raw, returns = gae(rewards, joined(rollout["values"]), lengths, gamma=told.gamma, gae_lambda=told.gae_lambda)
    equal(returns, joined(rollout["returns"]))
    equal(whiten_with(raw, **ppo.everywhere(raw, WORLD)), joined(rollout["advantages"]))
    for check in (check_forwards, check_policy_step, check_value_step):
        check(case, told)


def test_the_recording_has_what_it_is_to_compare():
    """Ended and not, filling the width and not, clipped and not."""
    full, ragged = CASES["full"], CASES["ragged"]
    for case in (full, ragged):
        ends = [ids[-1] == END for rows in RECORDED["completions"][case["completions"]] for ids in rows]
        assert True in ends
        assert False in ends
        assert 0.1 < case["logged"]["policy/clipfrac_avg"] < 0.9
        assert 0.1 < case["update"]["value_clip_fraction"] < 0.9
    widest = max(ragged["rollout"]["lengths"])
    assert [b - a for a, b in zip(ragged["rollout"]["lengths"], ragged["rollout"]["value_lengths"], strict=True)] == [
        int(length < widest) for length in ragged["rollout"]["lengths"]
    ]
    assert full["rollout"]["lengths"] == full["rollout"]["value_lengths"] == [widest] * 8
    assert {case["settings"]["gamma"] for case in CASES.values()} == {0.99, 1.0}


# --------------------------------------------------------------------------------------------------- what differs


@pytest.mark.parametrize("name", ["ragged", "ragged, gamma 0.99"])
def test_behind_the_end_alone_is_another_convention(name):
    """Ours lets an episode end with its end token; TRL does so too where a completion fills its rollout's width."""
    case = CASES[name]
    rollout, told = case["rollout"], config(case)
    scores, lengths = torch.tensor(rollout["scores"], dtype=torch.float64), torch.tensor(rollout["lengths"])
    old, ref, values = (joined(rollout[of]) for of in ("logprobs", "ref_logprobs", "values"))
    values = joined(cut(values, rollout))
    raw, _ = ppo.stream(scores, values, old, ref, lengths, kl_coef=told.kl.coef, config=told, world=WORLD)
    theirs = joined(cut(joined(rollout["returns"]) - joined(rollout["values"]), rollout))
    starts = [0, *accumulate(rollout["lengths"])]
    for (start, end), length in zip(pairwise(starts), rollout["lengths"], strict=True):
        if length == max(rollout["lengths"]):
            equal(raw[start:end], theirs[start:end])
        else:
            assert float((raw[start:end] - theirs[start:end]).abs().max()) > 1e-3


# --------------------------------------------------------------------------------------- the comparison sees a fault


def everything(case: dict, told: ppo.Config) -> None:
    for check in [*CHECKS, check_prepare]:
        check(case, told)


SHAPING = config(CASES["full"]).reward_shaping
CHANGED = {
    "lambda": {"gae_lambda": 0.949},
    "gamma": {"gamma": 0.999},
    "the penalty's sign": {"reward_shaping": {**SHAPING.model_dump(), "missing_eos_penalty": -0.7}},
    "the penalty's kind": {"reward_shaping": {**SHAPING.model_dump(), "missing_eos": "replace"}},
    "beta": {"kl": {"coef": 0.201}},
    "clip_range": {"clip_range": 0.201},
    "the value's clip range": {"value": {"clip_range": 0.201}},
    "temperature": {"sampling": {"temperature": 0.70001}},
    "whitening": {"reward_shaping": {**SHAPING.model_dump(), "whiten": True}},
}


@pytest.mark.parametrize("fault", CHANGED)
def test_another_setting_is_seen(fault):
    with pytest.raises(AssertionError):
        everything(CASES["full"], config(CASES["full"], **CHANGED[fault]))


def _leaking(rewards: Tensor, values: Tensor, lengths: Tensor, **settings: float) -> tuple[Tensor, Tensor]:
    return gae(rewards, values, lengths.sum()[None], **settings)


def _paid_first(scores: Tensor, old: Tensor, ref: Tensor, lengths: Tensor, *, kl_coef: float) -> Tensor:
    nothing = kl_shaped_rewards(torch.zeros_like(scores), old, ref, lengths, kl_coef=kl_coef)
    return nothing.index_add(0, lengths.cumsum(0) - lengths, scores)


def _all_see_all(batch: GroupBatch, window: int | None = None) -> Tensor:
    return (batch.group[:, :, None] == batch.group[:, None, :]).tril()


FAULTS = {
    "the mask between completions": (ppo, "gae", _leaking),
    "the mask between siblings": (GroupBatch, "visible", _all_see_all),
    "the score's place": (ppo, "kl_shaped_rewards", _paid_first),
    "the KL's sign": (equations, "kl_k1", lambda logprobs, ref: ref - logprobs),
    "the variance": (shaping, "mean_and_variance", lambda ddof, **sums: mean_and_variance(**sums, ddof=0)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(monkeypatch, fault):
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError):
        everything(CASES["full"], config(CASES["full"]))
