"""The reference's log-probs: kept in a file that knows what they are of, and where a run must start."""

import pytest
import tiny
import torch
import transformers

from baro.batch import Sample, branch, flat
from baro.errors import GuardStop
from baro.methods import reference
from baro.methods.reference import ReferenceLogprobs, check_start, logprobs
from baro.models.forward import ScoredModel
from baro.protocols import LocalWorld

BARE = [
    Sample(torch.tensor([3, 4]), (branch([5, 6, 7]), branch([8, 9])), key="f:1"),
    Sample(torch.tensor([5]), (branch([6]), branch([7, 8, 9, 10])), key="f:2"),
    Sample(torch.tensor([2, 3, 4]), (branch([11, 12]), branch([13])), key="f:3"),
]


@pytest.fixture
def calls(monkeypatch):
    """Whenever the reference is computed."""
    found, compute = [], ReferenceLogprobs._compute
    monkeypatch.setattr(ReferenceLogprobs, "_compute", lambda self, *a: found.append(self) or compute(self, *a))
    return found


def test_the_cache_is_used_and_knows_what_it_is_of(monkeypatch, calls):
    model = ScoredModel(tiny.llama())
    first = ReferenceLogprobs(model, "a", 100)(BARE, LocalWorld())
    again = ReferenceLogprobs(model, "a", 100)(BARE, LocalWorld())
    assert len(calls) == 1
    assert torch.equal(flat(first, "ref_logprobs"), flat(again, "ref_logprobs"))
    ReferenceLogprobs(model, "b", 100)(BARE, LocalWorld())  # another reference
    ReferenceLogprobs(model, "a", 101)(BARE, LocalWorld())  # another layout
    ReferenceLogprobs(model, "a", 100)(BARE[:2], LocalWorld())  # other tokens
    monkeypatch.setattr(torch, "__version__", "2.99")
    ReferenceLogprobs(model, "a", 100)(BARE, LocalWorld())
    assert len(calls) == 5


def test_the_same_tokens_under_other_prompts_are_computed_anew(calls):
    """Two files of the same completions in the same order, of which the middle one answers the other prompt."""
    model, ends = ScoredModel(tiny.llama()), [branch([6, 7]), branch([8]), branch([9, 9])]
    for kept in (1, 2):
        one = Sample(torch.tensor([3]), tuple(ends[:kept]), key="f:1")
        other = Sample(torch.tensor([4]), tuple(ends[kept:]), key="f:2")
        found = ReferenceLogprobs(model, "a", 100)([one, other], LocalWorld())
        alone = logprobs(model, [Sample(torch.tensor([3 + (kept == 1)]), (ends[1],))], 100, LocalWorld())
        middle = [b for s in found for b in s.completions][1].token_fields["ref_logprobs"]
        assert torch.allclose(middle, alone, atol=1e-9)
    assert len(calls) == 2


class TwoRanks(LocalWorld):
    """This rank, and another one that has nothing in its cache."""

    def any(self, flag: bool) -> bool:
        return True


def test_a_rank_that_finds_its_file_computes_where_another_does_not(calls):
    """The reference's forward is a collective: a rank that skipped it would leave the others waiting."""
    prepare = ReferenceLogprobs(ScoredModel(tiny.llama()), "a", 100)
    prepare(BARE, LocalWorld())
    prepare(BARE, LocalWorld())
    assert len(calls) == 1
    prepare(BARE, TwoRanks())
    assert len(calls) == 2


def test_a_policy_that_is_not_its_reference_is_stopped():
    prepared = ReferenceLogprobs(ScoredModel(tiny.llama(7)), "x", 100)(BARE, LocalWorld())
    check_start(ScoredModel(tiny.llama(7)), prepared, 10_000)
    with pytest.raises(GuardStop, match=r"differ by .* nats before the first step"):
        check_start(ScoredModel(tiny.llama(8)), prepared, 10_000)
    rounded = ScoredModel(tiny.llama(7, torch.float32))
    rounded.autocast_dtype = torch.bfloat16  # what bf16 rounds is more than 1e-3 nats, and no fault
    check_start(rounded, prepared, 10_000)
    rounded.model.load_state_dict(tiny.architecture("llama", torch.float32).state_dict(), strict=False)
    with pytest.raises(GuardStop, match=r"differ by .* in the mean of their probabilities before the first step"):
        check_start(rounded, prepared, 10_000)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (torch, "__version__", "3.0"),
        (transformers, "__version__", "6.0"),
        (torch, "get_num_threads", lambda: 77),
        (reference, "hash_files", lambda paths: "another layout"),
    ],
)
def test_kept_reference_log_probs_are_for_this_arithmetic_alone(monkeypatch, module, name, value):
    prepare = ReferenceLogprobs(ScoredModel(tiny.llama()), "hash", 64)
    before = prepare._arithmetic()
    monkeypatch.setattr(module, name, value)
    assert prepare._arithmetic() != before
