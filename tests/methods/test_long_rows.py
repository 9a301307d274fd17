"""Rows longer than a model's positions are told of with file and line, wherever a model reads rows."""

import json
import logging
import shutil

import pytest
import torch
from tokenizers import processors
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from baro.config import DataConfig, SamplingConfig
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError
from baro.evaluate import evaluate
from baro.methods import critic, dpo, generate, kto, ppo, reward, sft, stage
from baro.methods.online import Online
from baro.models.load import load_scalar_model
from baro.records import Message, Rollout, said
from baro.scorers import load_reward

POSITIONS = 48
WORDS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]
ROWS = [{"prompt": f"like {one}?", "chosen": f"yes {one}", "rejected": f"no {one}"} for one in WORDS]
LONG = {"prompt": "and this?", "chosen": "abcdefghij" * 9, "rejected": "no"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """GPT-2 and BERT with 48 learned positions: one token more is an IndexError, on a GPU an assert of the device."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, LONG]))
    tokenizer = train_tokenizer([" ".join(row.values()) for row in ROWS], 300)
    template, small = Template(tokenizer, "plain"), {"vocab_size": 300}
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=POSITIONS, **small))
    gpt2.save_pretrained(tmp_path / "gpt2")
    template.save(tmp_path / "gpt2")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(max_position_embeddings=POSITIONS, **shape, **small)).save_pretrained(tmp_path / "bert")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A <|eos|>",
        pair="<|bos|> $A <|eos|> $B <|eos|>",
        special_tokens=[("<|bos|>", 1), ("<|eos|>", 2)],
    )
    Template(tokenizer, "plain").save(tmp_path / "bert")
    return tmp_path


FEW = {"trainer": {"steps": 1, "batch_size": 4}, "data": {"max_dropped_fraction": 0.5}}
STAGES = {
    "sft": (sft, {"policy": "gpt2", "demonstrations": "pairs.jsonl"}, "truncated"),
    "dpo": (dpo, {"policy": "gpt2", "preferences": "pairs.jsonl"}, "dropped"),
    "kto": (kto, {"policy": "gpt2", "thumbs": "pairs.jsonl"}, "dropped"),
    "reward": (reward, {"model": "gpt2", "preferences": "pairs.jsonl"}, "dropped"),
    "reward of an encoder": (reward, {"model": "bert", "preferences": "pairs.jsonl"}, "dropped"),
}


@pytest.mark.parametrize("name", STAGES)
def test_training_tells_of_them(name, world, caplog):
    method, settings, what = STAGES[name]
    with caplog.at_level(logging.INFO, "baro"):
        run = method.run(method.Config(**settings, **FEW), world / "run")
    assert f"max_length is {POSITIONS}: " in caplog.text
    (ledger,) = json.loads((run.path / "ledger.json").read_text()).values()
    told = json.dumps(ledger)
    assert "pairs.jsonl:9" in told
    assert f"max_length {POSITIONS}" in told or f"max_length is {POSITIONS}" in told
    assert what in told


def test_evaluation_tells_of_them(world):
    config = evaluate.Config(policies=["gpt2"], loss_on="pairs.jsonl", data={"max_dropped_fraction": 0.5})
    run = evaluate.run(config, world / "run")
    assert "pairs.jsonl:9" in (run.path / "ledger.json").read_text()


@pytest.mark.parametrize("model", ["gpt2", "bert"])
def test_a_reward_model_has_no_score_for_them(world, model):
    run = reward.run(reward.Config(model=model, preferences="pairs.jsonl", **FEW), world / "run")
    source = load_reward(str(run.path))
    asked = (Message("user", "and this?"),)
    short, long = source.score([Rollout(asked, said("yes")), Rollout(asked, said("abcdefghij" * 9))])
    assert short.error is None
    assert long.value is None
    assert f"tokens, and the model has {POSITIONS} positions" in long.error
    assert load_scalar_model(run.path / "model").model.config.vocab_size == 300


def test_no_room_for_a_prompt_is_said_as_what_it_is(world):
    sampling = {"max_new_tokens": POSITIONS}
    with pytest.raises(ConfigError, match=r"max_new_tokens is 48, .* at most 48 tokens .*positions of gpt2.*; lower"):
        stage.prompt_room(DataConfig(), SamplingConfig(**sampling), "gpt2")
    with pytest.raises(ConfigError, match="lower max_new_tokens"):
        generate.run(generate.Config(policy="gpt2", prompts="pairs.jsonl", sampling=sampling), world / "run")


def test_the_fewest_positions_of_the_models_that_read_the_rows_decide(world, caplog, monkeypatch):
    """A reference or value model may have fewer than the policy."""
    shutil.copytree(world / "gpt2", world / "wide")
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=256, vocab_size=300)
    GPT2LMHeadModel(config).save_pretrained(world / "wide")
    with caplog.at_level(logging.INFO, "baro"):
        wide = {"policy": "wide", "preferences": "pairs.jsonl"}
        run = dpo.run(dpo.Config(**wide, ref_policy="gpt2", **FEW), world / "run")
    assert f"max_length is {POSITIONS}: gpt2 has so many positions" in caplog.text
    assert "pairs.jsonl:9" in (run.path / "ledger.json").read_text()
    assert dpo.run(dpo.Config(**wide, **FEW), world / "alone").finished
    assert "pairs.jsonl:9" not in (world / "alone" / "ledger.json").read_text()
    terms = {"policy": "wide", "prompts": "pairs.jsonl", "reward_model": "gpt2"}
    asked = []
    monkeypatch.setattr(stage, "prompt_room", lambda *given: asked.append(given[2:]) or 10_000)
    for changes, readers in (({}, ()), ({"ref_policy": "gpt2"}, ("gpt2",)), ({"value_model": "gpt2"}, ("gpt2",))):
        config = ppo.Config(policy="wide", prompts="pairs.jsonl", rewards=[{"by": "a:b"}], **changes)
        Online("ppo", config, world / f"online-{''.join(changes)}").read()
        assert asked.pop() == ("wide", *readers)
    config = ppo.Config(**terms)
    assert critic.value_start(config, None, config.terms) == "gpt2"  # the reward model, which reads the same tokens


@pytest.mark.parametrize("scorer", ["ref_policy", "against", "rewards", "best_of"])
def test_prompts_of_an_evaluation_fit_into_whatever_reads_the_answers(world, scorer):
    """The KL's reference and learned rewards may have fewer positions than the policies."""
    shutil.copytree(world / "gpt2", world / "wide")
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=256, vocab_size=300)
    GPT2LMHeadModel(config).save_pretrained(world / "wide")
    rows = [*ROWS, {"prompt": "abcdefghij" * 9}]
    (world / "asked.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    if scorer in ("rewards", "best_of"):
        reward.run(reward.Config(model="gpt2", preferences="pairs.jsonl", **FEW), world / "kind")
    values = {
        "ref_policy": {"ref_policy": "gpt2"},
        "against": {"against": "gpt2"},
        "rewards": {"rewards": {"kind": "kind"}},
        "best_of": {"against": "wide", "best_of": {"n": 2, "by": "kind"}},
    }
    asked = {"policies": ["wide"], "prompts": "asked.jsonl", "sampling": {"max_new_tokens": 4}}
    room = {"data": {"max_dropped_fraction": 0.5, "max_length": 256}}
    alone = evaluate.run(evaluate.Config(**asked, **room), world / "alone")
    assert "asked.jsonl:9" not in (alone.path / "ledger.json").read_text()
    run = evaluate.run(evaluate.Config(**asked, **values[scorer], **room), world / "run")
    assert run.finished
    (account,) = json.loads((run.path / "ledger.json").read_text()).values()
    assert list(account["dropped"]) == ["asked.jsonl:9"]
    assert f"max_length is {POSITIONS - 4}" in account["dropped"]["asked.jsonl:9"]
