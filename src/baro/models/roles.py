"""One set of weights in several roles: with one of its adapters, or with none; each role with a head of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from baro.batch import GroupBatch
from baro.models.forward import Output, Outputs, ScoredModel
from baro.models.heads import Scoring

_OF_ROLE = re.compile(r"(?:\.lora_(?:embedding_)?[AB]|^heads)\.([^.]+)")


class InRole(ScoredModel):
    """A model with the adapter of one role on and all others off; ``name`` None: without adapters, the reference.

    It shares the weights of the model that it is a role of, and has a layout of its own. ``head``: what reads the
    states in this role; it becomes a part of the model, and ``scoring`` and ``score_bias`` belong to it.

    To train, the backward pass has to be taken in the role too, since checkpointing computes the forward again there:
    an objective yields its loss inside ``in_role``.
    """

    def __init__(
        self,
        of: ScoredModel,
        name: str | None,
        *,
        head: nn.Module | None = None,
        score_bias: float = 0.0,
        scoring: Scoring | None = None,
    ) -> None:
        self._of = (of,)  # in a tuple, so that it is no part of this module
        bidirectional = of.bidirectional
        super().__init__(of.model, head=head, score_bias=score_bias, bidirectional=bidirectional, scoring=scoring)
        self.name, self.autocast_dtype = name, of.autocast_dtype
        if head is not None:
            assert name is not None, "a head belongs to a role that has a name"
            of.heads[name] = head
        self.to(of.device)

    @property
    def holder(self) -> ScoredModel:
        (of,) = self._of
        return of

    @property
    def is_scalar(self) -> bool:
        return self.extra_head is not None or super().is_scalar

    def in_role(self) -> AbstractContextManager[None]:
        return role(self.holder, self.name)

    def forward(
        self,
        batch: GroupBatch,
        outputs: Collection[Output],
        *,
        temperature: float = 1.0,
        read_by: ScoredModel | None = None,
    ) -> Outputs:
        """The model's own forward, which gathers its shards if it has any; the adapters are back on afterwards."""
        of, own = self.holder, None if self.extra_head is None else self
        before, of.layout = of.layout, self.layout
        try:
            with self.in_role():
                found: Outputs = of(batch, outputs, temperature=temperature, read_by=read_by or own)
                return found
        finally:
            of.layout = before


@contextmanager
def role(scored: ScoredModel, name: str | None) -> Iterator[None]:
    """Switch the adapter ``name`` on and all others off; None switches every adapter off (the reference).

    peft's set_adapter turns requires_grad of the other adapters off, and autograd then drops their gradients without a
    word; what was trainable stays trainable here.
    """
    layers = adapted_layers(scored)
    if all(_plays(layer, name) for layer in layers):
        yield
        return
    before = [(layer.active_adapters, layer.disable_adapters) for layer in layers]
    trainable = {p: p.requires_grad for p in scored.model.parameters()}
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


def adapted_layers(scored: ScoredModel) -> list[BaseTunerLayer]:
    """The layers that have adapters."""
    return [module for module in scored.model.modules() if isinstance(module, BaseTunerLayer)]


def adapter_of(scored: ScoredModel) -> str:
    """The name of the adapter that is on in a model's role."""
    with scored.in_role():
        (name,) = adapted_layers(scored)[0].active_adapters
    return str(name)


def trained(scored: ScoredModel) -> list[nn.Parameter]:
    """What is trained of a model in its role: not what belongs to other roles of the same weights."""
    of = scored.holder
    own = adapter_of(scored) if adapted_layers(scored) else None
    mine = {own} if scored is not of else {own, None}  # the model itself has what belongs to nobody by name
    return [p for name, p in of.named_parameters() if p.requires_grad and _role_of(name) in mine]


def modules_of(**models: ScoredModel) -> dict[str, nn.Module]:
    """What an objective trains with these models, each weight once: roles of one model are that model, the trunk."""
    holders = {id(model.holder) for model in models.values()}
    if len(holders) == len(models):
        return dict(models)
    assert len(holders) == 1, "some of these models are roles of one, and others are not"
    return {"trunk": next(iter(models.values())).holder}


def _role_of(parameter: str) -> str | None:
    """Whose adapter or head a parameter belongs to, by its name; None: to none that has a name."""
    found = _OF_ROLE.search(parameter)
    return found[1] if found else None


def _plays(layer: BaseTunerLayer, name: str | None) -> bool:
    """Whether the layer is in this role already."""
    if name is None or layer.disable_adapters:
        return name is None and bool(layer.disable_adapters)
    return list(layer.active_adapters) == [name]


def _restore(trainable: dict[nn.Parameter, bool]) -> None:
    for parameter, flag in trainable.items():
        parameter.requires_grad_(flag)
