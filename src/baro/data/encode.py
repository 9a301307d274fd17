"""Records to Samples. Every row ends in the ledger: kept, truncated, or dropped with a sentence.

A pair or a ranking longer than ``max_length`` is dropped: cut, it would compare texts that nobody judged. A
demonstration is cut, because each of its tokens stands for itself, and then has no end-of-turn token.

Encoders read and give one sample after the other; the ledger is complete when the last one has been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track

from baro.batch import Branch, Sample
from baro.data.formats import Loaded
from baro.data.ledger import Ledger
from baro.data.rendering import Rendered, Rewritten
from baro.data.rows import Unusable, placed
from baro.data.template import Encoded, Template, last_end
from baro.data.usable import check, completions_of, digest
from baro.records import (
    Answers,
    Demonstration,
    Preference,
    Prompt,
    Ranking,
    Rated,
    Safety,
    Thumb,
)

CHUNK = 1000
LAST_ONLY = "the chat template rewrites earlier answers, so that only the last answer is learned"
QUIET_BELOW = 4000  # rows that take no time worth a progress bar
T = TypeVar("T")
Samples = Iterator[Sample]


def encode_demonstrations(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """One sample with one completion for each demonstration; raw text goes through ``encode_texts``."""
    if loaded.is_text:
        return encode_texts(loaded, template, max_length, ledger)

    def finish(key: str, record: Demonstration, encoded: Sequence[Encoded]) -> Sample:
        (one,) = encoded
        _check_prompt_ids(one.prompt_ids, max_length)
        return _sample(key, [_truncated(key, one, max_length, template, ledger)], [{}])

    return _encode(loaded, template, ledger, finish)


def encode_preferences(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """Two completions, the chosen one first; fields chosen (1, 0), rank (1, 2), p_chosen, margin; the first carries a
    pair and a prompt, and its tokens.
    """

    def finish(key: str, pair: Preference, encoded: Sequence[Encoded]) -> Sample:
        _check_length(encoded, max_length)
        chosen, rejected = encoded
        if chosen.completion_ids == rejected.completion_ids:
            raise Unusable("equal pair", "'chosen' and 'rejected' become the same tokens; a pair needs two")
        same = {"p_chosen": pair.p_chosen, "margin": pair.margin}
        fields = [{"chosen": 1.0, "rank": 1.0, **same}, {"chosen": 0.0, "rank": 2.0, **same}]
        return _compared(_sample(key, encoded, fields, units=("pairs", "prompts")))

    return _encode(loaded, template, ledger, finish)


def encode_rankings(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """K completions in the file's order; fields rank (1 is best), p_chosen 1, margin 0; the first carries a prompt, the
    best ones their tokens.
    """

    def finish(key: str, ranking: Ranking, encoded: Sequence[Encoded]) -> Sample:
        _check_length(encoded, max_length)
        fields = [{"rank": float(rank), "p_chosen": 1.0, "margin": 0.0} for rank in ranking.ranks]
        return _compared(_sample(key, encoded, fields, units=("prompts",)))

    return _encode(loaded, template, ledger, finish)


def encode_comparisons(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """Pairs or rankings, whichever the file holds: both have ranks, p_chosen, margin and count their prompts."""
    return ENCODERS[loaded.kind](loaded, template, max_length, ledger)


def _compared(sample: Sample) -> Sample:
    """The best completions carry their tokens, which an SFT term is divided by."""
    best = min(one.fields["rank"] for one in sample.completions)
    return sample.with_completions(
        [
            one.with_(units={"chosen_tokens": float(one.scored_tokens)}) if one.fields["rank"] == best else one
            for one in sample.completions
        ]
    )


def encode_thumbs(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """One completion; field label (1 is a thumb up). Too long a one is dropped: nobody judged a part of it."""

    def finish(key: str, thumb: Thumb, encoded: Sequence[Encoded]) -> Sample:
        _check_length(encoded, max_length)
        return _sample(key, encoded, [{"label": float(thumb.label)}])

    return _encode(loaded, template, ledger, finish)


def encode_ratings(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """K completions in the file's order; a field score/<criterion> for each score; the first carries a prompt."""

    def finish(key: str, rated: Rated, encoded: Sequence[Encoded]) -> Sample:
        _check_length(encoded, max_length)
        fields = [{f"score/{name}": score for name, score in scores.items()} for scores in rated.scores]
        return _sample(key, encoded, fields, units=("prompts",))

    return _encode(loaded, template, ledger, finish)


def encode_safety(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """K completions in the file's order; fields unsafe (a probability), severity, rank (1 is the safest; 0 where nobody
    compared), p_safer; NaN where nothing is said. The first carries a prompt.
    """

    def finish(key: str, record: Safety, encoded: Sequence[Encoded]) -> Sample:
        _check_length(encoded, max_length)
        count = len(encoded)
        told = zip(record.unsafe, record.severity or [None] * count, record.ranks or [0] * count, strict=True)
        fields = [
            {"unsafe": _known(unsafe), "severity": _known(severity), "rank": float(rank), "p_safer": record.p_safer}
            for unsafe, severity, rank in told
        ]
        return _sample(key, encoded, fields, units=("prompts",))

    return _encode(loaded, template, ledger, finish)


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def encode_prompts(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """Samples without completions; a prompt that stands in the file twice is kept once."""
    for rows in _chunks(_usable(loaded, ledger)):
        texts = _texts(rows, lambda record: template.rendering.prompt(record.prompt), ledger)
        for key, ids in zip(texts, template.tokenize_prompts(list(texts.values())), strict=True):
            with _accounted(ledger, key):
                _check_prompt_ids(ids, max_length)
                yield Sample(torch.tensor(ids, dtype=torch.long), (), key)


def encode_texts(loaded: Loaded, template: Template, max_length: int, ledger: Ledger) -> Samples:
    """Raw text, and whole conversations as the template writes them, in consecutive pieces; every token is scored.

    A piece's key is its row's and its number, ``file.jsonl:7#2``.
    """
    for rows in _chunks(_usable(loaded, ledger)):
        texts = _texts(rows, lambda record: _text_of(record, template), ledger)
        for key, pieces in zip(texts, template.encode_texts(list(texts.values()), max_length), strict=True):
            with _accounted(ledger, key):
                if not pieces:
                    raise Unusable("empty span", "no token of this text can be scored; it needs two tokens or more")
                yield from (_sample(f"{key}#{n}", [piece], [{}]) for n, piece in enumerate(pieces, start=1))


def _texts(rows: Iterable[tuple[str, Any]], render: Callable[[Any], str], ledger: Ledger) -> dict[str, str]:
    """Each row's text by its key; the ledger hears of rows that have none."""
    texts = {}
    for key, record in rows:
        try:
            texts[key] = placed(key, render, record)
        except Unusable as fault:
            ledger.drop(key, fault.reason, fault.sentence)
    return texts


ENCODERS: dict[type, Callable[[Loaded, Template, int, Ledger], Samples]] = {
    Demonstration: encode_demonstrations,
    Preference: encode_preferences,
    Ranking: encode_rankings,
    Thumb: encode_thumbs,
    Rated: encode_ratings,
    Safety: encode_safety,
    Prompt: encode_prompts,
    Answers: encode_prompts,
}


def account(loaded: Loaded, ledger: Ledger) -> None:
    """Fill the ledger with what shows without a tokenizer: equal pairs, missing answers, duplicates."""
    for _ in _usable(loaded, ledger):
        ledger.keep()


def progress(items: Iterable[T], total: int | None, description: str) -> Iterator[T]:
    """The items, with a bar on stderr where there are many; without a total, once many have come."""
    if total is None:
        items = iter(items)
        yield from islice(items, QUIET_BELOW)
    elif total < QUIET_BELOW:
        yield from items
        return
    yield from track(items, description, total, console=Console(stderr=True), transient=True)


# ------------------------------------------------------------------------------------------------------------- rows


def _encode(
    loaded: Loaded, template: Template, ledger: Ledger, finish: Callable[[str, Any, Sequence[Encoded]], Sample]
) -> Samples:
    """Check, render, tokenise in chunks, and let ``finish`` make each row's sample or call it unusable."""
    for rows in _chunks(_usable(loaded, ledger)):
        rendered = list(_rendered(rows, template, ledger))
        tokens = iter(template.tokenize([one for _, _, texts, _ in rendered for one in texts]))
        for key, record, texts, left_out in rendered:
            encoded = [next(tokens) for _ in texts]
            with _accounted(ledger, key):
                if not all(any(one.scored) for one in encoded):
                    raise Unusable("empty span", "a completion has no token that can be scored")
                sample = finish(key, record, encoded)
                if left_out:
                    ledger.truncate(key, "last answer only", left_out)
                yield sample


def _rendered(
    rows: Iterable[tuple[str, Any]], template: Template, ledger: Ledger
) -> Iterator[tuple[str, Any, list[Rendered], str]]:
    """Each row's completions as text, and what of them is left out; rows without such a text go into the ledger.

    Of a demonstration whose earlier answers the template rewrites, the last answer stays.
    """
    for key, record in rows:
        try:
            try:
                texts = [template.rendering.answered(record.prompt, one) for one in completions_of(record)]
                yield key, record, texts, ""
            except Rewritten:
                if not isinstance(record, Demonstration):
                    raise
                yield key, record, [template.rendering.last_answered(record.prompt, record.completion)], LAST_ONLY
        except Unusable as fault:
            ledger.drop(key, fault.reason, fault.sentence)
        except DataError as error:
            raise DataError(f"{key}: {error}") from error


def _usable(loaded: Loaded, ledger: Ledger) -> Iterator[tuple[str, Any]]:
    """The rows that pass their own checks and are no repetition; the others go into the ledger.

    A judgment of what was judged before is a vote and counts, whether it agrees with the earlier one or not.
    """
    first: dict[bytes, str] = {}
    for key, record in loaded:
        try:
            if isinstance(record, Unusable):
                raise record
            check(record, loaded.is_text)
        except Unusable as fault:
            tell = ledger.pass_over if fault.expected else ledger.drop
            tell(key, fault.reason, fault.sentence)
            continue
        same_as = first.setdefault(digest(record), key)
        if same_as == key:
            yield key, record
        elif isinstance(record, Preference | Ranking | Thumb | Rated | Safety) and not loaded.converted:
            ledger.vote(key, f"judges what {same_as} judges")
            yield key, record
        else:
            tell = ledger.pass_over if loaded.converted else ledger.drop
            tell(key, "duplicate", f"says the same as {same_as}")


def _check_prompt_ids(ids: Sequence[int], max_length: int) -> None:
    if not ids:
        raise Unusable("no prompt", "the prompt has no token; there is nothing to continue")
    if len(ids) >= max_length:
        raise Unusable("prompt too long", f"the prompt has {len(ids)} tokens, and max_length is {max_length}")


def _check_length(encoded: Sequence[Encoded], max_length: int) -> None:
    _check_prompt_ids(encoded[0].prompt_ids, max_length)
    longest = max(len(one.prompt_ids) + len(one.completion_ids) for one in encoded)
    if longest > max_length:
        raise Unusable(
            "too long",
            f"a completion ends at token {longest}, and max_length is {max_length}; cut, it would tell a lie",
        )


def _truncated(key: str, one: Encoded, max_length: int, template: Template, ledger: Ledger) -> Encoded:
    """A completion cut at ``max_length``."""
    length, room = len(one.prompt_ids) + len(one.completion_ids), max_length - len(one.prompt_ids)
    if length <= max_length:
        return one
    ids, scored = one.completion_ids[:room], one.scored[:room]
    if not any(scored):
        raise Unusable("empty span", f"no scored token is left within max_length {max_length}")
    ledger.truncate(
        key, "completion cut", f"has {length} tokens; what stands after max_length {max_length} is left out"
    )
    return Encoded(one.prompt_ids, ids, scored, last_end(ids, template.end_ids))


def _sample(
    key: str, encoded: Sequence[Encoded], fields: Sequence[dict[str, float]], units: Sequence[str] = ()
) -> Sample:
    """``units``: what the first completion counts for, once for the whole sample."""
    branches = [
        Branch(
            ids=torch.tensor(one.completion_ids, dtype=torch.long),
            scored=torch.tensor(one.scored, dtype=torch.bool),
            last=one.last,
            fields=named,
            units=dict.fromkeys(units, 1.0) if i == 0 else {},
        )
        for i, (one, named) in enumerate(zip(encoded, fields, strict=True))
    ]
    return Sample(torch.tensor(encoded[0].prompt_ids, dtype=torch.long), tuple(branches), key)


def _text_of(record: Demonstration, template: Template) -> str:
    if record.prompt:
        return template.rendering.conversation(record.prompt + record.completion)
    return "".join(turn.content for turn in record.completion)


@contextmanager
def _accounted(ledger: Ledger, key: str) -> Iterator[None]:
    """The row is kept, unless the block finds it unusable."""
    try:
        yield
    except Unusable as fault:
        ledger.drop(key, fault.reason, fault.sentence)
    else:
        ledger.keep()


def _chunks(rows: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Enough rows at a time for the tokenizer to work in parallel."""
    rows = iter(progress(rows, None, "reading"))
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
