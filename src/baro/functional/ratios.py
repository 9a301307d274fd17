"""Losses of a policy whose samples come from an earlier state of itself, by the ratio of the two; one value a token.

Shapes: N scored tokens of C completions; ``completion_of`` says whose. ρ = exp(log π − log π_old). PPO's own clipped
loss is in ``policy``. All of these differ only where ρ is not 1: at a rollout's first update their gradients are
equal, but for GSPO's, which weighs tokens by their completion's length.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baro.functional.tokens import segment_mean, segment_sum


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


def sampler_weights(
    old_logprobs: Float[Tensor, "N"],
    sampler_logprobs: Float[Tensor, "N"],
    completion_of: Int[Tensor, "N"],
    count: int,
    *,
    statistic: Literal["token", "product", "geometric_mean"],
    mode: Literal["clip", "mask"],
    band: tuple[float, float],
) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"]]:
    """What a token's loss weighs where its sampler computes otherwise than the trainer; and which lie beyond the band.

        ρ_t = exp(log π_old(y_t) − log π_sampler(y_t)),   π_old the sampler's own weights in the training forward
        s = ρ_t,  Π_t ρ_t  or  (Π_t ρ_t)^(1/n) of its completion        a ≤ s ≤ b the band
        clip  w = min(max(s, a), b)        mask  w = s inside the band, else 0

    Truncated importance sampling (Ionides 2008; for samplers of other precision Yao et al. 2025, "Your efficient RL
    framework secretly brings you off-policy RL training") is clip with a = 0; IcePop (Ling team 2025, arXiv:2510.18855)
    is mask of tokens; masks of sequences are TRL's. Raises ValueError unless 0 ≤ a ≤ 1 ≤ b and a < b.
    """
    low, high = band
    if not (0 <= low <= 1 <= high and low < high):
        raise ValueError(
            f"band is {low} to {high}; it must hold 1, the ratio of an exact sampler, and not begin below 0"
        )
    log_ratio = old_logprobs - sampler_logprobs
    if statistic == "product":
        log_ratio = segment_sum(log_ratio, completion_of, count)[completion_of]
    elif statistic == "geometric_mean":
        log_ratio = segment_mean(log_ratio, completion_of, count)[completion_of]
    floor = math.log(low) if low else -math.inf
    beyond = (log_ratio < floor) | (log_ratio > math.log(high))
    bounded = log_ratio.clamp(floor, math.log(high)).exp()  # before the exponential, which might overflow
    return (bounded if mode == "clip" else bounded.masked_fill(beyond, 0.0)), beyond
