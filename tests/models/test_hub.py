"""``owner/name`` is a folder of the local Hugging Face cache; without it and without a network, one sentence."""

import shutil

import pytest
import tiny
import torch
from huggingface_hub import constants

from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError
from baro.files import hash_path
from baro.hub import is_hub_id, snapshot
from baro.inputs import hash_input, load_template, resolve
from baro.models.load import load_policy


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    snapshot.cache_clear()
    return tmp_path


def populate(cache, name="someone/tiny-llama", revision="0123456789abcdef0123456789abcdef01234567"):
    """What a download leaves behind."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / revision
    tiny.llama(dtype=torch.float32, vocab_size=300).save_pretrained(folder)
    Template(train_tokenizer(["a question", "an answer"], 300), "plain").save(folder)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return folder


def test_a_cached_model_loads_offline_by_its_name(cache):
    folder = populate(cache)
    name = "someone/tiny-llama"
    assert resolve(name, "model") == snapshot(name) == folder
    assert hash_input(name, "model") == hash_path(folder)
    assert load_template(name).fingerprint == Template.load(name).fingerprint == Template.load(folder).fingerprint
    weights = load_policy(folder).state_dict()
    assert all(torch.equal(weights[key], value) for key, value in load_policy(name).state_dict().items())
    assert snapshot(f"{name}@0123456789abcdef0123456789abcdef01234567") == folder


def test_a_model_that_is_not_in_the_cache_is_one_sentence(cache):
    for ask in (load_policy, Template.load, load_template):
        with pytest.raises(ConfigError, match=r"^no/such: not in the local .* cache.*`hf download no/such`[^\n]*$"):
            ask("no/such")


def test_a_cached_model_with_pickles_alone_is_refused(cache):
    folder = populate(cache)
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="only pickled weights"):
        load_policy("someone/tiny-llama")


def test_what_reads_like_a_name_and_what_does_not(cache):
    (cache / "a").mkdir()
    (cache / "a" / "b").mkdir()
    for value in ("owner/na-me.v1", "owner/name@v1.0", "owner/name@refs/pr/1"):
        assert is_hub_id(value)
    for value in (
        "data/rows.jsonl",
        "data/rows.csv.gz",
        "name",
        "./owner/name",
        "/owner/name",
        "a/b",
        "a/b/c",
        "../name",
        "-owner/name",
        "owner/-name",
        "owner/name@-main",
        "폴더/모델",
        "module:NAME",
    ):
        assert not is_hub_id(value)
