"""Habits of raters in numbers: where a sitting ends, what changes in the course of it, how strongly length pulls.

NumPy only. Shapes: n judgments; groups names each one's prompt, which is what the intervals are drawn over. Every
random draw follows from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from baro.functional.agreement import percentiles
from baro.functional.statistics import Interval, sigmoid, times_of, wilson_interval
from baro.functional.undefined import Undefined

Weights = Float[np.ndarray, "n"]
"""How often each observation was drawn."""


def binomial_tail(successes: int, n: int, p: float, side: Literal["low", "high"]) -> float:
    """How probable so few successes are, or so many, of n with probability p each: an exact one-sided p-value.

        P(X ≤ k) or P(X ≥ k),   X ~ Binomial(n, p)

    Raises ValueError unless 0 ≤ k ≤ n and 0 < p < 1.
    """
    if not 0 <= successes <= n or not 0 < p < 1:
        raise ValueError(f"{successes} successes of {n} with probability {p}; need 0 <= k <= n and 0 < p < 1")
    counted = np.arange(successes + 1) if side == "low" else np.arange(successes, n + 1)
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counted]
    terms = np.array(logs) + counted * math.log(p) + (n - counted) * math.log1p(-p)
    return float(min(1.0, np.exp(terms).sum()))


def holm(p_values: Float[np.ndarray, "tests"], *, level: float = 0.05) -> Bool[np.ndarray, "tests"]:
    """Which of several tests reject so that the probability of any false one is at most ``level``.

        reject the tests of p₍₁₎ ≤ … ≤ p₍ₘ₎ up to the first with p₍ᵢ₎ > level / (m − i + 1)

    Holm 1979; the tests may depend on each other. Equal p-values share one fate.
    """
    order = np.argsort(p_values, kind="stable")
    within = p_values[order] <= level / np.arange(len(p_values), 0, -1)
    rejected = np.zeros(len(p_values), dtype=bool)
    rejected[order] = np.logical_and.accumulate(within)
    return rejected


def sittings(at: Num[np.ndarray, "n"], *, gap: float | int) -> Int[np.ndarray, "n"]:
    """The number of the sitting, from 0, to which each of one rater's judgments belongs.

    A sitting goes on while judgments follow each other within less than ``gap``, in the unit of ``at``. Raises
    ValueError for times that do not ascend.
    """
    steps = np.diff(at)
    if (steps < 0).any():
        raise ValueError("the times do not ascend")
    return np.concatenate([np.zeros(min(1, len(at)), dtype=np.int64), np.cumsum(steps >= gap)])


def thirds(sitting: Int[np.ndarray, "n"], *, least: int) -> Int[np.ndarray, "n"]:
    """0 for the first third of each sitting, 2 for the last, 1 for what lies between and for sittings below ``least``.

    The first and the last third hold ⌊size / 3⌋ judgments each, so that every sitting adds equally many to both.
    ``sitting`` ascends. Raises ValueError for ``least`` below 3.
    """
    if least < 3:
        raise ValueError(f"least is {least}; a sitting of fewer than 3 has no thirds")
    _, start, sizes = np.unique(sitting, return_index=True, return_counts=True)
    part = np.ones(len(sitting), dtype=np.int64)
    for first, size in zip(start, sizes, strict=True):
        if size >= least:
            part[first : first + size // 3] = 0
            part[first + size - size // 3 : first + size] = 2
    return part


def mean_difference(
    values: Num[np.ndarray, "n"],
    late: Bool[np.ndarray, "n"],
    *,
    seed: int,
    groups: Shaped[np.ndarray, "n"],
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """How much larger the mean is of the late values than of the others.

        d = mean(values | late) − mean(values | not late)

    Percentile bootstrap over ``groups`` (Efron 1979): a prompt that is drawn brings its early and its late judgments.
    Resamples that hold only one of the two are left out. n counts the groups. Raises Undefined where there are only
    late values, or none, and where more than half of the resamples hold one of the two alone.
    """

    def difference(weight: Weights) -> float:
        after, before = float(weight @ late), float(weight @ ~late)
        if not after or not before:
            raise Undefined("one_part")
        return float((weight * late) @ values / after - (weight * ~late) @ values / before)

    return _weighted_bootstrap(difference, groups, seed, resamples, confidence)


def share_difference(
    right: Bool[np.ndarray, "n"],
    late: Bool[np.ndarray, "n"],
    *,
    seed: int,
    groups: Shaped[np.ndarray, "n"],
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """How much larger a share is among the late judgments than among the others.

        d = p_late − p_early,   by mean_difference
        all alike in both parts: d ∓ √((p₁ − l₁)² + (u₂ − p₂)²),   l, u of wilson_interval

    The second is Newcombe 1998, method 10: where everybody agrees throughout, no resample varies, and a bootstrap would
    claim certainty. n counts the groups. Raises Undefined as mean_difference does.
    """
    found = mean_difference(
        right.astype(float), late, seed=seed, groups=groups, resamples=resamples, confidence=confidence
    )
    before, after = (
        wilson_interval(int(right[part].sum()), int(part.sum()), confidence=confidence) for part in (~late, late)
    )
    if {before.value, after.value} - {0.0, 1.0}:
        return found
    low = found.value - math.hypot(after.value - after.low, before.high - before.value)
    high = found.value + math.hypot(after.high - after.value, before.value - before.low)
    return Interval(found.value, low, high, found.n)


def length_slope(
    chose_first: Num[np.ndarray, "n"],
    length_difference: Num[np.ndarray, "n"],
    *,
    seed: int,
    groups: Shaped[np.ndarray, "n"],
    resamples: int = 1000,
    confidence: float = 0.95,
    ridge: float = 0.01,
) -> Interval:
    """How strongly length pulls: the log-odds of being chosen that a typical difference of length adds.

        P(the first is chosen) = σ(b Δ / s),   Δ = length of the first − of the second,   s = √mean(Δ²)

    Logistic regression without intercept, by Newton's method: which of two answers is called the first says nothing, so
    turning a pair round (1 − choice, −Δ) changes nothing, and s is the root mean square and not a standard deviation,
    which would change. A choice is 1, 0, or 0.5 for a tie. ``ridge`` is a penalty of ridge/2 · b² on the summed
    log-likelihood, which keeps b finite where the longer one was always chosen. s is that of all judgments in every
    resample. Percentile bootstrap over ``groups``; n counts them. Units: nats; e^b are odds. b is how choice and length
    go together, not why: longer answers may be better ones. Raises Undefined where no two answers differ in length,
    ValueError for a choice outside 0..1.
    """
    if len(chose_first) and not ((chose_first >= 0) & (chose_first <= 1)).all():
        raise ValueError("a choice lies outside 0..1")
    scale = math.sqrt(float(np.mean(np.square(length_difference, dtype=float)))) if len(length_difference) else 0.0
    if scale == 0:
        raise Undefined("same_length")
    x, start = length_difference / scale, 0.0

    def slope(weight: Weights) -> float:
        return _slope(chose_first, x, weight, ridge, start)

    start = slope(np.ones(len(x)))  # from where the resamples' searches set out
    return _weighted_bootstrap(slope, groups, seed, resamples, confidence)


def _slope(
    target: Num[np.ndarray, "n"], x: Float[np.ndarray, "n"], weight: Weights, ridge: float, start: float
) -> float:  # fmt: skip
    """The b that maximises Σ w (y log σ(bx) + (1 − y) log σ(−bx)) − ridge/2 · b²."""
    loss = partial(_slope_loss, target, x, weight, ridge)
    b = start
    for _ in range(100):
        p = sigmoid(b * x)
        step = (float(weight @ (x * (p - target))) + ridge * b) / (float(weight @ (x * x * p * (1 - p))) + ridge)
        # A full step can overshoot where the curve is flat; the loss is convex, so a shorter one improves it.
        while abs(step) > 1e-9 and loss(b - step) > loss(b):
            step /= 2
        b -= step
        if abs(step) <= 1e-9:
            break
    return b


def _slope_loss(
    target: Num[np.ndarray, "n"], x: Float[np.ndarray, "n"], weight: Weights, ridge: float, b: float
) -> float:  # fmt: skip
    return float(weight @ (np.logaddexp(0, b * x) - target * b * x)) + ridge / 2 * b * b


def _weighted_bootstrap(
    statistic: Callable[[Weights], float],
    groups: Shaped[np.ndarray, "n"],
    seed: int,
    resamples: int,
    confidence: float,
) -> Interval:
    n = len(groups)
    drawn = (times.astype(float) for times in times_of(n, groups, seed, resamples))
    value = statistic(np.ones(n))
    low, high = percentiles(statistic, drawn, confidence)
    return Interval(value, low, high, len(np.unique(groups)))
