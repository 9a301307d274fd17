"""Figures of an evaluation, from texts and numbers alone: no models and no files.

Shapes: n observations, several of which may belong to one prompt; ``prompts`` names the prompt of each.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, Num

from baro.functional.statistics import Interval, bootstrap_interval, length_controlled_win_rate, wilson_interval

_WORD = re.compile(r"\w+|[^\w\s]")


def mean_over_prompts(values: Num[np.ndarray, "n"], prompts: Int[np.ndarray, "n"], *, seed: int) -> Interval:
    """The mean, with a bootstrap over prompts. A win rate is the mean of verdicts, in which a tie is 0.5."""
    _, prompt_of, sizes = np.unique(prompts, return_inverse=True, return_counts=True)
    if np.all(sizes == sizes[:1]):  # then each prompt's mean stands for it, and there is less to resample
        return bootstrap_interval(np.bincount(prompt_of, weights=values) / sizes, seed=seed)
    return bootstrap_interval(values.astype(float), seed=seed, groups=prompts)


def share_over_prompts(values: Num[np.ndarray, "n"], prompts: Int[np.ndarray, "n"], *, seed: int) -> Interval:
    """The mean of values from 0 to 1. All 0 or all 1 leave nothing to resample: then Wilson's interval over prompts."""
    if len(values) and (values.min() == 1 or values.max() == 0):
        n = len(np.unique(prompts))
        return wilson_interval(n * float(values[0]), n)
    return mean_over_prompts(values, prompts, seed=seed)


def length_controlled(
    verdicts: Float[np.ndarray, "n"],
    length_difference: Num[np.ndarray, "n"],
    prompts: Int[np.ndarray, "n"],
    *,
    seed: int,
) -> Interval | None:
    """The win rate at equal length (statistics.length_controlled_win_rate); None where all lengths differ equally."""
    if length_difference[0] != 0 and np.all(length_difference == length_difference[0]):
        return None
    groups = prompts if len(np.unique(prompts)) < len(prompts) else None
    return length_controlled_win_rate(verdicts, length_difference, seed=seed, groups=groups)


def words(text: str) -> list[str]:
    """Words and punctuation marks, in lower case; for languages without spaces a word is what stands between them."""
    return _WORD.findall(text.lower())


def distinct_2(texts: Iterable[str]) -> float:
    """Different word pairs over all word pairs (Li et al. 2016, arXiv:1510.03055): low where answers repeat each other.

    0 where no text has two words. It falls with the amount of text, so only equally many texts compare.
    """
    pairs = Counter(pair for text in texts for pair in pairwise(words(text)))
    return len(pairs) / pairs.total() if pairs else 0.0


def pair_accuracy(gaps: Num[np.ndarray, "n"], p_chosen: Num[np.ndarray, "n"]) -> Interval:
    """How often the score of the better completion is higher, with Wilson's interval; equal scores count half.

    ``gaps`` is score(chosen) − score(rejected). Where ``p_chosen`` is below 0.5 the rejected one is the better; pairs
    at 0.5 have no better one and are left out. Raises ValueError when none is left.
    """
    sides = np.sign(p_chosen - 0.5)
    right = np.sign(gaps[sides != 0]) * sides[sides != 0]
    return wilson_interval(float((right > 0).sum() + 0.5 * (right == 0).sum()), len(right))


@dataclass(frozen=True)
class UnigramBaseline:
    """What the choice of words alone says about preferences: a naive Bayes model of chosen against rejected.

        score(text) = Σ_w log (c_w + 1)/(C + V) − log (r_w + 1)/(R + V)

    c_w and r_w count word w in the chosen and in the rejected completions, C and R all words there, V different words.
    A word that neither has seen weighs the same in both and is left out.
    """

    weights: dict[str, float]

    @classmethod
    def fit(cls, chosen: Iterable[str], rejected: Iterable[str]) -> UnigramBaseline:
        """Count the words of the better and of the worse completions."""
        better, worse = (Counter(word for text in texts for word in words(text)) for texts in (chosen, rejected))
        vocabulary = better.keys() | worse.keys()
        totals = math.log(worse.total() + len(vocabulary)) - math.log(better.total() + len(vocabulary))
        ratio = {word: math.log(better[word] + 1) - math.log(worse[word] + 1) for word in sorted(vocabulary)}
        return cls({word: value + totals for word, value in ratio.items()})

    def score(self, text: str) -> float:
        """Higher is more like what was chosen."""
        return sum(self.weights.get(word, 0.0) for word in words(text))
