"""What rows say of a reward model: how often it is right on held-out pairs, and where its scores lie.

Every pair of a prompt's completions of which one is preferred counts once. Beside the model's accuracy stand what needs
no model (length alone), and where labels have votes behind them the most that anybody can agree with one more vote:

    vote agreement = mean over pairs of p where the model prefers the chosen side, 1 − p elsewhere
    vote ceiling   = mean over pairs of max(p, 1 − p),       p: the share of votes for the chosen side (p_chosen)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from baro.batch import Sample
from baro.functional.ensembles import Scale, combined_score, common_scale, mean_and_variance
from baro.functional.statistics import Interval, expected_calibration_error, fisher_interval, wilson_interval
from baro.models.forward import ScoredModel, forward_samples
from baro.models.heads import Measured
from baro.protocols import LocalWorld

Scores = list[list[float]]
"""By sample and completion."""
Figures = dict[str, Interval | float]
MEASURED_ON = 1024  # samples; the standard error of a mean is then 3% of the sd, and of an sd 2%
QUARTERS = 4


def scores_of(model: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int) -> Scores:
    """The model's score of every completion."""
    found = forward_samples(model, samples, ["scores"], micro_batch_tokens=micro_batch_tokens, world=LocalWorld())
    return [[float(one) for one in group] for group in found["scores"]]


def measure(model: ScoredModel, samples: Sequence[Sample], micro_batch_tokens: int) -> Measured | None:
    """Mean and sd of the model's scores; None where it gives all completions the same score.

    On all samples, or on the ``MEASURED_ON`` of them that come first in the order of the hashes of their tokens: the
    same ones for any seed and order.
    """
    first = sorted((_hash(sample), i) for i, sample in enumerate(samples))[:MEASURED_ON]
    found = scores_of(model, [samples[i] for _, i in first], micro_batch_tokens)
    scores = [score for group in found for score in group]
    try:
        scale = Scale.of(scores)
    except ValueError:
        return None
    digest = hashlib.sha256("\n".join(name for name, _ in first).encode()).hexdigest()
    return Measured(scale.mean, scale.sd, len(scores), digest)


def _hash(sample: Sample) -> str:
    tokens = [sample.prompt_ids.tolist(), *(one.ids.tolist() for one in sample.completions)]
    return hashlib.sha256(repr(tokens).encode()).hexdigest()


@dataclass(frozen=True)
class Pairs:
    """Of each pair: score of the preferred completion less the other's, the same of their tokens, and p_chosen."""

    gap: Float[np.ndarray, "P"]
    longer: Float[np.ndarray, "P"]
    p_chosen: Float[np.ndarray, "P"]

    @classmethod
    def of(cls, samples: Sequence[Sample], scores: Scores) -> Pairs:
        """All pairs of the samples."""
        rows = [
            (found[i] - found[j], len(sample.completions[i].ids) - len(sample.completions[j].ids), p)
            for sample, found in zip(samples, scores, strict=True)
            for i, j, p in preferred(sample)
        ]
        return cls(*np.array(rows, dtype=float).reshape(-1, 3).T)

    def accuracy(self, chosen: np.ndarray | slice = slice(None)) -> Interval:
        """How often the preferred completion has the higher score."""
        gap = self.gap[chosen]
        return wilson_interval(int((gap > 0).sum()), len(gap))


def preferred(sample: Sample) -> Iterator[tuple[int, int, float]]:
    """The places of each pair's preferred and other completion, and p_chosen (1 where nothing says)."""
    ranks = [one.fields["rank"] for one in sample.completions]
    for i, j in ((i, j) for i in range(len(ranks)) for j in range(len(ranks)) if ranks[i] < ranks[j]):
        yield i, j, sample.completions[i].fields.get("p_chosen", 1.0)


def judged(pairs: Pairs, *, log_odds: bool) -> Figures:
    """Accuracy, in whole, by margin and by length, calibration error, votes, and the baselines; nothing without pairs.

    ``log_odds``: whether σ(r_1 − r_2) is meant to be a probability; there is no calibration error otherwise.
    """
    gap, longer = pairs.gap, pairs.longer
    if not len(gap):
        return {}
    more = float((longer > 0).sum() + 0.5 * (longer == 0).sum())
    correlation = float(np.corrcoef(gap, longer)[0, 1]) if longer.std() > 0 and gap.std() > 0 else 0.0
    return {
        "reward_model/accuracy": pairs.accuracy(),
        **({"reward_model/ece": calibration_error(gap)} if log_odds else {}),
        "reward_model/length_correlation": fisher_interval(correlation, len(gap)),
        **{f"reward_model/accuracy_by_{name}": found for name, found in _by_part(pairs)},
        **_votes(pairs),
        "baseline/longer_wins": wilson_interval(more, len(gap)),
        "baseline/shorter_wins": wilson_interval(len(gap) - more, len(gap)),
    }


def _by_part(pairs: Pairs) -> Iterator[tuple[str, Interval]]:
    """Quarters of the pairs by the size of the score difference, the smallest first; and by which side is longer."""
    order = np.argsort(np.abs(pairs.gap), kind="stable")
    if len(order) >= QUARTERS:
        for number, part in enumerate(np.array_split(order, QUARTERS), start=1):
            yield f"margin/{number}", pairs.accuracy(part)
    signs = {"chosen_shorter": pairs.longer < 0, "same_length": pairs.longer == 0, "chosen_longer": pairs.longer > 0}
    for name, chosen in signs.items():
        if chosen.any():
            yield f"length/{name}", pairs.accuracy(chosen)


def _votes(pairs: Pairs) -> Figures:
    p = pairs.p_chosen
    if (p == 1.0).all():
        return {}
    agreed = np.where(pairs.gap > 0, p, 1 - p)
    return {
        "reward_model/vote_agreement": wilson_interval(float(agreed.sum()), len(p)),
        "reward_model/vote_ceiling": wilson_interval(float(np.maximum(p, 1 - p).sum()), len(p)),
    }


def calibration_error(gap: np.ndarray) -> float:
    """p(left wins) against who won, each pair once with a side that does not depend on the label."""
    side = np.arange(len(gap)) % 2 == 0
    p_left = 1 / (1 + np.exp(-np.where(side, gap, -gap)))
    return float(expected_calibration_error(p_left, side.astype(float)))


# ----------------------------------------------------------------------------------------------------------- ensembles


def ensemble_figures(
    samples: Sequence[Sample], members: Sequence[Scores], scales: Sequence[Scale], *, log_odds: bool
) -> Figures:
    """The figures of the members' mean, beside it the accuracy of the worst case and of each member, and their spread.

    ``ensemble/std``: the members' sd of a completion's score, on average, in units of scores; ``ensemble/divided``: of
    how many pairs the members do not all prefer the same side.
    """
    mean = Pairs.of(samples, combined(members, scales, lambda z: combined_score(z, combine="mean")))
    figures = judged(mean, log_odds=log_odds)
    if not figures:
        return {}
    worst = combined(members, scales, lambda z: combined_score(z, combine="worst"))
    alone = [Pairs.of(samples, scores) for scores in members]
    right = np.array([pairs.gap > 0 for pairs in alone])
    spread = combined(members, scales, lambda z: mean_and_variance(z)[1] ** 0.5)
    zero = common_scale(scales).mean  # of what `combined` adds, and a spread has not
    flat = [one - zero for group in spread for one in group]
    return {
        **figures,
        "ensemble/worst/accuracy": Pairs.of(samples, worst).accuracy(),
        "ensemble/std": float(np.mean(flat)),
        "ensemble/divided": wilson_interval(int((right.any(0) & ~right.all(0)).sum()), right.shape[1]),
        **{f"ensemble/member/{k}/accuracy": pairs.accuracy() for k, pairs in enumerate(alone)},
    }


def combined(members: Sequence[Scores], scales: Sequence[Scale], of: Callable[[list[float]], float]) -> Scores:
    """A number of the members' scaled scores of every completion, in their common units."""
    common = common_scale(scales)
    return [
        [
            common.mean + common.sd * of([scale.scaled(one) for scale, one in zip(scales, scores, strict=True)])
            for scores in zip(*groups, strict=True)
        ]
        for groups in zip(*members, strict=True)
    ]


def mean_rows(files: Sequence[Sequence[Mapping[str, float | None]]]) -> Iterator[dict[str, float | None]]:
    """The means of members' rows of metrics, row by row, over those that have a value; what tells of speed is left out.

    A metric may be missing in a member's row: what nothing in its batch weighed in.
    """
    for rows in zip(*files, strict=True):
        names = dict.fromkeys(name for row in rows for name in row if not name.startswith("perf/"))
        known = {name: [value for row in rows if (value := row.get(name)) is not None] for name in names}
        means = {name: math.fsum(values) / len(values) if values else None for name, values in known.items()}
        yield means | {"step": rows[0]["step"]}
