"""How far raters agree, beyond chance, with intervals. NumPy only.

Shapes: a reliability matrix holds one row per rater and one column per item, NaN where a rater did not rate an item.
Categories are the distinct values present. A coefficient that the ratings leave undefined raises Undefined with the
reason; it is never NaN and never a flattering 1. ``times`` says how often each item counts, once unless given: a
bootstrap draws how often, and items that were rated alike are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from baro.functional.statistics import Interval, times_of
from baro.functional.undefined import Undefined, Unvaried

Times = Int[np.ndarray, "items"] | None
Coefficient = Callable[[Float[np.ndarray, "raters items"], Times], float]
"""From a reliability matrix, and how often each item counts, to a number; raises Undefined where there is none."""

Distance = Callable[[Float[np.ndarray, "values"], Float[np.ndarray, "values"]], Float[np.ndarray, "values values"]]
"""From the distinct values, ascending, and how often each occurs, to the squared difference δ² of every two."""


def category_counts(ratings: Float[np.ndarray, "raters items"]) -> Int[np.ndarray, "items categories"]:
    """How many raters put each item into each category; the categories are the distinct values, ascending.

    What fleiss_kappa takes. Raises ValueError for an infinite rating.
    """
    return _values_and_counts(ratings)[1]


def _values_and_counts(
    ratings: Float[np.ndarray, "raters items"],
) -> tuple[Float[np.ndarray, "categories"], Int[np.ndarray, "items categories"]]:
    if np.isinf(ratings).any():
        raise ValueError("a rating is infinite; a missing one is NaN")
    given, item = ~np.isnan(ratings.T), ratings.shape[1]
    values, category = np.unique(ratings.T[given], return_inverse=True)
    cell = np.nonzero(given)[0] * len(values) + category
    return values, np.bincount(cell, minlength=item * len(values)).reshape(item, len(values))


def _counted(
    items: Num[np.ndarray, "items *rest"], times: Times
) -> tuple[Num[np.ndarray, "some *rest"], Int[np.ndarray, "some"]]:
    """The items that count at all, and how often each of them does."""
    if times is None:
        return items, np.ones(len(items), dtype=int)
    return items[times > 0], times[times > 0]


def _agreement(counts: Int[np.ndarray, "items categories"], times: Int[np.ndarray, "items"]) -> float:
    """Mean share of agreeing rater pairs over the items with at least two ratings."""
    pairable = counts.sum(axis=1) >= 2
    if not pairable.any():
        raise Undefined("no_two_ratings")
    counts = counts[pairable]
    rated = counts.sum(axis=1)
    return float(np.average((counts * (counts - 1)).sum(axis=1) / (rated * (rated - 1)), weights=times[pairable]))


def percent_agreement(ratings: Float[np.ndarray, "raters items"], times: Times = None) -> float:
    """Share of rater pairs that agree, as a fraction of 1, chance not taken out.

        mean over items of Σ_c n_ic (n_ic − 1) / (n_i (n_i − 1))

    Fleiss 1971, its observed agreement: every item with at least two ratings counts once, however many ratings it has
    (Krippendorff's observed disagreement weights an item by n_i; the two are one when all n_i are equal). Raises
    Undefined without such an item.
    """
    return _agreement(*_counted(category_counts(ratings), times))


def cohen_kappa(
    first: Float[np.ndarray, "items"], second: Float[np.ndarray, "items"], times: Times = None
) -> float:  # fmt: skip
    """Agreement of two raters beyond what their own habits give by chance.

        κ = (p_o − p_e) / (1 − p_e),   p_e = Σ_c p_1c p_2c

    Cohen 1960. Over the items that both rated; NaN where one did not. Raises Undefined when there is none, and when
    both named one and the same category throughout.
    """
    given, times = _counted(np.stack([first, second], axis=1), times)
    both = ~np.isnan(given).any(axis=1)
    if not both.any():
        raise Undefined("no_common_item")
    values, category = np.unique(given[both].T, return_inverse=True)
    if len(values) == 1:
        raise Undefined("same_category")
    one, two = category.reshape(2, -1)
    weights = times[both] / times[both].sum()
    shares = [np.bincount(c, weights, minlength=len(values)) for c in (one, two)]
    by_chance = float(shares[0] @ shares[1])
    return (float((one == two) @ weights) - by_chance) / (1 - by_chance)


def fleiss_kappa(counts: Int[np.ndarray, "items categories"], times: Times = None) -> float:
    """Agreement of equally many raters per item, not always the same ones, beyond chance.

        κ = (P̄ − P_e) / (1 − P_e),   P̄ as percent_agreement,   P_e = Σ_c p_c²,   p_c = share of category c

    Fleiss 1971; counts from category_counts. Raises Undefined when items have fewer than two ratings or unequally many
    (krippendorff_alpha has no such demand), and when only one category was used.
    """
    counts, times = _counted(counts, times)
    rated = counts.sum(axis=1)
    if len(rated) == 0:
        raise Undefined("no_items")
    if rated.min() != rated.max():
        raise Undefined("unequal_ratings", least=int(rated.min()), most=int(rated.max()))
    agreement = _agreement(counts, times)
    share = times @ counts / (times @ rated)
    if (share > 0).sum() == 1:
        raise Undefined("one_category")
    by_chance = float(share @ share)
    return (agreement - by_chance) / (1 - by_chance)


def gwet_ac1(ratings: Float[np.ndarray, "raters items"], times: Times = None) -> float:
    """Agreement beyond chance that stays meaningful when nearly every item falls into one category (safety flags).

        AC1 = (p_a − p_e) / (1 − p_e),   p_e = Σ_c π_c (1 − π_c) / (q − 1)

    Gwet 2008, for several raters and missing ratings: p_a is percent_agreement, π_c the mean over all rated items of
    the share n_ic / n_i, q the number of categories present. Raises Undefined without an item of two ratings, and when
    only one category was used.
    """
    counts, times = _counted(category_counts(ratings), times)
    agreement = _agreement(counts, times)
    counts, rated = counts[:, counts.any(axis=0)], counts.sum(axis=1)
    if counts.shape[1] == 1:
        raise Undefined("no_scale")
    some = rated > 0
    share = np.average(counts[some] / rated[some, None], axis=0, weights=times[some])
    by_chance = float(share @ (1 - share)) / (len(share) - 1)
    return (agreement - by_chance) / (1 - by_chance)


def nominal_distance(
    values: Float[np.ndarray, "values"], totals: Float[np.ndarray, "values"]
) -> Float[np.ndarray, "values values"]:
    """δ² = 1 between any two different values."""
    return 1 - np.eye(len(values))


def ordinal_distance(
    values: Float[np.ndarray, "values"], totals: Float[np.ndarray, "values"]
) -> Float[np.ndarray, "values values"]:
    """δ² = (Σ_{g=c..k} n_g − (n_c + n_k) / 2)²: how many ratings lie between, whatever the values' size."""
    middle = np.cumsum(totals) - totals / 2
    return np.asarray(np.subtract.outer(middle, middle) ** 2)


def interval_distance(
    values: Float[np.ndarray, "values"], totals: Float[np.ndarray, "values"]
) -> Float[np.ndarray, "values values"]:
    """δ² = (c − k)²."""
    return np.asarray(np.subtract.outer(values, values) ** 2)


def krippendorff_alpha(ratings: Float[np.ndarray, "raters items"], times: Times = None, *, distance: Distance) -> float:
    """Agreement beyond chance for any number of raters, missing ratings, and the scale that ``distance`` names.

        α = 1 − D_o / D_e,   D_o = Σ_ck o_ck δ²_ck / n,   D_e = Σ_ck n_c n_k δ²_ck / (n (n − 1))
        o_ck = Σ_i n_ic (n_ik − [c = k]) / (n_i − 1)

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", over the items with at least two ratings; n_c
    counts value c among them and n is their sum. ``distance`` is nominal_distance, ordinal_distance or
    interval_distance. Needs room for the square of the number of distinct values. Raises Undefined without such an
    item, and when all ratings of these items are one value.
    """
    values, counts = _values_and_counts(ratings)
    counts, times = _counted(counts, times)
    pairable = counts.sum(axis=1) >= 2
    counts, times = counts[pairable], times[pairable]
    used = counts.sum(axis=0) > 0
    if not used.any():
        raise Undefined("no_two_ratings")
    if used.sum() == 1:
        raise Undefined("one_value", value=f"{values[used][0]:g}")
    values, counts = values[used], counts[:, used].astype(float)
    weighted = counts * (times / (counts.sum(axis=1) - 1))[:, None]
    coincidences = counts.T @ weighted - np.diag(weighted.sum(axis=0))  # [values, values]
    totals = times @ counts
    squared = distance(values, totals)
    observed, expected = (coincidences * squared).sum(), totals @ squared @ totals / (totals.sum() - 1)
    return float(1 - observed / expected)


def kendall_tau_b(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"]) -> float:
    """Rank correlation of two lists of numbers of which only the order counts; ties are allowed for.

        τ_b = (concordant − discordant) / √((n₀ − n₁) (n₀ − n₂)),   n₀ = n (n − 1) / 2,   n₁, n₂ the tied pairs of each

    Kendall 1945. Takes n² steps. Raises ValueError for a missing number, and Undefined for fewer than two numbers or
    when one list ties them all.
    """
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("a number is missing; leave out what one of the two did not rank before comparing")
    if len(first) < 2:
        raise Undefined("too_few_ranked", n=len(first))
    score = ordered_first = ordered_second = 0
    for i in range(len(first) - 1):
        one, two = (np.sign(x[i] - x[i + 1 :]).astype(np.int64) for x in (first, second))
        score += int(one @ two)
        ordered_first, ordered_second = ordered_first + int(one @ one), ordered_second + int(two @ two)
    if ordered_first == 0 or ordered_second == 0:
        raise Undefined("first_tied" if ordered_first == 0 else "second_tied", n=len(first))
    return score / math.sqrt(ordered_first * ordered_second)


def kendall_w(ranks: Float[np.ndarray, "raters items"]) -> float:
    """Concordance of several raters who each ranked all the same items: 0 none, 1 the same order.

        W = 12 Σ_i (R_i − R̄)² / (m² (k³ − k) − m Σ_r Σ_ties (t³ − t)),   R_i = sum of item i's ranks

    Kendall & Babington Smith 1939, with the correction for ties (Siegel & Castellan 1988, §9.7). m raters, k items.
    Any numbers whose order counts will do: each rater's are ranked here, ties sharing the mean rank. One prompt's
    completions have one W; an interval over prompts is bootstrap_interval of their W's. Raises ValueError for a
    missing rank, and Undefined for fewer than two raters or items or when every rater ties everything.
    """
    if np.isnan(ranks).any():
        raise ValueError("a rank is missing; W needs every item ranked by every rater")
    m, k = ranks.shape
    if m < 2 or k < 2:
        raise Undefined("too_few_to_concord", raters=m, items=k)
    sums, tied = np.zeros(k), 0
    for row in ranks:
        _, group, sizes = np.unique(row, return_inverse=True, return_counts=True)
        sums += (np.cumsum(sizes) - (sizes - 1) / 2)[group]
        tied += int((sizes**3 - sizes).sum())
    largest = m * m * (k**3 - k) - m * tied
    if largest == 0:
        raise Undefined("all_tied")
    return float(12 * ((sums - sums.mean()) ** 2).sum() / largest)


def coefficient_interval(
    ratings: Float[np.ndarray, "raters items"],
    coefficient: Coefficient,
    *,
    seed: int,
    groups: Shaped[np.ndarray, "items"] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of an agreement coefficient: items are drawn again, the raters stay.

        [Q_{α/2}, Q_{1−α/2}] of coefficient(ratings*), columns of ratings* drawn with replacement, α = 1 − confidence

    Efron 1979. ``groups`` names each item's prompt: whole prompts are drawn. n counts the items (or groups) with at
    least two ratings. ``coefficient`` takes a reliability matrix and ``times``; partial and lambda adapt the others
    (``lambda r, t: fleiss_kappa(category_counts(r), t)``, ``lambda r, t: cohen_kappa(*r, t)``). Resamples that leave it
    undefined (a rare category not drawn) are left out, so the interval holds given that it is defined. Below ten groups
    percentile intervals are too short (Efron & Tibshirani 1993, §13.3). Raises Undefined when the ratings themselves
    leave it undefined, or more than half of the resamples, and Unvaried where both ends are one number.
    """
    value = coefficient(ratings, None)
    alike, kind_of = _alike(ratings)
    drawn = times_of(ratings.shape[1], groups, seed, resamples)
    counted = (np.bincount(kind_of, times, minlength=alike.shape[1]).astype(int) for times in drawn)
    low, high = percentiles(lambda times: coefficient(alike, times), counted, confidence)
    pairable = (~np.isnan(ratings)).sum(axis=0) >= 2
    n = int(pairable.sum()) if groups is None else len(np.unique(groups[pairable]))
    if low == high:
        raise Unvaried(value, n)
    return Interval(value, low, high, n)


def _alike(
    ratings: Float[np.ndarray, "raters items"],
) -> tuple[Float[np.ndarray, "raters kinds"], Int[np.ndarray, "items"]]:
    """One item of each kind that was rated in the same way by everybody, and each item's kind."""
    codes = np.where(np.isnan(ratings), -1, np.unique(ratings, return_inverse=True)[1].reshape(ratings.shape))
    _, first, kind_of = np.unique(codes, axis=1, return_index=True, return_inverse=True)
    return ratings[:, first], kind_of.reshape(-1)


def percentiles(statistic: Callable[[Any], float], drawn: Iterable[Any], confidence: float) -> tuple[float, float]:
    """Q_{α/2} and Q_{1−α/2} of a statistic over resamples, α = 1 − confidence.

    Resamples that leave it undefined are left out. Raises Undefined where more than half of them do.
    """
    draws, reasons = [], []
    for sample in drawn:
        try:
            draws.append(statistic(sample))
        except Undefined as undefined:
            reasons.append(undefined)
    if len(reasons) > len(draws):
        tried = len(draws) + len(reasons)
        raise Undefined("in_resamples", n=len(reasons), tried=tried, because=reasons[0])
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
