r"""Where the formulas of a Markdown text are: $..$, $$..$$, \(..\), \[..\] and \begin{align}..\end{align}.

The server only marks them: ``<code class="formula">`` holds the source as it was written, which is what a page without
scripts shows; ``static/formulas.js`` puts the typeset formula in its place. ``display``: on a line of its own.
``refused``: too long to be typeset, and shown as its source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MAX_SOURCE = 20_000  # characters in which the end of a formula is looked for
MAX_FORMULA, MAX_FORMULAS = 4_000, 20_000  # characters of a formula that is typeset, and of all of a text
_FORMULA = {
    "$$": re.compile(r"\$\$((?:\\.|[^\\$]|\$(?!\$))+)\$\$", re.DOTALL),
    # \text{if $x$} may have dollars of its own
    "$": re.compile(r"\$((?>(?:\\.|\{(?:\\.|[^\\{}])*\}|[^\\$])+))\$(?![0-9A-Za-z])", re.DOTALL),
    r"\(": re.compile(r"\\\(((?:\\[^)]|[^\\])+)\\\)"),
    r"\[": re.compile(r"\\\[((?:\\[^\]]|[^\\])+)\\\]"),
    r"\begin{": re.compile(r"(\\begin\{(?P<name>[a-zA-Z]+\*?)\}.*?\\end\{(?P=name)\})", re.DOTALL),
}
# between dollars: words and none of the signs of a formula, as in "$5 or 10$" and "$5와 10$"
_SIGNS = re.compile(r"[\\^_{}=<>]")
_WORDS = re.compile(r"\s[^\W\d_]{2,}|[^\W\d_]{2,}\s|[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff]")


def add_formulas(parser: MarkdownIt, spend: Callable[[Any, int], None]) -> None:
    """Teaches a parser of Markdown formulas. ``spend(env, steps)`` is told what looking for them costs."""

    def block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        return _formula_block(state, start, end, silent, spend)

    def inline(state: StateInline, silent: bool) -> bool:
        return _formula_inline(state, silent, spend)

    parser.block.ruler.before("fence", "formula", block, {"alt": ["paragraph", "blockquote", "list"]})
    parser.inline.ruler.before("escape", "formula", inline)
    parser.add_render_rule("formula", _render_formula)


def _formula_inline(state: StateInline, silent: bool, spend: Callable[[Any, int], None]) -> bool:
    """Inside a paragraph; a price, a shell variable or "$ " opens nothing."""
    source, at = state.src, state.pos
    opening = next((key for key in ("$$", "$", r"\(", r"\[") if source.startswith(key, at)), None)
    if opening is None:
        return False
    found = _FORMULA[opening].match(source, at, min(state.posMax, at + MAX_SOURCE))
    spend(state.env, 1 + (found.end() - at if found else min(state.posMax - at, MAX_SOURCE)) // 50)
    if found is None or not found[1].strip():
        return False
    if opening == "$" and _is_money(found[1], source[at - 1 : at]):
        return False
    if not silent:
        _push_formula(state, found[0], display=opening in ("$$", r"\["))
    state.pos = found.end()
    return True


def _is_money(inside: str, before: str) -> bool:
    """Whether two dollars are no delimiters."""
    if inside != inside.strip() or (before.isascii() and before.isalnum()):
        return True
    return _SIGNS.search(inside) is None and _WORDS.search(inside) is not None


def _formula_block(state: StateBlock, start: int, end: int, silent: bool, spend: Callable[[Any, int], None]) -> bool:
    r"""$$..$$, \[..\] and \begin{align}..\end{align} on lines of their own; no blank line inside."""
    first = _line(state, start)
    opening = next((key for key in ("$$", r"\[", r"\begin{") if first.startswith(key)), None)
    if opening is None or state.is_code_block(start):
        return False
    text = "\n".join(_lines(state, start, end))
    found = _FORMULA[opening].match(text)
    spend(state.env, 1 + len(text) // 50)
    rest = text[found.end() :].split("\n", 1)[0].strip() if found else ""
    if found is None or not found[1].strip() or rest not in ("", ".", ",", ";"):
        return False
    if not silent:
        _push_formula(state, found[0] + rest, display=True).block = True
        state.line = start + found[0].count("\n") + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _lines(state: StateBlock, start: int, end: int) -> Iterator[str]:
    size = 0
    for number in range(start, end):
        line = _line(state, number)
        size += len(line) + 1
        if not line.strip() or state.sCount[number] < state.blkIndent or size > MAX_SOURCE:
            return
        yield line


def _push_formula(state: StateBlock | StateInline, source: str, *, display: bool) -> Token:
    token = state.push("formula", "code", 0)
    token.content, token.meta = source, {"display": display}
    return token


def _render_formula(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    env["formulas"] += len(token.content)
    refused = len(token.content) > MAX_FORMULA or env["formulas"] > MAX_FORMULAS
    kinds = f"formula{' display' * token.meta['display']}{' refused' * refused}"
    shown = f'<code class="{kinds}">{escape(token.content)}</code>'
    return f'<div class="math">{shown}</div>\n' if token.block else shown
