"""One set of weights in several roles: with one of its adapters, or with none."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from baro.batch import GroupBatch
from baro.models.forward import Output, Outputs, ScoredModel


class InRole(ScoredModel):
    """A model with the adapter of one role on and all others off; ``name`` None: without adapters, the reference.

    It shares the weights of the model that it is a role of, and has a layout of its own.
    """

    def __init__(self, of: ScoredModel, name: str | None) -> None:
        self._of = (of,)  # in a tuple, so that it is no part of this module
        super().__init__(of.model)
        self.name, self.autocast_dtype = name, of.autocast_dtype

    def in_role(self) -> AbstractContextManager[None]:
        (of,) = self._of
        return role(of, self.name)

    def forward(self, batch: GroupBatch, outputs: Collection[Output], *, temperature: float = 1.0) -> Outputs:
        """The model's own forward, which gathers its shards if it has any; the adapters are back on afterwards."""
        (of,) = self._of
        before, of.layout = of.layout, self.layout
        try:
            with self.in_role():
                found: Outputs = of(batch, outputs, temperature=temperature)
                return found
        finally:
            of.layout = before


@contextmanager
def role(scored: ScoredModel, name: str | None) -> Iterator[None]:
    """Switch the adapter ``name`` on and all others off; None switches every adapter off (the reference).

    peft's set_adapter turns requires_grad of the other adapters off, and autograd then drops their gradients without a
    word; what was trainable stays trainable here.
    """
    layers = [module for module in scored.model.modules() if isinstance(module, BaseTunerLayer)]
    if all(_plays(layer, name) for layer in layers):
        yield
        return
    before = [(layer.active_adapters, layer.disable_adapters) for layer in layers]
    trainable = {p: p.requires_grad for layer in layers for p in layer.parameters()}
    try:
        for layer in layers:
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter(name)
        _restore(trainable)
        yield
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer.set_adapter(active)
            layer.enable_adapters(not disabled)
        _restore(trainable)


def _plays(layer: BaseTunerLayer, name: str | None) -> bool:
    """Whether the layer is in this role already."""
    if name is None or layer.disable_adapters:
        return name is None and bool(layer.disable_adapters)
    return list(layer.active_adapters) == [name]


def _restore(trainable: dict[nn.Parameter, bool]) -> None:
    for parameter, flag in trainable.items():
        parameter.requires_grad_(flag)
