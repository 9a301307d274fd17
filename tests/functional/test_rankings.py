import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import feedback as oracle

from baro.functional.rankings import bradley_terry, connected, plackett_luce

FEW = settings(max_examples=15, deadline=None, derandomize=True)
NONE = math.nan


def test_bradley_terry_by_hand():
    # 3 wins of 4: with hardly any ridge u_1 − u_2 = log 3
    u = bradley_terry(np.array([[0, 3], [1, 0]]), ridge=1e-9)
    assert u == pytest.approx([math.log(3) / 2, -math.log(3) / 2], abs=1e-6)
    # a tie is half a win each way
    assert bradley_terry(np.array([[0, 0.5], [0.5, 0]]), ridge=0.1).tolist() == [0.0, 0.0]
    # one win and no loss, ridge 1: σ(−2u) = u
    u = bradley_terry(np.array([[0, 1], [0, 0]]), ridge=1)
    assert 1 / (1 + math.exp(2 * u[0])) == pytest.approx(u[0], abs=1e-9)


def test_unconnected_and_uncompared_answers_stay_finite():
    # 1 beat 2, 3 beat 4, 5 was never compared
    wins = np.zeros((5, 5))
    wins[0, 1] = wins[2, 3] = 1
    u = bradley_terry(wins, ridge=0.01)
    assert u[0] == pytest.approx(u[2])
    assert u[4] == pytest.approx(0, abs=1e-12)
    assert u.sum() == pytest.approx(0, abs=1e-12)
    assert bradley_terry(np.zeros((3, 3)), ridge=1).tolist() == [0.0, 0.0, 0.0]


def test_more_ridge_pulls_together():
    wins = np.array([[0, 9], [1, 0]])
    spreads = [np.ptp(bradley_terry(wins, ridge=ridge)) for ridge in (0.01, 1, 100)]
    assert spreads[0] > spreads[1] > spreads[2]
    spreads = [np.ptp(plackett_luce(np.array([[1.0, 2.0]]), ridge=ridge)) for ridge in (0.01, 1, 100)]
    assert spreads[0] > spreads[1] > spreads[2]


@FEW
@given(st.integers(0, 10_000))
def test_bradley_terry_matches_the_oracle_and_any_naming(seed):
    random = np.random.default_rng(seed)
    wins = random.integers(0, 4, size=(4, 4)) / 2
    np.fill_diagonal(wins, 0)
    u = bradley_terry(wins, ridge=0.2)
    assert u == pytest.approx(oracle.minimum(lambda x: oracle.comparison_loss(x, wins, 0.2), 4), abs=1e-4)
    names = random.permutation(4)
    assert bradley_terry(wins[np.ix_(names, names)], ridge=0.2) == pytest.approx(u[names], abs=1e-9)
    assert bradley_terry(wins.T, ridge=0.2) == pytest.approx(-u, abs=1e-9)


def test_bradley_terry_recovers_planted_utilities():
    random = np.random.default_rng(0)
    truth = np.linspace(-1.5, 1.5, 6)
    wins = np.zeros((6, 6))
    for i in range(6):
        for j in range(i):
            wins[i, j] = random.binomial(300, 1 / (1 + math.exp(truth[j] - truth[i])))
            wins[j, i] = 300 - wins[i, j]
    assert np.abs(bradley_terry(wins, ridge=0.1) - truth).max() < 0.2


def test_plackett_luce_of_two_is_bradley_terry():
    ranks = np.array([[1.0, 2.0, NONE], [1.0, 2.0, NONE], [3.0, NONE, 7.0], [NONE, 4.0, 4.0], [2.0, 1.0, NONE]])
    wins = np.array([[0, 2, 1], [1, 0, 0.5], [0, 0.5, 0]])
    assert plackett_luce(ranks, ridge=0.3) == pytest.approx(bradley_terry(wins, ridge=0.3), abs=1e-9)


def test_plackett_luce_by_hand():
    # Two rankings of three, 1 > 2 > 3 and 2 > 1 > 3: 1 and 2 equal by symmetry; u, u, −2u maximise
    # 2 [u − log(2e^u + e^−2u)] + 2 [u − log(e^u + e^−2u)] − 3 ridge u². Without ridge 3 would fall for ever.
    u = plackett_luce(np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0]]), ridge=0.5)
    assert u[0] == pytest.approx(u[1])
    a = u[0]
    slope = 6 / (2 * math.exp(3 * a) + 1) + 6 / (math.exp(3 * a) + 1) - 6 * 0.5 * a
    assert slope == pytest.approx(0, abs=1e-9)
    # all tied says equal, and one answer alone says nothing
    assert plackett_luce(np.array([[5.0, 5.0, 5.0]]), ridge=0.5) == pytest.approx([0, 0, 0], abs=1e-12)
    assert plackett_luce(np.array([[1.0, NONE, NONE]]), ridge=0.5) == pytest.approx([0, 0, 0], abs=1e-12)


@FEW
@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0, NONE]), min_size=4, max_size=4), min_size=1, max_size=3))
def test_plackett_luce_matches_the_oracle_over_all_orders(rows):
    ranks = np.array(rows)
    u = plackett_luce(ranks, ridge=0.5)
    assert u == pytest.approx(oracle.minimum(lambda x: oracle.ranking_loss(x, ranks, 0.5), 4), abs=1e-4)


def test_only_the_order_of_ranks_matters_and_not_that_of_raters_or_answers():
    ranks = np.random.default_rng(0).integers(1, 4, size=(6, 5)).astype(float)
    u = plackett_luce(ranks, ridge=0.2)
    assert plackett_luce(ranks**3 - 9, ridge=0.2) == pytest.approx(u, abs=1e-9)
    assert plackett_luce(ranks[::-1][:, ::-1], ridge=0.2)[::-1] == pytest.approx(u, abs=1e-9)


def test_plackett_luce_recovers_planted_utilities():
    random = np.random.default_rng(1)
    truth = np.array([1.5, 0.5, 0.0, -0.5, -1.5])
    # Gumbel noise makes Plackett-Luce orders
    ranks = np.argsort(np.argsort(-(truth + random.gumbel(size=(500, 5))), axis=1), axis=1).astype(float)
    ranks[random.random(ranks.shape) < 0.2] = NONE
    assert np.abs(plackett_luce(ranks, ridge=0.1) - truth).max() < 0.2


def test_parts_that_no_ranking_connects():
    assert connected([]) == []
    assert connected(["ab", "cd", "ef"]) == [{*"ab"}, {*"cd"}, {*"ef"}]
    assert connected(["ab", "cd", "ef", "bf"]) == [{*"cd"}, {*"abef"}]


@pytest.mark.parametrize(
    ("wins", "ridge", "sentence"),
    [
        ([[0, -1], [1, 0]], 1, "negative count"),
        ([[1, 1], [1, 0]], 1, "against itself"),
        ([[0, 1], [1, 0]], 0, "ridge is 0"),
    ],
)
def test_bradley_terry_refuses(wins, ridge, sentence):
    with pytest.raises(ValueError, match=sentence):
        bradley_terry(np.array(wins), ridge=ridge)


def test_ties_too_large_to_average_are_refused():
    assert plackett_luce(np.ones((1, 12)), ridge=1) == pytest.approx(np.zeros(12), abs=1e-12)
    with pytest.raises(ValueError, match="13 answers share one rank"):
        plackett_luce(np.ones((1, 13)), ridge=1)
