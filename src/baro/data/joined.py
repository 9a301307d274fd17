"""Several sources as one: each optimiser step takes one step of every source."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from baro.batch import GroupBatch
from baro.data.source import FileSource
from baro.errors import ConfigError
from baro.protocols import BatchSource, Metrics, Next, State

log = logging.getLogger("baro")


class Joined:
    """``Joined({"rollout": ..., "ptx": ...})``: the first source leads, its end and its signals are the run's.

    Every source's micro-batches must carry the name given here as their term, so that each keeps totals of its own.
    Only the first source may end the run. Another one that is shorter is repeated where it reads samples from a file;
    any other kind of shorter source is a ConfigError. Both a repeated and a partly unused source are logged.
    """

    def __init__(self, sources: Mapping[str, BatchSource]) -> None:
        self.sources = dict(sources)
        (first, lead), *others = self.sources.items()
        for name, source in others:
            _cover(name, source, first, len(lead))

    def __len__(self) -> int:
        return len(next(iter(self.sources.values())))

    def __iter__(self) -> Iterator[list[GroupBatch]]:
        lead, *others = self.sources.values()
        following = [iter(source) for source in others]
        for micro_batches in lead:
            yield [*micro_batches, *(batch for steps in following for batch in next(steps))]

    def advance(self, metrics: Metrics) -> Next:
        signals = [source.advance(metrics) for source in self.sources.values()]
        return signals[0]

    def state_dict(self) -> State:
        return {name: source.state_dict() for name, source in self.sources.items()}

    def load_state_dict(self, state: State) -> None:
        for name, source in self.sources.items():
            source.load_state_dict(state[name])


def _cover(name: str, source: BatchSource, first: str, steps: int) -> None:
    """Make ``source`` last for all ``steps`` of the first source, or refuse it."""
    own = len(source)
    if own < steps:
        if not isinstance(source, FileSource):
            few = f"source '{name}' has {own} steps and '{first}' has {steps}"
            raise ConfigError(f"{few}; give '{name}' at least as many")
        source.total = steps
        log.info("%s: its %d steps are repeated to last for the %d steps of %s", name, own, steps, first)
    elif own > steps:
        log.info("%s: the last %d of its %d steps are not used, since %s has %d", name, own - steps, own, first, steps)
