"""From facts to votes: what stands in the store up to an event, as plain values.

A judgment counts as its newest revision, and not at all once it was taken back. What it is for is its ``role``: a vote,
an adjudication (beside the votes), a hidden repeat, or the answer to a task whose answer is known. Only votes and
adjudications ever become labels. Everything is read in a few queries, however many judgments there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Row, Table, func, select

from baro.feedback import schema
from baro.feedback.ids import sha256

Role = Literal["vote", "adjudication", "repeat", "gold"]


@dataclass(frozen=True, slots=True)
class Task:
    """What was shown. ``responses`` go by slot; ``canonical``: in the order of their ids' hashes, which knows neither
    models nor sides, so that "the first" says nothing."""

    id: str
    prompt_id: str
    kind: str
    responses: tuple[str, ...]
    canonical: tuple[str, ...]
    repeat_of: str | None
    gold_answer: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Judgment:
    """One judgment, whatever it says. ``shown``: the responses by position on the screen."""

    id: str
    task: Task
    rater_id: str
    role: Role
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
    """All that is said in a project up to the event ``watermark``, each list in the order in which it was said."""

    project_id: str
    watermark: int
    judgments: tuple[Judgment, ...]
    pairs: tuple[PairVote, ...]
    ranks: tuple[RankVote, ...]
    thumbs: tuple[ThumbVote, ...]
    safety: tuple[SafetyVote, ...]
    scores: tuple[ScoreVote, ...]
    edits: tuple[EditVote, ...]


def last_event(connection: Connection, project_id: str) -> int:
    """The number of a project's last judgment, 0 before the first: the newest watermark."""
    judgment, task = schema.judgment, schema.task
    query = select(func.max(judgment.c.event_id)).join(task, task.c.id == judgment.c.task_id)
    return int(connection.execute(query.where(task.c.project_id == project_id)).scalar_one() or 0)


def votes_of(
    connection: Connection,
    project_id: str,
    watermark: int | None = None,
    *,
    task_id: str | None = None,
    history: bool = False,
) -> Votes:
    """A project's judgments up to an event (the newest unless given), or one task's.

    ``history``: with every revision, and what was taken back; for looking, never for labels.
    """
    upto = last_event(connection, project_id) if watermark is None else watermark
    judgment = schema.judgment
    here = (schema.task.c.project_id == project_id) & (judgment.c.event_id <= upto)
    if task_id is not None:
        here &= judgment.c.task_id == task_id
    found = _judgments(connection, here, _tasks(connection, project_id, task_id), history)

    def said(table: Table) -> Iterable[tuple[Judgment, Row[Any]]]:
        query = select(table).join(judgment, judgment.c.id == table.c.judgment_id)
        query = query.join(schema.task, schema.task.c.id == table.c.task_id).where(here)
        for row in connection.execute(query.order_by(judgment.c.event_id)):
            if row.judgment_id in found:
                yield found[row.judgment_id], row

    return Votes(
        project_id,
        upto,
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


def _tasks(connection: Connection, project_id: str, task_id: str | None) -> dict[str, Task]:
    task, item = schema.task, schema.task_item
    here = task.c.project_id == project_id
    if task_id is not None:
        here &= task.c.id == task_id
    slots: dict[str, list[str]] = {}
    items = select(item.c.task_id, item.c.response_id).join(task).where(here).order_by(item.c.task_id, item.c.slot)
    for row in connection.execute(items):
        slots.setdefault(row.task_id, []).append(row.response_id)
    columns = (task.c.id, task.c.prompt_id, task.c.kind, task.c.repeat_of, task.c.gold_answer)
    return {
        row.id: Task(
            row.id, row.prompt_id, row.kind, tuple(slots[row.id]), tuple(sorted(slots[row.id], key=sha256)),
            row.repeat_of, row.gold_answer,
        )
        for row in connection.execute(select(*columns).where(here))
    }  # fmt: skip


def _judgments(connection: Connection, here: Any, tasks: Mapping[str, Task], history: bool) -> dict[str, Judgment]:
    judgment, assignment, task = schema.judgment, schema.assignment, schema.task
    query = select(judgment, assignment.c.purpose, assignment.c.display_order)
    query = query.join(assignment, assignment.c.id == judgment.c.assignment_id)
    query = query.join(task, task.c.id == judgment.c.task_id)
    newest: dict[Any, Row[Any]] = {}
    for row in connection.execute(query.where(here).order_by(judgment.c.event_id)):
        key = row.id if history else row.assignment_id
        newest.pop(key, None)  # a revision stands where it was made, not where the first one was
        newest[key] = row
    return {row.id: _judgment(row, tasks[row.task_id]) for row in newest.values() if history or row.action != "retract"}


def _judgment(row: Row[Any], task: Task) -> Judgment:
    return Judgment(
        row.id, task, row.rater_id, _role(task, row.purpose), row.assignment_id, row.revision, row.action,
        row.guideline_id, row.ui_version, row.opened_ms, row.submitted_ms, row.active_ms, row.confidence, row.comment,
        tuple(row.flags), tuple(task.responses[slot] for slot in row.display_order), row.event_id,
    )  # fmt: skip


def _role(task: Task, purpose: str) -> Role:
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


# ---------------------------------------------------------------------------------------- what two raters can agree on


@dataclass
class Scale:
    """One question that several raters answered. level: nominal (equal or not) or ordinal (nearer is better).

    items: for each thing that was judged, each rater's value. prompts: the prompt behind each.
    """

    name: str
    level: Literal["nominal", "ordinal"]
    items: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)
    prompts: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, judgment: Judgment, item: tuple[str, ...], value: float) -> None:
        """One rater's value."""
        self.items.setdefault(item, {})[judgment.rater_id] = value
        self.prompts[item] = judgment.task.prompt_id


def scales_of(votes: Votes) -> dict[str, Scale]:
    """The votes by question, in a fixed order of the questions.

    ``pair/...`` 1 the first, 0 the second, 0.5 a tie; ``strength/...`` -3 to 3; ``rank`` like a pair, for every two
    responses of a ranking; ``thumb`` and ``safe`` 1 or 0; ``severity`` 0 to 3; ``score/KEY`` as given.
    """
    found: dict[str, Scale] = {}

    def add(name: str, level: Literal["nominal", "ordinal"], judgment: Judgment, *item: str, value: float) -> None:
        if judgment.role == "vote":
            found.setdefault(name, Scale(name, level)).add(judgment, (judgment.task.id, *item), value)

    for pair in votes.pairs:
        if pair.choice is not None:
            add(f"pair/{pair.dimension}", "nominal", pair.judgment, value=pair.choice)
        if pair.choice is not None and (pair.strength or pair.choice == 0.5):
            signed = pair.strength * (2 * pair.choice - 1)
            add(f"strength/{pair.dimension}", "ordinal", pair.judgment, value=signed)
    for ranking in votes.ranks:
        for one, other, value in orders_of_ranking(ranking):
            add("rank", "nominal", ranking.judgment, one, other, value=value)
    for thumb in votes.thumbs:
        add("thumb", "nominal", thumb.judgment, thumb.response, value=float(thumb.good))
    for mark in votes.safety:
        add("safe", "nominal", mark.judgment, mark.response, value=float(mark.safe))
        add("severity", "ordinal", mark.judgment, mark.response, value=float(mark.severity))
    for score in votes.scores:
        if score.score is not None:
            add(f"score/{score.criterion}", "ordinal", score.judgment, score.response, value=float(score.score))
    return dict(sorted(found.items()))


def orders_of_ranking(ranking: RankVote) -> list[tuple[str, str, float]]:
    """Every two ranked responses in canonical order, and 1 if the first is ranked better, 0 if worse, 0.5 if tied."""
    ranked = [one for one in ranking.judgment.task.canonical if one in ranking.ranks]
    found = []
    for index, one in enumerate(ranked):
        for other in ranked[index + 1 :]:
            difference = ranking.ranks[other] - ranking.ranks[one]
            found.append((one, other, 0.5 if difference == 0 else float(difference > 0)))
    return found
