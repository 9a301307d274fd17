"""The part of a report about right and wrong answers: accuracy, pass@k and maj@n of each policy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from baro.evaluate.findings import evaluations, with_interval
from baro.evaluate.markup import DASH, Column, Html, beside, element, figure, foreign, number, section, table
from baro.evaluate.plots import Line, Row, curve_plot, interval_plot, legend_mark
from baro.evaluate.results import Results, estimate, interval_cell
from baro.evaluate.stages import Stage
from baro.evaluate.words import Words


def solved_section(stages: Sequence[Stage], words: Words) -> Html:
    """For each evaluation and each reward that says right or wrong a plot and its table."""
    results = [Results(evaluation, words, stages) for evaluation in evaluations(stages) if evaluation.verifiers]
    blocks: list[Html] = []
    for result in results:
        for reward in result.evaluation.verifiers:
            if len(results) > 1 or len(result.evaluation.verifiers) > 1:
                stage = [foreign(result.evaluation.stage.name), ": "] if len(results) > 1 else []
                blocks.append(element("h3", *stage, foreign(reward)))
            blocks.append(beside(_plot(result, reward), _curve(result, reward)))
            blocks.append(_table(result, reward))
    return section("solved", words["solved"], words["solved_lead"], *blocks) if blocks else Html("")


def _policies(result: Results, reward: str) -> list[str]:
    return [policy for policy in result.ordered if result.evaluation.get(policy, "accuracy", reward)]


def _plot(result: Results, reward: str) -> Html:
    """One answer filled, the best of all of them hollow."""
    evaluation, words = result.evaluation, result.words
    kinds = ["accuracy", *(f"pass_at_{k}" for k in evaluation.ks("pass", reward)[-1:])]
    rows, spoken = [], []
    for policy in _policies(result, reward):
        found = [evaluation.get(policy, kind, reward) for kind in kinds]
        rows.append(Row(result.name(policy), [estimate(one) for one in found], result.look(policy)))
        spoken.append(f"{result.name(policy)} {', '.join(with_interval(one) for one in found)}")
    titles = [_title(kind, words) for kind in kinds]
    marks = [Html(legend_mark(0, kind=kind)) for kind in ("filled", "hollow")]
    entries = [element("li", mark, title) for mark, title in zip(marks[: len(kinds)], titles, strict=True)]
    label = words["alt_solved"].format(name=reward, values="; ".join(spoken))
    drawn = interval_plot(rows, label=label, limits=(-0.03, 1.03))
    return figure(drawn, legend=element("ul", *entries, class_="legend"))


def _curve(result: Results, reward: str) -> Html:
    """pass@k over log k, from one answer on, of every policy that is no control."""
    evaluation, words = result.evaluation, result.words
    ks = [1, *evaluation.ks("pass", reward)]
    if len(ks) < 3:
        return Html("")
    lines, entries, spoken = [], [], []
    for policy in _policies(result, reward):
        series = result.look(policy)
        found = [evaluation.get(policy, "accuracy" if k == 1 else f"pass_at_{k}", reward) for k in ks]
        if series >= 0:
            lines.append(
                Line([math.log2(k) for k in ks], [one and one.value for one in found], series=series, sparse=True)
            )
            entries.append(element("li", Html(legend_mark(series, kind="dotted")), foreign(result.name(policy))))
            spoken.append(f"{result.name(policy)} {', '.join(with_interval(one) for one in found)}")
    label = words["alt_pass"].format(name=reward, ks=", ".join(map(str, ks)), values="; ".join(spoken))
    svg = curve_plot(lines, label=label, x_label="k", x_ticks={math.log2(k): str(k) for k in ks}, size=(460, 200))
    return figure(svg, caption=element("span", "pass@k"), legend=element("ul", *entries, class_="legend"))


def _table(result: Results, reward: str) -> Html:
    evaluation, words = result.evaluation, result.words
    kinds = ["accuracy", *(f"pass_at_{k}" for k in evaluation.ks("pass", reward))]
    kinds += [f"maj_at_{k}" for k in evaluation.ks("maj", reward)]
    kinds += ["unsolved_fraction"] * bool(evaluation.ks("pass", reward))
    columns = [Column(words["policy"]), *(Column(_title(kind, words), "number") for kind in kinds)]
    rows = []
    for policy in _policies(result, reward):
        found = [evaluation.get(policy, kind, reward) for kind in kinds]
        count = found[0].n if found[0] else None
        cells = [interval_cell(one) if one else DASH for one in found]
        rows.append([foreign(result.name(policy)), *cells, number(count)])
    return table([*columns, Column(words["problems"], "number")], rows, label=f"{words['solved']}: {reward}")


def _title(kind: str, words: Words) -> str:
    name, at, k = kind.rpartition("_at_")
    return f"{name}@{k}" if at else words["accuracy" if kind == "accuracy" else "unsolved"]
