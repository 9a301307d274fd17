import inspect
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import feedback as oracle
from scipy.stats import binomtest

from baro.functional import votes
from baro.functional.statistics import expected_calibration_error
from baro.functional.undefined import Undefined
from baro.functional.votes import (
    binary_dawid_skene,
    binomial_test,
    dawid_skene_sides,
    needs_another_vote,
    noise_from_agreement,
    smoothed_vote,
    vote_margin,
)

FEW = settings(max_examples=40, deadline=None, derandomize=True)


def test_smoothed_vote_by_hand():
    # (0 + ½)/(0 + 1), (1 + ½)/(1 + 1), (2.5 + ½)/(3 + 1): a tie is half a win
    p = smoothed_vote(np.array([0, 1, 2.5]), np.array([0, 1, 3]))
    assert p.tolist() == [0.5, 0.75, 0.75]
    assert smoothed_vote(np.array([1]), np.array([1]), prior=1).tolist() == [2 / 3]
    assert (smoothed_vote(np.array([3]), np.array([4])) + smoothed_vote(np.array([1]), np.array([4]))).tolist() == [1.0]


@pytest.mark.parametrize(("wins", "cast", "prior"), [(2, 1, 0.5), (-1, 1, 0.5), (1, 1, 0.0)])
def test_smoothed_vote_refuses(wins, cast, prior):
    with pytest.raises(ValueError, match=r"wins must|prior is"):
        smoothed_vote(np.array([wins]), np.array([cast]), prior=prior)


def test_margin_by_hand():
    margin = vote_margin(np.array([0.75, 0.5, 0.01, 0.0, 1.0]), largest=3)
    assert margin == pytest.approx([math.log(3), 0, -3, -3, 3], abs=1e-12)
    assert vote_margin(np.array([0.99]), largest=10)[0] == pytest.approx(math.log(99))


@pytest.mark.parametrize(("p", "largest"), [(1.2, 1), (-0.1, 1), (math.nan, 1), (0.5, 0)])
def test_margin_refuses(p, largest):
    with pytest.raises(ValueError, match=r"outside 0\.\.1|largest is"):
        vote_margin(np.array([p]), largest=largest)


def test_another_vote_while_unsure():
    p = np.array([0.5, 0.79, 0.8, 0.2, 0.21, 1.0])
    assert needs_another_vote(p, certainty=0.8).tolist() == [True, True, False, False, True, False]
    assert not needs_another_vote(p, certainty=0.5).any()
    with pytest.raises(ValueError, match=r"certainty is 0\.4"):
        needs_another_vote(p, certainty=0.4)
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        needs_another_vote(np.array([2.0]), certainty=0.8)


@pytest.mark.parametrize(("agreement", "noise"), [(0.726, 0.16384), (1.0, 0.0), (0.5, 0.5), (0.82, 0.1)])
def test_noise_by_hand(agreement, noise):
    epsilon = noise_from_agreement(agreement)
    assert epsilon == pytest.approx(noise, abs=1e-5)
    assert (1 - epsilon) ** 2 + epsilon**2 == pytest.approx(agreement)


def test_noise_of_less_than_chance_is_undefined():
    with pytest.raises(Undefined, match=r"agree in 49\.0% of pairs"):
        noise_from_agreement(0.49)
    for wrong in (1.01, math.nan):
        with pytest.raises(ValueError, match="fraction of 1"):
            noise_from_agreement(wrong)


def test_binomial_by_hand():
    assert binomial_test(0, 5) == pytest.approx(2 / 32)
    assert binomial_test(8, 10) == pytest.approx(2 * (45 + 10 + 1) / 1024)
    assert binomial_test(5, 10) == 1.0
    assert binomial_test(0, 0) == 1.0
    assert binomial_test(2, 2, p=0.1) == pytest.approx(0.01)


@FEW
@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9))
def test_binomial_matches_oracle_and_peer(successes, more, tenths):
    n = successes + more
    p = binomial_test(successes, n, p=tenths / 10)
    assert p == pytest.approx(oracle.binomial_p(successes, n, (tenths, 10)), rel=1e-9)
    if n:
        assert p == pytest.approx(binomtest(successes, n, tenths / 10).pvalue, rel=1e-9)


@pytest.mark.parametrize(("successes", "p"), [(501_000, 0.5), (499_500, 0.5), (2_300, 0.0022), (0, 0.5)])
def test_binomial_of_a_million(successes, p):
    actual = binomial_test(successes, 10**6, p=p)
    assert actual == pytest.approx(binomtest(successes, 10**6, p).pvalue, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(("successes", "n", "p"), [(3, 2, 0.5), (-1, 2, 0.5), (1, 2, 0.0), (1, 2, 1.0)])
def test_binomial_refuses(successes, n, p):
    with pytest.raises(ValueError, match="successes of"):
        binomial_test(successes, n, p=p)


class Pairwise(NamedTuple):
    """Judgments with what was planted."""

    item: np.ndarray
    rater: np.ndarray
    first_on_left: np.ndarray
    chose_first: np.ndarray
    first_is_better: np.ndarray

    @property
    def judgments(self):
        return self[:4]

    @property
    def majority(self):
        share = np.bincount(self.item, self.chose_first) / np.bincount(self.item)
        return (np.sign(share - 0.5) + 1) / 2


def plant(seed, items, per_item, skill, bias, *, preference="normal", ties=0.0):
    """Every item judged by per_item different raters."""
    random = np.random.default_rng(seed)
    skill, bias = np.asarray(skill, dtype=float), np.asarray(bias, dtype=float)
    d = random.normal(size=items) if preference == "normal" else random.choice([-1.0, 1.0], items)
    item = np.repeat(np.arange(items), per_item)
    rater = np.argsort(random.random((items, len(skill))), axis=1)[:, :per_item].ravel()
    left = random.random(len(item)) < 0.5
    z = skill[rater] * d[item] + np.where(left, 1, -1) * bias[rater]
    chose = (random.random(len(item)) < 1 / (1 + np.exp(-z))).astype(float)
    chose[random.random(len(item)) < ties] = 0.5
    return Pairwise(item, rater, left, chose, d > 0)


def brier(p, truth):
    return float(((p - truth) ** 2).mean())


SKILLS = [4, 3, 3, 2, 2, 2, 1.5, 1, 0, -1.5]
BIASES = [0, 0.8, -0.8, 0, 0.5, -0.5, 0, 1, 1, 0]


def test_skills_and_side_biases_are_recovered():
    planted = plant(0, 1500, 4, SKILLS, BIASES)
    learned = dawid_skene_sides(*planted.judgments)
    error = learned.skill - SKILLS
    assert math.sqrt((error**2).mean()) < 0.45
    # The prior pulls the most skilled most: 30 % of what is known about a skill of 4 is a pool of 1.7.
    assert np.abs(error[1:]).max() < 0.55
    assert -1.2 < error[0] < 0
    assert np.corrcoef(learned.skill, SKILLS)[0, 1] > 0.96
    assert np.abs(learned.side_bias - BIASES).max() < 0.3
    assert learned.skill[9] < -0.8  # the one who answers the wrong way round
    assert abs(learned.accuracy[8] - 0.5) < 0.08  # the one who clicks at random
    assert (learned.shrinkage < 0.3).all()


@pytest.mark.parametrize("preference", ["normal", "equally hard"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_are_calibrated_and_beat_the_majority(seed, preference):
    planted = plant(seed, 1500, 4, SKILLS, BIASES, preference=preference)
    p, truth, majority = dawid_skene_sides(*planted.judgments).p_first, planted.first_is_better, planted.majority
    smoothed = smoothed_vote(np.bincount(planted.item, planted.chose_first), np.bincount(planted.item))
    assert brier(p, truth) < 0.75 * brier(majority, truth)
    assert brier(p, truth) < 0.8 * brier(smoothed, truth)
    assert ((p > 0.5) == truth).mean() > 1 - np.abs(majority - truth).mean() + 0.03  # a tied majority is half right
    if preference == "normal":
        assert expected_calibration_error(p, truth) < 0.35 * expected_calibration_error(majority, truth)
        assert expected_calibration_error(p, truth) < 0.04
    else:  # no item is as hard as the prior believes, so p is less sure than it might be
        assert expected_calibration_error(p, truth) < 0.07
        sure = np.maximum(p, 1 - p).mean()
        assert sure < ((p > 0.5) == truth).mean()


def test_accuracy_is_how_often_the_better_answer_is_named():
    planted = plant(4, 40_000, 1, [1.5], [0.0])
    named = (planted.chose_first == planted.first_is_better).mean()
    # E σ(1.5 |d|) = 0.7342
    assert named == pytest.approx(0.7342, abs=0.006)
    nodes, weights = votes._NODES, votes._WEIGHTS
    assert weights @ (1 / (1 + np.exp(-1.5 * np.abs(nodes)))) == pytest.approx(0.7342, abs=1e-4)


def test_one_vote_per_item_falls_back_to_the_prior_of_the_pool():
    # E σ(2 |d|) = 0.77799 for d ~ N(0, 1): one vote of a rater of skill 2
    learned = dawid_skene_sides(
        np.arange(4), np.array([0, 0, 1, 1]), np.array([True, False, True, False]), np.array([1.0, 1, 0, 0])
    )
    assert learned.p_first == pytest.approx([0.77799, 0.77799, 0.22201, 0.22201], abs=1e-5)
    assert learned.accuracy == pytest.approx([0.77799] * 2, abs=1e-5)
    assert (learned.pool, learned.pool_shrinkage) == pytest.approx((2.0, 1.0), abs=1e-6)
    assert learned.shrinkage == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_side_habit_does_not_pass_for_a_lack_of_skill():
    planted = plant(0, 2000, 1, [2.0] * 10, np.linspace(-1.2, 1.2, 10))
    learned = dawid_skene_sides(*planted.judgments)
    assert np.abs(learned.skill - 2).max() < 0.2
    assert learned.shrinkage.min() > 0.97
    assert learned.pool_shrinkage > 0.9
    assert np.corrcoef(learned.side_bias, np.linspace(-1.2, 1.2, 10))[0, 1] > 0.95
    assert expected_calibration_error(learned.p_first, planted.first_is_better) < 0.05


@pytest.mark.parametrize(("skill", "low", "high"), [(1.0, 0.7, 1.4), (3.0, 2.5, 3.5)])
def test_two_votes_per_item_learn_the_pool(skill, low, high):
    planted = plant(1, 1000, 2, [skill] * 100, [0.0] * 100)  # 20 judgments a rater
    learned = dawid_skene_sides(*planted.judgments)
    assert low < learned.pool < high
    assert learned.pool_shrinkage < 0.1
    assert learned.shrinkage.mean() > 0.7  # little about one rater
    assert expected_calibration_error(learned.p_first, planted.first_is_better) < 0.06


def test_shrinkage_falls_as_judgments_come_in():
    means = []
    for items in (50, 200, 800):
        planted = plant(0, items, 3, [2.0] * 6, [0.0] * 6)
        means.append(dawid_skene_sides(*planted.judgments).shrinkage.mean())
    assert means[0] > 0.6 > means[1] > 0.3 > means[2]


def test_learned_parameters_are_the_maximum_of_the_naive_posterior():
    planted = plant(3, 25, 2, [3.0, 1.0, 2.0], [0.5, 0.0, -0.5], ties=0.2)
    learned = dawid_skene_sides(*planted.judgments)
    judgments = list(zip(*(a.tolist() for a in planted.judgments), strict=True))
    assert learned.p_first == pytest.approx(
        oracle.one_coin_posterior(learned.skill, learned.side_bias, judgments, 25)[0], abs=1e-4
    )
    habit = learned.side_bias / np.sqrt(1 + np.pi * learned.skill**2 / 8)
    at = np.concatenate([[learned.pool], learned.skill, habit])

    def log_posterior(theta):
        return oracle.one_coin_log_posterior(theta[0], theta[1:4], theta[4:], judgments, 25)

    best = log_posterior(at)
    for k in range(7):
        up, down = (log_posterior(at + 0.01 * sign * np.eye(7)[k]) for sign in (1, -1))
        assert up < best
        assert down < best
        # to second order the maximum lies within a thousandth of where it was found
        assert abs((up - down) / (up + down - 2 * best) * 0.005) < 1e-3


def test_naming_order_and_sides_never_matter():
    planted = plant(5, 200, 3, SKILLS, BIASES, ties=0.1)
    item, rater, left, chose = planted.judgments
    learned = dawid_skene_sides(*planted.judgments)
    random = np.random.default_rng(0)
    order, items, raters = random.permutation(len(item)), random.permutation(200), random.permutation(10)
    shuffled = dawid_skene_sides(items[item][order], raters[rater][order], left[order], chose[order])
    assert shuffled.p_first[items] == pytest.approx(learned.p_first, abs=1e-5)
    assert shuffled.skill[raters] == pytest.approx(learned.skill, abs=1e-5)
    assert shuffled.shrinkage[raters] == pytest.approx(learned.shrinkage, abs=1e-5)
    # the other answer called first
    swapped = dawid_skene_sides(item, rater, ~left, 1 - chose)
    assert swapped.p_first == pytest.approx(1 - learned.p_first, abs=1e-5)
    assert swapped.side_bias == pytest.approx(learned.side_bias, abs=1e-5)
    # the screen mirrored
    mirrored = dawid_skene_sides(item, rater, ~left, chose)
    assert mirrored.p_first == pytest.approx(learned.p_first, abs=1e-5)
    assert mirrored.side_bias == pytest.approx(-learned.side_bias, abs=1e-5)
    again = dawid_skene_sides(*planted.judgments)
    assert all(np.array_equal(a, b) for a, b in zip(again, learned, strict=True))


def test_gaps_in_the_indices_are_items_and_raters_without_judgments():
    learned = dawid_skene_sides(np.array([0, 3]), np.array([0, 2]), np.array([True, True]), np.array([1, 0]))
    assert learned.p_first[1:3] == pytest.approx([0.5, 0.5])
    assert learned.skill[1] == pytest.approx(learned.pool)
    assert (learned.shrinkage[1], learned.side_bias[1]) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize("vote", [0.0, 1.0])
def test_unanimous_and_extreme_votes_converge(vote):
    item, rater = np.repeat(np.arange(300), 8), np.tile(np.arange(8), 300)
    left = (item + rater) % 2 == 0
    p = dawid_skene_sides(item, rater, left, np.full(2400, vote)).p_first
    assert np.abs(p - vote).max() < 0.01
    # one who always chooses left
    learned = dawid_skene_sides(item, rater, left, left.astype(float))
    assert learned.side_bias.min() > 2


@pytest.mark.parametrize(
    ("item", "rater", "chose", "sentence"),
    [
        ([], [], [], "no judgments"),
        ([0, 0], [0, 1], [1.0], "different numbers"),
        ([-1], [0], [1.0], "negative"),
        ([0], [0], [0.7], "a tie"),
        ([0], [0], [math.nan], "a tie"),
    ],
)
def test_sides_refuses(item, rater, chose, sentence):
    with pytest.raises(ValueError, match=sentence):
        # unwrapped: the function speaks and not the shape check
        inspect.unwrap(dawid_skene_sides)(
            np.array(item, dtype=int), np.array(rater, dtype=int), np.ones(len(item), dtype=bool), np.array(chose)
        )


def plant_flags(seed, items, per_item, sensitivity, specificity, prevalence):
    random = np.random.default_rng(seed)
    truth = random.random(items) < prevalence
    item = np.repeat(np.arange(items), per_item)
    rater = np.argsort(random.random((items, len(sensitivity))), axis=1)[:, :per_item].ravel()
    flag = random.random(len(item)) < np.where(truth[item], sensitivity[rater], 1 - specificity[rater])
    return item, rater, flag, truth


def test_flags_recover_what_each_rater_misses_and_overflags():
    sensitivity, specificity = np.linspace(0.55, 0.95, 8), np.linspace(0.98, 0.7, 8)
    item, rater, flag, truth = plant_flags(0, 2000, 4, sensitivity, specificity, 0.2)
    learned = binary_dawid_skene(item, rater, flag)
    assert np.abs(learned.sensitivity - sensitivity).max() < 0.1
    assert np.abs(learned.specificity - specificity).max() < 0.05
    assert learned.prevalence == pytest.approx(truth.mean(), abs=0.03)
    majority = (np.bincount(item, flag) > 2).astype(float)
    assert brier(learned.p_one, truth) < 0.7 * brier(majority, truth)
    assert expected_calibration_error(learned.p_one, truth) < 0.03


def test_flags_are_the_maximum_of_the_naive_posterior():
    item, rater, flag, _ = plant_flags(1, 30, 3, np.array([0.9, 0.6, 0.8]), np.array([0.8, 0.9, 0.6]), 0.4)
    learned = binary_dawid_skene(item, rater, flag)
    judgments = list(zip(item.tolist(), rater.tolist(), flag.tolist(), strict=True))
    at = np.concatenate([learned.sensitivity, learned.specificity, [learned.prevalence]])

    def log_posterior(theta):
        return oracle.binary_log_posterior(theta[:3], theta[3:6], theta[6], judgments, 30)

    best = log_posterior(at)
    for k in range(7):
        up, down = (log_posterior(at + 0.001 * sign * np.eye(7)[k]) for sign in (1, -1))
        assert abs((up - down) / (up + down - 2 * best) * 0.0005) < 1e-4


@pytest.mark.parametrize(("right", "prevalence"), [(0.85, 0.3), (0.5, 0.5)], ids=["raters", "coins"])
def test_flags_of_one_vote_each_are_learned_where_em_creeps(right, prevalence):
    """What was learned agrees with what it expects of each rater, as after endless steps."""
    random = np.random.default_rng(0)
    truth, rater = random.random(10_000) < prevalence, random.integers(0, 5, 10_000)
    flag = np.where(random.random(10_000) < right, truth, ~truth)
    p, sensitivity, specificity, share = binary_dawid_skene(np.arange(10_000), rater, flag)
    held, times = np.bincount(rater, p * flag), np.bincount(rater, p)
    assert sensitivity == pytest.approx((held + 3) / (times + 4), abs=1e-7)
    held, times = np.bincount(rater, (1 - p) * ~flag), np.bincount(rater, 1 - p)
    assert specificity == pytest.approx((held + 3) / (times + 4), abs=1e-7)
    assert share == pytest.approx((p.sum() + 1) / 10_002, abs=1e-7)


def test_bfgs_goes_on_to_where_em_would_come(monkeypatch):
    judgments = plant_flags(3, 300, 3, np.linspace(0.6, 0.9, 6), np.linspace(0.95, 0.7, 6), 0.3)[:3]
    far = binary_dawid_skene(*judgments)
    monkeypatch.setattr(votes, "EM_STEPS", 3)
    for one, other in zip(binary_dawid_skene(*judgments), far, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_flags_by_hand():
    # One judgment each way by one rater: by symmetry sensitivity = specificity = a and prevalence ½, so p = a or 1 − a;
    # a = (a + 3) / (1 + 4) gives a = ¾.
    learned = binary_dawid_skene(np.array([0, 1]), np.array([0, 0]), np.array([1, 0]))
    assert learned.p_one == pytest.approx([0.75, 0.25], abs=1e-6)
    assert (learned.sensitivity[0], learned.specificity[0], learned.prevalence) == pytest.approx((0.75, 0.75, 0.5))


def test_flags_turned_round_and_renamed():
    item, rater, flag, _ = plant_flags(2, 200, 3, np.linspace(0.6, 0.9, 6), np.linspace(0.95, 0.7, 6), 0.3)
    learned, turned = binary_dawid_skene(item, rater, flag), binary_dawid_skene(item, rater, ~flag)
    assert turned.p_one == pytest.approx(1 - learned.p_one, abs=1e-6)
    assert turned.sensitivity == pytest.approx(learned.specificity, abs=1e-6)
    names = np.random.default_rng(0).permutation(6)
    assert binary_dawid_skene(item, names[rater], flag).sensitivity[names] == pytest.approx(learned.sensitivity)
    back = binary_dawid_skene(item[::-1], rater[::-1], flag[::-1].astype(float))
    assert back.p_one == pytest.approx(learned.p_one, abs=1e-6)


def test_flags_refuse():
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        binary_dawid_skene(np.array([0]), np.array([0]), np.array([0.5]))
    with pytest.raises(ValueError, match="no judgments"):
        binary_dawid_skene(np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0))
