"""What tokenizers put in front of a text by themselves, and how to stop them."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase


def bos_in_front(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The BOS that the tokenizer itself puts in front of a text; what it does not, the model never saw."""
    bos = tokenizer.bos_token_id
    return bos if bos is not None and tokenizer("a").input_ids[:1] == [bos] else None


def without_prefix_space(backend: Tokenizer) -> Tokenizer:
    """The same tokenizer for text in the middle of a text: no space or '▁' is put in front."""
    layout = json.loads(backend.to_str())

    def strip(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        if part.get("type") == "Sequence":
            key = "normalizers" if "normalizers" in part else "pretokenizers"
            kept = [strip(one) for one in part[key]]
            return {**part, key: [one for one in kept if one is not None]}
        if part.get("type") == "Prepend":
            return None
        if part.get("type") == "Metaspace":
            return {**part, "prepend_scheme": "never"}
        return {**part, "add_prefix_space": False} if "add_prefix_space" in part else part

    return Tokenizer.from_str(
        json.dumps({**layout, **{name: strip(layout[name]) for name in ("normalizer", "pre_tokenizer")}})
    )
