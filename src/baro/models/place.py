"""Where a model is computed, in what numbers, and with how much memory. Its weights stay fp32."""

from __future__ import annotations

import logging
import os

import torch

from baro.compute import ComputeConfig
from baro.errors import ConfigError
from baro.models.forward import ScoredModel

log = logging.getLogger("baro")
AUTO = ComputeConfig()


def placed(scored: ScoredModel, compute: ComputeConfig = AUTO) -> ScoredModel:
    """The same model on the device of the config, with the type of its matrix products and checkpointing set.

    Raises ConfigError for a GPU that is not there, for bfloat16 on a CPU, and for checkpointing that the architecture
    does not have.
    """
    device = device_of(compute)
    scored.to(device)
    scored.autocast_dtype = matmul_dtype(compute, device)
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
