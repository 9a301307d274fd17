"""The parts of a report that say where it comes from: data ledgers, lineage, settings, and every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from baro.evaluate.lineage import Node, lineage_svg
from baro.evaluate.markup import (
    DASH,
    Column,
    Html,
    beside,
    bytes_words,
    details,
    duration_words,
    element,
    figure,
    finite,
    foreign,
    joined,
    number,
    section,
    table,
)
from baro.evaluate.results import interval_cell
from baro.evaluate.stages import Figure, Stage, parents_of
from baro.evaluate.words import Words
from baro.runs import flat_settings

EXAMPLES = 20

# --- ledger -----------------------------------------------------------------------------------------------------------


def ledger_section(stages: Sequence[Stage], words: Words) -> Html:
    """Counts for every input file, and below them why rows were not used whole."""
    found = [(stage, key, part) for stage in stages for key, part in stage.ledgers.items()]
    parts = ("kept", "dropped", "truncated", "repeated")
    columns = [Column(words["stage"]), Column(words["input"]), *(Column(words[p], "number") for p in ("rows", *parts))]
    rows, reasons = [], []
    for stage, where, part in found:
        counts = [_count(part.get(key)) for key in parts]
        total = part.get("rows", sum(count for key, count in zip(parts, counts, strict=True) if key != "truncated"))
        title = f"{where}: {PurePath(str(part.get('name', ''))).name}"
        rows.append([foreign(stage.name), foreign(title), *(number(count) for count in (total, *counts))])
        reasons += [_reasons(stage, title, key, part.get(key), words) for key in parts[1:]]
    if not rows:
        return Html("")
    return section(
        "ledger", words["ledger"], words["ledger_lead"], table(columns, rows, label=words["ledger"]), *reasons
    )


def _count(entries: Any) -> float:
    """Rows of a part: a plain count, a count for each reason, or a sentence for each row."""
    if isinstance(entries, Mapping):
        return sum(value if finite(value) is not None else 1 for value in entries.values())
    return len(entries) if isinstance(entries, list) else finite(entries) or 0


def _reasons(stage: Stage, title: str, part: str, entries: Any, words: Words) -> Html:
    if not isinstance(entries, Mapping) or not entries:
        return Html("")
    shown = list(entries.items())[:EXAMPLES]
    items = [
        element("li", element("code", key), ": ", number(why) if finite(why) is not None else why) for key, why in shown
    ]
    if len(entries) > EXAMPLES:
        items.append(element("li", words["examples_left_out"].format(n=len(entries) - EXAMPLES)))
    summary = joined([foreign(stage.name), " · ", foreign(title), f" · {words[part]}: {number(_count(entries))}"])
    return details(summary, element("ul", *items, class_="reasons"))


# --- lineage and settings ---------------------------------------------------------------------------------------------


def lineage_section(stages: Sequence[Stage], words: Words) -> Html:
    """The graph beside what each stage took, then every stage's settings, folded."""
    settings = [_settings(stage, stages, words) for stage in stages]
    graph = element("div", figure(_graph(stages, words)), class_="graph")
    block = beside(graph, _costs(stages, words), right="wide")
    return section("lineage", words["lineage"], words["lineage_lead"], block, *settings) if stages else Html("")


def anchor(stage: Stage, stages: Sequence[Stage]) -> str:
    """Where the settings of a stage stand in the page."""
    return f"stage-{next(i for i, other in enumerate(stages) if other is stage)}"


def _graph(stages: Sequence[Stage], words: Words) -> str:
    nodes: list[Node] = []
    outer: dict[str, Node] = {}
    for stage in stages:
        parents = parents_of(stage, stages)
        for path in (parent for parent in parents if isinstance(parent, str)):
            outer[path] = Node(f"outer {path}", PurePath(path).name, words["not_in_report"], outer=True)
        keys = tuple(parent.name if isinstance(parent, Stage) else f"outer {parent}" for parent in parents)
        nodes.append(Node(stage.name, stage.name, stage.verb, keys))
    titles = {node.key: node.title for node in [*nodes, *outer.values()]}
    spoken = "; ".join(
        words["alt_edge"].format(
            child=node.title, parents=", ".join(titles[key] for key in node.parents) or words["none"]
        )
        for node in nodes
    )
    anchors = {stage.name: anchor(stage, stages) for stage in stages}
    return lineage_svg([*outer.values(), *nodes], label=words["alt_lineage"].format(values=spoken), anchors=anchors)


def _costs(stages: Sequence[Stage], words: Words) -> Html:
    titles = ("stage", "status", "seed", "steps", "duration", "tokens_per_second", "peak_memory")
    columns = [Column(words[title], None if title in ("stage", "status") else "number") for title in titles]
    rows = []
    for stage in stages:
        cost = {figure.name: figure.value for figure in stage.cost}
        link = element("a", foreign(stage.name), href=f"#{anchor(stage, stages)}")
        seed, status = stage.manifest.get("seed"), stage.manifest.get("status", DASH)
        rows.append([
            link, words.get(f"status_{status}", status), DASH if seed is None else str(seed),
            number(cost["perf/steps"]), duration_words(cost["perf/seconds"], words),
            number(cost["perf/tokens_per_second"]), bytes_words(cost["perf/peak_memory_bytes"]),
        ])  # fmt: skip
    return table(columns, rows, label=words["lineage"])


def _settings(stage: Stage, stages: Sequence[Stage], words: Words) -> Html:
    columns = [Column(words["setting"]), Column(words["value"])]
    flat = flat_settings(stage.config)
    rows = [(element("code", key), element("code", _shown(value))) for key, value in flat.items()]
    others = {
        words["parents"]: ", ".join(p.name if isinstance(p, Stage) else p for p in parents_of(stage, stages)),
        words["inputs"]: ", ".join(
            f"{name} {str(hash)[:12]}" for name, hash in (stage.manifest.get("inputs") or {}).items()
        ),
        words["versions"]: ", ".join(f"{name} {value}" for name, value in stage.environment.items()),
    }
    terms = [element("div", element("dt", name), element("dd", value)) for name, value in others.items() if value]
    listed = element("dl", *terms, class_="facts") if terms else ""
    summary = words["settings_of"].format(stage=stage.name)
    inner = table(columns, rows, label=summary) if rows else ""
    verb = element("span", stage.verb, class_="tag") if stage.verb != stage.name else ""
    return details(joined([foreign(summary), " ", verb]), listed, inner, id_=anchor(stage, stages))


def _shown(value: Any) -> str:
    return DASH if value is None else str(value)


# --- notes, figures ---------------------------------------------------------------------------------------------------


def notes_section(words: Words) -> Html:
    """What the figures mean."""
    names = [key for key in words if key.startswith("note_") and not key.endswith("_text")]
    terms = [element("div", element("dt", words[name]), element("dd", words[f"{name}_text"])) for name in names]
    return section("notes", words["notes"], "", element("dl", *terms, class_="notes"))


def figures_section(stages: Sequence[Stage], words: Words) -> Html:
    """Every figure of every stage, folded: what report.json holds, for people."""
    found: list[tuple[Stage, Figure]] = [(stage, figure) for stage in stages for figure in stage.figures]
    if not found:
        return Html("")
    columns = [
        Column(words["stage"]),
        Column(words["measure"]),
        Column(words["value"], "number"),
        Column("n", "number"),
    ]
    rows = [[foreign(s.name), element("code", f.name), interval_cell(f), number(f.n)] for s, f in found]
    summary = words["figures_count"].format(n=number(len(rows)))
    return section(
        "figures", words["all_figures"], "", details(summary, table(columns, rows, label=words["all_figures"]))
    )
