"""A LoRA run of every method: the base stays, the adapter lies beside the merged model, which loads as any other."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from baro.batch import Sample, branch
from baro.checkpoints import load_checkpoint
from baro.collate import collate
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import GuardStop
from baro.methods import dpo, kto, ppo, reward, sft
from baro.models.load import Architecture, load_policy, load_scalar_model, new_policy, save_policy
from baro.protocols import LocalWorld
from baro.rollout.engine import Engine
from baro.rollout.fresh import OldLogprobs

LORA = {"r": 4, "alpha": 8}
PPO = {
    "prompts": "pairs.jsonl",
    "rewards": [{"by": "test_adapters_reward:length"}],
    "rollout": {"prompts": 4, "epochs": 1, "minibatches": 2},
    "sampling": {"max_new_tokens": 8},
    "trainer": {"steps": 4, "learning_rate": 0.02},
}
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
    (tmp_path / "test_adapters_reward.py").write_text(
        "def length(completions, **_): return [len(c) for c in completions]\n"
    )
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
@pytest.mark.parametrize("method", [sft, dpo, kto, ppo], ids=lambda method: method.__name__)
def test_the_merged_model_is_the_base_with_the_adapter(method, world):
    base, pairs = str(world / "base"), str(world / "pairs.jsonl")
    settings = {
        sft: {"policy": base, "demonstrations": pairs},
        dpo: {"policy": base, "preferences": pairs},
        kto: {"policy": base, "thumbs": pairs},
        ppo: PPO | {"policy": base, "prompts": pairs},
    }[method]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        finished = run(method, world, **settings)
    plain = AutoModelForCausalLM.from_pretrained(base)
    merged = AutoModelForCausalLM.from_pretrained(finished.path / "model")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), finished.path / "adapter")
    assert difference(merged, plain) > 1e-3
    assert difference(merged, adapted) < 1e-4
    assert load_policy(finished.path / "model").layout == "shared"


@pytest.mark.parametrize(("method", "records"), [(dpo, "preferences"), (kto, "thumbs")])
def test_the_reference_is_the_policy_without_its_adapters(method, records, world):
    """The first step's log-ratios are 0, and later ones are taken against the base."""
    finished = run(method, world, **{"policy": str(world / "base"), records: str(world / "pairs.jsonl")})
    rows = [json.loads(line) for line in (finished.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    assert rows[-1]["rewards/margins"] > 0


def numbers(state):
    """How many numbers a nested state's tensors hold."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    return sum(numbers(value) for value in state.values()) if isinstance(state, dict) else 0


KEEP = {"held_out_fraction": 0.3, "keep": "best", "evaluate_every": 1}


@pytest.mark.parametrize(
    ("method", "settings", "lora"),
    [
        (sft, {"demonstrations": "pairs.jsonl", "trainer": SMALL | KEEP}, LORA),
        (dpo, {"preferences": "pairs.jsonl", "trainer": SMALL | KEEP}, LORA),
        (reward, {"preferences": "pairs.jsonl", "trainer": SMALL | KEEP}, LORA),
        (reward, {"preferences": "pairs.jsonl", "trainer": SMALL | KEEP, "head": "ffn"}, LORA),
        (reward, {"preferences": "pairs.jsonl", "trainer": SMALL | KEEP, "freeze_backbone": True}, None),
        (ppo, PPO, LORA),
    ],
    ids=["sft", "dpo", "reward", "reward-ffn", "reward-frozen", "ppo"],
)
def test_a_checkpoint_holds_what_is_trained_and_no_more(method, settings, lora, world, monkeypatch):
    """The frozen base is an input of the run: a checkpoint, and the best weights so far, hold no number of it."""
    monkeypatch.chdir(world)
    finished = run(method, world, lora, **{"model" if method is reward else "policy": "base"}, **settings)
    _, state = load_checkpoint(finished)
    assert set(state["modules"]) == ({"trunk"} if method is ppo else set(state["modules"]))
    trained = 0
    for name, module in state["modules"].items():
        assert module.keys() >= {"score_bias"}
        parameters = {key: tensor for key, tensor in module.items() if key != "score_bias"}
        assert all("lora_" in key or "score" in key or "head" in key for key in parameters), name
        trained += numbers(parameters)
    adam = {key: {n: v for n, v in of.items() if n != "step"} for key, of in state["optimizer"].items()}
    assert numbers(adam) == 2 * trained
    assert len(state["optimizer"]) == sum(len(module) - 1 for module in state["modules"].values())
    if method is not ppo:
        assert numbers(state["best"]["modules"]) == trained + 1  # and the bias of scores
    whole = sum(p.numel() for p in load_policy(world / "base").parameters())
    assert trained < 0.5 * whole


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21 calls it
def test_a_reward_models_adapter_is_peft_s_with_its_head(world):
    finished = run(reward, world, model=str(world / "base"), preferences=str(world / "pairs.jsonl"))
    model = AutoModelForSequenceClassification.from_pretrained(finished.path / "model")
    assert not any("lora" in name for name, _ in model.named_parameters())
    base = AutoModelForSequenceClassification.from_pretrained(world / "base", num_labels=1)
    adapter = PeftModel.from_pretrained(base, finished.path / "adapter").eval()
    ours = load_scalar_model(finished.path / "model")
    ids = torch.tensor([[3, 50, 60, 70, 80, 90]])
    sample = Sample(ids[0, :3], (branch(ids[0, 3:].tolist()),))
    (batch,) = collate([sample], micro_batch_tokens=1000, hidden_size=16)
    with torch.no_grad():
        score = float(ours(batch, ["scores"]).scores - ours.score_bias)
        assert float(adapter(input_ids=ids).logits) == pytest.approx(score, abs=1e-5)
        assert float(model(input_ids=ids).logits) == pytest.approx(score, abs=1e-5)
    assert abs(score) > 1e-3


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_head_of_our_own_lies_beside_the_adapter(world):
    finished = run(reward, world, model=str(world / "base"), preferences=str(world / "pairs.jsonl"), head="ffn")
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(world / "base"), finished.path / "adapter").eval()
    ours = load_scalar_model(finished.path / "model")
    ids = torch.tensor([[3, 50, 60, 70, 80, 90]])
    with torch.no_grad():
        states = theirs(input_ids=ids).last_hidden_state
        torch.testing.assert_close(states, ours.trunk(input_ids=ids).last_hidden_state, atol=1e-5, rtol=1e-4)
    head = load_file(finished.path / "adapter" / "reward_head.safetensors")
    assert all(torch.equal(head[name], tensor) for name, tensor in ours.extra_head.state_dict().items())


def test_ppo_s_value_model_learns_by_adapters_too(world, monkeypatch):
    monkeypatch.chdir(world)
    finished = run(ppo, world, policy="base", **PPO)
    start = AutoModelForSequenceClassification.from_pretrained(world / "base", num_labels=1)
    value = AutoModelForSequenceClassification.from_pretrained(finished.path / "value_model")
    changed = {n for n, p in value.named_parameters() if not torch.equal(p, dict(start.named_parameters())[n])}
    assert "model.embed_tokens.weight" not in changed
    assert not any("norm" in name for name in changed)
    assert {"score.weight", "model.layers.0.self_attn.q_proj.weight"} <= changed  # merged into it


def test_bf16_old_logprobs_are_the_training_forwards(world):
    """On a CPU only to test: the sampler's log-probs are replaced, or the run stops where they are far off."""
    policy = load_policy(world / "base")
    policy.autocast_dtype = torch.bfloat16
    old = OldLogprobs(policy, Engine(policy, end_ids=frozenset()), micro_batch_tokens=8192)
    assert not old.sampler.exact
    drawn = branch([5, 6, 7])
    now = old._forward([Sample(torch.tensor([1, 2]), (drawn,))], LocalWorld())
    for shift, allowed in ((0.01, True), (5.0, False)):
        one = drawn.with_(token_fields={"old_logprobs": now + shift})
        sample = Sample(torch.tensor([1, 2]), (one,))
        if allowed:
            (found,) = old([sample], LocalWorld())
            assert torch.equal(found.completions[0].token_fields["old_logprobs"], now)
        else:
            with pytest.raises(GuardStop, match=r"limit 0.01\); set compute.dtype: float32"):
                old([sample], LocalWorld())
