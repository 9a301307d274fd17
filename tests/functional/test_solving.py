"""pass@k and maj@k: by hand, by counting all draws, and without bias."""

from itertools import combinations

import numpy as np
import pytest

from baro.functional.solving import majority_right, pass_at_k


@pytest.mark.parametrize(
    ("right", "tries", "k", "expected"),
    [
        (0, 4, 1, 0.0),
        (1, 4, 1, 0.25),
        (1, 4, 2, 0.5),  # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (2, 4, 2, 5 / 6),
        (3, 4, 2, 1.0),  # fewer wrong ones than are drawn
        (4, 4, 4, 1.0),
        (3, 10, 1, 0.3),
        (3, 10, 2, 0.5333333333),
        (3, 10, 5, 0.9166666667),  # 1 - 21/252
        (1, 200, 100, 0.5),
        (5, 10_000, 10, 0.0049910062995485),
    ],
)
def test_pass_at_k_by_hand(right, tries, k, expected):
    assert pass_at_k(np.array([right]), np.array([tries]), k) == pytest.approx([expected], rel=1e-9)


def test_pass_at_k_counts_every_draw():
    for tries in range(1, 7):
        for right in range(tries + 1):
            for k in range(1, tries + 1):
                draws = list(combinations([True] * right + [False] * (tries - right), k))
                expected = sum(any(draw) for draw in draws) / len(draws)
                assert pass_at_k(np.array([right]), np.array([tries]), k)[0] == pytest.approx(expected)


def test_pass_at_k_is_unbiased_where_the_plug_in_is_not():
    """Each answer is right with p = 0.2: four of them solve a problem with 1 - 0.8^4 = 0.5904."""
    right = np.random.default_rng(0).binomial(8, 0.2, size=40_000)
    found = pass_at_k(right, np.full(40_000, 8), 4).mean()
    assert found == pytest.approx(0.5904, abs=0.006)
    assert (1 - (1 - right / 8) ** 4).mean() < 0.56


@pytest.mark.parametrize(("right", "tries", "k"), [(1, 3, 4), (4, 3, 1), (-1, 3, 1), (1, 3, 0)])
def test_what_pass_at_k_cannot_be_is_refused(right, tries, k):
    with pytest.raises(ValueError, match=f"pass@{k} needs"):
        pass_at_k(np.array([right]), np.array([tries]), k)


@pytest.mark.parametrize(
    ("answers", "right", "expected"),
    [
        (["18", "18", "20"], [True, True, False], 1.0),
        (["20", "18", "20"], [False, True, False], 0.0),
        (["18", "20"], [True, False], 0.5),
        (["18", "20", "3"], [True, False, False], 1 / 3),
        ([None, None, "18"], [False, False, True], 1.0),  # what could not be read has no vote
        ([None, None], [False, False], 0.0),
        ([], [], 0.0),
    ],
)
def test_the_answer_given_most_often(answers, right, expected):
    assert majority_right(answers, right) == pytest.approx(expected)
