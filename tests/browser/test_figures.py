"""Figures on a manager's pages: of what, in which language, and in tables that fit."""

from __future__ import annotations

import re

import pytest
from browser.pages import managed, quiet
from browser.website import judge
from feedback.reasons import made
from playwright.sync_api import expect

from baro.feedback.catalogue import LANGUAGES
from baro.feedback.undefined import sentence, undefined_json
from baro.functional.undefined import REASONS


def test_figures_under_the_newest_guideline_only(website, page):
    work = website.work(overlap=2)
    work.add("pair")
    work.guideline("one")
    judge(website, work)
    work.guideline("two")
    work.add("pair")
    judge(website, work)
    managed(page, website, work, "agreement")
    counts = page.locator("tbody th", has_text="Better answer").locator(".note")
    expect(counts).to_have_text("2 items, 4 judgments, 4 raters")
    page.get_by_role("button", name="Under the newest guideline only").click()
    expect(counts).to_have_text("1 items, 2 judgments, 2 raters")
    expect(page.get_by_role("table", name="By version of the guideline").get_by_text("Version 1")).to_have_count(1)


def test_figures_of_what_was_drawn_at_random(website, page):
    work = website.work(overlap=2)
    for _ in range(2):
        work.add("pair")
    managed(page, website, work, "agreement")
    expect(page.get_by_role("button", name="Drawn at random")).to_have_count(0)
    work.add("pair", policy="margin", score=0.0)
    judge(website, work, raters=2)
    managed(page, website, work, "agreement")
    expect(page.get_by_text("1 tasks were chosen by a reward model.")).to_be_visible()
    counts = page.locator("tbody th", has_text="Better answer").locator(".note")
    expect(counts).to_have_text("3 items, 6 judgments, 2 raters")
    page.get_by_role("button", name="Drawn at random").click()
    expect(counts).to_have_text("2 items, 4 judgments, 2 raters")


@pytest.mark.parametrize("lang", ["ko", pytest.param("en", marks=pytest.mark.slow)])
def test_every_reason_why_a_figure_is_undefined_is_in_the_readers_language(website, visits, lang):
    """The page's own words for every code; and none in another language where two judgments leave most undefined."""
    work = website.work(overlap=2)
    work.add("pair")
    judge(website, work)
    page = visits.page(website, website.manager(lang))
    managed(page, website, work, "agreement")
    told = [undefined_json(made(code)) for code in REASONS]
    words = "async (told) => told.map((await import(`/static/${document.body.dataset.version}/manage_ui.js`)).reason)"
    assert page.evaluate(words, told) == [sentence(one["undefined"], lang) for one in told]
    page.locator("details").evaluate_all("found => found.forEach((one) => (one.open = true))")
    text = page.locator("#main").inner_text()
    said = {other: [sentence(one["undefined"], other) for one in told] for other in LANGUAGES}
    assert any(one in text for one in said.pop(lang))
    assert [one for (others,) in [said.values()] for one in others if one in text] == []


def test_drift_and_the_judgments_behind_it(website, judged, page):
    managed(page, website, judged, "agreement")
    table = page.get_by_role("table", name="In the course of a sitting")
    expect(table).to_contain_text(re.compile(r"points.*×", re.DOTALL))
    table.get_by_role("button", name="Show last").click()
    expect(page.get_by_role("heading", name="In the last third of a sitting")).to_be_visible()
    shown = page.get_by_role("table", name="In the last third of a sitting")
    assert shown.locator("tbody tr").count() > 0
    expect(page.get_by_role("table", name="Bias").get_by_text("Pull of length")).to_be_visible()
    words = re.compile(r"ε = 0\.\d\d.*one right answer.*label_smoothing", re.DOTALL)
    expect(page.locator(".noise")).to_contain_text(words)


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_tables_say_dates_in_one_line_and_need_no_scrolling(website, judged, visits, width):
    """A row is a block on a phone: nothing is to be scrolled to, and every value stands below its name."""
    size = {"width": width, "height": 860}
    page = visits.page(website, website.manager("en"), viewport=size)
    for tab in ("guidelines", "tasks", "raters", "agreement", "adjudicate", "export", "overview"):
        managed(page, website, judged, tab)
        page.locator("details.fold > summary").evaluate_all("found => found.forEach((one) => one.click())")
        quiet(page)
        wide = "boxes => boxes.filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.ariaLabel)"
        assert page.locator(".scroller").evaluate_all(wide) == [], tab
        lines = "found => found.map((one) => [...one.getClientRects()].length)"
        assert set(page.locator("time").evaluate_all(lines)) <= {1}, tab
    head = page.get_by_role("table", name="Latest events").locator("thead")
    expect(head).to_be_visible(visible=width > 600)
