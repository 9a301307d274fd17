"""Models from folders and to folders. Safetensors only; dtype and dropout are chosen here, and said."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.utils import logging as transformers_logging

from baro.compute import ComputeConfig, LoraConfig
from baro.errors import ConfigError
from baro.functional.streams import stream_key
from baro.models.folders import (
    HEAD_WEIGHTS,
    REWARD_HEAD,
    check_causal,
    check_single,
    check_whole,
    is_encoder,
    local,
    model_config,
    name_beside,
    own_code,
    unreadable,
)
from baro.models.forward import ScoredModel
from baro.models.heads import HeadKind, Measured, Role, Scoring, initialise, new_head
from baro.models.lora import adapted, add_adapter, merged
from baro.models.place import AUTO, placed

log = logging.getLogger("baro")


@dataclass(frozen=True)
class Architecture:
    """The shape of a new Llama-style model for ``baro base``."""

    hidden_size: int
    layers: int
    heads: int
    max_positions: int
    intermediate_size: int


def new_policy(
    architecture: Architecture,
    *,
    vocabulary: int,
    special: Mapping[str, int | None],
    seed: int,
    compute: ComputeConfig = AUTO,
) -> ScoredModel:
    """A randomly initialised causal LM with tied embeddings. ``special`` holds bos, eos and pad ids."""
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
    with torch.random.fork_rng():
        torch.manual_seed(stream_key("model", seed))
        model = LlamaForCausalLM(config)
    return placed(ScoredModel(model), compute)


def load_policy(
    folder: str | Path, *, compute: ComputeConfig = AUTO, lora: LoraConfig | None = None, seed: int = 0
) -> ScoredModel:
    """A causal LM as policy or reference, with fp32 weights and without dropout; with ``lora``, adapters to train."""
    check_causal(folder)
    policy = ScoredModel(_load(AutoModelForCausalLM, folder))
    if lora is not None:
        add_adapter(policy, lora, seed=seed, role="policy")
    return placed(policy, compute)


def load_scalar_model(folder: str | Path, *, compute: ComputeConfig = AUTO) -> ScoredModel:
    """A reward or value model: its folder, and beside the weights how scores are made of hidden states.

    A sequence-classification model of another tool with one label is read as it is: the state of the last end-of-turn
    token, bias 0.
    """
    path = local(folder)
    settings = head_settings(path) if (path / REWARD_HEAD).exists() else _plain_settings(folder)
    model = load_backbone(folder, own_head=(path / HEAD_WEIGHTS).exists())
    head = read_head(path, settings, model.config.hidden_size)
    bias, encoder = settings["score_bias"], is_encoder(folder)
    scored = ScoredModel(model, head=head, score_bias=bias, bidirectional=encoder, scoring=scoring_of(settings))
    scored.measured = measured_of(settings)
    return placed(scored, compute)


def load_backbone(folder: str | Path, *, own_head: bool) -> PreTrainedModel:
    """What a scalar model's head stands on: the bare trunk where the head is our own, else Hugging Face's with it."""
    return _load_trunk(folder) if own_head else _load(AutoModelForSequenceClassification, folder)


def read_head(path: Path, settings: Mapping[str, Any], hidden_size: int) -> nn.Module | None:
    """A head of our own from a folder; None where there is none."""
    weights = path / HEAD_WEIGHTS
    if not weights.exists():
        return None
    head = new_head(settings["head"], hidden_size, len(settings["criteria"]))
    try:
        saved = load_file(weights)
        if isinstance(head, nn.Linear) and "bias" not in saved:
            head.register_parameter("bias", None)
        head.load_state_dict(saved)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{weights}: does not fit {REWARD_HEAD} beside it ({error}); copy the run again") from error
    return head


def scoring_of(settings: Mapping[str, Any]) -> Scoring:
    """What reward_head.json says of the way from the head to the score."""
    return Scoring(settings["pooling"], settings["sigmoid"], settings["criteria"], settings["cost"])


def measured_of(settings: Mapping[str, Any]) -> Measured | None:
    """What reward_head.json says of the scores' mean and sd; None of a value model, or of another tool's model."""
    return Measured(**settings["measured"]) if settings.get("measured") else None


def head_settings(folder: Path) -> dict[str, Any]:
    path = folder / REWARD_HEAD
    try:
        settings: dict[str, Any] = json.loads(path.read_bytes())
        missing = {"score_bias", "pooling", "sigmoid", "criteria", "cost", "head"} - settings.keys()
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); copy the run again") from error
    if missing:
        raise ConfigError(f"{path}: {', '.join(sorted(missing))} is missing; train the model again with `baro reward`")
    return settings


def _plain_settings(folder: str | Path) -> dict[str, Any]:
    """What holds for a sequence-classification model that was trained elsewhere."""
    config = model_config(folder)
    kind = next(iter(config.architectures or []), "of no known kind")
    if not kind.endswith("ForSequenceClassification"):
        raise ConfigError(
            f"{folder}: is no reward model ({kind}, and {REWARD_HEAD} is missing); train one with `baro reward`"
        )
    if config.num_labels != 1:
        raise ConfigError(f"{folder}: {kind} has {config.num_labels} labels, and a reward model has one score")
    if is_encoder(folder):
        raise ConfigError(
            f"{folder}: {kind} is an encoder with a head that Baro does not read; train one with `baro reward`"
        )
    log.info("%s: %s of another tool; its score is read at the last end-of-turn token, bias 0", folder, kind)
    return {**asdict(Scoring()), "score_bias": 0.0}


def new_scalar_model(
    folder: str | Path,
    *,
    seed: int,
    scoring: Scoring | None = None,
    head: HeadKind = "linear",
    role: Role = "reward_model",
) -> ScoredModel:
    """A scalar model on any decoder or encoder backbone with a fresh head, drawn for ``role`` from ``seed``.

    A linear head on a decoder is the sequence-classification model's own; any other stands beside the bare trunk.
    """
    scoring = scoring or Scoring()
    if is_encoder(folder) or head != "linear":
        model = _load_trunk(folder)
        own = new_head(head, model.config.hidden_size, len(scoring.criteria))
        initialise(own, seed, role)
        return placed(ScoredModel(model, head=own, bidirectional=is_encoder(folder), scoring=scoring))
    count = len(scoring.criteria)
    model = _load(AutoModelForSequenceClassification, folder, fresh=("score.",), num_labels=count)
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear):
        raise ConfigError(f"{folder}: {type(model).__name__} has no linear head 'score'; use a decoder, or head: ffn")
    initialise(score, seed, role)
    return placed(ScoredModel(model, scoring=scoring))


def load_value_model(folder: str | Path, *, seed: int, role: Role = "value_model") -> ScoredModel:
    """Where a value model starts from a reward or value model: its trunk, and its head if that reads one state as is.

    A value is read at every token and may be any number, so a pooled, squashed or weighted head is replaced by a fresh
    linear one. Raises ConfigError for an encoder, whose states at a token know the tokens after it.
    """
    if is_encoder(folder):
        raise ConfigError(f"{folder}: is an encoder, which sees the whole answer at every token; a value model cannot")
    model = load_scalar_model(folder)
    if model.scoring.plain:
        return model
    head = new_head("linear", model.hidden_size, 1)
    initialise(head, seed, role)
    return placed(ScoredModel(model.trunk, head=head))


def save_policy(model: ScoredModel, folder: Path) -> None:
    """A plain Hugging Face folder that ``AutoModelForCausalLM`` loads; adapters are merged into it."""
    _save_plain(model, folder)


def _save_plain(model: ScoredModel, folder: Path) -> None:
    if not adapted(model):
        model.model.save_pretrained(folder)
        return
    with merged(model) as state:
        model.model.save_pretrained(folder, state_dict=state)


def save_scalar_model(model: ScoredModel, folder: Path) -> None:
    """A plain sequence-classification folder, or the trunk's with the head beside it; the rest in reward_head.json."""
    if model.extra_head is not None and model.model.get_output_embeddings() is not None:
        own_head = not _save_beside_a_language_model(model, folder)
    else:
        own_head = model.extra_head is not None
        _save_plain(model, folder)
    write_head(model, folder, own_head=own_head)
    name_beside(folder)


def _save_beside_a_language_model(model: ScoredModel, folder: Path) -> bool:
    """The merged trunk of a role that scores, as a sequence-classification model, or bare; whether the head is in it.

    Bare where transformers has no such class of this architecture, or the head is none that fits.
    """
    head, front = model.scalar_head, f"{model.model.base_model_prefix}."
    config = copy(model.model.config)
    config.num_labels = 1
    mapping: Any = AutoModelForSequenceClassification._model_mapping
    kind = mapping.get(type(config), None)
    with merged(model) as state, torch.device("meta"):
        shell: Any = None if kind is None else kind(config)
        fits = _shapes(getattr(shell, "score", None)) == _shapes(head)
        if fits:
            kept = {name: tensor for name, tensor in state.items() if name.startswith(front)}
            kept |= {f"score.{name}": tensor for name, tensor in head.state_dict().items()}
        else:
            shell = type(model.trunk)(config)
            kept = {name.removeprefix(front): tensor for name, tensor in state.items() if name.startswith(front)}
        shell.save_pretrained(folder, state_dict=kept)
    return fits


def _shapes(head: nn.Module | None) -> dict[str, torch.Size] | None:
    """The shapes of a linear layer's parameters; None of anything else."""
    return {name: p.shape for name, p in head.named_parameters()} if isinstance(head, nn.Linear) else None


def write_head(model: ScoredModel, folder: Path, *, own_head: bool = True) -> None:
    """reward_head.json, and the weights of a head of our own; ``own_head`` False: it is in the model beside."""
    settings = {**asdict(model.scoring), "score_bias": float(model.score_bias), "head": "linear"}
    if model.measured is not None:
        settings["measured"] = asdict(model.measured)
    if model.extra_head is not None and own_head:
        settings["head"] = "linear" if isinstance(model.extra_head, nn.Linear) else "ffn"
        save_file(model.extra_head.state_dict(), folder / HEAD_WEIGHTS)
    (folder / REWARD_HEAD).write_text(json.dumps(settings, ensure_ascii=False, indent=1, allow_nan=False))


def _load_trunk(folder: str | Path) -> PreTrainedModel:
    """The backbone alone. A pooler would be trained by nothing: heads read hidden states."""
    model = _load(AutoModel, folder, fresh=("pooler.",))
    if getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)
    return model


def _load(
    loader: type[_BaseAutoModelClass], folder: str | Path, *, fresh: tuple[str, ...] = (), **changes: Any
) -> PreTrainedModel:
    """A whole model, or a ConfigError: no weight is made up but those whose names begin as ``fresh`` says."""
    check_single(folder)
    config = model_config(folder, **changes)
    mapping: Any = loader._model_mapping
    if getattr(config, "auto_map", None) and type(config) not in mapping:
        raise own_code(folder)
    dropped = _without_dropout(config)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what it would say is said below
    transformers_logging.disable_progress_bar()
    try:
        model, found = loader.from_pretrained(
            local(folder),
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # the libraries raise whatever a damaged file makes them raise
        raise unreadable(folder, error) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    check_whole(folder, type(model).__name__, found, fresh)
    log.info("%s: %s, fp32%s", folder, type(model).__name__, f", dropout off ({', '.join(dropped)})" if dropped else "")
    whole: PreTrainedModel = model.eval()
    return whole


def _without_dropout(config: PretrainedConfig) -> list[str]:
    """Siblings share their prompt's computation, and old log-probs are compared with new ones: no noise allowed."""
    names = [n for n, v in vars(config).items() if ("dropout" in n or "pdrop" in n) and isinstance(v, float) and v > 0]
    for name in names:
        setattr(config, name, 0.0)
    return names
