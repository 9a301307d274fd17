"""7, 8, 11: texts that want to act, people who want more than is theirs, and texts that are too much for a page."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser.looks import outside
from browser.pages import LOAD_FAILED, counted, outbox, press, saving, settle, turning
from feedback.test_render import CORPUS
from playwright.sync_api import expect
from sqlalchemy import update

from baro.feedback import criteria, people, schema
from baro.feedback.ids import sha256

PAYLOADS = [one for one in CORPUS if not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in one)]
EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}${7*7}"
TABS = ("overview", "prompts", "tasks", "guidelines", "raters", "agreement", "adjudicate", "export", "settings")


def idle_text(page):
    """The page's text, after checking that what people and models wrote made no element that could act."""
    found = page.evaluate(
        """() => [...document.querySelectorAll('*')].flatMap((node) => [
          ...['script', 'iframe', 'object', 'embed', 'img', 'video', 'base', 'style', 'frame', 'foreignObject']
            .filter((name) => node.localName === name.toLowerCase()
              && !(name === 'script' && node.src.startsWith(`${location.origin}/static/`))),
          ...[...node.attributes].map(({ name }) => name).filter((name) => /^on|^srcdoc$/.test(name))])"""
    )
    assert found == []
    assert (
        page.evaluate("document.querySelectorAll('.prose form, .prose input, .prose button, .prose [id]').length") == 0
    )
    return page.evaluate("document.body.textContent")


def test_hostile_texts_on_the_raters_page(website, visits, at_work):
    """Every payload as a turn, and all of them in nine responses; thumbs, history, guideline, draft, names."""
    work = website.work(thumb_reasons=(EVIL[:100],))
    turns = [("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(PAYLOADS)]
    turns += [("user", "the last question")] if len(turns) % 2 == 0 else []
    nine = ["\n\n".join(PAYLOADS[at::9]) for at in range(9)]
    work.add("rank", nine, question=turns, models=[EVIL])
    work.add("thumb", [EVIL], question=EVIL, models=[EVIL])
    work.add("pair", [EVIL, f"{EVIL} again"], question=EVIL)
    work.add("edit", [f"{EVIL}\n\nend"], question=EVIL)
    work.guideline("\n\n".join([EVIL, *PAYLOADS[:40]]))
    page = at_work(website, work, work.rater(pseudonym=EVIL[:60]))
    page.locator("dialog").wait_for()
    assert "alert(1)" in idle_text(page)
    press(page, "Enter")
    page.locator("details summary").first.click()
    for at in range(9):
        page.locator(".thumb").nth(at).click()
        assert "alert(1)" in idle_text(page)
    page.locator(".task-head h1").click()
    with saving(page):
        press(page, "1", "2", "Enter")
    idle_text(page)
    with saving(page):
        press(page, "2", "3", "Enter")
    press(page, "d", "c")
    page.locator("#comment").fill(EVIL)
    idle_text(page)
    press(page, "Escape")
    with saving(page):
        press(page, "4", "Enter")
    page.locator(".editor").fill(f"{EVIL}\n\nanother end")
    expect(page.locator(".changes ins")).to_have_count(1)
    page.locator("#critique").fill(EVIL)
    with saving(page):
        press(page, "Control+Enter")
    counted(page, 4)
    press(page, "h")
    expect(page.locator(".history-item")).to_have_count(4)
    assert "alert(1)" in idle_text(page)


def test_links_are_shown_before_they_are_followed(website, at_work):
    work = website.work()
    work.add("pair", ["see [this](https://evil.example/?a=1&b=2)", "and [that](http://127.0.0.1:1/x)"])
    page = at_work(website, work)
    for name in ("this", "that"):
        page.get_by_role("link", name=name).click()
        expect(page.locator("dialog .address")).to_contain_text("http")
        press(page, "Escape")
        page.get_by_role("link", name=name).click(button="middle")
        expect(page.locator("dialog .address")).to_be_visible()
        press(page, "Escape")
    assert page.get_by_role("link", name="this").get_attribute("rel") == "noopener noreferrer nofollow"
    assert len(page.context.pages) == 1


def test_hostile_texts_on_the_managers_pages(website, visits, at_work):
    work = website.work(currency=EVIL[:10], thumb_reasons=(EVIL[:100],))
    work.criteria()
    labels = {"en": {"name": EVIL, "anchors": [EVIL] * 5}}
    evil = [{"key": "evil", "labels": labels, "low": 1, "high": 5, "weight": 1.0}]
    website.store.write(lambda c: criteria.set_criteria(c, work.project, evil, EVIL))
    work.add("pair", [EVIL, f"{EVIL} again"], question="\n\n".join(PAYLOADS), models=[EVIL], overlap=2)
    work.add("criteria", [EVIL], question=EVIL, models=[EVIL])
    work.guideline("\n\n".join(PAYLOADS))
    work.guideline(f"{EVIL}\n\nchanged")
    manager = website.manager()
    for side in (0, 1):  # two raters who disagree, and comment
        rater = work.rater(pseudonym=f"{side}{EVIL[:58]}")
        page = at_work(website, work, rater)
        press(page, "Enter")
        press(page, "c")
        page.locator("#comment").fill(EVIL)
        press(page, "Escape", "17"[side])
        with saving(page):
            press(page, "Enter")
    page = visits.page(website, manager)
    for tab in TABS:
        page.goto(f"{website.url}/manage/{work.name}/{tab}")
        page.wait_for_selector("#main:not([aria-busy])")
        page.evaluate("document.querySelectorAll('details').forEach((node) => (node.open = true))")
        if tab == "guidelines":
            for name in ("Read", "Compare", "Preview"):
                page.get_by_role("button", name=name).first.click()
                page.locator(".prose, .diff, dialog").first.wait_for()
                idle_text(page)
                press(page, "Escape")
        text = idle_text(page)
        if tab in ("prompts", "tasks", "raters"):
            assert EVIL[:20] in text or PAYLOADS[0] in text, tab
    page.goto(f"{website.url}/manage/{work.name}/tasks#task/{work.tasks[0]}")
    page.wait_for_selector("#main:not([aria-busy])")
    expect(page.locator("#main")).to_contain_text("again")
    assert idle_text(page).count(EVIL) > 3  # answers, models, raters, comments
    page.goto(f"{website.url}/manage")
    page.wait_for_selector("#main:not([aria-busy])")
    idle_text(page)


# ------------------------------------------------------------------------------------- people who want more than theirs


def test_invitations_that_are_tampered_with_used_or_expired(website, visits):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    (_, good), (_, used), (_, late) = (work.invite() for _ in range(3))
    website.store.write(lambda c: people.redeem(c, used))
    gone = schema.invite.c.token_sha256 == sha256(late)
    website.store.write(lambda c: c.execute(update(schema.invite).where(gone).values(expires_ms=1)))
    swapped = good[:-1] + ("A" if good[-1] != "A" else "B")
    page = visits.page(website)
    for at, token in enumerate((swapped, used, late, "x", "x" * 5000, "%00", "<script>")):
        page.goto(f"{website.url}/join?{at}#{token}")  # a fragment alone would load nothing
        said = "has been used or has expired" if len(token) < 200 else "Something went wrong"
        expect(page.locator("#state")).to_contain_text(said)
        assert "#" not in page.url
    page.goto(f"{website.url}/join")
    expect(page.locator("#state")).to_contain_text("open the link from your invitation")
    page.goto(f"{website.url}/judge/{work.name}")
    page.wait_for_url("**/join")
    page = visits.page(website)
    page.goto(f"{website.url}/join#{good}")
    page.wait_for_url(f"**/judge/{work.name}")  # what failed before did not use it up


def test_a_session_that_ends_while_somebody_works(website, visits, at_work):
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    person = work.rater()
    page = at_work(website, work, person)
    website.store.write(lambda c: people.close_session(c, person.token))
    press(page, "2", "Enter")
    expect(page.locator("#notice")).to_contain_text("Your session has ended")
    assert len(outbox(page)) == 1
    link = website.store.write(lambda c: people.invite(c, person.id))
    page.goto(f"{website.url}/join#{link}")
    page.wait_for_url(f"**/judge/{work.name}")
    counted(page, 1)
    assert work.actions() == ["submit"]
    assert outbox(page) == []
    visits.sign_in(page.context, website, type(person)(person.id, person.token[:-2] + "xx"))
    page.goto(f"{website.url}/judge/{work.name}")
    page.wait_for_url("**/join")


CALL = """async ([method, path, body]) => (await fetch(path, {method, headers: {'Content-Type': 'application/json'},
  body: body === null ? undefined : JSON.stringify(body)})).status"""


def test_anothers_assignment_and_a_managers_pages(website, visits, at_work):
    """With the lease's secret even; only its own rater gets at an assignment."""
    visits.expect(LOAD_FAILED)
    work = website.work()
    work.add("pair")
    owner, other = work.rater(), work.rater()
    owned = at_work(website, work, owner)
    with owned.expect_response("**/next") as reply:
        owned.reload()
    task = reply.value.json()
    page = at_work(website, work, other)
    at, lease = f"/api/assignments/{task['assignment']}", task["lease"]
    answer = {"kind": "pair", "choice": {"outcome": "tie", "position": None, "strength": 0}}
    tries = [("GET", at, None), ("POST", f"{at}/open", {}), ("POST", f"{at}/renew", {"lease": lease}),
             ("POST", f"{at}/release", {"lease": lease}), ("POST", f"{at}/skip", {"lease": lease, "reason": "x"}),
             ("PUT", f"{at}/draft", {"lease": lease, "version": 0, "answer": {}}),
             ("POST", f"{at}/judgment", {"lease": lease, "key": "0" * 32, "answer": answer}),
             ("POST", f"{at}/retract", {"lease": lease, "key": "1" * 32})]  # fmt: skip
    assert [page.evaluate(CALL, one) for one in tries] == [404] * len(tries)
    manage = ["projects", f"projects/{work.name}", f"projects/{work.name}/raters", f"tasks/{work.tasks[0]}"]
    assert [page.evaluate(CALL, ("GET", f"/api/manage/{one}", None)) for one in manage] == [403] * 4
    elsewhere = website.work()
    assert page.evaluate(CALL, ("POST", f"/api/projects/{elsewhere.name}/next", {})) == 404
    assert page.goto(f"{website.url}/manage/{work.name}/raters").status == 403
    assert page.goto(f"{website.url}/judge/{elsewhere.name}").status == 404
    assert not work.judgments()


@contextmanager
def second_origin(html):
    """Another site on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_another_site_can_do_nothing_in_a_raters_name(website, visits, at_work):
    """Forms of every encoding, fetch and a frame, from another port: the same site to a cookie, not to us."""
    visits.expect(LOAD_FAILED, "CORS", "frame", "ERR_", "Failed to fetch")
    work = website.work()
    work.add("pair")
    person = work.rater()
    page = at_work(website, work, person)
    with page.expect_response("**/next") as reply:
        page.reload()
    task = reply.value.json()
    url = f"{website.url}/api/assignments/{task['assignment']}/judgment"
    choice = {"kind": "pair", "choice": {"outcome": "tie", "position": None, "strength": 0}}
    body = json.dumps({"lease": task["lease"], "key": "0" * 32, "answer": choice})
    field = body.replace('"', "&quot;")
    forms = "".join(
        f'<form id="f{at}" method="post" enctype="{kind}" action="{url}">'
        f'<input name="{field[:-1]}, &quot;x&quot;:&quot;" value="&quot;}}"></form>'
        for at, kind in enumerate(["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    )
    html = f"<!doctype html><title>x</title>{forms}<iframe src='{website.url}/judge/{work.name}'></iframe>"
    with second_origin(html) as address:
        for at in range(3):
            evil = page.context.new_page()
            evil.goto(address)
            with evil.expect_response(url) as answered:
                evil.evaluate(f"document.querySelector('#f{at}').submit()")
            assert answered.value.status == 403
            sent = answered.value.request.all_headers()
            assert "baro_session" in sent.get("cookie", ""), "the cookie travels, which is what makes this a test"
        evil = page.context.new_page()
        evil.goto(address)
        for mode in ("cors", "no-cors"):
            evil.evaluate(
                "([url, mode, body]) => fetch(url, {method: 'POST', mode, credentials: 'include', body,"
                " headers: {'Content-Type': mode === 'cors' ? 'application/json' : 'text/plain'}}).catch(() => 0)",
                [url, mode, body],
            )
        frame = evil.frames[1]
        assert "work" not in frame.url or frame.locator(".cards").count() == 0
    for headers in ({}, {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        kind = {"Content-Type": "application/json"}
        assert page.request.post(url, data=body, headers=headers | kind).status == 403
    own = {"Origin": website.url, "Content-Type": "text/plain"}
    assert page.request.post(url, data=body, headers=own).status == 403
    assert not work.judgments()


# ---------------------------------------------------------------------------------------------- too much for a page

MUCH = {
    "200 kB": ("A sentence of usual length, again and again. " * 4600)[:199_000] + " the end",
    "one line": "tokenø" * 5000 + "the end",
    "overrides": "a \u202e\u2067\u2066 b " * 200 + "שלום עולם " * 50 + "\u202e" * 500 + " the end",
    "table": "| a | b |\n|---|---|\n" + "".join(f"| {n} | {'x' * (n % 60)} |\n" for n in range(1000)) + "\nthe end",
    "mathematics": r"$\frac{1}{$ $$\begin{matrix}$$ $x^{y^{z$ $\left( x$ $\undefined{x}$" + "\n\nthe end",
    "bomb": r"$\def\a{\b\b}\def\b{\c\c}\def\c{\a\a}\a$ $" + "{" * 3000 + "x" + "}" * 3000 + "$\n\nthe end",
    "nesting": "> " * 500 + "deep\n\n" + "* " * 500 + "deeper\n\nthe end",
    "combining": "e" + "\u0301" * 3000 + " the end",
}


QUICK = ("200 kB", "overrides", "mathematics", "bomb")


@pytest.mark.parametrize("name", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in MUCH])
def test_too_much_text(website, at_work, name):
    work = website.work()
    work.add("pair", [MUCH[name], "something short"], question=MUCH[name])
    page = at_work(website, work)
    for size in ({"width": 1280, "height": 860}, {"width": 390, "height": 844}):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert outside(page, "#bar, .top, .card-head") == []
    texts = page.locator(".prose").all_inner_texts()
    assert sum("the end" in text for text in texts) == 2  # nothing is cut
    names = page.locator(".card-head h2").all_inner_texts()
    assert [one.split("\n")[0] for one in names] == ["A", "B"]
    with saving(page):
        press(page, "2", "Enter")
    counted(page, 1)
    with turning(page):
        press(page, "z")
    assert work.actions() == ["submit"]
    settle(page)
