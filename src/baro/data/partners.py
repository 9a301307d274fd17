"""Mismatched pairs: to each row's prompt the completion of another row, as KTO's reference point needs them.

The partner is chosen by contents alone: all rows stand in a circle in the order of their hashes, and each takes the
next one that has another prompt and another text and fits behind its own prompt. So the same set of rows gives the same
pairs, in whatever order they stand in the file, and rows of equal contents have partners of equal contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from baro.batch import Sample
from baro.data.lazy import LazySamples
from baro.errors import DataError


class WithPartners(LazySamples):
    """Samples to each of which the first completion of another one is added as its partner, without a copy."""

    def __init__(self, samples: Sequence[Sample], partner_of: Sequence[int]) -> None:
        self.samples, self.partner_of = samples, np.asarray(partner_of, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, i: int) -> Sample:
        sample, other = self.samples[i], self.samples[int(self.partner_of[i])]
        partner = replace(other.completions[0], fields={}, units={}, partner=True)
        return sample.with_completions([*sample.completions, partner])


def with_partners(samples: Sequence[Sample], max_length: int) -> Sequence[Sample]:
    """Each sample with its partner, at most ``max_length`` tokens together. Raises DataError where one has none."""
    found = partners(samples, max_length)
    if (found < 0).any():
        raise DataError(
            f"{samples[int(np.argmin(found))].key}: no other row has another prompt and another completion that fits "
            f"behind this prompt into {max_length} tokens; KTO's z needs one: add rows, or take loss apo_zero_unpaired"
        )
    return WithPartners(samples, found.tolist())


def partners(samples: Sequence[Sample], max_length: int) -> np.ndarray:
    """For each sample the number of the one whose first completion is its partner, -1 where none will do."""
    hashes, lengths = np.zeros((3, len(samples)), dtype=np.uint64), np.zeros((2, len(samples)), dtype=np.int64)
    for i, sample in enumerate(samples):
        prompt, text = sample.prompt_ids, sample.completions[0].ids
        hashes[:, i] = _hash(prompt), _hash(text), _hash(prompt, text)
        lengths[:, i] = len(prompt), len(text)
    circle = np.argsort(hashes[2], kind="stable")
    (prompt_of, text_of, _), (before, after) = hashes[:, circle], lengths[:, circle]
    waiting, found = np.arange(len(circle)), np.full(len(circle), -1)
    for step in range(1, len(circle)):
        if not len(waiting):
            break
        other = (waiting + step) % len(circle)
        fits = (prompt_of[other] != prompt_of[waiting]) & (text_of[other] != text_of[waiting])
        fits &= before[waiting] + after[other] <= max_length
        found[circle[waiting[fits]]] = circle[other[fits]]
        waiting = waiting[~fits]
    return found


def _hash(*ids: Tensor) -> int:
    parts = b"".join(len(one).to_bytes(8, "little") + one.numpy().tobytes() for one in ids)
    return int.from_bytes(hashlib.sha256(parts).digest()[:8], "little")
