"""9: Korean on the page and from the keyboard: long words, a Hangul layout, an input method at work."""

from browser.looks import outside, overflow
from browser.pages import press, saving, settle
from browser.website import KOREAN
from playwright.sync_api import expect

from baro.feedback import schema


def test_everything_speaks_korean(website, visits):
    work = website.work(name="정중한-답변-고르기")
    work.add("pair", [KOREAN, "가" * 3000], question="긴낱말" * 400)
    work.guideline("## 안내\n\n잘 읽어 주세요.", lang="ko")
    _, token = work.invite(lang="ko", pseudonym="평가자 하나")
    page = visits.page(website, locale="ko-KR")
    page.goto(f"{website.url}/join")
    expect(page.locator("#state")).to_contain_text("초대")  # from Accept-Language, before anybody is known
    assert page.evaluate("document.documentElement.lang") == "ko"
    page.goto(f"{website.url}/join#{token}")
    page.reload()  # the same address but for the fragment
    page.wait_for_url("**/judge/**")
    expect(page.locator("dialog")).to_contain_text("잘 읽어 주세요.")
    settle(page)
    press(page, "Enter")
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) <= 0
        assert outside(page) == []
    english = page.evaluate(
        "() => [...document.querySelectorAll('button, h1, h2, label, #status, #progress, .hint')]"
        ".filter((node) => node.checkVisibility() && !node.closest('#language, .prose'))"
        ".filter((node) => !/[가-힣]/.test(node.textContent)"
        " && /[A-Za-z]{3}/.test(node.textContent.replace(/Enter|Esc/g, ''))).map((node) => node.textContent)"
    )
    assert english == []
    with page.expect_response(lambda reply: reply.url.endswith("/api/me") and reply.request.method == "PATCH"):
        page.locator("#language").click()
    expect(page.get_by_role("heading", name="Which response is better?")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Which response is better?")).to_be_visible()  # it is remembered


def test_shortcuts_on_a_hangul_layout(website, at_work):
    """The key X writes ㅌ there; what counts is where it is."""
    work = website.work()
    work.add("pair")
    page = at_work(website, work, work.rater(lang="ko"), locale="ko-KR")
    keyboard = page.context.new_cdp_session(page)
    key = {"key": "ㅌ", "code": "KeyX", "text": "ㅌ", "windowsVirtualKeyCode": 88}
    keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", **key})
    keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    with saving(page):
        press(page, "Enter")
    assert work.said(schema.judged_pair, schema.judged_pair.c.outcome) == [("both_bad",)]


def test_an_input_method_at_work_is_no_shortcut(website, at_work):
    """Keys of a composition, on the page and in a text field, and the Enter that ends one."""
    work = website.work()
    work.add("pair")
    page = at_work(website, work, work.rater(lang="ko"), locale="ko-KR")
    keyboard = page.context.new_cdp_session(page)
    for code in ("KeyT", "KeyB", "Digit1", "Enter"):  # 229: the input method has the key
        key = {"key": "Process", "code": code, "windowsVirtualKeyCode": 229}
        keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
        keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    expect(page.locator(".answer-rows [aria-pressed=true]")).to_have_count(0)
    press(page, "c")
    for composed in ("ㅌ", "티", "팀", "팀ㅂ"):
        keyboard.send("Input.imeSetComposition", {"text": composed, "selectionStart": 1, "selectionEnd": 1})
        key = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229, "modifiers": 2}
        keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
        keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    keyboard.send("Input.insertText", {"text": "팀비 1 2 t"})
    expect(page.locator("#comment")).to_have_value("팀비 1 2 t")
    assert not work.judgments()
    press(page, "Escape", "2")
    with saving(page):
        press(page, "Enter")
    assert [row.comment for row in work.judgments()] == ["팀비 1 2 t"]


def test_no_shortcut_fires_in_a_text_field(website, at_work):
    work = website.work()
    work.add("edit", ["the text"])
    page = at_work(website, work)
    for selector in ("#comment", ".editor", "#critique"):
        if selector == "#comment":
            press(page, "c")
        page.locator(selector).click()
        page.keyboard.type("tbuzschkf?1230 ")
        assert "tbuzschkf?1230 " in page.locator(selector).input_value()
        expect(page.locator("dialog")).to_have_count(0)
    assert not work.judgments()
    press(page, "Escape", "s")
    expect(page.get_by_role("dialog")).to_be_visible()
