"""One Chromium and one server for the folder; each test gets profiles as new ones and a project of its own.

A page that complains fails its test: a console error (which a violation of the content security policy is, too), an
exception, a dialog, or a request that leaves this machine. A test names what it expects to read on the console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.pages import opened
from browser.profiles import WAIT_MS, Profile, Profiles, new_context
from browser.sheet import judged_work
from browser.website import Person, Process, Website, Work
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, WebError, expect, sync_playwright

from baro.feedback import coefficients

expect.set_options(timeout=WAIT_MS)
FLAGS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
_running: list[Any] = []  # Playwright, Chromium and its profiles, while tests of this folder run


@pytest.fixture
def profiles(chromium: str) -> Profiles:
    """Those of a Chromium that is started once."""
    if not _running:
        playwright = sync_playwright().start()
        chrome = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        _running.extend([playwright, chrome, Profiles(chrome)])
    return _running[2]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Playwright's event loop must be gone before another folder's tests run one."""
    if _running and (nextitem is None or Path(__file__).parent not in nextitem.path.parents):
        playwright, chrome, _ = _running
        _running.clear()
        chrome.close()
        playwright.stop()


@pytest.fixture(scope="session")
def website(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    site = Website(tmp_path_factory.mktemp("website"))
    yield site
    site.stop()


@pytest.fixture(scope="session", autouse=True)
def few_resamples() -> Iterator[None]:
    """For an interval on a page, which no test of the pages reads; the figures have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coefficients, "RESAMPLES", 20)
        yield


@pytest.fixture(scope="session")
def judged(website: Website) -> Work:
    """A project that people have judged, for tests that only look at it."""
    return judged_work(website)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """``baro feedback serve``, running; who kills it starts it again."""
    site = Process(tmp_path_factory.mktemp("process"))
    site.start()
    yield site
    site.stop()


class Visits:
    """Pages that are watched."""

    def __init__(self, profiles: Profiles) -> None:
        self.profiles = profiles
        self.borrowed: list[tuple[str, Profile, str]] = []
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.expected: list[str] = []

    def page(self, site: Any, person: Person | None = None, **options: Any) -> Page:
        """A page of a profile that is as new; ``person`` is signed in."""
        if not isinstance(site, Website):  # what a profile keeps is of one server
            return self.context(site, person, **options).new_page()
        kind, profile = self.profiles.borrow(self, options)
        self.borrowed.append((kind, profile, site.url))
        if person is not None:
            self.sign_in(profile.context, site, person)
        return profile.page

    def context(self, site: Any, person: Person | None = None, **options: Any) -> BrowserContext:
        """A profile of the test's own, for what cannot be undone: scripts at every start, a clock, an empty cache."""
        context = new_context(self.profiles.browser, self, options)
        self.contexts.append(context)
        if person is not None:
            self.sign_in(context, site, person)
        return context

    def sign_in(self, context: BrowserContext, site: Any, person: Person) -> None:
        """From now on the profile is this person's."""
        context.add_cookies([{"name": "baro_session", "value": person.token, "url": site.url, "httpOnly": True}])

    def expect(self, *lines: str) -> None:
        """Console errors that have one of these in them are part of the test."""
        self.expected += lines

    def end(self) -> None:
        """Every page is left; what it complains of then is heard as well."""
        for one in self.borrowed:
            self.profiles.give_back(*one)
        for context in self.contexts:
            context.close()

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(line in message.text for line in self.expected):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def failed(self, error: WebError) -> None:
        self.complaints.append(str(error.error))

    def dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def request(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.complaints.append(f"a request left: {request.url}")


@pytest.fixture
def visits(profiles: Profiles) -> Iterator[Visits]:
    made = Visits(profiles)
    yield made
    made.end()
    assert made.complaints == []


Open = Callable[..., Page]


@pytest.fixture
def page(website: Website, visits: Visits) -> Page:
    """Of a manager who reads English."""
    return visits.page(website, website.manager("en"))


@pytest.fixture
def at_work(visits: Visits) -> Open:
    """at_work(site, work, person=None, context=None, **options): the rater's page with a task, of a new rater."""

    def open_page(
        site: Any, work: Work, person: Person | None = None, context: BrowserContext | None = None, **options: Any
    ) -> Page:
        page = context.new_page() if context else visits.page(site, person or work.rater(), **options)
        return opened(page, site, work)

    return open_page
