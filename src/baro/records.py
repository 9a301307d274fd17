"""What stages exchange: JSONL records, and the plain values that pass through the seams. No torch here.

A record is one row of a JSONL file. A conversation is always a tuple of messages inside the program; in files a single
turn may be a plain string. ``prompt`` is what the model is fed, a completion everything after the common prompt.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``scored``: whether an assistant's turn is to be learned where it can be."""

    role: Role
    content: str
    scored: bool = True


Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an answer. Its last message is not the assistant's."""

    prompt: Conversation
    extra: Mapping[str, Any] = field(default_factory=dict)  # the row's other columns; reward functions receive them


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the answer to imitate. An empty prompt means raw text: no template is put around it."""

    prompt: Conversation
    completion: Conversation
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preference:
    """Two completions of one prompt. ``p_chosen`` is the probability that ``chosen`` is the better one."""

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    p_chosen: float = 1.0
    margin: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranking:
    """K completions of one prompt; rank 1 is the best, equal ranks are ties."""

    prompt: Conversation
    completions: tuple[Conversation, ...]
    ranks: tuple[int, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Thumb:
    """One completion of a prompt, and whether people liked it."""

    prompt: Conversation
    completion: Conversation
    label: bool  # True is a thumb up
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rated:
    """K completions of one prompt; ``scores``: for each of them a score by criterion, higher is better."""

    prompt: Conversation
    completions: tuple[Conversation, ...]
    scores: tuple[Mapping[str, float], ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Safety:
    """1..K completions of one prompt, and how harmful people found each; one alone is a labelled single answer.

    unsafe: for each the probability that it is unsafe, the share of the raters who said so; None where nobody said.
    ranks: 1 is the safest, equal ranks are ties; empty where nobody compared. p_safer: the probability that each pair
    is in this order. severity: how harmful each is, 0 for a safe one; categories: of what kinds; empty where not given.
    """

    prompt: Conversation
    completions: tuple[Conversation, ...]
    unsafe: tuple[float | None, ...]
    ranks: tuple[int, ...] = ()
    p_safer: float = 1.0
    severity: tuple[float | None, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answers:
    """Completions of one prompt that nobody has judged yet: what ``generate`` writes and ``label`` reads."""

    prompt: Conversation
    completions: tuple[str, ...]
    finished: tuple[bool, ...]  # whether each ended by itself
    extra: Mapping[str, Any] = field(default_factory=dict)


Record = Prompt | Demonstration | Preference | Ranking | Thumb | Rated | Safety | Answers


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How completions are drawn. ``temperature`` 0 is greedy; top_k 0, top_p 1 and min_p 0 leave every token in."""

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """Tokens that a Sampler drew, the end token included where one was drawn.

    ``logprobs`` are untruncated and at the sampling temperature, in nats, one per scored token. ``scored`` marks the
    tokens that the policy drew, where others stand between them (a tool's answer, a user's turn); empty where it drew
    all of them.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool  # an end token was drawn; otherwise the length ran out
    scored: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion as reward sources and judges see it: turns, and tokens where they are known.

    Ordinarily it is one turn of the assistant; a tool's answers or a user's turns may stand between, not ``scored``.
    """

    prompt: Conversation
    completion: Conversation
    completion_ids: tuple[int, ...] = ()
    finished: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the assistant said, turn by turn."""
        return "\n".join(turn.content for turn in self.completion if turn.role == "assistant")


def said(text: str) -> Conversation:
    """A completion of one turn."""
    return (Message("assistant", text),)


@dataclass(frozen=True, slots=True)
class Score:
    """A reward, or the reason why there is none; neither where the source has no opinion and others may have one.

    ``std``, of an ensemble alone: by how much its members differ, NaN where there is no score.
    """

    value: float | None
    error: str | None = None
    std: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's probability that the first of two is better, or the reason why there is none."""

    p_first: float | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a chat model, or the reason why there is none."""

    text: str | None
    finished: bool = True  # it ended by itself; otherwise the length ran out
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OptionScores:
    """log p of each option, in nats and not normalised, or why there are none; neither where a model tells none."""

    logprobs: tuple[float, ...] | None
    error: str | None = None


UNKNOWN = OptionScores(None)
"""What a model answers that gives no log-probs: whoever asks may draw answers instead."""


def content_hash(value: object) -> str:
    """A short stable name for a JSON-able value: the first 16 hex digits of the SHA-256 of its canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=vars_of)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def vars_of(value: object) -> dict[str, Any]:
    """The fields of a slotted record, for JSON."""
    return {name: getattr(value, name) for name in getattr(value, "__dataclass_fields__", {})}


def completions_of(record: Record) -> list[Rollout]:
    """Every completion of a record as reward sources see it: the last answer, given all before it. None of a prompt."""
    if isinstance(record, Prompt):
        return []
    if isinstance(record, Answers):
        both = zip(record.completions, record.finished, strict=True)
        return [Rollout(record.prompt, said(text), finished=ended, extra=record.extra) for text, ended in both]
    if isinstance(record, Preference):
        completions: tuple[Conversation, ...] = (record.chosen, record.rejected)
    else:
        completions = (record.completion,) if isinstance(record, Demonstration | Thumb) else record.completions
    return [Rollout(record.prompt + one[:-1], one[-1:], extra=record.extra) for one in completions]


def plain_conversation(turns: Conversation, role: Role = "user") -> str | list[dict[str, Any]]:
    """A conversation as files hold it: a string for one turn of the role that strings stand for, messages otherwise."""
    if len(turns) == 1 and turns[0].role == role and turns[0].scored:
        return turns[0].content
    return message_list(turns)


def message_list(turns: Conversation) -> list[dict[str, Any]]:
    """A conversation as a list of messages, one turn or many."""
    return [{"role": turn.role, "content": turn.content} | ({} if turn.scored else {"weight": 0}) for turn in turns]


def to_row(record: Record) -> dict[str, Any]:
    """A record as a row of a JSONL file, in the public layout that every stage reads back."""
    row: dict[str, Any] = dict(record.extra)
    if isinstance(record, Demonstration) and not record.prompt and len(record.completion) == 1:
        return row | {"text": record.completion[0].content}
    row["prompt"] = plain_conversation(record.prompt)
    if isinstance(record, Demonstration):
        row["completion"] = plain_conversation(record.completion, "assistant")
    elif isinstance(record, Thumb):
        row |= {"completion": plain_conversation(record.completion, "assistant"), "label": record.label}
    elif isinstance(record, Rated):
        row["responses"] = [plain_conversation(c, "assistant") for c in record.completions]
        row["scores"] = [dict(scores) for scores in record.scores]
    elif isinstance(record, Safety):
        row |= _safety_row(record)
    elif isinstance(record, Answers):
        row |= {"responses": list(record.completions), "finished": list(record.finished)}
    elif isinstance(record, Ranking):
        row["responses"] = [plain_conversation(c, "assistant") for c in record.completions]
        row["ranks"] = list(record.ranks)
    elif isinstance(record, Preference):
        row["chosen"] = plain_conversation(record.chosen, "assistant")
        row["rejected"] = plain_conversation(record.rejected, "assistant")
        row |= {} if record.p_chosen == 1.0 else {"p_chosen": record.p_chosen}
        stated = record.margin != 0.0 or "score_chosen" in record.extra  # two scores beside it would be read as one
        row |= {"margin": record.margin} if stated else {}
    return row


def _safety_row(record: Safety) -> dict[str, Any]:
    row: dict[str, Any] = {"responses": [plain_conversation(one, "assistant") for one in record.completions]}
    row["unsafe"] = list(record.unsafe)
    row |= {"safety_ranks": list(record.ranks)} if record.ranks else {}
    row |= {} if record.p_safer == 1.0 else {"p_safer": record.p_safer}
    row |= {"severity": list(record.severity)} if record.severity else {}
    return row | ({"categories": [list(one) for one in record.categories]} if record.categories else {})
