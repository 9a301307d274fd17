"""A constraint on what answers cost: the multiplier of its Lagrangian, and what becomes of advantages and scores.

    max_π  E[r] − β KL(π ‖ π_ref)   subject to   E[c] ≤ d        Lagrangian:  E[r − λ (c − d)] − β KL,  λ ≥ 0

Dai et al. 2023, arXiv:2310.12773, §3.2. Shapes: N scored tokens, C completions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def next_multiplier(
    multiplier: float, mean_cost: float, *, limit: float, learning_rate: float, floor: float, ceiling: float
) -> float:
    """λ after a look at the mean cost: larger where it is above the limit, smaller below; a step on log λ.

        log λ' = log λ + η λ (J − d),   floor ≤ λ' ≤ ceiling

    Dai et al. 2023, arXiv:2310.12773, appendix B.3. The bounds are on log λ itself, so that nothing goes on
    adding up beyond them: at the ceiling the first mean cost below the limit lowers λ, and a floor above 0 lets it rise
    again, since a step is in proportion to λ. Units: λ is reward per cost. Raises ValueError unless
    0 < floor ≤ λ ≤ ceiling and η > 0.
    """
    if not 0 < floor <= multiplier <= ceiling:
        raise ValueError(f"floor {floor}, multiplier {multiplier}, ceiling {ceiling}: they must rise, from above 0")
    if learning_rate <= 0:
        raise ValueError(f"learning_rate is {learning_rate}; it must be positive (0.1 is usual)")
    logged = math.log(multiplier) + learning_rate * multiplier * (mean_cost - limit)
    return math.exp(min(max(logged, math.log(floor)), math.log(ceiling)))


def leaning_multiplier(
    multiplier: float, mean_cost: float, *, limit: float, gain: float, floor: float, ceiling: float
) -> float:
    """λ with which a rollout is mixed: at once larger while the mean cost is above the limit, and smaller below.

        λ̃ = λ exp(κ (J − d)),   floor ≤ λ̃ ≤ ceiling

    λ alone adds up what lies behind, and swings about the limit where the policy follows slowly; the proportional term
    damps that. Stooke et al. 2020, arXiv:2007.03964, §4, with its terms on log λ. Raises ValueError for κ below 0.
    """
    if gain < 0:
        raise ValueError(f"gain is {gain}; a negative one would push away from the limit")
    logged = math.log(multiplier) + gain * (mean_cost - limit)
    return math.exp(min(max(logged, math.log(floor)), math.log(ceiling)))


def mixed_advantages(
    advantages: Float[Tensor, "N"], cost_advantages: Float[Tensor, "N"], *, multiplier: float
) -> Float[Tensor, "N"]:
    """One advantage of both totals, to be whitened afterwards.

        Â = (Â_r − λ Â_c) / (1 + λ)

    Dai et al. 2023, arXiv:2310.12773, appendix B.3. With −β KL among the rewards and +β KL among the costs, the KL's
    weight in Â is β for every λ. Raises ValueError for λ below 0.
    """
    if multiplier < 0:
        raise ValueError(f"multiplier is {multiplier}; a constraint's cannot be negative")
    return (advantages - multiplier * cost_advantages) / (1 + multiplier)


def below_the_lowest(scores: Float[Tensor, "C"], over: Float[Tensor, "C"], *, lowest: float) -> Float[Tensor, "C"]:
    """Scores in which a completion over the limit has one less than the lowest of its rollout, and never −∞.

        r' = r where c ≤ d,   min over the rollout of r  − 1   where c > d

    over: 1 where the cost is above the limit, else 0. A finite score, so that mean and deviation of a rollout remain
    what they are of.
    """
    return torch.where(over > 0, torch.full_like(scores, lowest - 1.0), scores)
