"""Where a model is computed, in what numbers, and with how much memory. Weights that are trained stay fp32."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from baro.compute import ComputeConfig
from baro.errors import ConfigError
from baro.models.forward import ScoredModel
from baro.models.roles import adapted_layers

log = logging.getLogger("baro")
AUTO = ComputeConfig()


def placed(scored: ScoredModel, compute: ComputeConfig = AUTO) -> ScoredModel:
    """The same model on the device of the config, with the type of its matrix products and checkpointing set.

    What is frozen below adapters is held in that type (``hold_frozen``).
    Raises ConfigError for a GPU that is not there, for bfloat16 on a CPU, and for checkpointing that the architecture
    does not have.
    """
    device = device_of(compute)
    scored.to(device)
    scored.autocast_dtype = matmul_dtype(compute, device)
    hold_frozen(scored)
    if compute.gradient_checkpointing:
        if not scored.model.supports_gradient_checkpointing:
            raise ConfigError(f"{type(scored.model).__name__} has no compute.gradient_checkpointing; leave it off")
        # Not reentrant: that one wants an input with a gradient, and with frozen embeddings there is none.
        # transformers 5.23 renamed it.
        enable = getattr(scored.model, "activation_checkpointing_enable", None)
        (enable or scored.model.gradient_checkpointing_enable)({"use_reentrant": False})
    if device.type != "cpu":
        numbers = "fp32" if scored.autocast_dtype is None else "bf16 matrix products, fp32 weights"
        log.info("%s on %s, %s", type(scored.model).__name__, torch.cuda.get_device_name(device), numbers)
    return scored


def hold_frozen(scored: ScoredModel) -> None:
    """Hold the frozen linear layers of an adapted model's trunk in the type of its matrix products.

    Autocast would cast them in every forward, so that no result changes by a bit; embeddings, norms, adapters and heads
    stay as they are. Of a model without adapters, or without a type of its own, nothing is changed.
    """
    if scored.autocast_dtype is None or not adapted_layers(scored):
        return
    for layer in _linear_layers(scored.trunk):
        if not any(p.requires_grad for p in layer.parameters()):
            layer.to(scored.autocast_dtype)


@contextmanager
def in_fp32(model: PreTrainedModel) -> Iterator[None]:
    """What ``hold_frozen`` holds in a shorter type in fp32, and afterwards as it was, bit for bit."""
    layers = [(layer, next(layer.parameters()).dtype) for layer in _linear_layers(model)]
    held = [(layer, dtype) for layer, dtype in layers if dtype.itemsize < 4]
    for layer, _ in held:
        layer.float()
    try:
        yield
    finally:
        for layer, dtype in held:
            layer.to(dtype)


def _linear_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The linear layers of a model, those of its adapters left out."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and ".lora_" not in name:
            yield module


def arithmetic(compute: ComputeConfig) -> dict[str, str]:
    """What decides a model's last bits besides versions and threads: device, GPU, CUDA, type of matrix products."""
    device = device_of(compute)
    dtype = matmul_dtype(compute, device) or torch.float32
    found = {"device": device.type, "dtype": str(dtype).removeprefix("torch.")}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
    return found


def device_of(compute: ComputeConfig) -> torch.device:
    """This process's GPU or the CPU."""
    if compute.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS starts: its deterministic kernels
        return torch.device("cuda", torch.cuda.current_device())
    if compute.device == "cuda":
        raise ConfigError("compute.device is cuda, but torch finds no GPU; install a CUDA build of torch, or take auto")
    return torch.device("cpu")


def matmul_dtype(compute: ComputeConfig, device: torch.device) -> torch.dtype | None:
    """bfloat16, or None for the weights' own type."""
    if device.type == "cpu":
        if compute.dtype == "bfloat16":
            raise ConfigError("compute.dtype bfloat16 needs a GPU; a CPU computes in float32, so leave it at auto")
        return None
    wanted = compute.dtype == "bfloat16" or (compute.dtype == "auto" and torch.cuda.is_bf16_supported())
    return torch.bfloat16 if wanted else None
