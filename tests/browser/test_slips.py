"""What nobody means: double clicks, double taps, keys that bounce. They submit nothing, and favour no side."""

from itertools import product

import pytest
from browser.pages import BOUNCE_MS, chosen, passed, press, saving, settle
from browser.website import KINDS
from playwright.sync_api import expect

from baro.feedback import schema

COMPLETE = {"pair": ["3"], "rank": ["1", "2"], "thumb": ["1"], "safety": ["y", "ArrowRight", "y", "Enter"],
            "criteria": ["1", "2"], "edit": []}  # fmt: skip
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WAYS = {"mouse": {}, "finger": PHONE}
SENT = ("/judgment", "/skip", "/retract")
BUTTONS = "#main button, #bar button, #main label, #main input[type=radio], #main summary"


def whole(page, kind):
    """An answer that lacks nothing, not submitted."""
    press(page, *COMPLETE[kind])
    if kind == "safety":
        settle(page)
        press(page, "3", "Enter", "5")
    if kind == "edit":
        page.locator("#critique").fill("too short")
        page.locator("#critique").blur()


def named(page):
    """Everything that can be pressed now, as (its place among such, its name)."""
    return page.evaluate(
        "(all) => [...document.querySelectorAll(all)].map((node, at) => [node, at]).filter(([node]) =>"
        " node.checkVisibility({visibilityProperty: true}) && !node.disabled && !node.closest('[inert]'))"
        ".map(([node, at]) => [at, node.ariaLabel ?? node.textContent])",
        BUTTONS,
    )


PLACE = """([all, at]) => {
  const node = document.querySelectorAll(all)[at];
  if (!node?.checkVisibility({visibilityProperty: true}) || node.closest('[inert]')) return null;
  const bar = document.querySelector('#bar').getBoundingClientRect().top;
  if (!node.closest('#bar') && (node.getBoundingClientRect().top < 0 || node.getBoundingClientRect().bottom > bar))
    node.scrollIntoView({block: 'center', behavior: 'instant'});
  return node.getBoundingClientRect().toJSON();
}"""


def twice(page, box, gap_ms, by_finger):
    """Two clicks or taps at one place."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for turn in range(2):
        if turn and gap_ms:
            passed(page, gap_ms)
        if by_finger:
            page.touchscreen.tap(x, y)
        else:
            page.mouse.click(x, y, click_count=turn + 1)


def grid():
    """Every kind by mouse and by finger; in the quick suite two kinds by mouse and one by finger."""
    for at, (kind, way) in enumerate(product(KINDS, WAYS)):
        yield pytest.param(kind, way, marks=[] if at in (0, 3, 6) else pytest.mark.slow, id=f"{kind}-{way}")


@pytest.mark.parametrize(("kind", "way"), [*grid()])
def test_pressing_anything_twice_submits_nothing(website, at_work, kind, way):
    """Every button but "Submit" of a task with a whole answer, at two paces; and what lies below the second press."""
    work = website.work(blur=False, thumb_reasons=("wrong",))
    work.criteria(("correctness", "overall"))
    work.add(kind)
    page = at_work(website, work, **WAYS[way])
    sent = []
    page.on("request", lambda request: request.url.endswith(SENT) and sent.append(request.url))
    whole(page, kind)
    pressed = set()
    for gap_ms in (0, 350):
        for at, name in named(page):
            if name.startswith(("Submit", "Return to")):
                continue
            box = page.evaluate(PLACE, [BUTTONS, at])
            if box is None:  # another button has hidden it
                continue
            twice(page, box, gap_ms, way == "finger")
            pressed.add(name)
            assert sent == [], (name, gap_ms)
            page.evaluate(
                "document.querySelectorAll('dialog').forEach((one) => one.close('')); document.activeElement.blur()"
            )
    assert len(pressed) >= {"pair": 13, "rank": 16, "thumb": 7, "safety": 18, "criteria": 16, "edit": 6}[kind]
    assert not work.judgments()


QUICK = ("pair", "safety")
EACH = [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in KINDS]


@pytest.mark.parametrize("kind", EACH)
def test_a_double_click_on_submit_is_one_answer(website, at_work, kind):
    """The next task has a whole answer too, left from before: nobody has looked at it yet."""
    work = website.work(blur=False)
    work.criteria(("correctness", "overall"))
    for _ in range(2):
        work.add(kind)
    page = at_work(website, work)
    for gap_ms in (0, 350):
        whole(page, kind)
        before = len(work.judgments())
        with saving(page):
            twice(page, page.get_by_role("button", name="Submit").bounding_box(), gap_ms, False)
        assert len(work.judgments()) == before + 1


BOUNCE = """(code) => { for (let i = 0; i < 3; i += 1) for (const type of ["keydown", "keyup"])
  document.body.dispatchEvent(new KeyboardEvent(type, {bubbles: true, code, key: code})); }"""


@pytest.mark.parametrize("kind", EACH)
def test_a_key_that_bounces_is_one_key(website, at_work, kind):
    """Every shortcut of an answer, three times at once: the same as once."""
    answers = ["one", "two", "three"] if kind in ("rank", "thumb", "criteria") else None
    pages = []
    for _ in range(2):  # the same task in two projects: its sides are the same
        work = website.work(blur=False, thumb_reasons=("wrong", "too long"))
        work.criteria(("correctness", "overall"))
        work.add(kind, answers)
        pages.append(at_work(website, work))
        if kind == "edit":  # its changes are drawn a moment later than all else
            expect(pages[-1].locator("#main")).to_contain_text("Not changed")
    once, often = pages
    shown = "[...document.querySelectorAll('#main, #answer')].map((node) => node.innerHTML).join()"
    codes = [*(f"Digit{n}" for n in range(8)), *(f"Key{letter}" for letter in "XYNQWE"), "ArrowRight", "ArrowUp"]
    for code in codes:
        for page, source in ((once, BOUNCE.replace("i < 3", "i < 1")), (often, BOUNCE)):
            passed(page, BOUNCE_MS)
            page.evaluate(source, code)
        for page in (once, often):
            page.evaluate("document.activeElement.blur()")
        texts = [page.evaluate(shown) for page in (once, often)]
        assert texts[0] == texts[1], code


def press_all(page, how):
    """What is chosen after each place of the scale was pressed by itself."""
    found = []
    for at in range(7):
        how(at)
        found.append(chosen(page).all_inner_texts())
        passed(page, BOUNCE_MS)
    return found


@pytest.mark.parametrize("way", ["mouse", pytest.param("finger", marks=pytest.mark.slow)])
def test_slips_are_the_same_on_both_sides(website, at_work, way):
    """One press, two, and every order of two keys: what is chosen mirrors what the mirrored presses choose."""
    work = website.work()
    work.add("pair")
    page = at_work(website, work, **WAYS[way])
    steps = page.locator(".seven button")

    def sides(found):
        return [[one.replace("\n", " ").split()[0] for one in words] for words in found]

    once = press_all(page, lambda at: press(page, str(at + 1)))
    assert sides(once) == [["A"]] * 3 + [["Tie"]] + [["B"]] * 3
    again = press_all(page, lambda at: twice(page, steps.nth(at).bounding_box(), 200, way == "finger"))
    assert again == once
    for first in range(7):
        for second in range(7):
            press(page, str(first + 1))
            if first != second:
                page.keyboard.press(str(second + 1))
            passed(page, BOUNCE_MS)
            assert chosen(page).all_inner_texts() == once[second], (first, second)  # the last key, whatever came before
    assert not work.judgments()


def test_one_then_two_is_a_change_of_mind(website, at_work):
    work = website.work()
    for _ in range(2):
        work.add("pair")
    page = at_work(website, work)
    for first, second in (("1", "2"), ("7", "6")):
        press(page, first)
        passed(page, 400)
        press(page, second)
        with saving(page):
            press(page, "Enter")
    pair = schema.judged_pair.c
    assert work.said(schema.judged_pair, pair.outcome, pair.position, pair.strength) == [("win", 0, 2), ("win", 1, 2)]


def test_nothing_is_submitted_that_nobody_can_have_seen(website, at_work):
    """A saved answer comes up again, or the second step of a whole one, and Enter is pressed twice."""
    work = website.work(blur=False)
    work.add("safety")
    page = at_work(website, work)
    whole(page, "safety")
    with saving(page):
        press(page, "Enter")
    page.wait_for_selector(".empty")
    page.wait_for_function("document.querySelector('#progress').textContent.startsWith('1 ')")
    page.evaluate(
        "() => new MutationObserver((_, all) => document.querySelector('.questions') && (all.disconnect(),"
        " setTimeout(() => { later(200); document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " {bubbles: true, code: 'Enter', key: 'Enter'})); }))).observe(document.querySelector('#main'),"
        " {childList: true})"
    )
    press(page, "z")
    expect(page.locator("#notice")).to_contain_text("only just come up")
    press(page, "Escape")
    settle(page)
    press(page, "Enter")
    passed(page, 200)
    press(page, "Enter")
    expect(page.locator("#notice")).to_contain_text("only just come up")
    assert work.actions() == ["submit"]
    settle(page)
    with saving(page):
        press(page, "Enter")
    assert work.actions() == ["submit", "revise"]
