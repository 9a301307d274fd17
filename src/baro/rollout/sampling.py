"""From logits to tokens: a draw and its log-prob in one pass over the vocabulary, one uniform number per sequence."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baro.records import SamplingParams

BLOCK = 256  # tokens of the vocabulary per block sum; the search reads V / 256 sums, then 256 weights


def draw(
    logits: Float[Tensor, "n V"], uniforms: Float[Tensor, "n"], params: SamplingParams
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """Draw one token per row and give its log-prob.

    Token: softmax(logits / temperature), restricted by top-k, then top-p, then min-p, by inverse CDF at ``uniforms``
    (in [0, 1), float64); at temperature 0 the argmax. Log-prob: log softmax(logits / temperature)[token], in nats,
    over the whole vocabulary, not the restricted one; at temperature 0 that of temperature 1. Logits may be -inf; a
    token of probability 0 is never drawn. A row with a NaN, a +inf, or nothing but -inf gives the log-prob NaN.
    """
    scaled = logits if logits.dtype == torch.float64 else logits.float()
    if params.temperature == 0:
        tokens = scaled.argmax(-1)
        return tokens, _at(scaled.log_softmax(-1), tokens)
    if params.temperature != 1:
        # Minus the maximum first: a low temperature must not turn large logits into inf.
        scaled = (scaled - scaled.amax(-1, keepdim=True)) / params.temperature
    probs = scaled.softmax(-1)
    tokens = inverse_cdf(restrict(probs, params), uniforms)
    # log p of the likeliest token plus the distance to it: exact also where p itself underflows.
    return tokens, probs.amax(-1).log() + (_at(scaled, tokens) - scaled.amax(-1))


def restrict(weights: Float[Tensor, "n V"], params: SamplingParams) -> Float[Tensor, "n V"]:
    """Set the weights of the tokens that the filters exclude to 0; the rest is not renormalised.

    The order is top-k, top-p, min-p, each on what the one before left, as in Hugging Face generate.
    """
    if 0 < params.top_k < weights.shape[-1]:
        weights = _top_k(weights, params.top_k)
    if params.top_p < 1:
        weights = _top_p(weights, params.top_p)
    if params.min_p > 0:
        weights = weights.where(weights >= params.min_p * weights.amax(-1, keepdim=True), 0)
    return weights


def _top_k(weights: Float[Tensor, "n V"], k: int) -> Float[Tensor, "n V"]:
    """The k largest weights; equals of the k-th stay too."""
    least = weights.topk(k, -1).values[:, -1:]
    return weights.where(weights >= least, 0)


def _top_p(weights: Float[Tensor, "n V"], top_p: float) -> Float[Tensor, "n V"]:
    """The fewest largest weights that hold at least ``top_p`` of the sum, and always the largest one.

    Holtzman et al. 2020, arXiv:1904.09751, eq. 2.
    """
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    through = ordered.cumsum(-1, dtype=torch.float64)  # [n, V]
    larger_ones = through - ordered
    larger_ones[:, 0] = -1.0  # the largest stays even at top_p 0
    kept = torch.zeros_like(weights).scatter_(-1, order, ordered.where(larger_ones < top_p * through[:, -1:], 0))
    return kept


def inverse_cdf(weights: Float[Tensor, "n V"], uniforms: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The first token at which the running sum of the weights exceeds uniform × total.

    Two levels: the running sum of the block sums finds the block, the running sum within it the token, so the
    vocabulary is read once and nothing of its size is written. Weights are ≥ 0, some are > 0, they need not add to 1.
    """
    spare = -weights.shape[-1] % BLOCK
    padded = torch.nn.functional.pad(weights, (0, spare)) if spare else weights
    blocks = padded.unflatten(-1, (-1, BLOCK))  # [n, V / BLOCK, BLOCK]
    through = blocks.sum(-1).cumsum(-1, dtype=torch.float64)  # [n, V / BLOCK]
    target = _below(uniforms.double() * through[:, -1], through[:, -1])
    block = _first_above(through, target)
    before = _at(torch.nn.functional.pad(through, (1, 0)), block)  # [n] the running sum up to the block
    rows = torch.arange(len(weights), device=weights.device)
    within = blocks[rows, block].cumsum(-1, dtype=torch.float64)  # [n, BLOCK]
    tokens = block * BLOCK + _first_above(within, _below(target - before, within[:, -1]))
    return tokens.clamp_(max=weights.shape[-1] - 1)  # beyond it only where weights are NaN


def _below(value: Float[Tensor, "n"], limit: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """``value``, but less than ``limit``: rounding must not carry the search past the last positive weight."""
    return torch.minimum(value, torch.nextafter(limit, torch.zeros_like(limit)))


def _first_above(through: Float[Tensor, "n K"], target: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Index of the first running sum that exceeds the target; its weight is positive. NaN gives the last index."""
    index = torch.searchsorted(through, target[:, None], right=True)[:, 0]
    return index.clamp_(max=through.shape[-1] - 1)


def _at(values: Float[Tensor, "n K"], index: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """values[i, index[i]] for every row."""
    return values.gather(-1, index[:, None])[:, 0]
