"""A policy whose sixteen completions can all be listed, a reward for each, and the optimum π* ∝ π_ref · exp(r/β)."""

import itertools

import numpy as np
import tiny
import torch

from baro.batch import Sample, branch
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld

TOKENS = range(4)
EVERYTHING = list(itertools.product(TOKENS, TOKENS))  # all completions of two tokens
PROMPT = torch.tensor([1, 2])
REWARDS = np.random.default_rng(0).normal(size=len(EVERYTHING)).tolist()
KL = 0.01
"""Nats from the optimum at which a policy has come to it."""


def policy() -> ScoredModel:
    return ScoredModel(tiny.llama(dtype=torch.float32, vocab_size=len(TOKENS), max_position_embeddings=8))


def distribution(model: ScoredModel) -> torch.Tensor:
    """The policy's probability of every completion."""
    sample = Sample(PROMPT, tuple(branch(list(ids)) for ids in EVERYTHING))
    found = forward_samples(model, [sample], ["logprobs"], micro_batch_tokens=10**6, world=LocalWorld(), per_row=1)
    return torch.stack([lp.sum() for lp in found["logprobs"][0]]).double().exp()


def check_optimum(method: str, found: ScoredModel, reference: ScoredModel, beta: float) -> None:
    """KL(π‖π*) is below ``KL``, and was above it at the start; ``pytest -rP`` shows what is printed."""
    ref, policy = distribution(reference), distribution(found)
    optimum = ref * torch.exp(torch.tensor(REWARDS, dtype=torch.float64) / beta)
    optimum /= optimum.sum()
    assert abs(float(policy.sum()) - 1.0) < 1e-4
    start, end = (float((one * (one / optimum).log()).sum()) for one in (ref, policy))
    print(f"{method}, beta {beta}: KL to the optimum {end:.1e} nats, from {start:.3f}")
    assert end < KL < start
