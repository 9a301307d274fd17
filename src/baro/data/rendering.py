"""From conversations to text: chat templates.

A template is a Jinja text with the signature of Hugging Face chat templates, whichever kind it is: the tokenizer's own,
``plain`` or ``none``. So there is one way to render, and a saved folder keeps the template in ``chat_template``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from baro.errors import ConfigError, DataError
from baro.records import Conversation, Message

Kind = Literal["auto", "plain", "none", "open"]

PLAIN = (
    "{%- for message in messages -%}"
    "{{- '\\n' if not loop.first else '' -}}"
    "{{- {'system': 'System:', 'user': 'User:', 'assistant': 'Assistant:'}[message['role']] -}}"
    "{{- ' ' + message['content'] if message['content'] else '' -}}"
    "{{- eos_token or '' if message['role'] == 'assistant' else '' -}}"
    "{%- endfor -%}"
    "{{- '\\nAssistant:' if add_generation_prompt else '' -}}"
)
"""``User: {prompt}\\nAssistant: {answer}{eos}``. The space before the answer is the answer's, as it is in tokens."""

NONE = (
    "{%- for message in messages -%}"
    "{{- message['content'] -}}"
    "{{- eos_token or '' if message['role'] == 'assistant' else '' -}}"
    "{%- endfor -%}"
)
"""Raw continuation: nothing between the turns; the answer ends with EOS where the tokenizer has one."""

OPEN = "{%- for message in messages -%}{{- message['content'] -}}{%- endfor -%}"
"""Raw continuation that nothing ends: no EOS after an answer, and none ends generation."""

KINDS = {PLAIN: "plain", NONE: "none", OPEN: "open"}
_MARKER = "answer"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt with one completion as text. ``spans``: start and end of each assistant turn in ``whole``."""

    prompt: str
    whole: str
    spans: tuple[tuple[int, int], ...]


class Rendering:
    """The text around the turns. ``text``: the Jinja template; ``kind``: plain, none, open, or the tokenizer's own."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, kind: Kind = "auto") -> None:
        self.tokenizer = tokenizer
        self.text = _template_text(tokenizer, kind)
        self.kind = KINDS.get(self.text, "own")
        self._opened: tuple[Conversation, str] | None = None  # the prompt rendered last

    def prompt(self, prompt: Conversation) -> str:
        """The text of a prompt, with the words that open the assistant's turn."""
        return self._render(prompt, opened=True) if prompt else ""

    def answered(self, prompt: Conversation, completion: Conversation) -> Rendered:
        """The text of a prompt with its completion, and where the assistant's turns stand in it."""
        turns = prompt + completion
        if self._opened is None or self._opened[0] is not prompt:  # a pair's completions come one after the other
            self._opened = prompt, self._render(prompt, opened=True)
        opened = self._opened[1]
        whole = self._render(turns)
        spans = []
        for count, turn in enumerate(turns):
            if count < len(prompt) or turn.role != "assistant":
                continue
            start = opened if count == len(prompt) else self._render(turns[:count], opened=True)
            end = whole if count + 1 == len(turns) else self._render(turns[: count + 1])
            for text, first in ((start, count), (end, count + 1)):
                if not whole.startswith(text):
                    raise DataError(_rewritten(self.kind, first, len(turns)))
            spans.append((len(start), len(end)))
        return Rendered(opened, whole, tuple(spans))

    def conversation(self, turns: Conversation) -> str:
        """A whole conversation as the model sees it, end-of-turn tokens written out."""
        return self._render(turns)

    def _render(self, turns: Conversation, *, opened: bool = False) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.text,
                tokenize=False,
                add_generation_prompt=opened,
                date_string="26 Jul 2024",  # Llama 3 writes today's date otherwise, and a run resumed tomorrow differs
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise DataError(f"the chat template refuses the turns {roles}: {error}; try `template: plain`") from error

    def around_answer(self) -> tuple[str, str]:
        """What the template puts between its opening words and an answer, and what it writes after the answer."""
        question = (Message("user", "question"),)
        try:
            opened = self._render(question, opened=True)
            before, found, after = self._render((*question, Message("assistant", _MARKER))).rpartition(_MARKER)
        except DataError as error:
            raise ConfigError(f"{self.tokenizer.name_or_path}: {error}") from error
        if not found:
            raise ConfigError("the chat template leaves out the assistant's answer; use `template: plain`")
        lead = before.removeprefix(opened) if before.startswith(opened) else ""
        return lead, after


def plain_text(turns: Conversation) -> str:
    """A conversation in the words of the plain template, without end tokens: for tokenizers that are yet to be made."""
    return "\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)


def _template_text(tokenizer: PreTrainedTokenizerBase, kind: Kind) -> str:
    if kind == "plain":
        return PLAIN
    if kind in ("none", "open"):
        return NONE if kind == "none" else OPEN
    own = tokenizer.chat_template
    if isinstance(own, dict):  # several named templates, for tools and the like
        own = own.get("default")
    return own or PLAIN


def _rewritten(kind: str, first: int, turns: int) -> str:
    return (
        f"the chat template ({kind}) rewrites earlier turns: its text of {turns} messages does not begin with its text "
        f"of the first {first}; give rows with one answer after the prompt, or use `template: plain`"
    )
