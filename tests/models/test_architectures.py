"""Every architecture against its own Hugging Face forward, one completion per row and without a mask of ours."""

import logging

import pytest
import tiny
import torch
from transformers import LlamaConfig, T5Config, T5ForConditionalGeneration

from baro.batch import Sample, branch
from baro.collate import collate
from baro.errors import ConfigError
from baro.models.attention import branching_obstacle, decoding_obstacle, windows
from baro.models.forward import ScoredModel, check_layout
from baro.models.load import load_policy
from baro.protocols import LocalWorld
from baro.records import Completion, SamplingParams
from baro.rollout.engine import Engine


def tokens(start: int, count: int) -> list[int]:
    return [(start + 7 * i) % (tiny.VOCABULARY - 1) + 1 for i in range(count)]


# Longer than the window, in prompt, completions and both: a window by column would cut the second completion off.
SAMPLES = [
    Sample(torch.tensor(tokens(1, 9)), (branch(tokens(3, 8)), branch(tokens(4, 11)), branch(tokens(5, 2)))),
    Sample(torch.tensor(tokens(2, 3)), (branch(tokens(6, 7)), branch(tokens(8, 5)))),
]


def plain_logprobs(model, sample, one):
    ids = torch.cat([sample.prompt_ids, one.ids])
    logprobs = model(input_ids=ids[None], use_cache=False).logits[0].log_softmax(-1)
    return logprobs[len(sample.prompt_ids) - 1 : -1].gather(-1, one.ids[:, None])[:, 0]


def gradients(model, logprobs):
    model.zero_grad()
    (logprobs * torch.linspace(0.5, 1.5, len(logprobs), dtype=logprobs.dtype)).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.FALLBACKS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["32", "64"])
def test_completions_behind_one_prompt_give_the_plain_models_log_probs_and_gradients(name, dtype, tolerance):
    if (name in tiny.FALLBACKS or name == "cohere") and dtype == torch.float64:
        tolerance = 1e-6  # parts of them run in fp32
    model = tiny.architecture(name, dtype)
    (batch,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16, per_row=3)
    assert batch.branched
    expected = torch.cat([plain_logprobs(model, sample, one) for sample in SAMPLES for one in sample.completions])
    expected_gradients = gradients(model, expected)
    found = ScoredModel(model)(batch, ["logprobs"]).logprobs
    found_gradients = gradients(model, found)
    torch.testing.assert_close(found, expected.to(found.dtype), atol=tolerance, rtol=tolerance)
    assert found_gradients.keys() == expected_gradients.keys()
    largest = max(float(gradient.norm()) for gradient in expected_gradients.values())
    for key, gradient in expected_gradients.items():
        scale = max(float(gradient.norm()), 1e-2 * largest)  # a key's bias has none: softmax does not see it
        assert float((found_gradients[key] - gradient).norm()) <= 100 * tolerance * scale, key


@pytest.mark.parametrize("name", ["mistral", "qwen2", "phi3", "gemma2", "gemma3"])
def test_a_window_by_column_would_be_found(name, monkeypatch):
    """The samples are long enough for the test above to see a window at all."""
    model = ScoredModel(tiny.architecture(name))
    (batch,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16, per_row=3)
    right = model(batch, ["logprobs"]).logprobs
    for wrong in (None, tiny.WINDOW - 1):
        monkeypatch.setattr("baro.models.forward.windows", lambda config, w=wrong: dict.fromkeys(windows(config), w))
        assert (model(batch, ["logprobs"]).logprobs - right).abs().max() > 1e-3


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.FALLBACKS])
def test_sampled_log_probs_are_the_plain_models(name):
    model = tiny.architecture(name, torch.float32)
    prompts, keys = [tokens(1, 9), tokens(2, 3), tokens(5, 14)], [3, 1, 4]
    engine = Engine(ScoredModel(model), end_ids=frozenset({2}), slots=3)
    found = engine.generate(prompts, 3, SamplingParams(max_new_tokens=12), keys)
    assert engine._slots_work == (name in tiny.ARCHITECTURES)
    with torch.no_grad():
        for prompt, group in zip(prompts, found, strict=True):
            for one in group:
                expected = plain_logprobs(model, Sample(torch.tensor(prompt), ()), branch(list(one.ids)))
                torch.testing.assert_close(torch.tensor(one.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral", "opt", "bloom"])
def test_slots_change_nothing(name):
    model = tiny.architecture(name, torch.float32)
    prompts, keys = [tokens(1, 9), tokens(2, 3), tokens(5, 14)], [3, 1, 4]

    def drawn(slots: int) -> list[Completion]:
        engine = Engine(ScoredModel(model), end_ids=frozenset({2, 5}), slots=slots)
        return [one for group in engine.generate(prompts, 4, SamplingParams(max_new_tokens=10), keys) for one in group]

    expected = drawn(64)
    for slots in (1, 2, 5):
        for one, other in zip(drawn(slots), expected, strict=True):
            assert one.ids == other.ids
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


# ---- what cannot branch or decode in slots says so


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bloom", "takes no positions"), ("falcon-alibi", "ALiBi"), ("mamba", "a state"), ("bamba", "a state")],
)
def test_a_fallback_is_named_once(name, reason, caplog):
    model = tiny.architecture(name)
    assert reason in branching_obstacle(model)
    assert reason in decoding_obstacle(model)
    with caplog.at_level(logging.WARNING, "baro"):
        scored = ScoredModel(model)
        engine = Engine(scored, end_ids=frozenset())
        for _ in range(2):
            engine.generate([[1, 2]], 2, SamplingParams(max_new_tokens=2), [0])
    assert scored.layout == "separate"
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said
    assert all(reason in sentence for sentence in said)
    assert "a row of its own" in said[0]
    assert "exact and slow" in said[1]


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_the_others_have_no_obstacle(name):
    model = tiny.architecture(name)
    assert branching_obstacle(model) is None
    assert decoding_obstacle(model) is None


def test_rotary_positions_that_change_with_the_length_are_not_cached():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    model = tiny.llama(rope_parameters=rope)
    assert "dynamic" in decoding_obstacle(model)
    assert decoding_obstacle(type(model)(LlamaConfig(**tiny.SIZES, **tiny.HEADS))) is None


def test_an_encoder_decoder_is_refused_in_one_sentence(tmp_path):
    config = T5Config(vocab_size=23, d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"t5 .*encoder-decoder.*causal language model"):
        load_policy(tmp_path)


# ---- the first-batch check


def checked(model: ScoredModel) -> ScoredModel:
    (batch,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16, per_row=3)
    check_layout(model, batch, LocalWorld())
    return model


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_check_accepts_what_is_right(name, autocast, caplog):
    model = ScoredModel(tiny.architecture(name, torch.float32))
    model.autocast_dtype = autocast
    assert checked(model).layout == "shared"
    assert not caplog.records


def test_a_wrong_mask_falls_back_to_one_completion_per_row(caplog, monkeypatch):
    monkeypatch.setattr(ScoredModel, "_additive_mask", lambda self, batch: None)
    assert checked(ScoredModel(tiny.architecture("llama", torch.float32))).layout == "separate"
    assert "LlamaForCausalLM: with rows laid out 'shared' its logprobs differ" in caplog.text


def test_a_head_that_is_not_the_models_own_falls_back_to_the_models_own_forward(caplog):
    class Doubled(ScoredModel):
        def _head(self):
            return super()._head() | {"logit_scale": 2.0}

    model = checked(Doubled(tiny.architecture("llama")))
    assert model.layout == "own"
    assert [r.args[1] for r in caplog.records] == ["shared", "separate"]
    (batch,) = collate(SAMPLES, micro_batch_tokens=10**6, hidden_size=16, per_row=3)
    expected = [plain_logprobs(model.model, sample, one) for sample in SAMPLES for one in sample.completions]
    torch.testing.assert_close(model(batch, ["logprobs"]).logprobs, torch.cat(expected), atol=1e-12, rtol=0)


def test_unbranched_rows_hold_one_completion_each():
    """By eye: prompt 1 2, completions 3 4 | 5; prompt 6, completions 7 | 8 9 (its last token not scored)."""
    samples = [
        Sample(torch.tensor([1, 2]), (branch([3, 4]), branch([5]))),
        Sample(torch.tensor([6]), (branch([7]), branch([8, 9], scored=[True, False], last=0))),
    ]
    (batch,) = collate(samples, micro_batch_tokens=100, hidden_size=16, per_row=2)
    plain = batch.unbranched()
    assert plain.input_ids.tolist() == [[1, 2, 3, 4], [1, 2, 5, 0], [6, 7, 0, 0], [6, 8, 9, 0]]
    assert plain.position_ids.tolist() == [[0, 1, 2, 3]] * 4
    assert plain.group.tolist() == [[0, 0, 0, 0], [0, 0, 0, -1], [1, 1, -1, -1], [1, 1, 1, -1]]
    assert plain.branch.tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert plain.scored_at.tolist() == [1, 2, 4 + 1, 8 + 0, 12 + 0]
    assert plain.last_at.tolist() == [3, 4 + 2, 8 + 1, 12 + 1]
    assert not plain.branched
    assert batch.unbranched(2).input_ids.tolist() == [[1, 2, 3, 4], [1, 2, 5, 0]]
    assert batch.unbranched(2).targets.tolist() == [3, 4, 5]
