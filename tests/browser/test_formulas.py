"""Mathematics in Chromium: what is typeset, what stays as its source with a mark, and that none of it can act."""

import time

import pytest
from browser.formula_corpus import BLOCKS, HOSTILE, REFUSED, TEXT, TYPESET
from browser.looks import overflow
from browser.pages import press
from playwright.sync_api import expect

SHAPES = """() => [...document.querySelectorAll('.katex')].map((root) => {
  const inside = root.querySelector('.katex-html');
  const empty = [...inside.querySelectorAll('svg, path, line')].filter((node) => {
    const box = node.getBoundingClientRect();
    return box.width + box.height === 0;
  });
  const box = inside.getBoundingClientRect();
  return [root.querySelector('annotation').textContent, box.width > 1 && box.height > 1 && empty.length === 0];
})"""


def listed(formulas):
    return "\n".join(f"- {one}" for one in formulas)


def seen(source):
    """A source as the page shows it: what cannot be seen, by its number."""
    return source.replace("\u202e", "U+202E").replace("\u200b", "U+200B")


def shown(page):
    """How many formulas are typeset, after checking that each has a size, and the sources of those that are not."""
    made, poor = page.evaluate(
        f"() => {{ const all = ({SHAPES})(); return [all.length, all.filter(([, sized]) => !sized)]; }}"
    )
    assert poor == []
    left = page.evaluate(
        "[...document.querySelectorAll('code.formula')].map((one) => [one.className, one.textContent])"
    )
    assert all("refused" in kind for kind, _ in left)
    return made, [source for _, source in left]


def test_the_corpus(website, at_work):
    """Each formula of two hundred is either whole, or its source."""
    assert len(TYPESET) + len(BLOCKS) > 200
    work = website.work()
    answers = [listed(TYPESET), "\n\n".join(BLOCKS), listed(REFUSED), listed(TEXT)]
    work.add("rank", answers, question="Solve $x^2 = 4$.")
    page = at_work(website, work)
    made, refused = shown(page)
    assert sorted(refused) == sorted(map(seen, REFUSED))
    assert made == len(TYPESET) + len(BLOCKS) + 1
    assert page.locator(".katex-error").count() == 0
    for text in TEXT:
        expect(page.locator("#main")).to_contain_text(text.replace("*", "").replace("\\", ""))
    mark = page.locator("code.refused").first
    assert mark.get_attribute("title") == "This formula could not be set; this is its source."
    assert "TeX" in mark.evaluate("(node) => getComputedStyle(node, '::before').content")
    fonts = page.evaluate("[...document.fonts].filter((one) => one.status === 'loaded').map((one) => one.family)")
    assert "KaTeX_Main" in fonts
    assert "KaTeX_Math" in fonts
    page.set_viewport_size({"width": 390, "height": 844})
    assert overflow(page) <= 0


QUICK = (r"\boxed{42}", r"\xrightarrow{f}")
DRAWN = (*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in (r"\cancel{x}", r"\vec{v}", r"\not=")))


@pytest.mark.parametrize("one", DRAWN)
def test_what_carries_the_meaning_is_drawn(website, at_work, one):
    """With and without it, the formula looks different: boxes, strokes and arrows are not lost on the way."""
    work = website.work()
    bare = {r"\boxed{42}": "42", r"\cancel{x}": "x", r"\vec{v}": "v", r"\xrightarrow{f}": "f", r"\not=": "="}[one]
    work.add("pair", [f"${one}$", f"${bare}$"], question="?")
    page = at_work(website, work)
    page.evaluate("document.fonts.ready")
    seen = {box.inner_html(): box.screenshot() for box in page.locator(".card .formula").all()}
    assert len(set(seen.values())) == 2


def test_colours_can_be_read(website, at_work):
    """White on white, black on black and transparent words are shown all the same."""
    work = website.work()
    hidden = [r"\color{white} a", r"\color{black} b", r"\textcolor{transparent}{c}", r"\color{#ffffff} d",
              r"\fcolorbox{black}{black}{e}", r"\color{yellow} f"]  # fmt: skip
    work.add("thumb", ["\n\n".join(f"${one}$" for one in hidden)], overlap=2)
    for scheme in ("light", "dark"):
        page = at_work(website, work, color_scheme=scheme)
        contrasts = page.evaluate(
            """() => {
              const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
              const light = (colour, below = [0, 0, 0]) => {
                canvas.clearRect(0, 0, 1, 1);
                canvas.fillStyle = colour;
                canvas.fillRect(0, 0, 1, 1);
                const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data;
                if (alpha < 255) return null;
                const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
                return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
              };
              return [...document.querySelectorAll('.katex-html')].map((root) => {
                const leaf = [...root.querySelectorAll('*')].filter((n) => !n.children.length && n.textContent).at(-1);
                let ground = null;
                for (let node = root.querySelector('.fcolorbox') ?? leaf; ground === null; node = node.parentElement)
                  ground = light(getComputedStyle(node).backgroundColor);
                const ink = light(getComputedStyle(leaf).color);
                const [low, high] = [Math.min(ink, ground), Math.max(ink, ground)];
                return (high + 0.05) / (low + 0.05);
              });
            }"""
        )
        assert len(contrasts) == len(hidden)
        assert min(contrasts) > 3.5, contrasts
        page.close()


def test_hostile_formulas_are_inert_and_quick(website, at_work):
    """No link, no image, no class, id or style of theirs; a hundred kilobytes of them in a moment."""
    work = website.work()
    long = [r"$\frac{a}{b}$ " * 7_000, "$$\n" + r"\sqrt{x}+" * 430 + "x\n$$", "$$\n" + r"\sqrt{x}+" * 10_000 + "x\n$$"]
    work.add("rank", [listed(HOSTILE), *long], question="?")
    before = time.monotonic()
    page = at_work(website, work)
    assert time.monotonic() - before < 30  # 2 on an idle machine
    assert page.evaluate("document.querySelectorAll('.prose *').length") < 150_000
    assert page.locator(".prose :is(a, img, [id], .button, iframe, script)").count() == 0
    assert page.evaluate("document.querySelectorAll('.prose math [style]').length") == 0
    _, refused = shown(page)
    assert [one for one in HOSTILE if seen(one) not in refused] == []
    press(page, "1")  # the page goes on


def test_formulas_wherever_texts_are_shown(website, visits, at_work):
    """The rater's page, the guideline, a manager's page of a task, and its preview of a guideline."""
    work = website.work()
    task = work.add("pair", ["$x^2$", "$y^2$"], question="$z^2$")
    work.guideline("Be $fair^2$")
    page = at_work(website, work)
    expect(page.locator("dialog .katex")).to_have_count(1)
    press(page, "Enter")
    expect(page.locator("#main .katex")).to_have_count(3)
    manager = visits.page(website, website.manager())
    manager.goto(f"{website.url}/manage/{work.name}/tasks#task/{task}")
    expect(manager.locator(".prose .katex")).to_have_count(3)


def test_a_page_without_scripts_shows_sources(website, visits):
    from baro.feedback.render import to_html

    page = visits.page(website, java_script_enabled=False)
    page.set_content(to_html(r"so $x^2$ and" + "\n\n" + r"\[\frac{1}{2}\]"))
    assert page.locator("body").inner_text().split() == ["so", "$x^2$", "and", r"\[\frac{1}{2}\]"]
