"""What tests do on the rater's page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from playwright.sync_api import Locator, Page

# The pages tell a slip from a decision by the time between two events, and do some things a moment later. With this
# script the tests move that clock on where a person would wait; what a slow machine takes counts as well, as before.
CLOCK = """{
  const now = performance.now.bind(performance);
  const stamp = Object.getOwnPropertyDescriptor(Event.prototype, "timeStamp").get;
  const start = setTimeout.bind(window), stop = clearTimeout.bind(window);
  const timers = new Map(); // by their numbers: what is to run, and when
  let more = 0, last = 0;
  const arm = (number) => {
    const timer = timers.get(number);
    timer.real = start(() => run(number), timer.due - performance.now());
  };
  const run = (number) => {
    const { work, given } = timers.get(number);
    timers.delete(number);
    work(...given);
  };
  performance.now = () => now() + more;
  Object.defineProperty(Event.prototype, "timeStamp", { get() { return stamp.call(this) + more; } });
  window.setTimeout = (work, ms = 0, ...given) => {
    timers.set((last += 1), { work, given, due: performance.now() + ms });
    arm(last);
    return last;
  };
  window.clearTimeout = (number) => {
    stop(timers.get(number)?.real);
    timers.delete(number);
  };
  const asked = window.fetch.bind(window);
  let waiting = 0;
  window.fetch = (...given) => ((waiting += 1), asked(...given).finally(() => (waiting -= 1)));
  window.quiet = () => waiting === 0;
  window.later = (ms) => {
    more += ms;
    for (const [number, { due, real }] of [...timers].sort(([, one], [, other]) => one.due - other.due)) {
      if (!timers.has(number)) continue; // one that ran before has stopped it
      stop(real);
      if (due <= performance.now()) run(number);
      else arm(number);
    }
  };
}"""
LOAD_FAILED = "Failed to load resource"  # Chromium's own line for a 4xx, a 5xx or a dead network
SETTLED_MS = 520  # keys.js takes no key in a task's first 150, and nothing is submitted in its first 500
DOUBLE_MS = 520  # what is clicked so soon after another click at its place is the second of two
BOUNCE_MS = 140  # keys.js takes no second press of one key in 120
DRAFT_MS = 800  # draft.js sends what is written after this long
AGAIN_MS = 4000  # and what it could not send, again after this long
# A dialog, or what has stood on the screen for a while: its first element is `seen`.
THERE = """() => {
  const main = document.querySelector('#main');
  const seen = window.seen === main?.firstElementChild && !main?.hasAttribute('aria-busy');
  return document.readyState === 'complete' && (seen || document.querySelector('dialog[open]') !== null);
}"""


def settle(page: Page) -> None:
    """Until the page takes keys."""
    passed(page, SETTLED_MS)
    page.evaluate("() => { window.seen = document.querySelector('#main')?.firstElementChild; }")


def passed(page: Page, ms: int) -> None:
    """So much time has passed by the page's own clock, and what was pressed before has been drawn."""
    page.evaluate(
        "(ms) => window.later ? new Promise((done) => requestAnimationFrame(() => (later(ms), done())))"
        " : new Promise((done) => setTimeout(done, ms))",
        ms,
    )


def quiet(page: Page) -> None:
    """Until nothing is asked of the server any more, and what came has been drawn; for pages that ask for little."""
    page.wait_for_load_state("load")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    page.wait_for_function("() => quiet() && document.fonts.status === 'loaded'")


def drawn(page: Page) -> None:
    """Until there is a task, or nothing left; a guideline that comes first is on the screen, or said to be missing."""
    page.wait_for_function(
        "() => document.querySelector('dialog, #notice:not([hidden]), #main:not([aria-busy], [inert])')"
        " && !document.querySelector('#main[aria-busy]') && document.readyState === 'complete'"
    )
    settle(page)


def opened(page: Page, site: Any, work: Any) -> Page:
    """The rater's page of a project, with its first task."""
    page.goto(f"{site.url}/judge/{work.name}")
    drawn(page)
    return page


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


TRY_NOW = """() => [...document.querySelectorAll('button')]
  .find((one) => one.textContent === 'Try now' && one.checkVisibility())?.click()"""


def tried_now(page: Page) -> None:
    """Presses Try now if the page shows it: it tries by itself as well, and then takes the button away."""
    page.evaluate(TRY_NOW)


_pressed: WeakKeyDictionary[Page, str] = WeakKeyDictionary()  # the last key of each page


def press(page: Page, *keys: str) -> None:
    """One key after the other, once there is what they aim at; one that comes twice, as slowly as a finger."""
    if not page.evaluate(THERE):
        drawn(page)
    for key in keys:
        if key == _pressed.get(page):
            passed(page, BOUNCE_MS)
        page.keyboard.press(key)
        _pressed[page] = key


@contextmanager
def drafting(page: Page) -> Iterator[Any]:
    """What is written inside is kept on the server when this returns, and waits no longer to be sent."""
    with page.expect_response(lambda reply: reply.url.endswith("/draft")) as reply:
        yield reply
        passed(page, DRAFT_MS)


@contextmanager
def going(page: Page) -> Iterator[None]:
    """What is done inside leads to another page, whose buttons work when this returns."""
    with page.expect_navigation():
        yield


def managed(page: Page, site: Any, work: Any, tab: str) -> Page:
    """A tab of a project's pages for its manager, drawn."""
    page.goto(f"{site.url}/manage/{work.name}/{tab}")
    page.wait_for_selector("#main:not([aria-busy])")
    return page


def read_guideline(page: Page) -> None:
    """Until it has been shown for long enough, and then away with it."""
    page.locator("dialog").wait_for()
    settle(page)
    page.locator("dialog").get_by_role("button").click()
    page.locator("dialog").wait_for(state="detached")
    settle(page)


def answerable(page: Page) -> None:
    """Until a manager's page has a task to answer, and takes keys for it."""
    page.locator(".answering").first.wait_for()
    settle(page)


def chosen(page: Page) -> Locator:
    """What is chosen on the scale of a comparison, as its button says it."""
    return page.locator(".seven [aria-pressed=true] .label")


def counted(page: Page, done: int) -> None:
    """Until the page knows how many answers there are, and so what "back" leads to."""
    page.wait_for_function("(n) => parseInt(document.querySelector('#progress').textContent, 10) === n", arg=done)


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
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
