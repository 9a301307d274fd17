"""PPO for language models: clipped losses per scored token, the KL penalty inside the reward, its controller.

Shapes: N scored tokens, C completions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baro.functional.tokens import kl_k1


def clipped_policy_loss(
    logprobs: Float[Tensor, "N"],
    old_logprobs: Float[Tensor, "N"],
    advantages: Float[Tensor, "N"],
    *,
    clip_range: float,
    clip_range_high: float | None = None,
) -> Float[Tensor, "N"]:
    """PPO's clipped surrogate, one value per scored token (the objective sums and divides).

        L = −min(ρ Â, clip(ρ, 1−ε, 1+ε) Â),   ρ = exp(log π − log π_old)

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. Differs from the paper: per token, no entropy bonus.
    ``clip_range_high`` is ε in 1+ε where it is another, so that unlikely tokens may become likely: Yu et al. 2025,
    arXiv:2503.14476 (DAPO), §3.1. Raises ValueError unless 0 < ε < 1 below and ε > 0 above.
    """
    if not 0 < clip_range < 1:
        raise ValueError(f"clip_range is {clip_range}; it must lie between 0 and 1 (0.2 is usual)")
    high = clip_range if clip_range_high is None else clip_range_high
    if high <= 0:
        raise ValueError(f"clip_range_high is {high}; it must be positive (0.28 is usual)")
    log_ratio = logprobs - old_logprobs
    # The minimum clips ρ only from above where Â ≥ 0 and only from below where Â < 0. Clipping before the exponential
    # keeps an overflowing ρ out of a product with 0, in the value and in the gradient.
    clipped = torch.where(
        advantages >= 0, log_ratio.clamp(max=math.log1p(high)), log_ratio.clamp(min=math.log1p(-clip_range))
    )
    return -advantages * clipped.exp()


def clipped_value_loss(
    values: Float[Tensor, "N"], old_values: Float[Tensor, "N"], returns: Float[Tensor, "N"], *, clip_range: float
) -> Float[Tensor, "N"]:
    """Squared error of the value model, with its step away from the rollout's values clipped; one value per token.

        L = ½ max((V − R)², (clip(V, V_old − ε, V_old + ε) − R)²)

    Not in the PPO paper: from OpenAI's code for Ziegler et al. 2019, arXiv:1909.08593. Units: squared reward.
    """
    clipped = torch.clamp(values, old_values - clip_range, old_values + clip_range)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def kl_shaped_rewards(
    scores: Float[Tensor, "C"],
    logprobs: Float[Tensor, "N"],
    ref_logprobs: Float[Tensor, "N"],
    lengths: Int[Tensor, "C"],
    *,
    kl_coef: float,
) -> Float[Tensor, "N"]:
    """Per-token rewards: a KL penalty on every token and the completion's score on its last.

        r_t = −β (log π − log π_ref)_t + [t is last] · score

    Ouyang et al. 2022, arXiv:2203.02155, eq. 2; Ziegler et al. 2019, arXiv:1909.08593, eq. 2. The estimator is k1: in
    the reward it is the one with the right gradient. Tokens of a completion are contiguous and ``lengths`` long.
    Raises ValueError for lengths that do not sum to N, or below 1: such a completion has no token to carry its score.
    """
    if len(lengths) and int(lengths.min()) < 1:
        raise ValueError("a completion without scored tokens has no last token to carry its score; leave it out")
    if int(lengths.sum()) != len(logprobs):
        raise ValueError(f"lengths sum to {int(lengths.sum())} but there are {len(logprobs)} tokens")
    last = lengths.cumsum(0) - 1
    return (-kl_coef * kl_k1(logprobs, ref_logprobs)).index_add(0, last, scores)


def adaptive_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, samples: int) -> float:
    """The next KL coefficient: larger when the policy strayed further than the target, smaller when less.

        β' = β · max(0.1, 1 + clip(KL / target − 1, −0.2, 0.2) · samples / horizon)

    Ziegler et al. 2019, arXiv:1909.08593, §2.2, with K_β written as samples / horizon as in its code. The bound of 0.1
    is ours: with more than 5 horizons of samples at once the factor would be negative, and pay for KL. Units: KL and
    target in nats per completion, samples and horizon in completions. Raises ValueError for a target or horizon that
    is not positive.
    """
    if target <= 0 or horizon <= 0:
        raise ValueError(f"target is {target} and horizon is {horizon}; both must be positive")
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * max(0.1, 1.0 + error * samples / horizon)


def clip_scores(scores: Float[Tensor, "C"], *, limit: float) -> Float[Tensor, "C"]:
    """Bound each completion's score to −limit..limit, so that one outlier does not rule a rollout.

        r' = max(−limit, min(limit, r))

    Xu et al. 2024, arXiv:2404.10719, appendix A.2 (limit 20). Raises ValueError for a limit that is not positive.
    """
    if limit <= 0:
        raise ValueError(f"limit is {limit}; it must be positive")
    return scores.clamp(-limit, limit)
