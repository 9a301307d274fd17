"""Samples in memory-mapped files are the same samples, and are made once."""

import json

import numpy as np
import pytest
import torch
from tiny import encode_any

from baro.batch import Sample
from baro.data import stored
from baro.data.encode import encode_preferences, encode_prompts
from baro.data.formats import read_records
from baro.data.ledger import Ledger
from baro.data.partners import WithPartners
from baro.data.source import FileSource, split_held_out
from baro.data.stored import Picked, encode_cached
from baro.records import Preference

PAIRS = [{"prompt": f"hi {i}", "chosen": "yes " * (i % 3), "rejected": "no", "margin": i} for i in range(30)]


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr(stored, "IN_MEMORY", 5)


@pytest.fixture
def cached(jsonl, plain):
    """Encode rows through the cache: the samples and the ledger."""

    def run(rows, encode=encode_preferences, want=Preference, max_length=40, template=plain, name="rows.jsonl"):
        loaded = read_records(jsonl(rows, name), want)
        ledger = Ledger(loaded.name)
        return encode_cached(loaded, encode, template, max_length, ledger), ledger

    return run


def folders():
    return sorted(one.name for one in (stored.cache_folder() / "samples").glob("*"))


def same(one: Sample, other: Sample) -> bool:
    """Values, types and fields."""
    tensors = [(one.prompt_ids, other.prompt_ids)]
    for a, b in zip(one.completions, other.completions, strict=True):
        tensors += [(a.ids, b.ids), (a.scored, b.scored)]
        if (a.last, dict(a.fields), dict(a.units), a.skip) != (b.last, dict(b.fields), dict(b.units), b.skip):
            return False
    return one.key == other.key and all(torch.equal(a, b) and a.dtype == b.dtype for a, b in tensors)


def test_what_is_read_from_the_cache_is_what_was_encoded(cached, jsonl, plain):
    rows = [*PAIRS, PAIRS[3], {**PAIRS[0], "rejected": ""}, {**PAIRS[0], "prompt": "hi " * 99}]
    made, ledger = cached(rows)
    again, ledger_again = cached(rows)
    fresh_ledger = Ledger("rows.jsonl")
    fresh = list(encode_preferences(read_records(jsonl(rows), Preference), plain, 40, fresh_ledger))
    assert len(made) == len(again) == len(fresh) == 31
    assert all(same(a, b) and same(a, c) for a, b, c in zip(fresh, made, again, strict=True))
    assert ledger == ledger_again == fresh_ledger
    assert (len(ledger.dropped), len(ledger.votes), len(folders())) == (2, 1, 1)


def test_rows_of_every_kind_and_texts_without_completions(cached):
    texts, _ = cached([{"text": f"안녕 {i} " * 9} for i in range(9)], encode_any, None, 8)
    assert texts[-1].key.startswith("rows.jsonl:9#")
    prompts, _ = cached([{"prompt": str(i)} for i in range(9)], encode_prompts, None)
    assert [len(sample.completions) for sample in prompts] == [0] * 9
    scores = [{"a": 1.5}, {}, {"b": -2.0, "a": 0.1}]
    rated = [{"prompt": f"p {i}", "responses": ["x", "y", "z"], "scores": scores} for i in range(9)]
    found, _ = cached(rated, encode_any, None)
    assert [dict(one.fields) for one in found[8].completions] == [
        {"score/a": 1.5},
        {},
        {"score/b": -2.0, "score/a": 0.1},
    ]


def test_a_second_time_encodes_nothing_and_anything_else_encodes_again(cached, monkeypatch, chatml):
    cached(PAIRS)
    before = folders()

    def never(*_):
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(stored.Loaded, "__iter__", never)
        cached(PAIRS)
    for change in (
        {"rows": PAIRS[:-1]},
        {"max_length": 41},
        {"template": chatml},
        {"encode": encode_any},
        {"want": None, "encode": encode_prompts},
        {"name": "other.jsonl"},  # the keys differ
    ):
        cached(**({"rows": PAIRS} | change))
        assert len(folders()) > len(before), change
        before = folders()
    monkeypatch.setattr(stored, "_code", lambda encoder: "another version")
    cached(PAIRS)
    assert len(folders()) > len(before)


def test_few_rows_and_nameless_encoders_leave_nothing_behind(cached):
    few, _ = cached(PAIRS[:4])
    many, _ = cached(PAIRS, lambda *arguments: encode_preferences(*arguments))
    assert isinstance(few, list)
    assert isinstance(many, list)
    assert (len(few), len(many), folders()) == (4, 30, [])


def test_a_kill_while_writing_leaves_no_half_cache(cached, monkeypatch):
    def fails(folder, samples):
        (folder / "keys").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stored, "_write", fails)
        with pytest.raises(KeyboardInterrupt):
            cached(PAIRS)
    assert folders() == []
    assert len(cached(PAIRS)[0]) == 30


def test_indices_slices_and_bounds(cached):
    samples, _ = cached(PAIRS)
    assert [one.key for one in samples[1:6:2]] == ["rows.jsonl:2", "rows.jsonl:4", "rows.jsonl:6"]
    assert samples[-1].key == "rows.jsonl:30"
    with pytest.raises(IndexError, match="there are 30 samples, and none has the number 30"):
        samples[30]
    picked = Picked(samples, [4, 2])
    assert [one.key for one in picked] == [one.key for one in picked[:]] == ["rows.jsonl:5", "rows.jsonl:3"]


def test_partners_are_another_rows_completion_and_carry_nothing_of_its_labels(cached):
    samples, _ = cached(PAIRS)
    paired = WithPartners(Picked(samples, [4, 2, 9]), [1, 2, 0])
    assert len(paired) == 3
    for i, partner_of in enumerate([2, 9, 4]):
        for found in (paired[i], paired[i - 3], paired[:][i]):
            *own, partner = found.completions
            assert found.key == samples[[4, 2, 9][i]].key
            assert [one.partner for one in found.completions] == [False, False, True]
            assert same(found.with_completions(own), samples[[4, 2, 9][i]])
            assert torch.equal(partner.ids, samples[partner_of].completions[0].ids)
            assert (dict(partner.fields), dict(partner.units)) == ({}, {})
    with pytest.raises(IndexError):
        paired[3]


def test_training_takes_stored_samples_in_the_same_order(cached, byte_level):
    samples, _ = cached(PAIRS, template=byte_level)
    layout = {"batch_size": 4, "epochs": 1, "seed": 3, "micro_batch_tokens": 512, "hidden_size": 8}
    batches = [FileSource(many, **layout) for many in (samples, list(samples))]
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(one, other, strict=True))
        for source in batches:
            source.advance({})
    kept, held = split_held_out(samples, 0.2, seed=0)
    assert (len(kept), len(held)) == (24, 6)
    assert [s.key for s in held] == [s.key for s in split_held_out(list(samples), 0.2, seed=0)[1]]


def test_the_files_are_plain_numbers(cached):
    samples, _ = cached(PAIRS)
    folder = stored.cache_folder() / "samples" / folders()[0]
    assert np.fromfile(folder / "prompt_ids", dtype=np.int32)[: len(samples[0].prompt_ids)].tolist() == (
        samples[0].prompt_ids.tolist()
    )
    assert json.loads((folder / "index.json").read_text())["kinds"] == [
        [["chosen", "rank", "p_chosen", "margin"], ["pairs", "prompts", "chosen_tokens"]],
        [["chosen", "rank", "p_chosen", "margin"], []],
    ]


def test_samples_that_are_prepared_already_are_refused(cached):
    with pytest.raises(TypeError, match="encoders make none of them"):
        cached(PAIRS, encode_skipped)


def encode_skipped(loaded, template, max_length, ledger):
    for sample in encode_preferences(loaded, template, max_length, ledger):
        yield sample.with_completions([one.with_(skip=True) for one in sample.completions])


def test_what_a_killed_process_left_goes_when_nobody_writes(cached):
    """Another one that writes keeps what it has begun."""
    root = stored.cache_folder()
    left = root / "samples" / ".abc.4321.partial"
    left.mkdir(parents=True)
    (left / "ids").write_bytes(b"half")
    (root / ".ref-logprobs-abc.state.4321.partial").write_bytes(b"half")
    with stored.into_cache():  # which clears first
        assert not left.exists()
        left.mkdir()  # now it is somebody's who writes
        cached(PAIRS)
        assert left.exists()
    cached(PAIRS, max_length=39)
    assert not left.exists()
    assert not list(root.glob(".*.partial"))
    assert len(folders()) == 2
