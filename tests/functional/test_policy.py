import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import functional as oracle

from baro.functional.policy import (
    adaptive_kl_coef,
    clip_scores,
    clipped_policy_loss,
    clipped_value_loss,
    kl_shaped_rewards,
)

FEW = settings(max_examples=60, deadline=None, derandomize=True)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "grad"),
    [
        (1.3, 1.0, -1.2, 0.0),  # already likelier than the clip allows: nothing more to gain
        (1.3, -1.0, 1.3, 1.3),
        (0.7, 1.0, -0.7, -0.7),
        (0.7, -1.0, 0.8, 0.0),
        (1.0, 2.0, -2.0, -2.0),
        (1.3, 0.0, 0.0, 0.0),
    ],
)
def test_policy_loss_and_gradient_by_hand(ratio, advantage, loss, grad):
    old = tensor(-2.0)
    logprobs = (old + math.log(ratio)).requires_grad_()
    value = clipped_policy_loss(logprobs, old, tensor(advantage), clip_range=0.2)
    assert value.item() == pytest.approx(loss, abs=1e-9)
    assert torch.autograd.grad(value.sum(), logprobs)[0].item() == pytest.approx(grad, abs=1e-9)


@FEW
@given(st.floats(-3, 3), st.floats(-5, 5), st.floats(0.01, 0.9))
def test_policy_loss_matches_the_oracle(log_ratio, advantage, clip_range):
    value = clipped_policy_loss(tensor(log_ratio - 1.5), tensor(-1.5), tensor(advantage), clip_range=clip_range)
    assert value.item() == pytest.approx(oracle.policy_loss(log_ratio, 0.0, advantage, clip_range), abs=1e-9)


def test_on_the_first_pass_the_gradient_is_the_policy_gradient():
    logprobs, advantages = tensor(-1.0, -2.0, -3.0).requires_grad_(), tensor(0.5, -1.0, 2.0)
    loss = clipped_policy_loss(logprobs, logprobs.detach(), advantages, clip_range=0.2)
    assert torch.autograd.grad(loss.sum(), logprobs)[0].tolist() == (-advantages).tolist()


@pytest.mark.parametrize("log_ratio", [1e4, -1e4])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_extreme_ratios_give_no_nan(log_ratio, advantage):
    logprobs = torch.tensor([log_ratio], requires_grad=True)
    loss = clipped_policy_loss(logprobs, torch.zeros(1), torch.tensor([advantage]), clip_range=0.2)
    (grad,) = torch.autograd.grad(loss.sum(), logprobs)
    assert not loss.isnan().any()
    assert not grad.isnan().any()
    if advantage == 0.0:
        assert loss.item() == grad.item() == 0.0


@pytest.mark.parametrize("clip_range", [0.0, 1.0, -0.2])
def test_policy_loss_refuses_a_clip_range_without_meaning(clip_range):
    with pytest.raises(ValueError, match="clip_range"):
        clipped_policy_loss(tensor(0.0), tensor(0.0), tensor(1.0), clip_range=clip_range)


@pytest.mark.parametrize(
    ("value", "old", "target", "loss", "grad"),
    [
        (1.0, 0.5, 2.0, 0.845, 0.0),  # clipped to 0.7: ½ · 1.3² over ½ · 1.0²
        (0.6, 0.5, 2.0, 0.98, -1.4),  # within the range: ½ · 1.4²
        (1.0, 0.5, 0.0, 0.5, 1.0),  # clipped to 0.7, but the larger error is the unclipped one
        (0.5, 0.5, 0.5, 0.0, 0.0),
    ],
)
def test_value_loss_and_gradient_by_hand(value, old, target, loss, grad):
    value = tensor(value).requires_grad_()
    result = clipped_value_loss(value, tensor(old), tensor(target), clip_range=0.2)
    assert result.item() == pytest.approx(loss, abs=1e-9)
    assert torch.autograd.grad(result.sum(), value)[0].item() == pytest.approx(grad, abs=1e-9)


def test_losses_are_per_token():
    three = torch.zeros(3)
    assert clipped_policy_loss(three, three, three, clip_range=0.2).shape == (3,)
    assert clipped_value_loss(three, three, three, clip_range=0.2).shape == (3,)


def test_shaped_rewards_by_hand():
    #  completion   0     0     1
    #  k1          .2   -.5     0
    logprobs, ref = tensor(-1.0, -2.0, -3.0), tensor(-1.2, -1.5, -3.0)
    rewards = kl_shaped_rewards(tensor(1.0, -1.0), logprobs, ref, torch.tensor([2, 1]), kl_coef=0.1)
    np.testing.assert_allclose(rewards, (-0.02, 1.05, -1.0), atol=1e-9)


@FEW
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.floats(0, 1), st.integers(0, 10**6))
def test_a_completion_is_rewarded_its_score_less_its_kl(lengths, kl_coef, seed):
    random = torch.Generator().manual_seed(seed)
    logprobs, ref = torch.randn(2, sum(lengths), dtype=torch.float64, generator=random)
    scores = torch.randn(len(lengths), dtype=torch.float64, generator=random)
    rewards = kl_shaped_rewards(scores, logprobs, ref, torch.tensor(lengths), kl_coef=kl_coef).split(lengths)
    kl = (logprobs - ref).split(lengths)
    for completion, score in enumerate(scores):
        expected = score - kl_coef * kl[completion].sum()
        torch.testing.assert_close(rewards[completion].sum(), expected, atol=1e-9, rtol=0)


def test_shaped_rewards_refuse_what_they_cannot_place():
    with pytest.raises(ValueError, match="lengths sum to 3 but there are 2"):
        kl_shaped_rewards(tensor(1.0), tensor(0.0, 0.0), tensor(0.0, 0.0), torch.tensor([3]), kl_coef=0.1)
    with pytest.raises(ValueError, match="no last token"):
        kl_shaped_rewards(tensor(1.0, 2.0), tensor(0.0, 0.0), tensor(0.0, 0.0), torch.tensor([2, 0]), kl_coef=0.1)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (9.0, 0.202048),  # error .5 clipped to .2: .2 · (1 + .2 · .0512)
        (6.0, 0.2),
        (3.0, 0.197952),  # error −.5 clipped to −.2
        (6.6, 0.201024),  # error .1
    ],
)
def test_adaptive_kl_by_hand(kl, expected):
    assert adaptive_kl_coef(0.2, kl, target=6.0, horizon=10000.0, samples=512) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("kl", "samples", "expected"),
    [
        (0.0, 64, 0.005),  # 0.05 · max(0.1, 1 − 0.2 · 6.4) and not −0.014
        (0.0, 49, 0.005),
        (0.0, 40, 0.01),
        (99.0, 64, 0.114),  # 0.05 · (1 + 0.2 · 6.4)
    ],
)
def test_an_adaptive_coefficient_stays_positive(kl, samples, expected):
    """However many horizons of samples come at once: a negative one would pay the policy for straying."""
    assert adaptive_kl_coef(0.05, kl, target=6.0, horizon=10.0, samples=samples) == pytest.approx(expected, abs=1e-12)


def test_a_target_and_a_horizon_below_one_are_targets_and_horizons():
    # error 0.1: 0.2 · (1 + 0.1 · 2 / 0.5)
    assert adaptive_kl_coef(0.2, 0.55, target=0.5, horizon=0.5, samples=2) == pytest.approx(0.28, abs=1e-9)


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"horizon": 0.0}])
def test_adaptive_kl_refuses_a_target_or_horizon_of_zero(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        adaptive_kl_coef(0.2, 1.0, **({"target": 6.0, "horizon": 10000.0} | wrong), samples=1)


def test_clip_scores():
    assert clip_scores(tensor(-30.0, -1.0, 0.5, 25.0), limit=20.0).tolist() == [-20.0, -1.0, 0.5, 20.0]
    with pytest.raises(ValueError, match="limit"):
        clip_scores(tensor(1.0), limit=0.0)
