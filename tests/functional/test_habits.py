import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from baro.functional.habits import (
    binomial_tail,
    holm,
    length_slope,
    mean_difference,
    share_difference,
    sittings,
    thirds,
)
from baro.functional.statistics import sigmoid, wilson_interval
from baro.functional.undefined import Undefined

FEW = settings(max_examples=40, deadline=None, derandomize=True)
DRAWN = {"seed": 0, "resamples": 200}


def own(n):
    """Every judgment is about a prompt of its own."""
    return np.arange(n)


# ------------------------------------------------------------------------------------------------------------ sittings


def test_a_sitting_ends_with_a_gap():
    # a pause of 29 goes on, one of 30 ends it
    assert sittings(np.array([0, 29, 58, 88, 88, 200]), gap=30).tolist() == [0, 0, 0, 1, 1, 2]
    assert sittings(np.array([5]), gap=30).tolist() == [0]
    assert sittings(np.array([], dtype=int), gap=30).tolist() == []
    with pytest.raises(ValueError, match="do not ascend"):
        sittings(np.array([3, 2]), gap=30)


def test_thirds_by_hand():
    # seven: ⌊7/3⌋ = 2 at either end; five: too few
    sitting = np.array([0] * 7 + [1] * 5 + [2] * 6)
    assert thirds(sitting, least=6).tolist() == [0, 0, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="no thirds"):
        thirds(sitting, least=2)


@FEW
@given(st.lists(st.integers(1, 20), max_size=8), st.integers(3, 12))
def test_every_sitting_adds_as_many_early_as_late(sizes, least):
    sitting = np.repeat(np.arange(len(sizes)), sizes)
    part = thirds(sitting, least=least)
    for number, size in enumerate(sizes):
        mine = part[sitting == number].tolist()
        assert mine == sorted(mine)
        assert mine.count(0) == mine.count(2) == (size // 3 if size >= least else 0)


# --------------------------------------------------------------------------------------------------------- differences


def test_mean_difference_by_hand():
    # late: (4 + 8) / 2 = 6; early: (1 + 3) / 2 = 2
    found = mean_difference(
        np.array([1.0, 4.0, 3.0, 8.0]), np.array([False, True, False, True]), groups=np.array([0, 0, 1, 1]), **DRAWN
    )
    # the prompts' own differences are 3 and 5; a resample is one of them or their mean
    assert found == (4.0, 3.0, 5.0, 2)


def test_a_difference_needs_both_parts():
    for late in ([True, True], [False, False]):
        with pytest.raises(Undefined, match="one part of a sitting"):
            mean_difference(np.array([1.0, 2.0]), np.array(late), groups=own(2), **DRAWN)
    with pytest.raises(Undefined, match="one part of a sitting"):
        share_difference(np.array([], dtype=bool), np.array([], dtype=bool), groups=own(0), **DRAWN)


def test_resamples_of_one_part_alone_are_left_out():
    """One early and one late judgment: half of the draws hold one of them twice, and say nothing."""
    late, values = np.array([False, True]), np.array([0.0, 1.0])
    assert mean_difference(values, late, groups=own(2), seed=4, resamples=201) == (1.0, 1.0, 1.0, 2)
    with pytest.raises(Undefined, match="undefined in 1 of 1 resamples, first because: all judgments are of one part"):
        mean_difference(values, late, groups=own(2), seed=0, resamples=1)


def test_share_difference_by_hand():
    right = np.array([True, True, True, False] * 5 + [True, False, False, False] * 5)
    found = share_difference(right, np.arange(40) >= 20, groups=own(40), **DRAWN)
    assert found.value == -0.5
    assert -0.8 < found.low < -0.5 < found.high < -0.2


def test_where_all_agree_the_interval_is_newcombes():
    # 12 of 12 against 8 of 8: Wilson's lower ends are 12/(12+z²) and 8/(8+z²) with z² = 3.841459
    late = np.arange(20) >= 12
    found = share_difference(np.ones(20, dtype=bool), late, groups=own(20), **DRAWN)
    assert found.value == 0
    assert found.low == pytest.approx(-(1 - 8 / (8 + 3.841459)), abs=1e-6)
    assert found.high == pytest.approx(1 - 12 / (12 + 3.841459), abs=1e-6)
    # all right at first and all wrong in the end: 1 − 0 is the ends' distance, less than certain
    turned = share_difference(~late, late, groups=own(20), **DRAWN)
    early, after = wilson_interval(12, 12), wilson_interval(0, 8)
    assert (turned.value, turned.low) == (-1.0, pytest.approx(-1.0))
    assert turned.high == pytest.approx(-1 + math.hypot(after.high, 1 - early.low))


def test_a_planted_drift_is_found():
    """Agreement falls from 0.8 to 0.6 in the course of sittings: the interval holds −0.2 and leaves 0 out."""
    draw = np.random.default_rng(5)
    late = np.tile([False, True], 1500)
    prompt = draw.integers(400, size=3000)
    right = draw.random(3000) < np.where(late, 0.6, 0.8)
    found = share_difference(right, late, groups=prompt, **DRAWN)
    assert found.low < -0.2 < found.high < 0
    assert found.n == len(np.unique(prompt))
    seconds = np.exp(draw.normal(3, 0.6, 3000) + np.where(late, math.log(0.7), 0))  # and 30 % quicker
    ratio = mean_difference(np.log(seconds), late, groups=prompt, **DRAWN)
    assert math.exp(ratio.low) < 0.7 < math.exp(ratio.high) < 0.8


def test_without_drift_the_interval_holds_zero_mostly():
    """95 of 100 should; with 100 draws fewer than 88 would be improbable (p < 0.01)."""
    held = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        right, late = draw.random(120) < 0.7, np.arange(120) % 2 == 1
        found = share_difference(right, late, groups=np.arange(120) // 2, seed=seed, resamples=200)
        held += found.low <= 0 <= found.high
    assert held >= 88


# -------------------------------------------------------------------------------------------------------------- length


def test_the_slope_by_hand():
    # |Δ| = 100 throughout, so x = ±1: the longer one is chosen in 3 of 4, and b = log 3
    chose = np.array([1.0, 1.0, 0.0, 0.0])
    difference = np.array([100.0, 100.0, -100.0, 100.0])
    found = length_slope(chose, difference, groups=own(4), ridge=1e-9, **DRAWN)
    assert found.value == pytest.approx(math.log(3), abs=1e-6)
    # 0 = Σ x (y − p) − 0.01 b, where Σ x (y − p) = 3 − 4 σ(b)
    default = length_slope(chose, difference, groups=own(4), **DRAWN)
    assert 3 - 4 * sigmoid(default.value) == pytest.approx(0.01 * default.value, abs=1e-8)


@FEW
@given(st.integers(0, 10_000), st.floats(0.1, 1000))
def test_the_slope_knows_neither_sides_nor_units(seed, unit):
    draw = np.random.default_rng(seed)
    chose, difference = draw.choice([0.0, 0.5, 1.0], 12), draw.normal(size=12)
    turned = draw.random(12) < 0.5
    one = length_slope(chose, difference, groups=own(12), seed=1, resamples=20)
    other = length_slope(
        np.where(turned, 1 - chose, chose), np.where(turned, -1, 1) * difference * unit,
        groups=own(12), seed=1, resamples=20,
    )  # fmt: skip
    assert one == pytest.approx(other, abs=1e-7)


def test_always_the_longer_one_stays_finite():
    found = length_slope(np.ones(30), np.full(30, 12.0), groups=own(30), **DRAWN)
    assert 5 < found.value < 10
    assert found.low <= found.value <= found.high


def test_ties_pull_to_nothing():
    assert length_slope(np.full(4, 0.5), np.array([1.0, -2.0, 3.0, 4.0]), groups=own(4), **DRAWN).value == 0


def test_no_slope_without_differences():
    for difference in ([], [0.0, 0.0]):
        with pytest.raises(Undefined, match="differ in length"):
            length_slope(np.zeros(len(difference)), np.array(difference), groups=own(len(difference)), **DRAWN)
    with pytest.raises(ValueError, match=r"outside 0..1"):
        length_slope(np.array([2.0]), np.array([1.0]), groups=own(1), **DRAWN)


@pytest.mark.parametrize("planted", [0.0, 0.4, 1.2])
def test_a_planted_pull_is_found(planted):
    draw = np.random.default_rng(11)
    difference = draw.normal(scale=300, size=4000)
    x = difference / math.sqrt(float(np.mean(difference**2)))
    chose = (draw.random(4000) < sigmoid(planted * x)).astype(float)
    found = length_slope(chose, difference, groups=draw.integers(800, size=4000), **DRAWN)
    assert found.low < planted < found.high
    assert found.high - found.low < 0.25


def test_prompts_are_drawn_whole():
    """Eight judgments of each prompt that say the same: the interval is that of a tenth as many, not of all."""
    draw = np.random.default_rng(3)
    difference, prompt = draw.normal(size=60), np.arange(60)
    chose = (draw.random(60) < sigmoid(difference)).astype(float)
    many = length_slope(np.repeat(chose, 8), np.repeat(difference, 8), groups=np.repeat(prompt, 8), **DRAWN)
    alone = length_slope(np.repeat(chose, 8), np.repeat(difference, 8), groups=own(480), **DRAWN)
    assert many.n == 60
    assert many.high - many.low > 2 * (alone.high - alone.low)


def test_binomial_tail_is_scipys():
    for k, n, p in ((0, 6, 0.5), (3, 8, 0.7), (70, 100, 0.8), (999, 1000, 0.99)):
        assert binomial_tail(k, n, p, "low") == pytest.approx(binom.cdf(k, n, p), rel=1e-9)
        assert binomial_tail(k, n, p, "high") == pytest.approx(binom.sf(k - 1, n, p), rel=1e-9)
    for k, n, p in ((-1, 6, 0.5), (7, 6, 0.5), (1, 6, 0.0), (1, 6, 1.0)):
        with pytest.raises(ValueError, match="successes of"):
            binomial_tail(k, n, p, "low")


def test_holm_by_hand():
    """Four tests at 5 %: 0.01 <= 0.05/4, 0.016 <= 0.05/3, 0.03 > 0.05/2, and then none."""
    p = np.array([0.03, 0.01, 0.04, 0.016])
    assert holm(p).tolist() == [False, True, False, True]
    assert holm(p, level=0.2).tolist() == [True] * 4
    assert holm(np.array([])).tolist() == []


def test_holm_keeps_the_chance_of_any_false_one():
    draw = np.random.default_rng(0)
    any_false = sum(holm(draw.random(500)).any() for _ in range(400))
    assert any_false <= 32  # 20 expected, of which the standard deviation is 4.4
