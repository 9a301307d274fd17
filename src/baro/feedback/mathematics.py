"""LaTeX in Markdown -> MathML, on the server: $..$, $$..$$, \\(..\\), \\[..\\] and \\begin{align}..\\end{align}.

A formula that is broken, partly unknown, or more than mathematics is shown as its source in
``<code class="math-error">``; a half-understood formula would mislead who judges it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape, unescape
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MAX_FORMULA, MAX_FORMULAS = 4_000, 20_000  # characters of a formula, and of all formulas of a text
MAX_DEPTH = 40  # elements inside each other


def named(names: str) -> frozenset[str]:
    """A set of names written as one string."""
    return frozenset(names.split())


MATH_TAGS = named(
    "math mrow mi mo mn mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr mtd "
    "mstyle mpadded menclose"
)
MATH_ATTRIBUTES = named(
    "accent columnalign columnlines depth display displaystyle fence form height largeop linethickness lspace maxsize "
    "minsize movablelimits notation rowlines rspace scriptlevel separator stretchy voffset width mathvariant"
)
# environments, and what the converter calls them; it numbers the lines of align, and takes an unknown one for a group
_NAMES = {name: name for name in ("array", "cases", "smallmatrix", *(f"{kind}matrix" for kind in ("", *"pbBvV")))}
_NAMES |= dict.fromkeys(
    ("align", "align*", "aligned", "alignat", "alignat*", "alignedat", "eqnarray", "split"), "align*"
)
_NAMES |= dict.fromkeys(
    ("gather", "gather*", "gathered", "multline", "multline*", "equation", "equation*"), "displaylines"
)
_NAMES["dcases"] = "cases"
_ENVIRONMENT = re.compile(r"\\(begin|end)\s?\{([^{}]*)\}((?<=at\})\{\d+\}|(?<=at\*\})\{\d+\})?")
_FORMULA = {
    "$$": re.compile(r"\$\$((?:\\.|[^\\$]|\$(?!\$))+)\$\$", re.DOTALL),
    "$": re.compile(r"\$((?:\\.|[^\\$])+)\$(?![0-9A-Za-z])", re.DOTALL),
    r"\(": re.compile(r"\\\(((?:\\[^)]|[^\\])+)\\\)"),
    r"\[": re.compile(r"\\\[((?:\\[^\]]|[^\\])+)\\\]"),
    r"\begin{": re.compile(r"(\\begin\{(?P<name>[a-zA-Z]+\*?)\}.*?\\end\{(?P=name)\})", re.DOTALL),
}
# macros (they grow without bound), what is converted twice at each level, what hides, links, styles, paints or moves
_REFUSED = re.compile(
    r"\\(?:[egx]?def|let|(?:re|provide)?(?:new)?command|(?:re)?newenvironment|DeclareMathOperator|sideset"
    r"|[hv]?phantom|class|style|href|url|includegraphics|color|textcolor|f?colorbox|rule|raise|lower|moveleft"
    r"|moveright|skew)(?![a-zA-Z])"
)
# no large lengths, and negative ones only in the converter's own small corrections
_VALUE = re.compile(r"\+?\d?(?:\.\d{1,4})?(?:em|ex|px|pt|mu|mm)?\Z|[+-]?\.\d{1,3}e[mx]\Z|[a-z][a-z -]*\Z")


def add_mathematics(parser: MarkdownIt, spend: Callable[[Any, int], None]) -> None:
    """Teaches a parser of Markdown mathematics. ``spend(env, steps)`` is told what looking for formulas costs."""

    def block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        return _formula_block(state, start, end, silent, spend)

    def inline(state: StateInline, silent: bool) -> bool:
        return _formula_inline(state, silent, spend)

    parser.block.ruler.before("fence", "mathematics", block, {"alt": ["paragraph", "blockquote", "list"]})
    parser.inline.ruler.before("escape", "mathematics", inline)
    parser.add_render_rule("formula", _render_formula)


def _formula_inline(state: StateInline, silent: bool, spend: Callable[[Any, int], None]) -> bool:
    """$..$, $$..$$, \\(..\\) and \\[..\\] inside a paragraph; a price, a shell variable or "$ " opens nothing."""
    source, at = state.src, state.pos
    opening = next((key for key in ("$$", "$", r"\(", r"\[") if source.startswith(key, at)), None)
    if opening is None:
        return False
    found = _FORMULA[opening].match(source, at, min(state.posMax, at + MAX_FORMULA))
    spend(state.env, 1 + (found.end() - at if found else min(state.posMax - at, MAX_FORMULA)) // 50)
    if found is None or not found[1].strip():
        return False
    before = source[at - 1 : at]
    if opening == "$" and (found[1] != found[1].strip() or (before.isascii() and before.isalnum())):
        return False
    if not silent:
        _push_formula(state, found[1], found[0], display=opening in ("$$", r"\["))
    state.pos = found.end()
    return True


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
        _push_formula(state, found[1] + rest, found[0] + rest, display=True).block = True
        state.line = start + found[0].count("\n") + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _lines(state: StateBlock, start: int, end: int) -> Iterator[str]:
    size = 0
    for number in range(start, end):
        line = _line(state, number)
        size += len(line) + 1
        if not line.strip() or state.sCount[number] < state.blkIndent or size > MAX_FORMULA:
            return
        yield line


def _push_formula(state: StateBlock | StateInline, latex: str, source: str, *, display: bool) -> Token:
    token = state.push("formula", "math", 0)
    token.content, token.info, token.meta = latex, source, {"display": "block" if display else "inline"}
    return token


def _render_formula(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    env["formulas"] += len(token.content)
    made = None if env["formulas"] > MAX_FORMULAS else _mathml(token.content.strip(), token.meta["display"])
    shown = made or f'<code class="math-error">{escape(token.info)}</code>'
    return f'<div class="math">{shown}</div>\n' if token.block else shown


def _mathml(latex: str, display: str) -> str | None:
    """MathML of a formula, or None when it is broken, unknown in part, or does more than mathematics."""
    if _REFUSED.search(latex) or not _balanced(latex):
        return None
    try:
        inner = _element(convert_to_element(_written(latex), display=display)[0], 0)
    except Exception:  # the converter raises a dozen kinds, KeyError, StopIteration and RecursionError among them
        return None
    return f'<math display="{display}" alttext="{escape(latex)}">{inner}</math>'


def _balanced(latex: str) -> bool:
    """Whether every brace has its partner; the converter closes and drops them as it likes."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", latex, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def _written(latex: str) -> str:
    """The formula in the converter's own dialect. KeyError for an environment that it does not have."""
    blanks = re.sub(r"\s+", " ", latex)  # long runs of blanks cost it their square
    signs = re.sub(r"(?<!\\)%", r"\\%", blanks)  # "50% of" is meant, not a comment that hides what follows
    return _ENVIRONMENT.sub(lambda found: f"\\{found[1]}{{{_NAMES[found[2]]}}}", signs)


def _element(element: Element, depth: int) -> str:
    """Written by ourselves: the converter's own text is not escaped, \\text{<img ...>} would be an image."""
    text = re.sub(r"&#x[0-9A-Fa-f]{1,6};", lambda found: unescape(found[0]), element.text or "")
    unknown = element.tag == "mi" and (text == "&" or re.match(r"\\[A-Za-z]", text))
    if element.tag not in MATH_TAGS or depth > MAX_DEPTH or unknown:
        raise ValueError(element.tag)
    text = text[1:] if text in (r"\{", r"\}") else text
    kept = {name: value for name, value in element.items() if name in MATH_ATTRIBUTES and _VALUE.match(value)}
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
    inner = "".join(_element(child, depth + 1) for child in element)
    return f"<{element.tag}{attributes}>{escape(text)}{inner}</{element.tag}>"
