"""Samples from a file, step after step: the BatchSource of every offline method."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from baro.batch import GroupBatch, Sample
from baro.collate import collate
from baro.data.encode import progress
from baro.data.stored import Picked
from baro.errors import ConfigError, DataError
from baro.functional.streams import permutation
from baro.protocols import LocalWorld, Metrics, Next, Prepare, State, World

PREPARED_AT_ONCE = 256  # samples; enough for full micro-batches, little enough for a moving bar
_PIECE = re.compile(r"#\d+$")


class FileSource:
    """Every epoch goes through all samples in an order that is a function of (seed, term, epoch) alone.

    ``batch_size`` counts prompts of one optimiser step over all ranks; rank r takes every ``size``-th of them, maybe
    none. The last batch of an epoch may be smaller, and nothing is dropped. Either ``epochs`` or ``steps`` ends the
    run. ``once`` prepares all samples before the first step, ``step`` those of each step.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int,
        epochs: float | None = None,
        steps: int | None = None,
        seed: int,
        micro_batch_tokens: int,
        hidden_size: int,
        world: World | None = None,
        once: Prepare | None = None,
        step: Prepare | None = None,
        atom: Literal["completion", "group"] = "group",
        term: str = "main",
        per_row: int | None = None,
    ) -> None:
        if (epochs is None) == (steps is None):
            raise ConfigError("trainer: give either epochs or steps")
        if not samples:
            raise DataError("no sample to train on; see the ledger for what became of the rows")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.per_epoch = math.ceil(len(self.samples) / batch_size)
        self.total = steps if steps is not None else math.ceil((epochs or 0) * self.per_epoch)
        self.world: World = world or LocalWorld()
        self.once, self.step, self.term = once, step, term
        self.atom = next((prepare.atom for prepare in (step, once) if prepare), atom)
        self.micro_batch_tokens, self.hidden_size, self.per_row = micro_batch_tokens, hidden_size, per_row
        self.epoch = self.index = 0  # index counts the epoch's steps
        self._order: tuple[int, np.ndarray] | None = None  # of an epoch
        self._prepared = once is None

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[list[GroupBatch]]:
        self._prepare_once()
        while (position := self._position()) < self.total:
            yield self._collate(self._of_rank(self._batch()))
            assert self._position() != position, "advance() must be called between two steps"

    def advance(self, metrics: Metrics) -> Next:
        self.index += 1
        if self.index == self.per_epoch:
            self.epoch, self.index = self.epoch + 1, 0
        return Next.CONTINUE if self._position() < self.total else Next.STOP

    def state_dict(self) -> State:
        states = {name: prepare.state_dict() for name, prepare in self._prepares().items()}
        return {"epoch": self.epoch, "index": self.index, "prepare": states}

    def load_state_dict(self, state: State) -> None:
        self.epoch, self.index = state["epoch"], state["index"]
        for name, prepare in self._prepares().items():
            prepare.load_state_dict(state["prepare"][name])

    def _prepares(self) -> dict[str, Prepare]:
        return {name: prepare for name, prepare in (("once", self.once), ("step", self.step)) if prepare}

    def _position(self) -> int:
        return self.epoch * self.per_epoch + self.index

    def _batch(self) -> list[Sample]:
        """The samples of this step on all ranks."""
        if self._order is None or self._order[0] != self.epoch:
            order = permutation(len(self.samples), "epoch", self.seed, self.term, self.epoch)
            self._order = self.epoch, order
        chosen = self._order[1][self.index * self.batch_size : (self.index + 1) * self.batch_size]
        return [self.samples[i] for i in chosen.tolist()]

    def _of_rank(self, batch: list[Sample]) -> list[Sample]:
        share = batch[self.world.rank :: self.world.size]
        return self.step(share, self.world) if self.step else share

    def _collate(self, samples: list[Sample]) -> list[GroupBatch]:
        return collate(
            samples,
            micro_batch_tokens=self.micro_batch_tokens,
            hidden_size=self.hidden_size,
            atom=self.atom,
            per_row=self.per_row,
            term=self.term,
        )

    def _prepare_once(self) -> None:
        """Each rank prepares its share of every chunk, and all ranks get all of it: the next epoch deals anew."""
        if self._prepared or self.once is None:
            return
        prepared: list[Sample] = []
        size = self.world.size
        starts = range(0, len(self.samples), PREPARED_AT_ONCE)
        for start in progress(starts, len(self.samples), "preparing"):
            chunk = self.samples[start : start + PREPARED_AT_ONCE]
            shares = self.world.gather(self.once(chunk[self.world.rank :: size], self.world))
            offsets = np.cumsum([0, *(len(chunk[rank::size]) for rank in range(size))])
            prepared += [shares[offsets[i % size] + i // size] for i in range(len(chunk))]
        self.samples, self._prepared = prepared, True


def split_held_out(samples: Sequence[Sample], amount: float, seed: int) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """(training, held-out) samples, the same prompt never on both sides; nothing is copied.

    ``amount``: a fraction below 1, or a number of samples. The choice depends on the prompts' tokens and the seed, not
    on the order; pieces of one text stay together.
    """
    prompts = [_prompt_of(sample) for sample in samples]
    held = held_out_rows(prompts, amount, seed)
    train = [i for i in range(len(samples)) if i not in held]
    return Picked(samples, train), Picked(samples, sorted(held))


def held_out_rows(groups: Sequence[str], amount: float, seed: int) -> set[int]:
    """Which rows to hold out: whole groups in the order of their hashes, until ``amount`` rows are reached."""
    target = round(amount * len(groups)) if amount < 1 else int(amount)
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    held: set[int] = set()
    for group in sorted(members, key=lambda name: hashlib.sha256(f"{seed}\n{name}".encode()).digest()):
        if len(held) + len(members[group]) <= target:
            held.update(members[group])
    if not held or len(held) == len(groups):
        raise DataError(
            f"{amount:g} of {len(groups)} rows in {len(members)} groups of one prompt cannot be held out; "
            "both sides need at least one row"
        )
    return held


def _prompt_of(sample: Sample) -> str:
    """What must not stand on both sides: the prompt, and of raw text, which has none, the row."""
    if _PIECE.search(sample.key):
        return _PIECE.sub("", sample.key)
    return repr(sample.prompt_ids.tolist())
