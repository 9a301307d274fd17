"""DPO on a policy small enough to enumerate comes to the optimum π* ∝ π_ref · exp(r/β) of the reward behind its pairs.

All pairs are given, each with the probability p = σ(r_i − r_j) with which Bradley-Terry prefers the first: no noise of
drawn judgments. The loss is then least where β h = r_i − r_j for all pairs, and that is π*.
"""

import copy
import itertools

import pytest
import torch
from enumerable import EVERYTHING, PROMPT, REWARDS, check_optimum, policy

from baro.batch import Sample, branch
from baro.data.source import FileSource
from baro.methods import dpo
from baro.methods.reference import ReferenceLogprobs
from baro.trainer import Trainer


def pair(i: int, j: int) -> Sample:
    p_chosen = torch.tensor(REWARDS[i] - REWARDS[j], dtype=torch.float64).sigmoid().item()
    completions = [
        branch(list(EVERYTHING[of])).with_(
            fields={"rank": rank, "p_chosen": p_chosen, "margin": 0.0}, units={"prompts": 2.0 - rank}
        )
        for rank, of in ((1.0, i), (2.0, j))
    ]
    return Sample(PROMPT, tuple(completions), f"{i} and {j}")


@pytest.mark.parametrize("beta", [0.3, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (0.7, 2.0))])
def test_dpo_comes_to_the_exact_optimum(beta):
    trained = policy()
    reference = copy.deepcopy(trained)
    pairs = [pair(i, j) for i, j in itertools.combinations(range(len(EVERYTHING)), 2)]
    config = dpo.Config(
        policy="-", preferences="-", beta=beta,
        trainer={"learning_rate": 5e-3, "schedule": "cosine", "steps": 150, "batch_size": len(pairs)},
    )  # fmt: skip
    source = FileSource(
        pairs, batch_size=len(pairs), steps=150, seed=0, micro_batch_tokens=4096, hidden_size=16,
        once=ReferenceLogprobs(reference, "enumerable", 4096),
    )  # fmt: skip
    Trainer(dpo.Objective(trained, config), source, config.trainer).fit()
    check_optimum("dpo", trained, reference, beta)
