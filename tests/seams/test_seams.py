"""The seams carry every method to come: each toy trains, does not care about layout, resumes bit for bit."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import tiny
import torch
import toys

from baro.batch import Branch, GroupBatch, Sample
from baro.collate import collate
from baro.config import TrainerConfig
from baro.data.joined import Joined
from baro.errors import ConfigError, GuardStop
from baro.measure import Measure, evaluate
from baro.models.forward import Outputs, ScoredModel
from baro.protocols import LocalWorld, LossOutput, Next, Objective, World
from baro.runs import RunDir
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


WHOLE = [toy for toy in toys.TOYS if toy is not toys.shared_trunk]  # whose models are trained whole


@pytest.mark.parametrize(
    ("toy", "config"),
    [(toy, CONFIG) for toy in toys.TOYS] + [(toy, CONFIG.model_copy(update={"optimizer": "muon"})) for toy in WHOLE],
    ids=lambda one: one.__name__ if callable(one) else one.optimizer,
)
def test_stop_and_resume_is_bit_equal(toy, config):
    whole = toy(LocalWorld())
    trainer = Trainer(whole.objective, whole.source, config)
    trainer.fit()
    assert trainer.step == len(whole.source)
    expected = trainer.state_dict()
    for stop in (1, 3, len(whole.source) - 1):
        first = toy(LocalWorld())
        begun = Trainer(first.objective, first.source, config)
        begun.fit(until=stop)
        state = copy.deepcopy(begun.state_dict())
        second = toy(LocalWorld())
        continued = Trainer(second.objective, second.source, config)
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


# ------------------------------------------------------------------------------------------------ sources that end


def joined(first: int, second: int) -> Joined:
    sources = {
        name: toys.file_source(toys.random_samples(i, 6, 1), LocalWorld(), batch_size=2, steps=steps, term=name)
        for i, (name, steps) in enumerate({"rollout": first, "ptx": second}.items())
    }
    return Joined(sources)


class Both(toys.Sft):
    """−log π of either term's tokens"""


@pytest.mark.parametrize(("others", "said"), [(3, "its 3 steps are repeated"), (8, ""), (11, "the last 3 of its 11")])
def test_only_the_first_of_joined_sources_ends_the_run(others, said, tmp_path, caplog):
    caplog.set_level("INFO", logger="baro")
    source = joined(8, others)
    assert len(source) == 8
    assert (said in caplog.text) if said else not caplog.text
    held_out = collate(toys.random_samples(9, 4, 1), micro_batch_tokens=100, hidden_size=16, term="rollout")
    objective = Both(policy=ScoredModel(tiny.llama()))
    config = CONFIG.model_copy(update={"checkpoint_every": 5})
    measure = Measure(lambda: evaluate(objective, held_out, LocalWorld()), every=5)
    with closing(RunDir.open(tmp_path / "run", verb="sft", config=config, inputs={})) as run:
        Trainer(objective, source, config, run=run, measure=measure).fit()
        rows = run.metrics.read()
        assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
        assert [row["step"] for row in rows if "eval/loss" in row] == [0, 5, 8]
        assert [folder.name for folder in run.checkpoint_folders()] == ["step-000005", "step-000008"]


def test_a_repeated_source_goes_through_its_samples_again():
    terms = [[batch.term for batch in step] for step in steps_of(joined(7, 3))]
    assert len(terms) == 7
    assert all({"rollout", "ptx"} == set(step) for step in terms)


def steps_of(source: Joined) -> list:
    steps = []
    for micro_batches in source:
        steps.append(micro_batches)
        source.advance({})
    return steps


class Short:
    """A source that is no file's, and says more steps than it gives."""

    def __init__(self, says: int, gives: int) -> None:
        self.says, self.gives, self.taken = says, gives, 0

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[list]:
        while self.taken < self.gives:
            yield collate(toys.random_samples(0, 2, 1), micro_batch_tokens=100, hidden_size=16, term="ptx")

    def advance(self, metrics: dict) -> Next:
        self.taken += 1
        return Next.CONTINUE

    def state_dict(self) -> dict:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict) -> None:
        self.taken = state["taken"]


def test_a_source_that_cannot_be_repeated_is_refused():
    lead = toys.file_source(toys.random_samples(0, 6, 1), LocalWorld(), steps=8, term="rollout")
    with pytest.raises(ConfigError) as error:
        Joined({"rollout": lead, "ptx": Short(3, 3)})
    assert str(error.value) == "source 'ptx' has 3 steps and 'rollout' has 8; give 'ptx' at least as many"


def test_a_source_that_ends_before_its_last_step_stops_the_run():
    objective = Both(policy=ScoredModel(tiny.llama()))
    with pytest.raises(GuardStop) as error:
        Trainer(objective, Short(5, 3), CONFIG).fit()
    assert str(error.value).startswith("the source gave 3 of its 5 steps and then none")
    Trainer(objective, Short(5, 3), CONFIG).fit(until=3)
    Trainer(objective, Short(3, 3), CONFIG).fit()


# ------------------------------------------------------------------------------------------------- steps without work


class Without(toys.GroupCentred):
    """The rollouts named in ``without`` have no completion, as if every score had failed."""

    def __init__(self, without: tuple[int, ...]) -> None:
        super().__init__()
        self.without = without

    def __call__(self, samples: Sequence[Sample], world: World) -> list[Sample]:
        return [
            one.with_completions([b for b in one.completions if int(b.fields["rollout"]) not in self.without])
            for one in super().__call__(samples, world)
        ]


class Tied(toys.GroupCentred):
    """No completion of one rollout has an advantage; ``skip`` says whether such completions are skipped."""

    def __init__(self, number: int, skip: bool) -> None:
        super().__init__()
        self.number, self.skip = number, skip

    def one(self, b: Branch, sample: Sample) -> Branch:
        found = super().one(b, sample)
        if b.fields["rollout"] == self.number:
            found = found.with_(token_fields={"advantages": torch.zeros(len(b.ids), dtype=torch.float64)}, skip=True)
        return found.with_(skip=found.skip and self.skip)


class Mixed(toys.Grpo):
    """The clipped surrogate on the rollout, −log π on ptx"""

    def losses(self, batch: GroupBatch, totals: dict) -> Iterator[LossOutput]:
        if batch.term == "rollout":
            yield from super().losses(batch, totals)
        else:
            yield LossOutput(-self.of["policy"](batch, ["logprobs"]).logprobs.sum() / totals["tokens"])


def trained_without(without: tuple[int, ...], *, ptx: bool, folder: Path) -> list[dict]:
    policy = ScoredModel(tiny.llama())
    source = toys.rollout_source(policy, Without(without), LocalWorld(), completions=4)
    if ptx:
        texts = toys.file_source(toys.random_samples(6, 10, 1), LocalWorld(), steps=8, term="ptx")
        source = Joined({"rollout": source, "ptx": texts})
    with closing(RunDir.open(folder, verb="grpo", config=CONFIG, inputs={})) as run:
        Trainer(Mixed(policy=policy), source, CONFIG, run=run).fit()
        return run.metrics.read()


@pytest.mark.parametrize("without", [(), (0,), (1,), (0, 1)])
def test_a_step_without_completions_changes_nothing_and_has_no_loss(without, tmp_path):
    rows = trained_without(without, ptx=False, folder=tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, 9))
    skipped = [row for row in rows if (row["step"] - 1) // 4 in without]
    for row in rows:
        keys = {key for key in row if not key.startswith("perf/")}
        assert (keys == {"step", "skipped_step"}) == (row in skipped), row
        assert all(value is not None for value in row.values())


def test_a_term_without_completions_is_left_out_and_the_other_trains(tmp_path):
    rows = trained_without((0,), ptx=True, folder=tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert not any("skipped_step" in row for row in rows)
    assert all(row["loss"] is not None and row["grad_norm"] > 0 for row in rows)


def test_a_skipped_first_step_settles_no_layout_and_checks_no_gradient():
    policy = ScoredModel(tiny.llama())
    source = toys.rollout_source(policy, Without((0,)), LocalWorld(), completions=4)
    trainer = Trainer(Mixed(policy=policy), source, CONFIG)
    before = copy.deepcopy(policy.state_dict())
    policy.checked = False
    trainer.fit(until=4)
    assert_equal_states(policy.state_dict(), before)
    assert not trainer._coverage_checked
    trainer.fit()
    assert trainer._coverage_checked
    assert policy.checked


@pytest.mark.parametrize("number", [0, 1])
def test_a_step_whose_completions_are_all_skipped_is_taken_with_a_gradient_of_0(number, tmp_path):
    """In the second rollout momentum still moves the weights, as if all had been computed."""
    found, rows = [], []
    for skip in (True, False):
        policy = ScoredModel(tiny.llama())
        source = toys.rollout_source(policy, Tied(number, skip), LocalWorld(), completions=4)
        with closing(RunDir.open(tmp_path / str(skip), verb="grpo", config=CONFIG, inputs={})) as run:
            Trainer(toys.Grpo(policy=policy), source, CONFIG, run=run).fit()
            rows.append(run.metrics.read())
        found.append(policy.state_dict())
    assert all((tensor - found[1][name]).abs().max() <= 1e-12 for name, tensor in found[0].items())
    assert [row["grad_norm"] == 0 for row in rows[0]] == [(row["step"] - 1) // 4 == number for row in rows[0]]


# ------------------------------------------------------------------------------------------------------------ layouts


class Watched(ScoredModel):
    """Its layouts while it computed, in their order."""

    def __init__(self) -> None:
        super().__init__(tiny.llama())
        self.used: list[str] = []

    def forward(self, *arguments: object, **options: object) -> Outputs:
        self.used.append(self.layout)
        return super().forward(*arguments, **options)


def test_the_layout_is_settled_before_the_first_held_out_loss(monkeypatch):
    order = []
    monkeypatch.setattr("baro.measure.check_layout", lambda *arguments: order.append("check"))
    measure = Measure(lambda: order.append("evaluate") or {"loss": 1.0})
    run = toys.sft(LocalWorld())
    Trainer(run.objective, run.source, CONFIG, measure=measure).fit(until=1)
    assert order[:2] == ["check", "evaluate"]


def test_a_resumed_run_keeps_its_layout():
    def trainer() -> tuple[Trainer, Watched]:
        policy = Watched()
        source = toys.file_source(toys.random_samples(0, 10, 1), LocalWorld())
        return Trainer(toys.Sft(policy=policy), source, CONFIG), policy

    first, policy = trainer()
    policy.layout, policy.checked = "own", True  # as if "shared" and "separate" had been found wrong
    first.fit(until=2)
    assert set(policy.used) == {"own"}
    second, again = trainer()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.fit()
    assert set(again.used) == {"own"}


# ------------------------------------------------------------------------------------------------------------- seconds


def test_the_time_of_a_source_is_its_own_and_a_held_out_loss_is_nobodys(tmp_path, monkeypatch):
    clock = iter(range(10**6))  # a second at each look
    monkeypatch.setattr("baro.trainer.time.perf_counter", lambda: next(clock))
    run = toys.sft(LocalWorld())

    def slow(*_: object) -> dict:
        for _ in range(100):
            next(clock)
        return {"loss": 1.0}

    batch = run.source._batch

    def slow_batch() -> list[Sample]:
        for _ in range(7):
            next(clock)
        return batch()

    run.source._batch = slow_batch
    with closing(RunDir.open(tmp_path / "run", verb="sft", config=CONFIG, inputs={})) as opened:
        Trainer(run.objective, run.source, CONFIG, run=opened, measure=Measure(slow)).fit(until=2)
        rows = [row for row in opened.metrics.read() if row["step"]]
    assert [(row["perf/source_seconds"], row["perf/step_seconds"]) for row in rows] == [(8, 1), (8, 1)]
