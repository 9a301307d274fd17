"""What several reward models say of one completion, as one score.

    z_i = (r_i − μ_i) / σ_i                       μ_i, σ_i: member i's mean and sd on the same samples for all members
    u   = mean_i z_i  |  min_i z_i  |  mean_i z_i − λ Var_i z_i
    r   = μ + σ u                                 μ = mean_i μ_i, σ = mean_i σ_i: the members' common units

Coste et al. 2024, arXiv:2310.02743 eq. 3-5 (mean, worst case, uncertainty-weighted: the variance, not its root). Var
has the divisor K. Scores of different members have different zeros and units, which the losses leave open; without μ_i
and σ_i the least of them is always the same member's. λ is in units of z: a change of units changes nothing.

Sums are exact (math.fsum) before they are rounded once: the order of the members changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

Combine = Literal["mean", "worst", "variance"]
PENALTY = 0.5
"""λ of Coste et al. for best-of-n; they take 0.1 for PPO."""


class Scale(NamedTuple):
    """Mean and sd (divisor n) of scores on stated samples."""

    mean: float
    sd: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Scale:
        """Those of these scores. ValueError for none, and for scores that are all the same: they have no unit."""
        if not scores or min(scores) == max(scores):
            raise ValueError(f"{len(scores)} scores are all the same, so that nothing can be scaled by them")
        mean = math.fsum(scores) / len(scores)
        return cls(mean, math.sqrt(math.fsum((one - mean) ** 2 for one in scores) / len(scores)))

    def scaled(self, score: float) -> float:
        """z of a score."""
        return (score - self.mean) / self.sd


def common_scale(scales: Sequence[Scale]) -> Scale:
    """The units that members' combined score has: the means of their means and of their sds."""
    count = len(scales)
    return Scale(math.fsum(one.mean for one in scales) / count, math.fsum(one.sd for one in scales) / count)


def mean_and_variance(scaled: Sequence[float]) -> tuple[float, float]:
    """Of the members' scaled scores of one completion; the variance has the divisor K."""
    mean = math.fsum(scaled) / len(scaled)
    return mean, math.fsum((one - mean) ** 2 for one in scaled) / len(scaled)


def combined_score(scaled: Sequence[float], *, combine: Combine, penalty: float = PENALTY) -> float:
    """u of the members' scaled scores of one completion; ``penalty`` is λ of "variance"."""
    mean, variance = mean_and_variance(scaled)
    return {"mean": mean, "worst": min(scaled), "variance": mean - penalty * variance}[combine]
