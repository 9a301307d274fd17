"""The parts of a report that say what came out: win rates, reward over KL, controls, the reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baro.evaluate.findings import (
    Evaluation,
    Finding,
    accuracies,
    evaluations,
    policy_name,
    reward_model,
    spelled,
    standing,
    summary,
    with_interval,
)
from baro.evaluate.markup import (
    DASH,
    Column,
    ColumnKind,
    Html,
    beside,
    element,
    figure,
    finite,
    foreign,
    joined,
    number,
    table,
    text,
)
from baro.evaluate.markup import section as page_section
from baro.evaluate.plots import Estimate, Point, Row, interval_plot, legend_mark, scatter_plot
from baro.evaluate.stages import Figure, Stage, scored_by
from baro.evaluate.words import Words


def estimate(figure: Figure | None) -> Estimate | None:
    """A figure as plots take it."""
    return None if figure is None or figure.value is None else Estimate(figure.value, figure.low, figure.high)


def interval_cell(figure: Figure | None) -> Html:
    """A value with its interval, which stays on one line."""
    value, interval = spelled(figure)
    return joined([value, element("span", interval, class_="interval")], " ") if interval else text(value)


# --- summary ----------------------------------------------------------------------------------------------------------


def summary_section(stages: Sequence[Stage], words: Words) -> Html:
    """The findings, each with a word for its kind, and the most important numbers."""
    findings = summary(stages, words)
    items = element("ul", *(_finding(finding, words) for finding in findings), class_="findings")
    tiles = _tiles(stages, words)
    strip = element("div", *tiles, class_="tiles") if tiles else ""
    heading = element("h2", words["summary"], id="summary-title", class_="hidden")
    return element("section", heading, items, strip, id="summary", aria_labelledby="summary-title")


def _finding(finding: Finding, words: Words) -> Html:
    tag = element("span", words[f"tag_{finding.standing}"], class_=f"tag {finding.standing}")
    return element("li", tag, element("p", finding.sentence))


def _tiles(stages: Sequence[Stage], words: Words) -> list[Html]:
    """At most four large numbers: the trained policies' win rates, then the reward model's accuracy."""
    tiles = []
    for evaluation in [e for e in evaluations(stages) if e.judges]:
        against = policy_name(evaluation.against or words["baseline_policy"], words)
        for policy in evaluation.policies:
            rate = evaluation.win_rate(policy, evaluation.judges[0])
            if rate and rate.value is not None and evaluation.control(policy) is None:
                tiles.append(_tile(words["tile_wins"].format(policy=policy_name(policy, words), against=against), rate))
    reward = reward_model(stages)
    tiles = tiles[: 3 if reward else 4]
    return tiles + ([_tile(words["tile_reward"], reward[0])] if reward else [])


def _tile(title: str, rate: Figure) -> Html:
    value, interval = spelled(rate)
    note = " · ".join(part for part in (interval, f"n={number(rate.n)}" if rate.n is not None else "") if part)
    value = element("div", value, class_="value")
    return element(
        "div", element("div", title, class_="title"), value, element("div", note, class_="note"), class_="tile"
    )


# --- evaluation -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """The parts of one evaluation."""

    evaluation: Evaluation
    words: Words
    stages: Sequence[Stage]

    def name(self, policy: str) -> str:
        if self.evaluation.control(policy) == "self":
            plain = policy_name(self.evaluation.against or policy, self.words)
            return self.words["control_self"].format(policy=plain)
        return policy_name(policy, self.words)

    @property
    def against(self) -> str:
        return policy_name(self.evaluation.against or self.words["baseline_policy"], self.words)

    @property
    def ordered(self) -> list[str]:
        """What all were compared with, then trained policies, then controls."""
        order = [None, "best_of", "self", "random", "length", "kl_off"]
        rank = {p: order.index(self.evaluation.control(p)) for p in self.evaluation.policies}
        return sorted(rank, key=lambda policy: -1 if self._is_against(policy) else rank[policy])

    def _is_against(self, policy: str) -> bool:
        return policy == self.evaluation.against and self.evaluation.control(policy) is None

    def look(self, policy: str) -> int:
        """Which colour and mark a policy has in every drawing; controls have negative ones."""
        controls = [p for p in self.ordered if self.evaluation.control(p)]
        others = [p for p in self.ordered if p not in controls]
        return -1 - controls.index(policy) if policy in controls else others.index(policy)

    def wins(self) -> list[Html]:
        """For each judge a plot of win rates and its table."""
        blocks: list[Html] = []
        for judge in self.evaluation.judges:
            found = {p: self.evaluation.win_rate(p, judge) for p in self.ordered}
            shown = {p: rate for p, rate in found.items() if rate is not None}
            if len(self.evaluation.judges) > 1:
                blocks.append(element("h3", f"{self.words['judge']}: ", foreign(judge)))
            plot = self._wins_plot(judge, list(shown))
            blocks.append(beside(plot, self._wins_table(judge, shown), right="wide"))
        return blocks

    def _wins_plot(self, judge: str, policies: Sequence[str]) -> Html:
        kinds = ("win_rate_length_controlled", "win_rate")
        used = [kind for kind in kinds if any(self.evaluation.get(p, kind, judge) for p in policies)]
        rows = [
            Row(self.name(p), [estimate(self.evaluation.get(p, kind, judge)) for kind in used], self.look(p))
            for p in policies
        ]
        spoken = "; ".join(f"{self.name(p)} {with_interval(self.evaluation.win_rate(p, judge))}" for p in policies)
        label = self.words["alt_wins"].format(judge=judge, values=spoken)
        titles = {kinds[0]: "win_rate_length_controlled", kinds[1]: "plain_win_rate"}
        marks = [Html(legend_mark(0, kind=kind)) for kind in ("filled", "hollow")]
        entries = [
            element("li", mark, self.words[titles[kind]]) for mark, kind in zip(marks[: len(used)], used, strict=True)
        ]
        return figure(interval_plot(rows, label=label, reference=0.5), legend=element("ul", *entries, class_="legend"))

    def _wins_table(self, judge: str, rates: Mapping[str, Figure]) -> Html:
        titles = ["policy", "win_rate_length_controlled", "plain_win_rate", "n", "reads_as"]
        columns = [Column(self.words.get(t, t), None if t in ("policy", "reads_as") else "number") for t in titles]
        rows = []
        for policy, rate in rates.items():
            both = [self.evaluation.get(policy, kind, judge) for kind in ("win_rate_length_controlled", "win_rate")]
            cells = [interval_cell(figure) for figure in both]
            verdict = self.words[f"tag_{standing(rate)}"]
            rows.append([foreign(self.name(policy)), *cells, number(rate.n), verdict])
        return table(columns, rows, label=f"{self.words['wins']}: {judge}")

    def frontier(self) -> list[Html]:
        """For each reward a plot over KL with the training path where it is on the same scale; one table of all."""
        measured = any(self.evaluation.kl(policy) for policy in self.ordered)
        drawn = [self._frontier_plot(reward) for reward in self.evaluation.rewards] if measured else []
        return [element("div", *drawn, class_="pair"), self._measures_table()] if drawn else [self._measures_table()]

    def _frontier_plot(self, reward: str) -> Html:
        points = []
        for policy in (p for p in self.ordered if self.evaluation.control(p) != "self"):
            kl, gained = self.evaluation.kl(policy), self.evaluation.get(policy, "reward", reward)
            if kl and gained:
                x, y = (estimate(found) or Estimate(None) for found in (kl, gained))
                points.append(Point(self.name(policy), x, y, self.look(policy)))
        path, source = self._path(reward)
        spoken = "; ".join(f"{p.name} KL {number(p.x.value)}, {number(p.y.value)}" for p in points)
        label = self.words["alt_frontier"].format(name=reward, values=spoken)
        title = self.words["reward_of"].format(name=reward)
        svg = scatter_plot(points, label=label, x_label=self.words["kl"], y_label=title, path=path)
        return figure(svg, legend=path_legend(source, self.words) if source else "")

    def _path(self, reward: str) -> tuple[list[tuple[float, float]], Stage | None]:
        """The path of the first online stage that trained on this very reward."""
        for stage in self.stages:
            path = training_path(stage, self._metric(stage, reward))
            if len(path) > 1:
                return path, stage
        return [], None

    def has_path(self, stage: Stage) -> bool:
        """Whether one of the drawings shows how this stage trained."""
        return any(self._path(reward)[1] is stage for reward in self.evaluation.rewards)

    def _metric(self, stage: Stage, reward: str) -> str:
        """Where a stage logged a reward of this evaluation: as its only one, else under its name."""
        known = self.evaluation.stage.config.get("rewards")
        by = known.get(reward) if isinstance(known, Mapping) else None
        only_one = by is not None and stage.reward_terms == [(scored_by(by), 1.0)]
        return "objective/scores" if only_one else f"objective/score/{reward}"

    def _measures_table(self) -> Html:
        kinds = [("kl", ""), *(("reward", reward) for reward in self.evaluation.rewards)]
        kinds += [("loss", ""), ("tokens", ""), ("finished_fraction", ""), ("distinct_2", "")]
        used = [kind for kind in kinds if any(self._measure(p, *kind) for p in self.ordered)]
        if not used:
            return Html("")
        titles = [
            self.words["reward_of"].format(name=of) if kind == "reward" else self.words[kind] for kind, of in used
        ]
        columns = [Column(self.words["policy"]), *(Column(title, "number") for title in titles)]
        rows = [[foreign(self.name(p)), *(self._measure(p, *kind) or DASH for kind in used)] for p in self.ordered]
        return table(columns, rows, label=self.words["frontier"])

    def _measure(self, policy: str, kind: str, of: str) -> Html | None:
        """A figure's cell, None where there is none; the bound of a KL says that it is one."""
        bound = self.evaluation.get(policy, "kl_bound") if kind == "kl" else None
        found = self.evaluation.get(policy, kind, of)
        if found is None and bound is not None:
            return element("span", f"≤ {number(bound.value)}")
        return interval_cell(found) if found else None

    def controls(self) -> list[Html]:
        """Each control with what it should show and whether it did."""
        if not self.evaluation.judges:
            return []
        judge = self.evaluation.judges[0]
        found = [(p, self.evaluation.control(p), self.evaluation.win_rate(p, judge)) for p in self.ordered]
        rows = [self._control_row(p, kind, rate) for p, kind, rate in found if kind and rate]
        kinds: dict[str, ColumnKind | None] = {
            "control": None,
            "win_rate": "number",
            "kl": "number",
            "expected": "sentence",
            "outcome": None,
        }
        columns = [Column(self.words[title], kind) for title, kind in kinds.items()]
        return [table(columns, rows, label=self.words["controls"])] if rows else []

    def _control_row(self, policy: str, kind: str, rate: Figure) -> list[object]:
        kl = self._measure(policy, "kl", "") or DASH
        outcome = self.words[_outcome(kind, rate)]
        return [foreign(self.name(policy)), interval_cell(rate), kl, self.words[f"expect_{kind}"], outcome]


def _outcome(kind: str, rate: Figure) -> str:
    """Whether a control's win rate is what it should be."""
    found = standing(rate)
    if kind == "kl_off" or found == "unknown":
        return "nothing_expected"
    wanted = {"self": ("same",), "best_of": ("better",)}.get(kind, ("same", "worse"))
    return "as_expected" if found in wanted else "not_as_expected"


def training_path(stage: Stage, score: str) -> list[tuple[float, float]]:
    """KL and score of every logged step that has both."""
    pairs = [(finite(row.get("objective/kl")), finite(row.get(score))) for row in stage.metrics]
    return [(kl, value) for kl, value in pairs if kl is not None and value is not None]


def path_legend(stage: Stage, words: Words) -> Html:
    """What the line between ring and dot is."""
    entry = element("li", Html(legend_mark(0, kind="path")), words["while_training"].format(stage=stage.name))
    return element("ul", entry, class_="legend")


def evaluation_sections(stages: Sequence[Stage], words: Words) -> list[Html]:
    """Win rates, reward over KL and controls of all evaluations."""
    results = [Results(evaluation, words, stages) for evaluation in evaluations(stages)]
    names = [foreign(result.evaluation.stage.name) if len(results) > 1 else None for result in results]
    paths = _lone_paths(stages, results, words)
    parts = {
        "wins": [result.wins() for result in results],
        "frontier": [*(result.frontier() for result in results), paths],
        "controls": [result.controls() for result in results],
    }
    sections = []
    for anchor, blocks in parts.items():
        named = zip([*names, None][: len(blocks)], blocks, strict=True)
        inner = [
            piece for name, block in named if any(block) for piece in (element("h3", name) if name else "", *block)
        ]
        lead = words[f"{anchor}_lead"]
        if anchor == "wins" and results:
            lead = lead.format(against=results[0].against)
        sections.append(page_section(anchor, words[anchor], lead, *inner) if inner else Html(""))
    return sections


def _lone_paths(stages: Sequence[Stage], results: Sequence[Results], words: Words) -> list[Html]:
    """Reward over KL while training, for stages whose reward no evaluation measured: its scale is its own."""
    drawn = []
    for stage in stages:
        shared = any(result.has_path(stage) for result in results)
        path = training_path(stage, "objective/scores")
        if len(path) < 2 or shared:
            continue
        ends = "; ".join(f"KL {number(kl)}, {number(score)}" for kl, score in (path[0], path[-1]))
        label = words["alt_trajectory"].format(name="objective/scores", stage=stage.name, values=ends)
        svg = scatter_plot([], label=label, x_label=words["kl"], y_label=words["score"], path=path)
        drawn.append(figure(svg, legend=path_legend(stage, words)))
    return [element("div", *drawn, class_="pair")] if drawn else []


# --- reward model -----------------------------------------------------------------------------------------------------


def reward_section(stages: Sequence[Stage], words: Words) -> Html:
    """Accuracy on held-out pairs beside baselines and chance, with calibration and what else was measured."""
    blocks: list[Html] = []
    found = [stage for stage in stages if accuracies(stage)]
    for stage in found:
        blocks += [
            element("h3", foreign(stage.name)),
            beside(_accuracy_plot(stage, words), _accuracy_table(stage, words)),
        ]
    return page_section("reward", words["reward"], words["reward_lead"], *blocks) if blocks else Html("")


def _rate_name(rate: Figure, words: Words) -> str:
    return words.get(rate.name) or policy_name(rate.name.removesuffix("/pair_accuracy"), words)


def _accuracy_plot(stage: Stage, words: Words) -> Html:
    rates = accuracies(stage)
    rows = [Row(_rate_name(rate, words), [estimate(rate)], -int(rate.name.startswith("baseline/"))) for rate in rates]
    spoken = "; ".join(f"{row.name} {with_interval(rate)}" for row, rate in zip(rows, rates, strict=True))
    return figure(interval_plot(rows, label=words["alt_accuracy"].format(values=spoken), reference=0.5))


def _accuracy_table(stage: Stage, words: Words) -> Html:
    rates = accuracies(stage)
    compared = Evaluation(stage).measured.values()
    others = [f for f in stage.figures if f not in rates and f not in compared]
    rows = [[_rate_name(f, words), interval_cell(f), number(f.n)] for f in rates]
    rows += [[words.get(f.name, f.name), interval_cell(f), number(f.n)] for f in others]
    columns = [Column(words["measure"]), Column(words["value"], "number"), Column("n", "number")]
    return table(columns, rows, label=f"{words['reward']}: {stage.name}")
