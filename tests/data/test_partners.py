"""Mismatched pairs: never one's own, always fitting, and a function of the contents of the set alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baro.batch import Sample, branch
from baro.data.partners import partners, with_partners
from baro.errors import DataError

FEW = settings(max_examples=60, deadline=None, derandomize=True)
tokens = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def sample(prompt: list[int], text: list[int], key: str = "") -> Sample:
    return Sample(torch.tensor(prompt), (branch(text),), key)


def contents(one: Sample) -> tuple:
    return tuple(one.prompt_ids.tolist()), tuple(one.completions[0].ids.tolist())


def pairs_of(samples: list[Sample], max_length: int = 100) -> list[tuple]:
    """The contents of every row and of its partner."""
    found = partners(samples, max_length).tolist()
    return sorted((contents(s), contents(samples[k]) if k >= 0 else ()) for s, k in zip(samples, found, strict=True))


@FEW
@given(
    st.lists(st.tuples(tokens, tokens), min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(3, 7)
)
def test_the_set_decides_and_nobody_is_his_own_partner(rows, random, max_length):
    samples = [sample(*row) for row in rows]
    found = pairs_of(samples, max_length)
    assert pairs_of(random.sample(samples, len(samples)), max_length) == found
    for (prompt, text), other in found:
        fitting = [
            one for one in map(contents, samples)
            if one[0] != prompt and one[1] != text and len(prompt) + len(one[1]) <= max_length
        ]  # fmt: skip
        assert other in fitting if fitting else other == ()


def test_partners_are_spread_over_the_file():
    """A set of many rows with a prompt each: nearly every completion is the partner of one row."""
    samples = [sample([1, i], [2, i]) for i in range(200)]
    assert len(set(partners(samples, 100).tolist())) == 200
    grouped = [sample([1, i % 20], [2, i]) for i in range(200)]  # ten rows of each prompt
    assert len(set(partners(grouped, 100).tolist())) > 150


def test_one_prompt_that_most_rows_have_does_not_take_long():
    rows = [sample([1], [2, i]) for i in range(20_000)] + [sample([3], [4])]
    found = partners(rows, 100)
    assert set(found[:-1].tolist()) == {20_000}
    assert found[-1] >= 0


def test_adding_a_row_changes_few_pairs():
    """Nobody's partner depends on how many rows there are, but for those whose next one is the new row."""
    samples = [sample([1, i], [2, i]) for i in range(100)]
    before, after = pairs_of(samples), pairs_of([*samples, sample([9], [9])])
    assert len(set(after) - set(before)) == 2


@pytest.mark.parametrize(
    ("rows", "max_length"),
    [
        ([([1], [2]), ([1], [3])], 100),
        ([([1], [2]), ([3], [2])], 100),
        ([([1], [2])], 100),
        ([([1, 1, 1], [2]), ([3], [4, 4, 4])], 5),
    ],
    ids=["one prompt", "one text", "one row", "too long together"],
)
def test_a_row_without_a_partner_is_refused_by_its_name(rows, max_length):
    samples = [sample(*row, key=f"t.jsonl:{i}") for i, row in enumerate(rows, start=1)]
    with pytest.raises(DataError) as error:
        with_partners(samples, max_length)
    assert str(error.value) == (
        "t.jsonl:1: no other row has another prompt and another completion that fits behind this prompt into "
        f"{max_length} tokens; KTO's z needs one: add rows, or take loss apo_zero_unpaired"
    )
