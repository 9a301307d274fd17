"""The seams carry every method to come: each toy trains, does not care about layout, resumes bit for bit."""

import copy

import pytest
import torch
import toys

from baro.batch import Sample
from baro.collate import collate
from baro.config import TrainerConfig
from baro.protocols import LocalWorld, Objective
from baro.trainer import Trainer

CONFIG = TrainerConfig(learning_rate=0.01, seed=3, warmup_steps=2, schedule="linear")


def gradients(objective: Objective, samples: dict[str, list[Sample]], budget: int, per_row: int, atom: str) -> dict:
    """Each tensor's gradient of one step over all samples, cut as told."""
    batches = [
        batch
        for term, of_term in samples.items()
        for batch in collate(of_term, micro_batch_tokens=budget, hidden_size=16, per_row=per_row, atom=atom, term=term)
    ]
    totals: dict[str, dict[str, float]] = {}
    for batch in batches:
        for unit, amount in batch.units.items():
            of_term = totals.setdefault(batch.term, {})
            of_term[unit] = of_term.get(unit, 0.0) + amount
    parameters = [p for m in objective.modules().values() for p in m.parameters() if p.requires_grad]
    for p in parameters:
        p.grad = None
    loss = 0.0
    for batch in batches:
        for output in objective.losses(batch, totals[batch.term]):
            output.loss.backward()
            loss += float(output.loss.detach())
    return {"loss": loss, "grads": [p.grad.clone() for p in parameters]}


@pytest.mark.parametrize("toy", toys.TOYS, ids=lambda t: t.__name__)
def test_any_micro_batch_split_and_row_layout_gives_the_same_gradient(toy):
    run = toy(LocalWorld())
    whole = gradients(run.objective, run.samples, 10**6, 1, run.atom)
    assert any(g.abs().sum() > 0 for g in whole["grads"])
    for per_row in run.layouts:
        for budget in (1, 40, 10**6):
            reverse = {term: samples[::-1] for term, samples in run.samples.items()}
            other = gradients(run.objective, reverse, budget, per_row, run.atom)
            assert other["loss"] == pytest.approx(whole["loss"], abs=1e-11)
            for a, b in zip(other["grads"], whole["grads"], strict=True):
                assert (a - b).norm() <= 1e-9 * max(float(b.norm()), 1e-6)


@pytest.mark.parametrize("toy", toys.TOYS, ids=lambda t: t.__name__)
def test_stop_and_resume_is_bit_equal(toy):
    whole = toy(LocalWorld())
    trainer = Trainer(whole.objective, whole.source, CONFIG)
    trainer.fit()
    assert trainer.step == len(whole.source)
    expected = trainer.state_dict()
    for stop in (1, 3, len(whole.source) - 1):
        first = toy(LocalWorld())
        begun = Trainer(first.objective, first.source, CONFIG)
        begun.fit(until=stop)
        state = copy.deepcopy(begun.state_dict())
        second = toy(LocalWorld())
        continued = Trainer(second.objective, second.source, CONFIG)
        continued.load_state_dict(state)
        continued.fit()
        assert_equal_states(continued.state_dict(), expected)


@pytest.mark.parametrize("toy", toys.TOYS, ids=lambda t: t.__name__)
def test_every_toy_trains(toy):
    run = toy(LocalWorld())
    before = [p.clone() for m in run.objective.modules().values() for p in m.parameters()]
    samples = {"loss": gradients(run.objective, run.samples, 10**6, 1, run.atom)["loss"]}
    Trainer(run.objective, run.source, CONFIG).fit()
    after = gradients(run.objective, run.samples, 10**6, 1, run.atom)["loss"]
    parameters = [p for m in run.objective.modules().values() for p in m.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(before, parameters, strict=True)]
    trained = [p.requires_grad for p in parameters]
    assert moved == trained
    assert after < samples["loss"]


def assert_equal_states(a: object, b: object, path: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal_states(a[key], b[key], f"{path}.{key}")
    else:
        assert a == b, path
