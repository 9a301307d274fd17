"""SIGTERM: handled after the current step, or raised at once where nothing would be lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM came inside ``Sigterm.interruptible``. Not an Exception: those are caught elsewhere."""


class Sigterm:
    """``came`` says whether SIGTERM has come since ``caught`` was entered."""

    def __init__(self) -> None:
        self.came = False
        self._raises = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep SIGTERM from ending this process; in a thread other than the main one nothing can be caught."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise Terminated here as soon as SIGTERM comes, or if it has come already."""
        self._raises = True
        try:
            if self.came:
                raise Terminated
            yield
        finally:
            self._raises = False

    def _handle(self, *_: object) -> None:
        self.came = True
        if self._raises:
            self._raises = False  # once: what is saved after it must not be interrupted
            raise Terminated
