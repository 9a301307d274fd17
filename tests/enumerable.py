"""A policy whose sixteen completions can all be listed, a reward for each, and the optimum π* ∝ π_ref · exp(r/β)."""

import itertools

import numpy as np
import tiny
import torch

from baro.batch import Sample, branch
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld
from baro.records import Score

TOKENS = range(4)
EVERYTHING = list(itertools.product(TOKENS, TOKENS))  # all completions of two tokens
PROMPT = torch.tensor([1, 2])
REWARDS = np.random.default_rng(0).normal(size=len(EVERYTHING)).tolist()
KL = 0.01
"""Nats from the optimum at which a policy has come to it."""


class Table:
    """A reward for each of the sixteen completions."""

    name = "table"

    def __init__(self) -> None:
        self.of = dict(zip(EVERYTHING, REWARDS, strict=True))

    def score(self, rollouts):
        return [Score(self.of[r.completion_ids]) for r in rollouts]


def policy() -> ScoredModel:
    return ScoredModel(tiny.llama(dtype=torch.float32, vocab_size=len(TOKENS), max_position_embeddings=8))


def distribution(model: ScoredModel) -> torch.Tensor:
    """The policy's probability of every completion."""
    sample = Sample(PROMPT, tuple(branch(list(ids)) for ids in EVERYTHING))
    found = forward_samples(model, [sample], ["logprobs"], micro_batch_tokens=10**6, world=LocalWorld(), per_row=1)
    return torch.stack([lp.sum() for lp in found["logprobs"][0]]).double().exp()


def optimum_of(ref: torch.Tensor, beta: float, standardised: bool = False) -> torch.Tensor:
    """π* ∝ π_ref · exp(r/β). ``standardised``: where rewards are in units of their deviation under the policy, the
    distribution that is its own optimum, π ∝ π_ref · exp(r/(β s(π))).
    """
    rewards, found = torch.tensor(REWARDS, dtype=torch.float64), ref
    for _ in range(200 if standardised else 1):
        spread = (found * (rewards - (found * rewards).sum()).square()).sum().sqrt() if standardised else 1.0
        aimed = ref * torch.exp(rewards / (beta * spread))
        found = 0.5 * found + 0.5 * aimed / aimed.sum() if standardised else aimed / aimed.sum()
    return found


def check_optimum(
    method: str, found: ScoredModel, reference: ScoredModel, beta: float, *, standardised: bool = False
) -> None:
    """KL(π‖π*) is below ``KL``, and was above it at the start; ``pytest -rP`` shows what is printed."""
    ref, policy = distribution(reference), distribution(found)
    optimum = optimum_of(ref, beta, standardised)
    assert abs(float(policy.sum()) - 1.0) < 1e-4
    start, end = (float((one * (one / optimum).log()).sum()) for one in (ref, policy))
    print(f"{method}, beta {beta}: KL to the optimum {end:.1e} nats, from {start:.3f}")
    assert end < KL < start
