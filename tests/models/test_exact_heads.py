"""bf16 ends with the trunk: scores, values, logits and log-probs are fp32, whoever asks for them.

On a CPU only to test; there is no bf16 in a run without a GPU.
"""

import pytest
import tiny
import torch
from toys import random_samples

from baro.collate import collate
from baro.functional.tokens import exact_product, token_logprobs
from baro.models.forward import ScoredModel
from baro.models.heads import Scoring, new_head
from baro.records import SamplingParams
from baro.rollout import decode, engine
from baro.rollout.engine import Engine

NEAR = 1000


@pytest.fixture
def autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def scalar(head=None):
    model = ScoredModel(tiny.llama_scalar(dtype=torch.float32), head=head)
    model.autocast_dtype = torch.bfloat16
    return model


@pytest.mark.parametrize("kind", ["the model's own", "linear", "ffn"])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_thousand_rewards_stay_a_thousand(kind, sigmoid, autocast):
    """Scores near 5 stand 0.03 apart in bf16: 1,000 of them were 677, and ties count as errors."""
    model = scalar(None if kind == "the model's own" else new_head(kind, 16, 1))
    model.scoring = Scoring(sigmoid=sigmoid)
    hidden = torch.linspace(-1, 1, NEAR)[:, None] * torch.ones(16)
    with torch.no_grad():
        for parameter in model.scalar_head.parameters():
            parameter.fill_(0.05)
        found = model._weighted(model._criteria(hidden))
    assert found.dtype == torch.float32
    assert len(found.unique()) == NEAR


@pytest.mark.parametrize("output", ["scores", "criteria", "values"])
def test_a_head_is_the_plain_product_of_what_the_trunk_gives(output):
    model = scalar()
    (batch,) = collate(random_samples(0, 4, 2), micro_batch_tokens=10**6, hidden_size=16)
    with torch.no_grad(), model.autocast():
        states = model._hidden(batch)
    at = batch.scored_at if output == "values" else batch.last_at
    with torch.no_grad():
        expected = (states[at].double() @ model.scalar_head.weight.double().T).squeeze()
        found = getattr(model(batch, [output]), output).squeeze()
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=1e-6)


def near_twenty(rows=6, width=16, vocabulary=40, seed=0):
    """Factors that bf16 holds exactly, with products near 20 that differ by less than its spacing there."""
    random = torch.Generator().manual_seed(seed)
    hidden = 1.0 + torch.randint(0, 8, (rows, width), generator=random) / 128
    weight = 1.25 + torch.randint(0, 8, (vocabulary, width), generator=random) / 128
    return hidden, weight


def with_head(call):
    """``call`` of a model whose last norm gives just these states, and whose head has these weights."""
    hidden, weight = near_twenty()
    model = ScoredModel(tiny.llama(dtype=torch.float32, vocab_size=40, tie_word_embeddings=False))
    model.autocast_dtype = torch.bfloat16
    model.trunk.norm.forward = lambda _: hidden[None]
    with torch.no_grad(), model.autocast():
        model.model.lm_head.weight.copy_(weight)
        return call(model, hidden)


IDS = torch.arange(6)[None]
LOGITS = {
    "decoding": lambda: with_head(lambda model, hidden: model.logits(hidden)),
    "the model's own forward": lambda: with_head(lambda model, _: model.own_logits(IDS)[0]),
    "bf16 factors": lambda: exact_product(*(factor.bfloat16() for factor in near_twenty())),
}


@pytest.mark.parametrize("who", LOGITS)
def test_logits_are_not_rounded_to_bf16(who):
    hidden, weight = near_twenty()
    found = LOGITS[who]()
    assert found.dtype == torch.float32
    assert torch.equal(found, (hidden.double() @ weight.double().T).float())
    assert len(found.unique()) > 2 * len(found.bfloat16().unique())


def test_the_own_layout_gives_all_that_is_asked_for():
    """Values beside log-probs too, as a shared trunk asks for them."""
    model = ScoredModel(tiny.llama(), head=new_head("linear", 16, 1).double())
    (batch,) = collate(random_samples(0, 4, 2), micro_batch_tokens=10**6, hidden_size=16)
    wanted = ["logprobs", "entropy", "values", "scores"]
    with torch.no_grad():
        shared = model(batch, wanted)
        model.layout = "own"
        own, alone = model(batch, wanted), model(batch, ["values"])
    for name in wanted:
        torch.testing.assert_close(getattr(own, name), getattr(shared, name), atol=1e-9, rtol=0)
    assert torch.equal(alone.values, own.values)
    assert alone.logprobs is None


def test_an_own_forward_leaves_the_head_as_it_was():
    model = ScoredModel(tiny.llama(dtype=torch.float32))
    model.own_logits(IDS)
    assert "forward" not in vars(model.model.lm_head)


@pytest.mark.parametrize("bias", [False, True])
def test_log_probs_and_their_gradients_are_those_of_exact_logits(bias, autocast):
    torch.manual_seed(0)
    hidden, weight = (torch.randn_like(factor).bfloat16().float() for factor in near_twenty())
    offset = torch.linspace(-1, 1, len(weight)) if bias else None
    targets = torch.arange(6)
    exact = [t.double().requires_grad_() for t in (hidden, weight)]
    expected = (exact[0] @ exact[1].T + (0.0 if offset is None else offset.double())).log_softmax(-1)
    expected = expected.gather(1, targets[:, None])[:, 0]
    ours = [t.clone().requires_grad_() for t in (hidden, weight)]
    found = token_logprobs(*ours, targets=targets, bias=offset)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)
    expected.sum().backward()
    found.sum().backward()
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad.dtype == torch.float32
        assert (mine.grad - theirs.grad).norm() / theirs.grad.norm() < 1e-2  # the gradients of logits are bf16 factors


@pytest.mark.parametrize("name", ["llama", "bloom"], ids=["in slots", "whole sequences"])
def test_what_is_drawn_from_is_fp32(name, monkeypatch):
    model = ScoredModel(tiny.architecture(name, torch.float32))
    model.autocast_dtype = torch.bfloat16
    seen = []
    for module in (decode, engine):
        plain = module.draw
        monkeypatch.setattr(
            module, "draw", lambda logits, *rest, plain=plain: seen.append(logits) or plain(logits, *rest)
        )
    Engine(model, end_ids=frozenset()).generate([[1, 2, 3]], 2, SamplingParams(4), [0])
    assert seen
    assert all(logits.dtype == torch.float32 for logits in seen)
    assert any(not torch.equal(logits, logits.bfloat16().float()) for logits in seen)
