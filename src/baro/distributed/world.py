"""Processes that train together: torch.distributed with FSDP2. One process needs none of this: see LocalWorld."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


class TorchWorld:
    """The default process group. Sharded modules sum their gradients over the ranks: losses are already divided.

    ``device``: "cpu" with gloo, or "cuda" with each rank's own GPU set.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.mesh = init_device_mesh(device, (self.size,))

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, dict(values))
        names = dict.fromkeys(name for one in found for name in one)
        return {name: sum(one.get(name, 0.0) for one in found) for name in names}

    def max(self, value: float) -> float:
        largest = torch.tensor(value, dtype=torch.float64, device=self.device)  # NCCL reduces nothing of a CPU
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return float(largest)

    def any(self, flag: bool) -> bool:
        return self.max(float(flag)) > 0

    def gather(self, values: list[Any]) -> list[Any]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, values)
        return [value for one in found for value in one]

    def shard(self, module: nn.Module) -> None:
        # Back into shards after each forward: else parameters are whole until the next backward, and a forward without
        # gradient has none.
        fully_shard(module, mesh=self.mesh, reshard_after_forward=True)
        for part in _sharded(module):  # neither setting reaches the parts of a module
            part.set_force_sum_reduction_for_comms(True)  # gloo has no other sum for fp32
            part.set_gradient_divide_factor(1.0)

    @contextmanager
    def unsharded(self, module: nn.Module) -> Iterator[None]:
        parts = _sharded(module)
        for part in parts:
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()

    def whole(self, tensor: Tensor) -> Tensor:
        return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()

    def place(self, whole: Tensor, target: Tensor) -> None:
        if isinstance(target, DTensor):
            # No rank sends anything: each has the whole tensor, and takes its own part.
            whole = distribute_tensor(whole.to(self.device), self.mesh, target.placements, src_data_rank=None)
        target.detach().copy_(whole)


def _sharded(module: nn.Module) -> list[FSDPModule]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]
