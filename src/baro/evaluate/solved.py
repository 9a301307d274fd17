"""Answers that are right or wrong: how many are right, and how many problems several answers solve.

    P/accuracy/R            share of answers that are right
    P/pass_at_K/R           the chance that one of K answers at least is right, mean over problems; K = 2, 4, ..., all
    P/maj_at_N/R            share of problems whose most frequent answer is right, of all N answers (ties: their share)
    P/unsolved_fraction/R   share of problems that none of the answers solves: with them GRPO has no gradient

Intervals are over problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from baro.evaluate.config import Reward
from baro.evaluate.metrics import share_over_prompts
from baro.functional.solving import majority_right, pass_at_k
from baro.functional.statistics import Interval

Scores = Float[np.ndarray, "n"]
"""NaN where an answer could not be looked at."""


def right_from(asked: Reward, scores: Sequence[Scores]) -> float | None:
    """The score from which answers are right: as asked, or 1 of a verifier whose scores are all 0 or 1; else None."""
    if asked.right_from is not None or asked.verifier is None:
        return asked.right_from
    known = np.concatenate([one[~np.isnan(one)] for one in scores])
    return 1.0 if np.all((known == 0) | (known == 1)) else None


def ks(tries: int) -> list[int]:
    """The k of pass@k: powers of two, and all."""
    return sorted({2**i for i in range(1, tries.bit_length()) if 2**i < tries} | ({tries} if tries > 1 else set()))


def solved_figures(
    scores: Scores,
    limit: float,
    prompt_of: Int[np.ndarray, "n"],
    *,
    read: Sequence[str | None] | None,
    seed: int,
) -> Mapping[str, Interval]:
    """The figures of one policy by one reward, without its name; ``read`` are the answers as they vote, if they do.

    An answer that could not be looked at counts nowhere, and a problem with fewer than k others has no pass@k.
    """
    known = ~np.isnan(scores)
    if not known.any():
        return {}
    right, of = (scores >= limit)[known], prompt_of[known]
    problems, place = np.unique(of, return_inverse=True)
    hits, tries = np.bincount(place, weights=right).astype(int), np.bincount(place)
    found = {"accuracy": share_over_prompts(right, of, seed=seed)}

    def over_problems(values: Float[np.ndarray, "g"]) -> Interval:
        return share_over_prompts(values, np.arange(len(values)), seed=seed)

    most = int(np.bincount(prompt_of).max())
    for k in ks(most):
        enough = tries >= k
        if enough.any():
            found[f"pass_at_{k}"] = over_problems(pass_at_k(hits[enough], tries[enough], k))
    if most > 1 and read is not None:
        votes = [one for one, ok in zip(read, known, strict=True) if ok]
        shares = [_majority(votes, right, np.flatnonzero(place == g)) for g in range(len(problems))]
        found[f"maj_at_{most}"] = over_problems(np.array(shares))
    if most > 1:
        found["unsolved_fraction"] = over_problems((hits == 0).astype(float))
    return found


def _majority(read: Sequence[str | None], right: Sequence[bool], own: Int[np.ndarray, "m"]) -> float:
    return majority_right([read[i] for i in own], [bool(right[i]) for i in own])
