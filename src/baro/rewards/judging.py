"""What a judge of pairs says, free of which side an answer stood on."""

from __future__ import annotations

from collections.abc import Sequence

from baro.protocols import PairJudge
from baro.records import Rollout, Verdict


def average_orders(first: Verdict, swapped: Verdict) -> Verdict:
    """A pair judged twice, the second time with its sides swapped: p = (p_1 + 1 − p_2) / 2, free of side bias."""
    for verdict in (first, swapped):
        if verdict.p_first is None:
            return verdict
    assert first.p_first is not None
    assert swapped.p_first is not None
    return Verdict((first.p_first + 1 - swapped.p_first) / 2)


def judged_in_both_orders(judge: PairJudge, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[Verdict]:
    """p(the first of each pair is better), the mean of both orders."""
    swapped = judge.compare([(second, first) for first, second in pairs])
    return [average_orders(*both) for both in zip(judge.compare(pairs), swapped, strict=True)]
