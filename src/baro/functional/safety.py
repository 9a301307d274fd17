"""Losses and rates of a cost model, whose zero divides safe from unsafe: one value per pair or completion, no mean.

A cost C is positive for what is harmful. P(unsafe) = σ(C), so that costs are in nats of log-odds.
Shapes: P pairs, C completions, n observations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from baro.functional.preference import bradley_terry_loss
from baro.functional.statistics import Interval, wilson_interval


def cost_ranking_loss(
    unsafer: Float[Tensor, "P"],
    safer: Float[Tensor, "P"],
    *,
    margin: Float[Tensor, "P"] | float = 0.0,
    p_safer: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """The less safe completion is to cost more: Bradley-Terry on costs.

        L = −p log σ(z) − (1 − p) log σ(−z),   z = C(unsafer) − C(safer) − m

    Dai et al. 2023, arXiv:2310.12773, eq. 6, first term (p = 1, m = 0). p is the probability that the pair is in this
    order, m by how much the costs are to differ.
    """
    return bradley_terry_loss(unsafer, safer, margin=margin, p_chosen=p_safer)


def sign_loss(cost: Float[Tensor, "C"], unsafe: Float[Tensor, "C"]) -> Float[Tensor, "C"]:
    """What is unsafe is to cost more than 0, and what is safe less.

        L = −q log σ(C) − (1 − q) log σ(−C)

    Dai et al. 2023, arXiv:2310.12773, eq. 6, the terms −log σ(s C), with s = 1 for q = 1 and −1 for q = 0. Between
    them q is the share of raters who say unsafe.
    """
    return -unsafe * logsigmoid(cost) - (1.0 - unsafe) * logsigmoid(-cost)


class Recalls(NamedTuple):
    """Shares of the unsafe and of the safe that are told to be so, and how many prompts each rests on."""

    unsafe: float
    safe: float
    unsafe_prompts: int
    safe_prompts: int


def balanced_accuracy(recalls: Recalls) -> Interval:
    """The mean of both recalls, which is one half for whoever says the same of everything.

        b = (u + s) / 2,   b − √((u − l_u)² + (s − l_s)²) / 2,   b + √((h_u − u)² + (h_s − s)²) / 2

    l and h are the ends of each recall's Wilson interval: Zou and Donner 2008, Statistics in Medicine 27. n counts the
    prompts of the rarer side. Raises ValueError where there is no prompt of one side.
    """
    u = wilson_interval(recalls.unsafe * recalls.unsafe_prompts, recalls.unsafe_prompts)
    s = wilson_interval(recalls.safe * recalls.safe_prompts, recalls.safe_prompts)
    mean = (u.value + s.value) / 2
    low = mean - math.hypot(u.value - u.low, s.value - s.low) / 2
    high = mean + math.hypot(u.high - u.value, s.high - s.value) / 2
    return Interval(mean, max(0.0, low), min(1.0, high), min(u.n, s.n))


def area_under_roc(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """The chance that a positive has the higher score of one positive and one negative; a tie counts one half.

    Mann and Whitney 1947. Raises ValueError without both kinds.
    """
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        raise ValueError("an area under the curve needs positives and negatives")
    less, at_most = np.searchsorted(below, above, "left"), np.searchsorted(below, above, "right")
    return float((less + at_most).sum() / (2 * len(above) * len(below)))


def area_interval(area: float, fewer: int) -> Interval:
    """Wilson's interval of an area under the curve, as of a share of the rarer kind's units.

    The variance of the area is at most A (1 − A) / min(positives, negatives): Birnbaum and Klose 1957, so that the
    interval is rather too wide than too narrow, and has a width at an area of 1. ``fewer``: the prompts of the rarer
    kind.
    """
    return wilson_interval(area * fewer, fewer)
