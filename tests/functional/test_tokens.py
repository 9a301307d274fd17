import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import functional as oracle
from torch.utils._python_dispatch import TorchDispatchMode

from baro.functional.tokens import (
    exact_product,
    head_logits,
    kl_k1,
    segment_mean,
    segment_sum,
    token_entropy,
    token_logprobs,
)

FEW = settings(max_examples=30, deadline=None, derandomize=True)
HEADS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "scale": {"logit_scale": 0.3},
    "cap": {"soft_cap": 1.5},
    "all": {"temperature": 1.3, "soft_cap": 2.0, "logit_scale": 0.8},
}


def head(rows=7, width=4, vocabulary=11, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=random, dtype=dtype)
    weight = torch.randn(vocabulary, width, generator=random, dtype=dtype)
    bias = torch.randn(vocabulary, generator=random, dtype=dtype)
    return hidden, weight, bias, torch.randint(vocabulary, (rows,), generator=random)


def relative(difference, reference):
    return (difference.norm() / reference.norm().clamp(min=1e-300)).item()


# Head of one hidden unit whose logits are ln 1, ln 2, ln 3: probabilities 1/6, 2/6, 3/6.
ONE_TWO_THREE = torch.tensor([[0.0], [math.log(2)], [math.log(3)]])


def test_logprobs_and_entropy_worked_by_hand():
    hidden = torch.ones(3, 1)
    logprobs = token_logprobs(hidden, ONE_TWO_THREE, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(logprobs, torch.tensor([-1.791759, -1.098612, -0.693147]), atol=1e-6, rtol=0)
    # ln6/6 + ln3/3 + ln2/2
    torch.testing.assert_close(token_entropy(hidden[:1], ONE_TWO_THREE), torch.tensor([1.011404]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"temperature": 0.5}, 9 / 14),  # logits doubled: 1, 4, 9
        ({"temperature": 2.0}, math.sqrt(3) / (1 + math.sqrt(2) + math.sqrt(3))),
        ({"logit_scale": 2.0}, 9 / 14),
        ({"logit_scale": 2.0, "temperature": 2.0}, 3 / 6),
        ({"bias": torch.tensor([math.log(3), 0.0, 0.0])}, 3 / 8),  # 3, 2, 3
        ({"bias": torch.tensor([0.0, -math.inf, 0.0])}, 3 / 4),  # the second token is forbidden
        ({"soft_cap": 1e-3}, 0.33344442),  # 0, .001, .001
    ],
)
def test_each_option_of_the_head_by_hand(option, expected):
    hidden = torch.ones(1, 1)
    logprob = token_logprobs(hidden, ONE_TWO_THREE, torch.tensor([2]), **option)
    assert logprob.exp().item() == pytest.approx(expected, abs=1e-6)
    assert token_entropy(hidden, ONE_TWO_THREE, **option).isfinite().all()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({}, [0.0, 0.693147, 1.098612]),
        ({"bias": torch.tensor([1.0, 0.0, -1.0])}, [1.0, 0.693147, 0.098612]),
        ({"logit_scale": 2.0}, [0.0, 1.386294, 2.197225]),
        ({"soft_cap": 1.0}, [0.0, 0.6, 0.8]),  # tanh ln x = (x² − 1) / (x² + 1)
        ({"soft_cap": 2.0, "logit_scale": 2.0}, [0.0, 1.2, 1.6]),
    ],
)
def test_logits_for_sampling_by_hand(option, expected):
    logits = head_logits(torch.ones(2, 1, 1), ONE_TWO_THREE, **option)
    torch.testing.assert_close(logits, torch.tensor(expected).expand(2, 1, 3), atol=1e-6, rtol=0)


def test_logits_for_sampling_are_fp32_at_least_and_want_a_positive_cap():
    wide = head_logits(torch.ones(1, 1).bfloat16(), ONE_TWO_THREE.bfloat16())
    assert wide.dtype == torch.float32
    assert wide[0, 2].item() == 1.1015625  # ln 3 in bf16
    assert head_logits(torch.ones(1, 1).double(), ONE_TWO_THREE.double()).dtype == torch.float64
    with pytest.raises(ValueError, match="soft_cap is 0"):
        head_logits(torch.ones(1, 1), ONE_TWO_THREE, soft_cap=0.0)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_logprobs_and_entropy_match_the_naive_oracle(name, chunk):
    hidden, weight, bias, targets = head()
    arrays = hidden.numpy(), weight.numpy()
    expected = oracle.token_logprobs(*arrays, targets.numpy(), bias=bias.numpy(), **HEADS[name])
    actual = token_logprobs(hidden, weight, targets, bias=bias, chunk=chunk, **HEADS[name])
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)
    entropy = token_entropy(hidden, weight, bias=bias, chunk=chunk, **HEADS[name])
    np.testing.assert_allclose(
        entropy.numpy(), oracle.token_entropy(*arrays, bias=bias.numpy(), **HEADS[name]), atol=1e-12
    )


@pytest.mark.parametrize("name", HEADS)
def test_gradcheck(name):
    hidden, weight, bias, targets = head(rows=3, width=2, vocabulary=4)
    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_logprobs(h, w, targets, bias=b, chunk=2, **HEADS[name]), inputs
    )


@FEW
@given(st.integers(0, 9), st.integers(1, 12), st.sampled_from(list(HEADS)), st.integers(0, 10**6))
def test_chunks_change_neither_value_nor_gradient(rows, chunk, name, seed):
    hidden, weight, bias, targets = head(rows=rows, seed=seed)
    upstream = torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))

    def value_and_grads(function):
        inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        value = function(*inputs)
        return value, torch.autograd.grad(value @ upstream, inputs)

    def plain(h, w, b):
        options = {"temperature": 1.0, "soft_cap": None, "logit_scale": 1.0} | HEADS[name]
        z = (h @ w.T + b) * options["logit_scale"]
        z = z if options["soft_cap"] is None else options["soft_cap"] * torch.tanh(z / options["soft_cap"])
        return (z / options["temperature"]).log_softmax(-1)[torch.arange(rows), targets]

    value, grads = value_and_grads(lambda h, w, b: token_logprobs(h, w, targets, bias=b, chunk=chunk, **HEADS[name]))
    expected, expected_grads = value_and_grads(plain)
    torch.testing.assert_close(value, expected, atol=1e-12, rtol=1e-12)
    assert all(relative(a - b, b) < 1e-9 for a, b in zip(grads, expected_grads, strict=True))


class RowsOf(TorchDispatchMode):
    """How many rows each tensor had that is as wide as the vocabulary."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.seen = vocabulary, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == self.vocabulary:
            self.seen.append(len(result))
        return result


def test_no_tensor_ever_holds_more_than_a_chunk_of_logits():
    hidden, weight, bias, targets = head(rows=50, width=3, vocabulary=101, dtype=torch.float32)
    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    with RowsOf(101) as logits:
        token_logprobs(hidden, weight, targets, bias=bias, soft_cap=3.0, chunk=8).sum().backward()
        token_entropy(hidden, weight, chunk=8)
    # Transposes [H, V] of the weight and the last chunk of 2 rows are the others.
    assert set(logits.seen) <= {8, 2, 3}
    assert 8 in logits.seen
    assert all(x.grad is not None for x in inputs)


def test_a_chunk_is_512_rows_unless_told():
    hidden, weight, _, targets = head(rows=600, width=3, vocabulary=101, dtype=torch.float32)
    for function in (lambda: token_logprobs(hidden, weight, targets), lambda: token_entropy(hidden, weight)):
        with RowsOf(101) as logits:
            function()
        assert set(logits.seen) - {3} == {512, 88}


def test_saved_for_backward_is_one_number_per_row():
    hidden, weight, _, targets = head(rows=50, width=3, vocabulary=101)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        token_logprobs(hidden.requires_grad_(), weight.requires_grad_(), targets, chunk=8)
    assert sum(t.numel() for t in saved) == hidden.numel() + weight.numel() + 2 * len(targets)


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, bias, targets = head()
    token_logprobs(hidden.requires_grad_(), weight, targets, bias=bias).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None
    assert not token_entropy(hidden, weight).requires_grad


@pytest.mark.parametrize(
    ("inputs", "output"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_log_softmax_is_fp32_at_least(inputs, output):
    hidden, weight, bias, targets = head(dtype=inputs)
    logprobs = token_logprobs(hidden.requires_grad_(), weight, targets, bias=bias)
    assert logprobs.dtype == token_entropy(hidden, weight, bias=bias).dtype == output
    wide = torch.nn.functional.linear(*(factor.to(output) for factor in (hidden, weight, bias))).log_softmax(-1)
    torch.testing.assert_close(logprobs, wide[torch.arange(len(targets)), targets], atol=1e-6, rtol=0)
    logprobs.sum().backward()
    assert hidden.grad.dtype == inputs


def test_under_autocast_the_factors_are_bf16_and_master_gradients_are_fp32():
    hidden, weight, bias, targets = head(rows=40, dtype=torch.float32)
    weight.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logprobs = token_logprobs(hidden, weight, targets, bias=bias, chunk=16)
    rounded = hidden.bfloat16().float() @ weight.bfloat16().float().T
    plain = (rounded + bias).log_softmax(-1)
    torch.testing.assert_close(logprobs, plain[torch.arange(40), targets], atol=1e-6, rtol=0)
    (grad,) = torch.autograd.grad(logprobs.sum(), weight)
    (expected,) = torch.autograd.grad(token_logprobs(hidden, weight, targets, bias=bias).sum(), weight)
    assert grad.dtype == torch.float32
    assert 0 < relative(grad - expected, expected) < 2e-2


def test_under_autocast_the_logits_for_sampling_are_of_bf16_factors():
    almost_one = torch.tensor([[1.001]])  # 1 in bf16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head_logits(almost_one, almost_one).tolist() == [[1.0]]
    assert head_logits(almost_one, almost_one).item() == pytest.approx(1.002001, abs=1e-6)


def test_small_gradients_of_many_chunks_add_up_in_fp32():
    hidden = torch.ones(1024, 1, dtype=torch.bfloat16)
    weight, bias = (torch.zeros(*shape, dtype=torch.bfloat16, requires_grad=True) for shape in ((2, 1), (2,)))
    token_logprobs(hidden, weight, torch.zeros(1024, dtype=torch.long), bias=bias, chunk=1).sum().backward()
    # 1024 times 1 − ½; a sum in bf16 would stay at 128, where its numbers stand 1 apart
    assert weight.grad.tolist() == [[512.0], [-512.0]]
    assert bias.grad.tolist() == [512.0, -512.0]


def test_autocast_leaves_fp64_alone():
    hidden, weight, bias, targets = head()
    expected = token_logprobs(hidden, weight, targets, bias=bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(token_logprobs(hidden, weight, targets, bias=bias), expected)


def test_mixed_types_multiply_in_the_wider_one():
    hidden, weight, _, targets = head(dtype=torch.float32)
    hidden = hidden.bfloat16()
    torch.testing.assert_close(
        token_logprobs(hidden, weight, targets), token_logprobs(hidden.float(), weight, targets), atol=0, rtol=0
    )


@pytest.mark.parametrize("integer", [torch.int8, torch.int16, torch.int32])
def test_targets_may_be_of_any_integer_type(integer):
    hidden, weight, _, targets = head()
    hidden.requires_grad_()
    values = [token_logprobs(hidden, weight, one) for one in (targets.to(integer), targets)]
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(value.sum(), hidden)[0] for value in values))


class OnCuda(torch.Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    is_cuda = property(lambda self: True)


@pytest.mark.parametrize(
    ("kind", "dtype", "built_for", "grad", "one_product"),
    [
        (OnCuda, torch.bfloat16, "13.0", False, True),
        (OnCuda, torch.bfloat16, "13.0", True, False),  # that product has no gradient
        (OnCuda, torch.float32, "13.0", False, False),
        (OnCuda, torch.bfloat16, None, False, False),  # ROCm
        (torch.Tensor, torch.bfloat16, "13.0", False, False),
    ],
)
@pytest.mark.parametrize("rows", [(2,), (3, 2), (2, 1, 2)])
def test_a_product_is_fp32_and_of_the_rows_shape_however_it_is_computed(
    monkeypatch, kind, dtype, built_for, grad, one_product, rows
):
    asked = []

    def mm(left, right, *, out_dtype):
        asked.append((left.dtype, right.dtype))
        return (left.to(out_dtype) @ right.to(out_dtype)).as_subclass(torch.Tensor)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    left = torch.full((*rows, 3), 0.1, dtype=dtype).as_subclass(kind)
    right = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]], dtype=dtype)
    with torch.set_grad_enabled(grad):
        product = exact_product(left, right).as_subclass(torch.Tensor)
    tenth = 0.10009765625 if dtype == torch.bfloat16 else 0.1
    expected = torch.tensor([6 * tenth, tenth, tenth, -tenth]).expand(*rows, 4)
    torch.testing.assert_close(product, expected, atol=1e-7, rtol=0)  # 6 tenths in bf16 would be 0.6015625
    assert product.dtype == torch.float32
    assert asked == [(torch.bfloat16, torch.bfloat16)] * one_product


@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_huge_logit_gaps_give_no_nan(gap):
    hidden = torch.tensor([[gap]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]], requires_grad=True)
    logprobs = token_logprobs(hidden, weight, torch.tensor([0]))
    logprobs.sum().backward()
    assert logprobs.item() == min(gap, 0.0)
    assert hidden.grad.item() == (0.0 if gap > 0 else 1.0)
    assert weight.grad.isfinite().all()
    assert token_entropy(hidden, weight).item() == 0.0


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"soft_cap": 0.0}, {"chunk": 0}])
def test_refuses_values_without_meaning(wrong):
    hidden, weight, _, targets = head()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        token_logprobs(hidden, weight, targets, **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        token_entropy(hidden, weight, **wrong)


def test_a_target_outside_the_vocabulary_is_an_error():
    hidden, weight, _, targets = head()
    with pytest.raises((IndexError, RuntimeError), match="index 99 is out of bounds"):
        token_logprobs(hidden, weight, targets.fill_(99))


def test_segments_by_hand():
    values, segment = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([0, 0, 2, 2])
    assert segment_sum(values, segment, 4).tolist() == [3.0, 0.0, 8.0, 0.0]
    assert segment_mean(values, segment, 4).tolist() == [1.5, 0.0, 4.0, 0.0]


def test_segment_gradients():
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    segment, weight = torch.tensor([1, 0, 1]), torch.tensor([10.0, 100.0])
    (grad,) = torch.autograd.grad(segment_sum(values, segment, 2) @ weight, values)
    assert grad.tolist() == [100.0, 10.0, 100.0]
    (grad,) = torch.autograd.grad(segment_mean(values, segment, 2) @ weight, values)
    assert grad.tolist() == [50.0, 10.0, 50.0]


@pytest.mark.parametrize(("logprob", "ref", "k1"), [(-1.0, -1.2, 0.2), (-1.3, -1.0, -0.3), (-2.0, -2.0, 0.0)])
def test_the_kl_estimator_by_hand(logprob, ref, k1):
    pair = torch.tensor([logprob], dtype=torch.float64), torch.tensor([ref], dtype=torch.float64)
    assert kl_k1(*pair).item() == pytest.approx(k1, abs=1e-6)
