"""Random streams by name: every draw of a run is a function of the seed, of what it is for, and of its place.

    key = the first 8 bytes of SHA-256(domain, parts)        stream = Philox(key)

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": streams of different keys are independent. The domain
says what the numbers are for, so that no two uses share a stream however their other parts are counted.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

Domain = Literal[
    "epoch",  # the order of a file's samples in an epoch
    "prompts",  # the order of the prompts of rollouts in a pass
    "sample",  # the tokens of a rollout's completions
    "minibatch",  # how a rollout is cut into minibatches
    "model",  # the weights of a new model
    "head",  # the weights of a new head, by the role of its model
    "adapters",  # the weights of new adapters, by the role of their model
    "step",  # torch's own generator in an optimiser step
    "generate",  # the answers of `baro generate`
    "chat",  # the answers of `baro chat`
    "evaluate",  # the answers that an evaluation compares
    "held_out",  # the answers to held-out prompts along an online run
    "member",  # the seed of an ensemble's member
    "bootstrap",  # the rows that a member learns from
    "backoff",  # how long a failed call of a server is waited for
    "principle",  # by which principle an answer is criticised, or two are compared
    "critique",  # critiques and revisions
    "rubric",  # what a judge says of an answer
    "judge",  # what one says of two
    "thoughts",  # what a labeller thinks of two answers
    "verdict",  # and what it says of them
    "shown_first",  # which of two answers a judge sees first
]


def stream_key(domain: Domain, *parts: int | str) -> int:
    """A key of 64 bits for the stream of ``domain`` that ``parts`` name: the seed first, then what is counted."""
    return int.from_bytes(hashlib.sha256(repr((domain, *parts)).encode()).digest()[:8], "little")


def stream(domain: Domain, *parts: int | str) -> np.random.Generator:
    """The stream itself."""
    return np.random.Generator(np.random.Philox(key=stream_key(domain, *parts)))


def permutation(count: int, domain: Domain, *parts: int | str) -> np.ndarray:
    """An order of ``count`` things: a function of its arguments alone."""
    return stream(domain, *parts).permutation(count)
