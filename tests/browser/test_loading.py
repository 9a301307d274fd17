"""How a page arrives: many times in a row, in two tabs, and with a part of it missing. With the limits of ``serve``."""

import pytest
from browser.pages import LOAD_FAILED, settle
from playwright.sync_api import expect

READY = "() => !document.querySelector('#main[aria-busy]')"


def test_ten_quick_reloads_and_two_tabs(process, visits):
    """The rater's session has 120 requests at once and 20 a second; a page is about forty files."""
    work = process.work()
    work.add("pair")
    context = visits.context(process, work.rater())
    pages = [context.new_page() for _ in range(2)]
    for page in pages:
        page.goto(f"{process.url}/judge/{work.name}")
    answered = []
    pages[0].on("response", lambda response: answered.append(response.status))
    for _ in range(9):
        pages[0].reload(wait_until="domcontentloaded")
    for page in reversed(pages):  # who loads last has the task
        page.reload()
        page.wait_for_function(READY)
        expect(page.locator(".cards")).to_be_visible()
    assert 429 not in answered
    settle(pages[0])
    pages[0].keyboard.press("?")  # it takes keys
    expect(pages[0].locator("dialog")).to_be_visible()


def test_a_second_load_asks_for_no_file_again(process, visits):
    """Modules as well: they are below the version, and kept for good."""
    work = process.work()
    work.add("pair")
    page = visits.page(process, work.rater())
    address = f"{process.url}/judge/{work.name}"
    page.goto(address)
    page.wait_for_function(READY)
    size = """performance.getEntriesByType('resource')
      .filter((one) => one.name.includes('/static/')).map((one) => one.transferSize)"""
    assert min(page.evaluate(size)) > 0
    page.goto(address)
    page.wait_for_function(READY)
    kept = page.evaluate(size)
    assert len(kept) > 20
    assert set(kept) == {0}


QUICK = ("first.js", "work.css", "dom.js", "vendor/katex/katex.min.js")  # each in a way of its own
PARTS = (*QUICK, *("base.css", "vendor/katex/katex.min.css", "code.css", "work.js"))


@pytest.mark.parametrize(
    "missing", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in PARTS]
)
def test_a_part_that_does_not_come(website, visits, missing):
    """It is said at every load, whatever the browser remembers of the one before."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    context = visits.context(website, work.rater())
    context.route(f"**/static/*/{missing}", lambda route: route.fulfill(status=503))
    page = context.new_page()
    page.goto(f"{website.url}/judge/{work.name}")
    for last in (False, True):
        expect(page.locator("#unloaded")).to_contain_text("did not arrive")
        expect(page.locator("#unloaded")).to_be_visible()
        if last:
            context.unroute(f"**/static/*/{missing}")
        with page.expect_navigation():
            page.get_by_role("link", name="Load again now").click()
    page.wait_for_function(READY)
    expect(page.locator("#unloaded")).to_be_hidden()
    assert page.evaluate("sessionStorage.getItem('baro.reloads')") is None


def test_a_part_that_did_not_come_is_loaded_again_by_itself(website, visits):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    context = visits.context(website, work.rater())
    context.route("**/static/*/work.css", lambda route: route.fulfill(status=503))
    page = context.new_page()
    page.goto(f"{website.url}/judge/{work.name}")
    expect(page.locator("#unloaded")).to_be_visible()
    context.unroute("**/static/*/work.css")
    expect(page.locator("#unloaded")).to_be_hidden()
    page.wait_for_function(READY)


def test_a_managers_part_that_does_not_come(website, visits):
    visits.expect(LOAD_FAILED)
    work = website.work()
    context = visits.context(website, website.manager())
    context.route("**/static/*/manage_tasks.js", lambda route: route.abort())
    page = context.new_page()
    page.goto(f"{website.url}/manage/{work.name}/tasks")
    expect(page.locator("#unloaded")).to_contain_text("did not arrive")
    context.unroute("**/static/*/manage_tasks.js")
    page.wait_for_function(READY)
