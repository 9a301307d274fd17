"""A server that is killed while somebody works: no answer is lost, none counts twice."""

import random
import signal

import pytest
from browser.pages import LOAD_FAILED, counted, outbox, press, saving, tried_now, turning
from playwright.sync_api import expect

from baro.feedback import schema

CHOICE = (schema.judged_pair.c.outcome, schema.judged_pair.c.position, schema.judged_pair.c.strength)


@pytest.mark.parametrize(
    "arrived", [pytest.param(True, id="stored", marks=pytest.mark.slow), pytest.param(False, id="not stored")]
)
def test_server_killed_between_the_answer_and_its_reply(process, visits, at_work, arrived):
    visits.expect(LOAD_FAILED)
    work = process.work()
    for _ in range(2):
        work.add("pair")
    page = at_work(process, work)

    def die(route):
        if arrived:
            route.fetch()
        process.kill()
        route.abort()

    page.route("**/judgment", die, times=1)
    press(page, "1", "Enter")
    expect(page.locator("#status")).to_have_text("Not saved yet, retrying")
    assert len(work.judgments()) == arrived
    process.start()
    with saving(page):
        tried_now(page)
    with saving(page):
        press(page, "4", "Enter")
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 0, 3), ("tie", None, 0)]
    assert work.actions() == ["submit", "submit"]


def test_server_killed_with_the_request_in_its_hands_and_the_browser_closed(process, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = process.work()
    work.add("pair")
    page = at_work(process, work)
    process.signal(signal.SIGSTOP)  # it accepts what it will never answer
    with page.expect_request("**/judgment"):
        press(page, "6", "Enter")
    process.kill()
    context = page.context
    page.close()
    process.start()
    page = at_work(process, work, context=context)
    counted(page, 1)
    assert work.said(schema.judged_pair, *CHOICE) == [("win", 1, 2)]
    assert outbox(page) == []


@pytest.mark.slow
def test_server_killed_at_random_moments(process, visits, at_work):
    """Thirty answers, the server killed after most of them at some moment within a fifth of a second."""
    visits.expect(LOAD_FAILED)
    work = process.work()
    for _ in range(30):
        work.add("pair")
    page = at_work(process, work)
    draw, wanted = random.Random(7), []
    for _ in range(30):
        side, strength = draw.randint(1, 2), draw.randint(1, 3)
        wanted.append(("win", side - 1, strength))
        with turning(page):  # the next task comes when this one is saved
            press(page, str(4 - strength if side == 1 else 4 + strength), "Enter")
            if draw.random() < 0.7:
                page.wait_for_timeout(draw.uniform(0, 200))
                process.kill()
                process.start()
                tried_now(page)
    assert work.said(schema.judged_pair, *CHOICE) == wanted
    assert work.actions() == ["submit"] * 30
