"""``baro data convert``: the same records in another layout, every row read back and compared before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from baro.data.files import UTF_8, write_rows
from baro.data.formats import NOUNS, Loaded, escaped, read_records
from baro.data.known import LAYOUTS
from baro.data.layouts import NAMES, Looked, Reading
from baro.data.ledger import Ledger
from baro.data.messages import write_transcript
from baro.data.rows import Unusable
from baro.errors import ConfigError, DataError
from baro.records import Conversation, Demonstration, Preference, Prompt, Ranking, Rated, Record, Safety, Thumb, to_row

Write = Callable[[Any], dict[str, Any]]


def convert_file(path: str | Path, to: str, out: str | Path, encoding: str = UTF_8) -> tuple[str, Ledger]:
    """Write the records of a file in the layout ``to`` (columns joined by slashes) as JSON Lines.

    Returns what the file was taken for, and the ledger: a row that the layout cannot hold whole is left out and told.
    """
    if not str(out).removesuffix(".gz").endswith((".jsonl", ".json")):
        raise ConfigError(f"{out}: is no name for JSON Lines; let it end in .jsonl or .jsonl.gz")
    kind, write, columns = _target(to)
    loaded = read_records(path, kind, Reading(encoding=encoding))
    if loaded.converted:
        holds = loaded.fit.layout.makes
        others = ", ".join(name for name, (known, _) in TARGETS.items() if known is holds)
        raise DataError(f"{loaded.name}: holds {NOUNS[holds]}, and {to} is for {NOUNS[kind]}; give one of {others}")
    ledger = Ledger(loaded.name)
    write_rows(out, _converted(loaded, write, columns, ledger))
    return loaded.description, ledger


def _converted(loaded: Loaded, write: Write, columns: dict[str, str], ledger: Ledger) -> Iterator[dict[str, Any]]:
    for key, record in loaded:
        try:
            if isinstance(record, Unusable):
                raise record
            row = _row(record, write, columns)
        except DataError as fault:
            ledger.drop(key, getattr(fault, "reason", "") or "does not fit", str(fault))
        else:
            ledger.keep()
            yield row


def _row(record: Record, write: Write, columns: dict[str, str]) -> dict[str, Any]:
    """The row, which reads back as the same record."""
    written = write(record)
    row = dict(record.extra) | {columns.get(name, name): value for name, value in written.items()}
    taken = {columns.get(name, name) for name in written} & set(record.extra)
    if taken:
        raise Unusable("", f"has a column {min(taken)!r} of its own, which this layout needs for something else")
    fit = next(
        fit for one in LAYOUTS if one.makes is type(record) and (fit := one.fit(Looked([row]), Reading())) is not None
    )
    if fit.record(row) != record:
        raise Unusable("", "would be read back as something else; this layout cannot hold it")
    return row


def _target(to: str) -> tuple[type[Record], Write, dict[str, str]]:
    """The kind of record, how it is written, and what its columns are called."""
    firsts = {other: first for first, names in NAMES.items() for other in names}
    asked = [name for name in to.split("/") if name != "input"]  # Alpaca's is part of the prompt already
    columns = {firsts.get(name, name): name for name in asked}
    for name, (kind, write) in TARGETS.items():
        if set(name.split("/")) == set(columns):
            return kind, write, columns
    raise ConfigError(f"--to {to}: no such layout; give one of {', '.join(TARGETS)}")


def _plain(record: Record) -> dict[str, Any]:
    """The row of ``to_row`` without the other columns."""
    row = escaped(to_row(record))
    return {name: value for name, value in row.items() if name not in record.extra}


def _messages(turns: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _sharegpt(record: Demonstration) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    turns = record.prompt + record.completion
    return {"conversations": [{"from": names[turn.role], "value": turn.content} for turn in turns]}


def _whole(pair: Preference) -> dict[str, Any]:
    return _strength(pair) | {
        "chosen": _messages(pair.prompt + pair.chosen),
        "rejected": _messages(pair.prompt + pair.rejected),
    }


def _transcripts(pair: Preference) -> dict[str, Any]:
    return _strength(pair) | {
        "chosen": write_transcript(pair.prompt + pair.chosen),
        "rejected": write_transcript(pair.prompt + pair.rejected),
    }


def _strength(pair: Preference) -> dict[str, Any]:
    return {name: value for name, value in _plain(pair).items() if name in ("p_chosen", "margin")}


def _numbered(ranking: Ranking) -> dict[str, Any]:
    row = _plain(ranking)
    answers = {f"completion_{i}": answer for i, answer in enumerate(row["responses"])}
    return {"prompt": row["prompt"], **answers, "ranking": row["ranks"]}


TARGETS: dict[str, tuple[type[Record], Write]] = {
    "prompt/completion": (Demonstration, _plain),
    "messages": (Demonstration, lambda record: {"messages": _messages(record.prompt + record.completion)}),
    "conversations": (Demonstration, _sharegpt),
    "prompt/chosen/rejected": (Preference, _plain),
    "chosen/rejected": (Preference, _whole),
    "transcripts": (Preference, _transcripts),
    "prompt/responses/ranks": (Ranking, _plain),
    "prompt/ranking": (Ranking, _numbered),
    "prompt/completion/label": (Thumb, _plain),
    "prompt/responses/scores": (Rated, _plain),
    "prompt/responses/unsafe": (Safety, _plain),
    "prompt": (Prompt, _plain),
}
"""The layouts that are written; prompt, completion, chosen, ... may go by any of their names."""
