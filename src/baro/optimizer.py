"""AdamW or Muon for an objective's parameter groups, the schedule, and the optimiser's state by parameter name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from baro.config import OptimiserConfig
from baro.errors import ConfigError
from baro.protocols import Objective, State, World


def make_optimizer(objective: Objective, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of all that is trained, in the objective's groups.

    Raises ConfigError for Muon where no whole matrix is trained: of adapters, of a head alone, of a model in shards.
    """
    groups = [dict(group) for group in objective.parameter_groups()]
    for group in groups:
        group["base_lr"] = group["lr"] = group.pop("learning_rate", None) or config.learning_rate
        group["params"] = list(group["params"])
    if config.optimizer == "muon":
        return Muon(groups, matrices=_matrices(objective, groups), weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


class Muon(torch.optim.Optimizer):
    """Muon for ``matrices``, AdamW for all else: one optimiser, whose groups are those that it was given.

        B_t = μ B_(t−1) + (1 − μ) G_t              W_t = (1 − η λ) W_(t−1) − 0.2 η √max(rows, columns) · O_t
        O_t = NewtonSchulz_5((1 − μ) G_t + μ B_t)  nearly U Vᵀ of U S Vᵀ, its argument; μ = 0.95

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. The factor gives an update the RMS that AdamW's has,
    about 0.2, so that both take one learning rate and weight decay: Liu et al. 2025, arXiv:2502.16982 §2.2.
    """

    def __init__(self, groups: list[dict[str, Any]], *, matrices: set[Tensor], weight_decay: float) -> None:
        super().__init__(groups, {"weight_decay": weight_decay})
        self._parts: list[tuple[dict[str, Any], torch.optim.Optimizer]] = []
        for group in self.param_groups:
            hidden = [p for p in group["params"] if p in matrices]
            others = [p for p in group["params"] if p not in matrices]
            for params, make in ((hidden, _muon), (others, _adamw)):
                if params:
                    part = make(params, group["lr"], weight_decay)
                    part.state = self.state  # one for all: each parameter is in one part
                    self._parts.append((group, part))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every part, with the learning rate of the group that it is of."""
        if closure is not None:
            raise ValueError("gradients are computed before the step; a closure is not called")
        for group, part in self._parts:
            part.param_groups[0]["lr"] = group["lr"]
            part.step()


def _muon(params: list[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Muon(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")


def _adamw(params: list[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=True)


def _matrices(objective: Objective, groups: list[dict[str, Any]]) -> set[Tensor]:
    """The matrices of the models' layers that are trained; layers are what a model has in lists.

    Embeddings, heads, norms, biases and stacks of experts are none. Every model must have one: else nothing of it would
    be trained as asked.
    """
    trained = {parameter for group in groups for parameter in group["params"]}
    found = set[Tensor]()
    for role, model in objective.modules().items():
        of_model = [parameter for parameter in model.parameters() if parameter in trained]
        hidden = {p for p in _of_layers(model) if p in trained and p.ndim == 2}
        if of_model and not hidden:
            raise ConfigError(
                f"trainer.optimizer: muon is for matrices of layers, and none of {role} is trained; take adamw"
            )
        if any(hasattr(parameter, "full_tensor") for parameter in hidden):
            raise ConfigError(
                f"trainer.optimizer: muon needs whole matrices, and {role} is shared out over processes; take adamw, "
                "or train in one process"
            )
        found |= hidden
    return found


def _of_layers(model: nn.Module) -> Iterator[Tensor]:
    """The parameters of all modules in lists but embeddings and adapters."""
    for layers in model.modules():
        if isinstance(layers, nn.ModuleList):
            for name, module in layers.named_modules():
                if not isinstance(module, nn.Embedding) and "lora_" not in name:
                    yield from module.parameters(recurse=False)


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
    """The optimiser's own tensors by parameter name, in the order of the parameters whatever the groups are."""
    names, known = _parameter_names(objective), optimizer.state
    return {name: dict(known[parameter]) for parameter, name in names.items() if parameter in known}


def load_optimizer_state(optimizer: torch.optim.Optimizer, objective: Objective, state: State, world: World) -> None:
    """Give each parameter a copy of its state, sharded as the parameter is."""
    optimizer.state.clear()
    for parameter, name in _parameter_names(objective).items():
        if name in state:
            optimizer.state[parameter] = {key: _like(parameter, value, world) for key, value in state[name].items()}


def _like(parameter: Tensor, value: Tensor, world: World) -> Tensor:
    if value.shape != parameter.shape:  # AdamW's count of steps
        return value.clone().to(parameter.device)
    like = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
    world.place(value, like)
    return like


def _parameter_names(objective: Objective) -> dict[Tensor, str]:
    return {p: f"{role}.{name}" for role, m in objective.modules().items() for name, p in m.named_parameters()}
