"""RLOO and Dr. GRPO come to the optimum of a policy that can be enumerated; GRPO to one of its own."""

import copy

import pytest
from enumerable import PROMPT, Table, check_optimum, policy

from baro.batch import Sample
from baro.config import load_config
from baro.grpo_config import Config
from baro.methods import grpo
from baro.records import Message, Prompt
from baro.rewards.terms import WeightedReward
from baro.rollout.engine import Engine
from baro.rollout.rollouts import Rollouts
from baro.rollout.source import OnPolicySource
from baro.trainer import Trainer

BETA = {"rloo": 0.7, "dr_grpo": 0.7, "grpo": 1.5}
"""Of grpo at 0.7 the fixed point is one completion alone: the deviation falls with every step towards it."""


@pytest.mark.parametrize(
    ("name", "estimator"),
    [("rloo", "k1"), ("grpo", "k3"), *(pytest.param("dr_grpo", one, marks=pytest.mark.slow) for one in ("k2", "k3"))],
)
def test_it_comes_to_its_optimum(name, estimator):
    """Standardised, a reward weighs as much as it stands out, so that GRPO ends where π ∝ π_ref · exp(r/(β s(π)))."""
    trained = policy()
    reference = copy.deepcopy(trained)
    given = {
        "preset": name, "kl": {"coef": BETA[name], "estimator": estimator},
        "policy": "-", "prompts": "-", "rewards": [{"by": "m:f"}], "sampling": {"max_new_tokens": 2},
        "rollout": {"prompts": 4, "completions": 64, "epochs": 2, "minibatches": 1},
        "trainer": {"learning_rate": 4e-3, "schedule": "cosine", "max_grad_norm": 0},
    }  # fmt: skip
    config = load_config(Config, None, values=given)
    rollouts = Rollouts(
        [Prompt((Message("user", "x"),))], [Sample(PROMPT, ())],
        sampler=Engine(trained, end_ids=frozenset()), decode=str, totals={"score": [WeightedReward(Table())]},
        sampling=config.sampling.params(), config=config.rollout, seed=0,
    )  # fmt: skip
    prepare = grpo.Prepare(trained, reference, config)
    source = OnPolicySource(rollouts, prepare=prepare, count=80, micro_batch_tokens=4096, hidden_size=16)
    Trainer(grpo.Objective(trained, config), source, config.trainer).fit()
    check_optimum(name, trained, reference, BETA[name], standardised=name == "grpo")
