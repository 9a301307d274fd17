"""Hostile text -> HTML that cannot act: Markdown, code, marked formulas; and the difference of two texts.

Three layers, each enough alone: markdown-it escapes raw HTML and takes only http, https and mailto for links; what it
makes goes through an allowlist (nh3, a parser of HTML5); the page has a strict content policy. Nothing is loaded:
images are shown as text. Nothing is cut or hidden: what is too long or too costly to render comes back whole, as plain
text in ``<pre class="plain too-long">`` (or ``too-deep``, ``too-complex``); what would be invisible in other renderers
(link definitions, comments, the words after a code fence, surplus cells of a table) is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import Match, SequenceMatcher
from functools import cache, lru_cache
from html import escape, unescape
from itertools import groupby
from threading import Lock
from types import SimpleNamespace
from typing import Any

import nh3
from markdown_it import MarkdownIt, helpers
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from pygments.lexers import get_lexer_by_name
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES
from pygments.token import Token as Any_Kind
from pygments.util import ClassNotFound

from baro.feedback.formulas import add_formulas

MAX_MARKDOWN = 100_000  # characters; longer texts are shown as they are
MAX_WORK = 300_000  # steps of the Markdown parser, so that no text costs the square of its length
MAX_NESTING = 40  # lists and quotes and emphasis inside each other
MAX_CODE, MAX_CODES = 4_000, 12_000  # characters of a highlighted block, and of all of a text
MAX_DIFF, MAX_DIFF_WORK = 200_000, 5_000_000  # characters of a compared text; pairs of equal words looked at


def _named(names: str) -> set[str]:
    return set(names.split())


# on 4,000 characters chosen to be slow each of these takes less than a second; the lexer of C# takes minutes
LANGUAGES = _named(
    "bash c c++ cpp css diff go golang html ini java javascript js json jsx kotlin lua php py "
    "python python3 r rb ruby rs rust scala sh shell sql swift toml ts tsx typescript xml yaml yml zsh"
)
CLASS_PREFIX = "c-"
CODE_CLASSES = {CLASS_PREFIX + name for name in STANDARD_TYPES.values() if name}
TAGS = _named(
    "a bdi blockquote br code div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul"
)
ALIGNED = {"align-left", "align-center", "align-right"}
CLASSES = {
    "code": {"formula", "display", "refused"}, "div": {"code", "table", "math"},
    "pre": {"plain", "too-long", "too-deep", "too-complex"},
    "span": CODE_CLASSES | {"language", "image", "unseen"}, "td": ALIGNED, "th": ALIGNED,
}  # fmt: skip
ATTRIBUTES: dict[str, set[str]] = {"a": {"href"}, "ol": {"start"}}
_CLEANER = nh3.Cleaner(
    tags=TAGS, attributes=ATTRIBUTES, allowed_classes=CLASSES, url_schemes={"http", "https", "mailto"},
    url_relative="deny", link_rel="noopener noreferrer nofollow",
)  # fmt: skip
_SAFE_LINK = re.compile(r"(?:https?://|mailto:)[^\s\\]+\Z", re.IGNORECASE)


class _Refused(Exception):
    """A text is not rendered; the message is the class that says why."""


@lru_cache(maxsize=512)  # answers never change, and every rater of a task asks for the same ones
def to_html(text: str) -> str:
    """A text by a model or a person as safe HTML. Never raises, never cuts.

    What would change the order of letters or stand between them unseen is shown by its number (see ``_UNSEEN``).
    """
    text = _readable(text)
    if len(text) > MAX_MARKDOWN:
        return _as_it_is(text, "too-long")
    try:
        return _CLEANER.clean(_shown(_markdown(text)))
    except _Refused as refused:
        return _as_it_is(text, str(refused))


def plain(text: str, limit: int = 200) -> str:
    """The start of a text in one line for lists, not HTML: no line breaks, no controls, "…" where it was cut."""
    start = _CONTROLS.sub(" ", _readable(text[: 8 * limit]))
    line = " ".join(start.split())
    return line if len(line) <= limit and len(text) <= 8 * limit else line[:limit].rstrip() + "…"


def prompt_start(messages: Sequence[Mapping[str, Any]]) -> str:
    """The first words of a prompt's last turn, by which people know it in a list."""
    return plain(messages[-1]["content"], 80) if messages else ""


# C0 and C1 controls, and what embeds, overrides or isolates a direction: in one line nothing would close it
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


def _readable(text: str) -> str:
    """Half a surrogate pair cannot be sent as UTF-8, and browsers drop NUL: both become U+FFFD."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)


def _as_it_is(text: str, reason: str) -> str:
    # <code> because the parser of HTML drops a line break right after <pre>
    return f'<pre class="plain {reason}"><code>{_shown(escape(text))}</code></pre>'


# Embeddings, overrides and isolates; zero widths and fillers; tags, in which words can be hidden. Joiners only after
# letters that they do not join, and no tags of a flag: emoji, Persian and the scripts of India need them.
_UNSEEN = re.compile(
    "(?P<kept><[^>]*>|\U0001f3f4[\U000e0020-\U000e007f]+)"
    "|[\u202a-\u202e\u2066-\u2069\u200b\u2060-\u2064\ufeff\u180e\u115f\u1160\u3164\uffa0\U000e0000-\U000e007f]"
    "|(?<=[\x00-\u024f\uac00-\ud7a3])[\u200c\u200d]"
)


def _shown(html: str) -> str:
    """HTML with what cannot be seen as tags: the page would obey it, and "exe.png" be read where "gnp.exe" stands."""
    return _UNSEEN.sub(lambda one: one["kept"] or f'<span class="unseen">U+{ord(one[0]):04X}</span>', html)


# --- Markdown


def _markdown(text: str) -> str:
    parser = _parser()
    env = {"work": MAX_WORK, "formulas": 0, "codes": 0}
    tokens = parser.parse(text, env)
    _check_nesting(tokens)
    return str(parser.renderer.render(tokens, parser.options, env))


def _spend(env: Any, steps: int = 1) -> None:
    env["work"] -= steps
    if env["work"] < 0:
        raise _Refused("too-complex")


def _check_nesting(tokens: list[Token]) -> None:
    """markdown-it drops what is nested deeper than its limit, without a word; and it has none for emphasis."""
    for token in tokens:
        if token.nesting == 1 and token.level >= MAX_NESTING - 1:
            raise _Refused("too-deep")
        depth = 0
        for child in token.children or ():
            depth += child.nesting
            if depth >= MAX_NESTING:
                raise _Refused("too-deep")


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": MAX_NESTING})
    parser.enable(["table", "strikethrough"])
    parser.disable(["reference"])  # [1]: https://... would vanish
    untitled = helpers.parseLinkTitle("", 0, 0)  # [a](http://b "title"): only a link without what nobody would see
    parser.helpers = SimpleNamespace(**vars(helpers) | {"parseLinkTitle": lambda *_: untitled})  # type: ignore[assignment]
    parser.validateLink = lambda url: _SAFE_LINK.match(url) is not None  # type: ignore[method-assign]
    parser.normalizeLink = parser.normalizeLinkText = lambda url: url  # type: ignore[method-assign, assignment]
    parser.block.ruler.at("table", _whole_table, {"alt": ["paragraph"]})
    parser.block.ruler.before("table", "meter", _block_meter, {"alt": ["paragraph", "blockquote", "list"]})
    parser.inline.ruler.before("text", "meter", _inline_meter)
    parser.inline.skipToken = _metered(parser.inline.skipToken)  # type: ignore[method-assign, assignment]
    add_formulas(parser, _spend)
    rules = {"fence": _render_fence, "code_block": _render_fence, "image": _render_image, "th_open": _render_cell}
    rules |= {"td_open": _render_cell, "table_open": _render_table_open, "table_close": _render_table_close}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    parser.render("rules are compiled at their first use, which two threads must not share", {"work": MAX_WORK})
    return parser


def _block_meter(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    _spend(state.env)
    return False


def _inline_meter(state: StateInline, silent: bool) -> bool:
    _spend(state.env)
    return False


def _metered(skip: Callable[[StateInline], None]) -> Callable[[StateInline], None]:
    """Unclosed brackets are looked for up to the end from each of them, through a cache that no rule sees."""

    def counted(state: StateInline) -> None:
        _spend(state.env)
        skip(state)

    return counted


def _whole_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table none of whose rows has more cells than its head: markdown-it would drop the surplus."""
    before = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    if silent:
        return True
    cells = sum(token.type == "th_open" for token in state.tokens[before:])
    rows = [token.map[0] for token in state.tokens[before:] if token.type == "tr_open" and token.map]
    _spend(state.env, len(state.tokens) - before)
    if all(_cells(getLine(state, row).strip()) <= cells for row in rows):
        return True
    del state.tokens[before:]
    state.line = start
    return False


def _cells(line: str) -> int:
    found = escapedSplit(line)
    return len(found) - (found[0] == "") - (len(found) > 1 and found[-1] == "")


def _render_table_open(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    return '<div class="table"><table>\n'


def _render_table_close(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    return "</table></div>\n"


def _render_cell(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """A class in place of a style, which the page's policy would block."""
    style = str(tokens[at].attrGet("style") or "")
    return f'<{tokens[at].tag} class="align-{style.removeprefix("text-align:")}">' if style else f"<{tokens[at].tag}>"


def _render_image(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """Words in place of an image: loading one tells its server who looks at it."""
    url = str(tokens[at].attrGet("src"))
    return f'<span class="image">[image: <bdi>{escape(tokens[at].content)}</bdi>] (<bdi>{escape(url)}</bdi>)</span>'


# --- code


def _render_fence(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    info, code = unescape(tokens[at].info.strip()), tokens[at].content
    env["codes"] += len(code)
    small = len(code) <= MAX_CODE and env["codes"] <= MAX_CODES
    shown = _highlighted(code, info.split(maxsplit=1)[0].lower()) if info and small else escape(code)
    label = f'<span class="language">{escape(info)}</span>' if info else ""
    return f'<div class="code">{label}<pre><code>{shown}</code></pre></div>\n'


_LEXING = Lock()  # a lexer prepares its rules at its first use


def _highlighted(code: str, language: str) -> str:
    if language not in LANGUAGES or re.search(r"\s{100}", code):  # some lexers take the square of a run of blanks
        return escape(code)
    try:
        with _LEXING:
            pieces = list(get_lexer_by_name(language, stripnl=False, ensurenl=False).get_tokens(code))
    except (ClassNotFound, RecursionError):
        return escape(code)
    if "".join(piece for _, piece in pieces) != code:
        return escape(code)
    return "".join(_coloured(piece, STANDARD_TYPES.get(kind, "")) for kind, piece in pieces)


def _coloured(piece: str, name: str) -> str:
    bare = not name or piece.isspace()
    return escape(piece) if bare else f'<span class="{CLASS_PREFIX}{name}">{escape(piece)}</span>'


def code_css() -> str:
    """The rules for highlighted code, light and dark; ``static/code.css`` holds what this returns.

    Dark where the reader's system is dark, unless the page says ``<html data-theme="light">``; and where it says dark.
    """
    dark = "".join(f"    {rule}\n" for rule in _rules("github-dark"))
    light = "".join(f"{rule}\n" for rule in _rules("default"))
    system = f'@media (prefers-color-scheme: dark) {{\n  :root:not([data-theme="light"]) {{\n{dark}  }}\n}}\n'
    chosen = f':root[data-theme="dark"] {{\n{dark}}}\n'.replace("    ", "  ")
    return f"/* made by baro.feedback.render.code_css(); not edited */\n{light}{system}{chosen}"


def _rules(name: str) -> Iterator[str]:
    style = get_style_by_name(name)
    ink = style.style_for_token(Any_Kind)["color"] or "1f2328"
    yield f"div.code > pre {{ color: #{ink}; background: {style.background_color}; }}"
    for kind, short in STANDARD_TYPES.items():
        look = style.style_for_token(kind)
        weight = " font-weight: bold;" if look["bold"] else ""
        slant = " font-style: italic;" if look["italic"] else ""
        if short not in ("", "w") and (look["color"] or weight or slant):
            yield f".{CLASS_PREFIX}{short} {{ color: #{look['color'] or ink};{weight}{slant} }}"


# --- the difference of two texts

_IDEOGRAPH = "\u2e80-\u2fdf\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff"
_MARKS = "\u0300-\u036f\u1160-\u11ff\u20d0-\u20ff\ufe00-\ufe0f\U0001f3fb-\U0001f3ff"
_CHARACTER = f"(?:[\U0001f1e6-\U0001f1ff]{{2}}|.(?:[{_MARKS}]|\u200d.)*)"  # as a reader counts, nearly
_WORD = re.compile(rf"[{_IDEOGRAPH}]\s*|(?:[^\W{_IDEOGRAPH}]|[{_MARKS}])+\s*|\s+|{_CHARACTER}\s*", re.DOTALL)
_LINE = re.compile(r".*?\n|.+", re.DOTALL)
_Parts = list[tuple[bool, str]]  # (changed, text)


def diff_html(left: str, right: str) -> tuple[str, str] | None:
    """Both texts with what only the left has in <del> and what only the right has in <ins>; None if it costs too much.

    By words and the blanks after them, by lines where words would take too long. Inside a changed word of Hangul, and
    between ideographs, by characters: 학교에 and 학교는 differ in a particle.
    """
    left, right = _readable(left), _readable(right)
    if len(left) + len(right) > MAX_DIFF:
        return None
    for unit in (_WORD, _LINE):
        env = {"work": MAX_DIFF_WORK}
        try:
            old, new = _compared(unit.findall(left), unit.findall(right), env)
        except _Refused:
            continue
        return _marked(old, "del"), _marked(new, "ins")
    return None


class _Matcher(SequenceMatcher[str]):
    """difflib's matching, which may take the cube of the length, within a budget."""

    def __init__(self, left: list[str], right: list[str], env: dict[str, int]):
        self.env = env
        self.left = left
        super().__init__(None, left, right, autojunk=False)

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        known = self.b2j  # type: ignore[attr-defined]
        _spend(self.env, sum(1 + len(known.get(word, "")) for word in self.left[alo:ahi]))
        return super().find_longest_match(alo, ahi, blo, bhi)


def _compared(left: list[str], right: list[str], env: dict[str, int]) -> tuple[_Parts, _Parts]:
    old: _Parts = []
    new: _Parts = []
    for kind, a, b, c, d in _Matcher(left, right, env).get_opcodes():
        before, after = "".join(left[a:b]), "".join(right[c:d])
        inside = _inside(before, after, env) if kind == "replace" else None
        old += inside[0] if inside else [(kind != "equal", before)]
        new += inside[1] if inside else [(kind != "equal", after)]
    return old, new


def _inside(before: str, after: str, env: dict[str, int]) -> tuple[_Parts, _Parts] | None:
    """The characters that differ between two Korean passages, where at least half of them do not."""
    if max(len(before), len(after)) > 400 or not all(re.search(f"[{_HANGUL}]", text) for text in (before, after)):
        return None
    left, right = (re.findall(_CHARACTER, text, re.DOTALL) for text in (before, after))
    matcher = _Matcher(left, right, env)
    if matcher.ratio() < 0.5:
        return None
    opcodes = matcher.get_opcodes()
    old = [(kind != "equal", "".join(left[a:b])) for kind, a, b, _, _ in opcodes]
    new = [(kind != "equal", "".join(right[c:d])) for kind, _, _, c, d in opcodes]
    return old, new


def _marked(parts: _Parts, tag: str) -> str:
    """Line breaks count, as in code: the element is a <pre>."""
    made = []
    for changed, group in groupby((part for part in parts if part[1]), key=lambda part: part[0]):
        text = _shown(escape("".join(text for _, text in group)))
        made.append(f"<{tag}>{text}</{tag}>" if changed else text)
    return f'<pre class="plain diff"><code>{"".join(made)}</code></pre>'
