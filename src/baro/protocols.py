"""The seams. Read this file first: everything else implements one of these or passes them on.

A training run is a BatchSource and an Objective, joined by ``Trainer.fit``. Sources call the method's Prepare for what
needs no gradient. Online sources draw from a Sampler and score with RewardSources. A World makes all of it the same on
one process or many. How these came to be what they are stands in docs/design.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from baro.records import Completion, Conversation, OptionScores, Reply, Rollout, SamplingParams, Score, Verdict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from baro.batch import GroupBatch, Sample

State = dict[str, Any]
"""JSON values and tensors, nested; saved as JSON and safetensors, never pickled."""

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class LossOutput:
    """One loss term of one micro-batch.

    ``loss`` is a SUM over this micro-batch's units divided by the step's total of that unit, so that the gradients of
    the micro-batches add up to the gradient of the step, however it was cut. Each metric is (sum, weight): the trainer
    adds both over micro-batches and ranks, then divides.
    """

    loss: Tensor
    metrics: Mapping[str, tuple[Tensor | float, Tensor | float]] = field(default_factory=dict)


class Next(Enum):
    """What a source answers when a step has been committed."""

    CONTINUE = "continue"
    NEXT_ROLLOUT = "next_rollout"  # the rest of this rollout was given up (KL early stop)
    STOP = "stop"


class Prepare(Protocol):
    """A method's half without gradient: reference log-probs, values, advantages. Only sources call it: a file's source
    ``once`` for all samples or in each ``step``, an online one for each rollout.
    """

    @property
    def atom(self) -> Literal["completion", "group"]:
        """What a micro-batch may not cut."""

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        """Return the samples with token fields, completion fields and units added; all ranks enter together."""

    def state_dict(self) -> State:
        """Whatever changes from call to call (KL coefficient, statistics)."""

    def load_state_dict(self, state: State) -> None:
        """Take back what ``state_dict`` gave."""


class Objective(Protocol):
    """A method's half with gradient. The Trainer knows nothing else of a method."""

    def modules(self) -> dict[str, nn.Module]:
        """What is trained, saved, sharded and switched to eval, each module once."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups, each clipped by itself; its own ``learning_rate`` overrides the trainer's, a ``name`` is
        logged.
        """

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        """Yield the loss terms of one micro-batch; the trainer runs backward on each before it asks for the next.

        ``totals`` holds the step's sum of every unit, over all micro-batches of this batch's term and all ranks.
        """


class BatchSource(Protocol):
    """Where the micro-batches come from: a file, or the current policy."""

    def __iter__(self) -> Iterator[list[GroupBatch]]:
        """Yield the micro-batches of one optimiser step after another, from the current position to the end."""

    def __len__(self) -> int:
        """How many optimiser steps the whole run has: for the schedule and the progress bar."""

    def advance(self, metrics: Metrics) -> Next:
        """The step just yielded is committed: move the position."""

    def state_dict(self) -> State:
        """The position, with the prepared samples of a half-used rollout and the state of its Prepare."""

    def load_state_dict(self, state: State) -> None:
        """Continue from there."""


class Sampler(Protocol):
    """Tokens in, tokens and log-probs out: what can be trained on."""

    @property
    def exact(self) -> bool:
        """Whether its log-probs are the training forward's up to rounding in fp32; others' are computed anew."""

    def refresh(self) -> None:
        """The policy has changed since the last call: a sampler with weights of its own takes the new ones."""

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Completion]]:
        """Draw ``n`` completions of every prompt; ``keys`` names each prompt's random streams."""


class RewardSource(Protocol):
    """Anything that scores rollouts: a reward model, a cost model, a verifier, a judge, a function."""

    name: str

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score in the same order; a failure is a Score with ``error``, never a number in its place."""


class PairJudge(Protocol):
    """Anything that compares two completions of one prompt."""

    def compare(self, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[Verdict]:
        """p(first is better) for each pair, in the same order."""


class ChatModel(Protocol):
    """Conversations in, answers out: a critic, a reviser, a judge; a local model or one on a server."""

    name: str

    def chat(
        self, conversations: Sequence[Conversation], n: int, params: SamplingParams, keys: Sequence[int]
    ) -> list[list[Reply]]:
        """``n`` answers to each conversation, in the same order; ``keys`` names each one's random streams.

        A failure is a Reply with ``error``, never a text in its place.
        """

    def options(self, conversations: Sequence[Conversation], options: Sequence[str]) -> list[OptionScores]:
        """log p of each option as the beginning of the answer to each conversation; UNKNOWN from a model that tells
        no log-probs, an error where one could not be had.

        A server tells them up to where the options can be told apart. ValueError where one option begins another.
        """


class World(Protocol):
    """The processes that train together. ``LocalWorld`` is one process and the default."""

    rank: int
    size: int

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Add each value over the ranks; a key that one rank lacks counts as 0 there."""

    def max(self, value: float) -> float:
        """The largest value of all ranks."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""

    def gather(self, values: list[Any]) -> list[Any]:
        """All ranks' lists, joined in rank order, on every rank."""

    def unsharded(self, module: nn.Module) -> AbstractContextManager[None]:
        """Inside, every rank holds all of the module's parameters, so that its parts may be called alone, each rank
        as often as it likes. To read, not to train; ``state_dict`` would put it back into shards. All ranks enter and
        leave together."""

    def shard(self, module: nn.Module) -> None:
        """Distribute a module's parameters in place; its gradients are summed over the ranks."""

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor that may be sharded, on the CPU; all ranks call it together, for the same tensors in turn."""

    def place(self, whole: Tensor, target: Tensor) -> None:
        """Copy a whole tensor into one that may be sharded, each rank its own part."""


class LocalWorld:
    """One process."""

    rank = 0
    size = 1

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def max(self, value: float) -> float:
        return value

    def any(self, flag: bool) -> bool:
        return flag

    def gather(self, values: list[Any]) -> list[Any]:
        return list(values)

    def unsharded(self, module: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def shard(self, module: nn.Module) -> None:
        return None

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.detach().cpu()

    def place(self, whole: Tensor, target: Tensor) -> None:
        target.detach().copy_(whole)
