"""Tiny tokenizers, made here: byte-level BPE, and one token per word with the chat templates of well-known families."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.records import Conversation, Message

CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
LLAMA3 = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}"
    "{{- message['content'] | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)
MISTRAL = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- raise_exception('no system role here') -}}{%- endif -%}"
    "{%- if message['role'] == 'user' -%}{{- '[INST] ' + message['content'] + ' [/INST]' -}}"
    "{%- else -%}{{- ' ' + message['content'] + eos_token -}}{%- endif -%}"
    "{%- endfor -%}"
)
THINKING = (  # an answer is rendered differently once it is no longer the last, as Qwen3 and DeepSeek R1 do
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' and loop.last -%}{{- 'think\\n' -}}{%- endif -%}"
    "{{- message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
TEMPLATE_WORDS = ["system", "user", "assistant", "User:", "Assistant:", "System:", "think", "[INST]", "[/INST]"]
WORDS = [*TEMPLATE_WORDS, "be", "kind", "hi", "hello", "bye", "now", "ok", "no", "yes", "why"]


def words_tokenizer(chat_template: str | None, specials: list[str], **roles: str) -> PreTrainedTokenizerFast:
    """Words, spaces and line ends are one token each; where there is a BOS, the tokenizer puts it in front."""
    vocabulary = {token: i for i, token in enumerate(["<unk>", *specials, "\n", " ", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| |[^\s]+"), "isolated")
    backend.decoder = decoders.Fuse()
    if bos := roles.get("bos_token"):
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    extra = [token for token in specials if token not in roles.values()]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", additional_special_tokens=extra, **roles
    )
    tokenizer.chat_template = chat_template
    return tokenizer


@pytest.fixture(scope="session")
def chatml() -> Template:
    return Template(words_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>", "</s>"], eos_token="</s>"))


@pytest.fixture(scope="session")
def llama3() -> Template:
    specials = ["<s>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return Template(words_tokenizer(LLAMA3, specials, bos_token="<s>", eos_token="</s>"))


@pytest.fixture(scope="session")
def mistral() -> Template:
    return Template(words_tokenizer(MISTRAL, ["<s>", "</s>"], bos_token="<s>", eos_token="</s>"))


@pytest.fixture(scope="session")
def thinking() -> Template:
    return Template(words_tokenizer(THINKING, ["<|im_start|>", "<|im_end|>", "</s>"], eos_token="</s>"))


@pytest.fixture(scope="session")
def plain() -> Template:
    """Words with BOS and EOS and no chat template of their own."""
    return Template(words_tokenizer(None, ["<s>", "</s>"], bos_token="<s>", eos_token="</s>"))


@pytest.fixture(scope="session")
def byte_level() -> Template:
    """A byte-level BPE with a few merges in two scripts."""
    texts = [
        "User: hello there\nAssistant: hello hello",
        "한국의 수도는 서울입니다. 한국의 한국",
        "abcd abcd abcd abcd",
    ] * 5
    return Template(train_tokenizer(texts, 300))


@pytest.fixture
def tokens_of() -> Callable[[Template, list[int]], list[str]]:
    return lambda template, ids: template.tokenizer.convert_ids_to_tokens(ids)


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows, or lines as they are, to a file."""

    def write(rows: list[dict | str], name: str = "rows.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path = tmp_path / name
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())
        return path

    return write


@pytest.fixture
def turns() -> Callable[..., Conversation]:
    """turns("hi", "hello") is a user's and an assistant's turn, and so on in turn."""

    def build(*contents: str, first: str = "user") -> Conversation:
        roles = ("user", "assistant") if first == "user" else ("assistant", "user")
        return tuple(Message(roles[i % 2], content) for i, content in enumerate(contents))

    return build
