"""PPO on one backbone: the same run as with LoRA models apart, saved by role, and what may stand on the trunk."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from baro import trainer
from baro.checkpoints import load_checkpoint
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError, RunError
from baro.inputs import hash_input, obstacle_to_trunk
from baro.methods import critic, ppo, reward
from baro.models.load import Architecture, load_policy, load_scalar_model, load_value_model, new_policy, save_policy
from baro.models.members import member_folder
from baro.models.roles import InRole
from baro.models.trunk import Trunk
from baro.records import Message, Rollout, said
from baro.scorers import load_reward

LORA = {"r": 4, "alpha": 8}
SMALL = {"batch_size": 4, "steps": 3, "learning_rate": 0.02}
WORDS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]
PPO = {
    "prompts": "pairs.jsonl",
    "rollout": {"prompts": 4, "completions": 2, "epochs": 1, "minibatches": 2},
    "sampling": {"max_new_tokens": 8},
    "trainer": {"steps": 6, "learning_rate": 0.01, "checkpoint_every": 2},
    "accept_weak_reward_model": True,
    "data": {"max_length": 64},
    "lora": LORA,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two base models, pairs, and reward runs: an adapter of each base, a whole model, and an ensemble of adapters."""
    folder = tmp_path_factory.mktemp("trunk")
    rows = [{"prompt": f"like {one}?", "chosen": f"yes {one}", "rejected": f"no {one}"} for one in WORDS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test_trunk_reward.py").write_text(
        "def length(completions, **_): return [0.1 * len(c) for c in completions]\n"
    )
    template = Template(train_tokenizer([" ".join(row.values()) for row in rows], 300), "plain")
    shape = Architecture(hidden_size=16, layers=2, heads=2, max_positions=128, intermediate_size=24)
    for seed, name in enumerate(("base", "other")):
        policy = new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=seed)
        save_policy(policy, folder / name)
        template.save(folder / name)
    runs = {
        "adapter": {"lora": LORA},
        "of_other": {"lora": LORA, "model": str(folder / "other")},
        "whole": {},
        "pooled": {"lora": LORA, "pooling": "mean", "head": "ffn"},
        "ensemble": {"lora": LORA, "members": 2},
    }
    for name, changes in runs.items():
        values = {"model": str(folder / "base"), "preferences": str(folder / "pairs.jsonl"), "trainer": SMALL}
        reward.run(reward.Config(**(values | {"data": {"max_length": 64}} | changes)), folder / name)
    return folder


@pytest.fixture
def world(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def run(out, **changes):
    return ppo.run(ppo.Config(**(PPO | {"policy": "base", "reward_model": "adapter"} | changes)), out)


def two_terms(*by):
    """Rewards of which none is the only one, so that values start at the policy."""
    return {"reward_model": None, "rewards": [{"by": one} for one in (*by, "test_trunk_reward:length")]}


def rows_of(finished):
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in finished.metrics.read()]


def assert_alike(found, expected, within):
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in other.items():
            assert row[name] == pytest.approx(value, abs=within, rel=within), (row["step"], name)


# ------------------------------------------------------------------------------------------------- the same run


def test_a_run_on_one_trunk_has_the_losses_of_models_apart(world, tmp_path):
    """From the same seed both start from the same adapters and heads; the reward is a function."""
    shared = run(tmp_path / "shared", reward_model="test_trunk_reward:length")
    apart = run(tmp_path / "apart", reward_model="test_trunk_reward:length", shared_trunk=False)
    assert len(rows_of(shared)) == 6
    assert_alike(rows_of(shared), rows_of(apart), 1e-6)
    for model in ("model", "value_model"):
        found, expected = (load_file(one.path / model / "model.safetensors") for one in (shared, apart))
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("by", ["adapter", "pooled", "ensemble"])
def test_its_rewards_are_those_of_the_merged_models(by, world, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "baro"):
        shared = run(tmp_path / "shared", **two_terms(by))
    assert f"{by}: stands on the policy's backbone, as the adapter that it was trained as" in caplog.messages
    apart = run(tmp_path / "apart", **two_terms(by), shared_trunk=False)
    assert_alike(rows_of(shared)[:2], rows_of(apart)[:2], 1e-5)  # of the first rollout: merging rounds


def test_gradient_checkpointing_changes_nothing(world, tmp_path):
    plain = run(tmp_path / "plain")
    checkpointed = run(tmp_path / "checkpointed", compute={"gradient_checkpointing": True})
    assert rows_of(checkpointed) == rows_of(plain)


# ------------------------------------------------------------------------------------------------ saved and resumed


def test_what_is_saved_is_by_role_and_a_checkpoint_holds_what_is_trained(world, tmp_path):
    finished = run(tmp_path / "run")
    _, state = load_checkpoint(finished)
    assert list(state["modules"]) == ["trunk"]
    names = [name for name in state["modules"]["trunk"] if name != "score_bias"]
    assert {name.split(".")[-2] for name in names} == {"policy", "value_model"}  # nothing of reward_model
    assert len(state["optimizer"]) == len(names) == 2 * 2 * 2 * 7 + 1
    assert AutoModelForSequenceClassification.from_pretrained(finished.path / "value_model").num_labels == 1
    start = load_scalar_model("adapter/model")
    values, merged = load_value_model(finished.path / "value_model", seed=0), load_policy(finished.model)
    assert float(values.score_bias) == float(start.score_bias)
    assert not torch.equal(values.scalar_head.weight, start.scalar_head.weight)
    settings = json.loads((finished.path / "adapter" / "adapter_config.json").read_bytes())
    assert (settings["r"], settings["task_type"]) == (4, "CAUSAL_LM")
    tensors = load_file(finished.path / "adapter" / "adapter_model.safetensors")
    base = load_policy("base").state_dict()
    for name, tensor in merged.state_dict().items():
        key = f"base_model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            delta = 2.0 * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
            torch.testing.assert_close(tensor, base[name] + delta, atol=1e-6, rtol=1e-5)
        elif name != "score_bias":
            assert torch.equal(tensor, base[name]), name


def test_stopped_and_resumed_it_is_bit_equal(world, tmp_path, monkeypatch):
    """Killed runs are in tests/faults; here a run that was left after each of its steps."""
    whole = run(tmp_path / "whole")

    class Left(Exception):
        pass

    log, steps = trainer.Trainer._checkpoint, []

    def leave(self, before=None):
        log(self, before)
        if self.step and self.step not in steps:
            steps.append(self.step)
            raise Left

    monkeypatch.setattr(trainer.Trainer, "_checkpoint", leave)
    for _ in range(3):
        with pytest.raises(Left):
            run(tmp_path / "again")
    again = run(tmp_path / "again")
    assert steps == [2, 4, 6]
    assert rows_of(again) == rows_of(whole)
    for file in ("model/model.safetensors", "value_model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (again.path / file).read_bytes() == (whole.path / file).read_bytes()


# ----------------------------------------------------------------------------------------- what may stand on the trunk


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("adapter", ""),
        ("adapter/model", ""),
        ("pooled", ""),
        ("ensemble", ""),
        ("whole", "it has no adapter: it was trained without lora"),
        ("of_other", "its adapter was trained on another base"),
        ("base", "it is no run of `baro reward` or `baro cost`, which would say on which base it was trained"),
    ],
)
def test_an_adapter_of_the_same_base_stands_on_the_trunk_and_nothing_else(value, reason, world):
    assert obstacle_to_trunk(value, hash_input("base", "model")).startswith(reason)
    assert bool(obstacle_to_trunk(value, hash_input("base", "model"))) == bool(reason)


def test_the_base_is_known_by_its_content(world, tmp_path):
    """Not by its name: a copy is the same base, and a changed one is another."""
    copy = shutil.copytree("base", tmp_path / "copy")
    assert obstacle_to_trunk("adapter", hash_input(str(copy), "model")) == ""
    (copy / "generation_config.json").write_text("{}")
    assert obstacle_to_trunk("adapter", hash_input(str(copy), "model")).startswith("its adapter was trained on another")


@pytest.mark.parametrize("by", ["whole", "of_other"])
def test_a_reward_model_that_does_not_fit_is_its_own_and_that_is_said(by, world, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "baro"):
        shared = run(tmp_path / "shared", reward_model=by, trainer={"steps": 2, "learning_rate": 0.01})
    (said_of_it,) = [one for one in caplog.messages if one.startswith(f"{by}: is a model of its own beside")]
    assert {"whole": "it was trained without lora", "of_other": "another base"}[by] in said_of_it
    told = f"value_model starts new on the policy's backbone, not at {by}"
    assert any(one.startswith(told) for one in caplog.messages)
    assert all(row["loss/value"] > 0 for row in rows_of(shared))


def test_a_function_needs_no_word(world, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "baro"):
        run(tmp_path / "shared", reward_model="test_trunk_reward:length", trainer={"steps": 1})
    assert not any("backbone" in one for one in caplog.messages)


@pytest.mark.parametrize("value_model", ["whole", "of_other", "other"])
def test_a_value_model_that_cannot_stand_on_the_trunk_is_refused(value_model, world, tmp_path):
    with pytest.raises(
        ConfigError, match=rf"^value_model: {value_model} cannot stand on the policy's backbone, since it"
    ):
        run(tmp_path / "refused", value_model=value_model)
    config = ppo.Config(**(PPO | {"policy": "base", "reward_model": "adapter", "value_model": "whole"}))
    apart = config.model_copy(update={"shared_trunk": False})
    assert not isinstance(critic.value_model(apart, "whole", None, terms=apart.terms), InRole)


def test_shared_trunk_is_a_word_about_adapters():
    for value in (True, False):
        with pytest.raises(ValidationError, match="shared_trunk is about adapters on one backbone, and without lora"):
            ppo.Config(policy="p", prompts="x", reward_model="r", shared_trunk=value)


def test_every_adapter_of_a_trunk_has_a_name_of_its_own(world):
    """Two reward runs, an ensemble, and the same run once more, as an evaluation may name it."""
    policy = load_policy("base", lora=ppo.Config(**PPO, policy="p", reward_model="r").lora)
    trunk = Trunk(policy, hash_input("base", "model"))
    rollouts = [Rollout((Message("user", "like red?"),), said("yes red"))]
    for by in ("adapter", "pooled", "ensemble", "adapter"):
        (on_trunk,) = load_reward(by, trunk=trunk).score(rollouts)
        (apart,) = load_reward(by).score(rollouts)
        assert on_trunk.value == pytest.approx(apart.value, abs=1e-5), by
    assert sorted(policy.model.peft_config) == [
        "policy", "reward_model", "reward_model_2", "reward_model_3/0", "reward_model_3/1", "reward_model_4",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ what is read


def test_an_adapter_is_a_part_of_the_run_that_reads_it(world, tmp_path):
    """Of a reward model on the trunk adapter/ is read, and not the model/ beside it."""
    folder = tmp_path / "reward"
    shutil.copytree("adapter", folder)
    first = run(tmp_path / "run", reward_model=str(folder), trainer={"steps": 1})
    assert set(first.manifest["inputs"]) == {"policy", "prompts", "reward_model", "reward_model.adapter"}
    weights = folder / "adapter" / "adapter_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(RunError, match=r"reward_model.adapter"):
        run(tmp_path / "run", reward_model=str(folder), trainer={"steps": 1})
    apart = run(tmp_path / "apart", reward_model=str(folder), trainer={"steps": 1}, shared_trunk=False)
    assert set(apart.manifest["inputs"]) == {"policy", "prompts", "reward_model"}


@pytest.mark.parametrize("broken", ["adapter", "member"])
def test_a_damaged_adapter_is_one_sentence(broken, world, tmp_path):
    folder = tmp_path / "reward"
    shutil.copytree({"adapter": "adapter", "member": "ensemble"}[broken], folder)
    inside = folder / "adapter" if broken == "adapter" else member_folder(folder / "model", 1)
    (inside / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"adapter_model.safetensors: is missing; copy the run again$"):
        run(tmp_path / "run", **two_terms(str(folder)))


def test_without_its_backbone_an_ensemble_is_refused(world, tmp_path):
    shutil.copytree("ensemble", tmp_path / "reward")
    shutil.rmtree(tmp_path / "reward" / "model" / "backbone")
    with pytest.raises(ConfigError, match=r"backbone: is missing, and .*ensemble.json needs it; copy the run again"):
        run(tmp_path / "run", **two_terms(str(tmp_path / "reward")))


def test_without_its_base_a_policy_is_refused(world, tmp_path):
    with pytest.raises(ConfigError, match=r"^gone: no such file or folder"):
        run(tmp_path / "run", policy="gone")
    assert not Path(tmp_path / "run").exists()
