"""The graph of stages as SVG: which was made from which, from the oldest at the top down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from baro.evaluate.markup import element, joined, text
from baro.evaluate.plots import text_width

_WIDE, _HIGH, _GAP_X, _GAP_Y = 128, 42, 14, 28
_BEND = 2  # an edge that passes between stages needs little more than the gaps
_LETTERS = 15


@dataclass(frozen=True)
class Node:
    """A stage: its key, what stands in its box, the keys of its parents. An outer one has no run in the report."""

    key: str
    title: str
    subtitle: str
    parents: tuple[str, ...] = ()
    outer: bool = False


Edge = tuple[str, ...]  # keys from parent to child, with the bends between
Place = tuple[float, float]


def lineage_svg(nodes: Sequence[Node], *, label: str, anchors: Mapping[str, str]) -> str:
    """The drawing; ``anchors`` names the part of the page that a stage's box leads to."""
    known = {node.key: node for node in nodes}
    layer = _layers(known)
    layers, edges = _with_bends(known, layer)
    places, width, height = _places(_untangled(layers, edges), known)
    lines = joined(element("path", d=_curve(edge, places, known), class_="edge") for edge in edges)
    boxes = joined(_box(node, places[node.key], anchors.get(node.key)) for node in nodes)
    size = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height:g}"}
    return element(
        "svg",
        lines,
        boxes,
        class_="plot lineage",
        role="group",
        aria_label=label,
        style=f"max-width: {width:g}px",
        **size,
    )


def _layers(known: Mapping[str, Node]) -> dict[str, int]:
    """Each node below all of its parents. A parent that is its own descendant (a damaged file) is passed over."""
    depth: dict[str, int] = {}

    def visit(key: str, above: frozenset[str]) -> int:
        if key not in depth:
            parents = [p for p in known[key].parents if p in known and p not in above and p != key]
            depth[key] = 1 + max((visit(p, above | {key}) for p in parents), default=-1)
        return depth[key]

    for key in known:
        visit(key, frozenset())
    return depth


def _with_bends(known: Mapping[str, Node], layer: Mapping[str, int]) -> tuple[list[list[str]], list[Edge]]:
    """The keys of each layer, with a bend wherever an edge passes through, and the edges along them."""
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for key in known:
        layers[layer[key]].append(key)
    edges = []
    for child in known.values():
        for parent in dict.fromkeys(p for p in child.parents if p in known and layer[p] < layer[child.key]):
            bends = [f"\0{parent}\0{child.key}\0{at}" for at in range(layer[parent] + 1, layer[child.key])]
            for at, bend in enumerate(bends, start=layer[parent] + 1):
                layers[at].append(bend)
            edges.append((parent, *bends, child.key))
    return layers, edges


def _untangled(layers: list[list[str]], edges: Sequence[Edge]) -> list[list[str]]:
    """Order each layer by the mean place of its neighbours, down and up a few times (Sugiyama et al. 1981)."""
    links = [link for edge in edges for link in pairwise(edge)]
    for sweep in range(6):
        down = sweep % 2 == 0
        place = {key: i / max(1, len(keys) - 1) for keys in layers for i, key in enumerate(keys)}
        for keys in layers if down else layers[::-1]:
            near = {key: [a if down else b for a, b in links if (b if down else a) == key] for key in keys}
            want = {key: sum(place[n] for n in near[key]) / len(near[key]) if near[key] else place[key] for key in keys}
            keys.sort(key=lambda key: want[key])
            place |= {key: i / max(1, len(keys) - 1) if len(keys) > 1 else want[key] for i, key in enumerate(keys)}
    return layers


def _places(layers: Sequence[Sequence[str]], known: Mapping[str, Node]) -> tuple[dict[str, Place], float, float]:
    """The centre of every box and bend; layers are centred below each other."""
    widths = [sum(_wide(key, known) for key in keys) + _GAP_X * (len(keys) - 1) for keys in layers]
    width = max(widths, default=0) + 4
    places = {}
    for row, keys in enumerate(layers):
        x = (width - widths[row]) / 2
        for key in keys:
            places[key] = (x + _wide(key, known) / 2, 2 + row * (_HIGH + _GAP_Y) + _HIGH / 2)
            x += _wide(key, known) + _GAP_X
    return places, width, len(layers) * (_HIGH + _GAP_Y) - _GAP_Y + 4


def _wide(key: str, known: Mapping[str, Node]) -> int:
    return _WIDE if key in known else _BEND


def _curve(edge: Edge, places: Mapping[str, Place], known: Mapping[str, Node]) -> str:
    """From the bottom of the parent's box to the top of the child's, straight down through the bends."""
    half = _HIGH / 2
    stops = []
    for key in edge:
        x, y = places[key]
        above, below = (x, y - half), (x, y + half)
        stops += [below] if key == edge[0] else [above] if key in known else [above, below]
    path = f"M{stops[0][0]:.1f} {stops[0][1]:.1f}"
    for index, ((x0, y0), (x1, y1)) in enumerate(pairwise(stops)):
        middle = (y0 + y1) / 2
        bend = f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
        path += f"V{y1:.1f}" if index % 2 else bend
    return path


def _box(node: Node, place: Place, anchor: str | None) -> str:
    x, y = place
    shape = element(
        "rect", x=f"{x - _WIDE / 2:.1f}", y=f"{y - _HIGH / 2:.1f}", width=_WIDE, height=_HIGH, rx=6,
        class_="outer" if node.outer else "stage",
    )  # fmt: skip
    title = element("text", _shortened(node.title), x=f"{x:.1f}", y=f"{y - 3:.1f}", class_="name")
    subtitle = element("text", _shortened(node.subtitle, _LETTERS + 5), x=f"{x:.1f}", y=f"{y + 13:.1f}", class_="verb")
    inner = joined([element("title", f"{node.title} ({node.subtitle})"), shape, title, subtitle])
    return element("a", inner, href=f"#{anchor}") if anchor else element("g", inner)


def _shortened(words: str, letters: int = _LETTERS) -> str:
    if text_width(words) <= letters:
        return text(words)
    kept = words
    while text_width(kept) >= letters:
        kept = kept[:-1]
    return text(kept.rstrip() + "…")
