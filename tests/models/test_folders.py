"""A model folder is taken whole, or refused in one sentence that says why; no code of it runs."""

import json
import logging
import shutil

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from toys import random_samples
from transformers import AutoModel, AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from baro.collate import collate
from baro.compute import LoraConfig
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.errors import ConfigError
from baro.inputs import check_same_tokens, load_template
from baro.methods import dpo, ppo
from baro.models.folders import is_encoder, positions
from baro.models.heads import Scoring
from baro.models.load import load_policy, load_scalar_model, load_value_model, new_scalar_model, save_scalar_model
from baro.models.lora import save_adapter
from baro.records import Message, Rollout
from baro.scorers import load_reward

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    """A small Llama with a head of its own."""
    tiny.architecture("llama", torch.float32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def weights(folder, change):
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def settings(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def without(part):
    return lambda folder: weights(folder, lambda w: {k: v for k, v in w.items() if part not in k})


def renamed(prefix):
    return lambda folder: weights(folder, lambda w: {prefix + k: v for k, v in w.items()})


def cut(name):
    return lambda folder: weights(folder, lambda w: w | {name: w[name][:-3].clone()})


BROKEN = {
    "no-head": (without("lm_head"), "lacks lm_head.weight of LlamaForCausalLM; copy all of its files"),
    "no-layer": (without("layers.1.mlp"), r"lacks model.layers.1.mlp.down_proj.weight, .*gate.*, .*up_proj.weight of"),
    "no-blocks": (
        without("layers."),
        r"lacks model.layers.0.input_layernorm.weight, .* and 15 more of LlamaForCausalLM",
    ),
    "compiled": (renamed("_orig_mod."), r"the names in its files begin with '_orig_mod\.'; save the model inside"),
    "wrapped": (renamed("module."), r"the names in its files begin with 'module\.'"),
    "shape": (cut("lm_head.weight"), r"lm_head.weight is \(20, 16\) in the files and \(23, 16\) by config.json"),
    "vocabulary": (lambda f: settings(f, vocab_size=40), r"lm_head.weight is \(23, 16\) .* \(40, 16\)"),
    "deeper": (lambda f: settings(f, num_hidden_layers=3), "lacks model.layers.2"),
    "gptq": (lambda f: settings(f, quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantised \(gptq\)"),
    "bnb": (lambda f: settings(f, quantization_config={"load_in_4bit": True}), "is quantised .*take the unquantised"),
    "pad": (lambda f: settings(f, pad_token_id=23), r"pad_token_id in config.json is 23, .* rows are 0 to 22"),
    "no-json": (lambda f: (f / "config.json").write_text("{"), "config.json is no JSON"),
    "no-object": (lambda f: (f / "config.json").write_text("[]"), "config.json is no JSON object"),
    "damaged": (lambda f: (f / WEIGHTS).write_bytes(b"12345678901"), "the model cannot be loaded"),
    "settings": (lambda f: settings(f, num_attention_heads=0), "the model cannot be loaded"),
    "unknown": (lambda f: settings(f, model_type="nothing"), "the model cannot be loaded"),
    "no-config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_not_whole_is_refused_in_one_sentence(folder, how):
    """No weight is made up, and whatever a library raises is an error of the user's input."""
    change, sentence = BROKEN[how]
    change(folder)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_policy(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.FALLBACKS])
def test_what_is_whole_is_taken(name, tmp_path, caplog):
    tiny.architecture(name, torch.float32).save_pretrained(tmp_path)
    load_policy(tmp_path)
    assert "left out" not in caplog.text


def test_weights_without_a_place_are_told(folder, caplog):
    settings(folder, num_hidden_layers=1)
    load_policy(folder)
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "LlamaForCausalLM has no place for model.layers.1.input_layernorm.weight" in said
    assert "and 6 more; left out" in said


def test_only_the_head_that_is_asked_for_is_new(folder, caplog):
    with caplog.at_level(logging.INFO, "baro"):
        new_scalar_model(folder, seed=0)
    assert "LlamaForSequenceClassification has no place for lm_head.weight; left out" in caplog.text
    without("layers.1.mlp")(folder)
    with pytest.raises(ConfigError, match=r"lacks model.layers.1.mlp"):
        new_scalar_model(folder, seed=0)


def test_an_encoder_may_lack_its_pooler_and_nothing_else(tmp_path):
    tiny.bert(dtype=torch.float32).save_pretrained(tmp_path)  # without one
    new_scalar_model(tmp_path, seed=0)
    without("layer.1.output")(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks encoder.layer.1.output"):
        new_scalar_model(tmp_path, seed=0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("own", [False, True], ids=["of transformers", "a reward run's"])
def test_a_reward_model_is_no_policy(tmp_path, tied, own):
    """With tied embeddings transformers misses nothing at all."""
    torch.manual_seed(0)
    config = LlamaConfig(**tiny.SIZES, **tiny.HEADS, num_labels=1, pad_token_id=0, tie_word_embeddings=tied)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "model")
    if own:
        save_scalar_model(load_scalar_model(tmp_path / "model"), tmp_path / "model")
    with pytest.raises(ConfigError, match=r"is a reward or value model .* give a causal language model"):
        load_policy(tmp_path / "model")


def test_an_encoder_is_no_policy(tmp_path):
    tiny.bert(dtype=torch.float32).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="bert is an encoder; give a causal language model"):
        load_policy(tmp_path)


# ------------------------------------------------------------------------------- tokenizers beside and beyond models


@pytest.fixture
def with_tokenizer(tmp_path):
    """A model of 300 tokens with its tokenizer."""
    template = Template(train_tokenizer(["a question", "an answer"], 300), "plain")
    tiny.llama(dtype=torch.float32, vocab_size=template.vocabulary).save_pretrained(tmp_path / "model")
    template.save(tmp_path / "model")
    return tmp_path / "model", template


@pytest.mark.parametrize("ask", [load_template, load_reward])
def test_a_token_beyond_the_embedding_is_refused(with_tokenizer, ask):
    folder, template = with_tokenizer
    size = template.vocabulary
    template.tokenizer.add_tokens(["<one>", "<two>"])
    template.save(folder)
    with pytest.raises(
        ConfigError, match=rf"'<one>' \(id {size}\), '<two>' \(id {size + 1}\) lie beyond the {size} rows"
    ):
        ask(str(folder))


def test_a_model_beside_the_policy_reads_the_same_tokens(with_tokenizer, tmp_path):
    folder, template = with_tokenizer
    other = shutil.copytree(folder, tmp_path / "other")
    names = {"policy": str(folder), "ref_policy": str(other), "value_model": str(other)}
    dpo_config = dpo.Config(policy=str(folder), preferences="-", ref_policy=str(other))
    ppo_config = ppo.Config(prompts="-", rewards=[{"by": "a:b"}], **names)
    check_same_tokens(dpo_config, "ref_policy")
    check_same_tokens(ppo_config, "ref_policy", "value_model")
    Template(train_tokenizer(["other words altogether", "more of it"], template.vocabulary), "plain").save(other)
    with pytest.raises(ConfigError, match=r"ref_policy: .*other has another vocabulary than .*model,"):
        check_same_tokens(dpo_config, "ref_policy")
    with pytest.raises(ConfigError, match=r"value_model: .*other has another vocabulary"):
        check_same_tokens(ppo_config, "value_model")


# ---------------------------------------------------------------------------------------- folders of other tools


def test_an_adapter_names_its_base_and_the_way_out(folder, tmp_path):
    policy = load_policy(folder, lora=LoraConfig(r=2))
    save_adapter(policy, tmp_path / "adapter")
    settings_file = tmp_path / "adapter" / "adapter_config.json"
    settings_file.write_text(
        json.dumps(json.loads(settings_file.read_text()) | {"base_model_name_or_path": "some/base"})
    )
    elsewhere = shutil.copytree(tmp_path / "adapter", tmp_path / "other" / "adapter")
    with pytest.raises(ConfigError, match=r"is a PEFT adapter of some/base, not a model; merge it with .*merge_and_un"):
        load_policy(elsewhere)
    with pytest.raises(ConfigError, match=r"is an adapter alone; take .*model, into which it is merged"):
        load_policy(tmp_path / "adapter")  # beside model/, as in a run
    shutil.copy(settings_file, folder)
    with pytest.raises(ConfigError, match="is a PEFT adapter of some/base"):
        load_policy(folder)


def test_a_reward_model_of_another_tool_gives_its_own_scores(tmp_path, caplog):
    tiny.llama_scalar(dtype=torch.float32).save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, "baro"):
        model = load_scalar_model(tmp_path)
    assert "read at the last end-of-turn token, bias 0" in caplog.text
    (sample,) = random_samples(3, 1, 1)
    (batch,) = collate([sample], micro_batch_tokens=10**6, hidden_size=16)
    ids = torch.cat([sample.prompt_ids, sample.completions[0].ids])[None]
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)(ids)
    with torch.no_grad():
        assert float(model(batch, ["scores"]).scores) == pytest.approx(float(theirs.logits), abs=1e-6)
    assert load_value_model(tmp_path, seed=0).scoring.plain


@pytest.mark.parametrize("kind", ["linear", "ffn"])
@pytest.mark.parametrize("backbone", ["llama", "bert"])
@pytest.mark.parametrize("ask", [load_scalar_model, load_policy, is_encoder, positions])
def test_a_reward_model_that_lost_a_file_is_refused(tmp_path, kind, backbone, ask):
    """Its weights alone are those of a plain classifier, whose scores have no bias and another pooling."""
    made = tiny.bert(dtype=torch.float32) if backbone == "bert" else tiny.llama(dtype=torch.float32)
    made.save_pretrained(tmp_path / "start")
    scoring = Scoring("mean", criteria={"kind": 2.0})
    save_scalar_model(new_scalar_model(tmp_path / "start", seed=0, scoring=scoring, head=kind), tmp_path / "whole")
    own = sorted(path.name for path in (tmp_path / "whole").glob("reward_head.*"))
    assert len(own) == (1 if (kind, backbone) == ("linear", "llama") else 2)
    for name in own:
        copy = shutil.copytree(tmp_path / "whole", tmp_path / name)
        (copy / name).unlink()
        with pytest.raises(ConfigError, match=rf"{name}: lacks {name}, without which its scores are others"):
            ask(copy)
    # what plain transformers reads and saves again has lost them too
    model = AutoModel.from_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "again")
    with pytest.raises(ConfigError, match=r"lacks reward_head\.json.*, without which its scores are others"):
        ask(tmp_path / "again")


def test_the_template_of_a_reward_model_is_said(with_tokenizer, tmp_path, caplog):
    _, template = with_tokenizer
    config = LlamaConfig(
        **{**tiny.SIZES, "vocab_size": template.vocabulary}, **tiny.HEADS, num_labels=1, pad_token_id=0
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "reward")
    template.save(tmp_path / "reward")
    with caplog.at_level(logging.INFO, "baro"):
        source = load_reward(str(tmp_path / "reward"))
    assert template.describe() in caplog.text
    (score,) = source.score([Rollout((Message("user", "a question"),), (Message("assistant", "an answer"),))])
    assert score.error is None


def test_what_is_no_reward_model_says_so(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"is no reward model \(LlamaForCausalLM, and reward_head.json is missing\)"):
        load_scalar_model(folder)
    config = LlamaConfig(**tiny.SIZES, **tiny.HEADS, num_labels=3, pad_token_id=0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "three")
    with pytest.raises(ConfigError, match="has 3 labels, and a reward model has one score"):
        load_scalar_model(tmp_path / "three")
    bert = transformers.BertConfig(**tiny.SIZES, num_attention_heads=4, num_labels=1)
    transformers.BertForSequenceClassification(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="is an encoder with a head that Baro does not read"):
        load_scalar_model(tmp_path / "bert")


# ------------------------------------------------------------------------------------------------ code in a folder

CODE = "import pathlib\npathlib.Path({mark!r}).write_text('ran')\n"


@pytest.mark.parametrize("ask", [load_policy, load_scalar_model, is_encoder, positions])
@pytest.mark.parametrize("kind", ["llama", "own"], ids=["a type that transformers knows", "another"])
def test_code_of_a_folder_never_runs(folder, tmp_path, ask, kind, monkeypatch):
    """Nor is anybody asked whether it may."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked in mid-run"))
    mark = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(CODE.format(mark=str(mark)))
    (folder / "configuration_own.py").write_text(CODE.format(mark=str(mark)))
    auto_map = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    settings(folder, model_type=kind, auto_map=auto_map)
    if kind == "llama" and ask is not load_scalar_model:
        ask(folder)  # by transformers' own code
    else:
        with pytest.raises(ConfigError) as caught:
            ask(folder)
        assert kind == "llama" or "brings code of its own, which Baro does not run" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("ask", [load_template, load_reward])
def test_a_folder_is_refused_before_its_tokenizer_is_read(folder, ask, monkeypatch):
    """transformers reads config.json for a tokenizer too, and says what helps nobody."""
    monkeypatch.setattr(Template, "load", lambda *_: pytest.fail("the tokenizer was read first"))
    settings(folder, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"})
    with pytest.raises(ConfigError, match="brings code of its own"):
        ask(str(folder))


def test_a_known_config_with_a_model_of_its_own_is_refused(folder):
    settings(folder, model_type="vit", auto_map={"AutoModelForCausalLM": "modeling_own.OwnModel"})
    with pytest.raises(ConfigError, match="brings code of its own"):
        load_policy(folder)


# ------------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "llama", "max_position_embeddings": 64}, 64),
        ({"model_type": "gpt2", "n_positions": 48}, 48),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "bloom"}, None),
        (
            {
                "model_type": "qwen2",
                "max_position_embeddings": 32,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1e4,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                },
            },
            128,
        ),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else str(value),
)
def test_positions_end_where_the_model_s_do(folder, changes, expected):
    (folder / "config.json").write_text(json.dumps({"vocab_size": 23} | changes))
    assert positions(folder) == expected
