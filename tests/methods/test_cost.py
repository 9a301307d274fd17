"""The cost model: terms by hand, nothing but the rows decides, what held-out rows say, and where a cost is a score."""

import json
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from baro.batch import Sample, branch
from baro.collate import collate
from baro.config import load_config
from baro.errors import ConfigError, DataError
from baro.evaluate import evaluate, words_en, words_ko
from baro.functional.statistics import wilson_interval
from baro.inputs import obstacle_to_trunk
from baro.methods import cost, label
from baro.models.forward import Outputs
from baro.models.load import load_scalar_model
from baro.records import Message, Rollout, said
from baro.reward_config import RewardTerm, ScoredBy
from baro.rewards.cost_figures import cost_figures
from baro.rewards.gate import Weakness, explain, weaknesses
from baro.runs import RunDir
from baro.scorers import load_reward, load_rewards, load_scorer

NAN = float("nan")


def config_of(**changes) -> cost.Config:
    return cost.Config(model="m", preferences="p", **changes)


def row(*unsafe: float, ranks=None, p_safer=1.0, severity=None, prompt=(1, 2), key="") -> Sample:
    """Completions with labels, as the encoder makes them."""
    count = len(unsafe)
    told = zip(unsafe, ranks or [0] * count, severity or [NAN] * count, strict=True)
    return Sample(
        torch.tensor(prompt),
        tuple(
            branch([3 + k, 2]).with_(
                fields={"unsafe": float(q), "rank": float(rank), "p_safer": p_safer, "severity": float(how)},
                units={"prompts": 1.0} if k == 0 else {},
            )
            for k, (q, rank, how) in enumerate(told)
        ),
        key,
    )


class Given:
    """A model whose costs are given, by the place of a completion among all samples."""

    def __init__(self, costs: list[float]) -> None:
        self.costs = torch.tensor(costs, dtype=torch.float64).requires_grad_()

    def __call__(self, batch, outputs):
        at = batch.completion_fields["at"].long()
        return Outputs(scores=self.costs[at])


def numbered(samples: list[Sample]) -> list[Sample]:
    """The samples with each completion's place among all of them."""
    places = iter(range(100))
    return [s.with_completions([b.with_(fields={"at": float(next(places))}) for b in s.completions]) for s in samples]


def loss_of(samples, costs, config=None, *, size=1000, order=None):
    """Loss, gradients and metrics, over as many micro-batches as ``size`` makes, in any order of the rows."""
    placed = numbered(samples)
    placed = [placed[i] for i in order] if order else placed
    batches = collate(placed, micro_batch_tokens=size, hidden_size=16)
    totals: dict[str, float] = {}
    for batch in batches:
        totals = {name: totals.get(name, 0.0) + amount for name, amount in batch.units.items()}
    model = Given(costs)
    outputs = [one for b in batches for one in cost.Objective(model, config or config_of()).losses(b, totals)]
    total = sum(one.loss for one in outputs)
    total.backward()
    sums = {name: [sum(float(o.metrics[name][k]) for o in outputs) for k in (0, 1)] for name in outputs[0].metrics}
    return float(total.detach()), model.costs.grad.tolist(), {n: a / w for n, (a, w) in sums.items() if w}


# ----------------------------------------------------------------------------------------------------------- the terms


@pytest.mark.parametrize(
    ("sample", "costs", "loss"),
    [
        (row(0, 1, ranks=[1, 2]), [-1.0, 2.0], 0.488777),
        (row(1, 0, ranks=[2, 1]), [2.0, -1.0], 0.488777),
        (row(0, 0, ranks=[1, 2]), [-1.0, -0.2], 1.282501),
        (row(NAN, NAN, ranks=[1, 2]), [-1.0, 2.0], 0.048587),  # a pair of which nobody said what is unsafe
        (row(0, NAN, ranks=[1, 2]), [-1.0, 2.0], 0.048587 + 0.313262),
        (row(0, 1), [-1.0, 2.0], 0.313262 + 0.126928),  # two labels and no comparison
        (row(1), [2.0], 0.126928),  # a labelled single answer
        (row(0.25), [2.0], 0.25 * 0.126928 + 0.75 * 2.126928),
        (row(NAN, NAN, ranks=[1, 2], p_safer=0.75), [-1.0, 2.0], 0.75 * 0.048587 + 0.25 * 3.048587),
        # three in a row of 0, 1 and 2: pairs with gaps 1, 2 and 1
        (row(NAN, NAN, NAN, ranks=[1, 2, 3]), [0.0, 1.0, 2.0], (0.313262 + 0.126928 + 0.313262) / 3),
    ],
)
def test_every_term_by_hand(sample, costs, loss):
    assert loss_of([sample], costs)[0] == pytest.approx(loss, abs=2e-6)


def test_a_margin_is_the_difference_of_severities():
    pair = row(NAN, NAN, ranks=[1, 2], severity=[1, 3])
    config = config_of(margin_scale=0.5)  # a gap of 3 less a margin of 1
    assert loss_of([pair], [-1.0, 2.0], config)[0] == pytest.approx(0.126928, abs=1e-6)
    assert loss_of([pair], [-1.0, 2.0])[0] == pytest.approx(0.048587, abs=1e-6)
    against = row(NAN, NAN, ranks=[1, 2], severity=[3, 1])  # the safer one is the more severe: no margin
    assert loss_of([against], [-1.0, 2.0], config)[0] == pytest.approx(0.048587, abs=1e-6)


MIXED = [
    row(0, 1, ranks=[1, 2]),
    row(1),
    row(NAN, NAN, ranks=[2, 1]),
    row(0.5, 0.25, 1, ranks=[1, 1, 2], p_safer=0.75),
    row(0, prompt=(1, 2, 5, 6, 7)),
]
COSTS = [-1.0, 2.0, 0.3, 0.1, -0.4, 0.2, -0.7, 1.1, 0.6]


def test_a_prompt_weighs_what_it_weighs_by_itself():
    """Rows that lack one term are not made up for by those that have it."""
    ends = np.cumsum([len(sample.completions) for sample in MIXED])
    alone = [loss_of([s], COSTS[end - len(s.completions) : end])[0] for s, end in zip(MIXED, ends, strict=True)]
    assert loss_of(MIXED, COSTS)[0] == pytest.approx(sum(alone) / len(MIXED))


@pytest.mark.parametrize("size", [1, 9, 1000])
@pytest.mark.parametrize("order", [None, [4, 2, 0, 3, 1], [1, 0, 4, 3, 2]])
def test_neither_order_nor_micro_batches_change_anything(size, order):
    expected, found = loss_of(MIXED, COSTS), loss_of(MIXED, COSTS, size=size, order=order)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    assert found[1] == pytest.approx(expected[1], rel=1e-12)
    assert found[2] == pytest.approx(expected[2], rel=1e-5)


def test_gradients_by_finite_differences():
    _, gradient, _ = loss_of(MIXED, COSTS)
    for k in range(len(COSTS)):
        up, down = ([c + (step if i == k else 0) for i, c in enumerate(COSTS)] for step in (1e-5, -1e-5))
        assert gradient[k] == pytest.approx((loss_of(MIXED, up)[0] - loss_of(MIXED, down)[0]) / 2e-5, abs=1e-7)
    assert gradient[0] > 0 > gradient[1]  # the safe one down, the unsafe one up


def test_metrics_by_hand():
    """One pair in order; signs: −1 and 2 right, 0.3 right of an unsafe one, and of q = ½ nothing is asked."""
    _, _, told = loss_of([row(0, 1, ranks=[1, 2]), row(1), row(0.5), row(0)], [-1.0, 2.0, 0.3, 5.0, 0.2])
    assert told["accuracy"] == 1.0
    assert told["margin"] == 3.0
    assert told["sign_accuracy"] == pytest.approx(3 / 4)
    assert told["cost/unsafe"] == pytest.approx((2.0 + 0.3) / 2)
    assert told["cost/safe"] == pytest.approx((-1.0 + 0.2) / 2)
    assert told["loss/ranking"] == pytest.approx(0.048587, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------- figures


def test_figures_by_hand():
    """Two prompts with a comparison, of which one is in order; a prompt of three single answers with labels."""
    samples = [
        row(0, 1, ranks=[1, 2], prompt=(1,)),
        row(0, 0, ranks=[2, 1], prompt=(2,)),
        row(1, prompt=(3,)), row(0, prompt=(3,)), row(0.75, prompt=(3,)), row(0.5, prompt=(3,)),
    ]  # fmt: skip
    costs = [[-1.0, 2.0], [-0.5, -0.2], [1.0], [0.5], [-0.1], [3.0]]
    kinds = [[(), ("theft",)], [(), ()], [("theft",)], [("a/b",)], [()], [()]]
    found = cost_figures(samples, costs, kinds)
    # in order: 2 > −1; −0.5 > −0.2 is not; 1 > 0.5; −0.1 > 0.5 is not
    assert found["cost_model/accuracy"] == wilson_interval(2 / 4 * 3, 3)
    # right: −1, 2, −0.5, −0.2, 1; wrong: 0.5 of a safe one, −0.1 of one that most call unsafe
    assert found["cost_model/sign_accuracy"] == wilson_interval(5 / 7 * 3, 3)
    assert found["cost_model/recall_unsafe"] == wilson_interval(2 / 3 * 2, 2)
    assert found["cost_model/recall_safe"] == wilson_interval(3 / 4 * 3, 3)
    assert found["cost_model/balanced_accuracy"].value == pytest.approx((2 / 3 + 3 / 4) / 2)
    # unsafe 2, 1, −0.1 against safe −1, −0.5, −0.2, 0.5: 4 + 4 + 3 of 12
    assert found["cost_model/auroc"].value == pytest.approx(11 / 12)
    assert found["cost_model/undecided"] == 1.0
    assert found["baseline/all_safe"].value == pytest.approx(4 / 7)
    assert found["baseline/length_auroc"].value == 0.5
    assert found["baseline/longer_is_unsafer"].value == 0.5
    assert found["cost_model/vote_ceiling"].value == pytest.approx((6 + 0.75 + 0.5) / 8)
    assert found["cost_model/vote_agreement"].value == pytest.approx((5 + 0 + 0.25 + 0.5) / 8)
    assert found["cost_model/mean_cost/unsafe"] == pytest.approx(2.9 / 3)
    assert found["cost_model/sign_accuracy_by_category/theft"].value == 1.0
    assert found["cost_model/sign_accuracy_by_category/a_b"].value == 0.0
    assert found["cost_model/accuracy_by_category/theft"].value == 1.0


@pytest.mark.parametrize(
    ("samples", "missing"),
    [
        ([row(0), row(1, prompt=(5,))], "cost_model/accuracy"),  # no two answers to one prompt
        ([row(NAN, NAN, ranks=[1, 2])], "cost_model/sign_accuracy"),
        ([row(0), row(0)], "cost_model/auroc"),
    ],
)
def test_what_rows_cannot_say_is_not_said(samples, missing):
    costs = [[0.1 * k for k in range(len(s.completions))] for s in samples]
    found = cost_figures(samples, costs, [[()] * len(one) for one in costs])
    assert found
    assert missing not in found


@pytest.mark.parametrize(("p_safer", "right"), [(1.0, 1.0), (0.25, 0.0)])
def test_an_order_that_is_probably_wrong_counts_the_other_way(p_safer, right):
    found = cost_figures([row(NAN, NAN, ranks=[1, 2], p_safer=p_safer)], [[0.0, 1.0]], [[(), ()]])
    assert found["cost_model/accuracy"].value == right
    assert not cost_figures([row(NAN, NAN, ranks=[1, 2], p_safer=0.5)], [[0.0, 1.0]], [[(), ()]])


def test_a_weak_cost_model_is_known_by_its_order_and_by_its_sign():
    good, bad = wilson_interval(95, 100), wilson_interval(52, 100)
    names = ("cost_model/accuracy", "cost_model/balanced_accuracy")
    kinds = [
        [one.kind for one in weaknesses(dict(zip(names, found, strict=True)))]
        for found in ((good, good), (bad, good), (good, bad), (bad, bad))
    ]
    assert kinds == [[], ["ranking"], ["sign"], ["ranking", "sign"]]


@pytest.mark.parametrize("words", [words_en.ENGLISH, words_ko.KOREAN], ids=["en", "ko"])
def test_a_report_has_words_for_every_weakness(words):
    for kind in get_args(get_type_hints(Weakness)["kind"]):
        assert "{value}" in words[f"weak_{kind}"]
        assert explain(Weakness(kind, 0.5, 0.5))


# --------------------------------------------------------------------------------------------------------------- a run

HARM = ["poison", "steal", "attack", "explode"]
KIND = ["garden", "bake", "paint", "sing"]


def rows_of(count: int) -> list[dict]:
    """Answers with a word that tells, in pairs and alone; harm of two kinds."""
    made = []
    for i in range(count):
        bad, good = f"you can {HARM[i % 4]} it {i}", f"you can {KIND[(i // 4) % 4]} it {i}"
        responses, unsafe = ([bad, good], [1, 0]) if i % 2 else ([good, bad], [0, 1])
        kinds = [[["first", "second"][i % 2]] if q else [] for q in unsafe]
        made.append({"prompt": f"Say {i % 7}.", "responses": responses, "unsafe": unsafe, "categories": kinds})
        made[-1]["safety_ranks"] = [1 + q for q in unsafe] if i % 3 else None
        made[-1]["severity"] = [2 * q for q in unsafe]
    return made


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows_of(96)))
    return path


@pytest.fixture(scope="module")
def trained(policy, rows, tmp_path_factory):
    return train(policy, rows, tmp_path_factory.mktemp("cost") / "run")


def train(policy, rows, out=None, **changes) -> RunDir:
    trainer = {"steps": 60, "learning_rate": 0.01, "batch_size": 24, "held_out_fraction": 0.25}
    trainer |= changes.pop("trainer", {})
    values = {"model": str(policy), "preferences": str(rows), "trainer": trainer, "data": {"max_length": 96}}
    return cost.run(load_config(cost.Config, None, values=values | changes), out)


def figures_of(run: RunDir) -> dict[str, dict]:
    return {one["name"]: one for one in json.loads((run.path / "figures.json").read_text())}


def test_order_and_sign_are_learned(trained):
    losses = [one["loss"] for one in trained.metrics.read() if "loss" in one]
    assert losses[-1] < 0.2 < 1.5 < losses[0]
    found = figures_of(trained)
    for name in ("accuracy", "sign_accuracy", "balanced_accuracy", "auroc"):
        assert found[f"cost_model/{name}"]["value"] == 1.0, name
        assert found[f"cost_model/{name}"]["low"] < 1.0
    assert {name.rpartition("/")[2] for name in found if "sign_accuracy_by_category" in name} == {"first", "second"}
    assert found["cost_model/mean_cost/safe"]["value"] < 0 < found["cost_model/mean_cost/unsafe"]["value"]


def test_zero_stays_where_the_labels_put_it(trained):
    """A saved cost model is not centred: what it says of answers is what training left."""
    model = load_scalar_model(trained.path / "model")
    assert float(model.score_bias) == 0.0
    assert model.scoring.cost
    scores = load_reward(str(trained.path)).score(answers())
    assert [one.value > 0 for one in scores] == [True, False]


def answers() -> list[Rollout]:
    return [Rollout((Message("user", "Say 1."),), said(f"you can {word} it 1")) for word in ("poison", "bake")]


def test_a_margin_drives_costs_further_apart(policy, rows, tmp_path):
    few = {"steps": 12, "held_out_fraction": 0.0}
    runs = [train(policy, rows, tmp_path / str(k), trainer=dict(few), margin_scale=k or None) for k in (0, 4.0)]
    gaps = [one.metrics.read()[-1]["margin"] for one in runs]
    assert gaps[1] > gaps[0]


def test_held_out_rows_of_a_file_of_their_own(policy, rows, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps(one | {"categories": [["x"], ["x"]]}) + "\n" for one in rows_of(8)))
    trainer = {"steps": 1, "held_out": str(more), "held_out_fraction": 0.0}
    found = figures_of(train(policy, rows, tmp_path / "run", trainer=trainer))
    assert found["cost_model/sign_accuracy_by_category/x"]["n"] == 7  # prompts


def test_a_run_without_held_out_rows_has_no_figures(policy, rows, tmp_path):
    run = train(policy, rows, tmp_path / "run", trainer={"steps": 1, "held_out_fraction": 0.0})
    assert not (run.path / "figures.json").exists()


# ------------------------------------------------------------------------------------------------------ what is refused


def test_comparisons_without_a_label_have_no_zero(policy, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(one | {"unsafe": [None, None]}) + "\n" for one in rows_of(9) if one["safety_ranks"])
    )
    with pytest.raises(DataError, match="no answer is labelled safe or unsafe, and costs would have no zero"):
        train(policy, path, tmp_path / "run", trainer={"held_out_fraction": 0.0})


def test_a_margin_needs_every_severity(policy, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one | {"severity": [1, None]}) + "\n" for one in rows_of(9)))
    with pytest.raises(DataError, match=r"rows\.jsonl:2: an answer has no severity, and margin_scale makes margins of"):
        train(policy, path, tmp_path / "run", margin_scale=1.0, trainer={"held_out_fraction": 0.0})


def test_labels_of_one_side_are_told(policy, tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Say {i}.", "completion": f"bake {i}", "unsafe": 0} for i in range(8)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    train(policy, path, tmp_path / "run", trainer={"steps": 1, "held_out_fraction": 0.0})
    assert (
        "rows.jsonl: every answer is labelled safe, so that nothing shows where costs change their sign" in caplog.text
    )


def test_preferences_are_no_safety_judgments(policy, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "hi", "chosen": "a", "rejected": "b"}) + "\n")
    with pytest.raises(
        DataError, match="are preferences, and safety judgments are needed: prompt/response_0/response_1"
    ):
        train(policy, path, tmp_path / "run")


# --------------------------------------------------------------------------------------------- a cost where scores are


def test_less_cost_is_better_where_answers_are_compared(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["you can poison it 1", "you can bake it 1"]
    (tmp_path / "answers.jsonl").write_text(json.dumps({"prompt": "Say 1.", "responses": texts}) + "\n")
    for kind, key in (("pairs", "chosen"), ("best", "completion")):
        values = {"answers": "answers.jsonl", "by": str(trained.path), "as": kind}
        run = label.run(label.Config(**values), tmp_path / kind)
        assert json.loads(run.records.read_text())[key] == texts[1]


def test_accuracy_on_pairs_counts_the_cheaper_answer_as_preferred(trained, tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Say {i}.", "chosen": f"you can {KIND[i]} it", "rejected": f"you can {HARM[i]} it"}
        for i in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"pairs": str(path), "rewards": {"cost": str(trained.path)}, "data": {"max_length": 96}}
    found = figures_of(evaluate.run(evaluate.Config(**config), tmp_path / "run"))
    assert found["cost/pair_accuracy"]["value"] == 1.0


@pytest.mark.parametrize(
    ("key", "weight", "refused"),
    [
        ("rewards", 1.0, True), ("evaluation.rewards", 0.5, True), ("rewards", -1.0, False), ("costs", 1.0, False),
    ],
)  # fmt: skip
def test_a_cost_among_rewards_has_a_weight_below_zero(trained, tmp_path, key, weight, refused):
    terms = [RewardTerm(by=str(trained.path), weight=weight)]
    if refused:
        with pytest.raises(ConfigError, match=rf"{key}\.0: .* is a cost model, .* give it a weight below 0"):
            load_rewards(terms, key, run=trained)
    else:
        (term,) = load_rewards(terms, key, run=trained)
        assert [one.value > 0 for one in term.source.score(answers())] == [True, False]


def test_an_ensemble_would_move_the_zero_of_a_cost(trained, policy, rows, tmp_path):
    other = train(policy, rows, tmp_path / "other", trainer={"steps": 1, "seed": 4})
    with pytest.raises(ConfigError, match="is a cost model, whose zero an ensemble would move"):
        load_scorer(ScoredBy(by=[str(trained.path), str(other.path)]), name="both", run=trained)


def test_adapters_of_a_cost_model_can_stand_on_the_policys_trunk(policy, rows, tmp_path):
    run = train(policy, rows, tmp_path / "lora", lora={"r": 2}, trainer={"steps": 1})
    assert not obstacle_to_trunk(str(run.path), run.manifest["inputs"]["model"])
    assert "no adapter" not in obstacle_to_trunk(str(run.path), "other")
