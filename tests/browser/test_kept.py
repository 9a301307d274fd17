"""What was written, read or decided is kept, and the page says no more of it than is so."""

import re

import pytest
from browser.pages import (
    AGAIN_MS,
    DRAFT_MS,
    LOAD_FAILED,
    chosen,
    close,
    counted,
    drafting,
    outbox,
    passed,
    press,
    read_guideline,
    saving,
    settle,
    tried_now,
    turning,
)
from playwright.sync_api import expect

from baro.feedback import schema

CHOICE = (schema.judged_pair.c.outcome, schema.judged_pair.c.position, schema.judged_pair.c.strength)


def with_pairs(website, count):
    work = website.work()
    for _ in range(count):
        work.add("pair")
    return work


def back(page, done):
    counted(page, done)
    with turning(page):
        press(page, "z")


# ------------------------------------------------------------------------------------------------------------ revisions


def test_a_revision_that_was_left_is_not_shown_as_saved(website, at_work):
    work = with_pairs(website, 2)
    page = at_work(website, work)
    with saving(page):
        press(page, "3", "Enter")
    back(page, 1)
    press(page, "6")
    expect(chosen(page)).to_have_text(["B clear\u00adly"])
    with turning(page):
        page.get_by_role("button", name="Return to the current task").click()
    back(page, 1)
    expect(chosen(page)).to_have_text(["A slight\u00adly"])
    expect(page.locator("#status")).to_have_text("Saved; change it if you like")


def test_a_change_that_was_not_submitted_is_shown_as_such(website, at_work):
    work = with_pairs(website, 2)
    page = at_work(website, work)
    for _ in range(2):
        with saving(page):
            press(page, "3", "Enter")
    back(page, 2)
    press(page, "6")
    with turning(page):
        press(page, "z")  # one further back, without a submission
    with turning(page):
        page.get_by_role("button", name="Return to the current task").click()
    back(page, 2)
    expect(chosen(page)).to_have_text(["B clear\u00adly"])
    expect(page.locator("#status")).to_have_text("Not saved")
    expect(page.locator("#notice")).to_contain_text("did not submit the change")
    with turning(page):
        page.get_by_role("button", name="Show the saved answer").click()
    expect(chosen(page)).to_have_text(["A slight\u00adly"])
    expect(page.locator("#status")).to_have_text("Saved; change it if you like")
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 0, 1)] * 2


def test_back_goes_further_than_what_was_asked_for_at_first(website, at_work):
    work = with_pairs(website, 3)
    page = at_work(website, work)
    page.route("**/history?limit=20&*", lambda route: route.continue_(url=route.request.url.replace("=20&", "=2&")))
    for key in "4x4":
        with saving(page):
            press(page, key, "Enter")
    counted(page, 3)
    for outcome in ("Tie", "Both bad", "Tie"):
        with turning(page):
            press(page, "z")
        expect(page.get_by_role("button", name=outcome)).to_have_attribute("aria-pressed", "true")
    press(page, "z")
    expect(page.locator("#notice")).to_have_text("There is no earlier answer.")


def test_an_answer_of_another_day_is_listed_with_its_day(website, at_work):
    work = with_pairs(website, 1)
    page = at_work(website, work)
    with saving(page):
        press(page, "4", "Enter")
    counted(page, 1)

    def older(route):
        told = route.fetch().json()
        told["items"][0]["submitted_ms"] -= 86_400_000
        route.fulfill(json=told)

    press(page, "h")
    expect(page.locator(".history .when")).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    press(page, "Escape")
    page.route("**/history?*", older)
    press(page, "h")
    expect(page.locator(".history .when")).to_have_text(re.compile(r"^\w+ \d+"))


# --------------------------------------------------------------------------------------------------------------- leases


@pytest.mark.parametrize(
    ("way", "comment"), [("Use the other", "from there"), pytest.param("Escape", "", marks=pytest.mark.slow)]
)
def test_who_does_not_choose_their_own_version_does_not_send_it(website, visits, at_work, way, comment):
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 1)
    person = work.rater()
    page = at_work(website, work, person)
    elsewhere = at_work(website, work, person)
    with drafting(elsewhere):
        press(elsewhere, "c")
        elsewhere.keyboard.type("from there")
    press(page, "3", "Enter")
    page.get_by_role("button", name="Take it back here").click()
    expect(page.locator("dialog")).to_contain_text("from there")
    if way == "Escape":
        press(page, way)
    else:
        page.get_by_role("button", name=way).click()
    expect(page.locator("#comment")).to_have_value(comment)
    expect(page.locator("#status")).to_contain_text("Draft saved")
    assert not work.judgments()
    assert outbox(page) == []  # the next visit does not send it either
    with saving(page):
        press(page, *([] if comment else ["Escape"]), "6", "Enter")
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 1, 2)]


def test_an_answer_is_sent_once_its_task_was_taken_back(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 1)
    person = work.rater()
    page = at_work(website, work, person)
    at_work(website, work, person)
    press(page, "3", "Enter")
    with saving(page):
        page.get_by_role("button", name="Take it back here").click()
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 0, 1)]


def test_a_draft_whose_reply_was_lost_is_nobody_elses(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 1)
    page = at_work(website, work)
    page.route("**/draft", lambda route: (route.fetch(), route.abort()), times=1)
    press(page, "c")
    page.keyboard.type("stored")
    passed(page, DRAFT_MS)
    expect(page.locator("#status")).to_have_text("Not saved yet, retrying")
    page.keyboard.type(", more")
    passed(page, AGAIN_MS)
    expect(page.locator("#status")).to_contain_text("Draft saved")
    page.route("**/draft", lambda route: (route.fetch(), route.abort()), times=1)
    page.keyboard.type(", stored again")
    passed(page, DRAFT_MS)
    expect(page.locator("#status")).to_have_text("Not saved yet, retrying")
    page.keyboard.type("!")
    page.reload()
    expect(page.locator("#comment")).to_have_value("stored, more, stored again!")
    expect(page.locator("dialog")).to_have_count(0)


def test_a_refused_answer_can_be_written_on(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 1)
    page = at_work(website, work, work.rater(lang="ko"))
    with drafting(page):
        press(page, "c")
        page.keyboard.type("one")
    refused = {"error": "invalid", "message": "no", "problems": ["criterion 'x' has no scores"]}
    page.route("**/judgment", lambda route: route.fulfill(status=422, json=refused), times=1)
    press(page, "Escape", "4", "Enter")
    expect(page.locator("#notice .hint")).to_have_text("서버가 알려 준 까닭(영어): criterion 'x' has no scores")
    with drafting(page) as reply:
        page.locator("#comment").fill("one, two")
    assert reply.value.ok
    expect(page.locator("dialog")).to_have_count(0)


# --------------------------------------------------------------------------------------------------------------- outbox


def test_a_decision_that_was_not_made_is_asked_for_again(website, visits, at_work):
    """What was not sent waits; a newer answer of the same task drops it; and of a withdrawal another thing is asked."""
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 1)
    person = work.rater()
    page = at_work(website, work, person)
    page.route("**/judgment", lambda route: route.abort())
    press(page, "1", "Enter")
    expect(page.locator("#notice")).to_be_visible()
    elsewhere = at_work(website, work, person)
    with saving(elsewhere):
        press(elsewhere, "5", "Enter")
    context = page.context
    close(page)
    for _ in range(2):
        page = context.new_page()
        page.goto(f"{website.url}/judge/{work.name}")
        expect(page.locator("dialog")).to_contain_text("could not be sent")
        press(page, "Escape")
        page.wait_for_selector("#main:not([aria-busy])")
        assert len(outbox(page)) == 1
        assert work.actions() == ["submit"]
    settle(page)
    back(page, 1)
    with saving(page):
        press(page, "Escape", "4", "Enter")
    assert outbox(page) == []
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 1, 1), ("tie", None, 0)]

    back(page, 1)
    page.route("**/retract", lambda route: route.abort())
    page.get_by_role("button", name="Withdraw").click()
    page.locator("dialog").get_by_role("button", name="Withdraw").click()
    expect(page.locator("#notice")).to_be_visible()
    back(elsewhere, 1)
    close(page)
    page = context.new_page()
    page.goto(f"{website.url}/judge/{work.name}")
    expect(page.locator("dialog")).to_contain_text("Withdraw the answer that is saved now?")
    page.get_by_role("button", name="Send it").click()
    expect(page.locator(".cards")).to_be_visible()  # the task comes again
    assert work.actions() == ["submit", "revise", "retract"]


def test_nothing_else_is_opened_while_an_answer_is_saved(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 2)
    page = at_work(website, work)
    with saving(page):
        press(page, "4", "Enter")
    counted(page, 1)
    page.context.set_offline(True)
    press(page, "x", "Enter")
    expect(page.locator("#status")).to_have_text("Offline: kept in this browser")
    press(page, "h")
    page.locator("#history").click()
    with saving(page):
        page.context.set_offline(False)
    expect(page.locator("dialog")).to_have_count(0)


def test_what_the_page_says_when_an_answer_is_saved_and_the_next_task_is_not_there(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = with_pairs(website, 2)
    page = at_work(website, work)
    page.route("**/next", lambda route: route.abort())
    press(page, "4", "Enter")
    expect(page.locator("#notice")).to_contain_text("The server does not answer. We keep trying.")
    expect(page.locator("#status")).to_contain_text(re.compile(r"^Saved \d"))
    page.unroute("**/next")
    with turning(page):
        tried_now(page)

    page.context.set_offline(True)
    press(page, "s", "Space", "Enter")
    expect(page.locator("#notice")).to_contain_text("You are offline. This was not done")
    page.context.set_offline(False)
    with turning(page):
        tried_now(page)
    expect(page.locator("h1")).to_have_text("Nothing left for now")
    assert page.evaluate("document.activeElement.tagName") == "H1"


# ---------------------------------------------------------------------------------------------------- time and skipping


def test_reading_time_outlives_a_look_back_and_the_guideline(website, visits, at_work):
    work = with_pairs(website, 2)
    page = at_work(website, work)
    with saving(page):
        press(page, "4", "Enter")
    page.evaluate("later(20000)")
    back(page, 1)
    page.evaluate("later(100000)")
    with turning(page):
        page.get_by_role("button", name="Return to the current task").click()
    work.guideline("# Rules")
    page.reload()
    expect(page.locator("dialog")).to_contain_text("Rules")
    page.evaluate("later(100000)")  # of the guideline
    read_guideline(page)
    with saving(page):
        press(page, "x", "Enter")
    spent = [row.visible_ms for row in work.judgments()]
    assert 20_000 <= spent[1] < 80_000


def test_a_problem_reported_with_a_skip_reaches_the_manager(website, visits, at_work):
    work = with_pairs(website, 1)
    page = at_work(website, work)
    press(page, "c")
    page.keyboard.type("there is a phone number")
    press(page, "Escape", "f")
    page.get_by_role("group", name="Response B").get_by_label("Has personal information").check()
    page.get_by_role("button", name="Save").click()
    press(page, "s")
    page.get_by_label("I do not want to see this content").check()
    page.get_by_label("More, if you like").fill("not mine to read")
    with turning(page):
        page.locator("dialog").get_by_role("button", name="Skip").click()
    page = visits.page(website, website.manager())
    page.goto(f"{website.url}/manage/{work.name}/tasks#task/{work.tasks[0]}")
    told = page.get_by_role("table", name="Skipped")
    expect(told).to_contain_text("I do not want to see this content: not mine to read")
    expect(told).to_contain_text("there is a phone number")
    with work.store.read() as c:
        shown = c.execute(schema.assignment.select().where(schema.assignment.c.task_id == work.tasks[0])).one()
    expect(told).to_contain_text(f"Response {shown.display_order[1] + 1}: Has personal information")
