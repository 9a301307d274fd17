"""How likely each of several answers is, from the log-probs that a server tells. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

OPTIONS = ("(A)", "(B)")
"""What one of two answers is called where a chat model compares them."""
_VERDICT = re.compile(r"[\s*\"'`]*\(?([AB])(?![A-Za-z])")


class Step(NamedTuple):
    """A drawn token, and the likeliest tokens in its place, with log-probs in nats; tokens are bytes."""

    token: bytes
    logprob: float
    likeliest: tuple[tuple[bytes, float], ...]


def option_logprobs(steps: Sequence[Step], options: Sequence[str]) -> tuple[float, ...] | None:
    """log p of each option up to where it can be told from the others, in nats; None where none was begun.

        p(o) = Σ_t p(y_<t) Σ_{v: y_<t v is o's alone} p(v | y_<t)

    over the drawn tokens y while they may still become several options. A beginning is an option's alone where it
    continues the option or the option continues it, and that holds for no other. White space in front counts for
    nothing. An option that is not among the likeliest tokens gets the log-prob of the least likely one of these, the
    highest that it can have: that makes an answer less certain, and never more.
    """
    texts = [option.encode() for option in options]
    mass = [-math.inf] * len(texts)
    path, before, least = b"", 0.0, -math.inf
    for step in steps:
        listed = dict(step.likeliest) | {step.token: step.logprob}
        least = max(least, before + min(listed.values()))
        for token, logprob in listed.items():
            fitting = _fitting(path + token, texts)
            if len(fitting) == 1:
                (k,) = fitting
                mass[k] = _log_sum(mass[k], before + logprob)
        path, before = path + step.token, before + step.logprob
        if len(_fitting(path, texts)) < 2:
            break
    if all(one == -math.inf for one in mass):
        return None
    return tuple(least if one == -math.inf else one for one in mass)


def check_options(options: Sequence[str]) -> None:
    """Raise ValueError where options are no different answers: an empty one, or one that begins another."""
    if "" in options or any(one.startswith(other) for one, other in permutations(options, 2)):
        raise ValueError(f"{list(options)} are no options that exclude each other: one is empty, or begins another")


def p_first_option(logprobs: Sequence[float]) -> float:
    """The probability of the first of two options beside the other: the softmax of their log-probs (nats).

    -1.2 and -2.0 give 0.689974.
    """
    gap = logprobs[1] - logprobs[0]
    return 1 / (1 + math.exp(gap)) if gap < 700 else 0.0


def p_of_verdicts(verdicts: Sequence[int]) -> float:
    """The probability of the first option from drawn verdicts, a for the first and b for the second; never certain.

        p = (a + 1) / (a + b + 2)

    Laplace's rule of succession. Raises ValueError without a verdict.
    """
    if not verdicts:
        raise ValueError("no verdict was drawn, and nothing says which option is the likelier one")
    return (list(verdicts).count(0) + 1) / (len(verdicts) + 2)


def verdict_in(text: str) -> int | None:
    """Which option an answer begins with, 0 for (A) and 1 for (B); None where it names neither."""
    found = _VERDICT.match(text)
    return None if found is None else "AB".index(found[1])


def _fitting(text: bytes, options: Sequence[bytes]) -> list[int]:
    """The options that a beginning may still become, or has become."""
    text = text.lstrip()
    return [k for k, option in enumerate(options) if option.startswith(text) or text.startswith(option)]


def _log_sum(one: float, other: float) -> float:
    high = max(one, other)
    return high if high == -math.inf else high + math.log(math.exp(one - high) + math.exp(other - high))
