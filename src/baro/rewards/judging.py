"""What a judge of pairs says, free of which side an answer stood on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, groupby

from baro.protocols import PairJudge
from baro.records import Rollout, Score, Verdict


def average_orders(first: Verdict, swapped: Verdict) -> Verdict:
    """A pair judged twice, the second time with its sides swapped: p = (p_1 + 1 − p_2) / 2, free of side bias."""
    for verdict in (first, swapped):
        if verdict.p_first is None:
            return verdict
    assert first.p_first is not None
    assert swapped.p_first is not None
    return Verdict((first.p_first + 1 - swapped.p_first) / 2)


def judged_in_both_orders(judge: PairJudge, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[Verdict]:
    """p(the first of each pair is better), the mean of both orders, which some judges take themselves."""
    if getattr(judge, "averages_orders", False):
        return judge.compare(pairs)
    swapped = judge.compare([(second, first) for first, second in pairs])
    return [average_orders(*both) for both in zip(judge.compare(pairs), swapped, strict=True)]


class RoundRobin:
    """A judge of pairs as a RewardSource: the share of its siblings that an answer beats, ties half.

        s_i = (1 / (n − 1)) Σ_{j≠i} p(y_i better than y_j),   each pair judged in both orders

    Siblings are answers to one prompt that stand next to each other. The mean of their scores is ½, so that the
    advantage ``baseline: group, scale: none`` is s_i − ½: the rank, without a scale of rewards. n (n − 1) verdicts a
    prompt. A pair whose verdict failed counts for neither; an answer of which every pair failed has no score.
    """

    def __init__(self, judge: PairJudge, *, name: str) -> None:
        self.judge, self.name = judge, name

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        pairs = [
            pair
            for _, group in groupby(range(len(rollouts)), lambda i: (rollouts[i].prompt, rollouts[i].extra))
            for pair in combinations(group, 2)
        ]
        verdicts = judged_in_both_orders(self.judge, [(rollouts[i], rollouts[j]) for i, j in pairs]) if pairs else []
        wins: dict[int, list[float]] = {i: [] for i in range(len(rollouts))}
        errors = dict.fromkeys(wins, f"{self.name}: there is no other answer to this prompt to compare with")
        for (i, j), verdict in zip(pairs, verdicts, strict=True):
            if verdict.p_first is None:
                errors |= dict.fromkeys((i, j), f"{self.name}: {verdict.error}")
                continue
            wins[i].append(verdict.p_first)
            wins[j].append(1 - verdict.p_first)
        return [Score(sum(own) / len(own)) if own else Score(None, errors[i]) for i, own in wins.items()]
