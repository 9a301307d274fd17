"""One event loop for everything async: rewards of users, calls of servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def begun(work: Coroutine[Any, Any, T]) -> Future[T]:
    """The work, started; its ``result()`` waits for it."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled where the wait is interrupted."""
    future = begun(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """In a thread, so that connections outlive a call, and a program with a loop of its own may wait."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="async", daemon=True).start()
    return loop
