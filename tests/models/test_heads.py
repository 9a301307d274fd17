"""Scalar heads: pooled by eye and by the plain model, the same in every layout, and the same after saving."""

import json

import pytest
import tiny
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from baro.batch import Sample, branch
from baro.collate import collate
from baro.errors import ConfigError
from baro.models.folders import is_encoder
from baro.models.forward import ScoredModel, forward_samples
from baro.models.heads import Scoring, new_head, own_columns, pooled
from baro.models.load import load_scalar_model, load_value_model, new_scalar_model, save_scalar_model
from baro.protocols import LocalWorld

SAMPLES = [
    Sample(torch.tensor([3, 4, 5]), (branch([6, 7, 2]), branch([8, 2]), branch([9, 10, 11, 12, 2, 13], last=4))),
    Sample(torch.tensor([1]), (branch([2]), branch([], last=-1))),
    Sample(torch.tensor([1, 9, 9, 9, 9, 9, 4]), (branch([7, 2]),)),
]


def test_own_columns_by_eye():
    #  row 0: a b | C D | E F(after its last) | G   row 1: h | (nothing) | I
    one = Sample(torch.tensor([1, 2]), (branch([3, 4]), branch([5, 6], last=0), branch([7])))
    other = Sample(torch.tensor([8]), (branch([], last=-1), branch([9])))
    (batch,) = collate([one, other], micro_batch_tokens=100, hidden_size=16, per_row=3)
    at, of = own_columns(batch)
    assert at.tolist() == [2, 3, 4, 6, 7 + 1]
    assert of.tolist() == [0, 0, 1, 2, 4]  # completion 3 has no token


def test_pooling_by_hand():
    one = Sample(torch.tensor([1]), (branch([2, 3]), branch([], last=-1)))
    (batch,) = collate([one], micro_batch_tokens=100, hidden_size=16, per_row=2)
    #                      prompt       2            3
    hidden = torch.tensor([[9.0, -9.0], [1.0, -4.0], [3.0, -8.0]])
    assert pooled(hidden, batch, "last").tolist() == [[3.0, -8.0], [9.0, -9.0]]
    assert pooled(hidden, batch, "mean").tolist() == [[2.0, -6.0], [9.0, -9.0]]
    assert pooled(hidden, batch, "max").tolist() == [[3.0, -4.0], [9.0, -9.0]]
    assert pooled(hidden, batch, "first").tolist() == [[9.0, -9.0]] * 2


def by_hand(states: torch.Tensor, one, prompt: int, pooling: str) -> torch.Tensor:
    """One completion alone in its row."""
    own = states[prompt : prompt + one.last + 1]
    if pooling == "last" or not len(own):
        return states[prompt + one.last]
    return {"mean": own.mean(0), "max": own.max(0).values, "first": states[0]}[pooling]


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("kind", ["linear", "ffn"])
@torch.no_grad()
def test_every_layout_gives_what_each_completion_alone_gives(pooling, kind):
    trunk, head = tiny.llama().model, new_head(kind, 16, 2).double()
    scoring = Scoring(pooling, sigmoid=True, criteria={"kind": 2.0, "true": -0.5})
    model = ScoredModel(trunk, head=head, score_bias=0.25, scoring=scoring)
    for per_row, budget in ((1, 1000), (2, 20), (3, 1000), (None, 1000)):
        options = {"micro_batch_tokens": budget, "world": LocalWorld(), "per_row": per_row}
        found = forward_samples(model, SAMPLES, ["scores"], **options)["scores"]
        for sample, scores in zip(SAMPLES, found, strict=True):
            for one, score in zip(sample.completions, scores, strict=True):
                states = trunk(torch.cat([sample.prompt_ids, one.ids])[None]).last_hidden_state[0]
                state = by_hand(states, one, len(sample.prompt_ids), pooling)
                expected = head(state).sigmoid() @ torch.tensor([2.0, -0.5], dtype=torch.float64) + 0.25
                assert float(score) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_no_layout_changes_the_gradient_of_a_pooled_score(pooling):
    torch.manual_seed(0)
    head = new_head("ffn", 16, 1).double()

    def gradient(samples: list[Sample], budget: int, per_row: int) -> list[torch.Tensor]:
        model = ScoredModel(tiny.llama().model, head=head, scoring=Scoring(pooling))
        model.zero_grad()
        for batch in collate(samples, micro_batch_tokens=budget, hidden_size=16, per_row=per_row):
            model(batch, ["scores"]).scores.square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    whole = gradient(SAMPLES, 10**6, 1)
    for budget, per_row in ((1, 1), (20, 2), (10**6, 3)):
        for a, b in zip(gradient(SAMPLES[::-1], budget, per_row), whole, strict=True):
            assert (a - b).norm() <= 1e-9 * max(float(b.norm()), 1e-6)


# --------------------------------------------------------------------------------------------------- folders, encoders

SMALL = {"vocab_size": tiny.VOCABULARY, "num_attention_heads": 4, "max_position_embeddings": 64}
ENCODERS = {
    "bert": lambda: BertModel(BertConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, **SMALL)),
    "roberta": lambda: RobertaModel(
        RobertaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, type_vocab_size=1, **SMALL)
    ),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=tiny.VOCABULARY, dim=16, hidden_dim=24, n_layers=2, n_heads=4)
    ),
}


@pytest.fixture(params=["llama", *ENCODERS])
def folder(request, tmp_path):
    torch.manual_seed(0)
    made = tiny.llama(dtype=torch.float32) if request.param == "llama" else ENCODERS[request.param]()
    made.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


@pytest.mark.parametrize("kind", ["linear", "ffn"])
def test_a_saved_scorer_scores_the_same(folder, kind, tmp_path):
    encoder = folder.name != "llama"
    assert is_encoder(folder) == encoder
    scoring = Scoring("first" if encoder else "max", sigmoid=True, criteria={"kind": 2.0, "true": -0.5})
    model = new_scalar_model(folder, seed=3, scoring=scoring, head=kind)
    with torch.no_grad():
        model.score_bias += 0.75
    options = {"micro_batch_tokens": 100, "world": LocalWorld()}
    before = forward_samples(model, SAMPLES, ["scores"], **options)["scores"]
    save_scalar_model(model, tmp_path / "saved")
    again = load_scalar_model(tmp_path / "saved")
    after = forward_samples(again, SAMPLES, ["scores"], **options)["scores"]
    assert [[float(s) for s in group] for group in before] == [[float(s) for s in group] for group in after]
    assert again.scoring == scoring
    assert again.bidirectional == encoder
    AutoModel.from_pretrained(tmp_path / "saved")
    (batch,) = collate(SAMPLES, micro_batch_tokens=1000, hidden_size=16, per_row=3)
    again(batch, ["scores"]).scores.sum().backward()  # every tensor that is trained gets a gradient
    assert all(p.grad is not None for p in again.parameters())


@torch.no_grad()
def test_an_encoder_gives_what_the_plain_model_gives(folder, tmp_path):
    if folder.name == "llama":
        pytest.skip("no encoder")
    for pooling in ("first", "mean", "max", "last"):
        model = new_scalar_model(folder, seed=3, scoring=Scoring(pooling))
        options = {"micro_batch_tokens": 40, "world": LocalWorld()}
        found = forward_samples(model, SAMPLES, ["scores"], **options)["scores"]
        for sample, scores in zip(SAMPLES, found, strict=True):
            for one, score in zip(sample.completions, scores, strict=True):
                prompt = len(sample.prompt_ids)
                kinds = torch.tensor([[0] * prompt + [1] * len(one.ids)])
                types = {"token_type_ids": kinds} if folder.name == "bert" else {}
                states = model.model(torch.cat([sample.prompt_ids, one.ids])[None], **types).last_hidden_state[0]
                expected = model.extra_head(by_hand(states, one, prompt, pooling))
                assert float(score) == pytest.approx(float(expected), abs=1e-5)


def test_a_value_model_takes_the_trunk_and_a_head_that_reads_one_state(tmp_path):
    tiny.llama(dtype=torch.float32).save_pretrained(tmp_path / "policy")
    for scoring, kept in ((Scoring(), True), (Scoring("mean"), False), (Scoring(sigmoid=True), False)):
        model = new_scalar_model(tmp_path / "policy", seed=1, scoring=scoring)
        save_scalar_model(model, tmp_path / "reward")
        value_model = load_value_model(tmp_path / "reward", seed=1)
        assert value_model.scoring.plain
        assert (value_model.extra_head is None) == kept
        for name, tensor in model.trunk.state_dict().items():
            assert torch.equal(tensor, value_model.trunk.state_dict()[name])
    ENCODERS["bert"]().save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is an encoder, which sees the whole answer at every token"):
        load_value_model(tmp_path / "bert", seed=1)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_text("{"), r"reward_head.json: cannot be read .*; copy the run again"),
        (lambda path: path.write_text("[]"), r"reward_head.json: cannot be read .*; copy the run again"),
        (
            lambda path: path.write_text(json.dumps({"head": "linear"})),
            r"criteria, pooling, score_bias, sigmoid is miss",
        ),
        (lambda path: path.unlink(), r"reward: lacks reward_head.json, without which its scores are others; copy"),
        (lambda path: path.with_suffix(".safetensors").write_bytes(b"x"), r"does not fit reward_head.json beside it"),
    ],
)
def test_a_damaged_head_is_one_sentence(tmp_path, damage, sentence):
    tiny.llama(dtype=torch.float32).save_pretrained(tmp_path / "policy")
    save_scalar_model(new_scalar_model(tmp_path / "policy", seed=1, head="ffn"), tmp_path / "reward")
    damage(tmp_path / "reward" / "reward_head.json")
    with pytest.raises(ConfigError, match=sentence):
        load_scalar_model(tmp_path / "reward")
