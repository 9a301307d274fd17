"""Low-rank adapters by peft, by the name of their role: put in, switched off, saved, and merged into a plain model.

    W' = W + (α / r) B A      A random, B zero at the start, so that a new adapter changes nothing

Hu et al. 2021, arXiv:2106.09685, eq. 3. Only the adapters are trained, and a scalar model's head.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from baro.compute import LoraConfig
from baro.errors import ConfigError
from baro.functional.streams import stream_key
from baro.models.folders import HEAD_WEIGHTS
from baro.models.forward import ScoredModel
from baro.models.heads import Role
from baro.models.place import in_fp32
from baro.models.roles import adapted_layers, adapter_of

log = logging.getLogger("baro")


def add_adapter(scored: ScoredModel, config: LoraConfig, *, seed: int, role: Role) -> None:
    """Put the adapters of a role into a model, which may have those of others.

    All other weights but a scalar head's stay as they are, and the adapter that was on stays on. ConfigError: no such
    layer.
    """
    model, scalar = scored.model, scored.is_scalar
    settings = PeftLora(
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it by r, and takes any number
        target_modules=config.target_modules,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type=_task(scored),
        base_model_name_or_path=model.name_or_path,
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(stream_key("adapters", seed, role))
            _inject(model, settings, role)
    except ValueError as error:  # peft's, for names that no layer has
        raise ConfigError(f"lora.target_modules: {error}; leave it out to adapt all linear layers") from error
    if scalar:
        scored.scalar_head.requires_grad_(True)
    trained = sum(p.numel() for p in scored.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in scored.parameters())
    log.info("LoRA: %s of %s weights are trained (%.2g%%)", f"{trained:,}", f"{whole:,}", 100 * trained / whole)


def _inject(model: PreTrainedModel, settings: PeftLora, name: str) -> None:
    """peft's injection, after which the adapter that was on is on again, and what was trained is trained still.

    The new adapter is fp32 at least: peft gives it the type of its base layer, which may be held in bf16.
    """
    assert name not in getattr(model, "peft_config", {}), f"there is an adapter {name} already"
    on = next((one.active_adapters for one in model.modules() if isinstance(one, BaseTunerLayer)), None)
    flags = {p: p.requires_grad for p in model.parameters()} if on else {}
    with in_fp32(model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are what is wanted
        inject_adapter_in_model(settings, model, adapter_name=name)
    if on is None:
        return
    flags = {p: flags.get(p, p.requires_grad) for p in model.parameters()}
    for layer in (one for one in model.modules() if isinstance(one, BaseTunerLayer)):
        layer.set_adapter(on)
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)


def adapted(scored: ScoredModel) -> bool:
    """Whether the model has adapters."""
    return bool(adapted_layers(scored))


def _task(scored: ScoredModel) -> str:
    """peft's word for what the adapted model is; a head of our own stands beside it."""
    if scored.extra_head is not None:
        return "FEATURE_EXTRACTION"
    return "SEQ_CLS" if scored.is_scalar else "CAUSAL_LM"


def save_adapter(scored: ScoredModel, folder: Path) -> None:
    """The adapter of a model's role alone, as peft's ``PeftModel.from_pretrained(base, folder)`` loads it, with what
    else was trained of it.

    A sequence-classification model's head is in it (peft: ``modules_to_save``); a head of our own lies beside it. The
    bias of scores is not in it: only ``model/`` says where scores are 0.
    """
    model, name = scored.model, adapter_of(scored)
    settings = copy(model.peft_config[name])
    assert isinstance(settings, PeftLora)
    state = get_peft_model_state_dict(model, adapter_name=name)
    if settings.task_type == "SEQ_CLS":
        settings.modules_to_save = ["score"]
        state |= {f"score.{name}": tensor for name, tensor in scored.scalar_head.state_dict().items()}
    elif scored.extra_head is not None:
        save_file(scored.extra_head.state_dict(), folder / HEAD_WEIGHTS)
    settings.save_pretrained(folder)
    named = {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(named, folder / "adapter_model.safetensors")


def add_saved_adapter(model: PreTrainedModel, folder: Path, name: str, *, trained: bool = False) -> dict[str, Tensor]:
    """Put the adapter that ``save_adapter`` wrote into a model that may have others.

    The model may be another class on the same trunk than the one it was trained in. Returns the head that was saved
    with it, by the names of its tensors; empty for a head of our own. ConfigError: it is damaged, or of another base.
    """
    settings, saved = _read_adapter(folder)
    settings.modules_to_save, settings.inference_mode = None, not trained
    other = f"{folder}: its adapter does not fit {model.name_or_path}"
    try:
        _inject(model, settings, name)
    except ValueError as error:  # peft's, for names that no layer has
        raise ConfigError(f"{other} ({error}); it was trained on another base") from error
    own = {key: p for key, p in model.named_parameters() if ".lora_" in key and name in key.split(".")}
    head: dict[str, Tensor] = {}
    for key, tensor in saved.items():
        inner = key.removeprefix("base_model.model.")
        if inner.startswith("score."):
            head[inner.removeprefix("score.")] = tensor
            continue
        target = own.pop(_name_in(own, re.sub(r"(lora_\w+?)((?:\.weight)?)$", rf"\1.{name}\2", inner), model), None)
        if target is None or target.shape != tensor.shape:
            found = "is not there" if target is None else f"has {tuple(target.shape)}"
            raise ConfigError(f"{other}: {inner} is {tuple(tensor.shape)} and {found}; it was trained on another base")
        target.detach().copy_(tensor)
    if own:
        raise ConfigError(f"{folder}: its adapter lacks {next(iter(own))}; copy the run again")
    return head


def _name_in(own: Mapping[str, Tensor], name: str, model: PreTrainedModel) -> str:
    """The name that a tensor of the trunk has in this model: with or without the trunk's own in front."""
    front = f"{model.base_model_prefix}."
    return next((one for one in (name, front + name, name.removeprefix(front)) if one in own), name)


def _read_adapter(folder: Path) -> tuple[PeftLora, dict[str, Tensor]]:
    """An adapter's settings and tensors. ConfigError for what is missing or damaged."""
    weights = folder / "adapter_model.safetensors"
    missing = [one for one in (folder / "adapter_config.json", weights) if not one.is_file()]
    if missing:
        raise ConfigError(f"{missing[0]}: is missing; copy the run again")
    try:
        settings, saved = PeftLora.from_pretrained(str(folder)), load_file(weights)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ConfigError(f"{folder}: the adapter cannot be read ({error}); copy the run again") from error
    assert isinstance(settings, PeftLora)
    return settings, saved


@contextmanager
def merged(scored: ScoredModel) -> Iterator[dict[str, Tensor]]:
    """The model with the adapter of its role added into its weights, and the state dict that it has as a plain model.

    In fp32 at least, whatever the frozen weights are held in. Afterwards they are what they were, bit for bit. What
    merging changes by rounding is said.
    """
    with scored.in_role(), in_fp32(scored.model):
        name = adapter_of(scored)
        layers = [layer for layer in adapted_layers(scored) if isinstance(layer, LoraLayer) and name in layer.r]
        before = [_weight(layer).detach().clone() for layer in layers]
        separate = _made_up_outputs(scored)
        try:
            for layer in layers:
                layer.merge()
            difference = float((_made_up_outputs(scored) - separate).abs().max())
            log.info("LoRA: merging the adapter changes the model's outputs by at most %.2g", difference)
            state = scored.model.state_dict()
            yield {key.replace(".base_layer.", "."): t for key, t in state.items() if ".lora_" not in key}
        finally:
            for layer, weight in zip(layers, before, strict=True):
                layer.unmerge()
                with torch.no_grad():
                    _weight(layer).copy_(weight)


def _weight(layer: BaseTunerLayer) -> Tensor:
    """The adapted layer's own weight."""
    weight = layer.get_base_layer().weight
    assert isinstance(weight, Tensor)
    return weight


@torch.no_grad()
def _made_up_outputs(scored: ScoredModel) -> Tensor:
    """Log-probs (a scalar model: last hidden states) of made-up tokens in fp32."""
    vocabulary = scored.model.config.get_text_config().vocab_size
    ids = torch.tensor([[(7 * i + 1) % vocabulary for i in range(32)]], device=scored.device)
    if scored.is_scalar:
        hidden: Tensor = scored.trunk(input_ids=ids).last_hidden_state
        return hidden
    logits: Tensor = scored.model(input_ids=ids, use_cache=False).logits
    return logits.log_softmax(-1)
