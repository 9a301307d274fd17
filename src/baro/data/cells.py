"""What stands in one cell of a row: text, numbers, conversations, transcripts. Errors name the column, not the row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, get_args

from baro.data.rows import kind_of
from baro.errors import DataError
from baro.records import Conversation, Message, Role

Columns = Mapping[str, Any]

_TURN = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
_OPEN_TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:\s*", re.DOTALL)
_SHAREGPT: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def string(columns: Columns, column: str) -> str:
    """A cell that must be text."""
    value = columns[column]
    if not isinstance(value, str):
        raise DataError(f"column {column!r} is {kind_of(value)}; text is needed")
    return value


def number(value: Any, place: str) -> float:
    """A finite number; tables of text hold it as digits."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise DataError(f"{place} is {kind_of(value)}; a finite number is needed") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{place} is {kind_of(value)}; a finite number is needed")
    return float(value)


def whole(value: Any) -> int | None:
    """A whole number, None where it is none; tables of text hold it as digits."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def truth(value: Any) -> bool | None:
    """true or false, also as the words that tables of text hold; None where it is neither."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def listed(columns: Columns, column: str) -> list[Any]:
    """A cell that must be a list."""
    value = columns[column]
    if not isinstance(value, list):
        raise DataError(f"column {column!r} is {kind_of(value)}; a list is needed")
    return value


def prompt_of(columns: Columns) -> Conversation:
    """The cell ``prompt`` with what belongs to it: Alpaca's ``input`` stands below it, a ``system`` text before it."""
    value = columns["prompt"]
    if not isinstance(value, str):
        turns = conversation(value, "prompt")
    elif is_open_transcript(value):
        turns = parse_transcript(value)[:-1]  # the last turn is the open one
    else:
        below = string(columns, "input") if columns.get("input") else ""
        turns = (Message("user", f"{value}\n\n{below}" if below else value),)
    return with_system(columns, turns)


def with_system(columns: Columns, turns: Conversation) -> Conversation:
    """The turns behind the text of the cell ``system``, if there is one."""
    if not columns.get("system"):
        return turns
    text = string(columns, "system")
    if turns and turns[0].role == "system":
        raise DataError("column 'system' stands beside a system message; leave one of them out")
    return (Message("system", text), *turns)


def answer(columns: Columns, column: str, prompt: Conversation) -> Conversation:
    """Beside a transcript as the prompt stands a transcript that repeats it, or what follows the colon and a space."""
    value, beside = columns[column], columns["prompt"]
    if isinstance(value, str) and isinstance(beside, str) and is_open_transcript(beside):
        value = parse_transcript(value) if _TRANSCRIPT.match(value) else value.removeprefix(" ")
    return completion(value, column, prompt)


def completion(value: Any, column: str, prompt: Conversation) -> Conversation:
    """An answer: text, messages, or messages that begin with the prompt once more."""
    if isinstance(value, str):
        return (Message("assistant", value),)
    turns = value if isinstance(value, tuple) else conversation(value, column)
    if not turns or turns[0].role == "assistant":
        return turns
    for end in range(len(prompt), len(turns) + 1):  # a system message may stand before the repeated prompt
        if turns[end - len(prompt) : end] == prompt:
            return turns[end:]
    raise DataError(f"column {column!r} begins with another prompt than 'prompt' holds; leave the prompt out of it")


def conversation(value: Any, column: str) -> Conversation:
    """A list of messages, with role and content or with ShareGPT's from and value."""
    if not isinstance(value, list):
        raise DataError(f"column {column!r} is {kind_of(value)}; text or a list of messages is needed")
    return tuple(_message(item, f"message {i} of {column!r}") for i, item in enumerate(value, start=1))


def is_messages(value: Any) -> bool:
    """Whether it looks like a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and _names(item) for item in value)


def _names(item: dict[str, Any]) -> tuple[str, str] | None:
    return next((names for names in (("role", "content"), ("from", "value")) if set(names) <= set(item)), None)


def _message(item: Any, place: str) -> Message:
    names = _names(item) if isinstance(item, dict) else None
    if names is None:
        raise DataError(f"{place} is no message; an object with 'role' and 'content', or 'from' and 'value', is needed")
    said, content = item[names[0]], item[names[1]]
    known: dict[str, Role] = _SHAREGPT if names[0] == "from" else {role: role for role in get_args(Role)}
    if not isinstance(said, str) or said not in known:
        *words, last = known
        raise DataError(f"{place} has the role {said!r}; known roles are {', '.join(words)} and {last}")
    if not isinstance(content, str):
        raise DataError(f"the content of {place} is {kind_of(content)}; text is needed")
    return Message(known[said], content)


def whole_conversation(value: Any, column: str) -> Conversation:
    """A conversation with its answer: messages, or a transcript."""
    if not isinstance(value, str):
        return conversation(value, column)
    if not _TRANSCRIPT.match(value):
        raise DataError(
            f"column {column!r} is plain text without a prompt; add a column 'prompt', or give messages or a "
            r"'\n\nHuman: ... \n\nAssistant: ...' transcript"
        )
    return parse_transcript(value)


def is_transcript(value: Any) -> bool:
    """Whether a text has turns of a Human and an Assistant."""
    return isinstance(value, str) and bool(_TRANSCRIPT.match(value))


def is_open_transcript(value: Any) -> bool:
    """Whether a transcript waits for the assistant's answer."""
    return isinstance(value, str) and bool(_OPEN_TRANSCRIPT.fullmatch(value))


def parse_transcript(text: str) -> Conversation:
    """The turns of a "Human: … Assistant: …" text. One space after the colon is no content."""
    parts = _TURN.split("\n\n" + text.lstrip())
    roles: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
    return tuple(
        Message(roles[name], content.removeprefix(" ")) for name, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def write_transcript(turns: Conversation) -> str:
    """The turns as such a text. A system message has no place in it: DataError."""
    names = {"user": "Human", "assistant": "Assistant"}
    if any(turn.role not in names for turn in turns):
        raise DataError("a transcript has no place for a system message")
    return "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in turns)


def split_at_answer(turns: Conversation) -> tuple[Conversation, Conversation]:
    """What stands before the first answer, and the rest up to the last one; nothing after that can be scored."""
    first = next((i for i, turn in enumerate(turns) if i and turn.role == "assistant"), len(turns))
    return turns[:first], through_last_answer(turns[first:])


def through_last_answer(turns: Conversation) -> Conversation:
    """Without what stands after the last answer: nothing there can be scored."""
    return turns[: max((i + 1 for i, turn in enumerate(turns) if turn.role == "assistant"), default=0)]


def common_prompt(chosen: Conversation, rejected: Conversation) -> int:
    """How many leading messages are the prompt: the same in both, and followed by an answer in both."""
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        shared += 1
    both = range(min(shared + 1, len(chosen), len(rejected)))
    return max((i for i in both if chosen[i].role == rejected[i].role == "assistant"), default=0)


def parsed(text: str) -> Any:
    """The list or object that a cell of a table spells out as JSON; any other text as it is."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
