"""Drawings of a report: from plain numbers to SVG for a page. The same input gives the same bytes on every machine.

Colours are written as CSS variables and fonts left to the page, so that a drawing follows the page into dark mode.
Matplotlib never sees a text from outside: it lays out an ASCII stand-in of about the same width, and the text takes its
place afterwards. So any script can be drawn, whatever fonts are installed, and no ``$`` starts a formula.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from baro.evaluate.markup import finite, text

INK, MUTED, RULE, PAPER = "#000001", "#000002", "#000003", "#000004"
SERIES = tuple(f"#0000{16 + k:02x}" for k in range(6))
MARKERS, CONTROL_MARKER = "os^vPX", "D"
FONT_SIZE = 11.5
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    colour: f"--series-{k}" for k, colour in enumerate(SERIES)
}
_CHARACTER = 6.3  # width of a Latin letter at FONT_SIZE, for room beside the axes
_CAP = 400  # points of a line; more cannot be told apart at this size


@dataclass(frozen=True)
class Estimate:
    """A value, with its interval where there is one."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def errors(self) -> tuple[float, float]:
        """How far the interval reaches below and above the value; 0 where it is unknown."""
        value, low, high = finite(self.value), finite(self.low), finite(self.high)
        if value is None or low is None or high is None:
            return 0.0, 0.0
        return max(0.0, value - low), max(0.0, high - value)


@dataclass(frozen=True)
class Row:
    """One line of an interval plot: several estimates of one thing, in the order of the plot's kinds.

    ``series`` chooses colour and mark, here as in all drawings; negative numbers are for controls.
    """

    name: str
    estimates: Sequence[Estimate | None]
    series: int = 0


@dataclass(frozen=True)
class Point:
    """One mark of a scatter plot."""

    name: str
    x: Estimate
    y: Estimate
    series: int = 0


@dataclass(frozen=True)
class Line:
    """A line over steps. A sparse one is drawn through its points, a dense one smoothed over its raw values."""

    steps: Sequence[float]
    values: Sequence[float | None]
    series: int = 0
    sparse: bool = False
    dashed: bool = False


@dataclass
class _Texts:
    """Stand-ins that matplotlib lays out, and what they stand for."""

    originals: list[str] = field(default_factory=list)

    def stand_in(self, original: str) -> str:
        self.originals.append(original)
        return f"q{len(self.originals) - 1:03d}".ljust(text_width(original), "n")

    def put_back(self, svg: str) -> str:
        return re.sub(r">q(\d{3})n*<", lambda match: f">{text(self.originals[int(match[1])])}<", svg)


def interval_plot(
    rows: Sequence[Row], *, label: str, reference: float | None = None, limits: tuple[float, float] = (0.0, 1.0)
) -> str:
    """Dots with error bars, a row for each name; the first kind of estimate is filled, the second hollow."""
    texts = _Texts()
    margin = min(190, 16 + _CHARACTER * max((text_width(row.name) for row in rows), default=0))
    with _canvas(460, 46 + 40 * len(rows), label, texts, left=margin, right=14, top=8, bottom=30) as (axes, drawn):
        for y, row in enumerate(rows):
            _draw_row(axes, y, row)
        if reference is not None:
            axes.axvline(reference, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.set_yticks(range(len(rows)), [texts.stand_in(row.name) for row in rows])
        axes.tick_params(axis="y", labelcolor=INK, pad=8)
        axes.set(xlim=limits, ylim=(max(len(rows), 1) - 0.5, -0.5))
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        axes.spines["left"].set_visible(False)
    return drawn[0]


def _draw_row(axes: Axes, y: int, row: Row) -> None:
    for kind, estimate in enumerate(row.estimates):
        value = None if estimate is None else finite(estimate.value)
        if estimate is None or value is None:
            continue
        offset = 0.0 if len(row.estimates) == 1 else (-0.14, 0.18)[kind > 0]
        below, above = estimate.errors
        colour, marker = _look(row.series)
        hollow = {"markerfacecolor": PAPER, "markeredgewidth": 1.4, "elinewidth": 1.2, "markersize": 5.5}
        filled = {"markersize": 8, "elinewidth": 2}
        axes.errorbar(
            [value], [y + offset], xerr=[[below], [above]], color=colour, zorder=3,
            marker=marker, **(hollow if kind else filled),
        )  # fmt: skip


def scatter_plot(
    points: Sequence[Point], *, label: str, x_label: str, y_label: str, path: Sequence[tuple[float, float]] = (),
    x_ticks: Mapping[float, str] | None = None,
) -> str:  # fmt: skip
    """Named points with error bars in both directions, and a path that leads from a ring to a dot.

    ``x_ticks``: names of places on the x axis, in place of numbers.
    """
    texts = _Texts()
    with _canvas(460, 330, label, texts, left=50, right=16, top=26, bottom=44) as (axes, drawn):
        _draw_path(axes, path)
        shown = [
            (point, (x, y))
            for point in points
            if (x := finite(point.x.value)) is not None and (y := finite(point.y.value)) is not None
        ]
        for point, place in shown:
            _draw_point(axes, point, *place)
        axes.grid(color=RULE, linewidth=0.8)
        axes.margins(0.1, 0.14)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]) if shown and axes.get_xlim()[0] < 1 else None)
        if x_ticks:
            axes.set_xticks(list(x_ticks), [texts.stand_in(name) for name in x_ticks.values()])
        _name_axes(axes, texts, x_label, y_label)
        _name_points(axes, texts, shown)
    return drawn[0]


def _name_axes(axes: Axes, texts: _Texts, x_label: str, y_label: str) -> None:
    """The y axis' name stands upright above it: turned text is hard to read, in Hangul above all."""
    axes.set_xlabel(texts.stand_in(x_label), color=MUTED, fontsize=FONT_SIZE, labelpad=6)
    axes.annotate(
        texts.stand_in(y_label), (0, 1), xytext=(0, 9), xycoords="axes fraction", textcoords="offset points",
        color=MUTED, fontsize=FONT_SIZE,
    )  # fmt: skip


def _draw_path(axes: Axes, path: Sequence[tuple[float, float]]) -> None:
    known = [(x, y) for x, y in path if finite(x) is not None and finite(y) is not None]
    if len(known) < 2:
        return
    xs, ys = (_thinned(running_mean(values)) for values in zip(*known, strict=True))
    axes.plot(xs, ys, color=MUTED, linewidth=1.5, alpha=0.7, zorder=2)
    axes.plot(xs[:1], ys[:1], "o", color=MUTED, markerfacecolor=PAPER, markersize=5, zorder=2)
    axes.plot(xs[-1:], ys[-1:], "o", color=MUTED, markersize=5, zorder=2)


def _draw_point(axes: Axes, point: Point, x: float, y: float) -> None:
    (left, right), (below, above) = point.x.errors, point.y.errors
    colour, marker = _look(point.series)
    axes.errorbar(
        [x], [y], xerr=[[left], [right]], yerr=[[below], [above]], elinewidth=1.4, markersize=8,
        color=colour, marker=marker, zorder=3,
    )  # fmt: skip


Box = tuple[float, float, float, float]


def _name_points(axes: Axes, texts: _Texts, points: Sequence[tuple[Point, tuple[float, float]]]) -> None:
    """Each name beside its mark, on the first side where it covers no other name or mark and stays inside."""
    marks = [axes.transData.transform(place) for _, place in points]
    frame = axes.bbox
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    for (point, _), (x, y) in zip(points, marks, strict=True):
        wide = _CHARACTER * text_width(point.name)
        sides = [
            (10, 8),
            (-10 - wide, 8),
            (10, -18),
            (-10 - wide, -18),
            (-wide / 2, 12),
            (-wide / 2, -24),
            (10, 24),
            (10, -34),
        ]
        boxes = [(x + dx, y + dy, x + dx + wide + 6, y + dy + 12) for dx, dy in sides]
        free = [box for box in boxes if box[0] > frame.x0 and box[2] < frame.x1 + 12 and not _overlaps(box, taken)]
        box = (free or boxes)[0]
        taken.append(box)
        axes.annotate(
            texts.stand_in(point.name), (x, y), xytext=(box[0], box[1] + 2), xycoords="figure pixels",
            textcoords="figure pixels", color=INK, fontsize=FONT_SIZE, annotation_clip=False,
        )  # fmt: skip


def _overlaps(box: Box, others: Sequence[Box]) -> bool:
    left, bottom, right, top = box
    return any(left < o[2] and o[0] < right and bottom < o[3] and o[1] < top for o in others)


def curve_plot(
    lines: Sequence[Line], *, label: str, x_label: str, x_ticks: Mapping[float, str] | None = None,
    size: tuple[float, float] = (320, 168),
) -> str:  # fmt: skip
    """Lines over steps, small unless ``size`` is given: one panel of many.

    ``x_ticks``: names of places on the x axis, in place of numbers.
    """
    texts = _Texts()
    with _canvas(*size, label, texts, left=44, right=12, top=8, bottom=36) as (axes, drawn):
        extent = [y for line in lines for y in _draw_line(axes, line)]
        axes.set_ylim(*_padded(extent))
        axes.margins(x=0.03)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if x_ticks:
            axes.set_xticks(list(x_ticks), [texts.stand_in(name) for name in x_ticks.values()])
        axes.set_xlabel(texts.stand_in(x_label), color=MUTED, fontsize=FONT_SIZE, labelpad=2)
    return drawn[0]


def _draw_line(axes: Axes, line: Line) -> list[float]:
    """Draw it; returns what the axis has to reach. Raw values may leave it: one spike should not hide the rest."""
    known = [(x, y) for x, y in zip(line.steps, line.values, strict=True) if finite(y) is not None]
    if not known:
        return []
    steps, values = (list(column) for column in zip(*known, strict=True))
    colour, style = SERIES[line.series % len(SERIES)], (0, (4, 2)) if line.dashed else "-"
    if line.sparse:
        marker: dict[str, Any] = {
            "marker": MARKERS[line.series % len(MARKERS)],
            "markersize": 4,
            "markerfacecolor": PAPER,
        }
        axes.plot(steps, values, color=colour, linewidth=1.3, linestyle=style, zorder=4, **marker)
        return values
    smooth = running_mean(values)
    axes.plot(_thinned(steps), _thinned(values), color=colour, linewidth=0.9, alpha=0.28, zorder=2)
    axes.plot(_thinned(steps), _thinned(smooth), color=colour, linewidth=1.9, linestyle=style, zorder=3)
    inner = sorted(values)[len(values) // 50 : len(values) - len(values) // 50]
    return smooth + inner


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    flat = high - low <= 1e-6 * abs(high)  # sums round: what never changes should not look as if it did
    room = (0.1 * abs(high) or 0.1) if flat else 0.08 * (high - low)
    return low - room, high + room


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean of a window around each value, a twentieth of all values wide and shorter at both ends."""
    half = len(values) // 40
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for i in range(len(values)):
        start, end = max(0, i - half), min(len(values), i + half + 1)
        means.append((sums[end] - sums[start]) / (end - start))
    return means


def _thinned(values: Sequence[float]) -> list[float]:
    """Every k-th value and the last."""
    stride = math.ceil(len(values) / _CAP) or 1
    return [*values[:-1:stride], values[-1]]


def legend_mark(series: int, *, kind: str) -> str:
    """A small drawing for a legend: ``filled`` or ``hollow`` for marks, ``line``, ``dashed`` or ``path``."""
    colour = "var(--muted)" if kind in ("filled", "hollow", "path") else f"var(--series-{series % len(SERIES)})"
    if kind in ("filled", "hollow"):
        fill = colour if kind == "filled" else "var(--paper)"
        shape = f'<circle cx="9" cy="6" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
    else:
        dashes = ' stroke-dasharray="4 2"' if kind == "dashed" else ""
        ring = f'<circle cx="9" cy="6" r="2.5" fill="var(--paper)" stroke="{colour}"/>' if kind == "dotted" else ""
        shape = f'<path d="M0 6H18" stroke="{colour}" stroke-width="2"{dashes}/>{ring}'
    return f'<svg class="mark" width="18" height="12" viewBox="0 0 18 12" aria-hidden="true">{shape}</svg>'


def text_width(original: str) -> int:
    """How many Latin letters are as wide: Hangul and other wide characters count double, combining ones nothing."""
    shown = (c for c in original if not unicodedata.combining(c))
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown)


def _look(series: int) -> tuple[str, str]:
    """Colour and mark of a series; negative ones are controls, all alike and quiet: their names tell them apart."""
    if series < 0:
        return MUTED, CONTROL_MARKER
    return SERIES[series % len(SERIES)], MARKERS[series % len(MARKERS)]


# --- matplotlib -> SVG for a page -------------------------------------------------------------------------------------


@contextmanager
def _canvas(
    width: float, height: float, label: str, texts: _Texts, *, left: float, right: float, top: float, bottom: float
) -> Iterator[tuple[Axes, list[str]]]:
    """Axes with margins in pixels; the list holds the SVG when the block has ended."""
    drawn: list[str] = []
    # the salt makes ids differ between the drawings of a page, and agree between two runs
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "DejaVu Sans"}):
        sheet = Figure(figsize=(width / 72, height / 72), dpi=72)
        box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
        axes = sheet.add_axes(box)
        _style(sheet, axes)
        yield axes, drawn
        drawn.append(_page_svg(_svg(sheet), label, texts))


def _style(sheet: Figure, axes: Axes) -> None:
    sheet.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_tick))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=MUTED, pad=5)


def _tick(value: float, _position: Any = None) -> str:
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= (unit if unit > 1e3 else 1e4):
            return f"{value / unit:g}{letter}".replace("-", "−")
    return f"{0.0 if size < 1e-12 else value:g}".replace("-", "−")


def _svg(sheet: Figure) -> str:
    buffer = io.StringIO()
    FigureCanvasSVG(sheet).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return buffer.getvalue()


def _page_svg(svg: str, label: str, texts: _Texts) -> str:
    """Matplotlib's file as an element of a page: no prolog, no style sheet, no fonts, variables for colours."""
    size = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    assert size is not None, "matplotlib writes a viewBox"
    width, height = size.groups()
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", body).replace("xlink:href", "href")
    # numbers of attributes, not the labels, which follow a > or a minus sign of typography
    body = re.sub(r"(?<![>−\d.])-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", body)
    body = re.sub(r"#0000[0-9a-f]{2}", lambda match: f"var({_VARIABLES.get(match[0], '--ink')})", body)
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><")
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg class="plot" {box} role="img" aria-label="{text(label)}">{texts.put_back(body)}'.strip()
