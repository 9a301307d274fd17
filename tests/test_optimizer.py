"""Muon beside AdamW: its step in literal numbers, what it is for, what it refuses, and that a stopped run goes on."""

import math
from types import SimpleNamespace

import pytest
import tiny
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from baro.config import OptimiserConfig, load_config
from baro.errors import ConfigError
from baro.methods import dpo, kto, ppo, reward, sft
from baro.optimizer import make_optimizer, optimizer_state

MUON = OptimiserConfig(learning_rate=0.1, optimizer="muon")


class Model(nn.Module):
    """One layer of a 2x3 matrix with a bias, between an embedding and a head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.layers = nn.ModuleList([nn.Linear(3, 2)])
        self.head = nn.Linear(2, 1)


def objective(*groups, **modules):
    """Modules as an objective: one group of all that is trained, or the groups given."""
    trained = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    return SimpleNamespace(modules=lambda: modules, parameter_groups=lambda: list(groups) or [{"params": trained}])


def times(a, b):
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)] for row in a]


def newton_schulz(matrix):
    """Five steps of X ← aX + b(XXᵀ)X + c(XXᵀ)²X from X of Frobenius norm 1, in plain Python."""
    norm = math.sqrt(sum(x * x for row in matrix for x in row))
    found = [[x / norm for x in row] for row in matrix]
    for _ in range(5):
        square = times(found, [list(column) for column in zip(*found, strict=True)])
        once, twice = times(square, found), times(times(square, square), found)
        found = [
            [3.4445 * x - 4.7750 * y + 2.0315 * z for x, y, z in zip(*rows, strict=True)]
            for rows in zip(found, once, twice, strict=True)
        ]
    return found


def test_two_steps_of_muon_in_numbers():
    model = Model()
    optimizer = make_optimizer(objective(model=model), MUON.model_copy(update={"weight_decay": 0.5}))
    weight = model.layers[0].weight
    start, first, second = (
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        [[3.0, 0.0, 1.0], [0.0, -2.0, 1.0]],
        [[0.0, 1.0, 0.0], [5.0, 0.0, -1.0]],
    )
    with torch.no_grad():
        weight.copy_(torch.tensor(start))
    expected, moving = start, [[0.0] * 3] * 2
    for gradient in (first, second):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        moving = [
            [0.95 * m + 0.05 * g for m, g in zip(*rows, strict=True)] for rows in zip(moving, gradient, strict=True)
        ]
        ahead = [
            [0.95 * m + 0.05 * g for m, g in zip(*rows, strict=True)] for rows in zip(moving, gradient, strict=True)
        ]
        factor = 0.2 * math.sqrt(3)  # of the larger side: the update has AdamW's RMS
        expected = [
            [(1 - 0.1 * 0.5) * w - 0.1 * factor * o for w, o in zip(*rows, strict=True)]
            for rows in zip(expected, newton_schulz(ahead), strict=True)
        ]
    assert newton_schulz(first)[0] == pytest.approx([0.8776, 0.0, 0.2925], abs=0.2)
    assert weight.tolist() == [pytest.approx(row, abs=2e-3) for row in expected]  # torch's iteration is in bfloat16


MODELS = {
    "llama": (tiny.llama, ("self_attn.q_proj", "mlp.down_proj"), ("embed_tokens", "lm_head", "norm.weight")),
    "gpt2": (tiny.gpt2, ("attn.c_attn.weight", "mlp.c_fc.weight"), ("wte", "wpe", "c_attn.bias", "ln_1")),
    "bert": (tiny.bert, ("query.weight", "intermediate.dense.weight"), ("word_embeddings", "query.bias", "LayerNorm")),
    "scalar": (tiny.llama_scalar, ("self_attn.q_proj",), ("embed_tokens", "score.weight")),
}


def parts(found, optimizer):
    """Which parameters have a momentum alone after one step, and which have Adam's moments, by name."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer_state(optimizer, found)
    muon = {name for name, of in state.items() if set(of) == {"momentum_buffer"}}
    assert all(set(of) == {"step", "exp_avg", "exp_avg_sq"} for name, of in state.items() if name not in muon)
    return muon, set(state) - muon


@pytest.mark.parametrize("name", MODELS)
def test_matrices_of_layers_go_to_muon_and_all_else_to_adamw(name):
    make, matrices, others = MODELS[name]
    model = make(dtype=torch.float32)
    found = objective(policy=model)
    muon, adamw = parts(found, make_optimizer(found, MUON))
    shapes = {f"policy.{name}": p.ndim for name, p in model.named_parameters()}
    assert muon | adamw == set(shapes)
    assert all(shapes[name] == 2 for name in muon)
    layered = {name for name, dim in shapes.items() if dim == 2 and any(part.isdigit() for part in name.split("."))}
    assert muon == layered
    for part, names in ((matrices, muon), (others, adamw)):
        assert all(any(wanted in one for one in names) for wanted in part)
    assert not any(wanted in one for one in muon for wanted in others)


def test_an_embedding_in_a_layer_is_no_matrix_of_it():
    model = nn.Module()
    model.layers = nn.ModuleList([nn.ModuleDict({"bias": nn.Embedding(4, 2), "out": nn.Linear(2, 2, bias=False)})])
    found = objective(policy=model)
    assert parts(found, make_optimizer(found, MUON)) == (
        {"policy.layers.0.out.weight"},
        {"policy.layers.0.bias.weight"},
    )


def test_groups_keep_their_learning_rates_and_stay_whole():
    """The trainer clips and schedules by the objective's groups, of which Muon makes no more."""
    policy, critic = Model(), Model()
    groups = [
        {"name": "policy", "params": list(policy.parameters())},
        {"name": "critic", "params": list(critic.parameters()), "learning_rate": 0.7},
    ]
    optimizer = make_optimizer(objective(*groups, policy=policy, critic=critic), MUON)
    assert [(g["name"], g["base_lr"], len(g["params"])) for g in optimizer.param_groups] == [
        ("policy", 0.1, 5),
        ("critic", 0.7, 5),
    ]
    before = [[p.clone() for p in model.parameters()] for model in (policy, critic)]
    for group, factor in zip(optimizer.param_groups, (0.0, 0.5), strict=True):
        group["lr"] = group["base_lr"] * factor  # as a schedule does
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before[0], policy.parameters(), strict=True))
    moved = {name: (a - b).abs() for (name, a), b in zip(critic.named_parameters(), before[1], strict=True)}
    assert all((of - 0.35).abs().max() < 1e-3 for name, of in moved.items() if name != "layers.0.weight")
    expected = 0.35 * 0.2 * math.sqrt(3) * newton_schulz([[1.0] * 3] * 2)[0][0]
    assert (moved["layers.0.weight"] - expected).abs().max() < 1e-3
    optimizer.zero_grad()
    assert all(p.grad is None for p in critic.parameters())


def lora(model):
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), model)
    return model


def head_alone(model):
    model.requires_grad_(False)
    model.score.weight.requires_grad_(True)
    return model


@pytest.mark.parametrize("make", [lambda: lora(tiny.llama()), lambda: head_alone(tiny.llama_scalar())])
def test_muon_without_a_matrix_to_train_is_refused(make):
    with pytest.raises(ConfigError, match="none of policy is trained; take adamw"):
        make_optimizer(objective(policy=make()), MUON)


def test_each_model_needs_a_matrix_of_its_own():
    with pytest.raises(ConfigError, match="none of critic is trained"):
        make_optimizer(objective(policy=tiny.llama(), critic=head_alone(tiny.llama_scalar())), MUON)


def test_muon_on_a_model_in_shards_is_refused():
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        model = fully_shard(Model(), mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(
            ConfigError, match="policy is shared out over processes; take adamw, or train in one process"
        ):
            make_optimizer(objective(policy=model), MUON)
    finally:
        distributed.destroy_process_group()


ADAPTED = {
    sft: {"policy": "base", "demonstrations": "rows.jsonl"},
    reward: {"model": "base", "preferences": "rows.jsonl"},
    dpo: {"policy": "base", "preferences": "rows.jsonl"},
    kto: {"policy": "base", "thumbs": "rows.jsonl"},
    ppo: {"policy": "base", "prompts": "rows.jsonl", "rewards": [{"by": "rewards:one"}]},
}


@pytest.mark.parametrize("method", ADAPTED, ids=lambda method: method.__name__.rpartition(".")[2])
def test_adapters_with_muon_are_refused_before_anything_is_read(method):
    settings = ADAPTED[method] | {"trainer": {"optimizer": "muon", "learning_rate": 1e-3}}
    assert load_config(method.Config, None, values=settings).trainer.optimizer == "muon"
    with pytest.raises(ConfigError, match="muon trains whole matrices, and lora trains none"):
        load_config(method.Config, None, values=settings | {"lora": {"r": 2}})


def test_a_head_alone_with_muon_is_refused_before_anything_is_read():
    settings = ADAPTED[reward] | {"trainer": {"optimizer": "muon"}, "freeze_backbone": True}
    with pytest.raises(ConfigError, match="and freeze_backbone trains none; take adamw"):
        load_config(reward.Config, None, values=settings)
