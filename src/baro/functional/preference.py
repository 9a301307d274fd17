"""Losses over preferred and less preferred completions: one value per pair, never averaged.

Shapes: P pairs, C completions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry_loss(
    chosen: Float[Tensor, "P"],
    rejected: Float[Tensor, "P"],
    *,
    margin: Float[Tensor, "P"] | float = 0.0,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """Negative log-likelihood of the judgments under the Bradley-Terry model, from two scores a pair.

        L = −p log σ(z) − (1 − p) log σ(−z),   z = r_w − r_l − m

    Ouyang et al. 2022, arXiv:2203.02155, eq. 1 (p = 1, m = 0); the margin m of Touvron et al. 2023, arXiv:2307.09288,
    eq. 2; the soft label p of Bai et al. 2022, arXiv:2212.08073, §4.1. Units: scores in nats of log-odds, p in 0..1.
    Differs from eq. 1: one value per pair; ``ranking_pairs`` weighs the pairs of one prompt.
    """
    gap = chosen - rejected - margin
    return -p_chosen * logsigmoid(gap) - (1.0 - p_chosen) * logsigmoid(-gap)


def centering_penalty(chosen: Float[Tensor, "P"], rejected: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
    """Pulls scores towards zero, which the Bradley-Terry loss leaves free to drift.

        L = (r_w + r_l)²

    Eisenstein et al. 2023, arXiv:2312.09244. The caller multiplies by its coefficient (0.01 there).
    """
    return (chosen + rejected).square()


def ranking_pairs(
    rank: Num[Tensor, "C"], group_of: Int[Tensor, "C"]
) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"], Float[Tensor, "P"]]:
    """All pairs that a ranking of each prompt's completions implies: indices of the better, of the worse, and weights.

        weight = 1 / (number of pairs of the same prompt)

    Rank 1 is the best; equal ranks give no pair. So Σ weight · loss is, for each prompt with a pair, the mean over its
    pairs, and every completion is computed once however many pairs it is in: Ouyang et al. 2022, arXiv:2203.02155,
    §3.5 and eq. 1, whose 1/C(K,2) this is when there are no ties. Pairs come in the order of the better completion.
    """
    same_prompt = group_of[:, None] == group_of[None, :]  # [C, C]
    better, worse = torch.nonzero(same_prompt & (rank[:, None] < rank[None, :]), as_tuple=True)
    prompt = group_of[better]
    return better, worse, torch.bincount(prompt)[prompt].reciprocal()


def dpo_loss(
    chosen_logratios: Float[Tensor, "P"],
    rejected_logratios: Float[Tensor, "P"],
    *,
    beta: float,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """Direct preference optimisation: Bradley-Terry on the implicit rewards β log(π/π_ref).

        L = −p log σ(βh) − (1 − p) log σ(−βh),   h = log π(y_w)/π_ref(y_w) − log π(y_l)/π_ref(y_l)

    Rafailov et al. 2023, arXiv:2305.18290, eq. 7; with p < 1 its conservative form, p = 1 − ε. The log-ratios are sums
    over the completion's scored tokens, in nats.
    """
    return bradley_terry_loss(beta * chosen_logratios, beta * rejected_logratios, p_chosen=p_chosen)
