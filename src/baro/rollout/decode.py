"""The forwards of sampling: prompts into slots, one token more in each slot, and whole sequences without a cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baro.errors import ConfigError, GuardStop
from baro.models.attention import SlotCache, decoding, windows
from baro.records import Completion, SamplingParams
from baro.rollout.sampling import draw

if TYPE_CHECKING:
    from baro.models.forward import ScoredModel


CACHE_SHARE = 0.25
"""Of the device's memory, that the slots of a call may take."""
MOST_SLOTS = {"cpu": 64, "cuda": 512}
"""More at once save nothing: two cores are busy with 64, and the last sequences run alone in any case."""


def fitting_slots(model: ScoredModel, length: int) -> int:
    """How many sequences of ``length`` tokens are sampled at once: what ``CACHE_SHARE`` of the memory holds.

    Of all memory and not of what is free just now, so that a run that is resumed computes what it would have.
    """
    kind = model.device.type
    memory = torch.cuda.get_device_properties(model.device).total_memory if kind == "cuda" else physical_memory()
    return max(1, min(MOST_SLOTS.get(kind, 64), int(CACHE_SHARE * memory / slot_bytes(model, length))))


def slot_bytes(model: ScoredModel, length: int) -> int:
    """Keys and values of one sequence in all layers."""
    config = model.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * length * model.compute_dtype.itemsize)


def physical_memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def slot_cache(model: ScoredModel, rows: int, length: int) -> SlotCache:
    """Empty slots in the model's shapes, windows and type."""
    of_layers = windows(model.model.config.get_text_config())
    return SlotCache(rows, length, windows=of_layers, dtype=model.compute_dtype, device=model.device)


def prefill(model: ScoredModel, prompts: Sequence[Sequence[int]], device: torch.device) -> Float[Tensor, "B V"]:
    """Logits of the token after each prompt. Right-padded: under a causal mask what comes later is not seen."""
    lengths = [len(prompt) for prompt in prompts]
    width = max(lengths)
    rows = [[*prompt, *[prompt[-1]] * (width - len(prompt))] for prompt in prompts]
    ids = torch.tensor(rows, device=device)
    hidden = model.states(ids, torch.arange(width, device=device)[None].expand_as(ids), None)  # [B, T, H]
    last = torch.tensor(lengths, device=device) - 1
    return model.logits(hidden[torch.arange(len(rows), device=device), last])


def decode(
    model: ScoredModel, tokens: Int[Tensor, "n"], positions: Int[Tensor, "n"], mask: Tensor | dict[str, Tensor]
) -> Float[Tensor, "n V"]:
    """Logits after one more token per slot; the attention finds the rest in the slots."""
    return model.logits(model.states(tokens[:, None], positions[:, None], mask)[:, 0])


def recompute(
    model: ScoredModel,
    ids: Int[Tensor, "n T"],
    uniforms: Float[Tensor, "n U"],
    params: SamplingParams,
    end_ids: frozenset[int],
) -> list[Completion]:
    """One completion of each row by the model's own forward of the whole row per token; rows that are done leave."""
    drawn: list[tuple[list[int], list[float]]] = [([], []) for _ in ids]
    running = list(range(len(ids)))
    for t in range(params.max_new_tokens):
        logits = model.own_logits(ids)[:, -1]
        tokens, logprobs = draw(logits, uniforms[running, t], params)
        if logprobs.isnan().any():
            raise GuardStop("the policy's logits are not finite while sampling; look at its weights and learning rate")
        for row, token, logprob in zip(running, tokens.tolist(), logprobs.tolist(), strict=True):
            drawn[row][0].append(token)
            drawn[row][1].append(logprob)
        staying = [i for i, token in enumerate(tokens.tolist()) if token not in end_ids]
        running = [running[i] for i in staying]
        ids = torch.cat([ids, tokens[:, None]], 1)[staying]
        if not running:
            break
    return [Completion(tuple(tokens), tuple(logprobs), tokens[-1] in end_ids) for tokens, logprobs in drawn]


def decoding_fault(model: ScoredModel) -> str | None:
    """Decode a few made-up tokens in a slot and compare with the plain forward: what is wrong, None if nothing is.

    An architecture whose attention, positions or head are not what we think is found out here, not sampled wrongly.
    """
    device = model.device
    config = model.model.config.get_text_config()
    ids = [(7 * i + 1) % config.vocab_size for i in range(6)]
    expected = model.own_logits(torch.tensor([ids], device=device))[0, 2:]
    cache = slot_cache(model, 1, len(ids))
    try:
        with decoding(model.model, cache):
            cache.begin_prefill(slice(0, 1), torch.tensor([0], device=device), torch.tensor([3], device=device))
            found = [prefill(model, [ids[:3]], device)]
            for i in range(3, len(ids)):
                position = torch.tensor([i], device=device)
                mask = cache.begin_decode(position, i + 1)
                found.append(decode(model, torch.tensor([ids[i]], device=device), position, mask))
    except ConfigError as error:
        return str(error)
    allowed = 1e-3 if model.compute_dtype in (torch.float32, torch.float64) else 5e-2
    difference = (torch.cat(found) - expected).abs().max() / (expected.max() - expected.min())
    if difference > allowed:
        return f"its logits would differ from its own forward's by {difference:.2g} of their range"
    return None
