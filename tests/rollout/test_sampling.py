"""The sampler: its distribution, its filters, and what extreme logits and uniforms do to it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baro.records import SamplingParams
from baro.rollout.sampling import BLOCK, draw, inverse_cdf, restrict

BELOW_ONE = 1 - 2**-53  # the largest number that a uniform stream gives
PLAIN = SamplingParams()


def uniforms(count, seed=0):
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def frequencies(logits, params, count=10_000):
    """How often each token is drawn from one row of logits, with one uniform in each of ``count`` equal intervals."""
    grid = (torch.arange(count, dtype=torch.float64) + uniforms(count)) / count
    tokens, _ = draw(logits.expand(count, -1), grid, params)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


def kept_tokens(logits, **params):
    kept = restrict(torch.tensor([logits]).softmax(-1), SamplingParams(**params))
    return kept[0].nonzero().flatten().tolist()


# ---- literal numbers


def test_inverse_cdf_by_hand():
    # running sums:        1    1    3    6    6
    weights = torch.tensor([[1.0, 0.0, 2.0, 3.0, 0.0]])
    wanted = {0.0: 0, 0.99 / 6: 0, 1 / 6: 2, 2.99 / 6: 2, 0.5: 3, BELOW_ONE: 3}
    tokens = inverse_cdf(weights.expand(len(wanted), -1), torch.tensor(list(wanted), dtype=torch.float64))
    assert tokens.tolist() == list(wanted.values())


def test_logprobs_by_hand():
    # weights e^z = 1, 2, 5; at temperature 2 their square roots
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]]).expand(3, -1)
    u = torch.tensor([0.0, 0.2, 0.9], dtype=torch.float64)
    tokens, logprobs = draw(logits, u, PLAIN)
    assert tokens.tolist() == [0, 1, 2]
    torch.testing.assert_close(logprobs, torch.tensor([1 / 8, 2 / 8, 5 / 8]).log())
    _, tempered = draw(logits, u, SamplingParams(temperature=2.0))
    total = 1 + math.sqrt(2) + math.sqrt(5)
    torch.testing.assert_close(tempered[:1], torch.tensor([1 / total]).log())


def test_greedy_takes_the_largest_and_its_logprob_at_temperature_1():
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, -math.inf]])
    tokens, logprobs = draw(logits, uniforms(2), SamplingParams(temperature=0.0))
    assert tokens.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, torch.stack([logits[0].log_softmax(-1)[1], torch.tensor(0.5).log()]))


# ---- filters


def test_top_k_keeps_the_k_largest():
    assert kept_tokens([0.0, 3.0, 1.0, 2.0], top_k=2) == [1, 3]
    assert kept_tokens([0.0, 3.0, 1.0, 2.0], top_k=9) == [0, 1, 2, 3]


def test_top_p_keeps_the_fewest_that_hold_p():
    logits = [math.log(p) for p in (0.1, 0.4, 0.2, 0.3)]
    assert kept_tokens(logits, top_p=0.69) == [1, 3]
    assert kept_tokens(logits, top_p=0.71) == [1, 2, 3]
    assert kept_tokens(logits, top_p=0.0) == [1]


def test_min_p_is_a_share_of_the_largest_probability():
    logits = [math.log(p) for p in (0.1, 0.4, 0.19, 0.31)]
    assert kept_tokens(logits, min_p=0.5) == [1, 3]
    assert kept_tokens(logits, min_p=1.0) == [1]


def test_filters_follow_each_other():
    # top-k 3 leaves 0.4, 0.3, 0.2 of 0.9: 0.7/0.9 = 0.78 suffices for 0.75, while 0.7 of the whole would not
    logits = [math.log(p) for p in (0.1, 0.4, 0.2, 0.3)]
    assert kept_tokens(logits, top_k=3, top_p=0.75) == [1, 3]
    assert kept_tokens(logits, top_p=0.75) == [1, 2, 3]


@pytest.mark.parametrize("params", [{"top_k": 7}, {"top_p": 0.8}, {"min_p": 0.1}])
def test_filters_keep_what_hugging_face_keeps(params):
    from transformers.generation.logits_process import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    (name, value), *_ = params.items()
    warper = {"top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper, "min_p": MinPLogitsWarper}[name](value)
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(1)) * 2
    theirs = warper(None, logits.clone()).isfinite()
    ours = restrict(logits.softmax(-1), SamplingParams(**params)) > 0
    assert torch.equal(ours, theirs)


def test_filters_do_not_change_the_returned_logprob():
    logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(2))
    tokens, logprobs = draw(logits, uniforms(500), SamplingParams(temperature=0.7, top_k=5, top_p=0.9, min_p=0.05))
    expected = (logits / 0.7).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    torch.testing.assert_close(logprobs, expected)


# ---- distribution


@pytest.mark.parametrize("vocabulary", [3, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_are_the_softmax(vocabulary, temperature):
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    found = frequencies(logits, SamplingParams(temperature=temperature))
    # Stratified uniforms miss each edge of the CDF by at most one interval in 10,000.
    torch.testing.assert_close(found, (logits[0] / temperature).softmax(-1), atol=2e-4, rtol=0)


def test_independent_uniforms_pass_a_chi_square_test():
    logits = torch.randn(1, 600, generator=torch.Generator().manual_seed(5))
    expected = logits[0].double().softmax(-1) * 50_000
    tokens, _ = draw(logits.expand(50_000, -1), uniforms(50_000, seed=6), PLAIN)
    observed = torch.bincount(tokens, minlength=600)
    statistic = float(((observed - expected) ** 2 / expected).sum())
    # 599 degrees of freedom: mean 599, standard deviation 34.6
    assert abs(statistic - 599) < 4 * 34.6


def test_frequencies_under_all_filters():
    logits = torch.randn(1, 700, generator=torch.Generator().manual_seed(3))
    params = SamplingParams(temperature=1.3, top_k=50, top_p=0.9, min_p=0.02)
    kept = restrict((logits / 1.3).softmax(-1), params)[0]
    torch.testing.assert_close(frequencies(logits, params), kept / kept.sum(), atol=2e-4, rtol=0)


# ---- robustness

ONE_LOGIT = st.one_of(st.floats(-20, 20), st.floats(-1e30, 1e30), st.just(-math.inf))
LOGITS = st.lists(ONE_LOGIT, min_size=1, max_size=2 * BLOCK + 3).filter(lambda values: max(values) > -math.inf)


@settings(max_examples=300, deadline=None)
@given(
    LOGITS,
    st.one_of(st.floats(0, BELOW_ONE), st.just(0.0), st.just(BELOW_ONE)),
    st.sampled_from([0.0, 1e-3, 0.5, 1.0, 2.0]),
    st.sampled_from([{}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.2}, {"top_k": 4, "top_p": 0.01}]),
)
def test_any_logits_give_a_token_of_positive_probability(values, u, temperature, filters):
    logits = torch.tensor([values])
    params = SamplingParams(temperature=temperature, **filters)
    tokens, logprobs = draw(logits, torch.tensor([u], dtype=torch.float64), params)
    token = int(tokens[0])
    exact = logits.double() / (temperature or 1.0)
    exact_logprob = float(exact.log_softmax(-1)[0, token])
    assert exact_logprob > -110  # exp of less is 0 in float32
    assert float(logprobs[0]) == pytest.approx(exact_logprob, abs=1e-4, rel=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1e-45, 1e-30, 0.1, 1.0, 3e37]), min_size=1, max_size=3 * BLOCK), st.data())
def test_weight_zero_is_never_drawn(values, pick):
    values[pick.draw(st.integers(0, len(values) - 1))] = 1.0
    weights = torch.tensor([values] * 3)
    u = torch.tensor([0.0, pick.draw(st.floats(0, BELOW_ONE)), BELOW_ONE], dtype=torch.float64)
    tokens = inverse_cdf(weights, u)
    assert (weights.gather(-1, tokens[:, None]) > 0).all()


def test_nan_logits_give_nan_and_no_crash():
    logits = torch.zeros(3, 300)
    logits[0, 5], logits[1], logits[2, 7] = math.nan, -math.inf, math.inf
    tokens, logprobs = draw(logits, uniforms(3), PLAIN)
    assert logprobs.isnan().all()
    assert ((tokens >= 0) & (tokens < 300)).all()


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.randn(64, 3000, generator=torch.Generator().manual_seed(4)).bfloat16()
    tokens, logprobs = draw(logits, uniforms(64), PLAIN)
    same, expected = draw(logits.float(), uniforms(64), PLAIN)
    assert torch.equal(tokens, same)
    assert torch.equal(logprobs, expected)
