"""The registered attention: ordinary outside of a rollout, in slots inside, and refusals of what it cannot do."""

import re
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
)

from baro.errors import ConfigError
from baro.models.attention import NAME, SOFT_CAP, SlotCache, decoding, slot_attention, windows
from baro.models.load import load_policy

MODELS = {"llama": tiny.llama, "qwen3": tiny.qwen3, "gpt2": tiny.gpt2}


def slots(rows=2, length=8, dtype=torch.float64):
    return SlotCache(rows, length, windows={"": None}, dtype=dtype, device=torch.device("cpu"))


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
                mask = cache.begin_decode(positions, 6 + step)
                tokens = torch.tensor([[rows[i][p]] for i, p in enumerate(positions.tolist())])
                found = model(
                    input_ids=tokens, position_ids=positions[:, None], attention_mask=mask, use_cache=False
                ).logits[:, 0]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(), {"": None}),
        (MistralConfig(sliding_window=128), {"": 128}),
        (MistralConfig(sliding_window=None), {"": None}),
        (Phi3Config(sliding_window=2047), {"": 2047}),
        (Qwen2Config(sliding_window=64), {"": None}),  # use_sliding_window is off
        (
            Qwen2Config(use_sliding_window=True, sliding_window=64, max_window_layers=9),
            {"full_attention": None, "sliding_attention": 64},
        ),
        (Gemma3TextConfig(sliding_window=512), {"full_attention": None, "sliding_attention": 512}),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_windows_by_kind_of_layer(config, expected):
    assert windows(config) == expected


CAPPED = [name for name, (_, settings) in tiny.ARCHITECTURES.items() if SOFT_CAP in settings]


@pytest.mark.parametrize("name", CAPPED)
def test_soft_caps_equal_the_models_own_eager_attention(name):
    """Outside of a rollout our name computes what the model's eager attention does, with and without a padding mask."""
    model = tiny.architecture(name, torch.float32)
    assert model.config._attn_implementation == "eager"
    ids = torch.randint(tiny.VOCABULARY, (2, 11))
    padded = torch.tensor([[0] * 3 + [1] * 8, [1] * 11])
    expected = [model(ids).logits, model(ids, attention_mask=padded).logits]
    model.set_attn_implementation(NAME)
    torch.testing.assert_close(model(ids).logits, expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(model(ids, attention_mask=padded).logits[0, 3:], expected[1][0, 3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CAPPED)
def test_soft_caps_are_never_left_to_sdpa(name, tmp_path, monkeypatch):
    """transformers 5.17 lets these models run on sdpa, which drops the caps without a word."""
    model = tiny.architecture(name, torch.float32)
    model.save_pretrained(tmp_path)
    family = next(base for base in type(model).__mro__ if "_supports_sdpa" in vars(base))
    monkeypatch.setattr(family, "_supports_sdpa", True)
    ids = torch.randint(tiny.VOCABULARY, (2, 11))
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    torch.testing.assert_close(load_policy(tmp_path).model(ids).logits, model(ids).logits, atol=1e-5, rtol=0)


def test_what_the_models_of_transformers_ask_of_their_attention_is_known():
    """A cap by another name would be dropped, and sinks on sdpa would be."""
    sources = {path: path.read_text() for path in Path(transformers.__file__).parent.glob("models/*/modeling_*.py")}
    caps = {name for text in sources.values() for name in re.findall(r"softcap=self\.([\w.]+)", text)}
    sinks = [text for text in sources.values() if "s_aux=self." in text]
    assert len(sources) > 300
    assert caps == {SOFT_CAP}
    assert sinks
    assert all("_supports_sdpa = False" in text for text in sinks)  # of the language model, whatever its images have


def test_a_layer_that_asks_for_more_is_refused():
    model = tiny.llama()
    cache = slots()
    cache.begin_prefill(slice(0, 1), torch.tensor([0]), torch.tensor([4]))
    states = torch.zeros(1, 2, 4, 8, dtype=torch.float64)
    with decoding(model, cache), pytest.raises(ConfigError, match="s_aux"):
        slot_attention(torch.nn.Identity(), states, states, states, None, s_aux=states)


def test_a_model_without_replaceable_attention_is_refused():
    model = BloomForCausalLM(BloomConfig(vocab_size=11, hidden_size=8, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="BloomForCausalLM"), decoding(model, slots()):
        pass
