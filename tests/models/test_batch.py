"""Samples to flat vectors and back, and completions that are only there to be prepared."""

from dataclasses import replace

import pytest
import torch

from baro.batch import Sample, branch, flat, pack_samples, unpack_samples, with_flat
from baro.collate import collate

SAMPLES = [
    Sample(torch.tensor([1]), (branch([2, 3], scored=[True, False]), branch([4])), key="f:1"),
    Sample(torch.tensor([1, 2]), (), key="f:2"),
    Sample(torch.tensor([3]), (branch([5, 6, 7]),), key="f:3"),
]
VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def test_a_flat_field_goes_into_samples_token_by_token_and_comes_back():
    made = with_flat(with_flat(SAMPLES, {"a": VALUES}), {"b": VALUES + 1, "c": 2 * VALUES})
    assert [one.token_fields["a"].tolist() for s in made for one in s.completions] == [[1.0], [2.0], [3.0, 4.0, 5.0]]
    assert torch.equal(flat(made, "a"), VALUES)
    assert torch.equal(flat(made, "c"), 2 * VALUES)
    assert [(s.key, len(s.completions)) for s in made] == [("f:1", 2), ("f:2", 0), ("f:3", 1)]
    assert flat([], "a").tolist() == []
    assert with_flat(SAMPLES[1:2], {"a": torch.zeros(0)}) == SAMPLES[1:2]


@pytest.mark.parametrize("count", [4, 6])
def test_values_of_another_length_are_refused(count):
    """As many as there are tokens, scored or not, is the mistake that is easily made: 6 here, of which 5 are scored."""
    with pytest.raises(ValueError, match=f"a has {count} values, and the samples have 5 scored tokens"):
        with_flat(SAMPLES, {"a": torch.zeros(count)})


def test_a_partner_is_kept_in_files_and_refused_in_batches():
    sample = Sample(torch.tensor([1]), (branch([2, 3]), replace(branch([4]), partner=True)), key="f:9")
    (again,) = unpack_samples(pack_samples([sample]))
    assert [one.partner for one in again.completions] == [False, True]
    layout = {"micro_batch_tokens": 100, "hidden_size": 8}
    with pytest.raises(TypeError, match="f:9: holds the completion of another prompt"):
        collate([sample], **layout)
    (batch,) = collate([sample.with_completions(sample.completions[:1])], **layout)
    assert batch.targets.tolist() == [2, 3]
