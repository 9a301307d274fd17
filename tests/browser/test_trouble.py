"""5, 6: two at once, too quick, and whatever fails on the way: no answer is lost, none counts twice."""

import re

from browser.pages import (
    DRAFT_MS,
    LOAD_FAILED,
    chosen,
    close,
    counted,
    drafting,
    outbox,
    passed,
    press,
    saving,
    settle,
    tried_now,
    turning,
    wait_for,
)
from playwright.sync_api import expect
from sqlalchemy import update

from baro.feedback import schema
from baro.feedback.ids import new_id
from baro.feedback.server.jobs import Draw, Job

CHOICE = (schema.judged_pair.c.outcome, schema.judged_pair.c.position, schema.judged_pair.c.strength)


# ---------------------------------------------------------------------------------------------------------- two at once


def test_two_raters_race_for_the_last_place(website, visits, at_work):
    work = website.work()
    pages = [at_work(website, work) for _ in range(2)]
    work.add("pair")
    for page in pages:  # both ask before either is answered
        page.get_by_role("button", name="Look again").click()
    for page in pages:
        page.wait_for_function("() => !document.querySelector('#main[aria-busy]')")
    wait_for(lambda: sum(page.locator(".cards").count() for page in pages) == 1)
    first, second = sorted(pages, key=lambda page: -page.locator(".cards").count())
    for page in pages:
        settle(page)

    # the first one stays away for too long, and the second gets the place
    mine = schema.assignment.c.task_id == work.tasks[0]
    work.store.write(lambda c: c.execute(update(schema.assignment).where(mine).values(expires_ms=1)))
    with turning(second):
        second.get_by_role("button", name="Look again").click()
    expect(second.locator(".cards")).to_be_visible()
    with saving(second):
        press(second, "4", "Enter")
    with saving(first):  # late, but work all the same
        press(first, "x", "Enter")
    states = sorted(row.state for row in work.judgments(schema.assignment.c.state))
    assert states == ["extra", "submitted"]
    assert sorted(work.said(schema.judged_pair, schema.judged_pair.c.outcome)) == [("both_bad",), ("tie",)]


def test_one_person_in_two_windows(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    one = at_work(website, work)
    with drafting(one):
        press(one, "c")
        one.keyboard.type("from the first")
    two = at_work(website, work, context=one.context)
    expect(two.locator("#comment")).to_have_value("from the first")

    one.bring_to_front()
    one.locator("#comment").fill("changed in the first")
    passed(one, DRAFT_MS)
    expect(one.locator("#notice")).to_contain_text("opened in another window")
    with drafting(one):
        one.get_by_role("button", name="Take it back here").click()
    expect(one.locator("#comment")).to_have_value("changed in the first")
    expect(one.locator("#status")).to_contain_text("Draft saved")

    two.bring_to_front()
    press(two, "Escape", "6", "Enter")  # this window's lease is worth nothing now
    expect(two.locator("#notice")).to_contain_text("opened in another window")
    one.bring_to_front()
    press(one, "Escape")
    with saving(one):
        press(one, "3", "Enter")
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 0, 1)]
    assert [row.comment for row in work.judgments()] == ["changed in the first"]
    assert outbox(two) == outbox(one)


def test_two_versions_of_a_draft_are_both_shown(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    with drafting(page):
        press(page, "c")
        page.keyboard.type("mine")
    theirs = {"answer": {"kind": "pair", "choice": {"outcome": None, "position": None, "strength": 0}},
              "comment": "theirs", "confidence": None, "flags": []}  # fmt: skip
    work.store.write(lambda c: c.execute(update(schema.draft).values(version=7, answer=theirs)))
    page.keyboard.type("!")
    passed(page, DRAFT_MS)
    expect(page.locator("dialog")).to_contain_text("theirs")
    expect(page.locator("dialog")).to_contain_text("mine!")
    page.get_by_role("button", name="Use the other").click()
    expect(page.locator("#comment")).to_have_value("theirs")


# ------------------------------------------------------------------------------------------------------------ too quick


def test_keys_that_are_held_or_repeated(website, at_work):
    work = website.work()
    for _ in range(6):
        work.add("pair")
    page = at_work(website, work)
    for key in ("4", "x", "6"):
        for _ in range(30):  # the first is a key press, what follows are repetitions
            page.keyboard.down(key)
        page.keyboard.up(key)
        with saving(page):
            for _ in range(30):
                page.keyboard.down("Enter")
        page.keyboard.down("Enter")
        page.keyboard.up("Enter")
    settle(page)
    assert work.said(schema.judged_pair, *CHOICE) == [("tie", None, 0), ("both_bad", None, 0), ("win", 1, 2)]
    expect(chosen(page)).to_have_count(0)


def test_a_key_before_anybody_can_have_read_the_task(website, at_work):
    """Pressed the moment that a task comes up, whether drawn anew or with a focused button."""
    work = website.work()
    for _ in range(3):
        work.add("pair")
    page = at_work(website, work)
    page.evaluate(
        """() => { window.fired = 0;
        const go = () => ['Digit4', 'Enter'].forEach((code) => { window.fired += 1;
          document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, code, key: code})); });
        new MutationObserver(() => document.querySelector('.cards') && go()).observe(
          document.querySelector('#main'), {childList: true}); }"""
    )
    with saving(page):
        press(page, "4", "Enter")
    assert page.evaluate("fired") >= 2
    assert work.actions() == ["submit"]


# -------------------------------------------------------------------------------------------------------------- failing


def test_offline_while_saving(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    page.context.set_offline(True)
    press(page, "1", "Enter")
    expect(page.locator("#status")).to_have_text("Offline: kept in this browser")
    assert len(outbox(page)) == 1
    press(page, "4", "z", "s")  # nothing changes what is on its way
    assert not work.judgments()
    with saving(page):
        page.context.set_offline(False)
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 0, 3)]
    assert outbox(page) == []


def test_a_draft_written_offline(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    page.context.set_offline(True)
    press(page, "c")
    page.keyboard.type("on the train")
    passed(page, DRAFT_MS)
    expect(page.locator("#status")).to_have_text("Offline: kept in this browser")
    page.context.set_offline(False)
    expect(page.locator("#status")).to_contain_text("Draft saved")
    page.evaluate("localStorage.clear()")  # as on another computer
    page.reload()
    expect(page.locator("#comment")).to_have_value("on the train")


def test_a_reload_loses_nothing_that_was_typed(website, at_work):
    work = website.work()
    work.add("edit", ["the text"])
    page = at_work(website, work)
    page.locator(".editor").fill("the text, better")
    page.reload()
    expect(page.locator(".editor")).to_have_value("the text, better")


def test_what_was_typed_outlives_the_lease(website, visits, at_work):
    """It ran out, and somebody else's asking has freed it; what only this browser has goes on, too."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    with drafting(page):
        press(page, "c")
        page.keyboard.type("on the server")
    page.route("**/draft", lambda route: route.abort())
    page.keyboard.type(", and here")
    now_late = update(schema.assignment).where(schema.assignment.c.task_id == work.tasks[0]).values(expires_ms=1)
    work.store.write(lambda c: c.execute(now_late))
    other = at_work(website, work)
    press(other, "s", "Space")
    with other.expect_response(re.compile("/skip$")):
        press(other, "Enter")
    page.reload()
    expect(page.locator("#comment")).to_have_value("on the server, and here")
    expect(page.locator("dialog")).to_have_count(0)


def test_errors_and_silence_of_the_server(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    person = work.rater()
    context = visits.context(website, person)
    context.add_init_script(
        "{ const of = AbortSignal.timeout; AbortSignal.timeout = () => of.call(AbortSignal, 400); }"
    )
    page = at_work(website, work, context=context)
    answers = [500, 429, 503, "silence", "cut", "stored, then cut"]
    asked = []

    def answer(route):
        asked.append(route.request.post_data_json["key"])
        match answers.pop(0) if answers else "through":
            case int(status):
                route.fulfill(status=status, headers={"Retry-After": "1"}, body='{"error": "busy"}')
            case "silence":
                pass  # the page gives up by itself
            case "cut":
                route.abort()
            case "stored, then cut":
                route.fetch()
                route.abort()
            case _:
                route.continue_()

    page.route("**/judgment", answer)
    with saving(page):
        press(page, "5", "Enter")
        for turn in range(1, 7):  # one that is under way is not asked again
            wait_for(lambda turn=turn: tried_now(page) or len(asked) > turn)
            expect(page.locator("#status")).to_have_text(re.compile("^(Not saved yet, retrying|Saved)"))
    assert len(asked) == 7
    assert len(set(asked)) == 1
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 1, 1)]


def test_stored_but_nobody_heard(website, visits, at_work):
    """The connection dies after the server stored the answer, and then the window is closed."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    person = work.rater()
    page = at_work(website, work, person)
    page.route("**/judgment", lambda route: (route.fetch(), route.abort()))
    press(page, "1", "Enter")
    expect(page.locator("#notice")).to_be_visible()
    assert len(outbox(page)) == 1
    context = page.context
    close(page)
    page = at_work(website, work, context=context)
    counted(page, 1)
    assert outbox(page) == []
    assert work.actions() == ["submit"]


def test_what_was_not_sent_waits_for_the_next_visit(website, visits, at_work):
    """An answer that never arrived, and the task answered otherwise elsewhere since: the rater decides."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    person = work.rater()
    page = at_work(website, work, person)
    page.route("**/judgment", lambda route: route.abort())
    press(page, "1", "Enter")
    expect(page.locator("#notice")).to_be_visible()
    elsewhere = at_work(website, work, person)  # another profile: it knows nothing of the first
    with saving(elsewhere):
        press(elsewhere, "5", "Enter")
    context = page.context
    close(page)
    page = context.new_page()
    page.goto(f"{website.url}/judge/{work.name}")
    expect(page.locator("dialog")).to_contain_text("could not be sent")
    page.get_by_role("button", name="Send it").click()
    page.wait_for_selector("#main:not([aria-busy])")
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 1, 1), ("win", 0, 3)]
    assert work.actions() == ["submit", "revise"]


def test_the_reply_to_an_invitation_is_lost(website, visits):
    """Asked for again by itself, and by opening the link again; in another browser the link is worth nothing."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    stored = lambda route: (route.fetch(), route.abort())  # noqa: E731
    _, token = work.invite()
    link = f"{website.url}/join#{token}"
    page = visits.page(website)
    context = page.context
    page.route("**/api/session", stored)
    with page.expect_event("requestfailed"):
        page.goto(link)
    expect(page.locator("#state")).to_contain_text("Trying again")
    page.close()

    other = visits.page(website)
    other.goto(link)
    expect(other.locator("#state")).to_contain_text("has been used or has expired")

    page = context.new_page()
    page.route("**/api/session", stored, times=1)
    page.goto(link)
    page.wait_for_url(f"**/judge/{work.name}")
    assert page.evaluate("localStorage.getItem('baro.join')") is None
    page.context.clear_cookies()
    page.goto(link)
    expect(page.locator("#state")).to_contain_text("has been used or has expired")


def test_a_reload_right_after_the_language_was_changed(website, visits, at_work):
    """The server has not heard of it, once and again; then it has, and the choice is not kept here any longer."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    person = work.rater(lang="en")
    page = at_work(website, work, person)
    page.route("**/api/me", lambda route: route.abort() if route.request.method == "PATCH" else route.continue_())
    page.locator("#language").click()
    expect(page.locator("h1")).to_contain_text("어느")
    page.reload()
    expect(page.locator("h1")).to_contain_text("어느")
    page.unroute("**/api/me")
    with page.expect_response(lambda reply: reply.request.method == "PATCH"):
        page.reload()
    page.wait_for_function("() => localStorage.getItem('baro.lang') === null")
    elsewhere = at_work(website, work, person)
    expect(elsewhere.locator("h1")).to_contain_text("어느")


def test_a_job_that_was_cut_short_is_shown_with_its_log(website, visits):
    """A server that was started anew finds it in its folder; started again, it says why it cannot go on."""
    work = website.work()
    folder = website.folder / "jobs" / new_id()
    folder.mkdir(parents=True)
    (folder / "log-0.txt").write_text("loading the model\n")
    draws = [Draw(policy="gone", n=2)]
    job = Job(
        folder, work.project.id, work.name, draws, 3, "test", 1_800_000_000_000, "interrupted", problem="cut short"
    )
    job.save()
    page = visits.page(website, website.manager())
    page.goto(f"{website.url}/manage/{work.name}/prompts")
    shown = page.locator(".job")
    expect(shown).to_contain_text("Cut short")
    expect(shown).to_contain_text("0 of 6 answers")
    expect(shown.locator(".log")).to_have_text("loading the model")
    shown.get_by_role("button", name="Start again").click()
    expect(shown).to_contain_text("Stopped")
    expect(shown).to_contain_text("'gone' is no policy of this server")
    page.locator("#language").click()
    expect(shown).to_contain_text("멈췄어요")
    expect(shown.get_by_role("button", name="이어서 다시 시작")).to_be_visible()
