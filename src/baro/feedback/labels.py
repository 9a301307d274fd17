"""From votes to labels, by a named function with settings: the same votes and settings are always the same labels.

A label is a probability, never a bare majority, and is oriented so that ``chosen`` is the likelier one. What an
adjudicator decided stands in place of the votes. What was asked again is labelled by what was said then: from the first
judgment of the later task on, votes and adjudications of the earlier one are left out. Whatever yields no label is
counted under its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field

from baro.config import Config
from baro.errors import ConfigError
from baro.feedback.derive import Judgment, PairVote, RankVote, Task, Votes, under_newest
from baro.feedback.reliability import left_out
from baro.functional.rankings import bradley_terry, connected, plackett_luce
from baro.functional.statistics import sigmoid
from baro.functional.votes import binary_dawid_skene, dawid_skene_sides, smoothed_vote, vote_margin

Vote = TypeVar("Vote")
Label = TypeVar("Label")
NOT_COUNTED = {"replaced": "older_guideline", "withdrawn": "withdrawn"}  # by role: why it makes no label
VERSION = 2  # of the functions here; a change of any label raises it
VOTES_OF_STRENGTH = {0: 1.0, 1: 0.5, 2: 1.0, 3: 1.5}
"""What a vote counts with ``by_strength``: slightly better half a vote, much better one and a half."""
MARGIN_OF_STRENGTH = {1: 1 / 3, 2: 2 / 3, 3: 1.0}
"""Llama 2's smaller margins (Touvron et al. 2023, arXiv:2307.09288, table 27): much better 1, better 2/3, slightly
better 1/3; a tie is 0. A win without a strength says nothing of the margin."""


class LabelSettings(Config):
    """How votes become labels."""

    method: Literal["smoothed", "majority", "dawid_skene"] = Field(
        "smoothed", description="smoothed counts, the bare majority, or raters' skills and side habits learned as well"
    )
    rankings: Literal["plackett_luce", "bradley_terry"] = Field(
        "plackett_luce", description="what several raters' rankings are fitted with"
    )
    prior: float = Field(
        0.5, gt=0, le=10, description="smoothing: as many votes for each side are added; rankings: ridge"
    )
    ties: Literal["half", "drop"] = Field("half", description="a tie is half a vote for each side, or no vote")
    by_strength: bool = Field(False, description="slightly better counts half a vote, much better one and a half")
    margin: Literal["none", "strength", "log_odds"] = Field("none", description="where a margin comes from")
    largest_margin: float = Field(3.0, gt=0, description="log-odds are cut off here")
    adjudicated: float = Field(0.95, gt=0.5, le=1, description="the probability of what an adjudicator decided")
    guidelines: Literal["all", "newest"] = Field(
        "all", description="judgments under any version of the guideline, or only those under the newest one"
    )
    min_reliability: float | None = Field(
        None, ge=0, le=1, description="raters below it are left out: right answers where they are known, else agreement"
    )

    @property
    def name(self) -> str:
        """The label function's name, for the record."""
        return f"{self.method}+{self.rankings}/{VERSION}"


@dataclass(frozen=True, slots=True)
class PairLabel:
    """Of two responses the likelier better one, and how sure that is."""

    task: Task
    dimension: str
    chosen: str
    rejected: str
    p_chosen: float
    margin: float
    n_votes: int
    adjudicated: bool


@dataclass(frozen=True, slots=True)
class RankLabel:
    """The responses that somebody ranked, with their common ranks (equal ones skip: 1, 2, 2, 4) and utilities."""

    task: Task
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    utilities: tuple[float, ...]
    n_votes: Mapping[frozenset[str], int]  # raters who ranked both of two
    raters: int
    adjudicated: bool


@dataclass(frozen=True, slots=True)
class BinaryLabel:
    """Whether something is true of a response, and how likely."""

    task: Task
    response: str
    value: bool
    p: float
    n_votes: int
    adjudicated: bool


@dataclass(frozen=True, slots=True)
class ScoreLabel:
    """A response's mean score by criterion."""

    task: Task
    response: str
    scores: Mapping[str, float]
    n_votes: int
    adjudicated: bool


@dataclass
class Labels(Generic[Label]):
    """Labels in the order of their tasks, and what was dropped, by reason."""

    rows: list[Label] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


# -------------------------------------------------------------------------------------------------------- whose votes


def votes_that_count(votes: Votes, settings: LabelSettings) -> Votes:
    """The votes, where those under an older guideline count as replaced if the settings say so."""
    return under_newest(votes) if settings.guidelines == "newest" else votes


def by_item(
    votes: Votes, listed: Iterable[Vote], key: Callable[[Vote], Any], settings: LabelSettings, dropped: Counter[str],
    decides: Callable[[Vote], bool] = lambda vote: True,
) -> tuple[dict[Any, list[Vote]], dict[Any, Vote]]:  # fmt: skip
    """The votes of each item, and the last adjudication of each that ``decides``; in the order of the items."""
    without = left_out(votes, settings.min_reliability)
    told: set[str] = set()  # a judgment of several items is left out once
    counted: dict[Any, list[Vote]] = {}
    settled: dict[Any, Vote] = {}
    for vote in listed:
        judgment: Judgment = vote.judgment  # type: ignore[attr-defined]
        if judgment.role in NOT_COUNTED:
            dropped[NOT_COUNTED[judgment.role]] += judgment.id not in told
            told.add(judgment.id)
        elif judgment.role == "adjudication":
            counted.setdefault(key(vote), [])
            if decides(vote):
                settled[key(vote)] = vote
        elif judgment.role == "vote" and judgment.rater_id in without:
            dropped["votes_of_unreliable_raters"] += 1
            counted.setdefault(key(vote), [])
        elif judgment.role == "vote":
            counted.setdefault(key(vote), []).append(vote)
    return dict(sorted(counted.items())), settled


# ---------------------------------------------------------------------------------------------------------------- pairs


def pair_labels(votes: Votes, dimension: str, settings: LabelSettings) -> Labels[PairLabel]:
    """A label for each task with a decision. Dropped: nobody could say, or both are equally likely."""
    labels: Labels[PairLabel] = Labels()
    votes = votes_that_count(votes, settings)
    here = [vote for vote in votes.pairs if vote.dimension == dimension]
    groups, decided = by_item(
        votes, here, lambda v: v.judgment.task.id, settings, labels.dropped, lambda v: v.choice is not None
    )
    groups = {task: [v for v in group if _counts(v, settings)] for task, group in groups.items()}
    p_first = probabilities([vote for group in groups.values() for vote in group], settings)
    for task_id, group in groups.items():
        last = decided.get(task_id)
        if last is None and not group:
            labels.dropped["no_vote"] += 1
            continue
        p = p_first.get(task_id, 0.5)
        if last is not None and last.choice is not None:
            p = 0.5 + (last.choice - 0.5) * (2 * settings.adjudicated - 1)
        if abs(p - 0.5) < 1e-9:
            labels.dropped["undecided"] += 1
            continue
        labels.rows.append(_pair_label(dimension, p, [last] if last else group, last is not None, settings))
    return labels


def _counts(vote: PairVote, settings: LabelSettings) -> bool:
    return vote.choice is not None and (vote.choice != 0.5 or settings.ties == "half")


def _pair_label(
    dimension: str, p: float, group: Sequence[PairVote], adjudicated: bool, settings: LabelSettings
) -> PairLabel:
    task = group[0].judgment.task
    chosen, rejected = task.canonical if p > 0.5 else task.canonical[::-1]
    sure = max(p, 1 - p)
    margin = 0.0
    if settings.margin == "log_odds":
        margin = float(vote_margin(np.array([sure]), largest=settings.largest_margin)[0])
    elif settings.margin == "strength":
        margin = _margin_of(group, chosen)
    return PairLabel(task, dimension, chosen, rejected, sure, margin, len(group), adjudicated)


def _margin_of(group: Sequence[PairVote], chosen: str) -> float:
    """The mean of MARGIN_OF_STRENGTH over who said a strength or a tie, against ``chosen`` with a minus; at least 0."""
    said = [
        0.0 if vote.winner is None else MARGIN_OF_STRENGTH[vote.strength] * (1 if vote.winner == chosen else -1)
        for vote in group
        if vote.winner is None or vote.strength
    ]
    return max(0.0, sum(said) / len(said)) if said else 0.0


def probabilities(votes: Sequence[PairVote], settings: LabelSettings) -> dict[str, float]:
    """For each task the probability that the canonical first response is better; votes without a choice left out."""
    said = [vote for vote in votes if vote.choice is not None]
    if not said:
        return {}
    tasks, item = _indices(vote.judgment.task.id for vote in said)
    choice = np.array([vote.choice for vote in said], dtype=float)
    if settings.method == "dawid_skene":
        if settings.by_strength:
            raise ConfigError("by_strength: Dawid-Skene weighs raters, not votes; use it with smoothed or majority")
        _, rater = _indices(vote.judgment.rater_id for vote in said)
        left = np.array([vote.first_on_left for vote in said])
        p = _learned(dawid_skene_sides, item, rater, left, choice).p_first
    else:
        weight = np.array([VOTES_OF_STRENGTH[v.strength] if settings.by_strength else 1.0 for v in said])
        p = _counted(np.bincount(item, weight * choice), np.bincount(item, weight), settings)
    return dict(zip(tasks, p.tolist(), strict=True))


def _learned(function: Callable[..., Any], *judgments: np.ndarray) -> Any:
    try:
        return function(*judgments)
    except RuntimeError as error:
        raise ConfigError(f"labels.method=dawid_skene: {error}; use smoothed or majority") from error


def _counted(wins: np.ndarray, votes: np.ndarray, settings: LabelSettings) -> np.ndarray:
    if settings.method == "majority":
        return (np.sign(2 * wins - votes) + 1) / 2
    return smoothed_vote(wins, votes, prior=settings.prior)


def _indices(names: Iterable[Any]) -> tuple[list[Any], np.ndarray]:
    """The distinct names in order, and the number of each one's."""
    listed = list(names)
    known = {name: index for index, name in enumerate(sorted(set(listed)))}
    return list(known), np.array([known[name] for name in listed], dtype=np.int64)


# ------------------------------------------------------------------------------------------------------------- rankings


def rank_labels(votes: Votes, settings: LabelSettings) -> Labels[RankLabel]:
    """One ranking of each task from all its raters'; responses that nobody ranked are left out.

    Where no chain of raters connects two responses (one ranked a and b, another c and d), nothing says which is better:
    each part has a ranking of its own, and the pairs between them are counted as dropped. Two that nobody ranked both
    but others connect (a and b, b and c) have an order, inferred from these.
    """
    labels: Labels[RankLabel] = Labels()
    votes = votes_that_count(votes, settings)
    groups, settled = by_item(votes, votes.ranks, lambda v: v.judgment.task.id, settings, labels.dropped)
    for task_id, group in groups.items():
        last = settled.get(task_id)
        found = [last] if last is not None else group
        if not found:
            labels.dropped["no_vote"] += 1
            continue
        parts = connected(vote.ranks for vote in found)
        labels.dropped += Counter(never_compared=sum(len(one) * len(other) for one, other in combinations(parts, 2)))
        for part in parts:
            label = _rank_label([vote for vote in found if part & set(vote.ranks)], last is not None, settings)
            if len(set(label.ranks)) < 2:
                labels.dropped["undecided"] += 1
            else:
                labels.rows.append(label)
    return labels


def _rank_label(group: Sequence[RankVote], adjudicated: bool, settings: LabelSettings) -> RankLabel:
    task = group[0].judgment.task
    ranked = tuple(one for one in task.responses if any(one in vote.ranks for vote in group))
    given = np.array([[vote.ranks.get(one, np.nan) for one in ranked] for vote in group], dtype=float)
    if settings.rankings == "plackett_luce":
        utilities = plackett_luce(given, ridge=settings.prior)
    else:
        utilities = bradley_terry(_wins(given), ridge=settings.prior)
    rounded = [round(float(one), 6) + 0.0 for one in utilities]
    n_votes = {
        frozenset(pair): sum(all(one in vote.ranks for one in pair) for vote in group)
        for pair in combinations(ranked, 2)
    }
    ranks = tuple(1 + sum(other > mine for other in rounded) for mine in rounded)
    return RankLabel(task, ranked, ranks, tuple(rounded), n_votes, len(group), adjudicated)


def _wins(given: np.ndarray) -> np.ndarray:
    """How often each response was ranked above each other one, a tie half each way. [K, K]"""
    better = (given[:, :, None] < given[:, None, :]) + 0.5 * (given[:, :, None] == given[:, None, :])
    wins = better.sum(axis=0)
    np.fill_diagonal(wins, 0)
    return wins


def pairs_of_rankings(
    rankings: Labels[RankLabel], expand: Literal["all", "adjacent", "best"], settings: LabelSettings
) -> Labels[PairLabel]:
    """Rankings as pairs: every two, neighbouring ranks only, or the best against each other one. Ties are dropped."""
    labels: Labels[PairLabel] = Labels(dropped=Counter(rankings.dropped))
    for ranking in rankings.rows:
        steps = {rank: step for step, rank in enumerate(sorted(set(ranking.ranks)))}
        for i, j in combinations(range(len(ranking.responses)), 2):
            one, other = sorted((i, j), key=lambda k: ranking.ranks[k])
            high, low = steps[ranking.ranks[one]], steps[ranking.ranks[other]]
            if high == low:
                labels.dropped["tie"] += 1
            elif expand == "all" or (expand == "adjacent" and low - high == 1) or (expand == "best" and high == 0):
                labels.rows.append(_ranked_pair(ranking, one, other, settings))
    return labels


def _ranked_pair(ranking: RankLabel, one: int, other: int, settings: LabelSettings) -> PairLabel:
    chosen, rejected = ranking.responses[one], ranking.responses[other]
    p = float(sigmoid(ranking.utilities[one] - ranking.utilities[other]))
    p = settings.adjudicated if ranking.adjudicated else p
    margin = 0.0 if settings.margin == "none" else float(vote_margin(np.array([p]), largest=settings.largest_margin)[0])
    n_votes = ranking.n_votes[frozenset((chosen, rejected))]
    return PairLabel(ranking.task, "overall", chosen, rejected, p, margin, n_votes, ranking.adjudicated)


# ----------------------------------------------------------------------------------------------- thumbs, safety, scores


def binary_labels(votes: Votes, of: Literal["thumb", "safe"], settings: LabelSettings) -> Labels[BinaryLabel]:
    """A label for each response that was given thumbs, or safety marks."""
    labels: Labels[BinaryLabel] = Labels()
    votes = votes_that_count(votes, settings)
    listed: Sequence[Any] = votes.thumbs if of == "thumb" else votes.safety
    attribute = "good" if of == "thumb" else "safe"
    groups, settled = by_item(votes, listed, lambda v: (v.judgment.task.id, v.response), settings, labels.dropped)
    p_true = binary_probabilities([vote for group in groups.values() for vote in group], attribute, settings)
    for item, group in groups.items():
        last = settled.get(item)
        if last is None and not group:
            labels.dropped["no_vote"] += 1
            continue
        p = p_true.get(item, 0.5)
        if last is not None:
            p = settings.adjudicated if getattr(last, attribute) else 1 - settings.adjudicated
        if abs(p - 0.5) < 1e-9:
            labels.dropped["undecided"] += 1
            continue
        task = (last or group[0]).judgment.task
        labels.rows.append(BinaryLabel(task, item[1], p > 0.5, p, 1 if last else len(group), last is not None))
    return labels


def binary_probabilities(votes: Sequence[Any], attribute: str, settings: LabelSettings) -> dict[Any, float]:
    """For each (task, response) the probability that the marks' ``attribute`` is true of it."""
    if not votes:
        return {}
    items, item = _indices((vote.judgment.task.id, vote.response) for vote in votes)
    value = np.array([getattr(vote, attribute) for vote in votes], dtype=float)
    if settings.method == "dawid_skene":
        _, rater = _indices(vote.judgment.rater_id for vote in votes)
        p = _learned(binary_dawid_skene, item, rater, value).p_one
    else:
        p = _counted(np.bincount(item, value), np.bincount(item).astype(float), settings)
    return dict(zip(items, p.tolist(), strict=True))


def score_labels(votes: Votes, settings: LabelSettings) -> Labels[ScoreLabel]:
    """Each response's mean scores; criteria that nobody found applicable are left out."""
    labels: Labels[ScoreLabel] = Labels()
    votes = votes_that_count(votes, settings)
    groups, settled = by_item(
        votes, votes.scores, lambda v: (v.judgment.task.id, v.response, v.criterion), settings, labels.dropped
    )
    found: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for (task_id, response, criterion), group in groups.items():
        last = settled.get((task_id, response, criterion))
        said = [vote for vote in ([last] if last else group) if vote.score is not None]
        found.setdefault((task_id, response), {})[criterion] = said
    for (_, response), by_criterion in found.items():
        said = [vote for votes_here in by_criterion.values() for vote in votes_here]
        if not said:
            labels.dropped["no_vote"] += 1
            continue
        scores = {key: sum(v.score for v in here) / len(here) for key, here in by_criterion.items() if here}
        raters = len({vote.judgment.rater_id for vote in said})
        adjudicated = any(vote.judgment.role == "adjudication" for vote in said)
        labels.rows.append(ScoreLabel(said[0].judgment.task, response, scores, raters, adjudicated))
    return labels
