"""Losses by the ratio to the sampling policy: by hand, by autograd, and at extremes."""

import math

import pytest
import torch
from oracles import functional as oracle

from baro.functional.policy import clipped_policy_loss
from baro.functional.ratios import cispo_loss, dppo_loss, sampler_weights, sequence_log_ratio
from baro.functional.tokens import kl_k2, kl_k3


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def gradient(function, logprobs, *others, **options):
    logprobs = logprobs.clone().requires_grad_()
    value = function(logprobs, *others, **options)
    return value.detach().tolist(), torch.autograd.grad(value.sum(), logprobs)[0].tolist()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "grad"),
    [
        (1.25, 1.0, -1.25, -1.25),  # above 1 + 0.2 and below 1 + 0.28
        (1.3, 1.0, -1.28, 0.0),
        (1.3, -1.0, 1.3, 1.3),
        (0.75, -1.0, 0.8, 0.0),
    ],
)
def test_clip_higher(ratio, advantage, loss, grad):
    old = tensor(-2.0)
    found = gradient(
        clipped_policy_loss, old + math.log(ratio), old, tensor(advantage), clip_range=0.2, clip_range_high=0.28
    )
    assert found == (pytest.approx([loss]), pytest.approx([grad]))
    with pytest.raises(ValueError, match="clip_range_high is 0"):
        clipped_policy_loss(old, old, old, clip_range=0.2, clip_range_high=0.0)


def test_the_ratio_of_a_sequence():
    """The mean over its tokens: 1.068939, and not their product 1.221403."""
    old, change = tensor(-1.0, -2.0, -3.0, -1.0), tensor(0.1, -0.2, 0.3, 0.5)
    found = sequence_log_ratio(old + change, old, torch.tensor([0, 0, 0, 1]), 2).exp()
    assert found.tolist() == pytest.approx([1.0689391] * 3 + [math.exp(0.5)])
    logprobs = (old + change).requires_grad_()
    sequence_log_ratio(logprobs, old, torch.tensor([0, 0, 0, 1]), 2)[:3].exp().sum().backward()
    assert logprobs.grad.tolist() == pytest.approx([1.0689391] * 3 + [0.0])


@pytest.mark.parametrize(
    ("ratio", "advantage", "grad"), [(1.5, 2.0, -3.0), (7.0, 2.0, -10.0), (7.0, -2.0, 10.0), (0.1, -1.0, 0.1)]
)
def test_cispo(ratio, advantage, grad):
    """Above the limit of 5 the weight is cut, and the gradient stays."""
    old = tensor(-3.0)
    now = old + math.log(ratio)
    value, found = gradient(cispo_loss, now, old, tensor(advantage), limit=5.0)
    assert found == pytest.approx([grad])
    assert value == pytest.approx([grad * now.item()])
    with pytest.raises(ValueError, match=r"limit is 0\.5"):
        cispo_loss(old, old, old, limit=0.5)


@pytest.mark.parametrize(
    ("old", "now", "advantage", "grad"),
    [
        (0.5, 0.8, 1.0, 0.0),  # moved up by 0.3 and pushed up
        (0.5, 0.8, -1.0, 1.6),
        (0.5, 0.6, 1.0, -1.2),
        (0.5, 0.2, -1.0, 0.0),
        (0.001, 0.1, 1.0, -100.0),  # a hundred times as likely, and still rare
    ],
)
def test_dppo(old, now, advantage, grad):
    value, found = gradient(dppo_loss, tensor(now).log(), tensor(old).log(), tensor(advantage), limit=0.2)
    assert found == pytest.approx([grad])
    assert value == pytest.approx([grad])
    with pytest.raises(ValueError, match="difference of probabilities"):
        dppo_loss(tensor(-1.0), tensor(-1.0), tensor(1.0), limit=1.0)


@pytest.mark.parametrize("function", [cispo_loss, dppo_loss])
@pytest.mark.parametrize("log_ratio", [1e4, -1e4])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_no_nan_where_the_ratio_overflows_with_nothing_to_learn(function, log_ratio, advantage):
    limit = {cispo_loss: 5.0, dppo_loss: 0.2}[function]
    old = tensor(-1e4) if log_ratio > 0 else tensor(0.0)
    value, found = gradient(function, old + log_ratio, old, tensor(advantage), limit=limit)
    assert not any(map(math.isnan, value + found))


def test_kl_estimators_in_the_loss():
    logprobs, ref, old = tensor(-1.0), tensor(-1.2), tensor(-1.5)
    assert gradient(kl_k2, logprobs, ref, logprobs) == (pytest.approx([0.02]), pytest.approx([0.2]))
    value, _ = gradient(kl_k3, logprobs, ref, logprobs)
    assert value == pytest.approx([0.018731], abs=1e-6)
    value, _ = gradient(kl_k3, logprobs, ref, old)
    assert value == pytest.approx([0.018731 * math.exp(0.5)], abs=1e-5)


def test_the_expected_gradients_are_that_of_the_kl():
    """Over all tokens of a small policy, sampled from an earlier one."""
    logits, ref, old = (tensor(*values) for values in ((0.3, -0.4, 1.0), (0.0, 0.5, 0.2), (-0.2, 0.1, 0.4)))
    ref, old = ref.log_softmax(0), old.log_softmax(0)

    def grad(loss):
        free = logits.clone().requires_grad_()
        return torch.autograd.grad(loss(free.log_softmax(0)), free)[0].tolist()

    exact = grad(lambda now: (now.exp() * (now - ref)).sum())
    assert grad(lambda now: (old.exp() * kl_k3(now, ref, old)).sum()) == pytest.approx(exact)
    assert grad(lambda now: (old.exp() * kl_k2(now, ref, old)).sum()) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("statistic", "mode", "band", "weights", "beyond"),
    [
        ("token", "clip", (0.0, 2.0), [2.0, 0.25, 1.0, 1.5], [1, 0, 0, 0]),  # truncated importance sampling
        ("token", "mask", (0.5, 5.0), [4.0, 0.0, 1.0, 1.5], [0, 1, 0, 0]),  # IcePop
        ("product", "clip", (0.0, 1.2), [1.0, 1.0, 1.2, 1.2], [0, 0, 1, 1]),
        ("product", "mask", (0.5, 1.2), [1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1]),
        ("geometric_mean", "clip", (0.0, 2.0), [1.0, 1.0, 1.5**0.5, 1.5**0.5], [0, 0, 0, 0]),
        ("geometric_mean", "mask", (0.9, 1.1), [1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1]),
    ],
)
def test_weights_by_the_sampler(statistic, mode, band, weights, beyond):
    """Ratios 4 and 1/4 in one completion, 1 and 1.5 in the other."""
    sampler, of = tensor(-2.0, -1.0, -3.0, -1.0), torch.tensor([0, 0, 1, 1])
    old = sampler + tensor(4.0, 0.25, 1.0, 1.5).log()
    found, outside = sampler_weights(old, sampler, of, 2, statistic=statistic, mode=mode, band=band)
    assert found.tolist() == pytest.approx(weights)
    assert outside.tolist() == [bool(one) for one in beyond]


@pytest.mark.parametrize("mode", ["clip", "mask"])
@pytest.mark.parametrize("statistic", ["token", "product", "geometric_mean"])
def test_weights_by_the_sampler_equal_those_of_a_loop(statistic, mode):
    drawn = torch.Generator().manual_seed(1)
    of = torch.tensor([0, 0, 0, 1, 3, 3, 3, 3])  # completion 2 has no token
    sampler = -3 + torch.randn(8, generator=drawn, dtype=torch.float64)
    for scale, band in ((0.1, (0.95, 1.05)), (1.0, (0.0, 2.0)), (1.0, (0.5, math.inf))):
        old = sampler + scale * torch.randn(8, generator=drawn, dtype=torch.float64)
        found, beyond = sampler_weights(old, sampler, of, 4, statistic=statistic, mode=mode, band=band)
        expected = oracle.sampler_weights(old.numpy(), sampler.numpy(), of.tolist(), statistic, mode, *band)
        assert found.tolist() == pytest.approx(expected[0])
        assert beyond.tolist() == expected[1]


def test_a_ratio_that_overflows_is_bounded_first():
    old, sampler, of = tensor(-1.0, -1.0), tensor(-2000.0, -1.0), torch.tensor([0, 0])
    for mode, weight in (("clip", 3.0), ("mask", 0.0)):
        found, _ = sampler_weights(old, sampler, of, 1, statistic="product", mode=mode, band=(0.0, 3.0))
        assert found.tolist() == pytest.approx([weight, weight])
    for band in ((1.1, 2.0), (0.0, 0.9), (-1.0, 2.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match="it must hold 1"):
            sampler_weights(old, sampler, of, 1, statistic="token", mode="clip", band=band)
