"""10: axe (contrast included), overflow and cut texts on every screen, at four widths, both languages and colours."""

import pytest
from browser.looks import outside, overflow, violations
from browser.pages import drawn, press, quiet, settle, turning
from browser.sheet import TABS, manager_screens
from browser.website import GUIDELINE, KINDS, QUESTION, sample_texts
from playwright.sync_api import expect

from baro.feedback import people
from baro.feedback.catalogue import catalogue

SIZES = ({"width": 1280, "height": 860}, {"width": 900, "height": 700}, {"width": 390, "height": 844},
         {"width": 320, "height": 640})  # fmt: skip
# a window of 1280 pixels at 200 % has 640, each twice as large
WAYS = {
    "light": {},
    "dark, phone": {"color_scheme": "dark", "viewport": SIZES[2], "has_touch": True, "is_mobile": True},
    "forced colours, 200 %, still": {"forced_colors": "active", "reduced_motion": "reduce", "device_scale_factor": 2,
                                     "viewport": {"width": 640, "height": 430}},
    "dark, narrow": {"color_scheme": "dark", "viewport": SIZES[3]},
}  # fmt: skip
FIRST = {"pair": "1", "rank": "21", "thumb": "1", "safety": "n", "criteria": "3", "edit": "e"}


def fill(work, lang):
    """One task of every kind."""
    work.criteria(("correctness", "clarity", "overall"))
    for kind in KINDS:
        work.add(kind, sample_texts(kind, lang), question=QUESTION[lang], finished=kind != "pair")


def leave(page):
    """Skip, for some reason."""
    page.get_by_label("Another reason").or_(page.get_by_label("다른 이유가 있어요")).check()
    page.locator("dialog .primary").click()


def each_kind(page, work):
    """Every kind of task in turn, the others skipped."""
    for at, kind in enumerate(KINDS):
        yield kind
        if at < len(KINDS) - 1:
            press(page, "Escape")
            settle(page)
            press(page, "s")
            with turning(page):
                leave(page)


SLOW = ("forced colours, 200 %, still", "dark, narrow")


@pytest.mark.parametrize("way", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else []) for one in WAYS])
def test_axe_finds_nothing_serious_on_the_raters_page(website, at_work, way):
    work = website.work(blur=way == "light", thumb_reasons=("wrong", "too long"))
    fill(work, "ko")
    page = at_work(website, work, **WAYS[way])
    for kind in each_kind(page, work):
        press(page, "c", "Escape", *FIRST[kind])
        assert violations(page) == [], kind
    page.evaluate("document.activeElement.blur()")
    for key in "kh":
        press(page, key)
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        press(page, "Escape")


def test_axe_finds_nothing_serious_elsewhere(website, visits):
    work, other = website.work(), website.work()
    work.guideline(GUIDELINE["en"])
    person = work.rater()
    website.store.write(lambda c: people.add_member(c, other.project.id, person.id, "test"))
    for options in ({}, {"color_scheme": "dark", "viewport": SIZES[3]}):
        page = visits.page(website, person, **options)
        for path in ("/join", "/", f"/judge/{work.name}"):
            page.goto(website.url + path)
            (drawn if path.startswith("/judge") else quiet)(page)
            assert violations(page) == [], path
            assert overflow(page) <= 0
            assert outside(page) == []


REPORT = """async (state) => (await import(`/static/${document.body.dataset.version}/say.js`))
  .report(state, {time: '12:34:56'})"""


@pytest.mark.parametrize("lang", ["ko", pytest.param("en", marks=pytest.mark.slow)])
def test_the_bar_of_a_pair_stays_as_it_is_when_something_is_chosen(website, at_work, lang):
    """The most used one: seven in a row, mirrored about the tie, and nothing moves under the pointer."""
    work = website.work()
    work.add("pair", sample_texts("pair", lang))
    page = at_work(website, work, work.rater(lang=lang))
    boxes = (
        "[...document.querySelectorAll('#answer button, #side button')].filter((one) => one.checkVisibility())"
        ".map((one) => one.getBoundingClientRect().toJSON())"
    )

    def at_each_size():
        for size in SIZES:
            page.set_viewport_size(size)
            yield size["width"], page.evaluate(boxes)

    before = list(at_each_size())
    assert [width for width, _ in before] == [1280, 900, 390, 320]
    for size in SIZES:
        page.set_viewport_size(size)
        buttons = page.locator(".seven button")
        seven = buttons.evaluate_all("all => all.map((one) => one.getBoundingClientRect().toJSON())")
        assert len({(round(one["y"]), round(one["width"]), round(one["height"])) for one in seven}) == 1
        middle = seven[3]["x"] + seven[3]["width"] / 2
        for left, right in zip(seven[:3], reversed(seven[4:]), strict=True):
            assert abs((middle - left["x"]) - (right["x"] + right["width"] - middle)) < 1
    for key in "147x":
        press(page, key)
        assert list(at_each_size()) == before, key
    states = [key for key in catalogue(lang) if key.startswith("status.")]
    for size, (_, there) in zip(SIZES, before, strict=True):
        page.set_viewport_size(size)
        for state in states:  # what is said below the buttons comes later, and may be longer
            page.evaluate(REPORT, state)
            assert page.evaluate(boxes) == there, (state, size)


@pytest.mark.parametrize("lang", ["ko", pytest.param("en", marks=pytest.mark.slow)])
def test_nothing_is_cut_or_leaves_the_page(website, at_work, lang):
    work = website.work(thumb_reasons=("사실과 다름", "much too long for what was asked"))
    fill(work, lang)
    work.add("rank", [f"{n}. {text}" for n in range(3) for text in sample_texts("rank", lang)[:3]])
    page = at_work(website, work, work.rater(lang=lang))
    problems = []

    def measure(what):
        for size in SIZES:
            page.set_viewport_size(size)
            wide = overflow(page)
            problems.extend(
                [f"{what}, {size['width']}: {one}" for one in [*outside(page), *([wide] if wide > 0 else [])]]
            )
        page.set_viewport_size(SIZES[0])

    for kind in each_kind(page, work):
        measure(kind)
        press(page, "c", "Escape", *FIRST[kind])
        if kind == "safety":
            page.locator(".harm:not([hidden]) .choices").last.get_by_role("button").first.click()
            press(page, "i", "ArrowRight", "y", "Enter")
            settle(page)
            press(page, "2")
        measure(f"{kind}, begun")
    press(page, "Escape")
    settle(page)
    press(page, "s")
    with turning(page):
        leave(page)
    press(page, *"987654321")
    measure("nine")
    for key in ("k", "h", "s", "f"):
        press(page, key)
        expect(page.get_by_role("dialog")).to_be_visible()
        measure(f"dialog {key}")
        press(page, "Escape")
    assert problems == []


def test_what_changes_is_said_aloud(website, at_work):
    """The save state is a polite live region, what stands in the way an alert; both are there before they speak."""
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    status, notice = page.locator("#status"), page.locator("#notice")
    assert (status.get_attribute("role"), status.get_attribute("aria-live")) == ("status", "polite")
    assert notice.get_attribute("role") == "alert"
    page.evaluate(
        "() => { window.said = []; new MutationObserver(() => said.push(document.querySelector('#status').textContent))"
        ".observe(document.querySelector('#status'), {childList: true, characterData: true, subtree: true}) }"
    )
    press(page, "Enter")
    expect(notice).to_have_text("Please choose an answer first.")
    with turning(page):
        press(page, "2", "Enter")
    said = page.evaluate("said")
    assert list(dict.fromkeys(said))[:2] == ["Not saved yet", "Saving…"]
    assert page.locator("#status").inner_text().startswith("Saved")


@pytest.mark.parametrize("way", ["light", pytest.param("dark, phone", marks=pytest.mark.slow)])
def test_the_managers_pages(website, judged, visits, way):
    page = visits.page(website, website.manager("ko" if way == "light" else "en"), **WAYS[way])
    for name in manager_screens(page, website, judged):
        assert violations(page) == [], name
        assert overflow(page) <= 0, name
        assert outside(page) == [], name
    assert name == "task"
    assert len(TABS) == 9


def test_dragging_has_a_way_without_it(website, at_work):
    work = website.work()
    work.add("rank")
    page = at_work(website, work)
    for letter in "ABCD":
        for name in (f"Response {letter} one place better", f"Response {letter} one place worse"):
            assert page.get_by_role("button", name=name).bounding_box()["height"] >= 24
        expect(page.get_by_label(f"Rank of Response {letter}")).to_be_visible()
    page.get_by_role("button", name="Response C one place better").focus()
    press(page, "Space")
    expect(page.locator(".tier").first).to_contain_text("C")


def test_targets_are_large_enough_for_a_finger(website, at_work):
    work = website.work(thumb_reasons=("wrong",))
    fill(work, "en")
    page = at_work(website, work, viewport=SIZES[2], has_touch=True, is_mobile=True)
    for kind in each_kind(page, work):
        small = page.evaluate(
            "() => [...document.querySelectorAll('button, summary, select, label.step, label.line, .top a')]"
            ".filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 43.5)"
            ".map((node) => `${node.textContent} ${node.getBoundingClientRect().height}`)"
        )
        assert small == [], kind


def test_reduced_motion_and_colours_that_were_chosen(website, at_work):
    work = website.work()
    work.add("pair")
    page = at_work(website, work, reduced_motion="reduce")
    moving = page.evaluate(
        "() => [...document.querySelectorAll('*')].filter((node) => !/^(0s(, )?)+$/.test(getComputedStyle(node)"
        ".transitionDuration) || getComputedStyle(node).animationName !== 'none').map((node) => node.outerHTML)"
    )
    assert moving == []
    page.get_by_role("button", name="Light or dark").click()
    page.reload()
    settle(page)
    assert page.evaluate("[document.documentElement.dataset.theme, getComputedStyle(document.body).colorScheme]") == [
        "dark",
        "dark",
    ]
