"""What is looked at along a run: the metrics of its steps, and now and then those of held-out samples or prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from baro.batch import GroupBatch
from baro.models.forward import ScoredModel, check_layout
from baro.protocols import LossOutput, Objective, World


class MetricSums:
    """Sums and weights of metrics over the micro-batches and ranks of one step."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, output: LossOutput) -> None:
        for name, (amount, weight) in output.metrics.items():
            self.sums[f"{name}:sum"] = self.sums.get(f"{name}:sum", 0.0) + float(amount)
            self.sums[f"{name}:weight"] = self.sums.get(f"{name}:weight", 0.0) + float(weight)
        self.sums["loss:sum"] = self.sums.get("loss:sum", 0.0) + float(output.loss.detach())

    def over(self, world: World) -> dict[str, float]:
        """The means over all ranks; a metric that nothing weighed in is left out."""
        sums = world.sum(self.sums)
        means = {"loss": sums.pop("loss:sum", 0.0)}
        for name in (key.removesuffix(":sum") for key in sums if key.endswith(":sum")):
            if sums[f"{name}:weight"] > 0:
                means[name] = sums[f"{name}:sum"] / sums[f"{name}:weight"]
        return means


@dataclass(frozen=True)
class Measure:
    """What is measured along a run, and by what the best weights are known.

    ``take`` gives metrics by name; all ranks call it together and get the same. ``every`` counts steps, and 0 is ten
    times a run; the start and the end are measured too. ``keep`` names the metric by which the best weights are kept,
    the least value unless ``higher``; None keeps the last weights.
    """

    take: Callable[[], Mapping[str, float]]
    every: int = 0
    keep: str | None = None
    higher: bool = False

    def interval(self, steps: int) -> int:
        """Steps between two measures of a run of so many."""
        return self.every or max(1, steps // 10)

    def better(self, value: float, than: float) -> bool:
        """Whether a value of ``keep`` is better than another."""
        return value > than if self.higher else value < than


def check_layouts(objective: Objective, batches: Sequence[GroupBatch], world: World) -> None:
    """Each model's layout of rows, once, on the widest of the batches."""
    widest = max(batches, key=lambda batch: batch.input_ids.shape[1])
    for module in objective.modules().values():
        if isinstance(module, ScoredModel):
            check_layout(module, widest, world)


@torch.no_grad()
def evaluate(objective: Objective, batches: Sequence[GroupBatch], world: World) -> dict[str, float]:
    """The objective's loss and metrics over given micro-batches, without gradient and in eval mode; {} of none."""
    if not batches:
        return {}
    check_layouts(objective, batches, world)
    modules = list(objective.modules().values())
    training = [module.training for module in modules]
    units: dict[str, dict[str, float]] = {}
    for batch in batches:
        for unit, amount in batch.units.items():
            of_term = units.setdefault(batch.term, {})
            of_term[unit] = of_term.get(unit, 0.0) + amount
    totals = {term: world.sum(of_term) for term, of_term in units.items()}
    sums = MetricSums()
    for module in modules:
        module.eval()
    device = next(modules[0].parameters()).device
    for batch in batches:
        for output in objective.losses(batch.to(device), totals[batch.term]):
            sums.add(output)
    for module, was in zip(modules, training, strict=True):
        module.train(was)
    return sums.over(world)
