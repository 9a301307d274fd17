"""Roles on one backbone beside the policy's: a value model to train, and reward models that were trained as adapters.

    backbone, frozen ── adapter policy ────── language-model head
                     ── no adapter ────────── language-model head      the reference
                     ── adapter value_model ─ linear head               and cost_value_model, with a constraint
                     ── adapter reward_model ─ its own head             frozen

A LoRA run of ``baro reward`` leaves both: the adapter in ``adapter/``, and in ``model/`` how its scores are made.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from baro.compute import LoraConfig
from baro.models.forward import ScoredModel
from baro.models.heads import Role, initialise, new_head
from baro.models.load import head_settings, measured_of, read_head, scoring_of
from baro.models.lora import add_adapter, add_saved_adapter
from baro.models.roles import InRole


class SavedRole(NamedTuple):
    """Where a scalar model lies that was trained as an adapter: adapter and head, and reward_head.json."""

    adapter: Path
    described: Path


class Trunk(NamedTuple):
    """The policy whose backbone others may stand on, and the SHA-256 of the folder that the backbone comes from."""

    policy: ScoredModel
    base: str

    def free_name(self, name: str) -> str:
        """The name, numbered where an adapter has it already."""
        taken = {adapter.rpartition("/")[0] or adapter for adapter in self.policy.model.peft_config}
        names = (name if k == 1 else f"{name}_{k}" for k in count(1))
        return next(one for one in names if one not in taken)


def frozen_role(of: ScoredModel, saved: SavedRole, name: str) -> InRole:
    """A model that scores: its adapter is put onto the backbone beside those that are there, and is not trained."""
    tensors, settings = add_saved_adapter(of.model, saved.adapter, name), head_settings(saved.described)
    head = _saved_head(saved, tensors, _width(of)).requires_grad_(False)
    found = InRole(of, name, head=head, score_bias=settings["score_bias"], scoring=scoring_of(settings))
    found.measured = measured_of(settings)
    return found


def new_value_role(of: ScoredModel, lora: LoraConfig, *, seed: int, role: Role = "value_model") -> InRole:
    """A new value model on the policy's backbone, as a model of its own would start there: the same numbers."""
    add_adapter(of, lora, seed=seed, role=role)
    head = nn.Linear(_width(of), 1, bias=False)
    initialise(head, seed, role)
    return InRole(of, role, head=head)


def value_role(of: ScoredModel, saved: SavedRole, *, seed: int, role: Role = "value_model") -> InRole:
    """A value model that starts from an adapter, whose rank and layers it keeps, and from its head.

    A head that does not read one state as it is (pooled, squashed, weighted) is replaced by a fresh linear one.
    """
    tensors = add_saved_adapter(of.model, saved.adapter, role, trained=True)
    settings = head_settings(saved.described)
    if scoring_of(settings).plain:
        head = _saved_head(saved, tensors, _width(of))
        return InRole(of, role, head=head, score_bias=settings["score_bias"])
    head = new_head("linear", _width(of), 1)
    initialise(head, seed, role)
    return InRole(of, role, head=head)


def _saved_head(saved: SavedRole, tensors: dict[str, Tensor], hidden_size: int) -> nn.Module:
    """A head of our own, or that of a sequence-classification model, which lies with its adapter."""
    settings = head_settings(saved.described)
    head = read_head(saved.adapter, settings, hidden_size)
    if head is None:
        head = nn.Linear(hidden_size, len(settings["criteria"]), bias="bias" in tensors)
        head.load_state_dict(tensors)
    return head


def _width(of: ScoredModel) -> int:
    """Of the states that a head reads; OPT has some that are narrower than its layers."""
    language = of.model.get_output_embeddings()
    return of.hidden_size if language is None else int(language.weight.shape[1])
