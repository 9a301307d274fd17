"""Conversations of people with a model, as prompts for the next round: only with consent, once each.

Every turn of a person's is a prompt, with what was said before it. Other columns of the log, which may say who somebody
is, are left behind.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args

from baro.data.files import UTF_8, write_rows
from baro.data.formats import Loaded, read_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.data.personal import find_personal, mask_personal
from baro.data.rows import Unusable
from baro.errors import ConfigError
from baro.records import Conversation, Demonstration, Message, Prompt, Record, Thumb, to_row

CONSENT = "consent"  # the column in which a log says whether its people agreed
Personal = Literal["drop", "mask", "keep"]


def write_prompts(
    path: str | Path, out: Path, *, personal: Personal = "drop", all_agreed: bool = False, encoding: str = UTF_8
) -> tuple[str, Ledger]:
    """Write a log's prompts as JSON Lines; returns what the log was taken for, and the ledger.

    ConfigError for a name that is none of JSON Lines; DataError where nothing may be used, and nothing is written.
    """
    if not str(out).removesuffix(".gz").endswith(".jsonl"):
        raise ConfigError(f"{out}: is no name for JSON Lines; let it end in .jsonl or .jsonl.gz")
    loaded = read_records(path, reading=Reading(encoding=encoding))
    ledger = Ledger(loaded.name)
    rows = [to_row(one) for _, one in prompts_of(loaded, ledger, personal=personal, all_agreed=all_agreed)]
    ledger.kept = len(rows)
    check_some_are_left(ledger)
    write_rows(out, rows)
    return loaded.description, ledger


def prompts_of(
    loaded: Loaded, ledger: Ledger, *, personal: Personal = "drop", all_agreed: bool = False
) -> Iterator[tuple[str, Prompt]]:
    """The prompts of a log, each with the place that it comes from; the ledger counts turns, but for those to keep.

    A row is used where its column ``consent`` is true; ``all_agreed`` also takes rows that do not say, and none that
    says no. ``personal``: what becomes of a prompt with an address, a number or a key in it.
    """
    seen: set[Conversation] = set()
    for row, record in loaded:
        if isinstance(record, Unusable):
            ledger.drop(row, record.reason, record.sentence)
            continue
        turns_of_people = list(_turns(row, record))
        if not turns_of_people:
            ledger.drop(row, "nobody asks", "holds no turn of a person's")
        for key, turns in turns_of_people:
            said = _may_be_used(record, all_agreed)
            kinds = dict.fromkeys(one.kind for turn in turns for one in find_personal(turn.content))
            if said is not None:
                ledger.drop(key, *said)
            elif kinds and personal == "drop":
                ledger.drop(key, "personal data", f"holds what looks like a {' and a '.join(kinds)}")
            elif _plain(turns) in seen:
                ledger.pass_over(key, "said before", "asks what an earlier prompt asked")
            else:
                seen.add(_plain(turns))
                if kinds and personal == "mask":
                    turns = tuple(Message(turn.role, mask_personal(turn.content)) for turn in turns)
                    ledger.truncate(key, "personal data masked", f"held what looks like a {' and a '.join(kinds)}")
                yield key, Prompt(turns)


def personal_called(word: str) -> Personal:
    """What becomes of personal data; ConfigError for another word."""
    for known in get_args(Personal):
        if word == known:
            return cast(Personal, known)
    raise ConfigError(f"personal data: {word!r} is no way to treat it; give one of {', '.join(get_args(Personal))}")


def check_some_are_left(ledger: Ledger) -> None:
    """DataError where no prompt is left, with the counts and the way out."""
    ledger.check(1.0, f"let rows of people who agreed say `{CONSENT}: true`, or say that all did (--all-agreed)")


def _turns(key: str, record: Record) -> Iterator[tuple[str, Conversation]]:
    """Every turn of a person's that is not empty, with all that stands before it."""
    whole = record.prompt + (record.completion if isinstance(record, Demonstration | Thumb) else ())
    for place, turn in enumerate(whole):
        if turn.role == "user" and turn.content.strip():
            yield f"{key}, turn {place + 1}", whole[: place + 1]


def _may_be_used(record: Any, all_agreed: bool) -> tuple[str, str] | None:
    """Why not, as reason and sentence."""
    consent = record.extra.get(CONSENT)
    if consent is True or (consent is None and all_agreed):
        return None
    if consent is None:
        return "no word of consent", f"does not say whether its people agreed (`{CONSENT}: true`)"
    return "no consent", f"says `{CONSENT}: {consent!r}`"


def _plain(turns: Conversation) -> Conversation:
    """What makes two prompts the same: the words, in whatever case, spacing and form of Unicode."""
    return tuple(
        Message(turn.role, " ".join(unicodedata.normalize("NFKC", turn.content).casefold().split())) for turn in turns
    )
