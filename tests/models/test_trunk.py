"""Roles on one backbone: each trained tensor gets the gradient that it would get alone; scores are those of apart."""

import logging

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from toys import random_samples
from transformers import AutoModelForSequenceClassification

from baro.batch import with_flat
from baro.collate import collate
from baro.compute import LoraConfig
from baro.errors import ConfigError
from baro.methods import ppo
from baro.models import roles
from baro.models.forward import ScoredModel
from baro.models.heads import Scoring
from baro.models.load import (
    load_policy,
    load_scalar_model,
    load_value_model,
    new_scalar_model,
    save_policy,
    save_scalar_model,
    write_head,
)
from baro.models.lora import add_adapter, save_adapter
from baro.models.place import hold_frozen
from baro.models.roles import InRole, adapter_of, modules_of, role, trained
from baro.models.trunk import SavedRole, frozen_role, new_value_role, value_role

LORA = LoraConfig(r=4, alpha=8)
SAMPLES = random_samples(0, 8, 2)
(BATCH,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16)
TOTALS = {"tokens": float(len(BATCH.targets))}


@pytest.fixture
def folder(tmp_path):
    tiny.architecture("llama", torch.float32).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def shaken(scored: ScoredModel, seed: int = 1) -> ScoredModel:
    """The same model, its adapters no longer zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in scored.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return scored


def saved_reward(folder, path, **options):
    """What a LoRA run of `baro reward` leaves: adapter with its head, and model/; and the model itself."""
    model = new_scalar_model(folder, seed=3, **options)
    add_adapter(model, LORA, seed=3, role="reward_model")
    shaken(model)
    with torch.no_grad():
        model.score_bias += 0.25
    for name in ("adapter", "model"):
        (path / name).mkdir(parents=True)
    save_adapter(model, path / "adapter")
    save_scalar_model(model, path / "model")
    return SavedRole(path / "adapter", path / "model"), model


@torch.no_grad()
def outputs(scored, name):
    return getattr(scored(BATCH, [name]), name)


# ------------------------------------------------------------------------------------------------------- gradients


def objective_on_one_trunk(folder, **changes):
    """Policy and value model as adapters of one backbone, with a frozen reward role beside them."""
    policy = load_policy(folder, lora=LORA)
    value_model = new_value_role(policy, LORA, seed=0)
    shaken(policy)
    config = ppo.Config(policy="-", prompts="-", rewards=[{"by": "a:b"}], lora=LORA, **changes)
    return ppo.Objective(policy, value_model, config)


def objective_apart(folder, shared):
    """The same adapters and heads, each on a backbone of its own."""
    policy, value_model = load_policy(folder, lora=LORA), new_scalar_model(folder, seed=0, role="value_model")
    add_adapter(value_model, LORA, seed=0, role="value_model")
    weights = dict(shared.policy.named_parameters())
    with torch.no_grad():
        for scored in (policy, value_model):
            for name, parameter in scored.named_parameters():
                if ".lora_" in name:
                    parameter.copy_(weights[name])
        value_model.model.score.weight.copy_(weights["heads.value_model.weight"])
    return ppo.Objective(policy, value_model, shared.config)


def batch_of_ppo():
    """A batch with the fields of a rollout; its log-probs are another policy's, so that ratios are not 1."""
    torch.manual_seed(4)
    count = sum(one.scored_tokens for sample in SAMPLES for one in sample.completions)
    fields = {name: torch.randn(count) for name in ("advantages", "returns", "values")}
    samples = with_flat(SAMPLES, fields | {"old_logprobs": -2.0 + 0.1 * torch.randn(count)})
    samples = [
        s.with_completions([one.with_(fields={"rollout": 0.0, "score": 1.0}) for one in s.completions]) for s in samples
    ]
    (batch,) = collate(samples, micro_batch_tokens=10**6, hidden_size=16)
    return batch


def gradients(objective):
    """What the trainer would step by: each loss is backwarded before the next is computed."""
    for module in objective.modules().values():
        module.zero_grad(set_to_none=True)
        module.train()
    losses, before = [], flags(objective)
    for output in objective.losses(batch_of_ppo(), TOTALS):
        assert flags(objective) == before, "a role turned requires_grad of another one off"
        output.loss.backward()
        losses.append(float(output.loss.detach()))
    assert flags(objective) == before, "a role turned requires_grad of another one off"
    return losses, {name: parameter.grad for name, parameter in parameters(objective) if name in before}


def parameters(objective):
    """By the names that they have on one trunk."""
    for module in objective.modules().values():
        for name, parameter in module.named_parameters():
            yield name.replace("model.score.", "heads.value_model."), parameter


def flags(objective):
    """The names of what is trained, or has a gradient: those of each step, of checkpoints and of the optimizer."""
    return {name for name, parameter in parameters(objective) if parameter.requires_grad or parameter.grad is not None}


def check_gradients(folder):
    shared = objective_on_one_trunk(folder)
    outputs(InRole(shared.policy, None), "logprobs")
    outputs(shared.critics["value_model"], "values")  # as each rollout is prepared
    losses, found = gradients(shared)
    expected_losses, expected = gradients(objective_apart(folder, shared))
    assert losses == pytest.approx(expected_losses, abs=1e-6)
    assert found.keys() == expected.keys()
    assert {name.split(".")[-2] for name in found if ".lora_" in name} == {"policy", "value_model"}
    for name, gradient in expected.items():
        assert found[name] is not None, f"{name} received no gradient"
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
        assert gradient.abs().max() > 1e-6, name


def test_every_trained_tensor_of_two_roles_receives_its_own_gradient(folder):
    """Those of both adapters and of the head, each as it would be on a backbone of its own: nothing leaks."""
    check_gradients(folder)


def test_it_would_be_seen_if_requires_grad_were_not_restored(folder, monkeypatch):
    monkeypatch.setattr(roles, "_restore", lambda flags: None)
    with pytest.raises(AssertionError):
        check_gradients(folder)


@pytest.mark.parametrize("of", ["policy", "value_model"])
def test_a_loss_of_one_role_leaves_the_other_alone(folder, of):
    objective = objective_on_one_trunk(folder)
    scored = {"policy": objective.policy, "value_model": objective.critics["value_model"]}[of]
    with scored.in_role():
        found = scored(BATCH, ["logprobs" if of == "policy" else "values"])
        (found.logprobs if of == "policy" else found.values).sum().backward()
    mine = {id(p) for p in trained(scored)}
    for name, parameter in objective.policy.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in mine), name


def checkpointed(objective):
    objective.policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    return objective


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_checkpointing_computes_each_role_again_as_itself(folder):
    """The forward is taken a second time within the backward pass: in the role that the objective still holds."""
    losses, expected = gradients(objective_on_one_trunk(folder))
    again, found = gradients(checkpointed(objective_on_one_trunk(folder)))
    assert again == losses
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_it_would_be_seen_if_a_role_were_left_before_its_backward_pass(folder, monkeypatch):
    _, expected = gradients(objective_on_one_trunk(folder))
    objective = checkpointed(objective_on_one_trunk(folder))
    outputs_of_both = objective.losses
    monkeypatch.setattr(objective, "losses", lambda batch, totals: list(outputs_of_both(batch, totals)))
    try:
        _, found = gradients(objective)
    except (RuntimeError, ValueError):  # torch notices that other tensors were saved
        return
    assert any(found[name] is None or not torch.allclose(found[name], one) for name, one in expected.items())


# --------------------------------------------------------------------------------------------- who owns what, and when


def test_roles_are_trained_by_name_and_the_trunk_is_saved_once(folder, tmp_path):
    objective = objective_on_one_trunk(folder)
    saved, _ = saved_reward(folder, tmp_path / "reward")
    reward = frozen_role(objective.policy, saved, "reward_model")
    assert list(objective.modules()) == ["trunk"]
    assert objective.modules()["trunk"] is objective.policy
    names = {id(p): name for name, p in objective.policy.named_parameters()}
    policy, value = ([names[id(p)] for p in group["params"]] for group in objective.parameter_groups())
    assert all(".policy." in name for name in policy)
    assert all(".value_model." in name for name in value)
    assert sum("heads" in name for name in value) == 1
    assert len(policy) == len(value) - 1 == 2 * 7 * 2
    assert not trained(reward)
    assert {name for name, p in objective.policy.named_parameters() if p.requires_grad} == {*policy, *value}
    assert [adapter_of(one) for one in (objective.policy, objective.critics["value_model"], reward)] == [
        "policy", "value_model", "reward_model",
    ]  # fmt: skip


def test_models_apart_are_modules_apart(folder):
    policy, other = load_policy(folder), load_policy(folder)
    assert modules_of(policy=policy, value_model=other) == {"policy": policy, "value_model": other}
    assert trained(policy) == list(policy.parameters())


def test_a_new_role_leaves_the_others_as_they_were(folder, tmp_path):
    policy = shaken(load_policy(folder, lora=LORA))
    before, reference = outputs(policy, "logprobs"), outputs(load_policy(folder), "logprobs")
    saved, _ = saved_reward(folder, tmp_path / "reward")
    new_value_role(policy, LORA, seed=0)
    frozen_role(policy, saved, "reward_model")
    assert torch.equal(outputs(policy, "logprobs"), before)
    assert torch.equal(outputs(InRole(policy, None), "logprobs"), reference)
    with role(policy, "value_model"):
        assert torch.equal(outputs(policy, "logprobs"), reference)  # it starts as nothing
    assert torch.equal(outputs(policy, "logprobs"), before)


# ------------------------------------------------------------------------------------------------------ as if apart


@pytest.mark.parametrize("options", [{}, {"head": "ffn"}], ids=["linear", "ffn"])
def test_a_reward_role_scores_as_its_merged_model(folder, tmp_path, options):
    """The adapter was saved from a sequence-classification model, or a bare trunk; it is put on a language model."""
    saved, made = saved_reward(folder, tmp_path / "reward", **options)
    on_trunk = frozen_role(load_policy(folder, lora=LORA), saved, "reward_model")
    assert torch.equal(outputs(on_trunk, "scores"), outputs(made, "scores"))
    merged = load_scalar_model(tmp_path / "reward" / "model")
    torch.testing.assert_close(outputs(on_trunk, "scores"), outputs(merged, "scores"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_values_start_where_the_reward_model_is(folder, tmp_path, pooling):
    saved, _ = saved_reward(folder, tmp_path / "reward", scoring=Scoring(pooling))
    values = value_role(load_policy(folder, lora=LORA), saved, seed=0)
    apart = load_value_model(tmp_path / "reward" / "model", seed=0)
    torch.testing.assert_close(outputs(values, "values"), outputs(apart, "values"), atol=1e-5, rtol=1e-5)
    assert len(trained(values)) == 2 * 7 * 2 + len(list(apart.scalar_head.parameters()))


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma2", "granite"])
def test_a_value_role_is_saved_as_a_model_of_its_own(name, tmp_path, caplog):
    """With transformers' own head where it has a class for it (not for Granite); the policy is not in it."""
    tiny.architecture(name, torch.float32).save_pretrained(tmp_path / "base")
    policy = load_policy(tmp_path / "base", lora=LORA)
    values = new_value_role(policy, LORA, seed=0)
    shaken(policy)
    before = {key: p.clone() for key, p in policy.named_parameters()}
    with caplog.at_level(logging.INFO, "baro"):
        save_scalar_model(values, tmp_path / "value_model")
    assert all(torch.equal(p, before[key]) for key, p in policy.named_parameters())
    again = load_scalar_model(tmp_path / "value_model")
    torch.testing.assert_close(outputs(again, "values"), outputs(values, "values"), atol=1e-4, rtol=1e-4)
    assert not any(".lora_" in key for key in again.state_dict())
    if name == "llama":
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "value_model")
        assert torch.equal(plain.score.weight, values.scalar_head.weight)


# -------------------------------------------------------------------------------------------- what frozen weights are


def held(folder):
    policy = load_policy(folder, lora=LORA)
    policy.autocast_dtype = torch.bfloat16  # on a CPU only to test
    return policy


def test_the_frozen_base_is_held_in_the_type_of_its_products_and_no_bit_changes(folder, tmp_path):
    saved, made = saved_reward(folder, tmp_path / "reward")
    policy = held(folder)
    values = new_value_role(policy, LORA, seed=0)
    expected = [outputs(policy, "logprobs"), outputs(values, "values")]
    hold_frozen(policy)
    assert all(
        torch.equal(found, one)
        for found, one in zip([outputs(policy, "logprobs"), outputs(values, "values")], expected, strict=True)
    )
    kinds = {
        name: parameter.dtype
        for name, parameter in policy.named_parameters()
        if "layers.0.self_attn.q_proj" in name or "embed" in name or "norm" in name or "heads" in name
    }
    assert {dtype for name, dtype in kinds.items() if "base_layer" in name} == {torch.bfloat16}
    assert {dtype for name, dtype in kinds.items() if "base_layer" not in name} == {torch.float32}
    reward = frozen_role(policy, saved, "reward_model")  # put onto a base that is held so already
    tensors = {k: v for k, v in policy.named_parameters() if ".reward_model." in k}
    for name, parameter in made.named_parameters():
        if ".lora_" in name:
            assert torch.equal(parameter, tensors[name]), name
    made.autocast_dtype = torch.bfloat16
    assert torch.equal(outputs(reward, "scores"), outputs(made, "scores"))


def test_what_is_merged_from_a_held_base_is_fp32_and_the_base_is_as_before(folder, tmp_path):
    policy = shaken(held(folder))
    values = new_value_role(policy, LORA, seed=0)
    hold_frozen(policy)
    before = {name: p.clone() for name, p in policy.named_parameters()}
    save_policy(policy, tmp_path / "model")
    save_scalar_model(values, tmp_path / "value_model")
    for name, parameter in policy.named_parameters():
        assert parameter.dtype == before[name].dtype, name
        assert torch.equal(parameter, before[name]), name
    for model in ("model", "value_model"):
        tensors = load_file(tmp_path / model / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    name = "model.layers.0.self_attn.q_proj"
    delta = before[f"model.{name}.lora_B.policy.weight"] @ before[f"model.{name}.lora_A.policy.weight"]
    expected = before[f"model.{name}.base_layer.weight"].float() + 2.0 * delta  # alpha / r
    torch.testing.assert_close(load_file(tmp_path / "model" / "model.safetensors")[f"{name}.weight"], expected)


# ------------------------------------------------------------------------------------------------------ what is wrong


def damaged(kind, saved, folder, tmp_path):
    """An adapter that does not fit, and the model that it is put on."""
    weights = saved.adapter / "adapter_model.safetensors"
    if kind == "missing":
        weights.unlink()
    elif kind == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    elif kind == "lacking":
        tensors = load_file(weights)
        tensors.pop(next(name for name in tensors if "lora_A" in name))
        save_file(tensors, weights)
    elif kind == "wider":
        tiny.llama(dtype=torch.float32, hidden_size=32).save_pretrained(tmp_path / "other")
        return tmp_path / "other"
    elif kind == "another architecture":
        tiny.architecture("gpt2", torch.float32).save_pretrained(tmp_path / "other")
        return tmp_path / "other"
    return folder


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", r"adapter_model.safetensors: is missing; copy the run again$"),
        ("cut", r"adapter: the adapter cannot be read \(.*\); copy the run again$"),
        ("lacking", r"adapter: its adapter lacks .*lora_A.reward_model.weight; copy the run again$"),
        ("wider", r"adapter: its adapter does not fit .*other: .* is \(16, 4\) and has \(32, 4\); it was"),
        ("another architecture", r"adapter: its adapter does not fit .*other \(.*\); it was trained on another base$"),
    ],
)
def test_an_adapter_that_does_not_fit_is_one_sentence(folder, tmp_path, kind, sentence):
    saved, made = saved_reward(folder, tmp_path / "reward")
    write_head(made, saved.adapter, own_head=False)
    policy = load_policy(damaged(kind, saved, folder, tmp_path))
    with pytest.raises(ConfigError, match=sentence) as said:
        frozen_role(policy, saved, "reward_model")
    assert "\n" not in str(said.value)
