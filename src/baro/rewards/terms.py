"""Weighted reward terms, added up into totals that have names: ``score``, and with a constraint ``cost`` beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from baro.errors import ConfigError
from baro.protocols import RewardSource
from baro.records import Rollout, Score


@dataclass(frozen=True)
class WeightedReward:
    """One term of a total; its unweighted value is kept as ``<total>/<name>``, for logs alone."""

    source: RewardSource
    weight: float = 1.0
    name: str = ""  # the source's own unless given

    @property
    def called(self) -> str:
        """Its name in logs."""
        return self.name or self.source.name


Totals = Mapping[str, Sequence[WeightedReward]]
"""The terms of each total, by its name."""


def check_totals(totals: Totals) -> None:
    """ConfigError where two terms of one total would be logged under one name."""
    for name, terms in totals.items():
        called = [one.called for one in terms]
        if len(set(called)) < len(called):
            raise ConfigError(f"two of the terms {called} of '{name}' have one name; rename one")


def score_by_totals(totals: Totals, rollouts: list[Rollout]) -> list[dict[str, float] | str]:
    """For each rollout its fields, or why it has none.

    ``fields[total] = Σ_terms weight · score``, and each term's own score as ``total/name``, of an ensemble also by how
    much its members differ as ``total/name/std``. A term without an opinion has no part in the sum; its own score is
    then NaN. A rollout has no fields where a term failed, or where no term of some total has an opinion.
    """
    terms = [(name, term) for name, listed in totals.items() for term in listed]
    started = [_started(term.source, rollouts) for _, term in terms]
    scores = [finish() for finish in started]
    return [_fields(terms, [found[k] for found in scores]) for k in range(len(rollouts))]


def _started(source: RewardSource, rollouts: list[Rollout]) -> Callable[[], list[Score]]:
    """What gives the source's scores; one that waits for others begins at once, if it can."""
    start: Callable[[list[Rollout]], Callable[[], list[Score]]] | None = getattr(source, "start_scoring", None)
    return partial(source.score, rollouts) if start is None else start(rollouts)


def _fields(terms: Sequence[tuple[str, WeightedReward]], scores: Sequence[Score]) -> dict[str, float] | str:
    sums: dict[str, float] = {}
    own: dict[str, float] = {}
    for (total, term), score in zip(terms, scores, strict=True):
        own[f"{total}/{term.called}"] = math.nan if score.value is None else float(score.value)
        own |= {} if score.std is None else {f"{total}/{term.called}/std": score.std}
        if score.value is not None:
            sums[total] = sums.get(total, 0) + term.weight * score.value
    failed = next((score.error for score in scores if score.error is not None), None)
    if failed is not None:
        return failed
    silent = next((total for total, _ in terms if total not in sums), None)
    if silent is not None:
        names = ", ".join(term.called for total, term in terms if total == silent)
        return f"no reward scores this completion ({names} returned None)"
    return sums | own
