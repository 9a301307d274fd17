"""What a model folder says before its weights are read: its kind, its positions, and why Baro cannot take it.

No code of a folder is ever run, and no pickle is opened.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from baro.errors import ConfigError
from baro.hub import is_hub_id, snapshot

log = logging.getLogger("baro")
REWARD_HEAD = "reward_head.json"
HEAD_WEIGHTS = "reward_head.safetensors"
ENSEMBLE = "ensemble.json"
MEMBERS = "members"
_BESIDE = "baro_files"  # in config.json: the files of Baro's own without which the folder is another model
_HEADS = ("lm_head.", "embed_out.", "cls.", "score.", "classifier.", "pooler.")  # replaced by the one that is asked for
_OFFSET_POSITIONS = {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "xmod"}  # and all of RoBERTa's kind


def local(folder: str | Path) -> Path:
    """The folder itself, or what the hub's cache has of ``owner/name``. Raises ConfigError where it is no model's."""
    path = snapshot(str(folder)) if is_hub_id(folder) else Path(folder)
    check_folder(path)
    return path


def model_config(folder: str | Path, **changes: Any) -> PretrainedConfig:
    """A model's config.json. Raises ConfigError for quantised weights, and for a folder that brings its own code."""
    path = local(folder)
    written = _config_json(path)
    _check_beside(path, written)
    method = (written.get("quantization_config") or {}).get("quant_method")
    if method is not None or written.get("quantization_config"):
        raise ConfigError(
            f"{folder}: is quantised ({method or 'see quantization_config in its config.json'}), and Baro trains whole "
            "weights; take the unquantised model"
        )
    if written.get("auto_map") and written.get("model_type") not in CONFIG_MAPPING:
        raise own_code(folder)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False, **changes)
    except Exception as error:  # the libraries raise whatever a damaged file makes them raise
        raise unreadable(folder, error) from error
    if config.is_encoder_decoder:
        raise ConfigError(
            f"{folder}: {config.model_type} is an encoder-decoder, which Baro cannot train or sample from; "
            "take a causal language model"
        )
    _check_pad(folder, config)
    return config


def unreadable(folder: str | Path, error: Exception) -> ConfigError:
    """One sentence for whatever a library raised."""
    said = " ".join(str(error).split()) or type(error).__name__
    said = said if len(said) <= 300 else f"{said[:300]}…"
    return ConfigError(f"{folder}: the model cannot be loaded ({said}); save or copy it again")


def own_code(folder: str | Path) -> ConfigError:
    """A model whose architecture is written in its folder, or in another one that it names."""
    return ConfigError(
        f"{folder}: brings code of its own, which Baro does not run; take a model that transformers knows"
    )


def check_single(folder: str | Path) -> None:
    """Raises ConfigError for an ensemble, which is no one model."""
    if (local(folder) / ENSEMBLE).exists():
        raise ConfigError(
            f"{folder}: is an ensemble of reward models, and one model is needed; give {Path(folder) / MEMBERS / '0'}, "
            "or the model that they were trained from"
        )


def check_causal(folder: str | Path) -> None:
    """Raises ConfigError for what transformers would load as a language model and is none: the head would be random."""
    config = model_config(folder)
    kind = next(iter(config.architectures or []), "")
    scored = any((local(folder) / name).exists() for name in (REWARD_HEAD, ENSEMBLE))
    if scored or kind.endswith("ForSequenceClassification"):
        raise ConfigError(
            f"{folder}: is a reward or value model ({kind or REWARD_HEAD}); give a causal language model, such as the "
            "one that it was trained from"
        )
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise ConfigError(f"{folder}: {config.model_type} is an encoder; give a causal language model")


def check_whole(folder: str | Path, kind: str, found: Mapping[str, Collection[Any]], fresh: tuple[str, ...]) -> None:
    """Raises ConfigError where the files lack a weight or have it in another shape; weights without a place are told.

    found: transformers' loading info. fresh: beginnings of the names of what is not to come from the files.
    """
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(fresh))
    unexpected = sorted(found["unexpected_keys"])
    if missing:
        prefix = next((u[: -len(missing[0])] for u in unexpected if u.endswith(missing[0])), "")
        if prefix:
            reason = f"the names in its files begin with {prefix!r}; save the model inside the wrapper"
        else:
            reason = "copy all of its files, or save the whole model again"
        raise ConfigError(f"{folder}: lacks {_first(missing)} of {kind}; {reason}")
    shapes = [
        f"{name} is {tuple(own)} in the files and {tuple(asked)} by config.json"
        for name, own, asked in sorted(found["mismatched_keys"])
        if not name.startswith(fresh)
    ]
    if shapes:
        raise ConfigError(f"{folder}: {_first(shapes)}; copy both from one place, or save them again")
    if unexpected:
        level = logging.INFO if all(name.startswith(_HEADS) for name in unexpected) else logging.WARNING
        log.log(level, "%s: %s has no place for %s; left out", folder, kind, _first(unexpected))


def _first(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _config_json(path: Path) -> dict[str, Any]:
    try:
        written = json.loads((path / "config.json").read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: config.json is no JSON ({error}); copy the folder again") from error
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: config.json is no JSON object; copy the folder again")
    return written


def name_beside(folder: Path) -> None:
    """Into a scalar model's config.json: which files beside it say how its scores are made. None may be lost."""
    path = folder / "config.json"
    names = [name for name in (REWARD_HEAD, HEAD_WEIGHTS, ENSEMBLE) if (folder / name).exists()]
    written = _config_json(folder) | {_BESIDE: names}
    path.write_text(json.dumps(written, indent=2, sort_keys=True, allow_nan=False) + "\n")


def _check_beside(path: Path, written: Mapping[str, Any]) -> None:
    missing = [name for name in written.get(_BESIDE) or () if not (path / str(name)).exists()]
    if missing:
        raise ConfigError(
            f"{path}: lacks {' and '.join(map(str, missing))}, without which its scores are others; copy all of the "
            "folder"
        )


def _check_pad(folder: str | Path, config: PretrainedConfig) -> None:
    text = config.get_text_config()
    pad, rows = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if pad is not None and rows is not None and not 0 <= pad < rows:
        raise ConfigError(
            f"{folder}: pad_token_id in config.json is {pad}, and the embedding's rows are 0 to {rows - 1}; set it to "
            "null, or save the model after resize_token_embeddings"
        )


def is_encoder(folder: str | Path) -> bool:
    """Whether the backbone reads its whole input at every token (BERT and its kind), by the model's type."""
    return model_config(folder).model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def check_tokens(folder: str | Path, ids: Mapping[str, int]) -> None:
    """Raises ConfigError where a tokenizer's ``ids`` (by token) go beyond the rows of the model's embedding."""
    rows = int(model_config(folder).get_text_config().vocab_size)
    beyond = sorted((token for token, i in ids.items() if i >= rows), key=lambda token: ids[token])
    if beyond:
        raise ConfigError(
            f"{folder}: the tokenizer's {_first([f'{token!r} (id {ids[token]})' for token in beyond])} lie beyond the "
            f"{rows} rows of the model's embedding; save the model after resize_token_embeddings"
        )


def positions(folder: str | Path) -> int | None:
    """The longest sequence that a model reads, in tokens; None where its positions have no end."""
    return positions_of(model_config(folder))


def positions_of(config: PretrainedConfig) -> int | None:
    """``positions`` of a model whose config is at hand. Positions that are scaled (YaRN) count as scaled."""
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    if not most or most < 0:
        return None
    if text.model_type in _OFFSET_POSITIONS or "roberta" in text.model_type:  # counted from behind the pad id
        return int(most - (text.pad_token_id or 0) - 1)
    rope = getattr(text, "rope_parameters", None) or {}
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    return max(int(most), int(original * factor)) if original and factor else int(most)


def write_ends(folder: Path, end_ids: Collection[int], pad: int | None) -> None:
    """What ends an answer, into a saved language model's generation_config.json: ``generate`` stops where Baro does.

    What ended one before stays. A model without that file writes no answers.
    """
    path = folder / "generation_config.json"
    if not path.exists() or not end_ids:
        return
    written = json.loads(path.read_bytes())  # not by transformers, which refuses to save what it loaded
    before = written.get("eos_token_id")
    stood = before if isinstance(before, list) else [] if before is None else [before]
    ends = sorted({*end_ids, *stood})
    written |= {"eos_token_id": ends[0] if len(ends) == 1 else ends}
    written |= {} if pad is None else {"pad_token_id": pad}
    path.write_text(json.dumps(written, indent=2, sort_keys=True, allow_nan=False) + "\n")


def check_folder(folder: str | Path) -> None:
    """A local model folder has a config and safetensors weights of a whole model."""
    path = Path(folder)
    if not path.exists():
        raise ConfigError(f"{folder}: no such model folder; give a run, a folder, or a hub id like owner/name")
    if not path.is_dir():
        raise ConfigError(f"{folder}: is a file; a model is a folder with config.json and *.safetensors")
    if not any(path.iterdir()):
        raise ConfigError(f"{folder}: the model folder is empty; it needs config.json, *.safetensors and a tokenizer")
    if (path / "adapter_config.json").exists():
        raise _adapter(path)
    if not (path / "config.json").exists():
        raise ConfigError(f"{folder}: config.json is missing; a model folder is what save_pretrained writes")
    if not any(path.glob("*.safetensors")) and not (path / MEMBERS).is_dir():  # of an ensemble
        pickled = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        if pickled:
            raise ConfigError(
                f"{folder}: only pickled weights ({pickled[0]}), which can run code when loaded; "
                "convert them with save_pretrained(..., safe_serialization=True)"
            )
        raise ConfigError(f"{folder}: no *.safetensors weights in the folder; copy all of it, or save it again")


def _adapter(path: Path) -> ConfigError:
    """An adapter is not merged here: its base lies elsewhere, and no run would know it by its content."""
    if path.name == "adapter" and (path.parent / "model" / "config.json").exists():
        return ConfigError(f"{path}: is an adapter alone; take {path.parent / 'model'}, into which it is merged")
    try:
        base = json.loads((path / "adapter_config.json").read_bytes()).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    return ConfigError(
        f"{path}: is a PEFT adapter of {base or 'a model that it does not name'}, not a model; merge it with "
        f"PeftModel.from_pretrained(base, {str(path)!r}).merge_and_unload().save_pretrained(FOLDER), put the tokenizer "
        "there, and give FOLDER"
    )
