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
GOOD = {"good", "up", "thumbsup", "positive", "like", "correct", "accept", "acceptable", "helpful"}
BAD = {"bad", "down", "thumbsdown", "negative", "dislike", "incorrect", "reject", "unacceptable", "unhelpful"}
YES, NO = {"yes", "true"}, {"no", "false"}
TIE = {"tie", "equal", "same", "both", "bothgood", "draw"}
BOTH_BAD = {"bothbad", "botharebad", "neither", "none", "allbad"}
_FILLERS = {"is", "was", "it", "this", "the", "answer", "response", "completion", "a", "an"}
_TO_BE_WISHED = {*GOOD, "ok", "okay", "useful", "thumb", "thumbs", "appropriate"}
_EDIT = re.compile(r"edit(ed)?|correct(ed|ion)|rewrit\w+|improve\w*|revis\w+")
_COMMENT = ("comment", "note", "reason", "rationale", "why", "explanation", "explain", "remark", "feedback", "critique")


@dataclass(frozen=True, slots=True)
class Judged:
    """One rater's answer to one question about the answers of a prompt; positions are those in ``responses``.

    asked: the name of the question.
    """

    key: str
    prompt: Conversation
    responses: tuple[str, ...]
    answer: Any  # of answers.py
    rater: str
    models: tuple[str, ...] = ()
    at_ms: int | None = None
    active_ms: int | None = None
    comment: str = ""
    asked: str = ""

    @property
    def kind(self) -> str:
        """Of the task."""
        return str(self.answer.kind)


@dataclass(frozen=True)
class Shown:
    """What a record of another tool shows: its prompt, and its answers by the name of their field.

    models: who wrote them, where fields like ``model_a`` tell it.
    """

    prompt: Conversation
    answers: Mapping[str, str]
    models: tuple[str, ...] = ()

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
    models = {tail_of(name): text for name, text in found.items() if squeezed(name).startswith("model")}
    others = {name: text for name, text in found.items() if not squeezed(name).startswith("model")}
    if others and models:  # beside answers they are the names of models
        found = others
    known = tuple(models.get(tail_of(name), "") for name in others)
    return Shown(turns, found, known if all(known) else ()) if turns and found else None


def tail_of(name: Any) -> str:
    """The number or the letter at the end of a name, with nothing before it that belongs to a word."""
    found = re.search(r"(\d+|(?<![^\W_])[A-Za-z]|(?<=[a-z])[A-Z])$", str(name))
    return found.group(1).lower() if found else ""


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
    tail = re.fullmatch(r"(?:response|completion|answer|reply|model|option|candidate|output)?(\d+|[a-z])", asked)
    tails = [tail_of(one) for one in shown.answers]
    return tails.index(tail.group(1)) if tail and tail.group(1) in tails else None


def chosen_of(value: Any, shown: Shown, asked: str) -> answers.Answer | None:
    """The answer that a chosen label is: one of two answers, a tie, or a thumb for the only one."""
    word = squeezed(value)
    if len(shown.answers) == 1:
        good, bad = (GOOD | YES, BAD | NO) if _asks_whether_good(asked) else (GOOD, BAD)
        return answers.ThumbAnswer(thumbs=[answers.Thumb(good=word in good)]) if word in good | bad else None
    if len(shown.answers) != 2:
        return None
    if word in TIE | BOTH_BAD:
        return answers.PairAnswer(choice=answers.Choice(outcome="tie" if word in TIE else "both_bad"))
    position = position_of(value, shown)
    return None if position is None else winner(position)


def _asks_whether_good(asked: str) -> bool:
    """Whether "yes" is praise: not where the question is "hallucination" or "fails_to_follow"."""
    words = set(_words(asked)) - _FILLERS
    return bool(words) and words <= _TO_BE_WISHED


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name.lower()) if word]


def edited(asked: str, text: str, shown: Shown) -> answers.EditAnswer | None:
    """A better text of the only answer, where the question asks for one."""
    asks = any(_EDIT.fullmatch(word) for word in _words(asked))
    return answers.EditAnswer(text=text) if asks and len(shown.answers) == 1 and text != shown.texts[0] else None


def is_comment(asked: str) -> bool:
    """Whether a question asks for words about the answers, which may well be "none" or "same"."""
    return any(word in squeezed(asked) for word in _COMMENT)


def one_each(found: Sequence[Judged], ledger: Ledger) -> list[Judged]:
    """One judgment of a kind for each rater. Where two questions were answered differently none is taken."""
    groups: dict[Any, list[Judged]] = {}
    for one in found:
        groups.setdefault((one.rater, one.kind, one.responses), []).append(one)
    kept = []
    for group in groups.values():
        if all(one.answer == group[0].answer for one in group):
            kept.append(group[0])
        else:
            names = " and ".join(repr(one.asked) for one in group)
            odd(ledger, group[0].key, f"one person's answers to {names} contradict each other; none was taken")
    return kept


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


def criterion_key(name: str) -> str:
    """The name of a question as a criterion's key; one without Latin letters stays as it is."""
    found = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return found if found[:1].isalpha() else name


def odd(ledger: Ledger, key: str, what: str) -> None:
    """Enter something that was not understood."""
    ledger.drop(key, "not understood", what)
