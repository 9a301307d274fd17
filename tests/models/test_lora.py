"""Adapters: nothing at the start, the only thing trained, off for the reference, merged into a plain folder."""

import logging

import pytest
import tiny
import torch
from peft import PeftModel
from toys import Method, file_source, random_samples
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from baro.checkpoints import pack_state, unpack_state
from baro.collate import collate
from baro.compute import LoraConfig
from baro.config import TrainerConfig
from baro.errors import ConfigError
from baro.models.load import load_policy, new_scalar_model, save_policy, save_scalar_model
from baro.models.lora import add_adapter, save_adapter
from baro.models.roles import InRole
from baro.protocols import LocalWorld, LossOutput
from baro.trainer import Trainer

LORA = LoraConfig(r=4, alpha=8)
SAMPLES = random_samples(0, 8, 2)
(BATCH,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16)


class Likelihood(Method):
    """The mean log-prob, negated."""

    def losses(self, batch, totals):
        yield LossOutput(-self.of["policy"](batch, ["logprobs"]).logprobs.sum() / totals["tokens"], {})


def adapted_and_trained(folder, **options):
    policy = load_policy(folder, lora=LORA, **options)
    source = file_source(SAMPLES, LocalWorld())
    Trainer(Likelihood(policy=policy), source, TrainerConfig(learning_rate=0.03, steps=6)).fit()
    return policy.eval()


@pytest.fixture(params=["llama", "gpt2", "gpt_neox", "gemma2"])
def folder(request, tmp_path):
    tiny.architecture(request.param, torch.float32).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def as_trained(policy):
    """transformers 5.17 gives Gemma 2 another attention than it was made with, unless told."""
    return {"attn_implementation": policy.model.config._attn_implementation}


def logprobs(model):
    with torch.no_grad():
        return model(BATCH, ["logprobs"]).logprobs


def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained(folder):
    plain, policy = load_policy(folder), load_policy(folder, lora=LORA)
    assert torch.equal(logprobs(policy), logprobs(plain))
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    # every linear layer of both blocks, not the head
    assert not any("lm_head" in name or "embed_out" in name for name in trained)


def test_the_trainer_trains_the_adapter_and_nothing_else(folder):
    plain, policy = load_policy(folder), adapted_and_trained(folder)  # its coverage check accepts A's zero gradient
    frozen = {n.replace(".base_layer.", "."): p for n, p in policy.named_parameters() if not p.requires_grad}
    assert all(torch.equal(frozen[name], p) for name, p in plain.named_parameters())
    assert logprobs(policy).mean() > logprobs(plain).mean() + 0.05


def test_a_resume_from_the_adapter_alone_is_bit_equal(folder):
    """The checkpoint holds no frozen weight: those are loaded again."""

    def trainer():
        policy = load_policy(folder, lora=LORA)
        return Trainer(
            Likelihood(policy=policy), file_source(SAMPLES, LocalWorld()), TrainerConfig(learning_rate=0.03, steps=6)
        )

    undisturbed, stopped, resumed = trainer(), trainer(), trainer()
    undisturbed.fit()
    stopped.fit(until=3)
    document, tensors = pack_state(stopped.state_dict())
    assert all("lora_" in name or "score_bias" in name for name in tensors if name.startswith("/modules"))
    resumed.load_state_dict(unpack_state(document, tensors))
    resumed.fit()
    expected, found = (t.objective.modules()["policy"].state_dict() for t in (undisturbed, resumed))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_the_reference_is_the_model_without_its_adapters(folder):
    policy = adapted_and_trained(folder)
    reference = InRole(policy, None)
    assert torch.equal(logprobs(reference), logprobs(load_policy(folder)))
    assert (logprobs(policy) - logprobs(reference)).abs().max() > 0.01  # and they are on again
    assert all(p.requires_grad for n, p in policy.named_parameters() if "lora_" in n)


def test_the_saved_model_is_plain_and_says_the_same(folder, tmp_path, caplog):
    policy = adapted_and_trained(folder)
    before = {name: p.clone() for name, p in policy.named_parameters()}
    with caplog.at_level(logging.INFO, "baro"):
        save_policy(policy, tmp_path / "model")
    (said,) = [r for r in caplog.records if "merging" in r.msg]
    assert said.args[0] < 1e-4
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())
    ids = torch.tensor([[1, 5, 9, 3, 7, 2]])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model", **as_trained(policy))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(merged(ids).logits, policy.model(ids).logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logprobs(load_policy(tmp_path / "model")), logprobs(policy), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft 0.21 calls it
def test_the_saved_adapter_is_peft_s(folder, tmp_path):
    policy = adapted_and_trained(folder)
    save_adapter(policy, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(folder, **as_trained(policy))
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter")
    ids = torch.tensor([[1, 5, 9, 3, 7, 2]])
    torch.testing.assert_close(theirs(input_ids=ids).logits, policy.model(ids).logits, atol=1e-5, rtol=1e-5)


def test_a_scalar_models_head_is_trained_too(tmp_path):
    tiny.architecture("llama", torch.float32).save_pretrained(tmp_path / "base")
    model = new_scalar_model(tmp_path / "base", seed=0)
    add_adapter(model, LORA, seed=0, role="reward_model")
    assert {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n} == {"model.score.weight"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        expected = model(BATCH, ["scores"]).scores
    save_scalar_model(model, tmp_path / "model")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    ids = torch.cat([SAMPLES[0].prompt_ids, SAMPLES[0].completions[0].ids])[None]
    assert merged(ids).logits[0, 0].item() == pytest.approx(float(expected[0]), abs=1e-4)


def test_the_same_seed_makes_the_same_adapter(folder):
    one, same, other = (load_policy(folder, lora=LORA, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one if "lora_A" in name)


def test_target_modules_choose_the_layers(tmp_path):
    tiny.architecture("llama", torch.float32).save_pretrained(tmp_path)
    policy = load_policy(tmp_path, lora=LoraConfig(target_modules=["q_proj", "v_proj"]))
    trained = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2  # A and B of two layers in two blocks
    with pytest.raises(ConfigError, match=r"lora.target_modules: .*nowhere"):
        load_policy(tmp_path, lora=LoraConfig(target_modules=["nowhere"]))
