"""Losses of a policy whose samples come from an earlier state of itself, by the ratio of the two; one value a token.

Shapes: N scored tokens of C completions; ``completion_of`` says whose. ρ = exp(log π − log π_old). PPO's own clipped
loss is in ``policy``. All of these differ only where ρ is not 1: at a rollout's first update their gradients are
equal, but for GSPO's, which weighs tokens by their completion's length.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baro.functional.tokens import segment_mean


def sequence_log_ratio(
    logprobs: Float[Tensor, "N"], old_logprobs: Float[Tensor, "N"], completion_of: Int[Tensor, "N"], count: int
) -> Float[Tensor, "N"]:
    """The mean log-ratio of a token's completion, at each of its tokens.

        log s_i = (1 / n_i) Σ_t log ρ_t

    Zheng et al. 2025, arXiv:2507.18071 (GSPO), eq. 7. The ratio of the whole sequence has no mean over its length.
    """
    return segment_mean(logprobs - old_logprobs, completion_of, count)[completion_of]


def cispo_loss(
    logprobs: Float[Tensor, "N"], old_logprobs: Float[Tensor, "N"], advantages: Float[Tensor, "N"], *, limit: float
) -> Float[Tensor, "N"]:
    """The policy gradient with a bounded importance weight: no token loses its gradient.

        L = −sg(min(ρ, c)) Â log π

    MiniMax 2025, arXiv:2506.13585 (CISPO), eq. 4, without a bound from below. Raises ValueError for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; below 1 it would cut the weight of fresh samples (5 is usual)")
    weight = (logprobs.detach() - old_logprobs).clamp(max=limit_log(limit)).exp()
    return -weight * advantages * logprobs


def limit_log(limit: float) -> float:
    """The logarithm of a bound, so that a ratio is bounded before it overflows."""
    return math.log(limit)


def dppo_loss(
    logprobs: Float[Tensor, "N"], old_logprobs: Float[Tensor, "N"], advantages: Float[Tensor, "N"], *, limit: float
) -> Float[Tensor, "N"]:
    """The surrogate without clipping, less the tokens whose probability has moved far the way they are pushed.

        L = −[keep] ρ Â,   keep unless Â > 0 and π − π_old > δ, or Â < 0 and π − π_old < −δ

    arXiv:2602.04879 (DPPO, binary total variation). A bound on the probability, unlike one on the ratio, leaves
    rare tokens free and holds likely ones. Raises ValueError unless 0 < limit < 1.
    """
    if not 0 < limit < 1:
        raise ValueError(f"limit is {limit}; it bounds a difference of probabilities, and lies between 0 and 1")
    moved = logprobs.detach().exp() - old_logprobs.exp()
    dropped = ((advantages > 0) & (moved > limit)) | ((advantages < 0) & (moved < -limit)) | (advantages == 0)
    log_ratio = torch.where(dropped, torch.zeros_like(logprobs), logprobs - old_logprobs)  # no inf · 0
    return -torch.where(dropped, torch.zeros_like(advantages), advantages) * log_ratio.exp()
