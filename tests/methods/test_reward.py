"""The reward model: K-wise vectors, every option changes what it should, recorded scores, and the gate before PPO."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from baro.batch import Sample, branch
from baro.collate import collate
from baro.config import DataConfig, TrainerConfig, load_config
from baro.data.new_tokenizer import train_tokenizer
from baro.data.rating import input_template, pair_template
from baro.data.template import Template
from baro.errors import ConfigError, DataError
from baro.functional.statistics import Interval
from baro.methods import ppo, reward
from baro.models.forward import Outputs, ScoredModel
from baro.models.heads import Scoring, new_head
from baro.models.load import Architecture, load_scalar_model, new_policy, new_scalar_model, save_policy
from baro.records import Message, Rollout, said
from baro.rewards.gate import explain, weaknesses
from baro.scorers import load_reward


def config_of(**changes) -> reward.Config:
    return reward.Config(model="m", preferences="p", **changes)


def ranking(ranks: list[float], **fields: list[float]) -> Sample:
    """One completion for each rank, as the encoders make them."""
    whole = {"p_chosen": [1.0] * len(ranks), "margin": [0.0] * len(ranks)} | fields
    return Sample(
        torch.tensor([1, 2]),
        tuple(
            branch([3 + k, 2]).with_(
                fields={"rank": rank} | {name: values[k] for name, values in whole.items()},
                units={"prompts": 1.0} if k == 0 else {},
            )
            for k, rank in enumerate(ranks)
        ),
    )


class Given:
    """A model whose scores are given."""

    def __init__(self, *criteria: list[float]) -> None:
        self.criteria = torch.tensor(criteria, dtype=torch.float64).T.requires_grad_()  # [C, K]
        self.scoring = Scoring(criteria={str(k): 1.0 for k in range(len(criteria))})

    def __call__(self, batch, outputs):
        return Outputs(scores=self.criteria.sum(-1), criteria=self.criteria)


def loss_of(samples: list[Sample], config: reward.Config, *criteria: list[float]) -> tuple[float, list[float]]:
    (batch,) = collate(samples, micro_batch_tokens=1000, hidden_size=16)
    model = Given(*criteria)
    (output,) = reward.Objective(model, config).losses(batch, batch.units)
    output.loss.backward()
    return output.loss.item(), model.criteria.grad.flatten().tolist()


@pytest.mark.parametrize(
    ("changes", "scores", "loss"),
    [
        ({}, [0.4, 0.5, 0.6], 0.762311),  # people say A > B > C, the model has C > B > A
        ({}, [0.8, 0.5, 0.1], 0.490186),  # after training it agrees
        ({}, [1.0, 0.5, 0.0], 0.420472),  # the floor of scores in 0..1
        ({"loss": "plackett_luce"}, [0.4, 0.5, 0.6], 1.946340),
        # each pair 0.9 · log(1 + e^−gap) + 0.1 · log(1 + e^gap): 0.1 · (0.3 + 0.4 + 0.7) / 3 more
        ({"label_smoothing": 0.1}, [0.8, 0.5, 0.1], 0.490186 + 0.1 * 1.4 / 3),
        # the pairs' sums are 1.3, 0.9 and 0.6: 0.01 · (1.69 + 0.81 + 0.36) / 3
        ({"center_rewards_coefficient": 0.01}, [0.8, 0.5, 0.1], 0.490186 + 0.0286 / 3),
    ],
)
def test_three_ranked_completions_by_hand(changes, scores, loss):
    found, grad = loss_of([ranking([1, 2, 3])], config_of(**changes), scores)
    assert found == pytest.approx(loss, abs=1e-6)
    assert grad[0] < 0 < grad[2]


def test_soft_labels_and_margins_of_a_pair():
    # z = 1.5 − 0.5 − 1/3: 0.414370; p = 0.75 at z = 1: 0.563262
    assert loss_of([ranking([1, 2], margin=[1 / 3] * 2)], config_of(), [1.5, 0.5])[0] == pytest.approx(
        0.414370, abs=1e-6
    )
    assert loss_of([ranking([1, 2], p_chosen=[0.75] * 2)], config_of(), [1.5, 0.5])[0] == pytest.approx(
        0.563262, abs=1e-6
    )


def test_regression_is_the_mean_over_completions_and_criteria():
    sample = ranking([-1, -3], **{"score/0": [1.0, 0.0], "score/1": [0.0, 3.0]})
    # ((0.5 − 1)² + 0²)/2 = 0.125, (0² + (1 − 3)²)/2 = 2: mean 1.0625; slopes (r − y)/K/C·2
    loss, grad = loss_of([sample], config_of(loss="regression"), [0.5, 0.0], [0.0, 1.0])
    assert loss == pytest.approx(1.0625)
    assert grad == pytest.approx([-0.25, 0.0, 0.0, -1.0])


@pytest.mark.parametrize("floor", [([1, 2], 0.313262), ([1, 2, 3], 0.420472)])
def test_the_floor_of_squashed_scores(floor):
    ranks, least = floor
    scores = torch.linspace(1, 0, len(ranks)).tolist()
    assert loss_of([ranking(ranks)], config_of(), scores)[0] == pytest.approx(least, abs=1e-6)


def test_each_completion_is_computed_once_however_many_pairs_it_is_in():
    torch.manual_seed(0)
    scored = []
    model = ScoredModel(tiny.llama().model, head=new_head("linear", 16, 1).double())
    model.extra_head.register_forward_hook(lambda module, inputs, output: scored.append(len(inputs[0])))
    (batch,) = collate([ranking([1, 2, 3, 4])], micro_batch_tokens=1000, hidden_size=16)
    next(reward.Objective(model, config_of()).losses(batch, batch.units))
    assert scored == [4]  # and not 2 for each of 6 pairs


@pytest.mark.parametrize("changes", [{}, {"loss": "plackett_luce"}, {"loss": "regression"}, {"label_smoothing": 0.2}])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_no_layout_changes_the_gradient(changes, pooling):
    torch.manual_seed(0)
    head = new_head("ffn", 16, 2).double()
    scored = {"score/kind": [0.1, 0.5, 0.9], "score/true": [1.0, 0.0, 0.5]}
    samples = [ranking([1, 2, 3], **scored), ranking([2, 1, 1], **scored), ranking([3, 1, 2], **scored)]

    def gradient(samples: list[Sample], budget: int, per_row: int) -> list[torch.Tensor]:
        scoring = Scoring(pooling, criteria={"kind": 0.5, "true": 2.0})
        model = ScoredModel(tiny.llama().model, head=head, scoring=scoring)
        model.zero_grad()
        batches = collate(samples, micro_batch_tokens=budget, hidden_size=16, per_row=per_row)
        totals = {unit: sum(batch.units.get(unit, 0.0) for batch in batches) for unit in ("prompts", "completions")}
        for batch in batches:
            for output in reward.Objective(model, config_of(**changes)).losses(batch, totals):
                output.loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    whole = gradient(samples, 10**6, 1)
    for budget, per_row in ((1, 2), (10**6, 3), (20, 2)):
        for a, b in zip(gradient(samples[::-1], budget, per_row), whole, strict=True):
            assert (a - b).norm() <= 1e-9 * max(float(b.norm()), 1e-6)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"loss": "plackett_luce", "label_smoothing": 0.1}, "label_smoothing is for pairs, and loss is plackett_luce"),
        ({"criteria": {"kind": 1.0}}, "criteria are learned by loss regression, and loss is bradley_terry"),
        ({"sigmoid": True, "center_rewards_coefficient": 0.01}, "center_rewards_coefficient and sigmoid exclude"),
        ({"input_template": "rate {completion}"}, r"must hold \{prompt\} once and then \{completion\} once"),
        ({"input_template": "{prompt} {completion} {prompt}"}, r"must hold \{prompt\} once"),
        ({"pooling": "middle"}, "pooling"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(values, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_config(reward.Config, None, values={"model": "m", "preferences": "p", **values})
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- runs

WORDS, NAMES = ("hi", "bye", "thanks", "welcome", "please"), ("Mina", "Jun", "Sora", "Alex")
PROMPTS = [f"Say {word} to {name}." for word in WORDS for name in NAMES]
KIND, RUDE = "dear {}!", "go, {}."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny decoder, a tiny encoder, pairs in which the kind answer is chosen, and the same with scores."""
    folder = tmp_path_factory.mktemp("reward")
    texts = [f"{prompt} {KIND} {RUDE} Given, rate" for prompt in PROMPTS]
    pairs = [{"prompt": p, "chosen": KIND.format(p[4:8]), "rejected": RUDE.format(p[4:8])} for p in PROMPTS]
    scored = [
        {
            "prompt": row["prompt"],
            "responses": [row["rejected"], row["chosen"]],
            "scores": [{"kind": 0.1, "true": 0.5}, {"kind": 0.9, "true": 0.6}],
        }
        for row in pairs
    ]
    for name, rows in (("pairs", pairs), ("scored", scored)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer(texts, 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder / "policy")
    template.save(folder / "policy")
    torch.manual_seed(0)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for t in texts for w in t.split()}), "dear", "go", "!"]
    tokens = {word: i for i, word in enumerate(dict.fromkeys(vocabulary))}
    backend = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **marks).save_pretrained(folder / "bert")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=64, **sizes)).save_pretrained(folder / "bert")
    return folder


def train(folder: Path, steps: int = 12, **changes):
    values = {"model": str(folder / "policy"), "preferences": str(folder / "pairs.jsonl"), **changes}
    trainer = TrainerConfig(learning_rate=0.01, steps=steps, batch_size=8, held_out_fraction=0.25)
    return reward.run(reward.Config(**values, trainer=trainer, data=DataConfig(max_length=96)))


def figures(run) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((run.path / "figures.json").read_text())}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "plackett_luce"},
        {"pooling": "mean", "head": "ffn"},
        {"pooling": "max"},
        {"sigmoid": True},
        {"label_smoothing": 0.1, "center_rewards_coefficient": 0.01},
        {"input_template": "Given {prompt}, rate {completion}"},
        {"model": "bert"},
        {"model": "bert", "pooling": "mean", "head": "ffn"},
        {"preferences": "scored.jsonl", "loss": "regression", "pooling": "mean", "head": "ffn"},
        {"preferences": "scored.jsonl", "loss": "regression", "criteria": {"kind": 2.0}, "sigmoid": True},
    ],
    ids=lambda changes: "-".join(f"{key}={value}" for key, value in changes.items()) or "plain",
)
def test_every_kind_learns_and_scores_the_same_when_loaded(folder, changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {name: str(folder / changes[name]) for name in ("model", "preferences") if name in changes}
    run = train(folder, steps=25, **changes | paths)
    found = figures(run)
    assert found["reward_model/accuracy"]["value"] == 1.0
    assert ("reward_model/ece" in found) == (not changes.get("sigmoid") and changes.get("loss") != "regression")
    source = load_reward(str(run.path))
    prompt = (Message("user", PROMPTS[0]),)
    name = PROMPTS[0][4:8]
    kind, rude = (float(s.value) for s in source.score([Rollout(prompt, said(t.format(name))) for t in (KIND, RUDE)]))
    assert kind > rude
    if changes.get("sigmoid"):
        limit = sum(changes.get("criteria", {"score": 1.0}).values())
        assert 0 < rude < kind < limit
    settings = json.loads((run.path / "model" / "reward_head.json").read_text())
    for key in ("pooling", "sigmoid", "head"):
        assert settings[key] == changes.get(
            key, {"pooling": "first" if "model" in changes else "last"}.get(key, settings[key])
        )
    if changes.get("loss") == "regression":
        assert settings["criteria"] == changes.get("criteria", {"kind": 0.5, "true": 0.5})


def test_a_frozen_backbone_stays_as_it_was(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train(folder, freeze_backbone=True)
    before = load_scalar_model_trunk(folder / "policy")
    after = load_scalar_model(run.path / "model").trunk.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    free = load_scalar_model(train(folder).path / "model").trunk.state_dict()
    assert not all(torch.equal(free[name], tensor) for name, tensor in before.items())
    rows = [row["loss"] for row in run.metrics.read() if "loss" in row]
    assert rows[-1] < rows[0]  # the head alone learns


def load_scalar_model_trunk(policy: Path) -> dict[str, torch.Tensor]:
    return new_scalar_model(policy, seed=0).trunk.state_dict()


def test_first_pooling_is_for_encoders(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="pooling first is for encoders"):
        train(folder, pooling="first")
    with pytest.raises(ConfigError, match="input_template and an encoder exclude each other"):
        train(folder, model=str(folder / "bert"), input_template="{prompt} {completion}")


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        (
            [{"kind": 1.0}],
            {"criteria": {"true": 1.0}},
            r"rows.jsonl:1: completion 1 has no score for 'true'; give it one",
        ),
        (
            [{"kind": 0.5}, {"kind": 3.0}],
            {"sigmoid": True},
            r"rows.jsonl:2: completion 1 has 'kind' at 3.0, and sigmoid",
        ),
    ],
)
def test_scores_that_cannot_be_learned_are_one_sentence(folder, rows, changes, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [{"prompt": f"p{i}", "responses": ["a", "b"], "scores": [row, row]} for i, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=sentence):
        train(folder, preferences="rows.jsonl", loss="regression", **changes)


def test_plackett_luce_has_no_place_for_doubt(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "p_chosen": 0.8}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"rows.jsonl:1: has p_chosen or margin, which loss plackett_luce cannot"):
        train(folder, preferences="rows.jsonl", loss="plackett_luce")


# ----------------------------------------------------------------------------------------------------------- templates


def test_the_input_template_by_eye(folder):
    template = input_template(Template.load(folder / "policy"), "Given {prompt}, rate {completion} now")
    one = template.encode((Message("user", "hi"),), (Message("assistant", "bye"),))
    assert template.visible(one.prompt_ids) == "<|bos|>Given hi, rate"
    assert template.visible(one.completion_ids) == " bye now<|eos|>"
    several = (Message("user", "hi"), Message("assistant", "x"), Message("user", "y"))
    asked = template.visible(template.encode_prompt(several))
    assert asked == "<|bos|>Given User: hi\nAssistant: x\nUser: y, rate"


def test_an_encoder_reads_the_tokenizers_own_pair(folder):
    template = pair_template(Template.load(folder / "bert"))
    one = template.encode((Message("user", "Say hi"),), (Message("assistant", "dear !"),))
    own = template.tokenizer("Say hi", "dear !", return_token_type_ids=True)
    assert one.prompt_ids + one.completion_ids == own["input_ids"]
    assert [0] * len(one.prompt_ids) + [1] * len(one.completion_ids) == own["token_type_ids"]
    assert one.last == len(one.completion_ids) - 1
    with pytest.raises(ConfigError, match="puts no mark between two texts"):
        pair_template(Template.load(folder / "policy"))


# ------------------------------------------------------------------------------------------------------------ the gate


GOOD = Interval(0.62, 0.567, 0.676, 300)


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        ({"reward_model/accuracy": GOOD}, []),
        ({"reward_model/accuracy": Interval(0.55, 0.5, 0.6, 300)}, ["accuracy"]),
        ({"reward_model/accuracy": GOOD, "reward_model/ece": 0.2}, []),
        ({"reward_model/accuracy": GOOD, "reward_model/ece": 0.21}, ["ece"]),
        ({"reward_model/accuracy": GOOD._replace(n=99), "reward_model/ece": 0.21}, []),  # ten bins of ten are noise
        ({"reward_model/length_correlation": Interval(-0.8, -0.83, -0.71, 300)}, ["length"]),
        ({"reward_model/length_correlation": Interval(0.8, 0.69, 0.86, 100)}, []),
        ({"reward_model/length_correlation": Interval(0.1, -0.75, 0.8, 5)}, []),
        ({}, []),
    ],
)
def test_the_limits(found, kinds):
    assert [one.kind for one in weaknesses(found)] == kinds
    assert all(f"{one.value:.2f}" in explain(one) for one in weaknesses(found))


def test_ppo_refuses_a_weak_reward_model_unless_told_otherwise(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train(folder, steps=1)
    assert "reward_model/weak" in figures(run)
    weak = [{"name": "reward_model/accuracy", "value": 0.52, "low": 0.45, "high": 0.6, "n": 200}]
    (run.path / "figures.json").write_text(json.dumps(weak))
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": PROMPTS[0]}) + "\n")
    values = {"policy": str(folder / "policy"), "prompts": "prompts.jsonl", "reward_model": str(run.path)}
    quick = {
        "rollout": {"prompts": 2, "epochs": 1, "minibatches": 1},
        "sampling": {"max_new_tokens": 4},
        "trainer": {"steps": 1},
        "data": {"max_length": 96},
    }
    with pytest.raises(ConfigError, match=r"this reward model is weak, since its accuracy .* as low as 0\.45"):
        ppo.run(load_config(ppo.Config, None, values=values | quick))
    accepted = values | quick | {"accept_weak_reward_model": True}
    assert ppo.run(load_config(ppo.Config, None, values=accepted)).path.exists()
