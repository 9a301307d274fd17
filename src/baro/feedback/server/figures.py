"""Figures that are made of everything that was judged, computed no oftener than they are worth.

They are the same until something happens. While people judge, something always does, and then they may be as old as
``SHARE`` times what they took to compute: managers who look, and pages that look for them, cost raters little. What a
manager has done since is in them at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

SHARE = 20  # a twentieth of one core at most
AT_ONCE_SECONDS = 0.5  # what takes no longer is computed anew
KEPT = 200


@dataclass
class _Kept:
    value: Any
    state: int | None
    act: int
    at: float
    took: float


class Figures:
    """Values by key; of several who ask for the same at once one computes, and the others get what comes out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}
        self._turns: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, state: int | None, act: int, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gives, or gave: in this state of the store, None for one that is not known, or lately.

        ``act``: the last event that is no rater's work; what was computed before it will not do.
        """
        with self._guard:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            kept = self._kept.get(key)
            if kept is not None and self._may_serve(kept, state, act):
                return kept.value
            began = self._clock()
            value = compute()
            ended = self._clock()
            with self._guard:
                self._kept.pop(key, None)
                self._kept[key] = _Kept(value, state, act, ended, ended - began)
                if len(self._kept) > KEPT:  # the oldest goes
                    self._kept.pop(next(iter(self._kept)))
            return value

    def _may_serve(self, kept: _Kept, state: int | None, act: int) -> bool:
        if state is not None and kept.state == state:
            return True
        return kept.act == act and kept.took > AT_ONCE_SECONDS and self._clock() - kept.at < SHARE * kept.took
