"""Low-rank adapters by peft: put in, switched off for the reference, saved, and merged into a plain model.

    W' = W + (α / r) B A      A random, B zero at the start, so that a new adapter changes nothing

Hu et al. 2021, arXiv:2106.09685, eq. 3. Only the adapters are trained, and a scalar model's head.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
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

log = logging.getLogger("baro")
ADAPTER = "default"


def add_adapter(scored: ScoredModel, config: LoraConfig, *, seed: int, role: Role) -> None:
    """Put adapters into a model; all other weights but a scalar head's stay as they are. ConfigError: no such layer."""
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
            inject_adapter_in_model(settings, model, adapter_name=ADAPTER)
    except ValueError as error:  # peft's, for names that no layer has
        raise ConfigError(f"lora.target_modules: {error}; leave it out to adapt all linear layers") from error
    if scalar:
        scored.scalar_head.requires_grad_(True)
    trained = sum(p.numel() for p in scored.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in scored.parameters())
    log.info("LoRA: %s of %s weights are trained (%.2g%%)", f"{trained:,}", f"{whole:,}", 100 * trained / whole)


def adapted(scored: ScoredModel) -> bool:
    """Whether the model has adapters."""
    return any(isinstance(module, BaseTunerLayer) for module in scored.model.modules())


def _task(scored: ScoredModel) -> str:
    """peft's word for what the adapted model is; a head of our own stands beside it."""
    if scored.extra_head is not None:
        return "FEATURE_EXTRACTION"
    return "SEQ_CLS" if scored.is_scalar else "CAUSAL_LM"


def save_adapter(scored: ScoredModel, folder: Path) -> None:
    """The adapter alone, as peft's ``PeftModel.from_pretrained(base, folder)`` loads it, with what else was trained.

    A sequence-classification model's head is in it (peft: ``modules_to_save``); a head of our own lies beside it. The
    bias of scores is not in it: only ``model/`` says where scores are 0.
    """
    model, settings = scored.model, copy(scored.model.peft_config[ADAPTER])
    assert isinstance(settings, PeftLora)
    state = get_peft_model_state_dict(model, adapter_name=ADAPTER)
    if settings.task_type == "SEQ_CLS":
        settings.modules_to_save = ["score"]
        state |= {f"score.{name}": tensor for name, tensor in scored.scalar_head.state_dict().items()}
    elif scored.extra_head is not None:
        save_file(scored.extra_head.state_dict(), folder / HEAD_WEIGHTS)
    settings.save_pretrained(folder)
    named = {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(named, folder / "adapter_model.safetensors")


def add_saved_adapter(model: PreTrainedModel, folder: Path, name: str) -> dict[str, Tensor]:
    """Put the adapter that ``save_adapter`` wrote into a model that may have others; it is not to be trained.

    Returns the head that was saved with it, by the names of its tensors; empty for a head of our own.
    """
    settings = PeftLora.from_pretrained(str(folder))
    settings.modules_to_save, settings.inference_mode = None, True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are what is wanted
        inject_adapter_in_model(settings, model, adapter_name=name)
    own, head = model.state_dict(), {}
    for key, tensor in load_file(folder / "adapter_model.safetensors").items():
        inner = key.removeprefix("base_model.model.")
        if inner.startswith("score."):
            head[inner.removeprefix("score.")] = tensor
            continue
        own[re.sub(r"(lora_[AB])\.weight$", rf"\1.{name}.weight", inner)].copy_(tensor)
    return head


@contextmanager
def merged(scored: ScoredModel) -> Iterator[dict[str, Tensor]]:
    """The model with its adapters added into its weights, and the state dict that it has as a plain model.

    Afterwards the weights are what they were, bit for bit. What merging changes by rounding is said.
    """
    layers: list[BaseTunerLayer] = [one for one in scored.model.modules() if isinstance(one, BaseTunerLayer)]
    before = [_weight(layer).detach().clone() for layer in layers]
    separate = _made_up_outputs(scored)
    try:
        for layer in layers:
            layer.merge()
        difference = float((_made_up_outputs(scored) - separate).abs().max())
        log.info("LoRA: merging the adapter changes the model's outputs by at most %.2g", difference)
        state = scored.model.state_dict()
        yield {name.replace(".base_layer.", "."): t for name, t in state.items() if ".lora_" not in name}
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
