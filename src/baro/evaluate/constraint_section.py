"""The part of a report about a limit on costs: was it held, at what multiplier, and what was left of the reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baro.evaluate.markup import DASH, Column, Html, element, figure, finite, foreign, joined, number, section, table
from baro.evaluate.plots import Line, curve_plot, legend_mark
from baro.evaluate.stages import Figure, Stage
from baro.evaluate.words import Words


@dataclass(frozen=True)
class Held:
    """A run under a limit, over the last quarter of its rollouts; the cost with its 95% interval over prompts."""

    limit: float
    cost: Figure
    score: float | None
    multiplier: float | None
    over: float | None  # share of completions that cost more than the limit

    @property
    def verdict(self) -> str:
        """The word for: below the limit, above it, or not told apart from it."""
        if self.cost.low is None or self.cost.high is None:
            return "limit_unknown"
        if self.cost.high <= self.limit:
            return "limit_held"
        return "limit_broken" if self.cost.low > self.limit else "limit_open"


def held(stage: Stage) -> Held | None:
    """What the last quarter of a run's rollouts says; None without a constraint or before the first rollout."""
    limit = _limit(stage)
    rollouts = _by_rollout(stage)
    if limit is None or not rollouts:
        return None
    last = rollouts[-max(1, len(rollouts) // 4) :]
    return Held(
        limit,
        _mean_cost(last),
        _mean(last, "objective/scores"),
        _mean(last, "constraint/lambda"),
        _mean(last, "constraint/over_limit_fraction"),
    )


def _limit(stage: Stage) -> float | None:
    constraint = stage.config.get("constraint")
    return finite(constraint.get("limit")) if isinstance(constraint, Mapping) else None


def _by_rollout(stage: Stage) -> list[dict[str, float]]:
    """Of each rollout the mean of what its updates logged."""
    rows: dict[float, list[Mapping[str, object]]] = {}
    for row in stage.metrics:
        if "constraint/mean_cost" in row and (rollout := finite(row.get("rollout"))) is not None:
            rows.setdefault(rollout, []).append(row)
    return [{name: mean for name in own[0] if (mean := _mean(own, name)) is not None} for own in rows.values()]


def _mean(rows: Sequence[Mapping[str, object]], name: str) -> float | None:
    known = [value for row in rows if (value := finite(row.get(name))) is not None]
    return math.fsum(known) / len(known) if known else None


def _mean_cost(rollouts: Sequence[Mapping[str, float]]) -> Figure:
    """The mean over rollouts; their intervals are of different completions, so that variances add up."""
    ends = [
        (one["constraint/cost_low"], one["constraint/cost_high"]) for one in rollouts if "constraint/cost_low" in one
    ]
    if len(ends) < len(rollouts):
        return Figure("cost", _mean(rollouts, "objective/costs"))
    mean = math.fsum(low + high for low, high in ends) / (2 * len(ends))
    half = math.sqrt(math.fsum(((high - low) / 2) ** 2 for low, high in ends)) / len(ends)
    return Figure("cost", mean, mean - half, mean + half)


def constraint_section(stages: Sequence[Stage], words: Words) -> Html:
    """A table of all runs under a limit, then for each the cost beside its limit, and λ, rollout by rollout."""
    found = [(stage, one) for stage in stages if (one := held(stage)) is not None]
    if not found:
        return Html("")
    names = ("policy", "limit", "mean_cost", "limit_verdict", "over_limit", "multiplier", "panel_scores")
    columns = [Column(words[name], None if name in ("policy", "limit_verdict") else "number") for name in names]
    rows = [
        [
            foreign(stage.name), number(one.limit), _interval(one.cost), words[one.verdict],
            *(DASH if value is None else number(value) for value in (one.over, one.multiplier, one.score)),
        ]
        for stage, one in found
    ]  # fmt: skip
    blocks = [table(columns, rows, label=words["constraint"])]
    for stage, one in found:
        blocks.append(element("div", *_panels(stage, one, words), class_="panels"))
    return section("constraint", words["constraint"], words["constraint_lead"], *blocks)


def _interval(cost: Figure) -> str:
    if cost.interval is None:
        return number(cost.value)
    return f"{number(cost.value)} [{number(cost.low)}, {number(cost.high)}]"


def _panels(stage: Stage, one: Held, words: Words) -> list[Html]:
    rollouts = _by_rollout(stage)
    steps = [float(k) for k in range(1, len(rollouts) + 1)]

    def line(name: str) -> Line:
        return Line(steps, [row.get(name) for row in rollouts])

    limit = Line(steps, [one.limit] * len(steps), series=1, dashed=True)
    legend = [(0, "line", words["mean_cost"]), (1, "dashed", words["limit"])]
    entries = [element("li", Html(legend_mark(series, kind=kind)), name) for series, kind, name in legend]
    panels = [_panel(stage, "mean_cost", [line("objective/costs"), limit], words, entries)]
    if one.multiplier is not None:
        panels.append(_panel(stage, "multiplier", [line("constraint/lambda")], words))
    panels.append(_panel(stage, "over_limit", [line("constraint/over_limit_fraction")], words))
    return panels


def _panel(stage: Stage, title: str, lines: Sequence[Line], words: Words, legend: Sequence[Html] = ()) -> Html:
    known = [value for value in lines[0].values if value is not None]
    ends = words["alt_ends"].format(name=words["train"], first=number(known[0]), last=number(known[-1]))
    label = words["alt_curve"].format(title=words[title], stage=stage.name, values=ends)
    svg = curve_plot(lines, label=label, x_label=words["rollout_axis"])
    last = element("span", number(known[-1]), class_="last")
    caption = joined([element("span", foreign(stage.name), ": ", words[title]), last])
    return figure(svg, caption=caption, legend=element("ul", *legend, class_="legend") if legend else Html(""))
