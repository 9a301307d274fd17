"""How sure a comparison is: intervals, calibration, win rates with length taken out, best-of-n. NumPy only.

Shapes: n observations. Every random draw follows from the seed. Intervals are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

Statistic = Callable[[Any], Any]
"""From an array of observations (the first axis is resampled) to a number."""


class Interval(NamedTuple):
    """An estimate with its interval. n: how many independent units it rests on (observations, or groups of them)."""

    value: float
    low: float
    high: float
    n: int


def wilson_interval(successes: float | int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion; holds for few observations and for 0 or n successes.

        (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n),   p = successes / n

    Wilson 1927. ``successes`` may count a tie as 0.5, which makes the interval slightly wide. Raises ValueError unless
    0 ≤ successes ≤ n and n ≥ 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}; need n of at least 1 and successes between 0 and n")
    z, p = NormalDist().inv_cdf(0.5 + confidence / 2), successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(p, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale), n)


def fisher_interval(correlation: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Fisher's interval for a Pearson correlation of n pairs of values.

        tanh(artanh r ± z / √(n − 3))

    Fisher 1921. From −1 to 1 for fewer than 4 pairs, which say nothing. Raises ValueError for a correlation that is
    none.
    """
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation is {correlation}; it must lie between -1 and 1")
    if n < 4:
        return Interval(correlation, -1.0, 1.0, n)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) / math.sqrt(n - 3)
    middle = math.atanh(min(max(correlation, -1 + 1e-12), 1 - 1e-12))
    return Interval(correlation, math.tanh(middle - half), math.tanh(middle + half), n)


def resamples_of(
    n: int, groups: Shaped[np.ndarray, "n"] | None, seed: int, resamples: int
) -> Iterator[Num[np.ndarray, "_"]]:
    """Indices of each bootstrap sample: n draws of an observation, or as many draws of whole groups as there are."""
    for times in times_of(n, groups, seed, resamples):
        yield np.repeat(np.arange(n), times)


def times_of(
    n: int, groups: Shaped[np.ndarray, "n"] | None, seed: int, resamples: int
) -> Iterator[Int[np.ndarray, "n"]]:
    """How often each observation is in each bootstrap sample; those of a group are drawn together."""
    random = np.random.default_rng(seed)
    group_of = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(group_of.max(initial=-1)) + 1
    for _ in range(resamples):
        yield np.bincount(random.integers(count, size=count), minlength=count)[group_of]


def bootstrap_interval(
    values: Num[np.ndarray, "n *rest"],
    *,
    seed: int,
    statistic: Statistic = np.mean,
    resamples: int = 2000,
    confidence: float = 0.95,
    groups: Shaped[np.ndarray, "n"] | None = None,
) -> Interval:
    """Percentile bootstrap of any statistic of independent observations.

        [Q_{α/2}, Q_{1−α/2}] of statistic(values*), values* drawn n times with replacement, α = 1 − confidence

    Efron 1979. ``groups`` names each observation's prompt (or annotator): whole groups are drawn, so that several
    observations of one prompt do not count as independent. Raises ValueError without observations.
    """
    if len(values) == 0:
        raise ValueError("no observations to resample")
    draws = [float(statistic(values[index])) for index in resamples_of(len(values), groups, seed, resamples)]
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    n = len(values) if groups is None else len(np.unique(groups))
    return Interval(float(statistic(values)), float(low), float(high), n)


def expected_calibration_error(
    probabilities: Float[np.ndarray, "n"], outcomes: Num[np.ndarray, "n"] | Bool[np.ndarray, "n"], *, bins: int = 10
) -> float:
    """How far stated probabilities are from observed frequencies, over equal-width bins ((b−1)/B, b/B].

        ECE = Σ_b (n_b / n) |mean outcome in b − mean probability in b|

    Guo et al. 2017, arXiv:1706.04599, eq. 3, for the probability of the event itself (a reward model's σ(r_w − r_l)
    against the judgment) and not of the likelier class. 0 is calibrated, 1 is confidently wrong. Raises ValueError
    without observations or for a probability outside 0..1.
    """
    if len(probabilities) == 0 or probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError("calibration needs at least one probability, all between 0 and 1")
    bin_of = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
    # n_b · |mean difference| is the absolute sum of differences: empty bins need no care.
    return float(np.abs(np.bincount(bin_of, weights=outcomes - probabilities)).sum() / len(probabilities))


def length_controlled_win_rate(
    verdicts: Num[np.ndarray, "n"],
    length_difference: Num[np.ndarray, "n"],
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
    ridge: float = 0.01,
    groups: Shaped[np.ndarray, "n"] | None = None,
) -> Interval:
    """The win rate to expect if both answers were equally long.

        P(win) = σ(a + b · Δ / s),   win rate = σ(â),   s the standard deviation of the length differences Δ

    A logistic regression of the verdicts (1 win, 0 loss, 0.5 tie) on the length difference (ours minus theirs). Δ is
    scaled and not centred: zero must go on meaning "equally long", since that is where the model is read. After Dubois
    et al. 2024, arXiv:2404.04475, without their terms for instruction difficulty and their tanh of the difference.

    ``ridge`` is a penalty of ridge/2 · (a² + b²) on the summed log-likelihood; it keeps separable verdicts (all won,
    or won exactly when longer) finite and moves other win rates by about ridge/n. The interval is a bootstrap over
    observations, or over ``groups`` (prompts). Raises ValueError without observations, for a verdict outside 0..1,
    and when all differences equal one number other than 0, where length and merit cannot be told apart.
    """
    if len(verdicts) == 0 or verdicts.min() < 0 or verdicts.max() > 1:
        raise ValueError("a win rate needs at least one verdict, all between 0 (loss) and 1 (win)")
    spread = float(np.std(length_difference))
    if spread == 0 and length_difference[0] != 0:
        raise ValueError(f"every length difference is {length_difference[0]}; the effect of length cannot be estimated")
    scaled = length_difference / (spread or 1.0)

    def win_rate(columns: Float[np.ndarray, "m 2"]) -> float:
        return _logistic_at_zero(columns[:, 0], columns[:, 1], ridge)

    return bootstrap_interval(
        np.stack([verdicts, scaled], axis=1).astype(float),
        seed=seed,
        statistic=win_rate,
        resamples=resamples,
        confidence=confidence,
        groups=groups,
    )


def _logistic_at_zero(target: Float[np.ndarray, "m"], x: Float[np.ndarray, "m"], ridge: float) -> float:
    """σ(intercept) of a ridge-penalised logistic regression, by Newton's method with step halving."""
    design = np.stack([np.ones_like(x), x], axis=1)  # [m, 2]
    loss = partial(_logistic_loss, design, target, ridge)
    theta = np.zeros(2)
    for _ in range(100):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - target) + ridge * theta
        hessian = (design.T * (p * (1 - p))) @ design + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum a full step can overshoot; the loss is convex, so a shorter one always improves it.
        while loss(theta - step) > loss(theta) and np.abs(step).max() > 1e-10:
            step = step / 2
        theta = theta - step
        if np.abs(step).max() <= 1e-10:
            break
    return float(sigmoid(theta[0]))


def _logistic_loss(
    design: Float[np.ndarray, "m 2"], target: Float[np.ndarray, "m"], ridge: float, theta: Float[np.ndarray, "2"]
) -> float:
    z = design @ theta
    return float((np.logaddexp(0, z) - target * z).sum() + ridge / 2 * theta @ theta)


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(−z)), by tanh, which cannot overflow."""
    return 0.5 * (1 + np.tanh(z / 2))


def best_of_n_kl_bound(n: int) -> float:
    """Upper bound of the divergence between best-of-n and the policy it samples from.

        KL ≤ log n − (n − 1) / n

    Units: nats per completion. Beirami et al. 2024, arXiv:2401.01879: a bound, approached only where every
    completion is improbable and no two tie. Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"best of {n}: n must be at least 1")
    return math.log(n) - (n - 1) / n
