"""PPO on a policy small enough to enumerate comes to the known optimum π* ∝ π_ref · exp(r/β)."""

import copy

import pytest
import tiny
import torch
from enumerable import PROMPT, Table, check_optimum, policy

from baro.batch import Sample
from baro.methods import ppo
from baro.models.forward import ScoredModel
from baro.records import Message, Prompt
from baro.rewards.terms import WeightedReward
from baro.rollout.engine import Engine
from baro.rollout.rollouts import Rollouts
from baro.rollout.source import OnPolicySource
from baro.trainer import Trainer


@pytest.mark.parametrize("beta", [0.3, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (0.7, 2.0))])
def test_ppo_comes_to_the_exact_optimum(beta):
    trained = policy()
    reference = copy.deepcopy(trained)
    value_model = ScoredModel(tiny.llama_scalar(dtype=torch.float32))
    config = ppo.Config(
        policy="-", prompts="-", reward_model="-", kl={"coef": beta}, gae_lambda=1.0,
        value={"clip_range": 10.0},
        rollout={"prompts": 4, "completions": 64, "epochs": 2, "minibatches": 1},
        sampling={"max_new_tokens": 2}, trainer={"learning_rate": 4e-3, "schedule": "cosine"},
    )  # fmt: skip
    rollouts = Rollouts(
        [Prompt((Message("user", "x"),))], [Sample(PROMPT, ())],
        sampler=Engine(trained, end_ids=frozenset()), decode=str, totals={"score": [WeightedReward(Table())]},
        sampling=config.sampling.params(), config=config.rollout, seed=0,
    )  # fmt: skip
    prepare = ppo.Prepare(trained, reference, value_model, config)
    source = OnPolicySource(rollouts, prepare=prepare, count=80, micro_batch_tokens=4096, hidden_size=16)
    Trainer(ppo.Objective(trained, value_model, config), source, config.trainer).fit()
    check_optimum("ppo", trained, reference, beta)
