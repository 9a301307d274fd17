"""From conversations to text: chat templates.

A template is a Jinja text with the signature of Hugging Face chat templates, whichever kind it is: the tokenizer's own,
``plain`` or ``none``. So there is one way to render, and a saved folder keeps the template in ``chat_template``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from baro.data.rows import Unusable
from baro.errors import ConfigError, DataError
from baro.records import Conversation, Message, Role

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


_THINKING = re.compile(r"(</?think>)")
_OF: dict[Role, str] = {"assistant": "the answer", "user": "the user's turn", "system": "the system message"}
_INSTEAD: dict[Role, str] = {"system": "write it above the first question (`data.system: merge`), "}
_TAG = re.compile(r"<[^<>\s]+>$|\[[^\[\]\s]+\]$")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt with one completion as text. ``spans``: start and end of each assistant turn in ``whole``."""

    prompt: str
    whole: str
    spans: tuple[tuple[int, int], ...]


class Rewritten(Unusable):
    """The text of a conversation does not begin with the text of its first turns: no sampler could have drawn it."""


class Rendering:
    """The text around the turns.

    text: the Jinja template; kind: plain, none, open, or the tokenizer's own. lead: what the template puts between its
    opening words and an answer. opening: what its opening words have after the point where an answer begins, as the
    ``<think>`` of models that always think. closing: what it writes after an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, kind: Kind = "auto") -> None:
        self.tokenizer = tokenizer
        self.text = _template_text(tokenizer, kind)
        self.kind = KINDS.get(self.text, "own")
        self._opened: tuple[Conversation, str] | None = None  # the prompt rendered last
        self._lost: dict[tuple[bool, tuple[Role, ...]], frozenset[int]] = {}
        opened, before, self.closing = self._probe()
        self.lead = before.removeprefix(opened) if before.startswith(opened) else ""
        self.opening = opened.removeprefix(before) if opened.startswith(before) else ""

    def prompt(self, prompt: Conversation) -> str:
        """The text of a prompt, with the words that open the assistant's turn.

        Raises Unusable where it does not hold every turn; of earlier answers, what follows their thinking.
        """
        if not prompt:
            return ""
        if self._opened is None or self._opened[0] is not prompt:  # a pair's completions come one after the other
            text = self._render(prompt, opened=True)
            self._check_turns(prompt, text, opened=True)
            self._opened = prompt, text
        return self._opened[1]

    def answered(self, prompt: Conversation, completion: Conversation) -> Rendered:
        """The text of a prompt with its completion, and where the assistant's turns stand in it.

        Raises Unusable where the text does not hold every turn and the whole of every answer, Rewritten where it does
        not continue what the sampler is fed.
        """
        turns = prompt + completion
        opened = self.prompt(prompt)
        if self.opening and len(completion) == 1 and opened.endswith(self.opening):
            whole = opened + self._continued(completion[0].content) + self.closing
            return Rendered(opened, whole, ((len(opened), len(whole)),) if completion[0].scored else ())
        whole = self._render(turns)
        spans = []
        for count, turn in enumerate(turns):
            if count < len(prompt) or turn.role != "assistant" or not turn.scored:
                continue
            start = opened if count == len(prompt) else self._render(turns[:count], opened=True)
            end = whole if count + 1 == len(turns) else self._render(turns[: count + 1])
            for text, first in ((start, count), (end, count + 1)):
                if not whole.startswith(text):
                    raise Rewritten("template rewrites", _rewritten(self.kind, first, len(turns)))
            tag = _TAG.search(start.rstrip())
            said = turn.content.strip().removeprefix(tag[0] if tag else "")
            _check_whole(said, whole[len(start) : len(end)])
            spans.append((len(start), len(end)))
        self._check_turns(turns, whole)
        return Rendered(opened, whole, tuple(spans))

    def last_answered(self, prompt: Conversation, completion: Conversation) -> Rendered:
        """The same with the last answer alone as completion: for templates that rewrite earlier answers."""
        turns = prompt + completion
        last = max(i for i, turn in enumerate(turns) if turn.role == "assistant" and turn.scored)
        return self.answered(turns[:last], turns[last : last + 1])

    def _continued(self, answer: str) -> str:
        """What of an answer follows the opening words, which may have its first tag already."""
        tag = self.opening.strip()
        space = self.opening[len(self.opening.rstrip()) :]
        if answer.lstrip().startswith(tag):
            return answer.lstrip().removeprefix(tag).removeprefix(space) if tag else answer.removeprefix(space)
        if tag not in answer and tag[:1] + "/" + tag[1:] in answer:  # as it was sampled: the prompt had the tag
            return answer
        raise Unusable(
            "no thinking",
            f"the chat template opens each answer with {tag}, and this answer neither begins with it nor closes it; "
            "put the thinking in front of the answer, or use `template: plain`",
        )

    def conversation(self, turns: Conversation) -> str:
        """A whole conversation as the model sees it, end-of-turn tokens written out."""
        text = self._render(turns)
        self._check_turns(turns, text, thinking=True)
        return text

    def _check_turns(self, turns: Conversation, text: str, *, opened: bool = False, thinking: bool = False) -> None:
        """Raise Unusable unless every turn stands in the text, in order; a system's may stand anywhere.

        thinking: that of answers must stand there as well; templates leave it out of answers that come earlier.
        """
        roles = tuple(turn.role for turn in turns)
        if (opened, roles) not in self._lost:
            self._lost[opened, roles] = self._lost_of(roles, opened)
        lost, rest = self._lost[opened, roles], text
        for i, turn in enumerate(turns):
            said = turn.content.strip()
            if turn.role == "assistant" and not thinking:
                said = said.rpartition("</think>")[2].strip()
            if turn.role == "system" or i in lost:
                _check_whole(said, "" if i in lost else text, turn.role)
            else:
                rest = _check_whole(said, rest, turn.role)

    def _lost_of(self, roles: tuple[Role, ...], opened: bool) -> frozenset[int]:
        """The turns that the template never writes, whatever they say: a short one may stand in its own words."""
        marks = [f"{_MARKER}-{i}-" for i in range(len(roles))]
        turns = tuple(Message(role, mark) for role, mark in zip(roles, marks, strict=True))
        text = self._render(turns, opened=opened)
        return frozenset(i for i, mark in enumerate(marks) if mark not in text)

    def _render(self, turns: Conversation, *, opened: bool = False) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.text,
                tokenize=False,
                add_generation_prompt=opened,
                date_string="26 Jul 2024",  # Llama 3 writes today's date otherwise, and a run resumed tomorrow differs
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise DataError(f"the chat template refuses the turns {roles}: {error}; try `template: plain`") from error
        assert isinstance(text, str)  # as tokenize=False says
        return text

    def _probe(self) -> tuple[str, str, str]:
        """The opening words of an answer, and what stands before and after an answer once it is there."""
        question = (Message("user", "question"),)
        try:
            opened = self._render(question, opened=True)
            before, found, after = self._render((*question, Message("assistant", _MARKER))).rpartition(_MARKER)
        except DataError as error:
            raise ConfigError(f"{self.tokenizer.name_or_path}: {error}") from error
        if not found:
            raise ConfigError("the chat template leaves out the assistant's answer; use `template: plain`")
        return opened, before, after


def _check_whole(said: str, text: str, role: Role = "assistant") -> str:
    """Raise Unusable unless all of ``said`` stands in the text, white space beside thinking tags aside.

    Returns what of the text stands behind it.
    """
    for part in _THINKING.split(said):
        _, found, text = text.partition(part.strip()) if part.strip() else ("", True, text)
        if not found:
            raise Unusable(
                "template leaves out",
                f"the chat template leaves out a part of {_OF[role]} ({_shortened(said[said.index(part.strip()) :])}); "
                f"take the part out of the row, {_INSTEAD.get(role, '')}or use a template that keeps it "
                "(`template: plain`)",
            )
    return text


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


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
        f"of the first {first}; put the earlier turns into 'prompt' and give one answer after it, or use "
        "`template: plain`"
    )
