"""Training curves: a small panel for each thing that a stage logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from baro.evaluate.markup import Html, element, figure, foreign, joined, number, section
from baro.evaluate.plots import Line, curve_plot, legend_mark, running_mean
from baro.evaluate.stages import Stage
from baro.evaluate.words import Words

Panel = tuple[str, tuple[tuple[str, str], ...]]
PANELS: tuple[Panel, ...] = (
    ("panel_loss", (("loss", "train"), ("eval/loss", "held_out"))),
    ("panel_scores", (("objective/scores", "train"),)),
    ("panel_kl", (("objective/kl", "train"),)),
    ("panel_accuracy", (("accuracy", "train"), ("eval/accuracy", "held_out"))),
    ("panel_margin", (("margin", "train"), ("eval/margin", "held_out"))),
    ("panel_accuracy", (("rewards/accuracies", "train"), ("eval/rewards/accuracies", "held_out"))),
    ("panel_margin", (("rewards/margins", "train"), ("eval/rewards/margins", "held_out"))),
    ("panel_rewards", (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected"))),
    ("panel_logps", (("logps/chosen", "chosen"), ("logps/rejected", "rejected"))),
    ("panel_entropy", (("policy/entropy", "train"),)),
    ("panel_tokens", (("objective/completion_tokens", "train"),)),
    ("panel_finished", (("objective/finished_fraction", "train"),)),
    ("panel_approx_kl", (("policy/approx_kl", "train"),)),
    ("panel_clip", (("policy/clip_fraction", "train"),)),
    ("panel_policy_loss", (("loss/policy", "train"),)),
    ("panel_value_loss", (("loss/value", "train"),)),
    ("panel_cost_value_loss", (("loss/cost_value", "train"),)),
    ("panel_kl_coef", (("objective/kl_coef", "train"),)),
    ("panel_grad_norm", (("grad_norm", "train"),)),
    ("panel_speed", (("perf/tokens_per_second", "train"),)),
)


class Curve(NamedTuple):
    """A metric in a panel: what the legend calls it, and its line."""

    name: str
    line: Line

    @property
    def known(self) -> list[float]:
        return [value for value in self.line.values if value is not None]

    @property
    def last(self) -> float:
        return self.known[-1] if self.line.sparse else running_mean(self.known)[-1]


@dataclass(frozen=True)
class Drawer:
    """Draws one stage's panels."""

    stage: Stage
    words: Words

    def panels(self) -> Iterator[Html]:
        """A drawing for each panel that has two values of anything."""
        for title, metrics in PANELS:
            found = [self.curve(metric, role, at) for at, (metric, role) in enumerate(metrics)]
            shown = [curve for curve in found if curve.known]
            if any(len(curve.known) > 1 for curve in shown):
                yield self.panel(self.words[title], shown)

    def curve(self, metric: str, role: str, at: int) -> Curve:
        steps, values = self.stage.series(metric)
        return Curve(self.words[role], Line(steps, values, series=at, sparse=role == "held_out", dashed=at > 0))

    def panel(self, title: str, curves: Sequence[Curve]) -> Html:
        label = self.words["alt_curve"].format(title=title, stage=self.stage.name, values=self.spoken(curves))
        last = element("span", number(curves[0].last), class_="last")
        svg = curve_plot([curve.line for curve in curves], label=label, x_label=self.words["step"])
        return figure(svg, caption=joined([element("span", title), last]), legend=self.legend(curves))

    def spoken(self, curves: Sequence[Curve]) -> str:
        """First and last value of each line, for those who do not see it."""
        ends = [(curve.name, number(curve.known[0]), number(curve.last)) for curve in curves]
        return "; ".join(self.words["alt_ends"].format(name=name, first=first, last=last) for name, first, last in ends)

    def legend(self, curves: Sequence[Curve]) -> Html:
        """Which line is which; a lone one needs no legend."""
        if len(curves) < 2:
            return Html("")
        entries = []
        for curve in curves:
            kind = "dotted" if curve.line.sparse else "dashed" if curve.line.dashed else "line"
            entries.append(element("li", Html(legend_mark(curve.line.series, kind=kind)), curve.name))
        return element("ul", *entries, class_="legend")


def curves_section(stages: Sequence[Stage], words: Words) -> Html:
    """Small multiples, stage by stage."""
    blocks = []
    for stage in stages:
        panels = list(Drawer(stage, words).panels())
        if panels:
            blocks += [element("h3", foreign(stage.name)), element("div", *panels, class_="panels")]
    return section("curves", words["curves"], words["curves_lead"], *blocks) if blocks else Html("")
