"""What a stage saves is a plain folder: under transformers it says the same and stops at the same token."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from baro.data.template import Template
from baro.methods import base, dpo, ppo, sft
from baro.models.folders import write_ends
from baro.models.load import Architecture, load_policy, new_policy, save_policy
from baro.records import Message, SamplingParams
from baro.rollout.engine import Engine

CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
ROWS = [
    {"prompt": f"say {word}", "chosen": word, "rejected": f"no {word}"} for word in ("red", "blue", "green", "grey")
]
EOS, END = 2, 4


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A model whose tokenizer's EOS is </s> and whose answers end with <|im_end|>, as Qwen's base models have it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [" ".join(row.values()) + " user assistant" for row in ROWS]
    made = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(words, made)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = CHATML
    template = Template(tokenizer)
    assert template.end_ids == {EOS, END}
    shape = Architecture(hidden_size=32, layers=2, heads=2, max_positions=128, intermediate_size=48)
    policy = new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0)
    save_policy(policy, tmp_path / "base")
    template.save(tmp_path / "base")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "saved_folder_reward.py").write_text(
        "def length(completions, **_): return [float(len(c)) for c in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


FEW = {"trainer": {"steps": 1, "batch_size": 4}, "data": {"max_length": 64}}
POLICY = {"policy": "base", **FEW}
PPO = {
    "prompts": "pairs.jsonl",
    "rewards": [{"by": "saved_folder_reward:length"}],
    "rollout": {"prompts": 4, "epochs": 1, "minibatches": 1},
    "sampling": {"max_new_tokens": 4},
    "trainer": {"steps": 1},
}
SHAPE = {"vocabulary": 280, "hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16}
PATHS = {
    "sft": (sft, POLICY | {"demonstrations": "pairs.jsonl"}),
    "sft-lora": (sft, POLICY | {"demonstrations": "pairs.jsonl", "lora": {"r": 2}}),
    "dpo": (dpo, POLICY | {"preferences": "pairs.jsonl"}),
    "ppo": (ppo, POLICY | PPO),
    "base": (base, FEW | {"text": "pairs.jsonl", "architecture": SHAPE}),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_saved_policy_names_its_ends_and_its_pad(path, world):
    method, settings = PATHS[path]
    run = method.run(method.Config(**settings), world / "run")
    template = Template.load(run.path / "model")
    written = AutoModelForCausalLM.from_pretrained(run.path / "model").generation_config
    ends = written.eos_token_id if isinstance(written.eos_token_id, list) else [written.eos_token_id]
    assert ends == sorted(template.end_ids)
    assert written.pad_token_id == template.special["pad"] == 0


def test_generate_ends_where_baro_does(world):
    trained = {"trainer": {"steps": 120, "batch_size": 4, "learning_rate": 0.01}}
    run = sft.run(sft.Config(**POLICY | trained, demonstrations="pairs.jsonl"), world / "run")
    folder = run.path / "model"
    template, plain = Template.load(folder), AutoModelForCausalLM.from_pretrained(folder)
    engine = Engine(load_policy(folder), end_ids=template.end_ids)
    for row in ROWS:
        ids = template.encode_prompt((Message("user", row["prompt"]),))
        ((ours,),) = engine.generate([ids], 1, SamplingParams(24, temperature=0.0), [0])
        theirs = plain.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :].tolist()
        assert theirs == list(ours.ids)
        assert theirs[-1] == END
        assert len(theirs) < 24
        assert AutoTokenizer.from_pretrained(folder).decode(theirs, skip_special_tokens=True) == row["chosen"]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({}, {"eos_token_id": [2, 4], "pad_token_id": 0}),
        ({"eos_token_id": 2}, {"eos_token_id": [2, 4], "pad_token_id": 0}),
        (
            {"eos_token_id": [9, 2], "pad_token_id": 9, "do_sample": False, "top_p": 0.8},
            {"eos_token_id": [2, 4, 9], "pad_token_id": 0, "do_sample": False, "top_p": 0.8},
        ),
    ],
)
def test_what_ended_an_answer_before_still_does(tmp_path, before, expected):
    (tmp_path / "generation_config.json").write_text(json.dumps(before))
    write_ends(tmp_path, {2, 4}, 0)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == expected
    write_ends(tmp_path, set(), 0)  # a template that nothing ends
    assert json.loads((tmp_path / "generation_config.json").read_text()) == expected
