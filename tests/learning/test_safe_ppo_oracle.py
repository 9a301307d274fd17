"""Safe PPO on a policy small enough to enumerate: its optimum at a λ that stays, and the λ that holds the limit."""

import copy

import numpy as np
import pytest
import tiny
import torch
from enumerable import EVERYTHING, KL, PROMPT, REWARDS, Table, distribution, policy

from baro.batch import Sample
from baro.methods import safe_ppo
from baro.models.forward import ScoredModel
from baro.records import Message, Prompt, Score
from baro.rewards.terms import WeightedReward
from baro.rollout.engine import Engine
from baro.rollout.rollouts import Rollouts
from baro.rollout.source import OnPolicySource
from baro.trainer import Trainer

BETA = 0.7
COSTS = (0.8 * np.array(REWARDS) + 0.6 * np.random.default_rng(1).normal(size=len(EVERYTHING))).tolist()
"""Answers with more reward cost more."""


class Costs(Table):
    name = "costs"

    def score(self, rollouts):
        of = dict(zip(EVERYTHING, COSTS, strict=True))
        return [Score(of[one.completion_ids]) for one in rollouts]


def optimum(ref: torch.Tensor, multiplier: float) -> torch.Tensor:
    """π ∝ π_ref · exp((r − λ c) / ((1 + λ) β))"""
    gain = torch.tensor(REWARDS) - multiplier * torch.tensor(COSTS)
    aimed = ref * torch.exp(gain.double() / ((1 + multiplier) * BETA))
    return aimed / aimed.sum()


def cost_of(probabilities: torch.Tensor) -> float:
    return float((probabilities * torch.tensor(COSTS, dtype=torch.float64)).sum())


def multiplier_at(ref: torch.Tensor, limit: float) -> float:
    """The λ whose optimum costs ``limit``, by bisection: the cost falls as λ rises."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost_of(optimum(ref, middle)) > limit else (low, middle)
    return (low + high) / 2


def trained(constraint: dict, rollouts: int) -> tuple[torch.Tensor, torch.Tensor, safe_ppo.Prepare]:
    """The reference's and the trained policy's distributions, and what prepared its rollouts."""
    found = policy()
    reference = copy.deepcopy(found)
    critics = [ScoredModel(tiny.llama_scalar(dtype=torch.float32)) for _ in range(2)]
    config = safe_ppo.Config(
        policy="-", prompts="-", reward_model="-", cost_model="-", kl={"coef": BETA}, gae_lambda=1.0,
        value={"clip_range": 10.0}, constraint=constraint,
        rollout={"prompts": 4, "completions": 64, "epochs": 2, "minibatches": 1},
        sampling={"max_new_tokens": 2}, trainer={"learning_rate": 4e-3, "schedule": "cosine"},
    )  # fmt: skip
    drawn = Rollouts(
        [Prompt((Message("user", "x"),))], [Sample(PROMPT, ())], sampler=Engine(found, end_ids=frozenset()), decode=str,
        totals={"score": [WeightedReward(Table())], "cost": [WeightedReward(Costs())]},
        sampling=config.sampling.params(), config=config.rollout, seed=0,
    )  # fmt: skip
    prepare = safe_ppo.Prepare(found, reference, *critics, config)
    source = OnPolicySource(drawn, prepare=prepare, count=rollouts, micro_batch_tokens=4096, hidden_size=16)
    Trainer(safe_ppo.Objective(found, *critics, config), source, config.trainer).fit()
    return distribution(reference), distribution(found), prepare


def test_a_multiplier_that_stays_comes_to_its_optimum():
    ref, found, prepare = trained({"limit": 0.0, "mode": "fixed", "multiplier": 0.5}, 40)
    aimed = optimum(ref, 0.5)
    start, end = (float((one * (one / aimed).log()).sum()) for one in (ref, found))
    print(f"fixed: KL to the optimum {end:.1e} nats, from {start:.3f}")
    assert end < KL < start
    assert prepare.multiplier.value == 0.5


@pytest.mark.slow
def test_the_multiplier_that_moves_comes_to_the_limit():
    limit = 0.1
    ref, found, prepare = trained({"limit": limit, "multiplier": 0.3, "learning_rate": 0.5, "window": 2}, 80)
    wanted = multiplier_at(ref, limit)
    without = cost_of(optimum(ref, 0.0))
    print(f"λ {prepare.multiplier.value:.3f}, exact {wanted:.3f}; cost {cost_of(found):.3f}, without {without:.3f}")
    assert without > limit + 0.3  # reward alone violates it
    assert abs(cost_of(found) - limit) < 0.05
    assert prepare.multiplier.value == pytest.approx(wanted, rel=0.15)
    aimed = optimum(ref, wanted)
    assert float((found * (found / aimed).log()).sum()) < KL
