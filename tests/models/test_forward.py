"""Shared-prompt rows give what the plain Hugging Face model gives for each completion alone."""

import itertools

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baro.batch import Sample, branch, pack_samples, unpack_samples
from baro.collate import collate
from baro.models.forward import ScoredModel, forward_samples
from baro.protocols import LocalWorld

MODELS = {"llama": tiny.llama, "qwen3": tiny.qwen3, "gpt2": tiny.gpt2}


def plain_logprobs(model, sample: Sample, k: int, temperature: float = 1.0) -> torch.Tensor:
    """The scored tokens' log-probs from ``model(input_ids).logits``, one completion at a time."""
    one = sample.completions[k]
    ids = torch.cat([sample.prompt_ids, one.ids])
    logits = model(ids[None]).logits[0] / temperature
    everyone = torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), ids[1:]]
    return everyone[len(sample.prompt_ids) - 1 :][one.scored]


SAMPLES = [
    Sample(torch.tensor([3, 4, 5]), (branch([6, 7, 2]), branch([8, 2]), branch([9, 10, 11, 12, 2]))),
    Sample(torch.tensor([1]), (branch([2]), branch([5, 6, 7, 2], scored=[True, False, False, True]))),
    Sample(torch.tensor([1, 9, 9, 9, 9, 9, 4]), (branch([7, 2]),)),
]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_layout_gives_the_plain_models_log_probs(name, temperature, dtype):
    model = MODELS[name](dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for per_row, budget in itertools.product((1, 2, 3, None), (1, 20, 1000)):
        for batch in collate(SAMPLES, micro_batch_tokens=budget, hidden_size=16, per_row=per_row):
            found = ScoredModel(model)(batch, ["logprobs"], temperature=temperature).logprobs
            assert len(found) == len(batch.targets)
        found = forward_samples(
            ScoredModel(model),
            SAMPLES,
            ["logprobs"],
            micro_batch_tokens=budget,
            world=LocalWorld(),
            temperature=temperature,
            per_row=per_row,
        )["logprobs"]
        with torch.no_grad():
            for sample, group in zip(SAMPLES, found, strict=True):
                for k, logprobs in enumerate(group):
                    assert torch.allclose(logprobs, plain_logprobs(model, sample, k, temperature), atol=tolerance)


def test_restarted_positions_without_a_mask_are_silently_wrong():
    """Why a branched row always carries its mask: transformers takes the restart for a new document."""
    model = tiny.llama()
    (batch,) = collate(SAMPLES[:1], micro_batch_tokens=1000, hidden_size=16, per_row=3)
    scored = ScoredModel(model)
    right = scored(batch, ["logprobs"]).logprobs
    scored._additive_mask = lambda batch: None
    assert (scored(batch, ["logprobs"]).logprobs - right).abs().max() > 1e-3


@torch.no_grad()
def test_scores_are_those_of_the_sequence_classification_model():
    model = tiny.llama_scalar()
    scored = ScoredModel(model, score_bias=0.25)
    found = forward_samples(scored, SAMPLES, ["scores"], micro_batch_tokens=30, world=LocalWorld())["scores"]
    for sample, scores in zip(SAMPLES, found, strict=True):
        for one, score in zip(sample.completions, scores, strict=True):
            plain = model(torch.cat([sample.prompt_ids, one.ids])[None]).logits[0, 0]
            assert float(score) == pytest.approx(float(plain) + 0.25, abs=1e-12)


@torch.no_grad()
def test_an_encoder_reads_every_row_whole():
    model = ScoredModel(tiny.bert(), head=torch.nn.Linear(16, 1, dtype=torch.float64), bidirectional=True)
    found = forward_samples(model, SAMPLES, ["scores"], micro_batch_tokens=1000, world=LocalWorld(), per_row=1)[
        "scores"
    ]
    for sample, scores in zip(SAMPLES, found, strict=True):
        for one, score in zip(sample.completions, scores, strict=True):
            ids = torch.cat([sample.prompt_ids, one.ids])[None]
            kinds = torch.tensor([[0] * len(sample.prompt_ids) + [1] * len(one.ids)])
            hidden = model.model(ids, token_type_ids=kinds).last_hidden_state[0, -1]
            assert float(score) == pytest.approx(float(model.extra_head(hidden)), abs=1e-12)


def test_the_mask_by_eye():
    # prompt a b, completions C D and E, one filler column
    sample = Sample(torch.tensor([1, 2]), (branch([3, 4]), branch([5])))
    longer = Sample(torch.tensor([1, 2, 3, 4, 5]), (branch([6]),))
    (batch,) = collate([sample, longer], micro_batch_tokens=100, hidden_size=16, per_row=2)
    #                  a  b  C  D  E  -
    expected_rows = [
        [1, 0, 0, 0, 0, 0],  # a
        [1, 1, 0, 0, 0, 0],  # b
        [1, 1, 1, 0, 0, 0],  # C
        [1, 1, 1, 1, 0, 0],  # D
        [1, 1, 0, 0, 1, 0],  # E sees the prompt and itself, not C D
        [0, 0, 0, 0, 0, 1],
    ]  # filler sees itself, so that no row is empty
    assert batch.visible()[0].int().tolist() == expected_rows
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 2, 0]
    assert batch.branch[0].tolist() == [0, 0, 1, 1, 2, 0]
    assert batch.scored_at.tolist() == [1, 2, 1, 6 + 4]  # C and E are both predicted by b
    assert batch.targets.tolist() == [3, 4, 5, 6]
    assert batch.completion_of.tolist() == [0, 0, 1, 2]
    assert batch.last_at.tolist() == [3, 4, 6 + 5]
    assert batch.units == {"tokens": 4.0, "completions": 3.0}


def test_a_text_without_bos_does_not_score_its_first_token():
    text = Sample(torch.zeros(0, dtype=torch.long), (branch([3, 4, 5], scored=[False, True, True]),))
    (batch,) = collate([text], micro_batch_tokens=10, hidden_size=16)
    assert (batch.scored_at.tolist(), batch.targets.tolist()) == ([0, 1], [4, 5])


@st.composite
def groups(draw: st.DrawFn) -> list[Sample]:
    tokens = st.integers(1, tiny.VOCABULARY - 1)
    prompt = st.lists(tokens, min_size=1, max_size=9)
    completion = st.lists(tokens, min_size=1, max_size=7)
    return [
        Sample(torch.tensor(p), tuple(branch(c) for c in cs))
        for p, cs in draw(
            st.lists(st.tuples(prompt, st.lists(completion, min_size=1, max_size=5)), min_size=1, max_size=5)
        )
    ]


@settings(max_examples=25, deadline=None)
@given(groups(), st.randoms(use_true_random=False), st.integers(1, 120), st.sampled_from([1, 2, 3, 8, None]))
def test_no_layout_order_or_split_changes_loss_or_gradient(samples, random, budget, per_row):
    model = ScoredModel(tiny.llama())

    def gradient(samples: list[Sample], **layout: object) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        batches = collate(samples, hidden_size=16, **layout)
        total = sum(batch.units["tokens"] for batch in batches)
        loss = sum(-model(batch, ["logprobs"]).logprobs.sum() / total for batch in batches)
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in model.parameters()]

    shuffled = list(samples)
    random.shuffle(shuffled)
    loss, grads = gradient(samples, micro_batch_tokens=10**6, per_row=1)
    for atom in ("group", "completion"):
        other, others = gradient(shuffled, micro_batch_tokens=budget, per_row=per_row, atom=atom)
        assert other == pytest.approx(loss, rel=1e-11)
        assert all((a - b).norm() <= 1e-9 * max(float(b.norm()), 1e-8) for a, b in zip(others, grads, strict=True))


@settings(max_examples=25, deadline=None)
@given(groups())
def test_packed_samples_come_back_whole(samples):
    marked = [
        s.with_completions(
            [
                b.with_(token_fields={"x": torch.rand(b.scored_tokens)}, fields={"f": k / 3})
                for k, b in enumerate(s.completions)
            ]
        )
        for s in samples
    ]
    for before, after in zip(marked, unpack_samples(pack_samples(marked)), strict=True):
        assert torch.equal(before.prompt_ids, after.prompt_ids)
        for a, b in zip(before.completions, after.completions, strict=True):
            assert torch.equal(a.ids, b.ids)
            assert torch.equal(a.token_fields["x"], b.token_fields["x"])
            assert (a.fields, a.last, a.skip, a.partner) == (b.fields, b.last, b.skip, b.partner)
            assert a.units == b.units
