"""Group advantages by numbers worked out by hand, by numpy, and by properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baro.functional.groups import (
    group_centered,
    group_rank,
    group_standardized,
    group_std,
    leave_one_out,
    overlong_penalty,
    tied,
)

FEW = settings(max_examples=60, deadline=None, derandomize=True)
ALL = {"centered": group_centered, "standardized": group_standardized, "rloo": leave_one_out, "rank": group_rank}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def one_group(function, *rewards, **options):
    return function(tensor(*rewards), torch.zeros(len(rewards), dtype=torch.long), 1, **options).tolist()


@pytest.mark.parametrize(
    ("function", "options", "rewards", "expected"),
    [
        (group_standardized, {}, (1, 0, 0, 0), (1.4997, -0.4999, -0.4999, -0.4999)),
        (group_standardized, {"ddof": 0}, (1, 0, 0, 0), (1.731651, -0.577217, -0.577217, -0.577217)),
        (group_standardized, {}, (1, 1, 0, 0), (0.865875, 0.865875, -0.865875, -0.865875)),
        (group_standardized, {"epsilon": 0.5}, (3, 1), (1 / (2**0.5 + 0.5), -1 / (2**0.5 + 0.5))),
        (group_centered, {}, (1, 0, 0, 0), (0.75, -0.25, -0.25, -0.25)),
        (leave_one_out, {}, (1, 0, 0, 0), (1.0, -1 / 3, -1 / 3, -1 / 3)),
        (leave_one_out, {}, (1, 0, 0, 1), (2 / 3, -2 / 3, -2 / 3, 2 / 3)),
        (group_rank, {}, (5, 1, 100), (0.0, -0.5, 0.5)),
        (group_rank, {}, (2, 2, 1), (0.25, 0.25, -0.5)),
    ],
)
def test_by_hand(function, options, rewards, expected):
    assert one_group(function, *map(float, rewards), **options) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("function", ALL.values(), ids=ALL)
@pytest.mark.parametrize("rewards", [(0.1, 0.1, 0.1), (7.3,), (-1e30, -1e30)])
def test_nothing_to_learn_is_exactly_zero(function, rewards):
    """The mean of three times 0.1 is not 0.1."""
    assert one_group(function, *rewards) == [0.0] * len(rewards)


def test_the_deviation_of_few():
    group = torch.tensor([0, 1, 1, 2, 2, 2])
    found = group_std(tensor(5.0, 1.0, 3.0, 0.0, 3.0, 6.0), group, 4)
    assert found.tolist() == pytest.approx([0.0, 2**0.5, 3.0, 0.0])
    found = group_std(tensor(5.0, 1.0, 3.0, 0.0, 3.0, 6.0), group, 4, ddof=0)
    assert found.tolist() == pytest.approx([0.0, 1.0, 6**0.5, 0.0])


def test_tied_groups():
    assert tied(tensor(1.0, 2.0, 1.0, 2.0, 3.0), torch.tensor([0, 1, 0, 1, 2]), 4).tolist() == [True] * 5
    assert tied(tensor(1.0, 2.0, 1.5, 2.0), torch.tensor([0, 1, 0, 1]), 2).tolist() == [False, True, False, True]


@FEW
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-1.0, 0.0, 0.5, 2.0])), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_against_numpy_in_any_order(pairs, random):
    random.shuffle(pairs)
    group, rewards = (np.array(column) for column in zip(*pairs, strict=True))
    expected = {name: np.zeros(len(pairs)) for name in ALL}
    for i, g in enumerate(group):
        own, others = rewards[group == g], [rewards[j] for j in range(len(pairs)) if j != i and group[j] == g]
        expected["centered"][i] = rewards[i] - own.mean()
        if others:
            expected["standardized"][i] = (rewards[i] - own.mean()) / (own.std(ddof=1) + 1e-4)
            expected["rloo"][i] = rewards[i] - np.mean(others)
            expected["rank"][i] = np.mean([1.0 * (o < rewards[i]) + 0.5 * (o == rewards[i]) for o in others]) - 0.5
    for name, function in ALL.items():
        found = function(torch.tensor(rewards), torch.tensor(group), 5)
        assert found.tolist() == pytest.approx(expected[name].tolist(), abs=1e-9), name


def test_the_overlong_penalty():
    lengths = torch.tensor([1, 80, 85, 90, 100, 101, 500])
    expected = [0.0, 0.0, -0.25, -0.5, -1.0, -1.0, -1.0]
    assert overlong_penalty(lengths, limit=100, buffer=20).tolist() == expected
    for buffer in (0, 101):
        with pytest.raises(ValueError, match="between 1 and the limit"):
            overlong_penalty(lengths, limit=100, buffer=buffer)
