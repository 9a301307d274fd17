"""The models of the comparison with TRL's PPO, from literal seeds: for the script that records, and for the test.

In fp64, so that what differs by more than rounding is seen. The policy and the value model that are trained are not
those that sampled and valued: as after an earlier update, ratios and values have moved, some beyond their clip range.
"""

import hashlib
from collections.abc import Mapping

import tiny
import torch
from torch import Tensor
from transformers import PreTrainedModel

STRONG = {"initializer_range": 0.3}


def rollout_models() -> dict[str, PreTrainedModel]:
    """Those that sample, value and score."""
    policy, reference = tiny.llama(3, **STRONG), tiny.llama(3, **STRONG)
    move(reference, tiny.llama(4, **STRONG), 0.3)
    return {
        "policy": policy,
        "ref_policy": reference,
        "value_model": tiny.llama_scalar(5, **STRONG),
        "reward_model": tiny.llama_scalar(6, **STRONG),
    }


def take_an_update(policy: PreTrainedModel, value_model: PreTrainedModel) -> None:
    """What an earlier update may have done to the two that are trained."""
    move(policy, tiny.llama(7, **STRONG), 0.05)
    move(value_model, tiny.llama_scalar(8, **STRONG), 0.2)


@torch.no_grad()
def move(model: PreTrainedModel, other: PreTrainedModel, share: float) -> None:
    for own, its in zip(model.parameters(), other.parameters(), strict=True):
        own.mul_(1 - share).add_(its, alpha=share)


def fingerprint(model: PreTrainedModel) -> str:
    """Of every bit of its weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def sketch(gradients: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Of each tensor g: ‖g‖, Σ g_i cos i, which sees every entry, and the first, middle and last entry."""
    found = {}
    for name, gradient in gradients.items():
        flat = gradient.double().flatten()
        across = (flat * torch.arange(len(flat), dtype=torch.float64).cos()).sum()
        found[name] = [float(x) for x in (flat.norm(), across, flat[0], flat[len(flat) // 2], flat[-1])]
    return found


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
