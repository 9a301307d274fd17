"""A cost model beside what needs none: words, length, who wrote the answer. A stage of pipeline.yaml.

Every baseline is fitted on the training rows and gives a cost: log-odds of being unsafe, or a length less a threshold.
``figures.json`` has for each the figures of `baro cost`, and by how much the cost model's balanced accuracy and area
are above it, with an interval over prompts. ``frontier.svg`` is what a filter would do that puts a refusal in the place
of every answer above a threshold.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from pydantic import Field

from baro import config as blocks
from baro.batch import Sample, branch
from baro.data.formats import read_records
from baro.declared import Records, Scorer
from baro.evaluate.plots import Line, curve_plot
from baro.files import write_atomic
from baro.functional.safety import area_under_roc
from baro.functional.statistics import Interval, times_of
from baro.inputs import open_run, resolve
from baro.methods.stage import write_figures
from baro.records import Rollout, Safety
from baro.rewards.cost_figures import cost_figures
from baro.scorers import load_reward

RESAMPLES = 1000
COLOURS = ("#0b6e75", "#c26a00", "#7b3fa0", "#5b6770", "#a01c3c")


class Config(blocks.Config):
    """``do: examples.safety.compare:run``."""

    train: Records = Field(description="labelled answers that baselines are fitted on")
    held_out: Records = Field(description="labelled answers that all are judged by")
    cost_model: Scorer = Field(description="the cost model")
    seed: int = Field(0, ge=0, description="seed of the intervals")


@dataclass(frozen=True)
class Answer:
    """One answer: prompt, text, share of raters who say unsafe, its kinds, who wrote it, whether it refuses."""

    prompt: str
    text: str
    unsafe: float
    kinds: tuple
    who: str
    refuses: bool | None

    @property
    def words(self):
        return set(self.text.lower().split())


def run(config, out=None):
    """Write ``figures.json`` and ``frontier.svg``."""
    run = open_run("safety-compare", config, out)
    if run.finished:
        return run
    train, held_out = ([*answers_in(resolve(one, "records"))] for one in (config.train, config.held_out))
    rollouts = [r for _, r in held_out]
    held_out, train = [a for a, _ in held_out], [a for a, _ in train]
    costs = {"cost": [one.value for one in load_reward(config.cost_model).score(rollouts)]}
    costs |= {
        "words": words_of(train, held_out, lambda a: a.words),
        "prompt": words_of(train, held_out, lambda a: set(a.prompt.lower().split())),
        "length": length_of(train, held_out),
        "who": words_of(train, held_out, lambda a: {a.who}),
    }
    readable = [k for k, cost in enumerate(costs["cost"]) if cost is not None]
    held_out = [held_out[k] for k in readable]
    costs = {name: np.array([values[k] for k in readable]) for name, values in costs.items()}
    figures = {"answers": float(len(held_out)), "unsafe": float(sum(a.unsafe > 0.5 for a in held_out))}
    for name, values in costs.items():
        figures |= figures_of(name, held_out, values)
    for name in costs:
        if name != "cost":
            figures |= lead(name, held_out, costs["cost"], costs[name], config.seed)
    leads = [one for name, one in figures.items() if "/above/" in name]
    figures["cost/beats_every_baseline"] = float(all(one.low > 0 for one in leads))
    write_figures(run, figures)
    if any(one.refuses is not None for one in held_out):
        write_atomic(run.path / "frontier.svg", frontier(held_out, costs))
    run.finish()
    return run


def answers_in(path):
    for record in read_records(path, Safety).all_of(Safety):
        prompt, text = "\n".join(turn.content for turn in record.prompt), record.completions[0][-1].content
        kinds = record.categories[0] if record.categories else ()
        answer = Answer(prompt, text, record.unsafe[0], kinds, record.extra["who"], record.extra.get("refuses"))
        yield answer, Rollout(record.prompt, record.completions[0])


# ---------------------------------------------------------------------------------------------------------- baselines


def words_of(train, held_out, of):
    """Naive Bayes of presence: log-odds of unsafe, each label weighing by its share of raters, counts smoothed by 1."""
    seen, totals = (Counter(), Counter()), [1.0, 1.0]
    for one in train:
        for side, weight in enumerate((1 - one.unsafe, one.unsafe)):
            totals[side] += weight
            for word in of(one):
                seen[side][word] += weight
    known = set(seen[0]) | set(seen[1])

    def odds(word):
        return math.log((seen[1][word] + 1) / (totals[1] + 1)) - math.log((seen[0][word] + 1) / (totals[0] + 1))

    prior = math.log(totals[1] / totals[0])
    return [prior + sum(odds(word) for word in of(one) & known) for one in held_out]


def length_of(train, held_out):
    """Characters above the threshold, or below it, that divides the training answers best."""
    lengths = np.array([len(one.text) for one in train], dtype=float)
    unsafe = np.array([one.unsafe > 0.5 for one in train])
    best = max(
        ((balanced(sign * (lengths - at), unsafe), sign, at) for at in np.unique(lengths) for sign in (1, -1)),
        key=lambda found: found[0],
    )
    return [best[1] * (len(one.text) - best[2]) for one in held_out]


def balanced(costs, unsafe):
    return ((costs[unsafe] > 0).mean() + (costs[~unsafe] <= 0).mean()) / 2


# ------------------------------------------------------------------------------------------------------------ figures


def figures_of(name, held_out, costs):
    """The figures of `baro cost`, under this name."""
    number = {prompt: k for k, prompt in enumerate(dict.fromkeys(one.prompt for one in held_out))}
    samples = [
        Sample(
            torch.tensor([number[one.prompt]]),
            (branch([0] * max(1, len(one.text))).with_(fields={"unsafe": one.unsafe, "rank": 0.0, "p_safer": 1.0}),),
        )
        for one in held_out
    ]
    found = cost_figures(samples, [[float(cost)] for cost in costs], [[one.kinds] for one in held_out])
    return {key.replace("cost_model", name): one for key, one in found.items() if key.startswith("cost_model/")}


def lead(name, held_out, ours, theirs, seed):
    """By how much the cost model is above a baseline; whole prompts are drawn."""
    decided = np.array([one.unsafe != 0.5 for one in held_out])
    unsafe = np.array([one.unsafe > 0.5 for one in held_out])[decided]
    prompts = np.array([one.prompt for one in held_out])[decided]
    both, n = [costs[decided] for costs in (ours, theirs)], len(set(prompts))
    if unsafe.all() or not unsafe.any():
        return {}
    draws = [np.repeat(np.arange(len(unsafe)), times) for times in times_of(len(unsafe), prompts, seed, RESAMPLES)]
    draws = [draw for draw in draws if 0 < unsafe[draw].sum() < len(draw)]
    found = {}
    for kind, of in (("balanced_accuracy", balanced), ("auroc", area_under_roc)):
        value = of(both[0], unsafe) - of(both[1], unsafe)
        drawn = [of(both[0][draw], unsafe[draw]) - of(both[1][draw], unsafe[draw]) for draw in draws]
        found[f"cost/above/{name}/{kind}"] = Interval(float(value), *map(float, np.quantile(drawn, [0.025, 0.975])), n)
    return found


def frontier(held_out, costs):
    """Over-refusal of safe prompts against compliance with unsafe ones, as the threshold falls."""
    lines = []
    for series, (name, values) in enumerate(costs.items()):
        places = []
        for at in [math.inf, *np.quantile(values, np.linspace(1, 0, 21))]:
            blocked = [one.refuses or cost > at for one, cost in zip(held_out, values, strict=True)]
            places.append(rates(held_out, blocked))
        places = [next(group) for _, group in groupby(places)]
        lines.append((name, Line([x for x, _ in places], [y for _, y in places], series, sparse=True)))
    words = ", ".join(name for name, _ in lines)
    svg = curve_plot(
        [line for _, line in lines],
        label=f"Compliance with unsafe prompts (upwards) against refusal of safe ones (to the right), by {words}",
        x_label="refused of safe prompts; upwards: complied with of unsafe prompts",
        size=(460, 320),
    )
    return as_file(svg, [name for name, _ in lines])


def rates(held_out, blocked):
    asked = [[b for one, b in zip(held_out, blocked, strict=True) if is_unsafe_prompt(one) is side] for side in (0, 1)]
    safe, unsafe = asked
    return (float(np.mean(safe)) if safe else 0.0, float(1 - np.mean(unsafe)) if unsafe else 0.0)


def is_unsafe_prompt(one):
    return int(any(kind.startswith("contrast_") for kind in one.kinds))


def as_file(svg, names):
    """A drawing of a page as a file of its own: colours in place of variables, and a legend."""
    inks = {"--ink": "#1c2a30", "--muted": "#5b6770", "--rule": "#d9dee0", "--paper": "#ffffff"}
    inks |= {f"--series-{k}": colour for k, colour in enumerate(COLOURS)}
    for variable, colour in inks.items():
        svg = svg.replace(f"var({variable})", colour)
    legend = "".join(
        f'<text x="{330}" y="{24 + 16 * k}" fill="{COLOURS[k % len(COLOURS)]}">{name}</text>'
        for k, name in enumerate(names)
    )
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" ', 1)
    return svg.replace("</svg>", legend + "</svg>")
