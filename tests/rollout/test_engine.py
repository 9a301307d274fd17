"""The engine against a naive sampler that runs the plain model once per token, and what it promises around that."""

import math
from itertools import product

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from baro.errors import ConfigError, GuardStop
from baro.models.forward import ScoredModel
from baro.records import Completion, SamplingParams
from baro.rollout import decode as decode_module
from baro.rollout import engine as engine_module
from baro.rollout.engine import Engine, uniform_table
from baro.rollout.sampling import draw

VOCABULARY = 31
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
# Large weights: attention and positions must matter, or an error in them would not show.
HEADS = {"num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.4}
CONFIGS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, num_key_value_heads=4)),
    "llama-gqa": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, num_key_value_heads=2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS, num_key_value_heads=1, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4)
    ),
}
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13], [14, 15, 16], list(range(30, 10, -1))]
KEYS = [11, 2**64 - 1, 5, 7, 0]


def make(name="llama-gqa", seed=0):
    torch.manual_seed(seed)
    return CONFIGS[name]().eval()


def sampler(model, *, end_ids=(), **options):
    return Engine(ScoredModel(model), end_ids=frozenset(end_ids), **options)


def teacher_forced(model, prompt, completion, temperature):
    """log softmax(logits / T) of each completion token, by the plain model on the whole sequence."""
    ids = torch.tensor([[*prompt, *completion.ids]])
    with torch.no_grad():
        logprobs = (model(input_ids=ids).logits[0] / (temperature or 1.0)).log_softmax(-1)
    return logprobs[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None])[:, 0]


@torch.no_grad()
def naive(model, prompt, key, sample, params, end_ids):
    """One completion, one plain forward per token."""
    stream = np.random.Generator(np.random.Philox(key=np.array([key, sample], dtype=np.uint64)))
    ids, logprobs = [], []
    while len(ids) < params.max_new_tokens and not (ids and ids[-1] in end_ids):
        logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[:, -1]
        token, logprob = draw(logits, torch.tensor([stream.random()]), params)
        ids.append(int(token))
        logprobs.append(float(logprob))
    return Completion(tuple(ids), tuple(logprobs), ids[-1] in end_ids)


def flat(groups):
    return [one for group in groups for one in group]


def assert_same(found, expected):
    assert [[one.ids for one in group] for group in found] == [[one.ids for one in group] for group in expected]
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert one.finished == other.finished
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


# ---- the same as the plain model


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_logprobs_equal_a_teacher_forced_forward(name, temperature):
    model = make(name)
    params = SamplingParams(max_new_tokens=12, temperature=temperature)
    found = sampler(model, slots=4).generate(PROMPTS, 3, params, KEYS)
    for prompt, group in zip(PROMPTS, found, strict=True):
        for one in group:
            expected = teacher_forced(model, prompt, one, temperature)
            torch.testing.assert_close(torch.tensor(one.logprobs, dtype=expected.dtype), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("filters", [{}, {"temperature": 0.8, "top_k": 9, "top_p": 0.9, "min_p": 0.01}])
def test_tokens_are_those_of_the_naive_sampler(name, filters):
    model, params, ends = make(name), SamplingParams(max_new_tokens=8, **filters), frozenset({3, 4})
    found = sampler(model, slots=4, end_ids=ends).generate(PROMPTS, 3, params, KEYS)
    expected = [
        [naive(model, prompt, key, s, params, ends) for s in range(3)]
        for prompt, key in zip(PROMPTS, KEYS, strict=True)
    ]
    assert_same(found, expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_hugging_face_generate(name):
    model = make(name)
    found = sampler(model).generate(PROMPTS, 1, SamplingParams(max_new_tokens=10, temperature=0.0), KEYS)
    for prompt, (one,) in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=10,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=VOCABULARY,  # never drawn
        )
        assert list(one.ids) == theirs[0, len(prompt) :].tolist()


# ---- streams


def test_uniforms_are_philox_streams_of_key_and_sample():
    table = uniform_table([7, 9], 2, 5)
    again = np.random.Generator(np.random.Philox(key=np.array([9, 1], dtype=np.uint64)))
    assert table.shape == (4, 5)
    assert table[3].tolist() == [again.random() for _ in range(5)]  # one at a time: token t is number t
    assert len(np.unique(table)) == 20
    assert uniform_table([7], 1, 2)[0].tolist() == table[0, :2].tolist()


@pytest.mark.parametrize("slots", [1, 3, 5, 64])
def test_slots_change_nothing(slots):
    model, params, ends = make(), SamplingParams(max_new_tokens=9), frozenset({1, 2})
    expected = sampler(model, end_ids=ends, slots=7).generate(PROMPTS, 4, params, KEYS)
    assert_same(sampler(model, end_ids=ends, slots=slots).generate(PROMPTS, 4, params, KEYS), expected)


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(len(PROMPTS))),
    used=st.integers(1, len(PROMPTS)),
    n=st.integers(1, 4),
    slots=st.integers(1, 9),
)
def test_order_company_and_sample_count_change_nothing(order, used, n, slots):
    model, params, ends = make(), SamplingParams(max_new_tokens=6), frozenset({1, 2, 3})
    whole = sampler(model, end_ids=ends).generate(PROMPTS, 4, params, KEYS)
    some = order[:used]
    found = sampler(model, end_ids=ends, slots=slots).generate(
        [PROMPTS[p] for p in some], n, params, [KEYS[p] for p in some]
    )
    assert_same(found, [whole[p][:n] for p in some])


def test_other_keys_and_samples_give_other_tokens():
    params = SamplingParams(max_new_tokens=12)
    prompt = [1, 2, 3]
    found = sampler(make()).generate([prompt, prompt, prompt], 4, params, [1, 2, 1])
    assert len({one.ids for one in found[0] + found[1]}) == 8
    assert_same([found[2]], [found[0]])


# ---- ends and lengths


def test_a_sequence_ends_at_its_first_end_token_and_keeps_it():
    ends = frozenset(range(8))
    found = flat(sampler(make(), end_ids=ends, slots=6).generate(PROMPTS, 20, SamplingParams(8), KEYS))
    for one in found:
        assert len(one.ids) == len(one.logprobs)
        assert not ends & set(one.ids[:-1])
        assert one.finished == (one.ids[-1] in ends)
        assert one.finished or len(one.ids) == 8
    lengths = {len(one.ids) for one in found if one.finished}
    assert 1 in lengths, "the first token may be the end token"
    assert len(lengths) > 3


def test_an_end_token_at_the_last_place_counts_as_finished():
    prompt = [1, 2, 3]
    ((free,),) = sampler(make()).generate([prompt], 1, SamplingParams(5), [1])
    ((cut,),) = sampler(make(), end_ids={free.ids[4]} - set(free.ids[:4])).generate([prompt], 1, SamplingParams(5), [1])
    assert not free.finished
    assert cut == Completion(free.ids, free.logprobs, True)


def test_one_token_and_nothing_to_do():
    model = make()
    found = sampler(model).generate(PROMPTS, 2, SamplingParams(1), KEYS)
    assert all(len(one.ids) == 1 for group in found for one in group)
    assert sampler(model).generate([], 2, SamplingParams(1), []) == []
    assert sampler(model).generate(PROMPTS[:2], 0, SamplingParams(1), KEYS[:2]) == [[], []]


# ---- distribution


def test_pairs_of_tokens_have_the_models_probabilities():
    torch.manual_seed(3)
    config = {**SIZES, **HEADS, "vocab_size": 5, "initializer_range": 0.2}
    model = LlamaForCausalLM(LlamaConfig(**config, num_key_value_heads=2)).eval()
    pairs = list(product(range(5), repeat=2))
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([[1, 2, a, b] for a, b in pairs])).logits.log_softmax(-1)
    expected = [20_000 * math.exp(logprobs[i, 1, a] + logprobs[i, 2, b]) for i, (a, b) in enumerate(pairs)]
    (found,) = sampler(model, slots=2000).generate([[1, 2]], 20_000, SamplingParams(2), [4])
    counts = dict.fromkeys(pairs, 0)
    for one in found:
        counts[one.ids] += 1
    statistic = sum((counts[pair] - e) ** 2 / e for pair, e in zip(pairs, expected, strict=True))
    assert statistic < 51.2  # chi-square, 24 degrees of freedom, p = 0.001


# ---- how it runs


def test_every_prompt_is_computed_once(monkeypatch):
    computed = []
    plain = engine_module.prefill
    monkeypatch.setattr(
        engine_module,
        "prefill",
        lambda model, prompts, device: computed.extend(prompts) or plain(model, prompts, device),
    )
    model = make()
    rollouts = sampler(model, slots=4, end_ids={1, 2, 3})
    rollouts.generate([[1]], 1, SamplingParams(1), [0])
    computed.clear()
    rollouts.generate(PROMPTS, 11, SamplingParams(7), KEYS)
    assert sorted(computed) == sorted(PROMPTS)


def test_progress_rises_to_the_number_of_sequences():
    seen = []
    rollouts = sampler(make(), slots=4, end_ids={1, 2}, on_progress=lambda done, total: seen.append((done, total)))
    rollouts.generate(PROMPTS, 3, SamplingParams(9), KEYS)
    assert seen[-1] == (15, 15)
    assert {total for _, total in seen} == {15}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_weights_are_live():
    model, params = make(), SamplingParams(6)
    rollouts = sampler(model)
    before = rollouts.generate(PROMPTS, 2, params, KEYS)
    with torch.no_grad():
        for parameter, other in zip(model.parameters(), make(seed=1).parameters(), strict=True):
            parameter.copy_(other)
    after = rollouts.generate(PROMPTS, 2, params, KEYS)
    assert_same(after, sampler(make(seed=1)).generate(PROMPTS, 2, params, KEYS))
    assert [one.ids for one in after[0]] != [one.ids for one in before[0]]


@pytest.mark.parametrize("name", CONFIGS)
def test_training_goes_on_as_if_nothing_had_been_sampled(name):
    def gradients(model):
        model(input_ids=torch.tensor([[1, 2, 3, 4]])).logits.logsumexp(-1).sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    model = make(name)
    # Longer than anything before, so that positions cached by the model are made inside of the rollout.
    found = sampler(model).generate(PROMPTS, 2, SamplingParams(20), KEYS)
    assert len(found) == len(PROMPTS)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model), gradients(make(name)), strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_modes_and_attention_come_back_even_after_an_exception(name):
    model = make(name).train()
    model.base_model.get_input_embeddings().eval()  # modes may be mixed
    modes = [module.training for module in model.modules()]

    def fail(done, total):
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampler(model, on_progress=fail).generate(PROMPTS, 2, SamplingParams(3), KEYS)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"
    assert torch.is_grad_enabled()


# ---- refusals


def test_an_empty_prompt_is_refused():
    with pytest.raises(ConfigError, match="prompt 1 has no tokens"):
        sampler(make()).generate([[1], []], 1, SamplingParams(2), [0, 1])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_sequences_beyond_the_models_positions_are_refused(name):
    rollouts = sampler(make(name))
    rollouts.generate([[1] * 60], 1, SamplingParams(4), [0])
    with pytest.raises(ConfigError, match=r"prompt 1 has 61 tokens.*max_new_tokens 4.*64 positions"):
        rollouts.generate([[1], [1] * 61], 1, SamplingParams(4), [0, 1])


def test_no_tokens_to_draw_are_refused():
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        sampler(make()).generate([[1]], 1, SamplingParams(0), [0])


def test_a_head_that_is_not_the_models_own_is_said_and_not_used(caplog):
    class Doubled(ScoredModel):
        def logits(self, hidden):
            return 2 * super().logits(hidden)

    model, params = make(), SamplingParams(6)
    found = Engine(Doubled(model), end_ids=frozenset({3})).generate(PROMPTS, 2, params, KEYS)
    assert "its logits would differ from its own forward's by" in caplog.text
    assert_same(
        found, [[naive(model, p, k, s, params, {3}) for s in range(2)] for p, k in zip(PROMPTS, KEYS, strict=True)]
    )


def test_broken_weights_stop_the_run():
    model = make()
    rollouts = sampler(model)
    rollouts.generate(PROMPTS, 1, SamplingParams(2), KEYS)
    with torch.no_grad():
        model.lm_head.weight[3] = math.nan
    with pytest.raises(GuardStop, match=r"not finite while sampling completion \d of prompt \d"):
        rollouts.generate(PROMPTS, 1, SamplingParams(2), KEYS)


def test_as_many_slots_as_a_quarter_of_the_memory_holds(monkeypatch):
    """Two layers with two heads of 4 numbers in fp64: 2 · 2 · 2 · 4 · 8 = 256 bytes a token."""
    model = ScoredModel(tiny.llama())
    assert decode_module.slot_bytes(model, 10) == 2560
    for memory, slots in ((4 * 2560 * 7, 7), (100, 1), (10**12, 64)):
        monkeypatch.setattr(decode_module, "physical_memory", lambda memory=memory: memory)
        assert decode_module.fitting_slots(model, 10) == slots
    used = []
    run = engine_module.Run
    monkeypatch.setattr(
        engine_module, "Run", lambda *given, slots, **named: used.append(slots) or run(*given, slots=slots, **named)
    )
    monkeypatch.setattr(decode_module, "physical_memory", lambda: 4 * 2560 * 7)
    Engine(model, end_ids=frozenset()).generate([[1, 2], [3]], 2, SamplingParams(max_new_tokens=8), [0, 1])
    assert used == [7]
