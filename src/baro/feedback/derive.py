"""From facts to votes: what stands in the store up to an event, as plain values.

A judgment counts as its newest revision, and not at all once it was taken back. What it is for is its ``role``: a vote,
an adjudication (beside the votes), a hidden repeat, or the answer to a task whose answer is known. Only votes and
adjudications ever become labels. Where a task was asked again (again.py) and its successor has a judgment, what was
said of the task before is ``replaced``; what was said of a task that counts no more (withdrawn.py) is ``withdrawn``.
What came before what is told by events and by ``again_of``, never by clocks or by ids, which begin with one.
Everything is read in a few queries, however many judgments there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, Row, Table, func, select

from baro.feedback import schema
from baro.feedback.asked import Task, earlier, tasks_of
from baro.feedback.refusals import Refused
from baro.feedback.withdrawn import Withdrawn, last_withdrawal, withdrawn_at

Role = Literal["vote", "adjudication", "repeat", "gold", "replaced", "withdrawn"]
LISTS = ("pairs", "ranks", "thumbs", "safety", "scores", "edits")  # of Votes, by what was said


@dataclass(frozen=True, slots=True)
class Judgment:
    """One judgment, whatever it says. ``shown``: the responses by position on the screen."""

    id: str
    task: Task
    rater_id: str
    role: Role
    purpose: str
    assignment_id: str
    revision: int
    action: str
    guideline_id: str | None
    ui_version: str
    opened_ms: int
    submitted_ms: int
    active_ms: int | None
    confidence: int | None
    comment: str
    flags: tuple[Mapping[str, Any], ...]
    shown: tuple[str, ...]
    event_id: int
    first_event: int  # of its first revision: when it was given at all


@dataclass(frozen=True, slots=True)
class PairVote:
    """Which of two was called better. ``position``: where the winner stood, 0 left and 1 right."""

    judgment: Judgment
    dimension: str
    outcome: str
    winner: str | None
    strength: int
    position: int | None

    @property
    def choice(self) -> float | None:
        """1 for the canonical first response, 0 for the second, 0.5 for neither; None for who could not say.

        Both bad says nothing of which is better: it is a tie here.
        """
        if self.outcome == "unsure":
            return None
        return 0.5 if self.winner is None else float(self.winner == self.judgment.task.canonical[0])

    @property
    def first_on_left(self) -> bool:
        """Whether the canonical first response stood on the left."""
        return self.judgment.shown[0] == self.judgment.task.canonical[0]


@dataclass(frozen=True, slots=True)
class RankVote:
    """The rank of every response that got one; 1 is the best, equal numbers tie."""

    judgment: Judgment
    ranks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ThumbVote:
    """A thumb for one response."""

    judgment: Judgment
    response: str
    good: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SafetyVote:
    """A safety mark of one response."""

    judgment: Judgment
    response: str
    safe: bool
    severity: int
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreVote:
    """One criterion's score of one response; None is not applicable."""

    judgment: Judgment
    response: str
    criterion: str
    score: int | None


@dataclass(frozen=True, slots=True)
class EditVote:
    """A response made better, or criticised only: then ``edited`` is None."""

    judgment: Judgment
    response: str
    edited: str | None
    critique: str
    spans: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Votes:
    """All that is said in a project up to the event ``watermark``, each list in the order in which it was said.

    newest: of each language the newest guideline that there was by then; None stands for "none" where there was none.
    """

    project_id: str
    watermark: int
    newest: frozenset[str | None]
    judgments: tuple[Judgment, ...]
    pairs: tuple[PairVote, ...]
    ranks: tuple[RankVote, ...]
    thumbs: tuple[ThumbVote, ...]
    safety: tuple[SafetyVote, ...]
    scores: tuple[ScoreVote, ...]
    edits: tuple[EditVote, ...]


def last_event(connection: Connection, project_id: str) -> int:
    """The number of a project's last judgment or withdrawal, 0 before the first: the newest watermark."""
    judgment, task = schema.judgment, schema.task
    query = select(func.max(judgment.c.event_id)).join(task, task.c.id == judgment.c.task_id)
    judged = int(connection.execute(query.where(task.c.project_id == project_id)).scalar_one() or 0)
    return max(judged, last_withdrawal(connection, project_id))


def newest_event(connection: Connection) -> int:
    """The number of the last thing that happened in the store, 0 before the first."""
    return int(connection.execute(select(func.max(schema.event.c.id))).scalar_one() or 0)


def newest_act(connection: Connection) -> int:
    """The number of the last event that is no rater's work, as when a guideline or a known answer changed; 0 before."""
    event = schema.event
    work = (event.c.entity == "judgment") & (event.c.action != "redact")
    query = select(event.c.id).where(~work, event.c.action.not_in(("raise", "session", "join")))
    return int(connection.execute(query.order_by(event.c.id.desc()).limit(1)).scalar() or 0)


def votes_of(
    connection: Connection,
    project_id: str,
    watermark: int | None = None,
    *,
    task_id: str | None = None,
    history: bool = False,
) -> Votes:
    """A project's judgments up to an event (the newest unless given), or one task's.

    Refused for an event that is yet to come: what is said up to it would not stay what it is.
    ``history``: with every revision, and what was taken back; for looking, never for labels.
    """
    newest = last_event(connection, project_id)
    if watermark is not None and watermark > newest:
        raise Refused(
            "invalid", f"watermark {watermark}: the newest judgment or withdrawal is event {newest}; give that at most"
        )
    upto = newest if watermark is None else watermark
    judgment = schema.judgment
    here = (schema.task.c.project_id == project_id) & (judgment.c.event_id <= upto)
    if task_id is not None:
        here &= judgment.c.task_id == task_id
    gone = withdrawn_at(connection, project_id, upto)
    found = _judgments(connection, here, tasks_of(connection, project_id, task_id), gone, history)

    def said(table: Table) -> Iterable[tuple[Judgment, Row[Any]]]:
        query = select(table).join(judgment, judgment.c.id == table.c.judgment_id)
        query = query.join(schema.task, schema.task.c.id == table.c.task_id).where(here)
        for row in connection.execute(query.order_by(judgment.c.event_id, *table.primary_key)):
            if row.judgment_id in found:
                yield found[row.judgment_id], row

    return Votes(
        project_id,
        upto,
        newest_guidelines(connection, project_id, upto),
        tuple(found.values()),
        tuple(
            PairVote(j, r.dimension, r.outcome, r.winner_id, r.strength, r.position)
            for j, r in said(schema.judged_pair)
        ),
        _rankings(said(schema.judged_rank)),
        tuple(ThumbVote(j, r.response_id, r.good, tuple(r.reasons)) for j, r in said(schema.judged_thumb)),
        tuple(
            SafetyVote(j, r.response_id, r.safe, r.severity, tuple(r.categories)) for j, r in said(schema.judged_safety)
        ),
        _scores(connection, project_id, said(schema.judged_score)),
        tuple(EditVote(j, r.response_id, r.edited_id, r.critique, tuple(r.spans)) for j, r in said(schema.judged_edit)),
    )


def standing_times(connection: Connection, project_id: str) -> list[int]:
    """When each judgment was made that stands, its last revision; as ``votes_of`` counts them, and much quicker."""
    judgment, task = schema.judgment, schema.task
    query = select(judgment.c.assignment_id, judgment.c.action, judgment.c.submitted_ms)
    query = query.join(task, task.c.id == judgment.c.task_id).where(task.c.project_id == project_id)
    newest = {row.assignment_id: row for row in connection.execute(query.order_by(judgment.c.event_id))}
    return [row.submitted_ms for row in newest.values() if row.action != "retract"]


def newest_guidelines(connection: Connection, project_id: str, upto: int | None = None) -> frozenset[str | None]:
    """The ids of the newest guideline of each language, or of those that were the newest at an event."""
    guideline = schema.guideline
    query = select(guideline.c.id, guideline.c.lang).where(guideline.c.project_id == project_id)
    if upto is not None:
        query = query.where(guideline.c.event_id <= upto)
    rows = connection.execute(query.order_by(guideline.c.event_id)).all()
    return frozenset({row.lang: row.id for row in rows}.values()) or frozenset({None})


def _judgments(
    connection: Connection, here: Any, tasks: Mapping[str, Task], withdrawn: Withdrawn, history: bool
) -> dict[str, Judgment]:
    judgment, assignment, task = schema.judgment, schema.assignment, schema.task
    query = select(judgment, assignment.c.purpose, assignment.c.display_order)
    query = query.join(assignment, assignment.c.id == judgment.c.assignment_id)
    query = query.join(task, task.c.id == judgment.c.task_id)
    rows = connection.execute(query.where(here).order_by(judgment.c.event_id)).all()
    newest: dict[str, Row[Any]] = {}
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row.assignment_id, row.event_id)
        newest.pop(row.assignment_id, None)  # a revision stands where it was made, not where the first one was
        newest[row.assignment_id] = row
    standing = [row for row in newest.values() if row.action != "retract"]
    gone: dict[str, Role] = {
        one.id: "withdrawn"
        for one in tasks.values()
        if withdrawn.covers(one.id, one.prompt_id, one.responses, one.repeat_of)
    }
    gone = dict.fromkeys(_replaced(tasks, {row.task_id for row in standing} - set(gone)), "replaced") | gone
    removed = _removed_edits(connection, withdrawn)
    found = {}
    for row in rows if history else standing:
        instead: Role | None = "withdrawn" if row.id in removed else gone.get(row.task_id)
        found[row.id] = _judgment(row, tasks[row.task_id], instead, first[row.assignment_id])
    return found


def _removed_edits(connection: Connection, withdrawn: Withdrawn) -> set[str]:
    """The judgments whose edited text was removed."""
    table = schema.judged_edit
    if not withdrawn.removed:
        return set()
    query = select(table.c.judgment_id, table.c.edited_id).where(table.c.edited_id.is_not(None))
    return {row.judgment_id for row in connection.execute(query) if row.edited_id in withdrawn.removed}


def _replaced(tasks: Mapping[str, Task], judged: Collection[str]) -> set[str]:
    """The tasks in whose place one stands that asks the same again and has been judged."""
    before = {one.id: one.again_of for one in tasks.values() if one.again_of is not None}
    later = (one for one in before if one in judged and tasks[one].is_ordinary)
    gone = {each for one in later for each in earlier(one, before)}
    return {one for one in gone if one in tasks and tasks[one].is_ordinary}


def _judgment(row: Row[Any], task: Task, instead: Role | None, first_event: int) -> Judgment:
    role = instead or role_of(task, row.purpose)
    return Judgment(
        row.id, task, row.rater_id, role, row.purpose, row.assignment_id, row.revision, row.action,
        row.guideline_id, row.ui_version, row.opened_ms, row.submitted_ms, row.active_ms, row.confidence, row.comment,
        tuple(row.flags), tuple(task.responses[slot] for slot in row.display_order), row.event_id,
        first_event,
    )  # fmt: skip


def role_of(task: Task, purpose: str) -> Role:
    """What a judgment is for, whatever was asked again since."""
    if task.gold_answer is not None:
        return "gold"
    if task.repeat_of is not None:
        return "repeat"
    return "adjudication" if purpose == "adjudicate" else "vote"


def _rankings(rows: Iterable[tuple[Judgment, Row[Any]]]) -> tuple[RankVote, ...]:
    ranks: dict[str, tuple[Judgment, dict[str, int]]] = {}
    for judgment, row in rows:
        given = ranks.setdefault(judgment.id, (judgment, {}))[1]
        if row.rank is not None:
            given[row.response_id] = row.rank
    return tuple(RankVote(*one) for one in ranks.values())


def _scores(
    connection: Connection, project_id: str, rows: Iterable[tuple[Judgment, Row[Any]]]
) -> tuple[ScoreVote, ...]:
    table = schema.criterion
    known = select(table.c.id, table.c.key).where(table.c.project_id == project_id)
    keys = {row.id: row.key for row in connection.execute(known)}
    return tuple(ScoreVote(j, row.response_id, keys[row.criterion_id], row.score) for j, row in rows)


# ------------------------------------------------------------------------------------------------------ parts of votes


def only(votes: Votes, wanted: Callable[[Judgment], bool]) -> Votes:
    """The votes of some judgments."""
    lists: Any = {name: tuple(one for one in getattr(votes, name) if wanted(one.judgment)) for name in LISTS}
    return replace(votes, judgments=tuple(one for one in votes.judgments if wanted(one)), **lists)


def under_newest(votes: Votes) -> Votes:
    """The same votes, where those that were not given under the newest guideline count as replaced."""
    return _with_roles(
        votes, lambda one: "replaced" if _counts(one) and one.guideline_id not in votes.newest else one.role
    )


def as_given(votes: Votes) -> Votes:
    """The same votes, where those that were replaced count again: for habits, and to compare versions."""
    return _with_roles(votes, lambda one: role_of(one.task, one.purpose) if one.role == "replaced" else one.role)


def _counts(judgment: Judgment) -> bool:
    return judgment.role in ("vote", "adjudication")


def _with_roles(votes: Votes, role: Callable[[Judgment], Role]) -> Votes:
    changed = {one.id: replace(one, role=role(one)) for one in votes.judgments if role(one) != one.role}
    if not changed:
        return votes

    def of(one: Any) -> Any:
        new = changed.get(one.judgment.id)
        return one if new is None else replace(one, judgment=new)

    lists: Any = {name: tuple(map(of, getattr(votes, name))) for name in LISTS}
    return replace(votes, judgments=tuple(changed.get(one.id, one) for one in votes.judgments), **lists)
