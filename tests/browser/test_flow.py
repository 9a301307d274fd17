"""1, 2: from the invitation's link to revised answers by keyboard alone; what was clicked is what is stored."""

import pytest
from browser.pages import chosen, counted, press, saving, settle, turning
from browser.website import MODEL
from playwright.sync_api import expect
from scipy.stats import binomtest

from baro.feedback import schema

WIN = (schema.judged_pair.c.outcome, schema.judged_pair.c.position, schema.judged_pair.c.strength)


def test_from_the_link_to_a_revised_answer_without_a_mouse(website, visits):
    work = website.work()
    for _ in range(3):
        work.add("pair")
    work.guideline("# Rules\n\nBe **fair**.")
    rater, token = work.invite()
    page = visits.page(website)
    page.goto(f"{website.url}/join#{token}")
    page.wait_for_url(f"**/judge/{work.name}")
    expect(page.locator("dialog")).to_contain_text("Be fair.")
    assert token not in page.url + page.evaluate("JSON.stringify([...Object.entries(localStorage), document.cookie])")
    settle(page)
    press(page, "Enter")  # "I have read it"
    expect(page.locator("dialog")).to_have_count(0)

    with saving(page):
        press(page, "2", "Enter")  # A is better, clearly
    with saving(page):
        press(page, "1", "5", "Enter")  # B is better, slightly, after a change of mind
    with saving(page):
        press(page, "4", "Enter")
    expect(page.locator("h1")).to_have_text("Nothing left for now")
    counted(page, 3)
    before = work.said(schema.judged_pair, *WIN)
    assert before == [("win", 0, 2), ("win", 1, 1), ("tie", None, 0)]

    with turning(page):
        press(page, "z")
    expect(page.get_by_role("button", name="Tie")).to_have_attribute("aria-pressed", "true")
    counted(page, 3)
    with turning(page):
        press(page, "Backspace")  # one further back
    expect(chosen(page)).to_have_text(["B slight\u00adly"])
    with saving(page):
        press(page, "1", "Enter")
    assert work.said(schema.judged_pair, *WIN) == [*before, ("win", 0, 3)]

    rows = work.judgments()
    assert [(row.action, row.revision) for row in rows] == [*[("submit", 1)] * 3, ("revise", 2)]
    assert rows[3].assignment_id == rows[1].assignment_id
    assert {row.rater_id for row in rows} == {rater}
    assert [row.task_id for row in rows] == [*work.tasks, work.tasks[1]]
    assert len({row.idempotency_key for row in rows}) == 4
    assert all(row.guideline_id and row.ui_version and 0 < row.active_ms <= row.visible_ms for row in rows)


def test_the_tab_key_reaches_everything_in_the_order_in_which_it_stands(website, at_work):
    """The skip link comes first, then the head, the cards, the answers, and every focus can be seen."""
    work = website.work()
    work.add("pair")
    page = at_work(website, work)
    page.locator(".skip-link").focus()
    visited = []
    while len(visited) < 40:
        at = page.evaluate(
            "() => { const node = document.activeElement; const box = node.getBoundingClientRect();"
            " const name = node.ariaLabel ?? node.querySelector('.label')?.textContent ?? node.textContent;"
            " return node === document.body ? null : {name: (node.labels?.[0] ?? {textContent: name}).textContent,"
            " seen: node.matches(':focus-visible') && getComputedStyle(node).outlineStyle !== 'none',"
            " inside: box.top >= 0 && box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1} }"
        )
        if at is None or (visited and at["name"] == visited[0]["name"]):
            break
        visited.append(at)
        press(page, "Tab")
    names = [one["name"] for one in visited]
    wanted = ["Skip to the content", "Baro", "Your latest answers", "Guideline", "Keyboard shortcuts", "Light or dark"]
    wanted += ["Show differencesD", "Report a problem with Response A", "Report a problem with Response B"]
    wanted += ["A is much better", "A is clearly better", "A is slightly better", "Tie", "B is slightly better"]
    wanted += ["B is clearly better", "B is much better", "Both bad", "Cannot judge", "Back", "Skip", "Comment"]
    places = [names.index(name) for name in wanted]
    assert places == sorted(places)
    assert [one["name"] for one in visited if not (one["seen"] and one["inside"])] == []


@pytest.mark.parametrize("raters", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_raters_see_both_sides_and_what_they_click_is_stored(website, visits, at_work, raters):
    work = website.work(overlap=raters, diff=False)
    work.add("pair", ["the sky is blue", "the sky is green"], models=[MODEL, f"{MODEL}-other"])
    texts, picked, left = work.responses(), [], 0
    page = at_work(website, work, work.rater())
    for turn in range(raters):
        if turn:
            visits.sign_in(page.context, website, work.rater())
            if turn % 5:
                with turning(page):
                    page.get_by_role("button", name="Look again").click()
            else:
                page.reload()
                page.wait_for_selector("#main:not([aria-busy])")
                settle(page)
        cards = page.locator(".prose").all_inner_texts()[-2:]
        assert sorted(cards) == sorted(texts.values())
        side = (turn * 7) % 5 % 2  # left and right, not in step with the order of the sides
        left += cards[0] == "the sky is blue"
        picked.append(cards[side])
        if turn < 2:  # nobody learns who wrote what
            with page.expect_response(lambda reply: reply.url.endswith("/next")) as reply:
                page.reload()
            page.wait_for_selector("#main:not([aria-busy])")
            source = page.request.get(page.url).text()
            for seen in (page.content(), reply.value.text(), source):
                assert MODEL not in seen
                assert not [one for one in texts if one in seen]  # no response's id either
            settle(page)
        if turn % 4:
            press(page, "26"[side], "Enter")
        else:
            page.get_by_role("button", name="AB"[side] + " is clearly better").click()
            page.get_by_role("button", name="Submit").click()
        page.get_by_role("heading", name="Nothing left for now").wait_for()
    winners = [texts[one] for (one,) in work.said(schema.judged_pair, schema.judged_pair.c.winner_id)]
    assert winners == picked
    assert left == raters // 2  # every second rater sees them mirrored
    assert binomtest(left, raters).pvalue > 0.01
    assert raters / 4 < winners.count("the sky is blue") < raters * 3 / 4
