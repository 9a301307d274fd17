"""A judgment that was made elsewhere, before it is in the store, and what other tools' answers are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from baro.data.ledger import Ledger
from baro.feedback import answers
from baro.records import Conversation, Message

PROMPTS = ("prompt", "instruction", "question", "query", "input", "chat", "messages", "conversation", "context", "text")
_ANSWER = re.compile(
    r"(response|completion|output|answer|reply|generation|candidate|option|model|chosen|rejected|text)"
    r"s?[\s_-]*(\d+|[a-z])?",
    re.IGNORECASE,
)
GOOD = {"good", "yes", "up", "thumbsup", "positive", "like", "correct", "true", "accept", "helpful"}
BAD = {"bad", "no", "down", "thumbsdown", "negative", "dislike", "incorrect", "false", "reject", "unhelpful"}
TIE = {"tie", "equal", "same", "both", "bothgood", "draw"}
BOTH_BAD = {"bothbad", "neither", "none", "allbad"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One rater's answer to one question about the answers of a prompt; positions are those in ``responses``."""

    key: str
    prompt: Conversation
    responses: tuple[str, ...]
    answer: Any  # of answers.py
    rater: str
    models: tuple[str, ...] = ()
    at_ms: int | None = None
    active_ms: int | None = None
    comment: str = ""

    @property
    def kind(self) -> str:
        """Of the task."""
        return str(self.answer.kind)


@dataclass(frozen=True)
class Shown:
    """What a record of another tool shows: its prompt, and its answers by the name of their field."""

    prompt: Conversation
    answers: Mapping[str, str]

    @property
    def texts(self) -> tuple[str, ...]:
        """The answers in order."""
        return tuple(self.answers.values())


def squeezed(name: Any) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", str(name)).lower()


def shown_in(fields: Mapping[str, Any]) -> Shown | None:
    """Prompt and answers among named texts; None where one of the two is missing."""
    prompt = next((name for name in PROMPTS if name in fields), None)
    if prompt is None:
        return None
    turns = conversation_of(fields[prompt])
    texts = {name: text for name, text in fields.items() if name != prompt and isinstance(text, str)}
    found = {name: text for name, text in texts.items() if _ANSWER.fullmatch(name)}
    return Shown(turns, found) if turns and found else None


def conversation_of(value: Any) -> Conversation | None:
    """A text as the user's turn, or a list of messages."""
    if isinstance(value, str):
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        return None
    turns = []
    for turn in value:
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("system", "user", "assistant") or not isinstance(turn.get("content"), str):
            return None
        turns.append(Message(role, turn["content"]))
    return tuple(turns)


def position_of(name: Any, shown: Shown) -> int | None:
    """Which answer a name means: a field's name, or its number or letter at the end."""
    names = [squeezed(one) for one in shown.answers]
    asked = squeezed(name)
    if asked in names:
        return names.index(asked)
    ends = [re.search(r"(\d+|[a-z])$", one) for one in names]
    tail = re.fullmatch(r"(?:response|completion|answer|reply|model|option|candidate|output)?(\d+|[a-z])", asked)
    tails = [end.group(1) if end else "" for end in ends]
    return tails.index(tail.group(1)) if tail and tail.group(1) in tails else None


def chosen_of(value: Any, shown: Shown) -> answers.Answer | None:
    """The answer that a chosen label is: one of two answers, a tie, or a thumb for the only one."""
    word = squeezed(value)
    if len(shown.answers) == 1:
        return answers.ThumbAnswer(thumbs=[answers.Thumb(good=word in GOOD)]) if word in GOOD | BAD else None
    if len(shown.answers) != 2:
        return None
    if word in TIE | BOTH_BAD:
        return answers.PairAnswer(choice=answers.Choice(outcome="tie" if word in TIE else "both_bad"))
    position = position_of(value, shown)
    return None if position is None else winner(position)


def winner(position: int) -> answers.PairAnswer:
    """The one at this position is better."""
    return answers.PairAnswer(choice=answers.Choice(outcome="win", position=position))  # type: ignore[arg-type]


def ranking_of(ranks: Sequence[int | None]) -> answers.RankAnswer | None:
    """Ranks that may leave numbers out as ones that do not; None where they are no ranking of 2 to 9."""
    steps = {rank: step for step, rank in enumerate(sorted({r for r in ranks if r is not None}), start=1)}
    try:
        return answers.RankAnswer(ranks=[None if rank is None else steps[rank] for rank in ranks])
    except ValidationError:
        return None


def ms_of(time: Any) -> int | None:
    """An ISO time as UTC milliseconds."""
    try:
        found = datetime.fromisoformat(str(time))
    except ValueError:
        return None
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1000)


def odd(ledger: Ledger, key: str, what: str) -> None:
    """Enter something that was not understood."""
    ledger.drop(key, "not understood", what)
