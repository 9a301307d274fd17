"""AdamW for an objective's parameter groups, its schedule, and its state by parameter name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baro.config import OptimiserConfig
from baro.protocols import Objective, State, World


def make_optimizer(objective: Objective, config: OptimiserConfig) -> torch.optim.AdamW:
    groups = [dict(group) for group in objective.parameter_groups()]
    for group in groups:
        group["base_lr"] = group["lr"] = group.pop("learning_rate", None) or config.learning_rate
        group["params"] = list(group["params"])
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def schedule_factor(config: OptimiserConfig, step: int, total: int) -> float:
    """The learning rate's factor at ``step`` (from 0): linear warm-up, then constant, linear or cosine."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    if config.schedule == "linear":
        return 1.0 - done
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


def optimizer_state(optimizer: torch.optim.Optimizer, objective: Objective) -> State:
    """Adam's own tensors by parameter name: independent of group order, and without integer keys."""
    names = _parameter_names(objective)
    return {names[parameter]: dict(state) for parameter, state in optimizer.state.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, objective: Objective, state: State, world: World) -> None:
    """Give each parameter a copy of its state, sharded as the parameter is."""
    optimizer.state.clear()
    for parameter, name in _parameter_names(objective).items():
        if name in state:
            optimizer.state[parameter] = {key: _like(parameter, value, world) for key, value in state[name].items()}


def _like(parameter: Tensor, value: Tensor, world: World) -> Tensor:
    if value.shape != parameter.shape:  # Adam's count of steps
        return value.clone().to(parameter.device)
    like = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
    world.place(value, like)
    return like


def _parameter_names(objective: Objective) -> dict[Tensor, str]:
    return {p: f"{role}.{name}" for role, m in objective.modules().items() for name, p in m.named_parameters()}
