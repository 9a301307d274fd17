"""The multiplier of a constraint and what it does to advantages and scores, by numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baro.functional.advantages import gae
from baro.functional.constraint import below_the_lowest, leaning_multiplier, mixed_advantages, next_multiplier
from baro.functional.policy import kl_shaped_rewards

WIDE = {"floor": 1e-6, "ceiling": 1e6}


def test_the_multiplier_by_hand():
    """log λ + 0.1 λ (J − d) at J − d = 2, 1, −1: e^0.2, e^(0.2 + 0.12214), e^(0.32214 − 0.138008)."""
    found, multiplier = [], 1.0
    for cost in (5.0, 4.0, 2.0):
        multiplier = next_multiplier(multiplier, cost, limit=3.0, learning_rate=0.1, **WIDE)
        found.append(multiplier)
    assert found == pytest.approx([1.221403, 1.380078, 1.202175], abs=1e-6)


def test_bounds_do_not_wind_up():
    """However long the cost was over the limit, the first mean below it lowers λ; and from the floor λ rises."""
    step = {"limit": 0.0, "learning_rate": 0.1, "floor": 0.5, "ceiling": 2.0}
    at_ceiling = 1.0
    for _ in range(100):
        at_ceiling = next_multiplier(at_ceiling, 50.0, **step)
    assert at_ceiling == pytest.approx(2.0, abs=1e-12)
    assert next_multiplier(at_ceiling, -1.0, **step) == pytest.approx(2.0 * math.exp(-0.2))
    at_floor = 1.0
    for _ in range(100):
        at_floor = next_multiplier(at_floor, -50.0, **step)
    assert at_floor == pytest.approx(0.5, abs=1e-12)
    assert next_multiplier(at_floor, 1.0, **step) == pytest.approx(0.5 * math.exp(0.05))


@given(st.floats(0.01, 10), st.floats(-1e6, 1e6))
def test_it_stays_between_its_bounds(multiplier, cost):
    found = next_multiplier(multiplier, cost, limit=0.0, learning_rate=0.1, floor=0.01, ceiling=10.0)
    assert 0.01 * (1 - 1e-9) <= found <= 10.0 * (1 + 1e-9)
    assert (found >= multiplier * (1 - 1e-9)) if cost >= 0 else (found <= multiplier * (1 + 1e-9))


@pytest.mark.parametrize(
    "wrong", [{"floor": 0.0}, {"floor": 2.0}, {"ceiling": 0.5}, {"learning_rate": 0.0}], ids=lambda one: next(iter(one))
)
def test_bounds_that_do_not_hold_the_multiplier(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        next_multiplier(1.0, 0.0, **{"limit": 0.0, "learning_rate": 0.1, "floor": 0.1, "ceiling": 2.0} | wrong)


def test_leaning_by_hand():
    """2 exp(0.5 · 0.4), exp(−0.5 · 0.4) · 2, and not beyond the bounds; without a gain λ itself."""
    bounds = {"limit": 1.0, "floor": 0.1, "ceiling": 4.0}
    assert leaning_multiplier(2.0, 1.4, gain=0.5, **bounds) == pytest.approx(2.0 * 1.221403, abs=1e-6)
    assert leaning_multiplier(2.0, 0.6, gain=0.5, **bounds) == pytest.approx(2.0 / 1.221403, abs=1e-6)
    assert leaning_multiplier(2.0, 99.0, gain=0.5, **bounds) == pytest.approx(4.0)
    assert leaning_multiplier(2.0, 99.0, gain=0.0, **bounds) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="gain is -1"):
        leaning_multiplier(2.0, 1.0, gain=-1.0, **bounds)


@pytest.mark.parametrize(("multiplier", "expected"), [(2.0, 0.0), (0.5, 0.5), (0.0, 1.0)])
def test_the_mix_by_hand(multiplier, expected):
    """(1 − λ/2) / (1 + λ)"""
    found = mixed_advantages(torch.tensor([1.0]), torch.tensor([0.5]), multiplier=multiplier)
    assert found.tolist() == pytest.approx([expected])


def test_a_negative_multiplier_is_refused():
    with pytest.raises(ValueError, match="multiplier is -1"):
        mixed_advantages(torch.tensor([1.0]), torch.tensor([0.5]), multiplier=-1.0)


@pytest.mark.parametrize("multiplier", [0.0, 0.3, 1.0, 7.0])
def test_the_kl_counts_the_same_for_every_multiplier(multiplier):
    """Without scores, costs and values the mixed advantage is that of −β KL alone."""
    generator = torch.Generator().manual_seed(0)
    lengths, beta = torch.tensor([3, 1, 4]), 0.7
    logprobs, ref, zeros = (torch.randn(8, generator=generator, dtype=torch.float64) for _ in range(3))
    zeros, scores = torch.zeros_like(zeros), torch.zeros(3, dtype=torch.float64)
    of = [
        gae(
            kl_shaped_rewards(scores, logprobs, ref, lengths, kl_coef=sign * beta),
            zeros, lengths, gamma=1.0, gae_lambda=0.95,
        )[0]
        for sign in (1, -1)
    ]  # fmt: skip
    torch.testing.assert_close(mixed_advantages(*of, multiplier=multiplier), of[0], rtol=0, atol=1e-12)


def test_what_costs_too_much_comes_below_everything():
    scores, over = torch.tensor([2.0, -3.0, 5.0]), torch.tensor([0.0, 0.0, 1.0])
    assert below_the_lowest(scores, over, lowest=-3.0).tolist() == [2.0, -3.0, -4.0]
