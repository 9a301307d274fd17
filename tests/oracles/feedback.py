"""Naive oracles for agreement, votes and rankings: loops and the definitions, written apart from the product."""

from fractions import Fraction
from itertools import pairwise, permutations, product
from math import comb

import numpy as np


def squared_difference(scale, values):
    """δ² between two ratings, as a function of the two; values are all comparable ratings."""
    if scale == "nominal":
        return lambda c, k: float(c != k)
    if scale == "interval":
        return lambda c, k: (c - k) ** 2

    def ordinal(c, k):
        low, high = min(c, k), max(c, k)
        between = sum(1 for v in values if low <= v <= high)
        return 0.0 if c == k else (between - sum(1 for v in values if v in (c, k)) / 2) ** 2

    return ordinal


def alpha(ratings, scale):
    """1 − (mean difference within items) / (mean difference between any two ratings)."""
    items = [[v for v in column if not np.isnan(v)] for column in np.array(ratings).T]
    items = [values for values in items if len(values) >= 2]
    everything = [v for values in items for v in values]
    difference = squared_difference(scale, everything)
    within = sum(difference(a, b) / (len(values) - 1) for values in items for a, b in product(values, values))
    between = sum(difference(a, b) for a, b in product(everything, everything)) / (len(everything) - 1)
    return 1 - within / between


def agreeing_pairs(ratings):
    shares = []
    for column in np.array(ratings).T:
        values = [v for v in column if not np.isnan(v)]
        pairs = [(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
        if pairs:
            shares.append(sum(a == b for a, b in pairs) / len(pairs))
    return sum(shares) / len(shares)


def ac1(ratings):
    columns = [[v for v in column if not np.isnan(v)] for column in np.array(ratings).T]
    columns = [values for values in columns if values]
    categories = sorted({v for values in columns for v in values})
    share = [sum(values.count(c) / len(values) for values in columns) / len(columns) for c in categories]
    chance = sum(s * (1 - s) for s in share) / (len(categories) - 1)
    return (agreeing_pairs(ratings) - chance) / (1 - chance)


def binomial_p(successes, n, p):
    """In rational arithmetic, p a pair (numerator, denominator)."""
    p = Fraction(*p)
    chances = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    return float(sum(c for c in chances if c <= chances[successes]))


def ranking_loss(u, ranks, ridge):
    """Minus the penalised log-likelihood: the mean over every order that the ties allow."""
    total = ridge / 2 * sum(x * x for x in u)
    for row in ranks:
        ranked = [k for k in range(len(row)) if not np.isnan(row[k])]
        orders = [o for o in permutations(ranked) if all(row[a] <= row[b] for a, b in pairwise(o))]
        for order in orders:
            for place in range(len(order)):
                rest = sum(np.exp(u[k]) for k in order[place:])
                total -= (u[order[place]] - np.log(rest)) / len(orders)
    return total


def comparison_loss(u, wins, ridge):
    total = ridge / 2 * sum(x * x for x in u)
    for i, j in product(range(len(u)), repeat=2):
        total += wins[i][j] * np.log(1 + np.exp(u[j] - u[i]))
    return total


def minimum(loss, size):
    """Where a smooth convex function is smallest, by searching one coordinate after another on ever finer steps."""
    x, step = np.zeros(size), 1.0
    best = loss(x)
    while step > 1e-6:
        moved = False
        for k, sign in product(range(size), (-1, 1)):
            trial = x.copy()
            trial[k] += sign * step
            if (value := loss(trial)) < best:
                x, best, moved = trial, value, True
        step = step if moved else step / 2
    return x


def one_coin_posterior(skill, bias, judgments, items):
    """(P(d > 0) per item, log-likelihood) on a fine grid of d; judgments of (item, rater, on left, chose first)."""
    grid = np.arange(-5.995, 6, 0.01)
    p_first, loglik = [], 0.0
    for i in range(items):
        density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) * 0.01
        for _, r, on_left, chose_first in (j for j in judgments if j[0] == i):
            left = 1 / (1 + np.exp(-(skill[r] * grid * (1 if on_left else -1) + bias[r])))
            chose_left = chose_first if on_left else 1 - chose_first
            density = density * left**chose_left * (1 - left) ** (1 - chose_left)
        p_first.append(density[grid > 0].sum() / density.sum())
        loglik += np.log(density.sum())
    return np.array(p_first), loglik


def one_coin_log_posterior(pool, skill, habit, judgments, items):
    """Of the habit √(1 + π s² / 8)-fold narrower than the bias, up to a constant."""
    bias = [h * np.sqrt(1 + np.pi * s * s / 8) for h, s in zip(habit, skill, strict=True)]
    prior = -((pool - 2) ** 2) / 2
    prior -= sum(((s - pool) / 0.75) ** 2 / 2 + (h / 0.3) ** 2 / 2 for s, h in zip(skill, habit, strict=True))
    return prior + one_coin_posterior(skill, bias, judgments, items)[1]


def binary_log_posterior(sensitivity, specificity, prevalence, judgments, items):
    total = np.log(prevalence) + np.log(1 - prevalence)  # Beta(2, 2)
    for a, b in zip(sensitivity, specificity, strict=True):
        total += 3 * np.log(a) + np.log(1 - a) + 3 * np.log(b) + np.log(1 - b)  # Beta(4, 2)
    for i in range(items):
        one, zero = prevalence, 1 - prevalence
        for _, r, label in (j for j in judgments if j[0] == i):
            one *= sensitivity[r] if label else 1 - sensitivity[r]
            zero *= 1 - specificity[r] if label else specificity[r]
        total += np.log(one + zero)
    return total
