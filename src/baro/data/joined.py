"""Several sources as one: each optimiser step takes one step of every source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from baro.batch import GroupBatch
from baro.protocols import BatchSource, Metrics, Next, State


class Joined:
    """``Joined({"rollout": ..., "ptx": ...})``: the first source leads, its end and its signals are the run's.

    Every source's micro-batches must carry the name given here as their term, so that each keeps totals of its own.
    """

    def __init__(self, sources: Mapping[str, BatchSource]) -> None:
        self.sources = dict(sources)

    def __len__(self) -> int:
        return len(next(iter(self.sources.values())))

    def __iter__(self) -> Iterator[list[GroupBatch]]:
        for steps in zip(*(iter(source) for source in self.sources.values()), strict=False):
            yield [batch for micro_batches in steps for batch in micro_batches]

    def advance(self, metrics: Metrics) -> Next:
        signals = [source.advance(metrics) for source in self.sources.values()]
        return signals[0]

    def state_dict(self) -> State:
        return {name: source.state_dict() for name, source in self.sources.items()}

    def load_state_dict(self, state: State) -> None:
        for name, source in self.sources.items():
            source.load_state_dict(state[name])
