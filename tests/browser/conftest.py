"""One Chromium and one server for the folder; each test gets contexts and a project of its own.

A page that complains fails its test: a console error (which a violation of the content security policy is, too), an
exception, a dialog, or a request that leaves this machine. A test names what it expects to read on the console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.pages import CLOCK, drawn
from browser.website import Person, Process, Website, Work
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
_running: list[Any] = []  # Playwright and Chromium, while tests of this folder run


@pytest.fixture
def browser(chromium: str) -> Browser:
    """Chromium, started once."""
    if not _running:
        playwright = sync_playwright().start()
        _running.extend([playwright, playwright.chromium.launch(executable_path=chromium, args=FLAGS)])
    return _running[1]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Playwright's event loop must be gone before another folder's tests run one."""
    if _running and (nextitem is None or Path(__file__).parent not in nextitem.path.parents):
        playwright, chrome = _running
        _running.clear()
        chrome.close()
        playwright.stop()


@pytest.fixture(scope="session")
def website(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    site = Website(tmp_path_factory.mktemp("website"))
    yield site
    site.stop()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """``baro feedback serve``, running."""
    site = Process(tmp_path / "store")
    site.start()
    yield site
    site.stop()


class Visits:
    """Pages that are watched."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.expected: list[str] = []

    def context(self, site: Any, person: Person | None = None, **options: Any) -> BrowserContext:
        """A new browser profile; ``person`` is signed in."""
        given = {"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", **options}
        context = self.browser.new_context(**given)
        context.set_default_timeout(15_000)
        context.add_init_script(CLOCK)
        if person is not None:
            self.sign_in(context, site, person)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("dialog", self._dialog)
        context.on("request", lambda request: self._request(request))
        self.contexts.append(context)
        return context

    def sign_in(self, context: BrowserContext, site: Any, person: Person) -> None:
        """From now on the profile is this person's."""
        context.add_cookies([{"name": "baro_session", "value": person.token, "url": site.url, "httpOnly": True}])

    def expect(self, *lines: str) -> None:
        """Console errors that have one of these in them are part of the test."""
        self.expected += lines

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(line in message.text for line in self.expected):
            self.complaints.append(message.text)

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.complaints.append(f"a request left: {request.url}")


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    made = Visits(browser)
    yield made
    for context in made.contexts:
        context.close()
    assert made.complaints == []


Open = Callable[..., Page]


@pytest.fixture
def at_work(visits: Visits) -> Open:
    """at_work(site, work, person=None, context=None, **options): the rater's page with a task, of a new rater."""

    def open_page(
        site: Any, work: Work, person: Person | None = None, context: BrowserContext | None = None, **options: Any
    ) -> Page:
        page = (context or visits.context(site, person or work.rater(), **options)).new_page()
        page.goto(f"{site.url}/judge/{work.name}")
        drawn(page)
        return page

    return open_page
