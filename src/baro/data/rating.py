"""Templates for reward models that do not read answers the way a policy writes them.

Both are texts in the language of chat templates, so that they are saved, loaded and fingerprinted as any other.
"""

from __future__ import annotations

import copy
import json

from baro.data.template import Template
from baro.errors import ConfigError

_TURNS = (
    "{%- set ns = namespace(text='') -%}"
    "{%- for message in asked -%}"
    "{%- set role = {'system': 'System: ', 'user': 'User: ', 'assistant': 'Assistant: '}[message['role']] -%}"
    "{%- set start = ('' if loop.first else '\\n') ~ (role if asked | length > 1 else '') -%}"
    "{%- set ns.text = ns.text ~ start ~ message['content'] -%}"
    "{%- endfor -%}"
)
_INPUT = (
    "{%- set asked = messages if add_generation_prompt else messages[:-1] -%}"
    + _TURNS
    + "{{- BEFORE -}}{{- ns.text -}}"
    + "{%- if add_generation_prompt -%}{{- BETWEEN.rstrip() -}}"
    + "{%- else -%}{{- BETWEEN -}}{{- messages[-1]['content'] -}}{{- AFTER -}}{{- eos_token or '' -}}{%- endif -%}"
)
_PAIR = (
    "{{- BEFORE -}}"
    "{%- for message in messages -%}"
    "{{- message['content'] -}}"
    "{%- if message['role'] == 'assistant' -%}{{- AFTER -}}"
    "{%- elif not loop.last -%}{{- BETWEEN if loop.nextitem['role'] == 'assistant' else '\\n' -}}"
    "{%- elif add_generation_prompt -%}{{- BETWEEN -}}{%- endif -%}"
    "{%- endfor -%}"
)


def check_input_template(text: str) -> tuple[str, str, str]:
    """What stands before ``{prompt}``, between it and ``{completion}``, and after. Raises ValueError otherwise."""
    before, prompt, rest = text.partition("{prompt}")
    between, completion, after = rest.partition("{completion}")
    if not prompt or not completion or any(name in before + between + after for name in ("{prompt}", "{completion}")):
        raise ValueError(
            f"input_template {text!r} must hold {{prompt}} once and then {{completion}} once, "
            "as in 'Given {prompt}, rate {completion}'"
        )
    return before, between, after


def input_template(template: Template, text: str) -> Template:
    """A reward model's own wording around prompt and completion, ended by EOS: ``Given {prompt}, rate {completion}``.

    A prompt of several turns is written with ``User:`` and ``Assistant:``; a completion is one answer. White space in
    front of the completion counts as the completion's, as in tokens.
    """
    return _with_text(template, _INPUT, *check_input_template(text))


def pair_template(template: Template) -> Template:
    """An encoder's own encoding of two texts, ``[CLS] prompt [SEP] completion [SEP]``, in the tokenizer's own tokens.

    Earlier turns of a prompt are separated likewise. Raises ConfigError for a tokenizer that does not mark two texts.
    """
    backend = template.tokenizer.backend_tokenizer
    encoded = backend.encode("a", "b", add_special_tokens=True)
    marks: list[str] = ["", "", ""]
    texts_begun = 0
    for token, sequence, special in zip(encoded.tokens, encoded.sequence_ids, encoded.special_tokens_mask, strict=True):
        if special:
            marks[texts_begun] += token
        else:
            texts_begun = (sequence or 0) + 1
    if not all(marks[1:]):
        raise ConfigError(
            f"{template.tokenizer.name_or_path}: the tokenizer puts no mark between two texts and after them; an "
            "encoder's tokenizer does, so copy it from the model's own folder"
        )
    return _with_text(template, _PAIR, *marks)


def _with_text(template: Template, text: str, before: str, between: str, after: str) -> Template:
    tokenizer = copy.deepcopy(template.tokenizer)
    for name, value in (("BEFORE", before), ("BETWEEN", between), ("AFTER", after)):
        text = f"{{%- set {name} = {json.dumps(value, ensure_ascii=False, allow_nan=False)} -%}}" + text
    tokenizer.chat_template = text
    return Template(tokenizer)
