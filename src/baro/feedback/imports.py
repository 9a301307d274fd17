"""Judgments that were made elsewhere, as facts of a project: Argilla, Label Studio, and plain files of judged rows.

People keep no names: who judged becomes a pseudonym, the same at every import. What was judged is known by its texts,
so a file that is imported twice adds nothing. Whatever is not understood stands in the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

from baro.data.files import read_rows
from baro.data.ledger import Ledger
from baro.feedback import judge, schema
from baro.feedback.answers import CriteriaAnswer
from baro.feedback.argilla import read_argilla
from baro.feedback.ask import task_sets
from baro.feedback.assign import take_place
from baro.feedback.database import log_event, secret_seed
from baro.feedback.ids import content_sha256, keyed_hash, new_id, now_ms, sha256
from baro.feedback.judged import Judged
from baro.feedback.label_studio import read_label_studio
from baro.feedback.people import add_rater
from baro.feedback.plain import read_plain
from baro.feedback.project import Project, add_generation, add_prompt, add_response, add_task, set_criteria
from baro.feedback.refusals import Refused

Form = Literal["auto", "argilla", "label-studio", "plain"]
UNKNOWN = "unknown"  # the model, where a file does not name it


@dataclass
class Imported:
    """What an import did. known: judgments that were in the store already."""

    form: str
    ledger: Ledger
    judgments: int = 0
    known: int = 0
    tasks: int = 0
    raters: int = 0


def import_file(connection: Connection, project: Project, path: Path, form: Form = "auto") -> Imported:
    """Read a file and enter its judgments. DataError where it cannot be read, ConfigError where nobody judged."""
    form, judged, ledger = read_judged(path, form)
    return enter(connection, project, form, judged, ledger)


def read_judged(path: Path, form: Form = "auto") -> tuple[Form, list[Judged], Ledger]:
    """The judgments of a file, and what was not understood; touches no store."""
    ledger = Ledger(path.name)
    if form == "auto":
        form = _form_of(read_rows(path)[0].columns)
    if form == "plain":
        return form, read_plain(path, ledger), ledger
    read = {"argilla": read_argilla, "label-studio": read_label_studio}[form]
    return form, [one for row in read_rows(path) for one in read(row.key, row.columns, ledger)], ledger


def _form_of(columns: dict[str, Any]) -> Form:
    """What a file is, by its first row."""
    if isinstance(columns.get("data"), dict) and "annotations" in columns:
        return "label-studio"
    if isinstance(columns.get("fields"), dict) or any(name.endswith(".responses") for name in columns):
        return "argilla"
    return "plain"


def enter(
    connection: Connection, project: Project, form: Form, judged: Sequence[Judged], ledger: Ledger
) -> Imported:  # fmt: skip
    """Enter judgments with the prompts, answers, tasks and raters they need; ``ui_version`` says where from."""
    done = Imported(form, ledger)
    judged = _with_criteria(connection, project, _asked(judged, ledger), ledger)
    overlap = Counter((one.kind, one.prompt, frozenset(one.responses)) for one in judged)
    tasks = {kind: task_sets(connection, project.id, kind) for kind in {one.kind for one in judged}}
    raters: dict[str, str] = {}
    models: dict[str, str] = {}
    for one in judged:
        try:
            ids = _responses(connection, project, form, one, models)
        except Refused as refusal:
            ledger.drop(one.key, "cannot be stored", str(refusal))
            continue
        if len(set(ids)) < len(ids):
            ledger.drop(one.key, "same text", "two answers have the same text; nobody can tell them apart")
            continue
        if one.rater not in raters:
            raters[one.rater] = _rater(connection, project, form, one.rater)
        task_id = tasks[one.kind].get(frozenset(ids))
        if task_id is None:
            wanted = min(50, overlap[one.kind, one.prompt, frozenset(one.responses)])
            prompt = connection.execute(select(schema.response.c.prompt_id).where(schema.response.c.id == ids[0]))
            more = {"overlap": wanted, "policy": "imported"}
            task_id = add_task(connection, project, one.kind, prompt.scalar_one(), ids, **more)  # type: ignore[arg-type]
            tasks[one.kind][frozenset(ids)] = task_id
            done.tasks += 1
        _judgment(connection, form, one, task_id, raters[one.rater], ids, done)
    done.raters = len(raters)
    counts = {"judgments": done.judgments, "known": done.known, "tasks": done.tasks}
    log_event(connection, "command line", "import", "project", project.id, {"form": form, **counts})
    return done


def _asked(judged: Sequence[Judged], ledger: Ledger) -> list[Judged]:
    """Those of a prompt that says something."""
    kept = []
    for one in judged:
        if one.prompt and one.prompt[-1].content.strip():
            kept.append(one)
        else:
            ledger.drop(one.key, "empty prompt", "has an empty prompt; nobody can judge an answer to it")
    return kept


def _responses(connection: Connection, project: Project, form: str, one: Judged, models: dict[str, str]) -> list[str]:
    """The ids of its answers; ``models``: the generations that were made for this file so far."""
    prompt, _ = add_prompt(connection, project.id, one.prompt, form)
    found = []
    for text, named in zip(one.responses, one.models or [UNKNOWN] * len(one.responses), strict=True):
        model = named or UNKNOWN
        if model not in models:
            models[model] = add_generation(connection, project.id, model, {"imported": form})
        found.append(add_response(connection, prompt, models[model], text)[0])
    return found


def _rater(connection: Connection, project: Project, form: str, name: str) -> str:
    """The rater who stands for a person: a keyed hash of who it was, or the file's name."""
    who = name[:60] if form == "plain" else f"{form}-{keyed_hash(secret_seed(connection), form, name).hex()[:8]}"
    table = schema.rater
    known = connection.execute(select(table.c.id).where(table.c.pseudonym == who)).scalar_one_or_none()
    return known or add_rater(connection, project.id, pseudonym=who)


def _judgment(
    connection: Connection, form: str, one: Judged, task_id: str, rater_id: str, ids: Sequence[str], done: Imported
) -> None:
    """One judgment, unless this rater has judged this task already."""
    task = connection.execute(select(schema.task).where(schema.task.c.id == task_id)).one()
    assignment, judgment = schema.assignment, schema.judgment
    mine = (assignment.c.task_id == task_id) & (assignment.c.rater_id == rater_id)
    if connection.execute(select(assignment.c.id).where(mine, assignment.c.state.not_in(schema.GIVEN_UP))).first():
        done.known += 1
        return
    slot = {row.response_id: row.slot for row in _items(connection, task_id)}
    made, said, at = new_id(), new_id(), one.at_ms or now_ms()
    opened = at - (one.active_ms or 0)
    held = {"id": made, "task_id": task_id, "rater_id": rater_id, "purpose": "judge", "lease_sha256": sha256(new_id())}
    held |= {"state": "submitted" if task.places > 0 else "extra", "display_order": [slot[i] for i in ids]}
    connection.execute(insert(assignment).values(**held, leased_ms=opened, expires_ms=at, closed_ms=at))
    if task.places > 0:
        take_place(connection, task, -1)
    key = content_sha256(["import", form, task_id, rater_id, made])
    number = log_event(connection, rater_id, "import", "judgment", said, {"assignment": made, "form": form})
    row = {"id": said, "assignment_id": made, "task_id": task_id, "rater_id": rater_id, "revision": 1}
    row |= {"action": "submit", "idempotency_key": key, "kind": one.kind, "ui_version": form, "opened_ms": opened}
    row |= {"submitted_ms": at, "active_ms": one.active_ms, "changes": 0, "comment": one.comment, "flags": []}
    connection.execute(insert(judgment).values(**row, event_id=number))
    about = {"judgment_id": said, "task_id": task_id}
    for table, values in judge._rows(connection, task, rater_id, one.answer, list(ids)):
        connection.execute(insert(table), [about | value for value in values])
    done.judgments += 1
    done.ledger.keep()


def _items(connection: Connection, task_id: str) -> Any:
    table = schema.task_item
    return connection.execute(select(table.c.slot, table.c.response_id).where(table.c.task_id == task_id))


def _with_criteria(
    connection: Connection, project: Project, judged: Sequence[Judged], ledger: Ledger
) -> list[Judged]:  # fmt: skip
    """Make the criteria that scores speak of and the project lacks; scores outside a known scale are left out."""
    scores: dict[str, list[int]] = {}
    for one in judged:
        if isinstance(one.answer, CriteriaAnswer):
            for key, row in one.answer.scores.items():
                scores.setdefault(key, []).extend(score for score in row if score is not None)
    known = {row.key: (row.low, row.high) for row in judge.criteria_of(connection, project.id)}
    new = {key: _scale(found) for key, found in sorted(scores.items()) if found and key not in known}
    if new:
        made = [
            {"key": key, "labels": {"en": {"name": key}, "ko": {"name": key}}, "low": low, "high": high}
            for key, (low, high) in new.items()
        ]
        set_criteria(connection, project, made, "import")
    scales = known | new
    kept = []
    for one in judged:
        wrong = isinstance(one.answer, CriteriaAnswer) and [
            key
            for key, row in one.answer.scores.items()
            if any(s is not None and not scales[key][0] <= s <= scales[key][1] for s in row)
        ]
        if wrong:
            low, high = scales[wrong[0]]
            ledger.drop(one.key, "off the scale", f"criterion {wrong[0]!r} goes from {low} to {high} in this project")
        else:
            kept.append(one)
    return kept


def _scale(scores: Sequence[int]) -> tuple[int, int]:
    """A scale that holds the scores; no export tells it: 1 to 5 or 1 to 10, from 0 where a 0 was given."""
    low, high = min(1, *scores, 1), max(scores)
    return low, next((end for end in (5, 7, 10, 100) if high <= end), high)
