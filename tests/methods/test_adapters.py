"""A LoRA run of every method: the base stays, the adapter lies beside the merged model, which loads as any other."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from baro.batch import Sample, branch
from baro.checkpoints import load_checkpoint
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import GuardStop
from baro.methods import dpo, ppo, reward, sft
from baro.models.load import Architecture, load_policy, new_policy, save_policy
from baro.protocols import LocalWorld

LORA = {"r": 4, "alpha": 8}
SMALL = {"batch_size": 4, "steps": 3, "learning_rate": 0.02}
WORDS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]


@pytest.fixture
def world(tmp_path):
    """A base model and a file of pairs."""
    rows = [{"prompt": f"like {one}?", "chosen": f"yes {one}", "rejected": f"no {one}"} for one in WORDS]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer([" ".join(row.values()) for row in rows], 300), "plain")
    shape = Architecture(hidden_size=16, layers=2, heads=2, max_positions=128, intermediate_size=24)
    policy = new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0)
    save_policy(policy, tmp_path / "base")
    template.save(tmp_path / "base")
    return tmp_path


def run(method, world, lora=LORA, **settings):
    values = {"trainer": SMALL, "data": {"max_length": 64}} | settings
    values |= {"lora": lora} if lora else {}
    return method.run(method.Config(**values), world / f"{method.__name__.rpartition('.')[2]}-run")


@torch.no_grad()
def difference(one, other):
    ids = torch.tensor([[1, 50, 60, 70, 80, 90]])
    return float((one(input_ids=ids).logits - other(input_ids=ids).logits).abs().max())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21 calls it
@pytest.mark.parametrize("method", [sft, dpo, ppo], ids=lambda method: method.__name__)
def test_the_merged_model_is_the_base_with_the_adapter(method, world):
    base, pairs = str(world / "base"), str(world / "pairs.jsonl")
    settings = {
        sft: {"policy": base, "demonstrations": pairs},
        dpo: {"policy": base, "preferences": pairs},
        ppo: {
            "policy": base,
            "prompts": pairs,
            "rewards": [{"by": "test_adapters_reward:length"}],
            "rollout": {"prompts": 4, "epochs": 1, "minibatches": 2},
            "sampling": {"max_new_tokens": 8},
            "trainer": {"steps": 4, "learning_rate": 0.02},
        },
    }[method]
    (world / "test_adapters_reward.py").write_text(
        "def length(completions, **_): return [len(c) for c in completions]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        finished = run(method, world, **settings)
    plain = AutoModelForCausalLM.from_pretrained(base)
    merged = AutoModelForCausalLM.from_pretrained(finished.path / "model")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), finished.path / "adapter")
    assert difference(merged, plain) > 1e-3
    assert difference(merged, adapted) < 1e-4
    assert load_policy(finished.path / "model").layout == "shared"


def test_dpo_s_reference_is_the_policy_without_its_adapters(world):
    """The first step's log-ratios are 0, and later ones are taken against the base."""
    finished = run(dpo, world, policy=str(world / "base"), preferences=str(world / "pairs.jsonl"))
    rows = [json.loads(line) for line in (finished.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    assert rows[-1]["rewards/margins"] > 0


def test_a_checkpoint_of_adapters_has_the_base_as_it_was(world):
    finished = run(sft, world, policy=str(world / "base"), demonstrations=str(world / "pairs.jsonl"))
    _, state = load_checkpoint(finished)
    base = load_policy(world / "base").state_dict()
    kept = {n.replace(".base_layer.", "."): t for n, t in state["modules"]["policy"].items() if ".lora_" not in n}
    assert all(torch.equal(tensor, base[name]) for name, tensor in kept.items())
    assert any(".lora_" in name for name in state["optimizer"])
    assert all(".lora_" in name for name in state["optimizer"])


def test_a_reward_model_learns_by_adapters_and_its_head(world):
    finished = run(reward, world, model=str(world / "base"), preferences=str(world / "pairs.jsonl"))
    assert (finished.path / "adapter" / "adapter_model.safetensors").exists()
    model = AutoModelForSequenceClassification.from_pretrained(finished.path / "model")
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_bf16_old_logprobs_are_the_training_forwards(world):
    """On a CPU only to test: the sampler's log-probs are replaced, or the run stops where they are far off."""
    policy = load_policy(world / "base")
    policy.autocast_dtype = torch.bfloat16
    prepare = ppo.Prepare(policy, policy, policy, ppo.Config(policy="-", prompts="-", reward_model="-"))
    drawn = branch([5, 6, 7])
    now = prepare._forward(policy, [Sample(torch.tensor([1, 2]), (drawn,))], "logprobs", LocalWorld())
    for shift, allowed in ((0.01, True), (5.0, False)):
        one = drawn.with_(token_fields={"old_logprobs": now + shift})
        sample = Sample(torch.tensor([1, 2]), (one,))
        if allowed:
            (found,) = prepare.recomputed([sample], LocalWorld())
            assert torch.equal(found.completions[0].token_fields["old_logprobs"], now)
        else:
            with pytest.raises(GuardStop, match=r"limit 0.01 in bf16\); set compute.dtype: float32"):
                prepare.recomputed([sample], LocalWorld())
