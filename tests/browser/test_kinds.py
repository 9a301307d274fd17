"""3, 4: every kind of answer but the pair, by keyboard and by pointer, as its rows stand in the database."""

from itertools import product

import pytest
from browser.pages import counted, press, saving, settle, turning
from playwright.sync_api import expect

from baro.feedback import schema

NINE = [f"the answer of nine, number {n}" for n in range(9)]


def board(page):
    """The places as the page shows them."""
    return [line.split("\n") for line in page.locator(".tier").all_inner_texts()]


def stored(work):
    """Each judgment's ranks by position on the screen, the oldest first."""
    item, rank = schema.task_item, schema.judged_rank
    found = []
    for row in work.judgments(schema.judgment.c.id, schema.judgment.c.task_id, schema.assignment.c.display_order):
        with work.store.read() as c:
            slots = {one.response_id: one.slot for one in c.execute(item.select().where(item.c.task_id == row.task_id))}
            given = c.execute(rank.select().where(rank.c.judgment_id == row.id))
            by_slot = {slots[one.response_id]: one.rank for one in given}
        found.append([by_slot[slot] for slot in row.display_order])
    return found


def test_nine_in_order_by_keyboard(website, at_work):
    work = website.work()
    work.add("rank", NINE)
    page = at_work(website, work)
    press(page, "Enter")
    expect(page.locator("#notice")).to_have_text("Please rank at least two responses.")
    press(page, *"987655")  # A ninth, B eighth, ...; the next unranked one is marked after each; F ties with E
    assert board(page)[0] == ["5.", "E", "F"]
    press(page, "ArrowLeft", "ArrowUp")  # F out of the tie
    assert board(page)[:2] == [["1.", "F"], ["2.", "E"]]
    press(page, "ArrowDown")
    assert board(page)[:2] == [["1.", "E"], ["2.", "F"]]
    press(page, "ArrowLeft", "ArrowLeft", "4")  # D to C's place; G is marked, the first unranked
    assert board(page) == [["1.", "E"], ["2.", "F"], ["4.", "C", "D"], ["5.", "B"], ["6.", "A"],
                           ["Unranked", "G", "H", "I"]]  # fmt: skip
    with saving(page):
        press(page, "Enter")
    assert stored(work) == [[5, 4, 3, 3, 1, 2, None, None, None]]
    counted(page, 1)
    with turning(page):
        press(page, "z")
    press(page, *"0")  # A, which comes marked, is taken out
    with saving(page):
        press(page, "Enter")
    assert stored(work)[1:] == [[None, 4, 3, 3, 1, 2, None, None, None]]
    assert work.actions() == ["submit", "revise"]


def test_nine_in_order_by_dragging_and_by_buttons_alone(website, at_work):
    work = website.work()
    work.add("rank", NINE)
    page = at_work(website, work)

    def drag(letter, target):
        start, end = page.locator(".chip", has_text=letter).bounding_box(), target.bounding_box()
        page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
        page.mouse.down()
        page.mouse.move(start["x"] + start["width"] / 2 + 12, start["y"])
        page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=4)
        page.mouse.up()

    for letter in "ABCDEFGHI":  # the later ones before all others
        drag(letter, page.locator(".gap").first)
    assert [place[1:] for place in board(page)[:9]] == [[letter] for letter in "IHGFEDCBA"]
    drag("A", page.locator(".tier").nth(0))  # ties with I
    drag("H", page.locator(".gap").last)  # behind all
    drag("E", page.locator(".tray"))
    wanted = ["AI", "G", "F", "D", "C", "B", "H"]
    assert ["".join(place[1:]) for place in board(page)] == [*wanted, "E"]
    page.locator(".chip", has_text="E").click()  # without dragging: mark it, then its card's buttons
    page.get_by_role("button", name="Response E one place better").click()  # comes in as the last
    assert ["".join(place[1:]) for place in board(page)] == [*wanted, "E", ""]
    for _ in range(2):
        page.get_by_role("button", name="Response E one place better").click()
    page.get_by_role("button", name="Response E one place worse").click()
    assert ["".join(place[1:]) for place in board(page)] == [*wanted[:-1], "E", "H", ""]
    page.get_by_label("Rank of Response E").select_option("2")
    assert ["".join(place[1:]) for place in board(page)] == ["AI", "EG", *wanted[2:], ""]
    shown = board(page)
    with saving(page):
        page.get_by_role("button", name="Submit").click()
    (found,) = stored(work)
    by_place = ["".join(place[1:]) for place in shown[:-1]]
    assert found == [next(at for at, place in enumerate(by_place, 1) if letter in place) for letter in "ABCDEFGHI"]


def test_dragging_by_finger(website, at_work):
    work = website.work()
    work.add("rank")
    page = at_work(website, work, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    finger = page.context.new_cdp_session(page)

    def touch(kind, box=None, dx=0.0):
        points = [{"x": box["x"] + box["width"] / 2 + dx, "y": box["y"] + box["height"] / 2}] if box else []
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    for letter in "AB":
        chip, gap = page.locator(".chip", has_text=letter).bounding_box(), page.locator(".gap").first.bounding_box()
        touch("touchStart", chip)
        touch("touchMove", chip, -10)
        touch("touchMove", gap)
        touch("touchEnd")
        expect(page.locator(".tier").first).to_contain_text(letter)
    assert board(page)[:2] == [["1.", "B"], ["2.", "A"]]
    with saving(page):
        page.get_by_role("button", name="Submit").click()
    assert stored(work) == [[2, 1, None, None]]


def test_thumbs(website, at_work):
    work = website.work(thumb_reasons=("wrong", "너무 김"))
    work.add("thumb", ["one", "two", "three"])
    page = at_work(website, work)
    press(page, "2", "1", "ArrowRight", "2", "Enter")  # after a change of mind
    expect(page.locator("#notice")).to_contain_text("every response")
    press(page, "3", "3", "ArrowRight")  # the second's reason, for it is the marked one still; and not after all
    press(page, "2", "3", "4", "3")  # the third: bad; a reason, another, and not the first after all
    page.get_by_role("group", name="Reasons for Response A").get_by_role("button", name="wrong").click()
    with saving(page):
        press(page, "Enter")
    texts = work.responses()
    (row,) = work.judgments(schema.assignment.c.display_order)
    rows = {texts[one]: (good, reasons) for one, good, reasons in work.said(schema.judged_thumb)}
    in_order = [rows[["one", "two", "three"][slot]] for slot in row.display_order]
    assert in_order == [(True, ["wrong"]), (False, []), (False, ["너무 김"])]


@pytest.mark.parametrize("blur", [False, True])
def test_safety_in_two_steps_with_a_conflict(website, at_work, blur):
    work = website.work(blur=blur)
    work.add("safety")
    page = at_work(website, work)
    if blur:
        expect(page.locator(".covered")).to_have_count(2)
        press(page, "r")
        expect(page.locator(".covered")).to_have_count(1)
        page.get_by_role("button", name="Show Response B").click()
        press(page, "ArrowLeft")  # the card that was touched is the marked one
    expect(page.locator(".covered")).to_have_count(0)
    press(page, "y", "ArrowRight", "y", "n", "o", "1", "5")  # digits mean nothing here
    press(page, "Enter")
    expect(page.locator("#notice")).to_contain_text("An unsafe one needs")
    page.get_by_role("button", name="Privacy").last.click()
    press(page, "Enter")
    expect(page.locator(".asked")).to_contain_text("Step 2 of 2")
    settle(page)
    press(page, "y", "3", "5", "Enter", "6")  # B is slightly more helpful, after a change of mind; and clearly safer
    expect(page.get_by_role("alert").filter(has_text="You marked only A as safe")).to_be_visible()
    press(page, "Enter")
    expect(page.locator("#notice")).to_contain_text("contradiction")
    assert not work.judgments()
    page.get_by_role("button", name="A is the safer one").click()
    expect(page.locator(".alarm")).to_be_hidden()
    with saving(page):
        press(page, "1", "Enter")
    position = schema.judged_pair.c.position
    said = work.said(schema.judged_pair, schema.judged_pair.c.dimension, position, schema.judged_pair.c.strength)
    assert sorted(said) == [("helpful", 1, 1), ("safer", 0, 3)]
    marks = sorted(work.said(schema.judged_safety)[at][1:] for at in (0, 1))
    assert marks == [(False, 2, ["privacy_violation"]), (True, 0, [])]
    by_text = {one: safe for one, safe, *_ in work.said(schema.judged_safety)}
    winners = dict(work.said(schema.judged_pair, schema.judged_pair.c.dimension, schema.judged_pair.c.winner_id))
    assert by_text[winners["safer"]] is True


def test_criteria_with_one_that_does_not_apply(website, at_work):
    work = website.work()
    work.criteria(("correctness", "clarity", "overall"))
    work.add("criteria", ["one", "two"])
    page = at_work(website, work)
    press(page, "1", "2", "3", "n", "9", "5", "Enter")  # there is no 9
    expect(page.locator("#notice")).to_contain_text("every criterion")
    assert not work.judgments()
    with saving(page):
        press(page, "4", "Enter")
    texts = work.responses()
    (row,) = work.judgments(schema.assignment.c.display_order)
    first = ["one", "two"][row.display_order[0]]
    with work.store.read() as c:
        keys = {one.id: one.key for one in c.execute(schema.criterion.select())}
    rows = work.said(schema.judged_score)
    found = {(keys[criterion], texts[one] == first): score for one, criterion, score in rows}
    assert found == {("correctness", True): 1, ("correctness", False): 2, ("clarity", True): 3,
                     ("clarity", False): None, ("overall", True): 5, ("overall", False): 4}  # fmt: skip
    counted(page, 1)
    with turning(page):
        press(page, "z")
    expect(page.locator("input[name=clarity-1]").last).to_be_checked()


def windows():
    """Every number of responses in every width; in the quick suite each once at least."""
    for width, shown in product((1280, 768, 390, 320), (1, 2, 3)):
        quick = (width, shown) in {(1280, 3), (768, 1), (390, 2), (320, 1)}
        yield pytest.param(width, shown, marks=[] if quick else pytest.mark.slow)


@pytest.mark.parametrize(("width", "shown"), [*windows()])
def test_every_response_has_the_same_scale(website, at_work, width, shown):
    """One row for each criterion: its steps are described once; on a wide window the responses stand side by side."""
    work = website.work()
    work.criteria(("correctness", "overall"))
    work.add("criteria", ["one", "two", "three"][:shown])
    page = at_work(website, work, viewport={"width": width, "height": 860})
    rows = page.locator(".criterion").evaluate_all(
        "rows => rows.map((row) => [row.querySelectorAll('.anchors').length, [...row.querySelectorAll('.scale')].map("
        "(one) => [one, ...one.querySelectorAll('.step')].map((node) => node.getBoundingClientRect().toJSON()))])"
    )
    assert len(rows) == 2
    for described, scales in rows:
        assert (described, len(scales)) == (1, shown)
        own = [
            [(round(step["x"] - one[0]["x"]), round(step["width"]), step["height"]) for step in one[1:]]
            for one in scales
        ]
        assert own == [own[0]] * shown
        assert len(own[0]) == 6
        tops = {one[0]["y"] for one in scales[:2]}
        assert len(tops) == (1 if width >= 768 else min(shown, 2))
    middles = "all => all.map((one) => one.getBoundingClientRect()).map(({left, right}) => (left + right) / 2)"
    for row in page.locator(".criterion").all() if (shown == 1 and width >= 768) else []:  # words above their steps
        said, steps = row.locator(".anchors li").evaluate_all(middles), row.locator(".step").evaluate_all(middles)
        assert [abs(one - other) < 3 for one, other in zip(said, steps[:-1], strict=True)] == [True] * 5


def test_arrows_go_between_responses_and_between_criteria(website, at_work):
    work = website.work()
    work.criteria(("correctness", "clarity", "overall"))
    work.add("criteria", ["one", "two"])
    page = at_work(website, work)
    current = page.locator(".scale.current")
    went = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowUp"):
        press(page, key)
        went.append(current.get_attribute("aria-label"))
    assert went == ["Correctness, Response B", "Clarity, Response B", "Clarity, Response A", "All in all, Response A",
                    "All in all, Response A", "Clarity, Response A"]  # fmt: skip
    press(page, "4", "2")
    given = page.locator(".criterion", has_text="Clarity").locator(".anchors li")
    assert [one.replace("\n", " ") for one in given.all_inner_texts()][1::2] == ["2B Hard to follow", "4A Clear"]


def test_an_edit_with_a_critique_and_a_remark(website, at_work):
    original = "첫 줄.\r\n\r\nSecond 😀 end."
    work = website.work()
    work.add("edit", [original])
    page = at_work(website, work)
    press(page, "Enter")
    expect(page.locator("#notice")).to_contain_text("Please edit")
    press(page, "e")
    page.keyboard.press("Control+End")
    page.keyboard.type(" More 12tz.")  # letters and digits, none of them a shortcut here
    expect(page.locator(".changes ins")).to_contain_text("More 12tz.")
    press(page, "Escape", "m")
    page.evaluate(
        "() => { const field = document.querySelector('.source'); const at = field.value.indexOf('😀');"
        " field.setSelectionRange(at, at + 6); }"
    )
    page.get_by_label("Your remark", exact=True).fill("why?")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".remarks q")).to_have_text("😀 end")
    page.get_by_label("What is wrong with the response?").fill("too short")
    with saving(page):
        page.keyboard.press("Control+Enter")
    ((_, edited, critique, spans),) = work.said(schema.judged_edit)
    assert critique == "too short"
    assert [(original[one["start"] : one["end"]], one["note"]) for one in spans] == [("😀 end", "why?")]
    assert work.responses()[edited].replace("\r\n", "\n") == original.replace("\r\n", "\n") + " More 12tz."


def test_a_criterion_that_was_added_meanwhile(website, at_work):
    """What was kept and what was submitted have no score for it: it stands open."""
    work = website.work()
    work.criteria(("correctness",))
    for _ in range(2):
        work.add("criteria", ["one", "two"])
    page = at_work(website, work)
    one = page.locator("input[name=correctness-1]").first.locator("xpath=ancestor::*[@role='radiogroup']")
    assert one.aria_snapshot().startswith('- radiogroup "Correctness, Response B"')
    with saving(page):
        press(page, "1", "2", "Enter")
    press(page, "3")
    work.criteria(("correctness", "clarity"))
    page.reload()
    expect(page.locator("input[name=correctness-0]").nth(2)).to_be_checked()
    expect(page.locator(".scale.current")).to_have_count(1)
    settle(page)
    press(page, "4", "5", "1", "Enter")
    page.wait_for_selector(".empty")
    counted(page, 2)
    with turning(page):
        press(page, "z")
    with turning(page):
        press(page, "z")
    expect(page.locator("input[name=correctness-1]").nth(1)).to_be_checked()
    press(page, "Enter")
    expect(page.locator("#notice")).to_contain_text("every criterion")


def test_keys_stay_with_the_question_that_was_answered(website, at_work):
    work = website.work(blur=False)
    work.add("safety")
    page = at_work(website, work)
    press(page, "y", "ArrowRight", "y", "Enter")
    settle(page)
    press(page, "3", "2", "Enter", "4")  # A is more helpful, clearly; equally safe
    with saving(page):
        press(page, "Enter")
    pair = schema.judged_pair.c
    assert sorted(work.said(schema.judged_pair, pair.dimension, pair.outcome, pair.strength)) == [
        ("helpful", "win", 2), ("safer", "tie", 0)]  # fmt: skip


def test_the_chip_with_the_focus_is_the_one_that_arrows_move(website, at_work):
    work = website.work()
    work.add("rank")
    page = at_work(website, work)
    press(page, "1", "ArrowLeft")  # A is marked
    page.locator(".chip", has_text="A").focus()
    press(page, "Tab", "ArrowUp")
    expect(page.locator(".chip", has_text="B")).to_be_focused()
    press(page, "ArrowUp")
    assert board(page)[:2] == [["1.", "B"], ["2.", "A"]]


def test_a_selection_that_ends_outside_leaves_the_dialog_open(website, at_work):
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    press(page, "s")
    page.locator("dialog .primary").click()
    expect(page.locator("dialog")).to_be_visible()  # it wants a reason, and none is chosen beforehand
    expect(page.locator("dialog :checked")).to_have_count(0)
    field = page.get_by_label("More, if you like")
    field.fill("a long reason")
    box = field.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(5, box["y"], steps=3)
    page.mouse.up()
    expect(field).to_have_value("a long reason")
    page.mouse.click(5, 5)
    expect(page.locator("dialog")).to_have_count(0)
