"""New weights are a function of the seed and of what they are for: no two of a run are made of the same numbers."""

from itertools import combinations

import pytest
import tiny
import torch

from baro.compute import LoraConfig
from baro.methods import critic, ppo
from baro.models.heads import Scoring, initialise, new_head
from baro.models.load import Architecture, load_policy, new_policy, new_scalar_model, save_scalar_model
from baro.models.lora import add_adapter

LORA = LoraConfig(r=4)
SHAPE = Architecture(hidden_size=16, layers=1, heads=2, max_positions=32, intermediate_size=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "policy"
    tiny.llama(dtype=torch.float32).save_pretrained(path)
    return path


def model(seed):
    return new_policy(SHAPE, vocabulary=32, special={}, seed=seed).model.model.embed_tokens.weight[0]


def head(role):
    def made(seed, folder):
        layer = new_head("linear", 16, 1)
        initialise(layer, seed, role)
        return layer.weight[0]

    return made


def adapters(role):
    def made(seed, folder):
        scored = load_policy(folder) if role == "policy" else new_scalar_model(folder, seed=0)
        add_adapter(scored, LORA, seed=seed, role=role)
        return first_adapter(scored)

    return made


def first_adapter(scored):
    return next(p for name, p in scored.named_parameters() if "lora_A" in name)[0]


MADE = {"a new model": lambda seed, folder: model(seed)}
MADE |= {f"head of a {role}": head(role) for role in ("reward_model", "value_model")}
MADE |= {f"adapters of a {role}": adapters(role) for role in ("policy", "reward_model", "value_model")}


def direction(values):
    """What is left of 16 numbers when their scale is taken out: the same draws have the same."""
    return (values / values.abs().max()).detach()


@pytest.mark.parametrize("seed", [0, 7])
def test_no_two_new_things_of_a_run_share_their_numbers(seed, folder):
    drawn = {name: direction(make(seed, folder)) for name, make in MADE.items()}
    torch.manual_seed(seed)
    drawn["the bare seed, normal"] = direction(torch.randn(16))
    torch.manual_seed(seed)
    drawn["the bare seed, uniform"] = direction(torch.rand(16) * 2 - 1)
    for (one, a), (other, b) in combinations(drawn.items(), 2):
        assert (a - b).abs().max() > 0.1, (one, other)


@pytest.mark.parametrize("name", MADE)
def test_the_same_seed_gives_the_same_weights_and_another_others(name, folder):
    torch.manual_seed(3)
    first = MADE[name](5, folder)
    torch.rand(9)
    assert torch.equal(MADE[name](5, folder), first)
    assert not torch.equal(MADE[name](6, folder), first)


def test_the_numbers_are_these():
    assert model(0)[:3].tolist() == pytest.approx([-0.018115, -0.003502, 0.025603], abs=1e-6)
    assert head("reward_model")(0, None)[:3].tolist() == pytest.approx([0.081577, 0.194779, -0.277638], abs=1e-6)


@pytest.mark.parametrize("start", ["policy", "pooled", "plain"])
def test_policy_value_model_and_reward_model_of_one_seed(folder, tmp_path, start):
    """PPO with adapters, as it makes its models: where values start at the policy, or at a reward model."""
    reward = new_scalar_model(folder, seed=0)
    value_model = str(folder)
    if start != "policy":
        pooling = "mean" if start == "pooled" else "last"
        save_scalar_model(new_scalar_model(folder, seed=0, scoring=Scoring(pooling)), tmp_path / "reward")
        value_model = str(tmp_path / "reward")
    add_adapter(reward, LORA, seed=0, role="reward_model")
    policy = load_policy(folder, lora=LORA, seed=0)
    config = ppo.Config(policy=str(folder), prompts="-", rewards=[{"by": "a:b"}], value_model=value_model, lora=LORA)
    values = critic.value_model(config, config.value_model, None, terms=config.terms)
    found = [direction(first_adapter(one)) for one in (reward, policy, values)]
    assert all((a - b).abs().max() > 0.1 for a, b in combinations(found, 2))
    kept = start == "plain"  # that head is where values start
    assert torch.equal(values.scalar_head.weight, reward.scalar_head.weight) == kept
