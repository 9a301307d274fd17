"""PPO's half without gradient, on numbers worked by hand."""

import pytest
import tiny
import torch

from baro.batch import branch
from baro.methods import ppo
from baro.models.forward import ScoredModel


@pytest.mark.parametrize(
    ("shaping", "expected"),
    [
        ({}, [3.0, -0.5, 2.0]),
        ({"clip": 1.0}, [1.0, -0.5, 1.0]),
        ({"missing_eos": "subtract", "missing_eos_penalty": 0.75}, [3.0, -0.5, 1.25]),
        ({"missing_eos": "replace", "missing_eos_penalty": 2.0}, [3.0, -0.5, -2.0]),
        ({"clip": 1.0, "missing_eos": "subtract"}, [1.0, -0.5, 0.0]),
    ],
)
def test_what_becomes_of_a_score(shaping, expected):
    config = ppo.Config(policy="-", prompts="-", reward_model="-", reward_shaping=shaping)
    model = ScoredModel(tiny.llama())
    prepare = ppo.Prepare(model, model, model, config)
    scored = [(3.0, True), (-0.5, True), (2.0, False)]  # the last one did not end
    branches = [branch([1]).with_(fields={"score": score, "finished": float(ended)}) for score, ended in scored]
    assert torch.equal(prepare._shaped_scores(branches), torch.tensor(expected))
