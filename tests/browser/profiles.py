"""Browser profiles that tests borrow: started once for a kind of device, and as new for each test.

A profile that is given back has no cookie, nothing stored, no route and no page but its first. It keeps what a test
does not see: the files that the browser has fetched, and a running renderer, whose start takes longer than most tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from browser.pages import CLOCK
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Error, Request

WAIT_MS = 30_000  # at most, for what comes in a moment: a loaded machine is no fault of a page
WINDOW = {"width": 1280, "height": 860}
COLOURS = {"color_scheme": "light", "reduced_motion": "no-preference", "forced_colors": "none"}


class Watcher(Protocol):
    """Who is told of what a page does."""

    def console(self, message: ConsoleMessage) -> None: ...
    def failed(self, error: Any) -> None: ...
    def dialog(self, dialog: Dialog) -> None: ...
    def request(self, request: Request) -> None: ...


def new_context(browser: Browser, watcher: Watcher, options: Mapping[str, Any]) -> BrowserContext:
    """A browser profile that nobody has used."""
    context = browser.new_context(**{"viewport": WINDOW, "locale": "en-GB", **options})
    context.set_default_timeout(WAIT_MS)
    context.add_init_script(CLOCK)
    context.on("console", watcher.console)
    context.on("weberror", watcher.failed)
    context.on("dialog", watcher.dialog)
    context.on("request", watcher.request)
    return context


class Profile:
    """A browser profile with its first page; what happens there is told to ``borrower``."""

    def __init__(self, browser: Browser, options: Mapping[str, Any]) -> None:
        self.borrower: Watcher | None = None
        self.context = new_context(browser, self, options)
        self.page = self.context.new_page()
        self.colours = COLOURS

    def console(self, message: ConsoleMessage) -> None:
        if self.borrower is not None:
            self.borrower.console(message)

    def failed(self, error: Any) -> None:
        if self.borrower is not None:
            self.borrower.failed(error)

    def dialog(self, dialog: Dialog) -> None:
        if self.borrower is None:
            dialog.dismiss()
        else:
            self.borrower.dialog(dialog)

    def request(self, request: Request) -> None:
        if self.borrower is not None:
            self.borrower.request(request)

    def show(self, window: Mapping[str, int], colours: Mapping[str, str]) -> None:
        """The window's size and colours, which a page can change."""
        if self.page.viewport_size != window:
            self.page.set_viewport_size(dict(window))
        if self.colours != colours:
            self.page.emulate_media(**colours)
            self.colours = dict(colours)

    def clean(self, url: str) -> None:
        """As new again. The page is left first: what it does then belongs to who has borrowed it."""
        for page in self.context.pages:
            if page is not self.page:
                page.close()
        self.context.unroute_all(behavior="ignoreErrors")
        self.page.unroute_all(behavior="ignoreErrors")
        self.context.set_offline(False)
        self.page.goto(f"{url}/join", wait_until="commit")  # of the same origin, and keeps nothing by itself
        self.page.evaluate("localStorage.clear(); sessionStorage.clear(); history.replaceState(null, '', '/left')")
        self.context.clear_cookies()


class Profiles:
    """The profiles that wait to be borrowed, by what cannot be changed once they are there."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.waiting: dict[str, list[Profile]] = {}

    def borrow(self, borrower: Watcher, options: Mapping[str, Any]) -> tuple[str, Profile]:
        """A profile and the kind under which it is to be given back."""
        device = {name: value for name, value in options.items() if name not in {"viewport", *COLOURS}}
        kind = json.dumps(device, sort_keys=True)
        waiting = self.waiting.setdefault(kind, [])
        profile = waiting.pop() if waiting else Profile(self.browser, device)
        profile.borrower = borrower
        colours = {name: options.get(name, usual) for name, usual in COLOURS.items()}
        profile.show(options.get("viewport", WINDOW), colours)
        return kind, profile

    def give_back(self, kind: str, profile: Profile, url: str) -> None:
        """Its page may be gone, or may not answer: then the profile goes, too."""
        try:
            profile.clean(url)
        except Error:
            profile.context.close()
        else:
            self.waiting[kind].append(profile)
        profile.borrower = None
