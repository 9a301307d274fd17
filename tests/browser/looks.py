"""What can be wrong with how a page looks, measured in the page."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_OUTSIDE = """
(within) => {
  const scrolls = (node) => /(auto|scroll)/.test(getComputedStyle(node).overflowX + getComputedStyle(node).overflow);
  const clips = (node) => /(hidden|clip)/.test(getComputedStyle(node).overflow);
  const found = [];
  for (const root of document.querySelectorAll(within)) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      const own = text.parentElement;
      if (!text.data.trim() || !own.checkVisibility({visibilityProperty: true})) continue;
      if (own.closest('.sr, .skip-link, .katex-mathml, [inert], .covered, option, title, svg')) continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      const lines = [...range.getClientRects()].filter((box) => box.width > 1);
      let scrolled = false;
      for (let node = own; node && !scrolled; node = node.parentElement) {
        const style = getComputedStyle(node);
        if (style.textOverflow === 'ellipsis' && clips(node)) break;
        scrolled = scrolls(node) && node !== document.body && node !== document.documentElement;
        const box = node.getBoundingClientRect();
        const button = node.matches('button, .button, kbd, .tag');
        if (!scrolled && (clips(node) || button) && box.width && lines.some((line) =>
          line.left < box.left - 1 || line.right > box.right + 1
            || (button && (line.top < box.top - 2 || line.bottom > box.bottom + 2)))) {
          found.push(`cut: ${text.data.trim().slice(0, 40)} in <${node.localName} class="${node.className}">`);
          break;
        }
        if (node === document.body && lines.some((line) => line.right > innerWidth + 1 || line.left < -1))
          found.push(`off the page: ${text.data.trim().slice(0, 40)}`);
      }
    }
  }
  return found;
}
"""


def outside(page: Page, within: str = "body") -> list[str]:
    """Texts that leave the page, or what they stand in."""
    return page.evaluate(_OUTSIDE, within)


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def violations(page: Page) -> list[Any]:
    """Serious and critical ones that axe finds; axe comes in by the debugger, past the content security policy."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(Axe().axe_script)
    found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
    return [
        (
            one["id"],
            one["impact"],
            [node["html"][:160] + " | " + node["failureSummary"][:300] for node in one["nodes"][:3]],
        )
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
