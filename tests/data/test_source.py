"""Order, ranks, resume, preparation and held-out splits of FileSource."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from baro.batch import Sample, branch
from baro.data.source import PREPARED_AT_ONCE, FileSource, split_held_out
from baro.errors import ConfigError, DataError
from baro.functional.streams import permutation
from baro.protocols import LocalWorld, Next

LAYOUT = {"micro_batch_tokens": 16, "hidden_size": 8}


def samples(count: int) -> list[Sample]:
    """Sample i has i as its first completion token, so that a batch tells who is in it."""
    return [Sample(torch.tensor([1, 2 + i % 5]), (branch([i, 3]),), key=f"f:{i + 1}") for i in range(count)]


def steps_of(source: FileSource, limit: int = 1000) -> list[list[int]]:
    """Which samples each step takes, sorted: micro-batches are ordered by length."""
    steps = []
    for micro_batches in source:
        steps.append(sorted(int(one) for batch in micro_batches for one in batch.targets[::2]))
        source.advance({})
        if len(steps) == limit:
            break
    return steps


class World(LocalWorld):
    """One of several ranks, each run after the other; ``gather`` is given the others' values."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class Marking:
    """A Prepare that counts its calls and marks what it saw."""

    atom = "completion"

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, samples: Sequence[Sample], world: LocalWorld) -> list[Sample]:
        self.calls.append(len(samples))
        return [s.with_completions([c.with_(fields={"seen": 1.0}) for c in s.completions]) for s in samples]

    def state_dict(self) -> dict:
        return {"calls": len(self.calls)}

    def load_state_dict(self, state: dict) -> None:
        self.calls = [0] * state["calls"]


def test_every_epoch_takes_every_sample_once_and_keeps_the_last_part():
    source = FileSource(samples(10), batch_size=4, epochs=3, seed=0, **LAYOUT)
    steps = steps_of(source)
    assert len(source) == len(steps) == 9
    assert [len(step) for step in steps] == [4, 4, 2] * 3
    epochs = [[one for step in steps[i : i + 3] for one in step] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_order_is_a_function_of_seed_term_and_epoch():
    steps = steps_of(FileSource(samples(6), batch_size=3, epochs=2, seed=5, **LAYOUT))
    for epoch in range(2):
        order = permutation(6, "epoch", 5, "main", epoch).tolist()
        assert steps[2 * epoch : 2 * epoch + 2] == [sorted(order[:3]), sorted(order[3:])]
    assert steps != steps_of(FileSource(samples(6), batch_size=3, epochs=2, seed=5, term="ptx", **LAYOUT))


def test_steps_go_on_into_the_next_epoch():
    by_epochs = steps_of(FileSource(samples(5), batch_size=2, epochs=2, seed=1, **LAYOUT))
    by_steps = steps_of(FileSource(samples(5), batch_size=2, steps=4, seed=1, **LAYOUT))
    assert by_steps == by_epochs[:4]


def test_the_last_step_stops():
    source = FileSource(samples(4), batch_size=2, epochs=1, seed=0, **LAYOUT)
    answers = [source.advance({}) for _ in source]
    assert answers == [Next.CONTINUE, Next.STOP]
    assert steps_of(source) == []


def test_resuming_anywhere_equals_not_having_stopped():
    def source() -> FileSource:
        return FileSource(samples(7), batch_size=3, epochs=3, seed=2, step=Marking(), **LAYOUT)

    whole = steps_of(source())
    for position in range(1, 9):
        first, second = source(), source()
        begun = steps_of(first, position)
        second.load_state_dict(first.state_dict())
        assert second.step.state_dict() == {"calls": position}
        assert begun + steps_of(second) == whole


def test_an_unfinished_step_is_taken_again():
    source = FileSource(samples(4), batch_size=2, epochs=1, seed=0, **LAYOUT)
    first = next(iter(source))
    again = next(iter(source))
    assert torch.equal(first[0].input_ids, again[0].input_ids)


def test_ranks_share_each_batch():
    whole = steps_of(FileSource(samples(7), batch_size=3, epochs=1, seed=0, **LAYOUT))
    ranks = [
        steps_of(FileSource(samples(7), batch_size=3, epochs=1, seed=0, world=World(rank, 2), **LAYOUT))
        for rank in range(2)
    ]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == whole
    assert [len(step) for step in ranks[1]] == [1, 1, 0]  # the last batch holds one sample: nothing for rank 1


def test_a_step_prepare_sees_this_ranks_samples_of_the_step():
    prepare = Marking()
    source = FileSource(samples(5), batch_size=4, epochs=1, seed=0, step=prepare, **LAYOUT)
    for micro_batches in source:
        assert all(batch.completion_fields["seen"].all() for batch in micro_batches)
        source.advance({})
    assert prepare.calls == [4, 1]
    assert source.atom == "completion"


def test_a_once_prepare_sees_everything_before_the_first_step_and_never_again():
    prepare, count = Marking(), PREPARED_AT_ONCE + 3
    source = FileSource(samples(count), batch_size=200, epochs=2, seed=0, once=prepare, **LAYOUT)
    assert len(steps_of(source)) == 4
    assert prepare.calls == [PREPARED_AT_ONCE, 3]
    list(source)
    assert prepare.calls == [PREPARED_AT_ONCE, 3]
    assert [s.key for s in source.samples] == [f"f:{i + 1}" for i in range(count)]


def test_ranks_prepare_their_shares_and_all_get_all():
    everything = samples(5)
    shares = {rank: Marking()(everything[rank::2], LocalWorld()) for rank in range(2)}
    world = SimpleNamespace(rank=1, size=2, gather=lambda mine: shares[0] + mine)
    source = FileSource(everything, batch_size=5, epochs=1, seed=0, once=Marking(), world=world, **LAYOUT)
    next(iter(source))
    assert [s.key for s in source.samples] == [s.key for s in everything]
    assert all(s.completions[0].fields == {"seen": 1.0} for s in source.samples)


def test_both_prepares_run_and_both_are_state():
    once, step = Marking(), Marking()
    source = FileSource(samples(5), batch_size=4, epochs=2, seed=0, once=once, step=step, **LAYOUT)
    begun = steps_of(source, 2)
    assert (once.calls, step.calls) == ([5], [4, 1])
    again = FileSource(samples(5), batch_size=4, epochs=2, seed=0, once=Marking(), step=Marking(), **LAYOUT)
    again.load_state_dict(source.state_dict())
    assert (again.once.calls, again.step.calls) == ([0], [0, 0])
    assert begun + steps_of(again) == steps_of(FileSource(samples(5), batch_size=4, epochs=2, seed=0, **LAYOUT))


def test_what_cannot_be_a_source():
    with pytest.raises(ConfigError, match="trainer: give either epochs or steps"):
        FileSource(samples(2), batch_size=1, seed=0, **LAYOUT)
    with pytest.raises(DataError, match="no sample to train on"):
        FileSource([], batch_size=1, epochs=1, seed=0, **LAYOUT)
    source = FileSource(samples(2), batch_size=1, epochs=1, seed=0, **LAYOUT)
    with pytest.raises(AssertionError, match="advance"):
        list(source)


def test_layout_and_term_reach_the_micro_batches():
    pair = [Sample(torch.tensor([1, 2]), (branch([3, 4]), branch([5, 6])), key="f:1")]
    for per_row, rows in ((1, 2), (2, 1)):
        source = FileSource(pair, batch_size=1, epochs=1, seed=0, per_row=per_row, term="ptx", **LAYOUT)
        (batch,) = next(iter(source))
        assert (batch.input_ids.shape[0], batch.term) == (rows, "ptx")


# ----------------------------------------------------------------------------------------------------------- held out


def test_held_out_prompts_are_not_trained_on():
    everything = samples(100)  # five prompts, twenty samples each
    train, held = split_held_out(everything, 0.2, seed=0)
    assert (len(train), len(held)) == (80, 20)
    assert {tuple(s.prompt_ids.tolist()) for s in train}.isdisjoint({tuple(s.prompt_ids.tolist()) for s in held})
    shuffled = list(reversed(everything))
    assert {s.key for s in split_held_out(shuffled, 0.2, seed=0)[1]} == {s.key for s in held}
    assert any(
        {s.key for s in split_held_out(everything, 0.2, seed=n)[1]} != {s.key for s in held} for n in range(1, 9)
    )


def test_a_number_is_a_number_of_samples():
    alone = [Sample(torch.tensor([i]), (branch([1]),), key=f"f:{i}") for i in range(50)]
    assert len(split_held_out(alone, 7, seed=0)[1]) == 7


def test_pieces_of_a_text_stay_together():
    pieces = [Sample(torch.tensor([1]), (branch([i]),), key=f"f:{i // 4}#{i % 4 + 1}") for i in range(40)]
    train, held = split_held_out(pieces, 0.2, seed=0)
    assert {s.key.split("#")[0] for s in train}.isdisjoint({s.key.split("#")[0] for s in held})
    assert len(held) == 8


def test_a_split_needs_two_sides():
    with pytest.raises(DataError) as error:
        split_held_out(samples(100)[::5], 0.5, seed=0)
    assert str(error.value) == (
        "0.5 of 20 rows in 1 groups of one prompt cannot be held out; both sides need at least one row"
    )
