"""What tests do on the rater's page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from playwright.sync_api import Locator, Page

# The pages tell a slip from a decision by the time between two events. With this script the tests move that clock on
# where a person would wait; what a slow machine takes counts as well, as before.
CLOCK = """{
  const now = performance.now.bind(performance);
  const stamp = Object.getOwnPropertyDescriptor(Event.prototype, "timeStamp").get;
  let more = 0;
  performance.now = () => now() + more;
  Object.defineProperty(Event.prototype, "timeStamp", { get() { return stamp.call(this) + more; } });
  window.later = (ms) => { more += ms; };
}"""
LOAD_FAILED = "Failed to load resource"  # Chromium's own line for a 4xx, a 5xx or a dead network
SETTLED_MS = 520  # keys.js takes no key in a task's first 150, and nothing is submitted in its first 500
DOUBLE_MS = 520  # what is clicked so soon after another click at its place is the second of two
BOUNCE_MS = 140  # keys.js takes no second press of one key in 120


def settle(page: Page) -> None:
    """Until the page takes keys."""
    passed(page, SETTLED_MS)


def passed(page: Page, ms: int) -> None:
    """So much time has passed by the page's own clock, and what was pressed before has been drawn."""
    page.evaluate(
        "(ms) => window.later ? new Promise((done) => requestAnimationFrame(() => (later(ms), done())))"
        " : new Promise((done) => setTimeout(done, ms))",
        ms,
    )


def drawn(page: Page) -> None:
    """Until there is a task, or nothing left; a guideline that comes first is on the screen, or said to be missing."""
    page.wait_for_function(
        "() => document.querySelector('dialog, #notice:not([hidden]), #main:not([aria-busy], [inert])')"
        " && !document.querySelector('#main[aria-busy]')"
    )
    settle(page)


@contextmanager
def turning(page: Page) -> Iterator[None]:
    """What is done inside leads to another task, or to the same one opened anew; returns when it can be answered."""
    page.evaluate("document.querySelectorAll('#main > *').forEach((node) => node.setAttribute('data-old', ''))")
    yield
    page.wait_for_function("() => !document.querySelector('#main[aria-busy], #main [data-old]')")
    settle(page)


@contextmanager
def saving(page: Page) -> Iterator[None]:
    """What is done inside submits an answer, which is stored when this returns."""
    with turning(page):
        yield
        page.wait_for_selector("#status[data-state='status.saved']")


_pressed: WeakKeyDictionary[Page, str] = WeakKeyDictionary()  # the last key of each page


def press(page: Page, *keys: str) -> None:
    """One key after the other; one that comes twice, as slowly as a finger."""
    for key in keys:
        if key == _pressed.get(page):
            passed(page, BOUNCE_MS)
        page.keyboard.press(key)
        _pressed[page] = key


def chosen(page: Page) -> Locator:
    """What is chosen on the scale of a comparison, as its button says it."""
    return page.locator(".seven [aria-pressed=true] .label")


def counted(page: Page, done: int) -> None:
    """Until the page knows how many answers there are, and so what "back" leads to."""
    page.wait_for_function("(n) => document.querySelector('#progress').textContent.startsWith(`${n} `)", arg=done)


def wait_for(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Until something is so on the server's side, which no event tells."""
    waiting = threading.Event()
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        waiting.wait(0.02)


def outbox(page: Page) -> Sequence[str]:
    """The answers that wait in the browser."""
    return page.evaluate("Object.keys(localStorage).filter((name) => name.startsWith('baro.outbox.'))")


def close(page: Page) -> None:
    """Close a page that waits to send something: its routes go first, and it would send after all."""
    page.goto("about:blank")
    page.close()
