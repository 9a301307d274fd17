"""Several models' scores as one: literal numbers, and what may change nothing."""

import random

import pytest

from baro.functional.ensembles import Scale, combined_score, common_scale, mean_and_variance

SCALED = [1.0, 2.0, 0.5]  # mean 7/6; squared deviations 1/36, 25/36, 16/36: variance 42/108


@pytest.mark.parametrize(
    ("combine", "penalty", "expected"),
    [
        ("mean", 0.5, 1.166667),
        ("worst", 0.5, 0.5),
        ("variance", 0.5, 0.972222),  # the variance with divisor K, not the sd: 0.854862
        ("variance", 0.1, 1.127778),
    ],
)
def test_three_members_by_hand(combine, penalty, expected):
    assert combined_score(SCALED, combine=combine, penalty=penalty) == pytest.approx(expected, abs=1e-6)


def test_mean_and_sd_of_scores_by_hand():
    assert Scale.of([1.0, 3.0]) == (2.0, 1.0)
    assert Scale.of([0.0, 0.0, 3.0]) == pytest.approx((1.0, 2**0.5))
    assert Scale(2.0, 4.0).scaled(4.0) == 0.5
    assert common_scale([Scale(1.0, 2.0), Scale(3.0, 6.0)]) == (2.0, 4.0)


@pytest.mark.parametrize("scores", [[], [1.0], [2.0, 2.0]])
def test_equal_scores_have_no_unit(scores):
    with pytest.raises(ValueError, match=f"{len(scores)} scores are all the same"):
        Scale.of(scores)


@pytest.mark.parametrize("combine", ["mean", "worst", "variance"])
def test_the_order_of_members_changes_no_bit(combine):
    draw = random.Random(0)
    for _ in range(200):
        scaled = [draw.gauss(0.0, 10.0 ** draw.randint(-3, 3)) for _ in range(7)]
        shuffled = draw.sample(scaled, 7)
        assert combined_score(scaled, combine=combine) == combined_score(shuffled, combine=combine)
        assert mean_and_variance(scaled) == mean_and_variance(shuffled)
