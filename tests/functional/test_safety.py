"""Losses and rates of a cost model against numbers by hand, naive loops and finite differences."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from baro.functional.preference import bradley_terry_loss
from baro.functional.safety import (
    Recalls,
    area_interval,
    area_under_roc,
    balanced_accuracy,
    cost_ranking_loss,
    sign_loss,
)
from baro.functional.statistics import wilson_interval


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_worked_example():
    """The safer answer costs −1 and is safe, the other one 2 and is unsafe."""
    safer, unsafer = values(-1.0), values(2.0)
    terms = [cost_ranking_loss(unsafer, safer), sign_loss(safer, values(0.0)), sign_loss(unsafer, values(1.0))]
    assert [float(one) for one in terms] == pytest.approx([0.048587, 0.313262, 0.126928], abs=1e-6)
    assert float(sum(terms)) == pytest.approx(0.488777, abs=1e-6)


def test_the_worked_example_of_two_safe_answers():
    safer, unsafer = values(-1.0), values(-0.2)
    terms = [cost_ranking_loss(unsafer, safer), sign_loss(safer, values(0.0)), sign_loss(unsafer, values(0.0))]
    assert float(sum(terms)) == pytest.approx(1.282501, abs=1e-6)


@pytest.mark.parametrize(("margin", "p"), [(0.5, 1.0), (0.0, 0.75), (0.3, 0.2)])
def test_ranking_is_bradley_terry_on_costs(margin, p):
    one, other = values(0.3, -1.2), values(-0.4, 2.0)
    found = cost_ranking_loss(one, other, margin=margin, p_safer=p)
    assert torch.equal(found, bradley_terry_loss(one, other, margin=margin, p_chosen=p))


@pytest.mark.parametrize(("cost", "unsafe"), list(product([-2.0, -0.1, 0.0, 1.5], [0.0, 0.25, 0.5, 1.0])))
def test_the_gradient_of_a_sign_is_its_error_as_a_probability(cost, unsafe):
    """d/dC = σ(C) − q, checked against a finite difference."""
    c = values(cost).requires_grad_()
    sign_loss(c, values(unsafe)).sum().backward()
    difference = (
        sign_loss(values(cost + 1e-5), values(unsafe)) - sign_loss(values(cost - 1e-5), values(unsafe))
    ) / 2e-5
    assert float(c.grad) == pytest.approx(float(difference), abs=1e-7)
    assert float(c.grad) == pytest.approx(1 / (1 + math.exp(-cost)) - unsafe, abs=1e-9)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("gap", [-1.5, 0.0, 0.7])
def test_the_gradient_of_a_ranking_by_finite_differences(gap, p):
    unsafer, safer = values(0.4 + gap).requires_grad_(), values(0.4).requires_grad_()
    cost_ranking_loss(unsafer, safer, margin=0.25, p_safer=p).sum().backward()

    def loss(more: float) -> float:
        return float(cost_ranking_loss(values(0.4 + gap + more), values(0.4), margin=0.25, p_safer=p))

    assert float(unsafer.grad) == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, abs=1e-7)
    assert float(unsafer.grad) == -float(safer.grad)
    assert p not in (0.0, 1.0) or math.copysign(1, float(unsafer.grad)) == (-1 if p else 1)


def test_a_divided_vote_pulls_to_the_boundary():
    assert float(sign_loss(values(0.0), values(0.5))) == pytest.approx(math.log(2))
    assert all(float(sign_loss(values(c), values(0.5))) > math.log(2) for c in (-0.1, 0.1))


# ---------------------------------------------------------------------------------------------------------------- rates


def test_area_against_every_pair():
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 6, 40).astype(float), random.random(40) < 0.4
    wins = [float(a > b) + 0.5 * (a == b) for a, b in product(scores[positive], scores[~positive])]
    assert area_under_roc(scores, positive) == pytest.approx(np.mean(wins))
    assert area_under_roc(-scores, positive) == pytest.approx(1 - np.mean(wins))
    with pytest.raises(ValueError, match="positives and negatives"):
        area_under_roc(scores, np.ones(40, dtype=bool))


def test_balanced_accuracy_by_hand():
    """Recalls of 8 in 10 and 15 in 20: the mean 0.775, its ends by the distances to Wilson's, root of their squares."""
    found = balanced_accuracy(Recalls(0.8, 0.75, 10, 20))
    (_, low_u, high_u, _), (_, low_s, high_s, _) = wilson_interval(8, 10), wilson_interval(15, 20)
    low = 0.775 - math.sqrt((0.8 - low_u) ** 2 + (0.75 - low_s) ** 2) / 2
    high = 0.775 + math.sqrt((high_u - 0.8) ** 2 + (high_s - 0.75) ** 2) / 2
    assert (found.value, found.low, found.high, found.n) == (pytest.approx(0.775), *map(pytest.approx, (low, high)), 10)


def test_nothing_is_certain_of_a_few_perfect_answers():
    assert balanced_accuracy(Recalls(1.0, 1.0, 5, 5)).low < 0.8
    assert balanced_accuracy(Recalls(1.0, 1.0, 5, 5)).high == 1.0
    assert area_interval(1.0, 5) == wilson_interval(5, 5)
    assert area_interval(0.5, 40).low < 0.36
