"""The attention that we register with transformers, for decoding in slots on a model's own live weights.

A slot is one running sequence: a row of the preallocated keys and values of every layer. While ``decoding`` is active,
a model whose attention implementation is ``NAME`` writes what it computes into the slots and, token by token, attends
to them. Outside of it the same name is ordinary sdpa, masks included, so a model left with it is never silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
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
UNSUPPORTED = ("s_aux", "position_bias")
SOFT_CAP = "attn_logit_softcapping"
SLIDING = "sliding_attention"
Windows = dict[str, int | None]


class SlotCache:
    """Keys and values of ``rows`` running sequences of at most ``length`` tokens, [rows, kv_heads, length, d] a layer.

    A layer's storage is made when its attention is first called, in the shape of the keys that it gets. It starts as
    zeros, since a masked column still enters the sum as 0 times its value, and NaN × 0 is NaN. ``windows`` are those of
    the model (see ``windows``): a slot's columns are positions, and every window has a mask of its own.
    """

    def __init__(self, rows: int, length: int, *, windows: Windows, dtype: torch.dtype, device: torch.device) -> None:
        self.rows, self.length, self.windows = rows, length, windows
        self.layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.least = torch.finfo(dtype).min
        shape = (rows, 1, 1, length)
        self.masks = {kind: torch.full(shape, self.least, dtype=dtype, device=device) for kind in windows}
        self.active, self.width = 0, 0
        self.prefilled: tuple[slice, Int[Tensor, "m"]] | None = None
        self.positions: Int[Tensor, "n"] = torch.zeros(0, dtype=torch.long, device=device)
        self._targets: dict[int, Tensor] = {}

    def begin_prefill(self, rows: slice, source: Int[Tensor, "m"], lengths: Int[Tensor, "m"]) -> None:
        """The next forward computes prompts, right-padded; slot ``rows``[i] takes the keys of its row ``source``[i].

        ``lengths`` are the prompts' real lengths, one per slot: what lies after them stays masked until written.
        """
        columns = torch.arange(self.length, device=lengths.device)
        for kind, window in self.windows.items():
            unseen = columns >= lengths[:, None]  # [m, L]
            if window is not None:
                unseen |= columns < lengths[:, None] - window
            mask = self.masks[kind]
            mask[rows] = mask.new_zeros(len(lengths), 1, 1, self.length).masked_fill_(unseen[:, None, None], self.least)
        self.prefilled = rows, source

    def begin_decode(self, positions: Int[Tensor, "n"], width: int) -> Tensor | dict[str, Tensor]:
        """The next forward computes one token in each of the first n slots; ``width`` is the largest position + 1.

        Gives the masks [n, 1, 1, width] that the model is to be called with.
        """
        self.prefilled = None
        self.active, self.width, self.positions = len(positions), width, positions
        row = torch.arange(self.active, device=positions.device)
        for kind, window in self.windows.items():
            self.masks[kind][row, 0, 0, positions] = 0.0
            if window is not None:
                left = positions >= window
                self.masks[kind][row[left], 0, 0, positions[left] - window] = self.least
        self._targets.clear()
        return as_model_takes({kind: mask[: self.active, :, :, :width] for kind, mask in self.masks.items()})

    def copy(self, source: Int[Tensor, "m"], target: Int[Tensor, "m"], width: int) -> None:
        """Copy the first ``width`` columns of slots to other slots."""
        for mask in self.masks.values():
            mask[target] = mask[source]
        for keys, values in self.layers.values():
            keys[target, :, :width] = keys[source, :, :width]
            values[target, :, :width] = values[source, :, :width]

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """One layer's attention: [rows, heads, tokens, d] in, [rows, tokens, heads, d] out."""
        if self.prefilled is None:
            return self._decode(self.layers[module], query, key, value, mask, **kwargs), None
        _refuse_unsupported(module, kwargs)
        rows, source = self.prefilled
        keys, values = self._storage(module, key, value)
        keys[rows, :, : key.shape[2]] = key[source]
        values[rows, :, : value.shape[2]] = value[source]
        return plain_attention(module, query, key, value, mask, **kwargs)

    def _storage(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if module not in self.layers:
            keys = key.new_zeros(self.rows, key.shape[1], self.length, key.shape[3])
            values = value.new_zeros(self.rows, value.shape[1], self.length, value.shape[3])
            self.layers[module] = keys, values
        return self.layers[module]

    def _decode(
        self,
        storage: tuple[Tensor, Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        *,
        scaling: float | None = None,
        softcap: float | None = None,
        **_: Any,
    ) -> Tensor:
        """Write one token per slot, then attend to everything that the slot holds."""
        keys, values = storage
        n, heads, _one, size = query.shape
        groups = keys.shape[1]
        target = self._flat_positions(groups)
        keys.view(-1, size)[target] = key.reshape(-1, size)
        values.view(-1, values.shape[3])[target] = value.reshape(-1, values.shape[3])
        keys, values = keys[:n, :, : self.width], values[:n, :, : self.width]
        if softcap is not None:
            return capped_attention(query, keys, values, mask, scaling, softcap)
        # Heads that share keys become rows of one query, so that no key is copied for them.
        query = query.reshape(n, groups, heads // groups, size)
        output = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
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
        return plain_attention(module, query, key, value, attention_mask, **kwargs)
    return cache.attend(module, query, key, value, attention_mask, **kwargs)


def plain_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' sdpa, and what it does not compute: scores with a soft cap."""
    if kwargs.get("softcap") is None:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    if mask is None and query.shape[2] > 1:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[None, None]
    return capped_attention(query, key, value, mask, kwargs.get("scaling"), kwargs["softcap"]), None


def capped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float
) -> Tensor:
    """softmax(c · tanh(s · q kᵀ / c) + mask) v, [rows, tokens, heads, d]; Gemma 2's (arXiv:2408.00118, §2).

    ``mask`` [rows or 1, 1, tokens, keys] is added, or where it is bool says what is seen. Heads that share keys become
    rows of one matrix.
    """
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    query = query.reshape(rows, groups, -1, size) * (size**-0.5 if scaling is None else scaling)
    scores = query @ key.transpose(2, 3)  # [rows, groups, heads / groups * tokens, keys]
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.view(rows, groups, heads // groups, tokens, -1)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask[:, :, None], torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask[:, :, None]
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    output = weights.flatten(2, 3) @ value
    return output.view(rows, heads, tokens, -1).transpose(1, 2)


def slot_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask that transformers makes for our name: sdpa's. While slots decode, they bring their own.

    Without this entry transformers would make no mask at all for our name, and padded calls would be wrong.
    """
    cache = _active.get()
    return None if cache is not None and cache.prefilled is None else sdpa_mask(*args, **kwargs)


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


def settle_attention(model: PreTrainedModel) -> None:
    """Take a model whose scores have a soft cap off sdpa, which does not compute it, and onto its own eager attention.

    transformers 5.17 gives such a model sdpa and drops the cap without a word; 5.23 gives it eager attention itself.
    """
    capped = getattr(model.config.get_text_config(), SOFT_CAP, None) is not None
    if capped and model.config._attn_implementation == "sdpa":
        _switch(model, "eager")


def _switch(model: PreTrainedModel, implementation: str) -> None:
    model.set_attn_implementation(implementation)
    if model.config._attn_implementation != implementation:  # transformers only logs a warning
        raise ConfigError(f"{type(model).__name__} does not let its attention be replaced")


def windows(config: Any) -> Windows:
    """How many positions back each kind of a model's layers sees, by transformers' name of the kind; None is all.

    The only kind of a model whose layers are alike has the name "". ``config`` is a text config.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if SLIDING in kinds:
        return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}
    return {"": None if kinds else window}


def as_model_takes(masks: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """One 4-D mask, or a dict by kind of layer; transformers passes either on as it is."""
    return masks.get("", masks)


def branching_obstacle(model: PreTrainedModel) -> str | None:
    """Why completions cannot share a row behind their prompt, as the end of a sentence; None if they can."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", SLIDING}
    reasons = {
        "its layers carry a state from token to token": getattr(model, "_is_stateful", False),
        f"its layers are of the kinds {', '.join(sorted(map(str, kinds)))}": kinds,
        "it uses ALiBi positions": getattr(config, "alibi", False),
        "it takes no positions": not takes_positions(model),
        "its attention is not causal": (
            not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False)
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def decoding_obstacle(model: PreTrainedModel) -> str | None:
    """Why this model cannot decode in slots, as the end of a sentence; None if it can, as far as can be seen."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        return f"its rotary positions ({rope['rope_type']}) change with the length"
    if reason := branching_obstacle(model):
        return reason
    return None if model._supports_attention_backend else "its attention cannot be replaced"


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether the trunk can be told the position of each token."""
    return "position_ids" in signature(model.base_model.forward).parameters


def _refuse_unsupported(module: nn.Module, kwargs: dict[str, Any]) -> None:
    """A layer may ask for more than its config says."""
    asked = [name for name in UNSUPPORTED if kwargs.get(name) is not None]
    if asked or not getattr(module, "is_causal", True):
        wish = " and ".join(asked) or "attention that is not causal"
        raise ConfigError(f"{type(module).__name__} asks for {wish}")
