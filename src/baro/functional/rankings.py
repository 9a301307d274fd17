"""How good each of several answers is, from comparisons and rankings of them. NumPy only.

Shapes: K answers of one prompt (or K models). Utilities are in nats of log-odds and centred at 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num

LARGEST_TIE = 12
"""Tied answers of one ranking: their orders are averaged exactly, over 2^12 sets at most."""


def bradley_terry(wins: Num[np.ndarray, "K K"], *, ridge: float | int) -> Float[np.ndarray, "K"]:
    """How good each of K answers is, from who beat whom; in nats of log-odds, centred at 0.

        max_u Σ_ij w_ij log σ(u_i − u_j) − ridge/2 · |u|²,   w_ij = how often i was preferred to j, a tie half each way

    Bradley & Terry 1952. The ridge keeps utilities finite where an answer won or lost always and where the
    comparisons do not connect all answers (one that was never compared gets 0); it moves the others by about ridge over
    their comparisons. Raises ValueError for a negative count, a count on the diagonal, and a ridge not above 0.
    """
    if (wins < 0).any() or np.diagonal(wins).any():
        raise ValueError("wins holds a negative count, or one of an answer against itself")
    first, second = np.nonzero(np.triu(wins + wins.T))
    alone = np.eye(len(wins), dtype=bool)
    times = (wins + wins.T)[first, second].astype(float)
    return _choice_utilities(alone[first] | alone[second], times, wins.sum(axis=1).astype(float), ridge)


def plackett_luce(ranks: Float[np.ndarray, "rankings K"], *, ridge: float | int) -> Float[np.ndarray, "K"]:
    """How good each of K answers is, from several rankings of them; in nats of log-odds, centred at 0.

        max_u Σ_rankings Σ_places [u_placed − log Σ_{not yet placed} exp u] − ridge/2 · |u|²

    Plackett 1975; Luce 1959. One row per rater, lower is better, NaN where an answer was not in the ranking. Answers
    of equal rank were left in no order: the log-likelihood is averaged over all their orders, which for two answers is
    the half win each way of bradley_terry (to which rankings of two come down). So "the rest" at the bottom of a
    ranking counts as judged equal; leave it NaN if it was not judged. Ridge as in bradley_terry. Raises ValueError for
    more than LARGEST_TIE answers of equal rank in one ranking, and for a ridge not above 0.
    """
    sets: list[Any] = []
    weights: list[float] = []
    for row in ranks:
        for rank in np.unique(row[~np.isnan(row)]):
            tied, worse = np.flatnonzero(row == rank), row > rank
            if len(tied) > LARGEST_TIE:
                raise ValueError(f"{len(tied)} answers share one rank; at most {LARGEST_TIE} may")
            # Of a random order of the tied, a given set of `left` of them is the tail with chance 1 / C(t, left).
            for left in range(1, len(tied) + 1):
                for members in combinations(tied, left):
                    sets.append(worse | np.isin(np.arange(len(row)), members))
                    weights.append(1 / math.comb(len(tied), left))
    placed = (~np.isnan(ranks)).sum(axis=0).astype(float)
    return _choice_utilities(np.reshape(sets, (-1, ranks.shape[1])).astype(bool), np.array(weights), placed, ridge)


def connected(rankings: Iterable[Iterable[Hashable]]) -> list[set[Any]]:
    """What was ranked, in the parts that no chain of rankings connects: between two of them there is no order to learn.

    The ridge alone would give one, by how far each answer came in its own part.
    """
    parts: list[set[Any]] = []
    for ranked in map(set, rankings):
        near = [part for part in parts if part & ranked]
        parts = [part for part in parts if part not in near] + [ranked.union(*near)]
    return parts


def _choice_utilities(
    sets: Bool[np.ndarray, "choices K"],
    weights: Float[np.ndarray, "choices"],
    chosen: Float[np.ndarray, "K"],
    ridge: float | int,
) -> Float[np.ndarray, "K"]:
    """Utilities from choices out of sets: Newton's method, with step halving, on the penalised log-likelihood.

    max_u Σ_k chosen_k u_k − Σ_c weight_c log Σ_{k in set c} exp u_k − ridge/2 · |u|²
    """
    if ridge <= 0:
        raise ValueError(f"ridge is {ridge}; it must be above 0 to keep utilities finite")

    def loss_and_shares(u: Float[np.ndarray, "K"]) -> tuple[float, Float[np.ndarray, "choices K"]]:
        masked = np.where(sets, u, -np.inf)
        logs = np.logaddexp.reduce(masked, axis=1)
        return float(weights @ logs - chosen @ u + ridge / 2 * u @ u), np.exp(masked - logs[:, None])

    u = np.zeros(len(chosen))
    loss, shares = loss_and_shares(u)
    for _ in range(100):
        expected = weights @ shares
        hessian = np.diag(expected + ridge) - (shares.T * weights) @ shares
        step = np.linalg.solve(hessian, expected - chosen + ridge * u)
        # The loss is convex, so a shorter step improves on one that overshoots; rounding alone must not shorten it.
        slack = 1e-12 * (1 + abs(loss))
        while (trial := loss_and_shares(u - step))[0] > loss + slack:
            step = step / 2
        u, (loss, shares) = u - step, trial
        if np.abs(step).max() <= 1e-10:
            return np.asarray(u - u.mean())
    raise RuntimeError("Newton's method did not converge in 100 steps")
