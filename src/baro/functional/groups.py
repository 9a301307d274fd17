"""Advantages without a value model: a completion's reward against those of the same prompt.

Shapes: C completions in any order; ``group`` says which of ``count`` prompts each belongs to. A group whose rewards are
all equal has advantages of exactly 0, and so has a completion without siblings.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baro.functional.tokens import segment_mean, segment_sum


def tied(rewards: Float[Tensor, "C"], group: Int[Tensor, "C"], count: int) -> Bool[Tensor, "C"]:
    """Whether all rewards of a completion's group are equal, so that there is nothing to learn from it."""
    low, high = (
        rewards.new_zeros(count).scatter_reduce(0, group, rewards, how, include_self=False) for how in ("amin", "amax")
    )
    return (low == high)[group]


def group_centered(rewards: Float[Tensor, "C"], group: Int[Tensor, "C"], count: int) -> Float[Tensor, "C"]:
    """Rewards less their group's mean.

        A_i = r_i − r̄_g

    Liu et al. 2025, arXiv:2503.20783 (Dr. GRPO), §3: dividing by the deviation would weigh questions by how unequal
    their answers are.
    """
    centred = rewards - segment_mean(rewards, group, count)[group]
    return centred.masked_fill(tied(rewards, group, count), 0.0)


def group_std(rewards: Float[Tensor, "C"], group: Int[Tensor, "C"], count: int, *, ddof: int = 1) -> Float[Tensor, "G"]:
    """Each group's standard deviation, s_g = √(Σ (r − r̄_g)² / (n_g − ddof)); 0 where there are no more than ddof."""
    squares = segment_sum(group_centered(rewards, group, count).square(), group, count)
    sizes = segment_sum(torch.ones_like(rewards), group, count)
    return (squares / (sizes - ddof).clamp(min=1)).sqrt()


def group_standardized(
    rewards: Float[Tensor, "C"], group: Int[Tensor, "C"], count: int, *, ddof: int = 1, epsilon: float = 1e-4
) -> Float[Tensor, "C"]:
    """Rewards less their group's mean, in units of their group's deviation.

        A_i = (r_i − r̄_g) / (s_g + ε)

    Shao et al. 2024, arXiv:2402.03300 (GRPO), §4.1.2; the paper has no ε and does not say ddof. ddof 1 and ε 10⁻⁴ are
    TRL's, ddof 1 and 10⁻⁶ verl's.
    """
    spread = group_std(rewards, group, count, ddof=ddof)[group]
    return group_centered(rewards, group, count) / (spread + epsilon)


def leave_one_out(rewards: Float[Tensor, "C"], group: Int[Tensor, "C"], count: int) -> Float[Tensor, "C"]:
    """Rewards less the mean of the others of their group: unbiased, since a baseline holds nothing of its own sample.

        A_i = r_i − (1 / (n − 1)) Σ_{j≠i} r_j = n / (n − 1) · (r_i − r̄_g)

    Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; for language models Ahmadian et al. 2024,
    arXiv:2402.14740 (RLOO).
    """
    sizes = segment_sum(torch.ones_like(rewards), group, count)
    return group_centered(rewards, group, count) * (sizes / (sizes - 1).clamp(min=1))[group]


def group_rank(rewards: Float[Tensor, "C"], group: Int[Tensor, "C"], count: int) -> Float[Tensor, "C"]:
    """How many of its siblings a completion beats, centred: the scale of the rewards plays no part.

        A_i = (1 / (n − 1)) Σ_{j≠i} ([r_j < r_i] + ½ [r_j = r_i]) − ½        between −½ and ½

    The mean over a group is 0. Memory grows with C².
    """
    siblings = group[:, None] == group[None]
    siblings.fill_diagonal_(False)
    gaps = rewards[:, None] - rewards[None]
    wins = ((gaps > 0).to(rewards.dtype) + 0.5 * (gaps == 0).to(rewards.dtype)) * siblings
    others = siblings.sum(1)
    share = wins.sum(1) / others.clamp(min=1)
    return torch.where(others > 0, share - 0.5, torch.zeros_like(rewards))


def overlong_penalty(lengths: Int[Tensor, "C"], *, limit: int, buffer: int) -> Float[Tensor, "C"]:
    """What a completion loses that comes near the limit of tokens.

        p = 0 up to L − B,   (L − B − n) / B from there to L,   −1 beyond

    Yu et al. 2025, arXiv:2503.14476 (DAPO), eq. 13. Raises ValueError unless 0 < buffer ≤ limit.
    """
    if not 0 < buffer <= limit:
        raise ValueError(f"buffer is {buffer} tokens and the limit {limit}; it must lie between 1 and the limit")
    return ((limit - buffer - lengths) / buffer).clamp(-1.0, 0.0)
