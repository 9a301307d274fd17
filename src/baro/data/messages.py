"""Conversations in cells: messages of every spelling, transcripts, and where a prompt ends. Errors name the column."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from baro.data.cells import Columns, string, truth
from baro.data.rows import Unusable, kind_of
from baro.errors import DataError
from baro.records import Conversation, Message, Role

_TURN = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
_OPEN_TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:\s*", re.DOTALL)
_SPELLED_OUT = re.compile(r"\s*\[?\s*\{\s*['\"](?:role|content|from|value)['\"]\s*:")
LONGEST_SPELLED_OUT = 1_000_000  # characters that are read as Python; JSON may be longer

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
    "developer": "system",  # OpenAI's newer word for it
}
_TURNS: tuple[Role, Role] = ("user", "assistant")
NAMES = (("role", "content"), ("from", "value"))
UNREAD = {
    **dict.fromkeys(("tool_calls", "function_call"), "calls tools"),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "has its thoughts apart from its text"),
    **dict.fromkeys(("images", "image", "audio", "videos", "video"), "holds more than text"),
}
"""Keys of a message that change what was said, and that no template of ours would write."""
MARKS = ("weight", "train", "trainable", "loss")
"""Keys of an assistant's message that say whether it is learned: 1 or true, 0 or false."""
_MEANT = {*UNREAD, *MARKS, *(name for names in NAMES for name in names)}


def prompt_of(columns: Columns) -> Conversation:
    """The cell ``prompt`` with what belongs to it.

    Alpaca's ``input`` stands below it; the turns of ``history`` stand before it, and a ``system`` text before those.
    """
    value = spelled(columns["prompt"])
    if not isinstance(value, str):
        turns = conversation(value, "prompt")
    elif is_open_transcript(value):
        turns = parse_transcript(value)[:-1]  # the last turn is the open one
    else:
        below = string(columns, "input") if columns.get("input") else ""
        turns = (Message("user", f"{value}\n\n{below}" if below else value),)
    return with_system(columns, _behind_history(columns, turns))


def _behind_history(columns: Columns, turns: Conversation) -> Conversation:
    """The turns behind those of the cell ``history``: messages, or lists of a question and its answer."""
    history = spelled(columns.get("history"))
    if not history:
        return turns
    if is_messages(history):
        before = conversation(history, "history")
    elif isinstance(history, list) and all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one) for one in history
    ):
        before = tuple(Message(role, text) for pair in history for role, text in zip(_TURNS, pair, strict=True))
    else:
        raise DataError("column 'history' needs messages, or a list of [question, answer]")
    first = 1 if turns and turns[0].role == "system" else 0
    return (*turns[:first], *before, *turns[first:])


def with_system(columns: Columns, turns: Conversation) -> Conversation:
    """The turns behind the text of the cell ``system``, if there is one."""
    if not columns.get("system"):
        return turns
    text = string(columns, "system")
    if turns and turns[0].role == "system":
        raise DataError("column 'system' stands beside a system message; leave one of them out")
    return (Message("system", text), *turns)


def answered(columns: Columns, answers: Sequence[tuple[str, Any]]) -> tuple[Conversation, list[Conversation]]:
    """The prompt of a row, and its answers, each given with its column.

    An answer is text, a message, or messages. Messages may begin with the prompt once more; turns that stand before it
    there belong to the prompt, and must be the same in all answers.
    """
    prompt = prompt_of(columns)
    split = [_split(columns, value, column, prompt) for column, value in answers]
    before = {context for context, _ in split if context is not None}
    if len(before) > 1:
        names = " and ".join(repr(name) for name in dict.fromkeys(column for column, _ in answers))
        raise Unusable("two prompts", f"the answers in {names} have different turns before the prompt")
    return (*(before.pop() if before else ()), *prompt), [completion for _, completion in split]


def _split(columns: Columns, value: Any, column: str, prompt: Conversation) -> tuple[Conversation | None, Conversation]:
    """What stands before the repeated prompt (None where nothing is repeated), and the answer."""
    beside, value = columns["prompt"], spelled(value)
    if isinstance(value, str) and isinstance(beside, str) and is_open_transcript(beside):
        # a transcript as the prompt: the answer repeats it, or is what follows the colon and a space
        value = parse_transcript(value) if _TRANSCRIPT.match(value) else value.removeprefix(" ")
    if isinstance(value, str):
        return None, (Message("assistant", value),)
    turns = value if isinstance(value, tuple) else conversation(value, column)
    if not turns or turns[0].role == "assistant":
        return None, turns
    said, repeated = plain(turns), plain(prompt)
    for end in range(len(prompt), len(turns) + 1):
        if said[end - len(prompt) : end] == repeated:
            return turns[: end - len(prompt)], turns[end:]
    raise DataError(f"column {column!r} begins with another prompt than 'prompt' holds; leave the prompt out of it")


def plain(turns: Conversation) -> list[tuple[str, str]]:
    """Roles and words, without the marks of what is learned."""
    return [(turn.role, turn.content) for turn in turns]


def conversation(value: Any, column: str) -> Conversation:
    """A list of messages, with role and content or with ShareGPT's from and value; a message alone is a list of one."""
    value = spelled(value)
    if isinstance(value, dict) and _names(value):
        value = [value]
    if not isinstance(value, list):
        raise DataError(f"column {column!r} is {kind_of(value)}; text or a list of messages is needed")
    return tuple(_message(item, f"message {i} of {column!r}") for i, item in enumerate(value, start=1))


def is_messages(value: Any) -> bool:
    """Whether it looks like a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and _names(item) for item in value)


def unknown_keys(value: Any) -> set[str]:
    """Keys of a cell's messages that are not read, where they say anything."""
    try:
        value = spelled(value)
    except DataError:
        return set()  # told where the row is read
    if isinstance(value, dict):
        value = [value]
    if not is_messages(value):
        return set()
    return {key for item in value for key, said in item.items() if key not in _MEANT and said not in (None, "", [], {})}


def _names(item: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((names for names in NAMES if set(names) <= set(item)), None)


def _message(item: Any, place: str) -> Message:
    names = _names(item) if isinstance(item, dict) else None
    if names is None:
        raise DataError(f"{place} is no message; an object with 'role' and 'content', or 'from' and 'value', is needed")
    said, content = item[names[0]], item[names[1]]
    for key, does in UNREAD.items():
        if item.get(key):
            raise Unusable("more than text", f"{place} {does} ({key!r}), which Baro does not train on")
    if not isinstance(said, str) or said not in ROLES:
        raise Unusable("unknown role", f"{place} has the role {said!r}; known roles are {', '.join(ROLES)}")
    return Message(ROLES[said], _text(content, place), _scored(item, ROLES[said], place))


def _text(content: Any, place: str) -> str:
    """A message's text; parts that are all text are joined."""
    if isinstance(content, str):
        return content
    if content is None:
        raise Unusable("no content", f"the content of {place} is null; text is needed")
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        others = [part.get("type") for part in content if not isinstance(part.get("text"), str)]
        if others:
            raise Unusable("more than text", f"{place} holds a part of the type {others[0]!r}, and Baro reads text")
        return "".join(part["text"] for part in content)
    raise DataError(f"the content of {place} is {kind_of(content)}; text is needed")


def _scored(item: Mapping[str, Any], role: Role, place: str) -> bool:
    """Whether the message is to be learned, by its marks."""
    given = {key: item[key] for key in MARKS if item.get(key) is not None}
    said = {key: truth(value) for key, value in given.items()}
    for key, value in said.items():
        if value is None:
            raise Unusable("weight", f"{place} has {key!r} {given[key]!r}; 1 or 0 (true or false) is what Baro obeys")
    if role != "assistant":
        wanted = next((key for key, value in said.items() if value and key != "weight"), None)
        if wanted is not None:
            raise Unusable("weight", f"{place} is the {role}'s and has {wanted!r}; only the assistant's are learned")
        return True
    return all(said.values())


def looks_spelled(value: Any) -> bool:
    """Whether a text begins as messages that are spelled out."""
    return isinstance(value, str) and bool(_SPELLED_OUT.match(value))


def spelled(value: Any) -> Any:
    """The messages that a text spells out, as JSON or as Python writes lists; anything else as it is."""
    if not looks_spelled(value):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = _from_python(value)
    return found if is_messages(found if isinstance(found, list) else [found]) else value


def _from_python(text: str) -> Any:
    if len(text) <= LONGEST_SPELLED_OUT:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    raise DataError("a cell holds messages in the spelling of Python; write the table with json.dumps, or as Parquet")


def whole_conversation(value: Any, column: str) -> Conversation:
    """A conversation with its answer: messages, or a transcript."""
    value = spelled(value)
    if not isinstance(value, str):
        return conversation(value, column)
    if not _TRANSCRIPT.match(value):
        raise DataError(
            f"column {column!r} is plain text without a prompt; add a column 'prompt', or give messages or a "
            r"'\n\nHuman: ... \n\nAssistant: ...' transcript"
        )
    return parse_transcript(value)


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
    """The turns as such a text. What has no place in it is refused: DataError."""
    names = {"user": "Human", "assistant": "Assistant"}
    if any(turn.role not in names for turn in turns):
        raise DataError("a transcript has no place for a system message")
    if not all(turn.scored for turn in turns):
        raise DataError("a transcript has no place for turns that are not learned")
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
    for one, other in zip(plain(chosen), plain(rejected), strict=False):  # the shorter one ends what is common
        if one != other:
            break
        shared += 1
    both = range(min(shared + 1, len(chosen), len(rejected)))
    return max((i for i in both if chosen[i].role == rejected[i].role == "assistant"), default=0)


def system_as(turns: Conversation, how: str) -> Conversation:
    """A prompt with its system message kept, put above the first question (merge), or left out (drop)."""
    if how == "keep" or not turns or turns[0].role != "system":
        return turns
    system, *rest = turns
    if how == "merge" and rest and rest[0].role == "user":
        return (Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:])
    return tuple(rest) if how == "drop" else turns
