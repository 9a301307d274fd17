"""Judgments that were made elsewhere, as facts of a project: Argilla, Label Studio, and plain files of judged rows.

People keep no names: who judged becomes a pseudonym, the same at every import. What was judged is known by its texts,
and a judgment by what it says, so a file that is imported twice adds nothing, and one that was cut short is imported
again. What somebody changed elsewhere since comes as a revision. Whatever is not understood stands in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

from sqlalchemy import Connection, insert, select

from baro.data.files import read_rows
from baro.data.ledger import Ledger
from baro.errors import ConfigError
from baro.feedback import judge, schema
from baro.feedback.answers import CriteriaAnswer
from baro.feedback.argilla import is_argilla, is_flat_text, read_argilla
from baro.feedback.assign import take_place
from baro.feedback.criteria import criteria_of, set_criteria
from baro.feedback.database import Store, for_update, log_event, secret_seed
from baro.feedback.ids import content_sha256, keyed_hash, new_id, now_ms, sha256
from baro.feedback.intake import UNKNOWN, in_parts
from baro.feedback.judged import Judged
from baro.feedback.label_studio import is_label_studio, is_short_form, read_label_studio
from baro.feedback.people import add_rater
from baro.feedback.plain import read_plain
from baro.feedback.project import Project, add_generation, add_prompt, add_response, add_task
from baro.feedback.refusals import Refused

Form = Literal["auto", "argilla", "label-studio", "plain"]
AT_ONCE = 50  # judgments in one transaction: a rater who comes meanwhile waits for it


@dataclass
class Imported:
    """What an import did. known: judgments that were in the store already."""

    form: str
    ledger: Ledger
    judgments: int = 0
    known: int = 0
    tasks: int = 0
    raters: int = 0


def import_file(store: Store, project: Project, path: Path, form: Form = "auto") -> Imported:
    """Read a file and enter its judgments. DataError where it cannot be read, ConfigError where nobody judged."""
    form, judged, ledger = read_judged(path, form)
    return enter(store, project, form, judged, ledger)


def read_judged(path: Path, form: Form = "auto") -> tuple[Form, list[Judged], Ledger]:
    """The judgments of a file, and what was not understood; touches no store."""
    ledger, rows = Ledger(path.name), read_rows(path)
    found = _form_of(path.name, rows[0].columns)
    if form == "plain" != found:
        raise ConfigError(f"{path.name}: is an export of another tool; import it with --format {found}")
    form = found if form == "auto" else form
    if form == "plain":
        return form, read_plain(path, ledger), ledger
    read = {"argilla": read_argilla, "label-studio": read_label_studio}[form]
    return form, [one for row in rows for one in read(row.key, row.columns, ledger)], ledger


def _form_of(name: str, columns: dict[str, Any]) -> Form:
    """What a file is, by its first row; ConfigError for exports that leave out what is needed."""
    if is_short_form(columns):
        raise ConfigError(
            f"{name}: is Label Studio's JSON-MIN or CSV, which does not tell choices from texts, nor who skipped; "
            "export it as JSON"
        )
    if is_flat_text(columns):
        raise ConfigError(
            f"{name}: is a CSV of Argilla's records, which does not hold their lists; export them as JSON Lines: "
            "dataset.records.to_datasets().to_json(...)"
        )
    if is_label_studio(columns):
        return "label-studio"
    return "argilla" if is_argilla(columns) else "plain"


def enter(store: Store, project: Project, form: Form, judged: Sequence[Judged], ledger: Ledger) -> Imported:
    """Enter judgments with the prompts, answers, tasks and raters they need; ``ui_version`` says where from.

    A few in each transaction, so that raters need not wait. Who is stopped in between begins again.
    """
    judged = sorted(_once(_asked(judged, ledger), ledger), key=lambda one: one.at_ms or 0)  # the newest stands last
    scales = store.write(lambda connection: _scales(connection, project, judged))
    judged = _on_scale(judged, scales, ledger)
    people: dict[Any, set[str]] = {}
    for one in judged:
        people.setdefault(_shown(one), set()).add(one.rater)

    def work(connection: Connection, part: Sequence[Judged]) -> list[_Entered]:
        desk = _Desk(connection, project, form)
        return [desk.enter(one, min(50, len(people[_shown(one)]))) for one in part]

    done, raters = Imported(form, ledger), set()
    for entered in in_parts(store, judged, work, AT_ONCE):
        for what in entered:
            done.judgments += what.outcome == "new"
            done.known += what.outcome == "known"
            done.tasks += what.new_task
            raters.add(what.rater)
            if what.outcome == "new":
                ledger.keep()
            elif what.outcome == "older":
                ledger.pass_over(what.key, what.outcome, what.sentence)
            elif what.outcome != "known":
                ledger.drop(what.key, what.outcome, what.sentence)
    done.raters = len(raters - {None})
    counts = {"form": form, "judgments": done.judgments, "known": done.known, "tasks": done.tasks}
    store.write(lambda connection: log_event(connection, "command line", "import", "project", project.id, counts))
    return done


def _shown(one: Judged) -> Any:
    return one.kind, one.prompt, frozenset(one.responses)


def _asked(judged: Sequence[Judged], ledger: Ledger) -> list[Judged]:
    """Those of a prompt that says something."""
    kept = []
    for one in judged:
        if one.prompt and one.prompt[-1].content.strip():
            kept.append(one)
        else:
            ledger.drop(one.key, "empty prompt", "has an empty prompt; nobody can judge an answer to it")
    return kept


def _once(judged: Sequence[Judged], ledger: Ledger) -> list[Judged]:
    """Without what the file says again. Who judged twice has changed their mind, where the file says when that was.

    Of judgments without a time, whose author may even be several people in a plain file, the first one counts.
    """
    first: dict[Any, str] = {}
    kept = []
    for one in judged:
        whole = (one.rater, one.prompt, one.responses, one.answer.model_dump_json(), one.at_ms, one.comment)
        again = first.get(whole)
        before = first.get((one.rater, *_shown(one))) if one.at_ms is None else None
        if again is not None:
            ledger.pass_over(one.key, "said again", f"says again what {again} says")
        elif before is not None:
            ledger.drop(one.key, "judged twice", f"{before} is another judgment of the same answers by the same rater")
        else:
            first[whole] = first[one.rater, *_shown(one)] = one.key
            kept.append(one)
    return kept


# ------------------------------------------------------------------------------------------------------ one transaction


@dataclass(frozen=True)
class _Entered:
    """What became of one judgment. outcome: "new", "known", "older", or why it was dropped."""

    key: str
    outcome: str
    sentence: str = ""
    rater: str | None = None
    new_task: bool = False


class _Desk:
    """Enters judgments in one transaction. What it looked up is forgotten with it, as the transaction may be undone."""

    def __init__(self, connection: Connection, project: Project, form: Form):
        self.connection, self.project, self.form = connection, project, form
        self.seed = secret_seed(connection)
        self.raters: dict[str, str] = {}
        self.models: dict[str, str] = {}
        table = schema.project  # two imports at once would make the same task twice
        query = select(table.c.id).where(table.c.id == project.id)
        connection.execute(for_update(connection, query, of=table)).all()

    def enter(self, one: Judged, overlap: int) -> _Entered:
        """Enter one judgment; one that cannot be stored leaves nothing behind."""
        raters, models = dict(self.raters), dict(self.models)
        try:
            with self.connection.begin_nested():
                return self._enter(one, overlap)
        except Refused as refusal:
            self.raters, self.models = raters, models
            return _Entered(one.key, refusal.more.get("reason", "cannot be stored"), str(refusal))

    def _enter(self, one: Judged, overlap: int) -> _Entered:
        prompt, ids = self._responses(one)
        if len(set(ids)) < len(ids):
            raise _unusable("same text", "two answers have the same text; nobody can tell them apart")
        problems = one.answer.problems(len(ids))
        if problems:
            raise _unusable("does not fit", problems[0])
        rater = self._rater(one.rater)
        task_id = self._task_of(one.kind, ids)
        new = task_id is None
        if task_id is None:
            more: dict[str, Any] = {"overlap": overlap, "policy": "imported"}
            task_id = add_task(self.connection, self.project, one.kind, prompt, ids, **more)
        held, last = self._held(task_id, rater)
        content = content_sha256(["import", self.form, task_id, rater, ids, one.answer.model_dump(), one.comment])
        key = f"{content}-{one.at_ms or (last.revision if last else 0)}"
        same = last is not None and last.idempotency_key.startswith(f"{content}-")
        if same or self._has(key):
            return _Entered(one.key, "known", rater=rater)
        timed = last is not None and last.idempotency_key.endswith(f"-{last.submitted_ms}")
        if timed and one.at_ms is not None and one.at_ms < last.submitted_ms:
            return _Entered(
                one.key, "older", "is older than what the same rater has said of these answers since", rater
            )
        self._judgment(one, task_id, ids, held or {"rater_id": rater}, last.revision + 1 if last else 1, key)
        return _Entered(one.key, "new", "", rater, new)

    def _has(self, key: str) -> bool:
        table = schema.judgment
        known = select(table.c.id).where(table.c.idempotency_key == key)
        return self.connection.execute(known).first() is not None

    def _responses(self, one: Judged) -> tuple[str, list[str]]:
        """The ids of its prompt and answers."""
        prompt, _ = add_prompt(self.connection, self.project.id, one.prompt, self.form)
        found = []
        for text, named in zip(one.responses, one.models or [UNKNOWN] * len(one.responses), strict=True):
            model = named or UNKNOWN
            if model not in self.models:
                settings = {"imported": self.form}
                self.models[model] = add_generation(self.connection, self.project.id, model, settings)
            found.append(add_response(self.connection, prompt, self.models[model], text)[0])
        return prompt, found

    def _rater(self, name: str) -> str:
        """The rater who stands for a person: a keyed hash of who it was, or the file's name.

        Systems write one name with different letters (NFC, NFD), which makes nobody two people.
        """
        name = normalize("NFC", name)
        if name not in self.raters:
            hashed = f"{self.form}-{keyed_hash(self.seed, self.form, name).hex()[:8]}"
            who = name[:60] if self.form == "plain" else hashed
            known = select(schema.rater.c.id).where(schema.rater.c.pseudonym == who)
            found = self.connection.execute(known).scalar_one_or_none()
            self.raters[name] = found or add_rater(self.connection, self.project.id, pseudonym=who)
        return self.raters[name]

    def _task_of(self, kind: str, ids: Sequence[str]) -> str | None:
        """The first task that shows just these answers; repeats and known answers stand apart."""
        task, item = schema.task, schema.task_item
        near = select(item.c.task_id).join(task, task.c.id == item.c.task_id).where(
            item.c.response_id == ids[0], task.c.kind == kind, task.c.repeat_of.is_(None), task.c.is_gold.is_(False),
            task.c.again_of.is_(None),
        )  # fmt: skip
        shown: dict[str, set[str]] = {}
        for row in self.connection.execute(select(item.c.task_id, item.c.response_id).where(item.c.task_id.in_(near))):
            shown.setdefault(row.task_id, set()).add(row.response_id)
        return min((found for found, responses in shown.items() if responses == set(ids)), default=None)

    def _judgment(
        self, one: Judged, task_id: str, ids: Sequence[str], held: dict[str, Any], revision: int, key: str
    ) -> None:
        query = select(schema.task).where(schema.task.c.id == task_id)
        task = self.connection.execute(for_update(self.connection, query, of=schema.task)).one()
        slots, rater = self._slots(task_id), held["rater_id"]
        at = now_ms() if one.at_ms is None else one.at_ms
        opened = at - (one.active_ms or 0)
        if revision == 1:
            held = {"id": new_id(), "task_id": task_id, "rater_id": rater, "purpose": "judge"}
            held |= {"state": "submitted" if task.places > 0 else "extra", "lease_sha256": sha256(new_id())}
            held |= {"display_order": [slots[one] for one in self._order(task_id, rater, ids)], "leased_ms": opened}
            row = held | {"expires_ms": at, "closed_ms": at}
            self.connection.execute(insert(schema.assignment).values(**row))
            if task.places > 0:
                take_place(self.connection, task, -1)
        made, details = new_id(), {"assignment": held["id"], "form": self.form}
        number = log_event(self.connection, rater, "import", "judgment", made, details)
        row = {"id": made, "assignment_id": held["id"], "task_id": task_id, "rater_id": rater, "kind": one.kind}
        row |= {"revision": revision, "action": "submit" if revision == 1 else "revise", "idempotency_key": key}
        row |= {"ui_version": self.form, "opened_ms": opened, "submitted_ms": at, "active_ms": one.active_ms}
        row |= {"changes": 0, "comment": one.comment, "flags": [], "event_id": number}
        self.connection.execute(insert(schema.judgment).values(**row))
        about, by_slot = {"judgment_id": made, "task_id": task_id}, {slot: found for found, slot in slots.items()}
        screen = [by_slot[slot] for slot in held["display_order"]]
        for table, rows in judge._rows(self.connection, task, rater, one.answer, list(ids)):
            for row in rows:
                if row.get("winner_id") is not None:
                    row["position"] = screen.index(row["winner_id"])
            self.connection.execute(insert(table), [about | row for row in rows])

    def _slots(self, task_id: str) -> dict[str, int]:
        table = schema.task_item
        query = select(table.c.slot, table.c.response_id).where(table.c.task_id == task_id)
        return {row.response_id: row.slot for row in self.connection.execute(query)}

    def _held(self, task_id: str, rater: str) -> tuple[dict[str, Any] | None, Any]:
        """The rater's assignment of the task, and its newest judgment; Refused if they had the task in Baro."""
        table, judgment = schema.assignment, schema.judgment
        mine = table.c.task_id == task_id, table.c.rater_id == rater, table.c.state.not_in(schema.GIVEN_UP)
        found = self.connection.execute(for_update(self.connection, select(table).where(*mine), of=table)).first()
        if found is None:
            return None, None
        query = select(judgment).where(judgment.c.assignment_id == found.id).order_by(judgment.c.revision.desc())
        last = self.connection.execute(query.limit(1)).first()
        if last is None or last.ui_version != self.form:
            raise _unusable("judged here", "this rater has had the same task here already; that judgment stays")
        return dict(found._mapping), last

    def _order(self, task_id: str, rater: str, ids: Sequence[str]) -> Sequence[str]:
        """How the answers stood on the screen. A plain file does not tell, and its first answer may be the better one
        each time: an order is drawn, so that nobody seems to prefer a side."""
        if self.form != "plain":
            return ids
        return sorted(ids, key=lambda one: keyed_hash(self.seed, "imported order", task_id, rater, one))


def _unusable(reason: str, sentence: str) -> Refused:
    return Refused("invalid", sentence, reason=reason)


# ------------------------------------------------------------------------------------------------------------- criteria


def _scales(connection: Connection, project: Project, judged: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """The scale of every criterion. Those that scores speak of and the project lacks are made."""
    scores: dict[str, list[int]] = {}
    for one in judged:
        if isinstance(one.answer, CriteriaAnswer):
            for key, row in one.answer.scores.items():
                scores.setdefault(key, []).extend(score for score in row if score is not None)
    known = {row.key: (row.low, row.high) for row in criteria_of(connection, project.id)}
    new = {key: _scale(found) for key, found in sorted(scores.items()) if found and key not in known}
    if new:
        made = [
            {"key": key, "labels": {"en": {"name": key}, "ko": {"name": key}}, "low": low, "high": high}
            for key, (low, high) in new.items()
        ]
        set_criteria(connection, project, made, "import")
    return known | new


def _on_scale(judged: Sequence[Judged], scales: dict[str, tuple[int, int]], ledger: Ledger) -> list[Judged]:
    """Without those that have a score outside of its scale."""
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
