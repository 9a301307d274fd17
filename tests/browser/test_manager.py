"""What a manager does on the pages: asks again under a new guideline, tells answers, imports, changes, withdraws."""

from __future__ import annotations

import random
import re
import sys
from contextlib import contextmanager

import pytest
from browser.pages import answerable, chosen, drafting, managed, passed, press
from browser.website import answer_to, judge
from playwright.sync_api import expect
from sqlalchemy import select

from baro.feedback import exports, people, project, schema
from baro.feedback.client import Client
from baro.records import Message


def tasks(site, work):
    with site.store.read() as connection:
        here = schema.task.c.project_id == work.project.id
        return connection.execute(select(schema.task).where(here).order_by(schema.task.c.id)).all()


def test_asking_again_under_a_new_guideline(website, page):
    work = website.work(overlap=2, cost_per_hour=6000)
    for kind in ("pair", "pair", "thumb"):
        work.add(kind)
    work.guideline("one")
    judge(website, work)
    managed(page, website, work, "guidelines")
    panel = page.locator("section.panel", has=page.get_by_role("heading", name="Ask again"))
    expect(panel).to_contain_text("Nothing needs to be asked again")
    page.get_by_label("Guideline in Markdown").fill("two")
    page.get_by_role("button", name="Publish as a new version").click()
    expect(page.locator(".form .outcome").first).to_contain_text("Published: version 2")
    figures = panel.locator(".facts")
    expect(figures).to_have_text(re.compile(r"Tasks\s*3.*Judgments\s*6.*0\.1 hours.*600 KRW", re.DOTALL))
    panel.get_by_label("Thumbs · 1").uncheck()
    panel.get_by_label("Overlap").fill("3")
    expect(figures).to_have_text(re.compile(r"Tasks\s*2.*Judgments\s*6", re.DOTALL))
    panel.get_by_label("Comparison · 2").uncheck()
    panel.get_by_role("button", name="Ask again").click()
    expect(panel).to_contain_text("Nothing of this choice needs to be asked again.")
    panel.get_by_label("Comparison · 2").check()
    panel.get_by_role("button", name="Ask again").click()
    sure = page.get_by_role("dialog")
    expect(sure).to_contain_text("Ask 2 tasks again, for 6 judgments?")
    sure.get_by_role("button", name="Cancel").click()
    expect(sure).to_have_count(0)
    assert len(tasks(website, work)) == 3
    panel.get_by_role("button", name="Ask again").click()
    sure.get_by_role("button", name="Ask again").click()
    expect(panel).to_contain_text("2 tasks are asked again, for 6 judgments.")
    expect(figures).to_have_text(re.compile(r"Tasks\s*1"))  # the thumbs are left
    made = [row for row in tasks(website, work) if row.again_of]
    assert [(row.kind, row.overlap, row.open) for row in made] == [("pair", 3, True)] * 2
    managed(page, website, work, "tasks")
    expect(page.get_by_text("Asked again", exact=True)).to_have_count(2)
    page.goto(f"{website.url}/manage/{work.name}/tasks#task/{work.tasks[0]}")
    page.get_by_role("link", name="Asked again under a newer guideline").click()
    expect(page.get_by_role("link", name="The earlier task")).to_be_visible()


def test_a_known_answer_for_a_task_that_was_handed_out(website, page):
    work = website.work()
    first = work.add("pair")
    judge(website, work, raters=1)
    page.goto(f"{website.url}/manage/{work.name}/tasks#task/{first}")
    expect(page.get_by_text("a copy of it gets the answer")).to_be_visible()
    page.get_by_role("button", name="Mark as known").click()
    answerable(page)
    press(page, "1", "Enter")
    expect(page.locator(".page-head .tag")).to_have_text("Known answer")
    copy = tasks(website, work)[-1]
    assert (copy.is_gold, copy.places) == (True, 0)
    assert page.url.endswith(copy.id)
    assert not tasks(website, work)[0].is_gold


def gold_panel(page):
    return page.locator("section.panel", has=page.get_by_role("heading", name="Known answer"))


def test_a_known_answer_is_corrected_and_withdrawn(website, page):
    work = website.work()
    first = work.add("pair")
    page.goto(f"{website.url}/manage/{work.name}/tasks#task/{first}")
    page.get_by_role("button", name="Mark as known").click()
    page.get_by_label("Why this is the answer").fill("A is right.")
    page.get_by_label("Why this is the answer").blur()
    answerable(page)
    press(page, "1", "Enter")
    expect(gold_panel(page)).to_contain_text("The known answer is saved.")
    expect(gold_panel(page)).to_contain_text(re.compile(r"A is better.*A is right\.", re.DOTALL))
    page.get_by_role("button", name="Correct the answer").click()
    expect(page.get_by_label("Why this is the answer")).to_have_value("A is right.")
    page.get_by_label("Why this is the answer").fill("No, B is.")
    page.get_by_label("Why this is the answer").blur()
    answerable(page)
    press(page, "7", "Enter")
    expect(gold_panel(page)).to_contain_text(re.compile(r"B is better.*No, B is\.", re.DOTALL))
    assert tasks(website, work)[0].gold_answer["choice"]["position"] == 1
    page.get_by_role("button", name="Withdraw the answer").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw the answer").click()
    expect(gold_panel(page)).to_contain_text("The known answer is withdrawn.")
    expect(page.locator(".page-head .tag")).to_have_text("Waiting")
    assert [(one.id, one.is_gold, one.places) for one in tasks(website, work)] == [(first, False, 1)]


@contextmanager
def nothing_sent(page):
    """What is done inside asks the server for no change."""
    sent = []
    page.on("request", lambda request: request.method == "GET" or sent.append(f"{request.method} {request.url}"))
    yield
    page.evaluate("fetch('/api/texts/en').then((reply) => reply.text())")  # later than whatever was sent before
    assert sent == []


def test_no_key_answers_what_is_not_shown_any_more(website, page):
    work = website.work(overlap=2)
    first = work.add("pair")
    page.goto(f"{website.url}/manage/{work.name}/tasks#task/{first}")
    page.get_by_role("button", name="Mark as known").click()
    answerable(page)
    press(page, "1")
    expect(chosen(page)).to_have_count(1)
    page.get_by_role("link", name="← All tasks").click()
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    with nothing_sent(page):
        press(page, "Enter")


def divided(site, work):
    """A comparison on which two raters differ."""
    work.add("pair")
    for slot in (0, 1):
        with Client(site.url, work.rater().token) as client:
            task = client.next(work.name)
            position = [one["text"].endswith(f".{slot}") for one in task["responses"]].index(True)
            client.submit(task, {"kind": "pair", "choice": {"outcome": "win", "position": position, "strength": 0}})


def test_no_key_settles_a_disagreement_after_the_language_was_changed(website, page):
    work = website.work(overlap=2)
    divided(website, work)
    managed(page, website, work, "adjudicate")
    page.get_by_role("button", name="Judge").click()
    answerable(page)
    with drafting(page):
        page.get_by_role("radio").first.check()
        press(page, "1")
        expect(chosen(page)).to_have_count(1)
    page.get_by_role("button", name="한국어").click()
    expect(page.get_by_role("heading", name="조정")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    with nothing_sent(page):
        press(page, "Enter")


def test_answers_are_drawn_with_seeds_of_their_own_and_cancelled(website, page, monkeypatch, tmp_path):
    jobs = website.app.state.jobs
    monkeypatch.setattr(jobs, "policies", {"slow": "slow"})
    monkeypatch.setattr(jobs, "command", (sys.executable, "-c", "import time; time.sleep(600)"))
    work = website.work()
    work.add("pair")
    managed(page, website, work, "prompts")
    more = page.get_by_role("button", name="Another model or setting")
    more.click()
    more.click()
    page.get_by_role("button", name="Remove model 2").click()
    more.click()
    seeds = page.get_by_label("Seed")
    assert [seeds.nth(at).input_value() for at in range(seeds.count())] == ["0", "2", "3"]
    page.get_by_role("button", name="Start", exact=True).click()
    cancel = page.get_by_role("button", name="Cancel this job")
    cancel.focus()
    for _ in range(2):
        page.wait_for_event("response", lambda reply: re.search(r"/jobs/\w+$", reply.url))  # it is drawn anew
    expect(cancel).to_be_focused()
    press(page, "Enter")
    expect(page.locator(".job")).to_contain_text("Cancelled")
    expect(cancel).to_have_count(0)
    (told,) = jobs.of(work.project.id)
    assert told.state == "cancelled"


def test_what_happened_is_told_in_the_readers_language(website, judged, visits):
    page = visits.page(website, website.manager("ko"))
    managed(page, website, judged, "overview")
    page.get_by_text("최근 기록").click()
    rows = page.get_by_role("table", name="최근 기록").locator("tbody tr")
    rows.first.wait_for()
    for column in (3, 4):  # what, and on what: no word is left in English
        told = rows.locator(f":nth-child({column})").all_inner_texts()
        assert [text for text in told if re.search(r"[a-z]", text)] == []
    with website.store.read() as connection:
        actions = set(connection.execute(select(schema.event.c.action)).scalars())
    for lang in ("en", "ko"):
        texts = page.request.get(f"{website.url}/api/texts/{lang}").json()
        assert {action for action in actions if f"manage.event.{action}" not in texts} == set()


def one_judgment(site, work):
    with Client(site.url, work.rater().token) as client:
        task = client.next(work.name)
        client.submit(task, answer_to(task, random.Random(0)), active_ms=60_000)


def test_the_overview_counts_while_people_work(website, page):
    work = website.work(overlap=3)
    work.add("pair")
    managed(page, website, work, "overview")
    figures = page.get_by_label("Figures")
    expect(figures).to_contain_text("0 a day over the last week")
    one_judgment(website, work)
    passed(page, 13_000)
    expect(page.get_by_role("heading", name="Judgments per day")).to_be_visible()  # with the first one, everything
    events = page.locator("summary", has_text="Latest events")
    events.focus()
    one_judgment(website, work)
    passed(page, 13_000)
    expect(figures).to_contain_text(re.compile(r"Judgments\s*2\s*2 a day"))
    expect(events).to_be_focused()


def test_what_to_do_next_looks_at_all_of_a_project(website, page):
    work = website.work()
    for at in range(21):
        question = (Message("user", f"question {at}"),)
        website.store.write(lambda c, question=question: project.add_prompt(c, work.project.id, question, "test"))
    managed(page, website, work, "overview")
    done = page.locator(".step-done a")
    expect(done).to_have_text(["Import prompts"])
    work.add("pair")  # answers of the newest prompt only
    work.rater(role="adjudicator")
    work.rater(role="manager")
    page.reload()
    expect(done).to_have_text(["Import prompts", "Bring in answers", "Make tasks"])
    work.rater()
    page.reload()
    expect(done).to_have_text(["Import prompts", "Bring in answers", "Make tasks", "Invite raters"])


def test_a_projects_manager_sees_no_other(website, visits):
    """And invites into their own, where they make somebody another manager of it."""
    work, other = website.work(name="mine"), website.work(name="others")
    manager = work.rater(role="manager")
    website.store.write(lambda c: people.add_member(c, other.project.id, manager.id, "test"))
    page = visits.page(website, manager)
    page.goto(website.url)
    links = page.locator(".projects a")
    expect(links).to_have_count(2)
    links.filter(has_text=work.name).click()
    page.wait_for_selector("#main.manage:not([aria-busy])")
    page.get_by_role("link", name="Projects").click()
    expect(page.locator("#main a")).to_have_text([work.name])
    expect(page.get_by_role("button", name="Create")).to_have_count(0)
    managed(page, website, work, "raters")
    page.get_by_label("Pseudonym").fill("mia")
    page.get_by_label("Role").select_option("manager")
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_role("row").filter(has_text="mia")).to_contain_text("Manager")
    visits.expect("Failed to load resource")
    assert page.goto(f"{website.url}/manage/{other.name}/raters").status == 403


def test_an_export_that_is_elsewhere_has_no_link(website, page, tmp_path):
    work = website.work()
    work.add("pair")
    one_judgment(website, work)
    exports.write(website.store, work.project, "facts", {}, tmp_path, "command line")
    managed(page, website, work, "export")
    page.get_by_role("button", name="Write").click()
    rows = page.get_by_role("table", name="Earlier exports").locator("tbody tr:not(.row-below)")
    expect(rows).to_have_count(2)
    expect(rows.first.get_by_role("link", name="Download")).to_be_visible()
    expect(rows.last).to_contain_text("Not on this server")
    expect(rows.last.get_by_role("link")).to_have_count(0)


def test_the_queue_says_how_many_there_are(website, page):
    work = website.work(overlap=2)
    for _ in range(2):
        divided(website, work)
    smaller(page, "manage_adjudicate.js", "MOST = 100", "MOST = 1")
    managed(page, website, work, "adjudicate")
    panel = page.locator("section.panel")
    expect(panel).to_contain_text("2 tasks, the least sure first")
    expect(panel).to_contain_text("The first 1 are listed")
    expect(panel.locator("tbody tr")).to_have_count(1)


def smaller(page, script, limit, instead):
    """A page's limit, for which this test would have to make too much."""

    def answer(route):
        reply = route.fetch()
        assert limit in reply.text()
        route.fulfill(response=reply, body=reply.text().replace(limit, instead))

    page.route(f"**/static/*/{script}", answer)


def test_what_is_imported_is_measured_as_it_is_sent(website, page):
    """Quotes take two bytes each in JSON: a file that is small enough may be a request that is not."""
    work = website.work()
    smaller(page, "manage_prompts.js", "64 * 1024 * 1024", "1000")
    managed(page, website, work, "prompts")
    text = page.get_by_label("Text", exact=True)
    start = page.get_by_role("button", name="Import", exact=True)
    text.fill('{"prompt": "' + '\\"' * 350 + '"}')
    with nothing_sent(page):
        start.click()
        expect(page.locator(".form .outcome").first).to_contain_text("larger than")
    text.fill('{"prompt": "short"}')
    start.click()
    expect(page.locator(".form .outcome").first).to_contain_text("The import is done.")


def test_a_chat_log_gives_prompts(website, page):
    work = website.work()
    managed(page, website, work, "prompts")
    page.get_by_role("button", name="Chat logs", exact=True).click()
    page.get_by_label("Personal data", exact=True).select_option("Put its kind in its place")
    row = '{"messages": [{"role": "user", "content": "ask %s"}, {"role": "assistant", "content": "no"}], "consent": %s}'
    page.get_by_label("Text", exact=True).fill(
        "\n".join([row % ("mina@example.com", "true"), row % ("nobody", "false")])
    )
    page.get_by_role("button", name="Import", exact=True).click()
    outcome = page.locator(".form .outcome").first
    expect(outcome).to_contain_text("The import is done.")
    outcome.get_by_text("left out: which, and why").click()
    expect(outcome).to_contain_text("People did not agree")
    expect(page.locator("#prompt-list + ul").get_by_text("ask [email]").first).to_be_visible()


TURNS = '{"messages": [{"role": "user", "content": %s}, {"role": "assistant", "content": "하나"}]}'
ROWS = [TURNS % question for question in ('"셋 중 하나"', '""', '"글자 \\u0000"', "null")]
# Words that are the reader's own, names, or another language that is marked as such.
FOREIGN = """() => {
  const own = '[lang=en], code, pre, bdi, .pre, kbd, .mono, option, .log, textarea, title';
  const walker = document.createTreeWalker(document.querySelector('#main'), NodeFilter.SHOW_TEXT);
  const found = [];
  for (let text = walker.nextNode(); text; text = walker.nextNode())
    if (/[a-z]{3}/i.test(text.data) && !/[가-힣]|^JSON|^CSV/.test(text.data) && !text.parentElement.closest(own))
      found.push(text.data);
  return found;
}"""


def test_what_is_left_out_is_told_in_the_readers_language(website, visits):
    """Rows of an import with each their reason, and prompts of which no task can be made; what is English says so."""
    work = website.work()
    page = managed(visits.page(website, website.manager("ko")), website, work, "prompts")
    page.get_by_role("button", name="한 모델의 응답", exact=True).click()
    page.get_by_label("모델", exact=True).fill("sft-1b")
    page.get_by_label("내용", exact=True).fill("\n".join(ROWS))
    page.get_by_role("button", name="가져오기", exact=True).click()
    page.get_by_text("제외된 3행과 그 이유").click()
    table = page.get_by_role("table", name="제외된 행")
    told = table.locator("tbody td:nth-of-type(1), tbody td:nth-of-type(2)").all_inner_texts()
    assert "프롬프트가 비어 있음" in told
    assert page.evaluate(FOREIGN) == []
    managed(page, website, work, "tasks")
    page.get_by_role("button", name="작업 만들기", exact=True).click()
    page.get_by_text("프롬프트 1개는 제외했어요").first.click()
    expect(page.get_by_text("서로 다른 응답이 1개예요. 이 종류(비교)의 작업에는 2개가 필요해요.")).to_be_visible()
    assert page.evaluate(FOREIGN) == []


def test_how_to_ask_where_models_are_unsure(website, page):
    work = website.work()
    managed(page, website, work, "tasks")
    page.get_by_text("Ask where models are unsure").click()
    expect(page.get_by_text(f"baro feedback ask {work.name} --count 200 --by RUN")).to_be_visible()


def test_tasks_are_changed_at_once_and_taken_back(website, page):
    work = website.work()
    for kind in ("pair", "pair", "thumb"):
        work.add(kind)
    managed(page, website, work, "tasks")
    page.get_by_label("Kind").last.select_option("pair")
    expect(page.locator("table tbody tr")).to_have_count(2)
    page.get_by_text("Change these tasks").click()
    panel = page.locator("details.fold", has_text="Change these tasks")
    expect(panel).to_contain_text("2 of 2 tasks would change. They have 0 judgments")
    panel.get_by_role("button", name="Change").click()
    page.get_by_role("dialog", name="Close 2 tasks?").get_by_role("button", name="Change").click()
    expect(page.get_by_text("2 tasks changed.")).to_be_visible()
    assert [row.open for row in tasks(website, work)] == [False, False, True]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 tasks are as they were before.")).to_be_visible()
    assert all(row.open for row in tasks(website, work))


def test_one_task_is_withdrawn_and_a_text_removed(website, page):
    work = website.work()
    work.add("pair")
    judge(website, work, raters=1, comment="call 010-1234-5678")
    (task,) = tasks(website, work)
    managed(page, website, work, f"tasks#task/{task.id}")
    panel = page.locator("section.panel", has=page.get_by_role("heading", name="This task"))
    panel.get_by_role("button", name="Withdraw").click()
    expect(panel).to_contain_text("This task was withdrawn: its judgments count no more.")
    panel.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("The task counts again.")).to_be_visible()
    panel.get_by_label("Priority").fill("7")
    panel.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    (task,) = tasks(website, work)
    assert (task.priority, task.withdrawn) == (7, False)
    page.get_by_text("Remove a text").click()
    said = page.get_by_label("Which text").locator("option", has_text="Comment and notes of").inner_text()
    page.get_by_label("Which text").select_option(label=said)
    page.get_by_role("button", name="Remove for ever").click()  # without a reason nothing happens
    page.get_by_label("Why").fill("asked by letter")
    page.get_by_role("button", name="Remove for ever").click()
    page.locator("dialog").get_by_role("button", name="Remove for ever").click()
    expect(page.get_by_text("The text is removed.")).to_be_visible()
    expect(page.locator("section.panel", has=page.get_by_role("heading", name="Judgments"))).to_contain_text(
        "[removed]"
    )
    with website.store.read() as connection:
        assert set(connection.execute(select(schema.judgment.c.comment)).scalars()) >= {"[removed]"}


PAUSED = [("ko", "프로젝트가 잠시 멈춰 있어요"), pytest.param("en", "This project is paused", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("lang", "title"), PAUSED)
def test_who_judges_reads_that_it_is_paused(website, page, visits, lang, title):
    work = website.work()
    work.add("pair")
    managed(page, website, work, "settings")
    page.get_by_role("button", name="Pause").click()
    page.locator("dialog").get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Nothing is handed out. What raters have in hand, they can send.")).to_be_visible()
    visits.expect("409 (Conflict)")  # what the browser says of it
    rater = visits.page(website, work.rater(lang=lang))
    rater.goto(f"{website.url}/judge/{work.name}")
    expect(rater.get_by_role("heading", name=title)).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Tasks are handed out.")).to_be_visible()
    rater.locator("#main .primary").click()
    expect(rater.locator("#main .cards")).to_be_visible()
