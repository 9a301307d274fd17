"""How a scalar model's hidden states become scores: pooling, head, squashing, weighted criteria.

    r_c = b + Σ_k w_k · squash(head(pool of the hidden states of completion c))_k

Stored beside the model in reward_head.json; a head that is not Hugging Face's own in reward_head.safetensors.
Shapes: R rows, T columns, C completions, H hidden, K criteria.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from baro.batch import GroupBatch
from baro.functional.streams import stream_key

Pooling = Literal["last", "mean", "max", "first"]
HeadKind = Literal["linear", "ffn"]
Role = Literal["policy", "reward_model", "value_model", "cost_value_model"]
"""What a model is in a run: new weights of two roles never come from the same numbers."""


@dataclass(frozen=True)
class Scoring:
    """What stands between the head and a score.

    pooling: last reads at the completion's end-of-turn token (its last token where it has none), mean and max over the
    completion's own tokens up to there, first (encoders) at the row's first token. sigmoid squashes each criterion into
    0..1. criteria: their names and weights; one of weight 1 unless several were learned. cost:
    the score is a cost, above 0 where a completion is unsafe, so that less is better.
    """

    pooling: Pooling = "last"
    sigmoid: bool = False
    criteria: Mapping[str, float] = field(default_factory=lambda: {"score": 1.0})
    cost: bool = False

    @property
    def plain(self) -> bool:
        """Whether a score is nothing but a linear reading of one hidden state: what a value model starts from."""
        return self.pooling == "last" and not self.sigmoid and list(self.criteria.values()) == [1.0]


@dataclass(frozen=True)
class Measured:
    """Mean and sd of a reward model's scores, and on how many completions of which rows; ``sha256`` is of their tokens.

    Two models that were measured on the same rows can be put in one ensemble.
    """

    mean: float
    sd: float
    completions: int
    sha256: str


def new_head(kind: HeadKind, hidden_size: int, outputs: int) -> nn.Module:
    """A linear layer, or a feed-forward one of the trunk's width in front of it."""
    last = nn.Linear(hidden_size, outputs)
    return last if kind == "linear" else nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), last)


@torch.no_grad()
def initialise(head: nn.Module, seed: int, role: Role) -> None:
    """Weights from N(0, 1/(H+1)), biases 0: Huang et al. 2024, arXiv:2403.17031, detail 10."""
    generator = torch.Generator().manual_seed(stream_key("head", seed, role))
    for layer in (module for module in head.modules() if isinstance(module, nn.Linear)):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / (layer.in_features + 1) ** 0.5)
        if layer.bias is not None:
            layer.bias.zero_()


def pooled(hidden: Float[Tensor, "RT H"], batch: GroupBatch, pooling: Pooling) -> Float[Tensor, "C H"]:
    """One hidden state per completion. A completion without a token of its own reads the prompt's last."""
    if pooling == "last":
        return hidden[batch.last_at]
    if pooling == "first":
        width = batch.input_ids.shape[1]
        return hidden[batch.last_at // width * width]
    at, of = own_columns(batch)
    states = hidden[at].to(torch.promote_types(hidden.dtype, torch.float32))  # [M, H]
    counts = torch.bincount(of, minlength=len(batch.group_of))[:, None]
    found = states.new_zeros(len(batch.group_of), states.shape[1])
    if pooling == "mean":
        found = found.index_add(0, of, states) / counts.clamp(min=1)
    else:
        found = found.scatter_reduce(0, of[:, None].expand_as(states), states, "amax", include_self=False)
    return torch.where(counts > 0, found, hidden[batch.last_at].to(found.dtype))


def own_columns(batch: GroupBatch) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
    """The flat columns of all completions' own tokens up to each ``last_at``, and which completion each is of."""
    rows, width = batch.input_ids.shape
    first = torch.searchsorted(batch.last_at // width, torch.arange(rows, device=batch.last_at.device))
    at = (batch.branch.flatten() > 0).nonzero().squeeze(-1)
    of = first[at // width] + batch.branch.flatten()[at] - 1  # numbered by row and branch
    kept = at <= batch.last_at[of]
    return at[kept], of[kept]
