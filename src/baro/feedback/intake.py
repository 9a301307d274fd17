"""Files of prompts and answers, from a disk or over HTTP: every row is kept, known, or dropped with a reason.

What can be read at all is decided for the whole file before anything is written. Then rows go in by hundreds, so that
raters need not wait, and what is there already is not added again: the same file sent twice adds nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from baro.data.chat_logs import Personal, check_some_are_left, prompts_of
from baro.data.formats import read_records
from baro.data.ledger import Ledger
from baro.data.rows import Unusable
from baro.feedback.database import Store, log_event
from baro.feedback.project import Project, add_generation, add_prompt, add_response, plain_messages
from baro.feedback.refusals import Refused
from baro.feedback.server.checked import check_text
from baro.records import Answers, Conversation, Demonstration, Preference, Prompt, Ranking, Rated, Record, Thumb

One = TypeVar("One")
Result = TypeVar("Result")
AT_ONCE = 200  # rows in one transaction
GIVE_WAY_SECONDS = 0.12  # between two: who waits for SQLite in another process looks every tenth of a second
UNKNOWN = "unknown"  # the model, where nobody names it
TOLD = 50  # dropped rows that are named in the answer; all are counted


@dataclass(frozen=True)
class ChatLog:
    """The file is a log: every turn of a person's is a prompt, under these conditions."""

    personal: Personal = "drop"
    all_agreed: bool = False


@dataclass(frozen=True)
class Source:
    """Where rows come from. ``model``: who wrote the answers, UNKNOWN where nobody says. ``prompts_only``: answers are
    left, and counted. ``chat``: the rows are people's conversations, of which the prompts are taken."""

    name: str
    model: str | None = None
    settings: Mapping[str, Any] | None = None
    chat: ChatLog | None = None
    prompts_only: bool = False


@dataclass(frozen=True)
class Row:
    """What one row holds."""

    key: str
    prompt: Conversation
    answers: tuple[tuple[str, bool], ...]  # with whether each ended by itself
    left: int  # answers that were not asked for
    extra: Mapping[str, Any]


def take(store: Store, project: Project, content: str, suffix: str, source: Source, actor: str) -> dict[str, Any]:
    """Take a file's text into a project, and tell what became of it."""
    with tempfile.TemporaryDirectory(prefix="baro-import-") as folder:
        path = Path(folder) / f"upload.{suffix}"  # a name of ours, which is gone when this ends
        path.write_text(content, encoding="utf-8", newline="")
        told, ledger = take_file(store, project, path, source, actor)
    dropped = [{"row": one.key, "reason": one.reason, "sentence": one.sentence} for one in ledger.dropped]
    account = {"description": told.pop("description"), "rows": ledger.rows, "kept": ledger.kept}
    reasons = dict(Counter(one.reason for one in ledger.dropped))
    return told | {"ledger": account | {"dropped": dropped[:TOLD], "dropped_by_reason": reasons}}


def take_file(
    store: Store, project: Project, path: Path, source: Source, actor: str
) -> tuple[dict[str, Any], Ledger]:  # fmt: skip
    """Take a file into a project: what was added and known, what the file was taken for, and the ledger."""
    ledger = Ledger(source.name)
    rows, description = _read(path, source, ledger)
    counts: Counter[str] = Counter()
    for told_of_part in in_parts(store, rows, lambda connection, part: _enter(connection, project, part, source)):
        counts += told_of_part
    with_answers = any(row.answers for row in rows)
    added, known = ("answers", "known answers") if with_answers else ("prompts", "known prompts")
    told = {"added": counts[added], "known": counts[known], "prompts": counts["prompts"], "answers": counts["answers"]}
    told |= {"known_prompts": counts["known prompts"], "known_answers": counts["known answers"]}
    told |= {"answers_left": sum(row.left for row in rows)}
    told |= {"model": (source.model or UNKNOWN) if with_answers else None}
    store.write(lambda connection: log_event(connection, actor, "import", "project", project.id, told))
    return told | {"description": description}, ledger


def in_parts(
    store: Store, rows: Sequence[One], work: Callable[[Connection, Sequence[One]], Result], at_once: int = AT_ONCE
) -> Iterator[Result]:
    """Do ``work`` on rows in several transactions, between which others get their turn."""
    for start in range(0, len(rows), at_once):
        if start:
            time.sleep(GIVE_WAY_SECONDS)
        part = rows[start : start + at_once]
        yield store.write(lambda connection, part=part: work(connection, part))


def _read(path: Path, source: Source, ledger: Ledger) -> tuple[list[Row], str]:
    loaded = read_records(path)
    records: Iterable[tuple[str, Record | Unusable]] = loaded
    if source.chat is not None:
        records = prompts_of(loaded, ledger, personal=source.chat.personal, all_agreed=source.chat.all_agreed)
    rows = []
    for key, record in records:
        if isinstance(record, Unusable):
            ledger.drop(key, record.reason, record.sentence)
            continue
        try:
            rows.append(_row(key, record, source))
            ledger.keep()
        except Refused as refused:
            ledger.drop(key, refused.more["reason"], str(refused))
    if source.chat is not None:
        check_some_are_left(ledger)
    return rows, loaded.description


def _row(key: str, record: Record, source: Source) -> Row:
    if not record.prompt:
        raise _unusable("no prompt", "is raw text; a rater needs a prompt to judge an answer by")
    if not record.prompt[-1].content.strip():
        raise _unusable("empty prompt", "has an empty prompt; a rater needs a question to judge an answer by")
    given = _answers(record)
    answers = () if source.prompts_only else tuple(_text_of(one, done) for one, done in given)
    row = Row(key, record.prompt, answers, len(given) - len(answers), record.extra)
    try:
        check_text([plain_messages(row.prompt), [text for text, _ in answers], dict(row.extra)])
        json.dumps(dict(row.extra), allow_nan=False)
    except (Refused, ValueError) as error:
        sentence = str(error) if isinstance(error, Refused) else "a number is NaN or infinite, which JSON does not know"
        raise _unusable("no text", sentence) from None
    if source.model and not answers:
        raise _unusable("no answer", "holds a prompt only; import it as a prompt")
    return row


def _unusable(reason: str, sentence: str) -> Refused:
    return Refused("invalid", sentence, reason=reason)


def _answers(record: Record) -> Sequence[tuple[Conversation | str, bool]]:
    match record:
        case Prompt():
            return ()
        case Demonstration() | Thumb():
            return ((record.completion, True),)
        case Preference():
            return ((record.chosen, True), (record.rejected, True))
        case Answers():
            return tuple(zip(record.completions, record.finished, strict=True))
        case Ranking() | Rated():
            return tuple((one, True) for one in record.completions)
    raise AssertionError(f"{type(record).__name__} is a record without a case here")


def _text_of(answer: Conversation | str, finished: bool) -> tuple[str, bool]:
    if isinstance(answer, str):
        return answer, finished
    if len(answer) != 1:
        raise _unusable("several turns", f"an answer has {len(answer)} turns; raters judge one turn at a time")
    return answer[0].content, finished


def _enter(connection: Connection, project: Project, rows: Sequence[Row], source: Source) -> Counter[str]:
    counts: Counter[str] = Counter()
    settings = dict(source.settings or {})
    some = any(row.answers for row in rows)
    generation = add_generation(connection, project.id, source.model or UNKNOWN, settings) if some else None
    for row in rows:
        prompt_id, new = add_prompt(connection, project.id, row.prompt, source.name, row.extra)
        counts["prompts" if new else "known prompts"] += 1
        for text, finished in row.answers:
            _, new = add_response(connection, prompt_id, generation, text, finished=finished)
            counts["answers" if new else "known answers"] += 1
    return counts
