"""Losses over preferred and less preferred completions: one value per pair, never averaged.

The DPO family takes what a completion is worth to the policy, as one number per completion: its log-ratio
log π(y)/π_ref(y), or its log-prob where there is no reference; in nats, summed over the scored tokens, or in nats a
token where the text says averaged. A soft label p says how likely the chosen completion is the better one: every loss
is p ℓ(z) + (1 − p) ℓ(−z), linear in p.

Shapes: P pairs, C completions, K criteria.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import logsigmoid, relu


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


def kto_loss(
    logratios: Float[Tensor, "C"],
    label: Float[Tensor, "C"],
    *,
    z: Float[Tensor, "C"] | float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, "C"]:
    """Kahneman-Tversky optimisation: the worth of one completion beside a reference point z, which saturates both ways.

        L = p λ_D [1 − σ(β(r − z))] + (1 − p) λ_U [1 − σ(β(z − r))],   r = log π(y|x)/π_ref(y|x)

    Ethayarajh et al. 2024, arXiv:2402.01306, eq. 7; λ_D and λ_U are the weights of thumbs up and down. p is 1 for a
    thumb up and 0 for a thumb down there; between them the loss is linear in p. r is summed over the scored tokens, in
    nats, as is z, which ``kto_kl`` estimates and no gradient goes through.
    """
    gain = beta * (logratios - z)
    return label * desirable_weight * torch.sigmoid(-gain) + (1.0 - label) * undesirable_weight * torch.sigmoid(gain)


def kto_kl(partner_logratios: Sequence[float]) -> float:
    """KTO's reference point, from completions of other prompts: how far the policy has moved from its reference.

        z = max(0, (1/B) Σ_i log π(y'_i|x_i)/π_ref(y'_i|x_i))

    Ethayarajh et al. 2024, arXiv:2402.01306, §4.1; y'_i answers another prompt than x_i, and B counts the partners of
    the step on all ranks. A number, so that no gradient goes through it. The sum is rounded once: in any order it is
    the same. Units: nats. Raises ValueError for no partner at all.
    """
    if not partner_logratios:
        raise ValueError("z is a mean over mismatched pairs, and there is none")
    return max(0.0, math.fsum(partner_logratios) / len(partner_logratios))


def apo_zero_unpaired_loss(
    logratios: Float[Tensor, "C"],
    label: Float[Tensor, "C"],
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, "C"]:
    """Anchored preference optimisation of single completions: KTO about the reference itself, z = 0.

        L = p λ_D [1 − σ(βr)] + (1 − p) λ_U σ(βr),   r = log π(y|x)/π_ref(y|x)

    D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7 (APO-zero), in the unpaired form of TRL. It raises what has a
    thumb up and lowers the rest, whatever the policy does elsewhere: for answers better than the policy's own.
    """
    weights = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    return kto_loss(logratios, label, z=0.0, beta=beta, **weights)


def desirable_weight_range(desirable: float, undesirable: float, *, undesirable_weight: float) -> tuple[float, float]:
    """The weights of thumbs up that are recommended beside a weight of thumbs down, for n_D and n_U thumbs.

        1 ≤ λ_D n_D / (λ_U n_U) ≤ 4/3

    Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8. Both counts are above 0.
    """
    lowest = undesirable_weight * undesirable / desirable
    return lowest, 4.0 / 3.0 * lowest


def smoothed_label(p_chosen: Float[Tensor, "P"], *, label_smoothing: float) -> Float[Tensor, "P"]:
    """The label that is left of p when a share ε of all labels is thought to be flipped.

        p' = (1 − ε) p + ε (1 − p)

    With p = 1 this makes the sigmoid loss conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences"),
    whose gradient vanishes at σ(βh) = 1 − ε. Raises ValueError unless 0 ≤ ε < ½.
    """
    _check_smoothing(label_smoothing)
    return (1.0 - 2.0 * label_smoothing) * p_chosen + label_smoothing


def _check_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}; it is a share of flipped labels, from 0 to below 0.5")


def robust_dpo_loss(
    chosen_logratios: Float[Tensor, "P"],
    rejected_logratios: Float[Tensor, "P"],
    *,
    beta: float,
    label_smoothing: float,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """DPO that is unbiased when a share ε of the labels is flipped: its mean over flips is the loss without any.

        ℓ(h) = [−(1 − ε) log σ(βh) + ε log σ(−βh)] / (1 − 2ε),   L = p ℓ(h) + (1 − p) ℓ(−h)

    Chowdhury, Kini and Natarajan 2024, arXiv:2403.00409; may be negative. h as in ``dpo_loss``, in nats. Raises
    ValueError unless 0 ≤ ε < ½.
    """
    _check_smoothing(label_smoothing)
    # Both labels enter linearly, so this is the sigmoid loss with a label that may lie outside 0..1.
    label = p_chosen + label_smoothing * (2.0 * p_chosen - 1.0) / (1.0 - 2.0 * label_smoothing)
    return dpo_loss(chosen_logratios, rejected_logratios, beta=beta, p_chosen=label)


def hinge_loss(
    chosen_logratios: Float[Tensor, "P"],
    rejected_logratios: Float[Tensor, "P"],
    *,
    beta: float,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """SLiC's hinge on the implicit rewards: no gradient beyond a margin of 1/β nats.

        L = p max(0, 1 − βh) + (1 − p) max(0, 1 + βh)

    Zhao et al. 2023, arXiv:2305.10425, with log-ratios as in Liu et al. 2023, arXiv:2309.06657. h as in
    ``dpo_loss``, in nats.
    """
    margin = beta * (chosen_logratios - rejected_logratios)
    return p_chosen * relu(1.0 - margin) + (1.0 - p_chosen) * relu(1.0 + margin)


def ipo_loss(
    chosen_logratios: Float[Tensor, "P"],
    rejected_logratios: Float[Tensor, "P"],
    *,
    beta: float,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """IPO: draws the difference of the log-ratios to 1/(2β), however sure the labels are.

        L = p (h − 1/(2β))² + (1 − p) (h + 1/(2β))²

    Azar et al. 2023, arXiv:2310.12036, eq. 17, whose τ is β. The log-ratios are summed over the completion as written
    there, or averaged over its tokens as the authors told TRL that they did: the caller decides. Units: nats², or nats²
    per token².
    """
    gap, target = chosen_logratios - rejected_logratios, 1.0 / (2.0 * beta)
    return p_chosen * (gap - target).square() + (1.0 - p_chosen) * (gap + target).square()


def simpo_loss(
    chosen_logprobs: Float[Tensor, "P"],
    rejected_logprobs: Float[Tensor, "P"],
    *,
    beta: float,
    gamma: float,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """SimPO: Bradley-Terry on averaged log-probs, without a reference; the chosen one must lead by γ.

        L = −p log σ(z) − (1 − p) log σ(−z),   z = β avg log π(y_w) − β avg log π(y_l) − γ

    Meng, Xia and Chen 2024, arXiv:2405.14734, eq. 6. The log-probs are averaged over the tokens; γ is on the scale of
    their β-fold.
    """
    return bradley_terry_loss(beta * chosen_logprobs, beta * rejected_logprobs, margin=gamma, p_chosen=p_chosen)


def orpo_loss(
    chosen_logprobs: Float[Tensor, "P"],
    rejected_logprobs: Float[Tensor, "P"],
    *,
    beta: float,
    p_chosen: Float[Tensor, "P"] | float = 1.0,
) -> Float[Tensor, "P"]:
    """ORPO's odds-ratio term, without a reference; the SFT term that belongs to it is the caller's.

        L = −β [p log σ(z) + (1 − p) log σ(−z)],   z = log odds(y_w) − log odds(y_l),   odds = P / (1 − P)

    Hong, Lee and Thorne 2024, arXiv:2403.07691, whose λ is β, and P = exp(mean log π per token). The log-probs are
    averaged over the tokens.
    """
    chosen, rejected = log_odds(chosen_logprobs), log_odds(rejected_logprobs)
    return beta * bradley_terry_loss(chosen, rejected, p_chosen=p_chosen)


def log_odds(logprobs: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """log P/(1 − P) from log P, exact for P near 0 and near 1.

        log P − log(1 − P);   log(1 − eˣ) = log(−expm1 x) for x > −ln 2, log1p(−eˣ) below

    Log-probs above −10⁻⁶ count as −10⁻⁶: P = 1 has infinite odds, and no gradient that would be of use.
    """
    x = logprobs.clamp(max=-1e-6)
    near = x > -math.log(2.0)
    # each branch sees only arguments that it is good for, or the other one's gradient would be NaN
    high = torch.log(-torch.expm1(torch.where(near, x, -0.5)))
    low = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return x - torch.where(near, high, low)


def plackett_luce_loss(
    scores: Float[Tensor, "C"], rank: Num[Tensor, "C"], group_of: Int[Tensor, "C"]
) -> Float[Tensor, "C"]:
    """Negative log-likelihood of rankings, taken as choosing the best, then the best of the rest, and so on.

        L_c = −log [exp r_c / (exp r_c + Σ_{j ranked worse than c} exp r_j)],   Σ_c L_c = −log P(ranking of the prompt)

    Plackett 1975, Luce 1959; as a reward loss Zhu, Jiao and Jordan 2023, arXiv:2301.11270. One value per completion, 0
    for a prompt's worst; two completions give Bradley-Terry. Rank 1 is the best; equal ranks do not compete with each
    other. Units: nats.
    """
    same_prompt = group_of[:, None] == group_of[None, :]  # [C, C]
    itself = torch.eye(len(rank), dtype=torch.bool, device=rank.device)
    rivals = (same_prompt & (rank[:, None] < rank[None, :])) | itself
    return torch.where(rivals, scores[None, :], -torch.inf).logsumexp(-1) - scores


def regression_loss(scores: Float[Tensor, "C K"], recorded: Float[Tensor, "C K"]) -> Float[Tensor, "C"]:
    """Squared error of predicted against recorded scores, one value per completion: the mean over its criteria.

        L_c = (1/K) Σ_k (r_ck − y_ck)²

    Units: the square of the recorded scores' unit.
    """
    return (scores - recorded).square().mean(-1)
