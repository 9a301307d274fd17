"""What raters read first: the guideline, and responses that are covered until somebody wants to see them."""

import re

import pytest
from browser.pages import LOAD_FAILED, chosen, going, opened, press, read_guideline, saving, settle, tried_now
from playwright.sync_api import expect

from baro.feedback import schema


def guidelines(work):
    """The version of the guideline that each judgment went by, in their order."""
    with work.store.read() as c:
        known = {row.id: (row.lang, row.version) for row in c.execute(schema.guideline.select())}
    return [known[row.guideline_id] for row in work.judgments()]


@pytest.fixture
def without_guideline(website, visits):
    """A task, and its guideline, which cannot be had."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    work.guideline("# Be fair")
    page = visits.page(website, work.rater())
    page.route("**/guideline", lambda route: route.abort())
    opened(page, website, work)
    return work, page


def test_a_guideline_that_could_not_be_had_is_not_read(without_guideline):
    _, page = without_guideline
    expect(page.locator("#notice")).to_contain_text("The server does not answer. We keep trying.")
    expect(page.locator("dialog")).to_have_count(0)
    press(page, "?")
    expect(page.locator("#notice")).to_contain_text("The server did not answer. Please try again.")
    expect(page.locator("dialog")).to_have_count(0)
    page.unroute("**/guideline")
    page.reload()
    expect(page.locator("dialog")).to_contain_text("Be fair")
    read_guideline(page)
    page.route("**/guideline", lambda route: route.abort())
    press(page, "?")  # what was shown last is there without a network
    expect(page.locator("dialog")).to_contain_text("Be fair")


def test_nobody_answers_by_a_guideline_that_has_not_come(without_guideline):
    work, page = without_guideline
    press(page, "4", "Enter")
    page.locator(".seven button").first.dispatch_event("click")
    press(page, "Enter", "s")
    assert chosen(page).count() == 0
    expect(page.locator("dialog")).to_have_count(0)
    page.unroute("**/guideline")
    tried_now(page)
    read_guideline(page)
    assert page.evaluate("document.activeElement.tagName") == "H1"
    with saving(page):
        press(page, "4", "Enter")
    assert guidelines(work) == [("en", 1)]


def test_each_language_has_versions_of_its_own(website, at_work):
    work = website.work()
    for _ in range(2):
        work.add("pair")
    work.guideline("# Be fair", "en")
    page = at_work(website, work, work.rater(lang="ko"))
    expect(page.locator("dialog")).to_contain_text("Be fair")
    read_guideline(page)
    work.guideline("# 공정하게", "ko")
    with saving(page):
        press(page, "4", "Enter")
    expect(page.locator("dialog")).to_contain_text("공정하게")
    read_guideline(page)
    with saving(page):
        press(page, "4", "Enter")
    assert guidelines(work) == [("en", 1), ("ko", 1)]


def test_a_judgment_goes_by_what_was_shown_last(website, at_work):
    work = website.work()
    for _ in range(2):
        work.add("pair")
    work.guideline("# One")
    page = at_work(website, work)
    read_guideline(page)
    work.guideline("# Two")
    press(page, "?")
    expect(page.locator("dialog")).to_contain_text("Two")
    read_guideline(page)
    with saving(page):
        press(page, "4", "Enter")
    expect(page.locator("dialog")).to_contain_text("Two")  # looked up is not read, before the next task it is
    read_guideline(page)
    assert guidelines(work) == [("en", 2)]


@pytest.mark.parametrize(("blur", "covered"), [(None, {"safety"}), (True, {"pair", "safety"}), (False, set())])
def test_whose_responses_are_covered(website, at_work, blur, covered):
    work = website.work(**({} if blur is None else {"blur": blur}))
    for kind in ("pair", "safety"):
        work.add(kind)
    page = at_work(website, work)
    for kind in ("pair", "safety"):
        expect(page.locator(".covered")).to_have_count(2 if kind in covered else 0)
        if kind == "pair":
            press(page, *(["r", "r"] if covered else []))
            with saving(page):
                press(page, "4", "Enter")


def test_the_text_of_a_covered_response_is_not_in_the_editor_beside_it(website, at_work):
    work = website.work(blur=True)
    work.add("edit", ["something vile"])
    page = at_work(website, work)
    editor = page.locator(".editor")
    inert = "node => node.closest('[inert]') !== null && node.closest('.covered') !== null"
    assert editor.evaluate(inert)
    assert page.locator(".source").evaluate(inert)
    press(page, "r")
    assert not editor.evaluate(inert)
    editor.fill("something kind")
    with saving(page):
        page.keyboard.press("Control+Enter")
    assert len(work.judgments()) == 1


def test_of_many_the_one_on_the_screen_is_uncovered(website, at_work):
    work = website.work(blur=True)
    work.add("rank", [f"answer {n}" for n in range(6)])
    page = at_work(website, work)
    shown = page.locator(".card:not([hidden])")
    press(page, "ArrowRight", "ArrowRight", "r")
    expect(shown).to_have_attribute("aria-labelledby", "response-2")
    expect(shown.locator(".covered")).to_have_count(0)
    press(page, "r")  # nothing is hidden here any more: on to the first that is
    expect(shown).to_have_attribute("aria-labelledby", "response-0")
    expect(shown.locator(".covered")).to_have_count(0)
    assert page.locator(".covered").count() == 4


def test_a_manager_says_what_is_covered(website, visits):
    work = website.work()
    page = visits.page(website, website.manager())
    page.goto(f"{website.url}/manage/{work.name}/settings")
    choice = page.get_by_label("Hide responses at first")
    for label, value in (("Of every task", True), ("Of safety tasks", None), ("Of no task", False)):
        choice.select_option(label)
        with page.expect_response(lambda reply: reply.request.method == "PATCH") as reply:
            page.get_by_role("button", name="Save").first.click()
        assert reply.value.json()["settings"]["blur"] is value
    page.reload()
    expect(choice).to_have_value("false")


def test_the_way_out_of_the_only_project(website, visits, at_work):
    work = website.work()
    page = at_work(website, work)
    with going(page):
        page.get_by_role("link", name="Baro").click()
    with going(page):
        page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/join$"))
    page.goto(f"{website.url}/")
    expect(page).to_have_url(re.compile("/join$"))


LONG = [("user", "\n\n".join(f"Paragraph {n}. " + "Many words. " * 40 for n in range(12)) + "\n\nWhat is it about?")]


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_a_long_prompt_shows_its_first_lines(website, at_work, width):
    """The answers are on the first screen; all of the prompt is one key away, and stays open in another language."""
    work = website.work()
    work.add("pair", question=LONG)
    page = at_work(website, work, viewport={"width": width, "height": 844})
    body, last = page.locator(".prompt-body"), page.get_by_text("What is it about?")
    in_sight = (
        "node => node.getBoundingClientRect().bottom < document.querySelector('#bar').getBoundingClientRect().top"
    )
    assert page.locator(".card-head").first.evaluate(in_sight)
    more = page.get_by_role("button", name="Show all of it")
    expect(more).to_have_attribute("aria-expanded", "false")
    hidden = "body => body.scrollHeight - body.clientHeight"
    assert body.evaluate(hidden) > 100
    press(page, "q")
    less = page.get_by_role("button", name="Show its first lines")
    expect(less).to_have_attribute("aria-expanded", "true")
    assert body.evaluate(hidden) == 0
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport()
    page.locator("#language").click()
    expect(page.get_by_role("button", name="앞부분만 보기")).to_be_visible()
    assert body.evaluate(hidden) == 0
    press(page, "q")
    expect(page.get_by_role("button", name="모두 보기")).to_be_visible()
    assert body.evaluate(hidden) > 100


def test_a_link_in_the_hidden_part_of_a_prompt_opens_it(website, at_work):
    work = website.work()
    work.add("pair", question=[("user", LONG[0][1] + "\n\n[the paper](https://example.org/paper)")])
    page = at_work(website, work)
    page.get_by_role("link", name="the paper").focus()
    expect(page.get_by_role("button", name="Show its first lines")).to_be_visible()


def test_a_short_prompt_has_no_such_button(website, at_work):
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    expect(page.locator(".unfold")).to_be_hidden()
    press(page, "q")
    expect(page.locator(".folded")).to_have_count(0)


def test_how_to_answer_is_said_five_times_for_each_kind(website, at_work):
    work = website.work()
    for _ in range(6):
        work.add("pair")
    work.add("thumb")
    page = at_work(website, work)
    hint = page.locator("#how")
    for _ in range(5):
        expect(hint).to_be_visible()
        with saving(page):
            press(page, "4", "Enter")
    expect(hint).to_be_hidden()
    page.get_by_role("button", name="How to answer").click()
    expect(hint).to_have_text("Read the question and both responses, choose, then press Enter or Submit.")
    page.reload()
    expect(page.get_by_role("button", name="How to answer")).to_have_attribute("aria-expanded", "false")
    settle(page)  # from when the task is there: what is pressed at once would be a slip
    with saving(page):
        press(page, "4", "Enter")
    expect(hint).to_have_text("Give each response a thumb up or down.")
    expect(hint).to_be_visible()
