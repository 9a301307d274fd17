"""Whether a record can be used as it stands: what shows without a tokenizer, and what makes two rows the same."""

from __future__ import annotations

import hashlib

from baro.data.rows import Unusable
from baro.records import (
    Answers,
    Conversation,
    Demonstration,
    Message,
    Preference,
    Ranking,
    Rated,
    Record,
    Safety,
    Thumb,
)


def completions_of(record: Record) -> tuple[Conversation, ...]:
    """All completions that a record holds."""
    if isinstance(record, Demonstration | Thumb):
        return (record.completion,)
    if isinstance(record, Preference):
        return (record.chosen, record.rejected)
    if isinstance(record, Answers):
        return tuple((Message("assistant", text),) for text in record.completions)
    return record.completions if isinstance(record, Ranking | Rated | Safety) else ()


def digest(record: Record) -> bytes:
    """Equal for equal prompts with equal completions, in whatever order: a million of them fit into memory."""
    digest = hashlib.blake2b(digest_size=16)
    judged = isinstance(record, Preference | Ranking | Rated | Safety)
    for part in (_said(record.prompt), *(sorted if judged else list)(map(_said, completions_of(record)))):
        digest.update(part)
    return digest.digest()


def _said(turns: Conversation) -> bytes:
    parts = (f"{turn.role}{'' if turn.scored else '-'} {len(turn.content)} {turn.content}" for turn in turns)
    return f"{len(turns)} {''.join(parts)}".encode("utf-8", "surrogatepass")


def check(record: Record, raw: bool) -> None:
    """Raise Unusable for what shows without a tokenizer. ``raw``: the file holds raw text, which needs no prompt."""
    completions = completions_of(record)
    if raw and isinstance(record, Demonstration) and not record.prompt:
        if not any(turn.content for turn in record.completion):
            raise Unusable("empty span", "the text is empty")
        return
    if not record.prompt:
        raise Unusable("no prompt", "has no prompt; the completions have nothing in common to answer")
    if record.prompt[-1].role == "assistant":
        raise Unusable("no prompt", "the prompt ends with the assistant's turn; there is nothing to answer")
    if any(not one or one[0].role != "assistant" for one in completions):
        raise Unusable("empty span", "has no answer of the assistant after the prompt")
    if isinstance(record, Preference) and record.chosen == record.rejected:
        raise Unusable("equal pair", "'chosen' equals 'rejected'; a pair needs two different completions")
    if isinstance(record, Ranking):
        _check_ranking(record)
    if isinstance(record, Rated):
        _check_ratings(record)
    if isinstance(record, Safety):
        _check_safety(record)


def _check_ranking(ranking: Ranking) -> None:
    if len(ranking.completions) < 2:
        raise Unusable("no order", "has one response, and a ranking needs two", expected=True)
    if len(set(ranking.ranks)) < 2:
        raise Unusable("no order", "all 'ranks' are equal; a ranking needs two different ranks")
    ranks: dict[Conversation, int] = {}
    for completion, rank in zip(ranking.completions, ranking.ranks, strict=True):
        if ranks.setdefault(completion, rank) != rank:
            raise Unusable("equal pair", "the same response has two ranks; leave one of them out")


def _check_ratings(rated: Rated) -> None:
    if not any(rated.scores):
        raise Unusable("no score", "has no score; a rated answer needs one")


def _check_safety(record: Safety) -> None:
    """Something is said, and the order does not say the contrary of the labels."""
    if all(one is None for one in record.unsafe) and len(set(record.ranks)) < 2:
        raise Unusable("no judgment", "no response is said to be safe or unsafe, and none safer than another")
    if not record.ranks:
        return
    ranks: dict[Conversation, int] = {}
    for completion, rank in zip(record.completions, record.ranks, strict=True):
        if ranks.setdefault(completion, rank) != rank:
            raise Unusable("equal pair", "the same response is safer and less safe; leave one of them out")
    certain = 1 if record.p_safer > 0.5 else -1 if record.p_safer < 0.5 else 0
    ordered = [(certain * rank, one) for rank, one in zip(record.ranks, record.unsafe, strict=True)]
    unsafe = [rank for rank, one in ordered if one is not None and one > 0.5]
    safe = [rank for rank, one in ordered if one is not None and one < 0.5]
    if unsafe and safe and min(unsafe) < max(safe):
        raise Unusable("contradiction", "the response that is called safer is labelled unsafe, and the other one safe")
