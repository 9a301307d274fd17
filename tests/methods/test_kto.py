"""KTO through its objective: losses by hand, the gradient's signs, z for any order, batch and split, whole runs."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from baro.batch import Sample, branch
from baro.collate import collate
from baro.config import DataConfig, TrainerConfig, load_config
from baro.data.formats import read_records
from baro.data.ledger import Ledger
from baro.data.new_tokenizer import train_tokenizer
from baro.data.partners import WithPartners, with_partners
from baro.data.source import FileSource
from baro.data.template import Template
from baro.errors import ConfigError, DataError
from baro.methods import kto
from baro.methods.reference import ReferenceLogprobs
from baro.models.forward import Outputs, ScoredModel
from baro.models.load import Architecture, new_policy, save_policy
from baro.protocols import LocalWorld
from baro.records import Preference, Ranking, Thumb

LAYOUT = {"micro_batch_tokens": 100, "hidden_size": 16}


def config_of(**changes) -> kto.Config:
    return kto.Config(policy="p", thumbs="t", **changes)


def thumb(prompt: list[int], ids: list[int], label: float, *, z: float = 0.0, ref=None, key: str = "") -> Sample:
    """A row as ``kto.encode`` makes it, with z and the reference's log-probs where they are given."""
    one = kto.labelled(branch(ids), label).with_(fields={"z": z})
    if ref is not None:
        one = one.with_(token_fields={"ref_logprobs": torch.tensor(ref, dtype=torch.float64)})
    return Sample(torch.tensor(prompt), (one,), key)


class Given:
    """A model whose log-probs are given."""

    def __init__(self, logprobs: list[float]) -> None:
        self.logprobs = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)

    def __call__(self, batch, outputs):
        return Outputs(logprobs=self.logprobs)


# log-ratios: +1 over four tokens with a thumb up, −0.5 over five with a thumb down, +1 over one with 3 of 4 votes down
LOGPROBS = [-1.0, -2.0, -0.5, -0.5, -1.0, -1.0, -1.0, -1.0, -1.0, -2.0]
ROWS = [
    thumb([1, 2], [3, 4, 5, 6], 1.0, z=0.3, ref=[-1.5, -2.5, -0.5, -0.5]),
    thumb([3], [7, 8, 9, 10, 11], 0.0, z=0.3, ref=[-1.0, -1.0, -1.0, -0.5, -1.0]),
    thumb([4, 5, 6, 7], [12], 0.25, z=0.3, ref=[-3.0]),
]


def loss_of(rows: list[Sample], logprobs: list[float], config: kto.Config) -> tuple[float, list[float], dict]:
    batches = collate(rows, **LAYOUT)
    (batch,) = batches
    model = Given(logprobs)
    (output,) = kto.Objective(model, config).losses(batch, batch.units)
    output.loss.backward()
    found = {name: float(total) / float(weight) for name, (total, weight) in output.metrics.items() if float(weight)}
    return output.loss.item(), model.logprobs.grad.tolist(), found


@pytest.mark.parametrize(
    ("changes", "losses"),
    [
        ({}, (0.482507, 0.480011, 0.508747)),
        ({"desirable_weight": 3.0, "undesirable_weight": 0.5}, (1.447521, 0.240005, 0.555940)),
        ({"loss": "apo_zero_unpaired"}, (0.475021, 0.487503, 0.512490)),
        ({"beta": 1.0}, (0.331812, 0.310026, 0.584094)),
    ],
)
def test_every_loss_is_the_mean_over_completions_by_hand(changes, losses):
    # 0.25 · up + 0.75 · down for the last: 0.25 · 0.482507 + 0.75 · 0.517493
    loss, _, _ = loss_of(ROWS, LOGPROBS, config_of(**changes))
    assert loss == pytest.approx(sum(losses) / 3, abs=1e-6)


def test_metrics_by_hand():
    _, _, found = loss_of(ROWS, LOGPROBS, config_of())
    # counts of thumbs up: 1 + 0.25, down: 1 + 0.75
    assert found == pytest.approx(
        {
            "kl": 0.3,
            "rewards/chosen": 0.1 * (1.0 + 0.25 * 1.0) / 1.25,
            "rewards/rejected": 0.1 * (-0.5 + 0.75 * 1.0) / 1.75,
            "rewards/margins": 0.1 - 0.1 * 0.25 / 1.75,
            "rewards/accuracies": 2.0 / 2.5,  # the last row is on the wrong side, with half a thumb's certainty
            "logps/chosen": (-4.0 + 0.25 * -2.0) / 1.25,
            "logps/rejected": (-5.0 + 0.75 * -2.0) / 1.75,
        },
        abs=1e-6,
    )


def test_metrics_of_a_step_with_one_kind_have_no_margin():
    _, _, found = loss_of(ROWS[:1], LOGPROBS[:4], config_of())
    assert "rewards/margins" not in found
    assert found["rewards/chosen"] == pytest.approx(0.1)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_finite_differences_say_what_every_token_does(loss, weight):
    """A token of a thumb up is raised, one of a thumb down lowered, and z stands still: no gradient reaches it."""
    config, h = config_of(loss=loss, desirable_weight=weight), 1e-5
    _, gradient, _ = loss_of(ROWS, LOGPROBS, config)
    for i, found in enumerate(gradient):
        up, down = list(LOGPROBS), list(LOGPROBS)
        up[i], down[i] = up[i] + h, down[i] - h
        slope = (loss_of(ROWS, up, config)[0] - loss_of(ROWS, down, config)[0]) / (2 * h)
        assert found == pytest.approx(slope, abs=1e-8)
        assert (found < 0) == (i < 4) or i == 9


def random_rows(count: int = 14) -> list[Sample]:
    """Rows with prompts of 1-4 tokens and completions of 1-5, every third a thumb down."""
    rng = np.random.default_rng(3)

    def some(low: int, high: int) -> list[int]:
        return rng.integers(1, tiny.VOCABULARY, rng.integers(low, high)).tolist()

    return [thumb(some(1, 5), some(1, 6), float(i % 3 > 0), key=f"f:{i + 1}") for i in range(count)]


def prepared(rows: list[Sample], budget: int = 60) -> list[Sample]:
    ready = ReferenceLogprobs(ScoredModel(tiny.llama(0)), "zero", budget)(with_partners(rows, 100), LocalWorld())
    return list(ready)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_no_layout_changes_the_gradient(loss):
    def gradient(budget: int) -> list[torch.Tensor]:
        policy = ScoredModel(tiny.llama(7))
        samples = kto.Prepare(policy, budget)(prepared(random_rows()), LocalWorld())
        batches = collate(samples, micro_batch_tokens=budget, hidden_size=16, atom="completion")
        totals = {name: sum(batch.units.get(name, 0.0) for batch in batches) for name in ("completions", "up", "down")}
        for batch in batches:
            for output in kto.Objective(policy, config_of(loss=loss, beta=0.5)).losses(batch, totals):
                output.loss.backward()
        return [p.grad for p in policy.parameters()]

    whole = gradient(10_000)
    for budget in (8, 40):
        for one, other in zip(gradient(budget), whole, strict=True):
            assert (one - other).norm() <= 1e-9 * float(other.norm())


# ----------------------------------------------------------------------------------------------------------------- z


class Rank(LocalWorld):
    """One of several ranks: what the others gather is given."""

    def __init__(self, others: list[float]) -> None:
        self.others, self.mine = others, None

    def gather(self, values: list) -> list:
        self.mine = values
        return [*self.others, *values]


def z_of(samples: list[Sample], policy: ScoredModel, world=None) -> float:
    done = kto.Prepare(policy, 60)(samples, world or LocalWorld())
    assert not any(one.partner for s in done for one in s.completions)
    (z,) = {one.fields["z"] for s in done for one in s.completions}
    return z


def test_z_is_the_same_for_any_order_and_any_split_over_ranks():
    policy, rows = ScoredModel(tiny.llama(7)), random_rows()
    z = z_of(prepared(rows), policy)
    assert z > 0.005
    for order in (rows[::-1], rows[5:] + rows[:5]):
        assert z_of(prepared(order), policy) == pytest.approx(z, rel=1e-12)
    ready = prepared(rows)
    for cut in (1, 5, 13):
        first, second = Rank([]), Rank([])
        kto.Prepare(policy, 60)(ready[:cut], first)
        kto.Prepare(policy, 60)(ready[cut:], second)
        assert z_of(ready[:cut], policy, Rank(second.mine)) == pytest.approx(z, rel=1e-12)
        assert z_of(ready[cut:], policy, Rank(first.mine)) == pytest.approx(z, rel=1e-12)


def test_a_row_has_the_same_log_ratio_in_every_batch_and_a_step_of_one_row_has_a_z():
    policy, ready = ScoredModel(tiny.llama(7)), prepared(random_rows())
    alone = [z_of([one], policy) for one in ready]
    everyone = Rank([])
    kto.Prepare(policy, 60)(ready, everyone)
    assert [max(0.0, one) for one in everyone.mine] == pytest.approx(alone, abs=1e-9)
    assert any(alone)
    assert not all(alone)  # below 0 it is clamped


def test_the_last_step_of_one_row_goes_through_the_source():
    policy, rows = ScoredModel(tiny.llama(7)), random_rows(5)
    once, step = ReferenceLogprobs(ScoredModel(tiny.llama(0)), "zero", 60), kto.Prepare(policy, 60)
    source = FileSource(with_partners(rows, 100), batch_size=4, epochs=1, seed=0, once=once, step=step, **LAYOUT)
    sizes = []
    for batches in source:
        sizes.append(sum(len(batch.group_of) for batch in batches))
        assert all(batch.completion_fields["z"].isfinite().all() for batch in batches)
        source.advance({})
    assert sizes == [4, 1]


def test_z_moves_with_the_policy_and_is_no_part_of_its_gradient():
    """The gradient is that of the loss with z written in as a number."""
    policy, ready = ScoredModel(tiny.llama(7)), prepared(random_rows())
    done = kto.Prepare(policy, 60)(ready, LocalWorld())
    written = [s.with_completions([b.with_(fields={"z": z_of(ready, policy)}) for b in s.completions]) for s in done]
    gradients = []
    for samples in (done, written):
        (batch,) = collate(samples, micro_batch_tokens=1000, hidden_size=16)
        (output,) = kto.Objective(policy, config_of()).losses(batch, batch.units)
        policy.zero_grad()
        output.loss.backward()
        gradients.append([p.grad.clone() for p in policy.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    assert z_of(ready, policy) != done[0].completions[0].fields["z"]


# -------------------------------------------------------------------------------------------------------------- data


def labels_of(rows: list[dict], want: type, folder) -> list[tuple[str, str, float]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer(["ask a b c d"], 280), "none")
    found = list(kto.encode(read_records(path, want), template, 90, Ledger("rows")))
    assert all(one.units == pytest.approx({"up": one.fields["label"], "down": 1 - one.fields["label"]})
               for s in found for one in s.completions)  # fmt: skip
    ones = [(s.key, one) for s in found for one in s.completions]
    return [(key, template.decode(one.ids.tolist()), round(one.fields["label"], 6)) for key, one in ones]


def test_thumbs_pairs_and_rankings_are_labels(tmp_path):
    thumbs = [{"prompt": "ask", "completion": "a", "label": True}, {"prompt": "ask", "completion": "b", "label": False}]
    assert labels_of(thumbs, Thumb, tmp_path) == [("rows.jsonl:1", "a", 1.0), ("rows.jsonl:2", "b", 0.0)]
    pairs = [{"prompt": "ask", "chosen": "a", "rejected": "b"}, {"prompt": "ask", "chosen": "c", "rejected": "d",
                                                                 "p_chosen": 0.7}]  # fmt: skip
    assert labels_of(pairs, Preference, tmp_path) == [
        ("rows.jsonl:1", "a", 1.0),
        ("rows.jsonl:1", "b", 0.0),
        ("rows.jsonl:2", "c", 0.7),
        ("rows.jsonl:2", "d", 0.3),
    ]
    ranking = [{"prompt": "ask", "responses": ["a", "b", "c", "d"], "ranks": [3, 1, 2, 2]}]
    assert [label for _, _, label in labels_of(ranking, Ranking, tmp_path)] == [0.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("up", "down", "weights", "said"),
    [
        (
            5,
            5,
            {},
            ("INFO", "t: 5 thumbs up and 5 down; desirable_weight is 1: beside undesirable_weight 1, 1 to 1.3"),
        ),
        (
            2,
            8,
            {},
            ("WARNING", "t: 2 thumbs up and 8 down; desirable_weight is 1: beside undesirable_weight 1, 4 to "),
        ),
        (2, 8, {"desirable_weight": 5.0}, ("INFO", "desirable_weight is 5")),
        (8, 2, {"undesirable_weight": 4.0}, ("INFO", "beside undesirable_weight 4, 1 to 1.33 is recommended")),
        (1, 10, {"desirable_weight": 10.0}, ("INFO", "10 to 13.3")),
    ],
)
def test_the_recommended_weights_are_told_and_warned_of_outside(up, down, weights, said, caplog):
    rows = [thumb([1], [2], float(i < up)) for i in range(up + down)]
    with caplog.at_level(logging.INFO, "baro"):
        kto.check_balance(rows, config_of(**weights))
    (record,) = caplog.records
    assert (record.levelname, said[1] in record.getMessage()) == (said[0], True), record.getMessage()


@pytest.mark.parametrize(
    ("up", "down", "sentence"),
    [
        (3, 0, "t: all 3 thumbs are up; kto learns from how the two kinds differ, so add some of the other"),
        (0, 3, "t: all 3 thumbs are down; kto learns from how the two kinds differ, so add some of the other"),
        (1, 11, "t: 1 thumbs up and 11 down are more than 10 to one; leave out rows of the commoner kind, or add some "
                "of the rarer"),
        (21, 2, "t: 21 thumbs up and 2 down are more than 10 to one; leave out rows of the commoner kind, or add some "
                "of the rarer"),
    ],
)  # fmt: skip
def test_too_few_of_a_kind_is_refused_in_one_sentence(up, down, sentence):
    with pytest.raises(DataError) as error:
        kto.check_balance([thumb([1], [2], float(i < up)) for i in range(up + down)], config_of())
    assert str(error.value) == sentence


@pytest.mark.parametrize("values", [{"beta": 0}, {"desirable_weight": 0}, {"undesirable_weight": -1}, {"loss": "bco"}])
def test_what_cannot_be_is_refused(values):
    with pytest.raises(ConfigError):
        load_config(kto.Config, None, values={"policy": "p", "thumbs": "t", **values})


# -------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny untrained policy; thumbs up for kind answers, and the same as pairs."""
    folder = tmp_path_factory.mktemp("kto")
    pairs = [
        {"prompt": f"Say {word} to {name}.", "chosen": f"{word}, dear {name}!", "rejected": f"{word}."}
        for word in ("hi", "bye", "thanks", "welcome")
        for name in ("Mina", "Jun", "Sora", "Alex")
    ]
    thumbs = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for i, row in enumerate(pairs)
        for side in (("chosen", "rejected") if i % 2 else ("chosen",))
    ]
    for name, rows in (("pairs", pairs), ("thumbs", thumbs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer([" ".join(row.values()) for row in pairs], 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder / "policy")
    template.save(folder / "policy")
    return {"policy": str(folder / "policy"), "thumbs": str(folder / "thumbs.jsonl")}


TRAINER = TrainerConfig(learning_rate=0.01, steps=12, batch_size=6, held_out_fraction=0.25, evaluate_every=4)


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_both_losses_learn_and_z_is_anew_at_every_evaluation(loss, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = kto.Config(**inputs, loss=loss, trainer=TRAINER, data=DataConfig(max_length=96))
    run = kto.run(config)
    rows = run.metrics.read()
    train = [row for row in rows if "loss" in row]
    assert train[0]["loss"] == pytest.approx(0.5, abs=1e-6)  # at the start r = z = 0
    assert train[-1]["rewards/margins"] > max(0.05, train[0].get("rewards/margins", 0.0))
    held_out = [row["eval/kl"] for row in rows if "eval/kl" in row]
    assert [row["step"] for row in rows if "eval/kl" in row] == [0, 4, 8, 12]
    assert held_out[0] == 0.0
    assert any(held_out) == (loss == "kto")
    assert kto.run(config).finished


def test_pairs_serve_and_it_is_said_how(inputs, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    pairs = inputs["thumbs"].replace("thumbs", "pairs")
    config = kto.Config(policy=inputs["policy"], thumbs=pairs, trainer=TRAINER, data=DataConfig(max_length=96))
    with caplog.at_level(logging.INFO, "baro"):
        kto.run(config)
    assert f"{pairs} holds no thumbs but comparisons: each completion counts by itself, as a thumb up by" in caplog.text
    assert "thumbs up and 12 down; desirable_weight is 1" in caplog.text  # a quarter of 16 is held out
    caplog.clear()
    with caplog.at_level(logging.INFO, "baro"):
        kto.run(config.model_copy(update={"thumbs": inputs["thumbs"]}))
    assert "holds no thumbs" not in caplog.text


def test_apo_needs_no_partner_and_kto_says_which_row_has_none(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "Say hi to Mina.", "completion": f"hi {i}", "label": i % 2 == 0} for i in range(4)]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"policy": inputs["policy"], "thumbs": "one.jsonl", "trainer": TrainerConfig(learning_rate=0.01, steps=1)}
    assert kto.run(kto.Config(**given, loss="apo_zero_unpaired")).finished
    with pytest.raises(DataError, match=r"^one\.jsonl:1: no other row has another prompt and another completion"):
        kto.run(kto.Config(**given))


def test_partners_carry_no_label_into_the_loss():
    rows = random_rows(4)
    for one in WithPartners(rows, [1, 2, 3, 0]):
        assert [sorted(b.fields) for b in one.completions] == [["label", "z"], []]
        with pytest.raises(TypeError, match="holds the completion of another prompt"):
            collate([replace(one, key="f:1")], **LAYOUT)
