"""Sequences of samples that are made, or found elsewhere, when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from baro.batch import Sample


class LazySamples(Sequence[Sample]):
    """Indices and slices as of a list, from ``__len__`` and ``sample``."""

    @abstractmethod
    def sample(self, i: int) -> Sample:
        """The sample with the number i, counted from 0."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self.sample(i) for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there are {len(self)} samples, and none has the number {index}")
        return self.sample(position)
