"""The registered attention: ordinary outside of a rollout, in slots inside, and refusals of what it cannot do."""

import pytest
import tiny
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)

from baro.errors import ConfigError
from baro.models.attention import NAME, SlotCache, decoding, refusal, slot_attention

MODELS = {"llama": tiny.llama, "qwen3": tiny.qwen3, "gpt2": tiny.gpt2}


def slots(rows=2, length=8, dtype=torch.float64):
    return SlotCache(rows, length, dtype=dtype, device=torch.device("cpu"))


@pytest.mark.parametrize("name", MODELS)
def test_outside_of_a_rollout_our_name_is_sdpa(name):
    model = MODELS[name]()
    ids = torch.randint(tiny.VOCABULARY, (2, 6))
    padded = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    packed = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 5]])
    for arguments in ({}, {"attention_mask": padded}, {"position_ids": packed}):
        model.set_attn_implementation("sdpa")
        expected = model(input_ids=ids, **arguments).logits
        model.set_attn_implementation(NAME)
        assert torch.equal(model(input_ids=ids, **arguments).logits, expected)


def test_outside_of_a_rollout_gradients_flow():
    model = tiny.llama()
    model.set_attn_implementation(NAME)
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_model_gets_its_own_attention_back(implementation):
    model = tiny.llama()
    model.set_attn_implementation(implementation)
    expected = model(input_ids=torch.tensor([[1, 2, 3]])).logits
    with pytest.raises(RuntimeError, match=NAME), decoding(model, slots()):
        raise RuntimeError(model.config._attn_implementation)
    assert model.config._attn_implementation == implementation
    assert torch.equal(model(input_ids=torch.tensor([[1, 2, 3]])).logits, expected)
    # ... and the slots are out of reach: a model left with our name is ordinary again
    model.set_attn_implementation(NAME)
    torch.testing.assert_close(model(input_ids=torch.tensor([[1, 2, 3]])).logits, expected)


@pytest.mark.parametrize("name", MODELS)
def test_slots_filled_copied_and_continued_give_the_plain_logits(name):
    """Two prompts of lengths 3 and 5; slot 2 becomes a copy of slot 0, then every slot goes on by two tokens."""
    model = MODELS[name]()
    prompts = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    rows = [[1, 2, 3, 9, 10], [4, 5, 6, 7, 8, 11, 12], [1, 2, 3, 13, 14]]
    cache = slots(3, 7)
    with torch.no_grad():
        expected = [model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
        with decoding(model, cache):
            cache.begin_prefill(slice(0, 2), torch.tensor([0, 1]), torch.tensor([3, 5]))
            model(input_ids=prompts, use_cache=False)
            cache.copy(torch.tensor([0]), torch.tensor([2]), 3)
            for step in range(2):
                positions = torch.tensor([3, 5, 3]) + step
                cache.begin_decode(positions, 6 + step)
                tokens = torch.tensor([[rows[i][p]] for i, p in enumerate(positions.tolist())])
                found = model(input_ids=tokens, position_ids=positions[:, None], use_cache=False).logits[:, 0]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(), Qwen2Config(), Qwen3Config(), GPT2Config(), MistralConfig(sliding_window=None), Phi3Config()],
    ids=lambda config: config.model_type,
)
def test_plain_causal_attention_is_accepted(config):
    config.sliding_window = None
    assert refusal(config) is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MistralConfig(sliding_window=128), "sliding window of 128"),
        (Qwen2Config(use_sliding_window=True, max_window_layers=0), "sliding_attention"),
        (Gemma2Config(), "sliding_attention"),
        (Gemma2Config(layer_types=["full_attention"] * 26, sliding_window=None), "soft cap"),
        (Gemma3TextConfig(), "sliding_attention"),
        (T5Config(), "encoder-decoder"),
        (LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), "dynamic"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.model_type,
)
def test_other_attention_is_refused_by_name(config, reason):
    assert reason in refusal(config)


def test_a_layer_that_asks_for_more_is_refused():
    model = tiny.llama()
    cache = slots()
    cache.begin_prefill(slice(0, 1), torch.tensor([0]), torch.tensor([4]))
    states = torch.zeros(1, 2, 4, 8, dtype=torch.float64)
    with decoding(model, cache), pytest.raises(ConfigError, match="softcap"):
        slot_attention(torch.nn.Identity(), states, states, states, None, softcap=30.0)


def test_a_model_without_replaceable_attention_is_refused():
    model = BloomForCausalLM(BloomConfig(vocab_size=11, hidden_size=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="BloomForCausalLM"), decoding(model, slots()):
        pass
