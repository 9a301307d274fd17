import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.metrics import agreement as nltk_agreement
from oracles import feedback as oracle
from scipy.stats import kendalltau
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as peer_fleiss_kappa

from baro.functional.agreement import (
    category_counts,
    coefficient_interval,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    interval_distance,
    kendall_tau_b,
    kendall_w,
    krippendorff_alpha,
    nominal_distance,
    ordinal_distance,
    percent_agreement,
    percentiles,
)
from baro.functional.undefined import Undefined, Unvaried

FEW = settings(max_examples=40, deadline=None, derandomize=True)
NONE = math.nan
SCALES = {"nominal": nominal_distance, "ordinal": ordinal_distance, "interval": interval_distance}

# Krippendorff 2011, C: four observers, twelve units, five values, seven missing.
TEXTBOOK = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)

# Fleiss 1971's data in the form Wikipedia made known: ten items, five categories, fourteen raters; κ = 0.210.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorffs_textbook(scale, alpha):
    assert round(krippendorff_alpha(TEXTBOOK, distance=SCALES[scale]), 3) == alpha


def test_alpha_by_hand():
    # Units (0,0), (0,1), (1,1): o_00 = 2, o_11 = 2, o_01 = o_10 = 1; n_0 = n_1 = 3, n = 6.
    # D_o = 2/6, D_e = 2 · 9 / (6 · 5) = 0.6: α = 1 − 0.5556
    ratings = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert krippendorff_alpha(ratings, distance=nominal_distance) == pytest.approx(4 / 9)


def test_percent_agreement_by_hand():
    # item 1: one of three pairs agrees; item 2: the one pair does; item 3 has one rating and no pair
    ratings = np.array([[1.0, 2.0, 1.0], [1.0, 2.0, NONE], [3.0, NONE, NONE]])
    assert percent_agreement(ratings) == pytest.approx((1 / 3 + 1) / 2)


def test_cohen_by_hand():
    # 45 both yes, 15 first only, 25 second only, 15 both no: p_o 0.6, p_e 0.6 · 0.7 + 0.4 · 0.3 = 0.54
    first = np.repeat([1.0, 1.0, 0.0, 0.0], [45, 15, 25, 15])
    second = np.repeat([1.0, 0.0, 1.0, 0.0], [45, 15, 25, 15])
    assert cohen_kappa(first, second) == pytest.approx(0.06 / 0.46)
    # what only one of them rated says nothing
    assert cohen_kappa(np.append(first, [1.0, NONE]), np.append(second, [NONE, 0.0])) == pytest.approx(0.06 / 0.46)


def test_fleiss_by_hand():
    assert round(fleiss_kappa(FLEISS), 3) == 0.210
    assert fleiss_kappa(FLEISS) == pytest.approx(float(peer_fleiss_kappa(FLEISS)), abs=1e-12)


def test_ac1_by_hand_where_kappa_collapses():
    # 118 of 125 both yes, 5 + 2 apart, 0 both no: p_a 0.944; π_yes = (123 + 120) / 250 = 0.972;
    # p_e = 2 · 0.972 · 0.028 = 0.054432: AC1 = 0.889568 / 0.945568
    first = np.repeat([1.0, 1.0, 0.0], [118, 5, 2])
    second = np.repeat([1.0, 0.0, 1.0], [118, 5, 2])
    ratings = np.stack([first, second])
    assert gwet_ac1(ratings) == pytest.approx(0.940777, abs=1e-6)
    assert cohen_kappa(first, second) < 0


def test_tau_b_by_hand():
    # pairs: (1,2)c (1,3)c (1,4)c (2,3) tied in first, (2,4)c, (3,4) tied in second: 4 / √(5 · 5)
    assert kendall_tau_b(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 3])) == pytest.approx(0.8)
    assert kendall_tau_b(np.arange(5.0), -np.arange(5.0)) == -1.0
    assert kendall_tau_b(np.arange(5.0), np.arange(5.0) ** 3) == 1.0


def test_w_by_hand():
    # rank sums 4, 6, 8 about 6: S = 8; 12 · 8 / (9 · 24) = 4/9
    assert kendall_w(np.array([[1.0, 2, 3], [1.0, 2, 3], [2.0, 2.0, 2.0]])) == pytest.approx(12 * 8 / (9 * 24 - 3 * 24))
    assert kendall_w(np.array([[1.0, 2, 3], [1.0, 3, 2], [2.0, 1, 3]])) == pytest.approx(12 * 8 / (9 * 24))
    assert kendall_w(np.array([[1.0, 2, 2], [10.0, 70, 70]])) == pytest.approx(1.0)  # ties and the unit never matter
    assert kendall_w(np.array([[1.0, 2, 3], [3.0, 2, 1]])) == 0.0


ratings_of = st.integers(2, 4).flatmap(
    lambda raters: st.lists(
        st.lists(st.sampled_from([1.0, 2.0, 4.0, NONE]), min_size=raters, max_size=raters), min_size=2, max_size=7
    ).map(lambda rows: np.array(rows).T)
)


@FEW
@given(ratings_of)
def test_coefficients_match_the_oracles(ratings):
    for scale, distance in SCALES.items():
        try:
            value = krippendorff_alpha(ratings, distance=distance)
        except Undefined:
            continue
        assert value == pytest.approx(oracle.alpha(ratings, scale), abs=1e-12)
        assert gwet_ac1(ratings) == pytest.approx(oracle.ac1(ratings), abs=1e-12)
        assert percent_agreement(ratings) == pytest.approx(oracle.agreeing_pairs(ratings), abs=1e-12)


@FEW
@given(st.integers(0, 10_000))
def test_coefficients_match_their_peers(seed):
    random = np.random.default_rng(seed)
    ratings = random.integers(0, 3, size=(3, 12)).astype(float)
    rows = [(f"r{r}", f"i{i}", int(ratings[r, i])) for r in range(3) for i in range(12)]
    peer = nltk_agreement.AnnotationTask(data=rows)
    assert krippendorff_alpha(ratings, distance=nominal_distance) == pytest.approx(peer.alpha(), abs=1e-12)
    assert percent_agreement(ratings) == pytest.approx(peer.avg_Ao(), abs=1e-12)
    spaced = nltk_agreement.AnnotationTask(data=rows, distance=lambda a, b: (a - b) ** 2)
    assert krippendorff_alpha(ratings, distance=interval_distance) == pytest.approx(spaced.alpha(), abs=1e-12)
    counts = aggregate_raters(ratings.T.astype(int))[0]
    assert fleiss_kappa(category_counts(ratings)) == pytest.approx(float(peer_fleiss_kappa(counts)), abs=1e-12)
    assert cohen_kappa(ratings[0], ratings[1]) == pytest.approx(cohen_kappa_score(*ratings[:2]), abs=1e-12)
    assert kendall_tau_b(ratings[0], ratings[1]) == pytest.approx(kendalltau(*ratings[:2]).statistic, abs=1e-12)


def test_neither_the_order_of_raters_and_items_nor_the_labels_matter():
    random = np.random.default_rng(0)
    shuffled = TEXTBOOK[random.permutation(4)][:, random.permutation(12)]
    names = np.array([NONE, 7.0, -3.0, 0.5, 100.0, 2.0])  # for 1 to 5, in another order
    renamed = np.where(np.isnan(TEXTBOOK), NONE, names[np.nan_to_num(TEXTBOOK).astype(int)])
    for coefficient in (percent_agreement, gwet_ac1, partial(krippendorff_alpha, distance=nominal_distance)):
        assert coefficient(shuffled) == pytest.approx(coefficient(TEXTBOOK), abs=1e-12)
        assert coefficient(renamed) == pytest.approx(coefficient(TEXTBOOK), abs=1e-12)
    assert krippendorff_alpha(shuffled, distance=ordinal_distance) == pytest.approx(
        krippendorff_alpha(TEXTBOOK, distance=ordinal_distance)
    )
    # ordinal: any growing function; interval: shift and scale
    assert krippendorff_alpha(np.exp(TEXTBOOK), distance=ordinal_distance) == pytest.approx(
        krippendorff_alpha(TEXTBOOK, distance=ordinal_distance)
    )
    assert krippendorff_alpha(3 * TEXTBOOK - 8, distance=interval_distance) == pytest.approx(
        krippendorff_alpha(TEXTBOOK, distance=interval_distance)
    )
    ranks = random.normal(size=(4, 6))
    assert kendall_w(ranks[::-1][:, ::-1]) == pytest.approx(kendall_w(ranks), abs=1e-12)


def test_raters_who_guess_agree_no_more_than_chance():
    random = np.random.default_rng(2)
    ratings = (random.random((3, 4000)) < 0.3).astype(float)
    assert percent_agreement(ratings) == pytest.approx(0.58, abs=0.02)
    assert krippendorff_alpha(ratings, distance=nominal_distance) == pytest.approx(0, abs=0.03)
    assert cohen_kappa(ratings[0], ratings[1]) == pytest.approx(0, abs=0.04)
    assert fleiss_kappa(category_counts(ratings)) == pytest.approx(0, abs=0.03)


def test_category_counts():
    counts = category_counts(np.array([[3.0, NONE, 1.0], [3.0, 1.0, 2.0]]))
    assert counts.tolist() == [[0, 0, 2], [1, 0, 0], [1, 1, 0]]
    assert category_counts(np.full((2, 3), NONE)).shape == (3, 0)
    with pytest.raises(ValueError, match="infinite"):
        category_counts(np.array([[math.inf]]))


SAME = np.ones((3, 5))
ALONE = np.array([[1.0, NONE], [NONE, 2.0]])


@pytest.mark.parametrize(
    ("coefficient", "ratings", "sentence"),
    [
        (percent_agreement, ALONE, "no item has two ratings"),
        (gwet_ac1, ALONE, "no item has two ratings"),
        (gwet_ac1, SAME, "only one category"),
        (partial(krippendorff_alpha, distance=nominal_distance), ALONE, "no item has two ratings"),
        (partial(krippendorff_alpha, distance=ordinal_distance), SAME, "every rating that can be compared is 1"),
        # the only other value stands alone on its item
        (
            partial(krippendorff_alpha, distance=interval_distance),
            np.array([[4.0, 2.0], [4.0, NONE]]),
            "compared is 4",
        ),
        (lambda r: cohen_kappa(r[0], r[1]), ALONE, "no item was rated by both"),
        (lambda r: cohen_kappa(r[0], r[1]), SAME, "the same one category"),
        (lambda r: fleiss_kappa(category_counts(r)), SAME, "only one category"),
        (lambda r: fleiss_kappa(category_counts(r)), TEXTBOOK, "1 to 4 ratings|2 to 4 ratings"),
        (lambda r: fleiss_kappa(category_counts(r)), ALONE, "no item has two"),
        (lambda r: fleiss_kappa(category_counts(r)), np.zeros((2, 0)), "no items"),
        (lambda r: kendall_tau_b(r[0], r[1]), SAME, "first list ties all 5"),
        (lambda r: kendall_tau_b(r[0], r[1]), np.array([[1.0, 2.0], [3.0, 3.0]]), "second list ties all 2"),
        (lambda r: kendall_tau_b(r[0], r[1]), np.ones((2, 1)), "at least two"),
        (kendall_w, SAME, "ties all items"),
        (kendall_w, np.array([[1.0, 2.0]]), "1 raters and 2 items"),
    ],
)
def test_what_is_undefined_says_why(coefficient, ratings, sentence):
    with pytest.raises(Undefined, match=sentence):
        coefficient(ratings)


def test_a_missing_rank_is_an_error():
    with pytest.raises(ValueError, match="rank is missing"):
        kendall_w(np.array([[1.0, 2.0], [1.0, NONE]]))
    with pytest.raises(ValueError, match="number is missing"):
        kendall_tau_b(np.array([1.0, 2.0]), np.array([1.0, NONE]))


def two_raters(items, agreement, seed):
    random = np.random.default_rng(seed)
    first = (random.random(items) < 0.5).astype(float)
    return np.stack([first, np.where(random.random(items) < agreement, first, 1 - first)])


def test_interval_of_percent_agreement_is_nearly_the_normal_one():
    ratings = two_raters(400, 0.7, 1)
    interval = coefficient_interval(ratings, percent_agreement, seed=0, resamples=2000)
    share = percent_agreement(ratings)
    half = 1.96 * math.sqrt(share * (1 - share) / 400)
    assert interval.value == share
    assert (interval.low, interval.high) == pytest.approx((share - half, share + half), abs=0.01)
    assert interval.n == 400


@pytest.mark.slow  # test_statistics.py counts how often the interval of a win rate covers
def test_interval_covers_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        interval = coefficient_interval(two_raters(80, 0.75, seed), gwet_ac1, seed=seed, resamples=200)
        covered += interval.low <= 0.5 <= interval.high  # two equally likely categories: AC1 = 2 · 0.75 − 1
    assert covered >= 52


def test_interval_follows_from_its_options():
    alpha = partial(krippendorff_alpha, distance=ordinal_distance)
    interval = coefficient_interval(TEXTBOOK, alpha, seed=3)
    assert interval == coefficient_interval(TEXTBOOK, alpha, seed=3)
    assert interval != coefficient_interval(TEXTBOOK, alpha, seed=4)
    assert interval.n == 11  # one of the twelve items has a single rating
    narrow = coefficient_interval(TEXTBOOK, alpha, seed=3, confidence=0.5)
    assert interval.low < narrow.low < narrow.value < narrow.high < interval.high


def test_items_of_one_prompt_are_drawn_together():
    ratings = two_raters(100, 0.7, 5)
    alone = coefficient_interval(ratings, percent_agreement, seed=0)
    four = np.repeat(ratings, 4, axis=1)
    grouped = coefficient_interval(four, percent_agreement, seed=0, groups=np.repeat(np.arange(100), 4))
    assert grouped.n == 100
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.15)
    # a group of which no item has two ratings counts for nothing
    four[1, :4] = NONE
    assert coefficient_interval(four, percent_agreement, seed=0, groups=np.repeat(np.arange(100), 4)).n == 99


@pytest.mark.parametrize(
    "coefficient", [percent_agreement, gwet_ac1, partial(krippendorff_alpha, distance=nominal_distance)]
)
def test_where_nothing_varies_there_is_no_certainty(coefficient):
    """Every item is rated alike by both; an interval of one number would claim that nobody ever differs."""
    ratings = np.tile([0.0, 1.0], (2, 20))
    with pytest.raises(Unvaried) as told:
        coefficient_interval(ratings, coefficient, seed=0)
    assert (told.value.value, told.value.n) == (1.0, 40)
    ratings[0, 0] = 1
    assert coefficient_interval(ratings, coefficient, seed=0).low < 1


def test_undefined_resamples_are_left_out_or_said():
    alpha = partial(krippendorff_alpha, distance=nominal_distance)
    # The only item of the second category is missed in (5/6)⁶ = 33 % of resamples.
    rare = np.zeros((2, 6))
    rare[:, 0] = 1
    with pytest.raises(Unvaried, match=r"no resample varies: each gives 1.000 .n = 6."):  # those that are defined
        coefficient_interval(rare, alpha, seed=0)
    # Two comparable items of 30, both needed: undefined in 2 e⁻¹ − e⁻² = 60 % of resamples.
    lonely = np.zeros((2, 30))
    lonely[1, 2:], lonely[:, 0] = NONE, 1
    assert alpha(lonely) == 1.0
    with pytest.raises(Undefined, match=r"undefined in (5[5-9]|6[0-5])\d of 1000 resamples, first because: every"):
        coefficient_interval(lonely, alpha, seed=0)
    with pytest.raises(Undefined, match="every rating that can be compared is 1"):
        coefficient_interval(SAME, alpha, seed=0)


COEFFICIENTS = {
    "raw": percent_agreement,
    "fleiss": lambda r, times: fleiss_kappa(category_counts(r), times),
    "cohen": lambda r, times: cohen_kappa(r[0], r[1], times),
    "ac1": gwet_ac1,
} | {name: partial(krippendorff_alpha, distance=distance) for name, distance in SCALES.items()}


def value_or_reason(work):
    try:
        return work()
    except Undefined as reason:
        return str(reason)


@FEW
@given(ratings_of, st.integers(0, 10_000))
def test_an_item_that_counts_three_times_is_three_items(ratings, seed):
    times = np.random.default_rng(seed).integers(4, size=ratings.shape[1])
    for coefficient in COEFFICIENTS.values():
        expected = value_or_reason(lambda: coefficient(np.repeat(ratings, times, axis=1), None))  # noqa: B023
        found = value_or_reason(lambda: coefficient(ratings, times))  # noqa: B023
        assert found == (expected if isinstance(expected, str) else pytest.approx(expected, abs=1e-12))


def draws_items_one_by_one(seed, grouped):
    draw = np.random.default_rng(seed)
    ratings = np.where(draw.random((3, 15)) < 0.7, draw.integers(3, size=(3, 15)), NONE)
    groups = draw.integers(5, size=15) if grouped else None
    members = [[one] for one in range(15)]
    if grouped:
        members = [np.flatnonzero(groups == one) for one in np.unique(groups)]
    drawn = np.random.default_rng(seed)
    several = [drawn.integers(len(members), size=len(members)) for _ in range(50)]
    indices = [np.concatenate([members[one] for one in sample]) for sample in several]
    for coefficient in COEFFICIENTS.values():

        def naive():
            return percentiles(lambda index: coefficient(ratings[:, index], None), indices, 0.95)  # noqa: B023

        found = value_or_reason(
            lambda: coefficient_interval(ratings, coefficient, seed=seed, resamples=50, groups=groups)  # noqa: B023
        )
        if isinstance(found, str) and "no resample varies" in found:
            low, high = naive()
            assert low == pytest.approx(high, abs=1e-12)
        elif isinstance(found, str):
            assert found in (value_or_reason(lambda: coefficient(ratings, None)), value_or_reason(naive))  # noqa: B023
        else:
            assert (found.low, found.high) == pytest.approx(naive(), abs=1e-12)


@settings(FEW, max_examples=10)
@given(st.integers(0, 10_000), st.booleans())
def test_the_interval_is_that_of_items_drawn_one_by_one(seed, grouped):
    draws_items_one_by_one(seed, grouped)


@pytest.mark.slow
@FEW
@given(st.integers(0, 10_000), st.booleans())
def test_the_interval_is_that_of_items_drawn_one_by_one_often(seed, grouped):
    draws_items_one_by_one(seed, grouped)
