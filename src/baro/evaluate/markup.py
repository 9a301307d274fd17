"""Pieces of HTML. Whatever comes from a model or a file passes through ``text`` before it becomes part of a page."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

DASH = "–"


class Html(str):
    """Markup that is safe to insert as it is; any other string is text and gets escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    """Plain text as HTML.

    Control characters become their visible pictures and half surrogate pairs their JSON escapes: neither may stand in
    a page, and neither should vanish from it.
    """
    if isinstance(value, Html):
        return value
    encodable = str(value).encode("utf-8", "backslashreplace").decode()
    return Html(html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", _picture, encodable)))


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2421 if code == 0x7F else 0x2400 + code)


def element(tag: str, *children: object, **attributes: object) -> Html:
    """An element; an attribute of None is left out, ``class_`` stands for class and ``aria_label`` for aria-label."""
    named = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    opening = "".join(f' {name}="{text(value)}"' for name, value in named)
    return Html(f"<{tag}{opening}>{''.join(text(child) for child in children)}</{tag}>")


def joined(pieces: Iterable[object], between: str = "") -> Html:
    """Pieces one after another."""
    return Html(text(between).join(text(piece) for piece in pieces))


def foreign(value: object) -> Html:
    """A name from outside inside a sentence: its writing direction stays its own, and it may break after _ and /."""
    return element("bdi", Html(re.sub(r"([_/])(?=.)", r"\1<wbr>", text(value))))


# --- numbers ----------------------------------------------------------------------------------------------------------


def finite(value: Any) -> float | None:
    """The number, or None for what is none: null, NaN, an infinity, a text."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def numbers(*values: Any) -> list[str]:
    """Numbers that belong together, with the same decimals: about three digits of the largest matter."""
    known = [finite(value) for value in values]
    size = max((abs(value) for value in known if value is not None), default=0.0)
    whole = all(value is None or value == int(value) for value in known)
    decimals = 0 if whole or size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    form = ".1e" if size >= 1e7 or 0 < size < 5e-4 else f",.{decimals}f"
    return [DASH if value is None else _signed(f"{value:{form}}") for value in known]


def shares(*values: Any) -> list[str]:
    """Shares that belong together, with two decimals; with three where two would round a bound onto 0.5, which decides.

    The first is the value itself, where nothing is decided.
    """
    known = [finite(value) for value in values]
    close = any(bound is not None and bound != 0.5 and f"{bound:.2f}" == "0.50" for bound in known[1:])
    return [DASH if value is None else _signed(f"{value:.{3 if close else 2}f}") for value in known]


def number(value: Any) -> str:
    """A number with about three digits that matter."""
    return numbers(value)[0]


def _signed(shown: str) -> str:
    """With the minus sign of typography; a rounded zero has none."""
    return shown.replace("-", "−") if shown.strip("-0.") else shown.lstrip("-")


def bytes_words(value: Any) -> str:
    """A size in memory."""
    known = finite(value)
    if known is None:
        return DASH
    return f"{known / 2**30:.1f} GiB" if known >= 2**30 else f"{known / 2**20:.0f} MiB"


def duration_words(seconds: Any, words: Mapping[str, str]) -> str:
    """A time as hours, minutes and seconds, the two largest that count."""
    known = finite(seconds)
    if known is None:
        return DASH
    minutes, rest = divmod(round(known), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return words["hours"].format(hours=hours, minutes=minutes)
    return words["minutes" if minutes else "seconds"].format(minutes=minutes, seconds=rest)


# --- blocks -----------------------------------------------------------------------------------------------------------


ColumnKind = Literal["number", "sentence"]


class Column(NamedTuple):
    """A table's column; numbers stand at the right, and whole sentences get room on a narrow page."""

    title: object
    kind: ColumnKind | None = None


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, label: str) -> Html:
    """A table that scrolls by itself where the page is narrow. A row's first cell is its header."""
    kinds = [column.kind for column in columns]
    head = joined(
        element("th", column.title, scope="col", class_=kind) for column, kind in zip(columns, kinds, strict=True)
    )
    body = joined(element("tr", element("th", row[0], scope="row"), *_cells(row[1:], kinds[1:])) for row in rows)
    inner = element("table", element("thead", element("tr", head)), element("tbody", body))
    return element("div", inner, class_="scroll", role="region", tabindex=0, aria_label=label)


def _cells(cells: Sequence[object], kinds: Sequence[str | None]) -> list[Html]:
    return [element("td", cell, class_=kind) for cell, kind in zip(cells, kinds, strict=True)]


def details(summary: object, *children: object, open_: bool = False, id_: str | None = None) -> Html:
    """A part that can be folded."""
    return element("details", element("summary", summary), *children, open="" if open_ else None, id=id_)


def section(anchor: str, title: str, lead: object, *children: object) -> Html:
    """A numbered part of the page with its own heading."""
    heading = element("h2", title, id=f"{anchor}-title")
    lead = element("p", lead, class_="lead") if lead else ""
    return element("section", heading, lead, *children, id=anchor, aria_labelledby=f"{anchor}-title")


def beside(*children: object, right: str = "") -> Html:
    """Side by side where there is room, one above the other where there is not; the right side may be "wide"."""
    return element("div", *children, class_=f"beside {right}".strip())


def figure(svg: str, *, caption: object = "", legend: object = "") -> Html:
    """A drawing with what explains it."""
    head = element("figcaption", caption) if caption else ""
    return element("figure", head, legend, Html(svg))
