"""How many problems are solved where each is tried several times. NumPy only.

Shapes: G problems, each with ``tries`` answers of which ``right`` are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float, Int


def pass_at_k(right: Int[np.ndarray, "G"], tries: Int[np.ndarray, "G"], k: int) -> Float[np.ndarray, "G"]:
    """The chance that at least one of k answers solves a problem, of each problem.

        pass@k = 1 − C(n − c, k) / C(n, k) = 1 − Π_{i=n−c+1..n} (1 − k / i),   c of n answers are right

    Chen et al. 2021, arXiv:2107.03374, eq. 1: unbiased, where 1 − (1 − c/n)^k is not. Raises ValueError where a problem
    has fewer than k answers, or more that are right than it has.
    """
    if k < 1 or np.any(tries < k) or np.any(right > tries) or np.any(right < 0):
        raise ValueError(
            f"pass@{k} needs {k} answers at least to every problem, and of these no more right than there are"
        )
    return np.array([1 - _none_of(int(c), int(n), k) for c, n in zip(right, tries, strict=True)], dtype=float)


def _none_of(c: int, n: int, k: int) -> float:
    """The chance that k of n answers, drawn without putting back, hold none of the c right ones."""
    if n - c < k:
        return 0.0
    return float(np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def majority_right(answers: Sequence[Hashable | None], right: Sequence[bool]) -> float:
    """Whether the answer that was given most often to a problem is right; of several that tie, the share that is.

    maj@n of Lewkowycz et al. 2022, arXiv:2206.14858, the vote of Wang et al. 2022, arXiv:2203.11171. None is an answer
    that could not be read: it has no vote, and where no answer could be read the problem is not solved.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    most = max(votes.values(), default=0)
    first = dict(reversed(list(zip(answers, right, strict=True))))  # equal ones are alike
    winners = [answer for answer, count in votes.items() if count == most]
    return sum(first[answer] for answer in winners) / len(winners) if winners else 0.0
