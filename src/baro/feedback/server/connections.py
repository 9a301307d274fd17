"""Connections that wait: how long one may take over its headers, and how many may be open at once.

Below the application, where half a request has no route yet: uvicorn itself gives a client any time for its headers,
and answers 503 to everybody while such clients hold all its connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from baro.feedback.server.security import network

HEADER_SECONDS = 10.0  # from a connection's opening, or a request's first byte, to the end of its headers
PER_ADDRESS = 100  # connections of one address; many people may share one, with up to six each
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connections:
    """The open connections of a process, oldest first.

    Where an address has more than ``per_address``, or all have more than ``most``, the oldest one that waits for a
    request is closed: of that address, or of the one that has most. Requests under way are never cut: where all are,
    the new connection is closed.
    """

    def __init__(self, *, most: int, per_address: int = PER_ADDRESS, header_seconds: float = HEADER_SECONDS):
        self.most, self.per_address, self.header_seconds = most, per_address, header_seconds
        self.open: dict[bytes, dict[Guarded, None]] = {}

    def add(self, one: Guarded) -> None:
        """Takes a new connection in, and closes one where there are too many."""
        mine = self.open.setdefault(one.address, {})
        mine[one] = None
        crowded = mine if len(mine) > self.per_address else None
        if crowded is None and sum(map(len, self.open.values())) > self.most:
            crowded = max(self.open.values(), key=len)
        if crowded is not None:
            victim = next((each for each in crowded if each.waits and each is not one), one)
            self.discard(victim)
            victim.transport.abort()

    def discard(self, one: Guarded) -> None:
        """A connection is gone."""
        mine = self.open.get(one.address, {})
        mine.pop(one, None)
        if not mine:
            self.open.pop(one.address, None)


class Guarded(H11Protocol):
    """uvicorn's protocol of HTTP/1.1, with a deadline for headers and a place among ``Connections``."""

    def __init__(self, *arguments: Any, known: Connections, **more: Any):
        super().__init__(*arguments, **more)
        self.known, self.address = known, b""
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """No request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        super().connection_made(transport)
        self.address = network(self.client[0] if self.client else "")
        self._watch()
        self.known.add(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._unwatch()
        self.known.discard(self)
        super().connection_lost(exc)

    def _watch(self) -> None:
        if not self.waits:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.known.header_seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.waits and not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()
