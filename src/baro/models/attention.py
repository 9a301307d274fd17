"""The attention that we register with transformers, for decoding in slots on a model's own live weights.

A slot is one running sequence: a row of the preallocated keys and values of every layer. While ``decoding`` is active,
a model whose attention implementation is ``NAME`` writes what it computes into the slots and, token by token, attends
to them. Outside of it the same name is ordinary sdpa, masks included, so a model left with it is never silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from baro.errors import ConfigError

NAME = "baro"

# What a layer may hand to its attention function that changes the result and that the slots do not compute.
UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")


class SlotCache:
    """Keys and values of ``rows`` running sequences of at most ``length`` tokens, [rows, kv_heads, length, d] a layer.

    A layer's storage is made when its attention is first called, in the shape of the keys that it gets. It starts as
    zeros, since a masked column still enters the sum as 0 times its value, and NaN × 0 is NaN.
    """

    def __init__(self, rows: int, length: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.rows, self.length = rows, length
        self.layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.least = torch.finfo(dtype).min
        self.mask = torch.full((rows, 1, 1, length), self.least, dtype=dtype, device=device)
        self.active, self.width = 0, 0
        self.prefilled: tuple[slice, Int[Tensor, "m"]] | None = None
        self.positions: Int[Tensor, "n"] = torch.zeros(0, dtype=torch.long, device=device)
        self._targets: dict[int, Tensor] = {}

    def begin_prefill(self, rows: slice, source: Int[Tensor, "m"], lengths: Int[Tensor, "m"]) -> None:
        """The next forward computes prompts, right-padded; slot ``rows``[i] takes the keys of its row ``source``[i].

        ``lengths`` are the prompts' real lengths, one per slot: what lies after them stays masked until written.
        """
        columns = torch.arange(self.length, device=lengths.device)
        unseen = (columns >= lengths[:, None])[:, None, None]  # [m, 1, 1, L]
        self.mask[rows] = self.mask.new_zeros(unseen.shape).masked_fill_(unseen, self.least)
        self.prefilled = rows, source

    def begin_decode(self, positions: Int[Tensor, "n"], width: int) -> None:
        """The next forward computes one token in each of the first n slots; ``width`` is the largest position + 1."""
        self.prefilled = None
        self.active, self.width, self.positions = len(positions), width, positions
        self.mask[torch.arange(self.active, device=positions.device), 0, 0, positions] = 0.0
        self._targets.clear()

    def copy(self, source: Int[Tensor, "m"], target: Int[Tensor, "m"], width: int) -> None:
        """Copy the first ``width`` columns of slots to other slots."""
        self.mask[target] = self.mask[source]
        for keys, values in self.layers.values():
            keys[target, :, :width] = keys[source, :, :width]
            values[target, :, :width] = values[source, :, :width]

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """One layer's attention: [rows, heads, tokens, d] in, [rows, tokens, heads, d] out."""
        if self.prefilled is None:
            return self._decode(self.layers[module], query, key, value, kwargs.get("scaling")), None
        _refuse_unsupported(module, kwargs)
        rows, source = self.prefilled
        keys, values = self._storage(module, key, value)
        keys[rows, :, : key.shape[2]] = key[source]
        values[rows, :, : value.shape[2]] = value[source]
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    def _storage(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if module not in self.layers:
            keys = key.new_zeros(self.rows, key.shape[1], self.length, key.shape[3])
            values = value.new_zeros(self.rows, value.shape[1], self.length, value.shape[3])
            self.layers[module] = keys, values
        return self.layers[module]

    def _decode(
        self, storage: tuple[Tensor, Tensor], query: Tensor, key: Tensor, value: Tensor, scaling: float | None
    ) -> Tensor:
        """Write one token per slot, then attend to everything that the slot holds."""
        keys, values = storage
        n, heads, _, size = query.shape
        groups = keys.shape[1]
        target = self._flat_positions(groups)
        keys.view(-1, size)[target] = key.reshape(-1, size)
        values.view(-1, values.shape[3])[target] = value.reshape(-1, values.shape[3])
        # Heads that share keys become rows of one query, so that no key is copied for them.
        output = nn.functional.scaled_dot_product_attention(
            query.reshape(n, groups, heads // groups, size),
            keys[:n, :, : self.width],
            values[:n, :, : self.width],
            attn_mask=self.mask[:n, :, :, : self.width],
            scale=scaling,
        )
        return output.reshape(n, 1, heads, values.shape[3])

    def _flat_positions(self, groups: int) -> Int[Tensor, "n_groups"]:
        """Where the new tokens go in storage seen as [rows * kv_heads * length, d]; the same for every layer."""
        if groups not in self._targets:
            row = torch.arange(self.active * groups, device=self.positions.device).view(self.active, groups)
            self._targets[groups] = (row * self.length + self.positions[:, None]).view(-1)
        return self._targets[groups]


_active: ContextVar[SlotCache | None] = ContextVar("baro_slots", default=None)


def slot_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """What transformers calls: decoding in slots inside ``decoding``, plain sdpa elsewhere."""
    cache = _active.get()
    if cache is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return cache.attend(module, query, key, value, attention_mask, **kwargs)


def slot_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask that transformers makes for us: none while the slots' own mask counts, the sdpa one elsewhere.

    Without this entry transformers would make no mask at all for our name, and padded calls would be wrong.
    """
    return None if _active.get() is not None else sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, slot_attention)
AttentionMaskInterface.register(NAME, slot_mask)


@contextmanager
def decoding(model: PreTrainedModel, cache: SlotCache) -> Iterator[None]:
    """Let the model's attention read and write ``cache``; its own attention implementation comes back afterwards."""
    previous = model.config._attn_implementation
    token = _active.set(cache)
    try:
        _switch(model, NAME)
        yield
    finally:
        _active.reset(token)
        _switch(model, previous)


def _switch(model: PreTrainedModel, implementation: str) -> None:
    model.set_attn_implementation(implementation)
    if model.config._attn_implementation != implementation:  # transformers only logs a warning
        raise ConfigError(
            f"{type(model).__name__} does not let its attention be replaced, so Baro cannot sample from it"
        )


def refusal(config: Any) -> str | None:
    """Why the slots cannot compute this architecture's attention, as the end of a sentence; None if they can.

    ``config`` is the text config of a Hugging Face model.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    rope = getattr(config, "rope_parameters", None) or {}
    reasons = {
        f"its layers are of the kinds {', '.join(sorted(map(str, kinds)))}": kinds,
        f"its attention has a sliding window of {getattr(config, 'sliding_window', None)} tokens": (
            getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        ),
        "its attention scores have a soft cap": getattr(config, "attn_logit_softcapping", None),
        "it uses ALiBi positions": getattr(config, "alibi", False),
        "it is an encoder-decoder": getattr(config, "is_encoder_decoder", False),
        "its attention is not causal": not getattr(config, "is_causal", True),
        f"its rotary positions ({rope.get('rope_type')}) change with the length": (
            rope.get("rope_type") in ("dynamic", "longrope")
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _refuse_unsupported(module: nn.Module, kwargs: dict[str, Any]) -> None:
    """A layer may ask for more than its config says."""
    asked = [name for name in UNSUPPORTED if kwargs.get(name) is not None]
    if asked or not getattr(module, "is_causal", True):
        wish = " and ".join(asked) or "attention that is not causal"
        raise ConfigError(f"{type(module).__name__} asks for {wish}, which Baro's sampler does not compute")
