"""Models from folders and to folders. Safetensors only; dtype and dropout are chosen here, and said."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from baro.errors import ConfigError
from baro.models.forward import ScoredModel

log = logging.getLogger("baro")
REWARD_HEAD = "reward_head.json"


@dataclass(frozen=True)
class Architecture:
    """The shape of a new Llama-style model for ``baro base``."""

    hidden_size: int
    layers: int
    heads: int
    max_positions: int
    intermediate_size: int


def new_policy(
    architecture: Architecture, *, vocabulary: int, special: Mapping[str, int | None], seed: int
) -> ScoredModel:
    """A randomly initialised causal LM with tied embeddings. ``special`` holds bos, eos and pad ids."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        max_position_embeddings=architecture.max_positions,
        tie_word_embeddings=True,
        bos_token_id=special.get("bos"),
        eos_token_id=special.get("eos"),
        pad_token_id=special.get("pad"),
    )
    return ScoredModel(LlamaForCausalLM(config))


def load_policy(folder: str | Path) -> ScoredModel:
    """A causal LM as policy or reference, in fp32 and without dropout."""
    return ScoredModel(_load(AutoModelForCausalLM, folder))


def load_scalar_model(folder: str | Path) -> ScoredModel:
    """A trained reward or value model: a sequence-classification folder with one label, and its bias beside it."""
    extra = Path(folder) / REWARD_HEAD
    if not extra.exists():
        raise ConfigError(f"{folder}: is no reward model ({REWARD_HEAD} is missing); train one with `baro reward`")
    settings = json.loads(extra.read_text())
    return ScoredModel(_load(AutoModelForSequenceClassification, folder), score_bias=settings["score_bias"])


def new_scalar_model(folder: str | Path, *, seed: int) -> ScoredModel:
    """A scalar model on any decoder backbone with a fresh linear head, N(0, 1/√(H+1)).

    Huang et al. 2024, arXiv:2403.17031, detail 10.
    """
    model = _load(AutoModelForSequenceClassification, folder, num_labels=1)
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"{folder}: {type(model).__name__} has no linear head 'score'; use a decoder")
    generator = torch.Generator().manual_seed(seed)
    std = 1.0 / math.sqrt(head.in_features + 1)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * std)
    return ScoredModel(model)


def save_policy(model: ScoredModel, folder: Path) -> None:
    """A plain Hugging Face folder that ``AutoModelForCausalLM`` loads."""
    model.model.save_pretrained(folder)


def save_scalar_model(model: ScoredModel, folder: Path) -> None:
    """A plain sequence-classification folder; the bias, which Hugging Face heads do not have, stands beside it."""
    model.model.save_pretrained(folder)
    (folder / REWARD_HEAD).write_text(json.dumps({"score_bias": float(model.score_bias), "pooling": "last"}, indent=1))


def _load(loader: type, folder: str | Path, **changes: Any) -> PreTrainedModel:
    check_folder(folder)
    loading = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a fresh head is no surprise to us
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, **changes)
        dropped = _without_dropout(config)
        model = loader.from_pretrained(folder, config=config, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, SafetensorError) as error:  # what the libraries raise for damaged files
        raise ConfigError(f"{folder}: the model cannot be loaded ({error}); save or copy it again") from error
    finally:
        transformers_logging.set_verbosity(loading)
    log.info("%s: %s, fp32%s", folder, type(model).__name__, f", dropout off ({', '.join(dropped)})" if dropped else "")
    return model.eval()


def _without_dropout(config: PretrainedConfig) -> list[str]:
    """Siblings share their prompt's computation, and old log-probs are compared with new ones: no noise allowed."""
    names = [n for n, v in vars(config).items() if ("dropout" in n or "pdrop" in n) and isinstance(v, float) and v > 0]
    for name in names:
        setattr(config, name, 0.0)
    return names


def check_folder(folder: str | Path) -> None:
    """A local model folder has a config and safetensors weights; a name without a folder is left to the hub."""
    path = Path(folder)
    if not path.exists():
        if path.is_absolute() or str(folder).startswith(".") or str(folder).count("/") != 1:
            raise ConfigError(f"{folder}: no such model folder; give a run, a folder, or a hub id like owner/name")
        return
    if not path.is_dir():
        raise ConfigError(f"{folder}: is a file; a model is a folder with config.json and *.safetensors")
    if not any(path.iterdir()):
        raise ConfigError(f"{folder}: the model folder is empty; it needs config.json, *.safetensors and a tokenizer")
    if not (path / "config.json").exists():
        raise ConfigError(f"{folder}: config.json is missing; a model folder is what save_pretrained writes")
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        if pickled:
            raise ConfigError(
                f"{folder}: only pickled weights ({pickled[0]}), which can run code when loaded; "
                "convert them with save_pretrained(..., safe_serialization=True)"
            )
        raise ConfigError(f"{folder}: no *.safetensors weights in the folder; copy all of it, or save it again")
