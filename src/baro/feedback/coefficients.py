"""Coefficients of agreement for each question that raters answered, with intervals over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from baro.feedback.derive import Votes
from baro.feedback.scales import Scale, first_votes, scales_of
from baro.feedback.undefined import undefined_json
from baro.functional.agreement import (
    Coefficient,
    category_counts,
    coefficient_interval,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    kendall_tau_b,
    kendall_w,
    krippendorff_alpha,
    nominal_distance,
    ordinal_distance,
    percent_agreement,
)
from baro.functional.statistics import Interval, bootstrap_interval, wilson_interval
from baro.functional.undefined import Undefined, Unvaried
from baro.functional.votes import noise_from_agreement

RESAMPLES, SEED = 400, 0
FEW = 10  # prompts, below which percentiles of resamples lie too close together
COMPARED = ("pair/", "rank")  # scales on which 1 is the first of two answers, 0 the second, 0.5 neither
SKEWED = ("thumb", "safe")  # where nearly everything may be in one category


def scales_agreement(votes: Votes) -> list[dict[str, Any]]:
    """For each question every coefficient that fits it, or the reason why it is undefined; of each task's first votes
    (``first_votes``)."""
    votes = first_votes(votes)
    found = scales_of(votes).values()
    return [_scale(scale) | (_kendall(votes) if scale.name == "rank" else {}) for scale in found]


def outline(scale: Scale) -> dict[str, Any]:
    """One question's raw agreement and Krippendorff's alpha of the fitting level; of comparisons their noise, too."""
    matrix, prompts = _matrix(scale)
    distance = nominal_distance if scale.level == "nominal" else ordinal_distance
    found: dict[str, Any] = {"scale": scale.name, "level": scale.level, "items": matrix.shape[1]}
    found |= {"judgments": int((~np.isnan(matrix)).sum())}
    found["raw"] = _raw(matrix, prompts)
    found["alpha"] = _interval(matrix, prompts, partial(krippendorff_alpha, distance=distance))
    if scale.name.startswith(COMPARED):
        tied = matrix == 0.5
        without = np.where(tied, np.nan, matrix)
        found["noise"] = _noise(_raw(without, prompts) if tied.any() else found["raw"])
    return found


def _noise(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The share of flipped labels that would explain how often raters agree who both chose one of the two answers.

    Less agreement is more noise, so the ends of the interval change places; below one half there is no noise that
    explains an agreement, and one half is where the interval ends.
    """
    if "undefined" in raw:
        return dict(raw)
    try:
        value = noise_from_agreement(raw["value"])
    except Undefined as reason:
        return undefined_json(reason)
    low, high = (noise_from_agreement(max(0.5, raw[end])) for end in ("high", "low"))
    few = {"few": True} if "few" in raw else {}
    return interval_json(Interval(value, low, high, raw["n"])) | few


def _scale(scale: Scale) -> dict[str, Any]:
    raters = sorted({rater for given in scale.items.values() for rater in given})
    matrix, prompts = _matrix(scale)
    found = outline(scale) | {"raters": len(raters)}
    if scale.level == "nominal":
        found["fleiss"] = _interval(
            matrix, prompts, lambda ratings, times: fleiss_kappa(category_counts(ratings), times)
        )
    if scale.level == "nominal" and len(raters) == 2:
        two, _ = _matrix(scale, raters)
        found["cohen"] = _interval(two, prompts, lambda ratings, times: cohen_kappa(*ratings, times))
    if scale.name in SKEWED:
        found["ac1"] = _interval(matrix, prompts, gwet_ac1)
    return found


def _matrix(scale: Scale, raters: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Values [rows, items] and each item's prompt. A row is a rater, or, where raters do not matter, one more vote."""
    items = sorted(scale.items)
    rows = len(raters) if raters is not None else max(map(len, scale.items.values()))
    matrix = np.full((rows, len(items)), np.nan)
    for column, item in enumerate(items):
        for row, (rater, value) in enumerate(sorted(scale.items[item].items())):
            matrix[raters.index(rater) if raters is not None else row, column] = value
    return matrix, np.array([scale.prompts[item] for item in items])


def _raw(matrix: np.ndarray, prompts: np.ndarray) -> dict[str, Any]:
    """Raw agreement; where no resample varies, as where all agree, with Wilson's interval over the prompts."""
    try:
        return _told(coefficient_interval(matrix, percent_agreement, **_drawn(prompts)))
    except Unvaried as same:
        return interval_json(wilson_interval(same.value * same.n, same.n))
    except Undefined as reason:
        return undefined_json(reason)


def _interval(matrix: np.ndarray, prompts: np.ndarray, coefficient: Coefficient) -> dict[str, Any]:
    try:
        return _told(coefficient_interval(matrix, coefficient, **_drawn(prompts)))
    except Undefined as reason:
        return undefined_json(reason)


def _drawn(prompts: np.ndarray) -> dict[str, Any]:
    return {"seed": SEED, "groups": prompts, "resamples": RESAMPLES}


def _told(interval: Interval) -> dict[str, Any]:
    """An interval from resamples as JSON; ``few``: of so few prompts that it is too short."""
    return interval_json(interval) | ({"few": True} if interval.n < FEW else {})


def interval_json(interval: Interval) -> dict[str, Any]:
    """An interval as JSON."""
    return {"value": round(interval.value, 6), "low": round(interval.low, 6), "high": round(interval.high, 6)} | {
        "n": interval.n
    }


def share(right: int, n: int) -> dict[str, Any]:
    """A proportion with Wilson's interval."""
    if not n:
        return {"count": right, "n": 0} | undefined_json(Undefined("nothing_counted"))
    return {"count": right} | interval_json(wilson_interval(right, n))


def _kendall(votes: Votes) -> dict[str, Any]:
    """Rank correlation of every two raters of a task, and the concordance of all who ranked every response."""
    by_task: dict[str, list[Any]] = {}
    for ranking in votes.ranks:
        if ranking.judgment.role == "vote":
            by_task.setdefault(ranking.judgment.task.id, []).append(ranking)
    taus, concordances = [], []
    for given in by_task.values():
        task = given[0].judgment.task
        found = [tau for one, other in combinations(given, 2) if (tau := _tau(one.ranks, other.ranks)) is not None]
        taus += [(float(np.mean(found)), task.prompt_id)] if found else []
        whole = [[one.ranks[r] for r in task.responses] for one in given if len(one.ranks) == len(task.responses)]
        try:
            concordances.append(
                (kendall_w(np.array(whole, dtype=float).reshape(len(whole), len(task.responses))), task.prompt_id)
            )
        except Undefined:
            continue
    return {"kendall_tau": _mean(taus), "kendall_w": _mean(concordances)}


def _tau(one: Mapping[str, int], other: Mapping[str, int]) -> float | None:
    both = sorted(set(one) & set(other))
    try:
        return kendall_tau_b(*(np.array([ranks[r] for r in both], dtype=float) for ranks in (one, other)))
    except Undefined:
        return None


def _mean(values: Sequence[tuple[float, str]]) -> dict[str, Any]:
    if not values:
        return undefined_json(Undefined("no_ranking_twice"))
    numbers, prompts = np.array([value for value, _ in values]), np.array([prompt for _, prompt in values])
    found = bootstrap_interval(numbers, **_drawn(prompts))
    if found.low == found.high:
        return undefined_json(Unvaried(found.value, found.n))
    return _told(found)
