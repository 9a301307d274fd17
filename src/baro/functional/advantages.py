"""From rewards to advantages, on flat ragged tensors: a completion's tokens are contiguous, ``lengths`` cuts them.

Shapes: N scored tokens of C completions, in order; the lengths sum to N.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_EPSILON = 1e-8
"""Added to a variance before its root: equal values whiten to 0 and not to 0/0."""


def _padding_mask(lengths: Int[Tensor, "C"], tokens: int) -> Bool[Tensor, "C L"]:
    """Which cells of the padded table are real; in row order they are the flat tokens."""
    if int(lengths.sum()) != tokens:
        raise ValueError(f"lengths sum to {int(lengths.sum())} but there are {tokens} tokens")
    longest = int(lengths.max()) if len(lengths) else 0
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def gae(
    rewards: Float[Tensor, "N"],
    values: Float[Tensor, "N"],
    lengths: Int[Tensor, "C"],
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Generalised advantage estimation within each completion: advantages, and returns for the value loss.

        δ_t = r_t + γ V_{t+1} − V_t,   Â_t = δ_t + γλ Â_{t+1},   R_t = Â_t + V_t

    Schulman et al. 2015, arXiv:1506.02438, eq. 16. An episode ends with its completion: V and Â after the last token
    are 0. Returns use the advantages before whitening. Raises ValueError when the lengths do not sum to N.
    """
    real = _padding_mask(lengths, len(rewards))  # [C, L]
    # Cells after a completion hold 0, which is exactly the bootstrap value: no mask inside the loop.
    reward, value = (x.new_zeros(real.shape).masked_scatter(real, x) for x in (rewards, values))
    next_value = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], dim=1)
    delta = reward + gamma * next_value - value
    advantages, running = torch.zeros_like(delta), delta.new_zeros(len(lengths))
    for t in reversed(range(real.shape[1])):
        running = delta[:, t] + gamma * gae_lambda * running
        advantages[:, t] = running
    flat = advantages[real]
    return flat, flat + values


def moments(values: Float[Tensor, "N"]) -> dict[str, float]:
    """Count, Σx and Σx² of one rank's values: what ranks add up (``world.sum``) to whiten over all of them.

    In fp64, because the variance is a small difference of the two sums.
    """
    wide = values.double()
    return {"count": float(len(wide)), "total": wide.sum().item(), "squares": wide.square().sum().item()}


def mean_and_variance(count: float, total: float, squares: float, *, ddof: int = 1) -> tuple[float, float]:
    """Mean and variance from ``moments``.

        μ = Σx / n,   s² = (Σx² − n μ²) / (n − ddof)

    ddof 1 is the unbiased variance (TRL's convention), ddof 0 the maximum-likelihood one (lm-human-preferences'). With
    no more values than ddof the variance is 0: a single value whitens to 0. Raises ValueError without any value.
    """
    if count < 1:
        raise ValueError("mean and variance of no values; whitening needs at least one")
    mean = total / count
    return mean, max(squares - count * mean * mean, 0.0) / max(count - ddof, 1.0)


def whiten_with(values: Float[Tensor, "N"], mean: float, variance: float) -> Float[Tensor, "N"]:
    """Shift and scale to mean 0 and variance 1, as PPO does with advantages.

        x' = (x − μ) / √(s² + 10⁻⁸),   s² = Σ(x − μ)² / (n − ddof)

    Ziegler et al. 2019, arXiv:1909.08593. Mean and variance are those of a whole rollout, over all ranks.
    """
    return (values - mean) / math.sqrt(variance + _EPSILON)


def scale_with(values: Float[Tensor, "N"], mean: float, variance: float) -> Float[Tensor, "N"]:
    """Scale the spread to variance 1 and keep the mean, as PPO may do with rewards (elsewhere ``shift_mean=False``).

        x' = (x − μ) / √(s² + 10⁻⁸) + μ

    Rewards keep their mean because its sign says whether to write more or fewer tokens.
    """
    return whiten_with(values, mean, variance) + mean
