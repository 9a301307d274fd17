import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import functional as oracle

from baro.functional.statistics import (
    best_of_n_kl_bound,
    bootstrap_interval,
    expected_calibration_error,
    fisher_interval,
    length_controlled_win_rate,
    wilson_interval,
)

FEW = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(57, 100, 0.472154, 0.662667), (0, 20, 0.0, 0.161125), (20, 20, 0.838875, 1.0)],
)
def test_wilson_by_hand(successes, n, low, high):
    interval = wilson_interval(successes, n)
    assert (interval.value, interval.n) == (successes / n, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)


def test_wilson_widens_with_confidence_and_counts_ties():
    # z = 1.644854 at 90 %
    assert wilson_interval(57, 100, confidence=0.9)[1:3] == pytest.approx((0.487782, 0.648530), abs=1e-6)
    assert wilson_interval(0.5, 1).value == 0.5


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


def test_fisher_by_hand():
    # artanh 0.8 = 1.098612, 1.959964 / √17 = 0.475361: tanh 0.623251 and tanh 1.573973
    interval = fisher_interval(0.8, 20)
    assert (interval.value, interval.n) == (0.8, 20)
    assert (interval.low, interval.high) == pytest.approx((0.553388, 0.917655), abs=1e-5)
    assert fisher_interval(-0.8, 20)[1:3] == pytest.approx((-0.917655, -0.553388), abs=1e-5)
    assert fisher_interval(0.5, 3)[1:3] == (-1.0, 1.0)
    assert fisher_interval(1.0, 50).high == pytest.approx(1.0)
    with pytest.raises(ValueError, match="correlation is nan"):
        fisher_interval(math.nan, 20)


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap_interval(values, seed=1, resamples=4000)
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert interval.n == 400


def test_bootstrap_follows_from_its_seed():
    values = np.arange(20.0)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_bootstrap_of_another_statistic_and_confidence():
    values = np.array([0.0, 0.0, 0.0, 0.0, 100.0])
    assert bootstrap_interval(values, seed=0, statistic=np.median).value == 0.0
    narrow, wide = (bootstrap_interval(np.arange(50.0), seed=0, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_groups_are_drawn_whole():
    # Two prompts of 50 equal answers each: the mean is 0, 0.5 or 1, and nothing between.
    values, prompt = np.repeat([0.0, 1.0], 50), np.repeat(["a", "b"], 50)
    means = []
    grouped = bootstrap_interval(
        values, seed=0, resamples=200, groups=prompt, statistic=lambda v: means.append(v.mean()) or v.mean()
    )
    assert set(means) == {0.0, 0.5, 1.0}
    assert (grouped.low, grouped.high, grouped.n) == (0.0, 1.0, 2)
    alone = bootstrap_interval(values, seed=0, resamples=200)
    assert alone.high - alone.low < 0.3


def test_bootstrap_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no observations"):
        bootstrap_interval(np.zeros(0), seed=0)


def test_calibration_by_hand():
    # says .1 twice and is right half of the time: gap .4; says .9 twice, always right: gap .1
    error = expected_calibration_error(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 1, 1, 1]))
    assert error == pytest.approx(0.25)
    assert expected_calibration_error(np.array([0.25, 0.75]), np.array([0.25, 0.75])) == 0.0
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([True, False])) == 1.0


def test_more_bins_see_what_one_bin_averages_away():
    probabilities, outcomes = np.array([0.2, 0.8]), np.array([1.0, 0.0])
    assert expected_calibration_error(probabilities, outcomes, bins=1) == pytest.approx(0.0)
    assert expected_calibration_error(probabilities, outcomes, bins=2) == pytest.approx(0.8)


@FEW
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20), st.integers(1, 8))
def test_calibration_matches_the_oracle(pairs, bins):
    probabilities, outcomes = np.array([p for p, _ in pairs]), np.array([float(y) for _, y in pairs])
    # b/B and ceil(p·B) may round an edge differently; stay off the edges.
    probabilities = np.where(np.abs(probabilities * bins - np.round(probabilities * bins)) < 1e-9, 0.013, probabilities)
    actual = expected_calibration_error(probabilities, outcomes, bins=bins)
    assert actual == pytest.approx(oracle.ece(probabilities, outcomes, bins), abs=1e-12)


@pytest.mark.parametrize("probabilities", [[], [1.2], [-0.1]])
def test_calibration_refuses_what_is_no_probability(probabilities):
    with pytest.raises(ValueError, match="between 0 and 1"):
        expected_calibration_error(np.array(probabilities), np.zeros(len(probabilities)))


def controlled(verdicts, difference, **options):
    options = {"seed": 0, "resamples": 20} | options
    return length_controlled_win_rate(np.array(verdicts), np.array(difference), **options)


def test_equal_lengths_leave_the_raw_win_rate():
    assert controlled([1, 1, 1, 0], [0, 0, 0, 0], ridge=1e-9).value == pytest.approx(0.75, abs=1e-6)
    assert controlled([1, 0.5, 0.5, 0], [0, 0, 0, 0]).value == pytest.approx(0.5, abs=1e-6)


def test_winning_only_by_length_is_worth_a_half():
    # Always longer by 1 to 4, and the longer it is the surer the win; at no difference nothing would be left.
    difference = np.array([1.0, 2.0, 3.0, 4.0])
    verdicts = 1 / (1 + np.exp(-0.8 * difference))
    assert verdicts.mean() > 0.8
    assert controlled(verdicts, difference, ridge=1e-9).value == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_the_intercept_is_recovered_whatever_the_unit_of_length(unit):
    difference = unit * np.array([-1.0, 0.5, 2.0, 3.0, 7.0])
    verdicts = 1 / (1 + np.exp(-(0.4 + 0.3 * difference / unit)))
    win_rate = controlled(verdicts, difference, ridge=1e-9).value
    assert win_rate == pytest.approx(0.598688, abs=1e-6)  # σ(0.4); centred lengths would give σ(0.4 + 0.3 · 2.3)


@pytest.mark.parametrize("difference", [[5, 3, -2, 1], [0, 0, 0, 0]])
@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_winning_or_losing_always_converges_towards_the_end(verdict, difference):
    interval = controlled([verdict] * 4, difference)
    assert abs(interval.value - verdict) < 0.05
    assert 0.0 <= interval.low <= interval.high <= 1.0


def test_separable_by_length_converges_and_is_even():
    interval = controlled([1, 1, 1, 0, 0, 0], [3, 2, 1, -1, -2, -3], resamples=200)
    assert interval.value == pytest.approx(0.5, abs=1e-9)
    assert np.isfinite(interval).all()


@FEW
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-50, 80)), min_size=2, max_size=25))
def test_win_rate_matches_the_oracle(rows):
    verdicts, difference = np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows])
    if np.std(difference) == 0:
        difference[0] += 1
    intercept = oracle.logistic_intercept(verdicts, difference / np.std(difference), 0.1)
    actual = controlled(verdicts, difference, ridge=0.1, resamples=2).value
    assert actual == pytest.approx(1 / (1 + np.exp(-intercept)), abs=1e-4)


def test_an_outlying_length_does_not_break_the_search():
    random = np.random.default_rng(0)
    difference = np.append(random.normal(size=200), 1e6)
    verdicts = np.append((random.random(200) < 0.7).astype(float), 0.0)
    assert controlled(verdicts, difference).value == pytest.approx(verdicts[:-1].mean(), abs=0.02)


def test_the_search_converges_where_plain_newton_runs_away():
    # 140 losses, all shorter, and one tie: a full Newton step from 0 overshoots, and the next one further.
    verdicts = np.array([0.5] + [0.0] * 140)
    difference = np.array([-0.0025] + [-0.62] * 132 + [-4.93] * 8)
    intercept = oracle.logistic_intercept(verdicts, difference / np.std(difference), 0.01)
    actual = controlled(verdicts, difference, resamples=2).value
    assert actual == pytest.approx(1 / (1 + np.exp(-intercept)), abs=1e-4)


def test_win_rate_interval_covers_and_counts_prompts():
    random = np.random.default_rng(1)
    difference = random.normal(1.0, 1.0, size=300)
    verdicts = (random.random(300) < 1 / (1 + np.exp(-(0.3 + difference)))).astype(float)
    alone = controlled(verdicts, difference, resamples=300)
    assert alone.low < 1 / (1 + math.exp(-0.3)) < alone.high
    assert alone.low < alone.value < alone.high
    assert alone.high - alone.low < 0.25
    assert alone.n == 300
    # The same judgments three times over say nothing new about the prompts.
    thrice = controlled(
        np.repeat(verdicts, 3), np.repeat(difference, 3), groups=np.repeat(np.arange(300), 3), resamples=300
    )
    assert thrice.n == 300
    assert thrice.high - thrice.low == pytest.approx(alone.high - alone.low, rel=0.2)


@pytest.mark.parametrize(
    ("verdicts", "difference", "sentence"),
    [([], [], "at least one verdict"), ([2.0], [0.0], "between 0"), ([1.0, 0.0], [3.0, 3.0], "cannot be estimated")],
)
def test_win_rate_refuses_what_it_cannot_estimate(verdicts, difference, sentence):
    with pytest.raises(ValueError, match=sentence):
        controlled(verdicts, difference)


@pytest.mark.parametrize(
    ("n", "bound"),
    [(1, 0.0), (2, 0.1931), (4, 0.6363), (16, 1.8351), (64, 3.1745), (128, 3.8598), (1000, 5.9088), (60000, 10.0021)],
)
def test_best_of_n_bound_by_hand(n, bound):
    assert best_of_n_kl_bound(n) == pytest.approx(bound, abs=5e-5)


def test_best_of_n_bound_needs_one():
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n_kl_bound(0)
