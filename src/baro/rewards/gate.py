"""Whether a reward model is good enough to be trained on, by its figures on held-out pairs.

PPO raises the score of a random reward model as readily as that of a good one; its curves do not tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from baro.errors import ConfigError
from baro.functional.statistics import Interval

CHANCE = 0.5
"""Accuracy that the whole interval must lie above."""
MAX_ECE = 0.2
"""Expected calibration error: by how much σ(r_1 − r_2) is off as a probability, on average."""
FEWEST_FOR_ECE = 100
"""Held-out pairs below which an error over ten bins is mostly noise (0.2 and more at 20 pairs), and is not judged."""
MAX_LENGTH_CORRELATION = 0.7
"""Of score and length differences, either sign; the whole interval must lie beyond it. Half of the variance is 0.7²."""


class Weakness(NamedTuple):
    """A figure beyond its limit."""

    kind: Literal["accuracy", "ece", "length", "ranking", "sign"]
    value: float  # of an interval the end that decides
    limit: float


def weaknesses(figures: Mapping[str, Interval | float | None]) -> list[Weakness]:
    """The reasons not to train on a reward model; a figure that is not there is no reason. n 0: it is not known."""
    accuracy, ece = figures.get("reward_model/accuracy"), figures.get("reward_model/ece")
    length = figures.get("reward_model/length_correlation")
    found = []
    if isinstance(accuracy, Interval) and accuracy.low <= CHANCE:
        found.append(Weakness("accuracy", accuracy.low, CHANCE))
    if isinstance(ece, float) and isinstance(accuracy, Interval) and accuracy.n >= FEWEST_FOR_ECE and ece > MAX_ECE:
        found.append(Weakness("ece", ece, MAX_ECE))
    if isinstance(length, Interval):
        nearest = length.low if length.value > 0 else length.high
        if abs(nearest) > MAX_LENGTH_CORRELATION and nearest * length.value > 0:
            found.append(Weakness("length", nearest, MAX_LENGTH_CORRELATION))
    return found + _of_a_cost_model(figures)


def _of_a_cost_model(figures: Mapping[str, Interval | float | None]) -> list[Weakness]:
    """Of a cost model the order and the sign both count: a limit on costs means something only if zero does."""
    names: dict[Literal["ranking", "sign"], str] = {"ranking": "accuracy", "sign": "balanced_accuracy"}
    known = {kind: figures.get(f"cost_model/{name}") for kind, name in names.items()}
    return [
        Weakness(kind, one.low, CHANCE)
        for kind, one in known.items()
        if isinstance(one, Interval) and one.low <= CHANCE
    ]


def explain(weakness: Weakness) -> str:
    """A reason in words."""
    words = {
        "accuracy": "its accuracy on held-out pairs may be as low as {value:.2f}, which is no better than chance",
        "ece": "its probabilities are off by {value:.2f} on average (limit {limit})",
        "ranking": "it may order held-out pairs right in {value:.2f} of cases, which is no better than chance",
        "sign": "the balanced accuracy of its sign may be as low as {value:.2f}, which is no better than chance",
        "length": "its scores follow length, with a correlation of {value:.2f} or stronger (limit {limit} either way)",
    }
    return words[weakness.kind].format(value=weakness.value, limit=weakness.limit)


def weaknesses_of_run(run: Path) -> list[Weakness]:
    """The same from a run's figures.json; nothing where there is none."""
    path = run / "figures.json"
    rows = json.loads(path.read_bytes()) if path.exists() else []
    return weaknesses(
        {
            row["name"]: row["value"]
            if row["low"] is None
            else Interval(row["value"], row["low"], row["high"], row["n"] or 0)
            for row in rows
        }
    )


def refuse_weak(runs: Sequence[str]) -> None:
    """Raises ConfigError for the first reward run whose figures on held-out pairs call it weak."""
    for run in runs:
        reasons = [explain(one) for one in weaknesses_of_run(Path(run))]
        if reasons:
            raise ConfigError(
                f"{run}: this reward model is weak, since {' and '.join(reasons)}; train a better one, or set "
                "accept_weak_reward_model: true"
            )
