"""PPO on a policy small enough to enumerate comes to the known optimum π* ∝ π_ref · exp(r/β)."""

import copy
import itertools

import numpy as np
import pytest
import tiny
import torch

from baro.batch import Sample, branch
from baro.methods import ppo
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld
from baro.records import Message, Prompt, Score
from baro.rewards.terms import WeightedReward
from baro.rollout.engine import Engine
from baro.rollout.rollouts import Rollouts
from baro.rollout.source import OnPolicySource
from baro.trainer import Trainer

TOKENS = range(4)
EVERYTHING = list(itertools.product(TOKENS, TOKENS))  # all completions of two tokens
PROMPT = torch.tensor([1, 2])


class Table:
    """A reward for each of the sixteen completions."""

    name = "table"

    def __init__(self) -> None:
        values = np.random.default_rng(0).normal(size=len(EVERYTHING))
        self.of = dict(zip(EVERYTHING, values.tolist(), strict=True))

    def score(self, rollouts):
        return [Score(self.of[r.completion_ids]) for r in rollouts]


def distribution(model: ScoredModel) -> torch.Tensor:
    """The policy's probability of every completion."""
    sample = Sample(PROMPT, tuple(branch(list(ids)) for ids in EVERYTHING))
    found = forward_samples(model, [sample], ["logprobs"], micro_batch_tokens=10**6, world=LocalWorld(), per_row=1)
    return torch.stack([lp.sum() for lp in found["logprobs"][0]]).double().exp()


@pytest.mark.parametrize("beta", [0.3, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (0.7, 2.0))])
def test_ppo_comes_to_the_exact_optimum(beta):
    policy = ScoredModel(tiny.llama(dtype=torch.float32, vocab_size=len(TOKENS), max_position_embeddings=8))
    reference = copy.deepcopy(policy)
    value_model = ScoredModel(tiny.llama_scalar(dtype=torch.float32))
    reward = Table()
    config = ppo.Config(
        policy="-", prompts="-", reward_model="-", kl={"coef": beta}, gae_lambda=1.0,
        value={"clip_range": 10.0},
        rollout={"prompts": 4, "completions": 64, "epochs": 2, "minibatches": 1},
        sampling={"max_new_tokens": 2}, trainer={"learning_rate": 4e-3, "schedule": "cosine"},
    )  # fmt: skip
    rollouts = Rollouts(
        [Prompt((Message("user", "x"),))], [Sample(PROMPT, ())],
        sampler=Engine(policy, end_ids=frozenset()), decode=str, totals={"score": [WeightedReward(reward)]},
        sampling=config.sampling.params(), config=config.rollout, seed=0,
    )  # fmt: skip
    prepare = ppo.Prepare(policy, reference, value_model, config)
    source = OnPolicySource(rollouts, prepare=prepare, count=80, micro_batch_tokens=4096, hidden_size=16)
    Trainer(ppo.Objective(policy, value_model, config), source, config.trainer).fit()
    ref = distribution(reference)
    optimum = ref * torch.exp(torch.tensor([reward.of[c] for c in EVERYTHING]) / beta)
    optimum /= optimum.sum()
    found = distribution(policy)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-4)
    kl = float((found * (found / optimum).log()).sum())
    start = float((ref * (ref / optimum).log()).sum())
    assert kl < 0.01 < start, f"KL to the optimum {kl:.4f}, from {start:.4f}"
