import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import functional as oracle

from baro.functional.advantages import gae, mean_and_variance, moments, scale_with, whiten_with

FEW = settings(max_examples=40, deadline=None, derandomize=True)
numbers = st.floats(-10, 10)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


#            token      0      1      2     3
REWARDS, VALUES = tensor(-0.02, -0.01, -0.03, 1.0), tensor(0.1, 0.2, 0.3, 0.5)


def test_gae_by_hand():
    advantages, returns = gae(REWARDS, VALUES, torch.tensor([4]), gamma=1.0, gae_lambda=0.95)
    np.testing.assert_allclose(advantages, (0.7476125, 0.70275, 0.645, 0.5), atol=1e-9)
    np.testing.assert_allclose(returns, (0.8476125, 0.90275, 0.945, 1.0), atol=1e-9)


def test_gae_with_lambda_one_is_the_return_less_the_value():
    advantages, returns = gae(REWARDS, VALUES, torch.tensor([4]), gamma=1.0, gae_lambda=1.0)
    np.testing.assert_allclose(advantages, (0.84, 0.76, 0.67, 0.5), atol=1e-9)
    np.testing.assert_allclose(returns, (0.94, 0.96, 0.97, 1.0), atol=1e-9)


def test_gae_with_discount_by_hand():
    # δ = (0 + .5·2 − 1, 4 − 2) = (0, 2); Â_0 = 0 + .5·.5·2
    advantages, returns = gae(tensor(0.0, 4.0), tensor(1.0, 2.0), torch.tensor([2]), gamma=0.5, gae_lambda=0.5)
    assert advantages.tolist() == [0.5, 2.0]
    assert returns.tolist() == [1.5, 4.0]


def test_gae_starts_anew_at_each_completion():
    #             completion 0          | 1: none | 2
    rewards, values = tensor(-0.01, -0.02, 1.0, 2.0), tensor(0.2, 0.3, 0.4, 0.5)
    advantages, returns = gae(rewards, values, torch.tensor([3, 0, 1]), gamma=1.0, gae_lambda=0.95)
    np.testing.assert_allclose(advantages, (0.7075, 0.65, 0.6, 1.5), atol=1e-9)
    np.testing.assert_allclose(returns, (0.9075, 0.95, 1.0, 2.0), atol=1e-9)


def test_gae_of_nothing():
    none = torch.zeros(0)
    for lengths in (torch.zeros(0, dtype=torch.long), torch.tensor([0, 0])):
        advantages, returns = gae(none, none, lengths, gamma=1.0, gae_lambda=0.95)
        assert len(advantages) == len(returns) == 0


def test_gae_refuses_lengths_that_do_not_cover_the_tokens():
    with pytest.raises(ValueError, match="lengths sum to 3 but there are 4 tokens"):
        gae(REWARDS, VALUES, torch.tensor([1, 2]), gamma=1.0, gae_lambda=0.95)


completions = st.lists(st.lists(st.tuples(numbers, numbers), max_size=6), min_size=1, max_size=5)


def flatten(ragged):
    rows = torch.tensor([cell for c in ragged for cell in c], dtype=torch.float64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1], torch.tensor([len(c) for c in ragged])


@FEW
@given(completions, st.floats(0, 1), st.floats(0, 1))
def test_ragged_gae_is_each_sequence_alone(ragged, gamma, gae_lambda):
    rewards, values, lengths = flatten(ragged)
    advantages, returns = gae(rewards, values, lengths, gamma=gamma, gae_lambda=gae_lambda)
    expected = [oracle.gae_one([r for r, _ in c], [v for _, v in c], gamma, gae_lambda) for c in ragged]
    np.testing.assert_allclose(advantages, np.concatenate(expected), atol=1e-9)
    np.testing.assert_allclose(returns, np.concatenate(expected) + values.numpy(), atol=1e-9)


@FEW
@given(completions, st.randoms(use_true_random=False))
def test_order_of_completions_does_not_matter(ragged, random):
    order = random.sample(range(len(ragged)), len(ragged))
    options = {"gamma": 0.99, "gae_lambda": 0.9}
    rewards, values, lengths = flatten(ragged)
    first = gae(rewards, values, lengths, **options)[0].split(lengths.tolist())
    rewards, values, lengths = flatten([ragged[i] for i in order])
    second = gae(rewards, values, lengths, **options)[0].split(lengths.tolist())
    assert all(torch.equal(second[place], first[i]) for place, i in enumerate(order))


def whitened(values, ddof=1):
    return whiten_with(values, *mean_and_variance(**moments(values), ddof=ddof))


def scaled(values, ddof=1):
    return scale_with(values, *mean_and_variance(**moments(values), ddof=ddof))


def test_whiten_by_hand():
    advantages = tensor(0.7476125, 0.70275, 0.645, 0.5)
    np.testing.assert_allclose(whitened(advantages), (0.916673, 0.500317, -0.035644, -1.381347), atol=1e-6)
    np.testing.assert_allclose(whitened(advantages, ddof=0), (1.058483, 0.577717, -0.041158, -1.595042), atol=1e-6)
    np.testing.assert_allclose(whitened(tensor(0.7075, 0.65, 0.6)), (1.022425, -0.046474, -0.975951), atol=1e-6)


def test_scaling_keeps_the_mean_by_hand():
    # mean 2; variance 1 (ddof 1) or 2/3 (ddof 0, deviation √1.5 = 1.224745)
    np.testing.assert_allclose(scaled(tensor(1.0, 2.0, 3.0)), (1.0, 2.0, 3.0), atol=1e-6)
    np.testing.assert_allclose(scaled(tensor(1.0, 2.0, 3.0), ddof=0), (0.775255, 2.0, 3.224745), atol=1e-6)


@FEW
@given(st.lists(numbers, min_size=2, max_size=20).filter(lambda v: np.std(v) > 0.1), st.sampled_from([0, 1]))
def test_whitened_values_have_mean_0_and_variance_1(values, ddof):
    values = tensor(*values)
    white, spread = whitened(values, ddof=ddof), scaled(values, ddof=ddof)
    assert white.mean().item() == pytest.approx(0.0, abs=1e-9)
    assert spread.mean().item() == pytest.approx(values.mean().item(), abs=1e-9)
    for changed in (white, spread):
        assert changed.var(correction=ddof).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("values", [(3.0,), (0.1, 0.1, 0.1), (1e4, 1e4)])
def test_equal_values_whiten_to_zero(values):
    values = torch.tensor(values)
    torch.testing.assert_close(whitened(values), torch.zeros(len(values)), atol=1e-3, rtol=0)
    torch.testing.assert_close(scaled(values), values, atol=1e-3, rtol=0)


def test_a_small_spread_far_from_zero_keeps_its_variance():
    values = torch.tensor([1000.1, 1000.2, 1000.3])  # squares of 10⁶ in fp32 are 0.06 apart
    np.testing.assert_allclose(whitened(values), (-1.0, 0.0, 1.0), atol=2e-3)


@FEW
@given(st.lists(numbers, min_size=2, max_size=12), st.integers(0, 12))
def test_whitening_over_ranks_is_whitening_the_whole(values, cut):
    values = tensor(*values)
    ranks = values[:cut], values[cut:]
    summed = {key: sum(moments(rank)[key] for rank in ranks) for key in ("count", "total", "squares")}
    mean, variance = mean_and_variance(**summed)
    assert variance == pytest.approx(values.var().item(), abs=1e-9)
    together = torch.cat([whiten_with(rank, mean, variance) for rank in ranks])
    torch.testing.assert_close(together, whitened(values), atol=1e-5, rtol=1e-5)


def test_whitening_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        whitened(torch.zeros(0))


def test_a_value_that_is_not_a_number_is_not_hidden_by_a_variance_of_zero():
    mean, variance = mean_and_variance(2.0, math.nan, math.nan)
    assert math.isnan(mean)
    assert math.isnan(variance)


def test_everything_is_made_where_the_inputs_are():
    rewards, values, lengths = tensor(0.0, 1.0, 2.0), tensor(0.5, 0.5, 0.5), torch.tensor([2, 1])
    with torch.device("meta"):  # where tensors go that are made without a place
        advantages, returns = gae(rewards, values, lengths, gamma=1.0, gae_lambda=1.0)
    assert advantages.tolist() == [0.5, 0.5, 1.5]
    assert returns.tolist() == [1.0, 1.0, 2.0]
