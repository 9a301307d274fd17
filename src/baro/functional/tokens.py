"""Per-token quantities: log-probabilities and entropies from hidden states, sums over completions, KL estimators.

Shapes: N scored tokens, H hidden, V vocabulary, C completions (or any other segments). Natural logarithms: all in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class _Head(NamedTuple):
    """The fixed part of a language-model head, applied to the linear layer's output in this order."""

    logit_scale: float
    soft_cap: float | None
    temperature: float

    def check(self) -> _Head:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be positive (greedy has no log-probability)")
        if self.soft_cap is not None and self.soft_cap <= 0:
            raise ValueError(f"soft_cap is {self.soft_cap}; it must be positive, or None for a model without one")
        return self

    def logits(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The logits of a few rows, in fp32 at least; in place, because they are the largest tensor there is."""
        logits = exact_product(hidden, weight)
        if bias is not None:
            logits.add_(bias)
        if self.logit_scale != 1.0:
            logits.mul_(self.logit_scale)
        if self.soft_cap is not None:
            logits.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        if self.temperature != 1.0:
            logits.div_(self.temperature)
        return logits

    def slope(self, logits: Tensor) -> Tensor | float:
        """∂ logits / ∂ (linear layer's output), elementwise."""
        slope = self.logit_scale / self.temperature
        if self.soft_cap is None:
            return slope
        # d/dx c·tanh(x/c) = 1 − tanh², and tanh is what the logits still hold.
        return (logits * (self.temperature / self.soft_cap)).square_().neg_().add_(1.0).mul_(slope)


def _at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _matmul_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """The type of the plain model's factors: autocast's where it is on (it leaves fp64 alone)."""
    dtype, device = torch.promote_types(hidden.dtype, weight.dtype), hidden.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return dtype


def exact_product(left: Float[Tensor, "... H"], right: Float[Tensor, "V H"]) -> Float[Tensor, "... V"]:
    """left · rightᵀ with a result in fp32 at least, also of bf16 factors and where autocast is on.

    A bf16 result would be rounded to eight bits: logits near 20 would stand 0.125 apart. On CUDA bf16 factors are
    multiplied as they are and summed in fp32; elsewhere, and with gradient, they are written out in fp32 first.
    """
    with torch.autocast(left.device.type, enabled=False):
        if left.is_cuda and left.dtype.itemsize < 4 and not torch.is_grad_enabled() and torch.version.cuda:
            product: Tensor = torch.mm(left.flatten(0, -2), right.T, out_dtype=torch.float32)
            return product.view(*left.shape[:-1], len(right))
        dtype = _at_least_fp32(left.dtype)
        return linear(left.to(dtype), right.to(dtype))


def head_logits(
    hidden: Float[Tensor, "... H"],
    weight: Float[Tensor, "V H"],
    *,
    bias: Float[Tensor, "V"] | None = None,
    soft_cap: float | None = None,
    logit_scale: float = 1.0,
) -> Float[Tensor, "... V"]:
    """The logits z of ``token_logprobs`` before the temperature, for sampling: fp32 at least.

    Raises ValueError for a soft cap that is not positive.
    """
    dtype = _matmul_dtype(hidden, weight)
    return _Head(logit_scale, soft_cap, 1.0).check().logits(hidden.to(dtype), weight.to(dtype), bias)


def _row_chunks(rows: int, chunk: int) -> Iterator[slice]:
    if chunk < 1:
        raise ValueError(f"chunk is {chunk} rows; it must be at least 1")
    return (slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk))


class _ChunkedLogprobs(torch.autograd.Function):
    """log p(target), keeping one number per row for the backward pass instead of V.

    ∂ log p(y) / ∂ z = 1[y] − softmax(z): the backward pass recomputes a chunk's logits z and turns them into their own
    gradient. There is no second path that keeps small logits: it would take 0.88 to 0.96 of the head's time (on one
    core, fp32, H 256, V 8192, 2048 rows; three matrix products instead of four, so 0.75 at best for wide models), and
    memory would again grow with the batch.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: _Head, chunk: int
    ) -> Tensor:
        normaliser = hidden.new_empty(len(targets), dtype=_at_least_fp32(hidden.dtype))
        chosen = torch.empty_like(normaliser)
        for rows in _row_chunks(len(targets), chunk):
            logits = head.logits(hidden[rows], weight, bias)  # [chunk, V]
            chosen[rows] = logits.gather(1, targets[rows, None]).squeeze(1)
            normaliser[rows] = logits.logsumexp(-1)
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser)
        ctx.head, ctx.chunk = head, chunk
        return chosen - normaliser

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser = ctx.saved_tensors
        grads = [
            # Weight and bias gather one term per chunk: bf16 would lose the small ones.
            torch.zeros_like(tensor, dtype=_at_least_fp32(tensor.dtype)) if needed else None
            for tensor, needed in zip((hidden, weight, bias), ctx.needs_input_grad[:3], strict=True)
        ]
        for rows in _row_chunks(len(targets), ctx.chunk):
            logits = ctx.head.logits(hidden[rows], weight, bias)
            slope = ctx.head.slope(logits)
            grad_rows = grad[rows, None].to(logits.dtype)
            logits.sub_(normaliser[rows, None]).exp_().mul_(-grad_rows)  # now −g · softmax
            logits.scatter_add_(1, targets[rows, None], grad_rows).mul_(slope)
            _add_linear_grads(grads, logits.to(hidden.dtype), rows, hidden[rows], weight)
        grads = [None if g is None else g.to(t.dtype) for g, t in zip(grads, (hidden, weight, bias), strict=True)]
        return (*grads, None, None, None)


def _add_linear_grads(
    grads: list[Tensor | None], grad_logits: Tensor, rows: slice, hidden: Tensor, weight: Tensor
) -> None:
    """Add one chunk's share to the gradients of hidden, weight and bias; None where nobody asked (a frozen head)."""
    grad_hidden, grad_weight, grad_bias = grads
    if grad_hidden is not None:
        grad_hidden[rows] = exact_product(grad_logits, weight.T)
    if grad_weight is not None and grad_weight.dtype == hidden.dtype:
        grad_weight.addmm_(grad_logits.T, hidden)  # without a second [V, H]
    elif grad_weight is not None:
        grad_weight += exact_product(grad_logits.T, hidden.T)
    if grad_bias is not None:
        grad_bias += grad_logits.sum(0, dtype=grad_bias.dtype)


def _in_type(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The factors of the matrix product in its type, and the bias in the type of its result."""
    dtype = _matmul_dtype(hidden, weight)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(_at_least_fp32(dtype))


def token_logprobs(
    hidden: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    targets: Int[Tensor, "N"],
    *,
    bias: Float[Tensor, "V"] | None = None,
    temperature: float = 1.0,
    soft_cap: float | None = None,
    logit_scale: float = 1.0,
    chunk: int = 512,
) -> Float[Tensor, "N"]:
    """Log-probability of each target token, from the hidden state that predicts it.

        log p(y) = z_y − log Σ_v exp z_v,   z = cap(s · (W h + b)) / T,   cap(x) = c · tanh(x / c)

    Units: nats. The result is fp32, or fp64 for fp64 inputs; the factors of the matrix product have the inputs' type,
    or autocast's where that is on, and its result is fp32 at least. At most ``chunk`` rows of logits exist at a time,
    in the backward pass too, which computes them again; the chunk changes memory and time only. The soft cap is Gemma
    2's (arXiv:2408.00118, §2). The temperature divides last, as in sampling. Not twice differentiable.

    Raises ValueError for a temperature, soft cap or chunk that is not positive, IndexError or a device-side error for
    a target outside the vocabulary.
    """
    head = _Head(logit_scale, soft_cap, temperature).check()
    inputs = *_in_type(hidden, weight, bias), targets.long(), head, chunk
    logprobs: Tensor = _ChunkedLogprobs.apply(*inputs)  # type: ignore[no-untyped-call]
    return logprobs


def token_entropy(
    hidden: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    *,
    bias: Float[Tensor, "V"] | None = None,
    temperature: float = 1.0,
    soft_cap: float | None = None,
    logit_scale: float = 1.0,
    chunk: int = 512,
) -> Float[Tensor, "N"]:
    """Entropy of the distribution at each position; a metric, so without gradient.

        H = −Σ_v p_v log p_v,   p = softmax(z), z as in ``token_logprobs``

    Units: nats, between 0 and log V. Errors as in ``token_logprobs``.
    """
    head = _Head(logit_scale, soft_cap, temperature).check()
    with torch.no_grad():
        hidden, weight, bias = _in_type(hidden, weight, bias)
        entropy = hidden.new_empty(len(hidden), dtype=_at_least_fp32(hidden.dtype))
        for rows in _row_chunks(len(hidden), chunk):
            probabilities = head.logits(hidden[rows], weight, bias).softmax(-1)  # [chunk, V]
            # entr(0) is 0, where p · log p would be 0 · −∞ for a token that a bias of −∞ forbids.
            entropy[rows] = torch.special.entr(probabilities).sum(-1)
    return entropy


def segment_sum(values: Float[Tensor, "N"], segment: Int[Tensor, "N"], count: int) -> Float[Tensor, "C"]:
    """Sum the values of each segment: S_c = Σ_{n: segment(n)=c} v_n, for c in 0..count−1.

    A segment without values sums to 0: a completion whose every token is unscored. The order of values is free.
    """
    return values.new_zeros(count).index_add(0, segment, values)


def segment_mean(values: Float[Tensor, "N"], segment: Int[Tensor, "N"], count: int) -> Float[Tensor, "C"]:
    """Mean of each segment's values: S_c / n_c. A segment without values has mean 0, as its sum has."""
    sizes = segment_sum(torch.ones_like(values), segment, count)
    return segment_sum(values, segment, count) / sizes.clamp(min=1)


def kl_k1(logprobs: Float[Tensor, "N"], ref_logprobs: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """The plain estimator of KL(π‖π_ref) on tokens sampled from π.

        k1 = x,   x = log π − log π_ref

    Schulman 2020, "Approximating KL divergence". Unbiased, of either sign. It belongs in the reward; as a loss term on
    fresh samples its expected gradient is zero.
    """
    return logprobs - ref_logprobs


def kl_k2(
    logprobs: Float[Tensor, "N"], ref_logprobs: Float[Tensor, "N"], old_logprobs: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """The estimator of KL(π‖π_ref) whose expected gradient is that of the KL, on samples of π_old.

        k2 = sg(ρ) x² / 2,   ∇ k2 = ρ x ∇ log π,   x = log π − log π_ref,   ρ = exp(log π − log π_old)

    Schulman 2020, who has ρ = 1: fresh samples. Its value is biased, and ≥ 0. It belongs in the loss.
    """
    return 0.5 * (logprobs.detach() - old_logprobs).exp() * (logprobs - ref_logprobs).square()


def kl_k3(
    logprobs: Float[Tensor, "N"], ref_logprobs: Float[Tensor, "N"], old_logprobs: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """The estimator of KL(π‖π_ref) that is unbiased, never negative, and of small variance, times the ratio.

        k3 = ρ (e^{−x} − 1 + x),   x = log π − log π_ref,   ρ = exp(log π − log π_old)

    Schulman 2020. Without ρ its value is right and its gradient is that of another divergence, KL(π_ref‖π); with ρ the
    gradient of the expectation over samples of π_old is the KL's (DeepSeek-V3.2, arXiv:2512.02556).
    """
    x = logprobs - ref_logprobs
    return (logprobs - old_logprobs).exp() * (torch.expm1(-x) + x)
