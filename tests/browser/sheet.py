"""Every screen of the feedback pages on contact sheets, in both languages and colours, wide and narrow.

    PYTHONPATH=tests .venv/bin/python -m browser.sheet docs/figures

writes feedback_sheet_rater.webp and feedback_sheet_manager.webp there: English in light colours, Korean in dark ones,
each at 1280 and at 390 pixels. A second folder gets every screen by itself. Judgments are drawn with a fixed seed;
Pillow comes with matplotlib.
"""

from __future__ import annotations

import io
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from browser.pages import press, settle, turning
from browser.website import GUIDELINE, KINDS, QUESTION, Person, Website, Work, answer_to, sample_texts
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from baro.feedback import people
from baro.feedback.client import Client

SCREEN_HEIGHTS = {1280: 860, 390: 844}
LOOKS = (("en", "light", 1280), ("ko", "dark", 390), ("ko", "dark", 1280), ("en", "light", 390))
FIRST = {"pair": "1", "rank": "2113", "thumb": "23", "safety": "y", "criteria": "34", "edit": "e"}
TABS = ("overview", "prompts", "tasks", "guidelines", "raters", "agreement", "adjudicate", "export", "settings")
COLUMN, GAP = {1280: 400, 390: 140}, 10


def rater_work(site: Website, lang: str, width: int) -> tuple[Work, Person]:
    """A project with one task of every kind, and a rater of two projects."""
    name, reasons = {"en": ("replies", ("wrong", "too long")), "ko": ("정중한-답변", ("사실과 다름", "너무 김"))}[lang]
    work = site.work(name=f"{name}-{width}", thumb_reasons=reasons)
    work.criteria(("correctness", "clarity", "overall"))
    for kind in KINDS:
        work.add(kind, sample_texts(kind, lang), question=QUESTION[lang], finished=kind != "pair")
    work.guideline(GUIDELINE[lang], lang)
    person = work.rater(lang=lang)
    other = site.work().project.id
    site.store.write(lambda c: people.add_member(c, other, person.id, "test"))
    return work, person


def rater_screens(page: Page, site: Website, work: Work) -> Iterator[str]:
    """Names of screens, each as soon as it is there."""
    page.goto(f"{site.url}/")
    page.wait_for_load_state("networkidle")
    yield "home"
    page.goto(f"{site.url}/judge/{work.name}")
    page.locator("dialog").wait_for()
    yield "guideline"
    press(page, "Enter")
    for kind in KINDS:
        for key in FIRST[kind]:
            press(page, key)
        page.evaluate("scrollTo(0, 0)")
        yield kind
        if kind == "safety":  # its second step, with a conflict
            press(page, "ArrowRight", "n", "o")
            page.locator(".harm:not([hidden]) .choices").last.get_by_role("button").nth(7).click()
            press(page, "Enter")
            settle(page)
            press(page, "2", "Enter", "6")
            yield "safety2"
        press(page, "Escape")
        settle(page)
        press(page, "s")
        if kind == "pair":
            yield "skip"
        press(page, "Space")  # the first reason
        with turning(page):
            page.locator("dialog .primary").click()
    yield "empty"
    page.context.set_offline(True)
    page.locator("#main .primary").click()
    page.locator("#notice:not([hidden])").wait_for()
    yield "offline"
    page.context.set_offline(False)
    page.context.clear_cookies()
    page.goto(f"{site.url}/join#none")
    page.wait_for_load_state("networkidle")
    yield "join"


def judged_work(site: Website, name: str = "polite-answers", prompts: int = 14, raters: int = 4) -> Work:
    """A project in which some people have judged, and do not always agree; some of it is asked again."""
    draw = random.Random(11)
    work = site.work(name=name, overlap=3, max_overlap=5, cost_per_hour=12000, gold_fraction=0)
    work.criteria(("correctness", "overall"))
    for at in range(prompts):
        kind = ("pair", "pair", "safety", "criteria", "rank", "thumb")[at % 6]
        lang = "en" if at % 2 else "ko"
        texts = [f"{text}\n\n{at}" for text in sample_texts(kind, lang)]
        question = [*QUESTION[lang][:-1], ("user", f"{QUESTION[lang][-1][1]} ({at + 1})")]
        work.add(kind, texts, question=question, models=("sft-1b", "ppo-1b"))
    for version in ("", "\n- Then the tone.", "\n- Then the tone.\n- Length is no merit."):
        work.guideline(GUIDELINE["en"] + version)
    for _ in range(raters):
        with Client(site.url, work.rater().token) as client:
            while (task := client.next(work.name)) is not None and draw.random() < 0.95:
                times = {"active_ms": draw.randint(8_000, 60_000), "visible_ms": 60_000}
                client.submit(task, answer_to(task, draw), comment="Close." if draw.random() < 0.2 else "", **times)
    work.guideline(GUIDELINE["en"] + "\n- Of two that are alike, the kinder one.")
    with Client(site.url, site.manager("en").token) as manager:
        manager.ask_again(work.name, kinds=["pair"])
        manager.export(work.name, "pairs")
    return work


def manager_screens(page: Page, site: Website, work: Work) -> Iterator[str]:
    page.goto(f"{site.url}/manage")
    page.wait_for_selector("#main:not([aria-busy])")
    yield "projects"
    for tab in TABS:
        page.goto(f"{site.url}/manage/{work.name}/{tab}")
        page.wait_for_selector("#main:not([aria-busy])")
        yield tab
    page.goto(f"{site.url}/manage/{work.name}/tasks#task/{work.tasks[0]}")
    page.wait_for_selector("#main:not([aria-busy])")
    page.wait_for_load_state("networkidle")
    yield "task"


def shots(browser: Browser, site: Website, which: str, judged: Work) -> list[list[Image.Image]]:
    """A row of pictures for each look."""
    rows = []
    for lang, colours, width in LOOKS:
        size = {"width": width, "height": SCREEN_HEIGHTS[width]}
        mobile = width < 500
        context = browser.new_context(viewport=size, color_scheme=colours, has_touch=mobile, is_mobile=mobile,
                                      locale={"en": "en-GB", "ko": "ko-KR"}[lang])  # fmt: skip
        if which == "rater":
            work, person = rater_work(site, lang, width)
        else:
            work, person = judged, site.manager(lang)
        context.add_cookies([{"name": "baro_session", "value": person.token, "url": site.url}])
        page = context.new_page()
        screens = (rater_screens if which == "rater" else manager_screens)(page, site, work)
        row = []
        for name in screens:
            page.wait_for_function("document.fonts.ready")
            whole = which == "manager"
            data = page.screenshot(full_page=whole, animations="disabled")
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            picture = picture.crop((0, 0, width, min(picture.height, 2 * size["height"])))
            if len(sys.argv) > 2:
                picture.save(Path(sys.argv[2]) / f"{which}-{name}-{lang}-{colours}-{width}.png")
            row.append(picture)
        rows.append(row)
        context.close()
    return rows


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Pictures side by side, each look in rows of its own, at a width at which the layout can be judged."""
    lines = []
    for row in rows:
        column = COLUMN[row[0].width]
        small = [one.resize((column, round(one.height * column / one.width)), Image.Resampling.LANCZOS) for one in row]
        at_once = 2060 // (column + GAP)
        lines += [small[start : start + at_once] for start in range(0, len(small), at_once)]
    width = max(sum(one.width + GAP for one in line) for line in lines) + GAP
    page = Image.new("RGB", (width, sum(max(one.height for one in line) + GAP for line in lines) + GAP), "#808080")
    y = GAP
    for line in lines:
        x = GAP
        for one in line:
            page.paste(one, (x, y))
            x += one.width + GAP
        y += max(one.height for one in line) + GAP
    return page


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as store, sync_playwright() as playwright:
        site = Website(Path(store))
        judged = judged_work(site)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for which in ("rater", "manager"):
            path = folder / f"feedback_sheet_{which}.webp"
            sheet(shots(browser, site, which, judged)).save(path, quality=70, method=6)
            print(path, path.stat().st_size)
        browser.close()
        site.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
