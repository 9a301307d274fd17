"""Asking again: what was judged under an older guideline is asked once more, under the newest.

A task cannot open again for who has judged it: each rater has a task once. So a further task is made, with the same
answers, which names the earlier one (``again_of``), and the earlier one is closed. The further one is a task of the
queue like any other, with places, an order and sides of its own. The earlier judgments stay, each with its version;
they count until the first judgment of the further task, and from then on are ``replaced`` (derive.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from baro.feedback import ids, schema
from baro.feedback.asked import Task
from baro.feedback.database import for_update, log_event
from baro.feedback.derive import Votes, newest_guidelines, votes_of
from baro.feedback.ids import content_sha256, new_id
from baro.feedback.panel import divided
from baro.feedback.project import Project
from baro.feedback.refusals import Refused

Which = Literal["all", "divided"]
CHUNK = 500  # tasks that are worked on at once


@dataclass(frozen=True)
class Choice:
    """What is asked again of all that was judged under an older guideline.

    which: all of it, or only that on which raters are divided. kinds: of these kinds; of every kind where there are
    none. overlap: judgments of each task; the project's unless given.
    """

    which: Which = "all"
    kinds: Sequence[str] = ()
    overlap: int | None = None


def preview(connection: Connection, project: Project, choice: Choice) -> dict[str, Any]:
    """How many tasks would be asked again, how many judgments that takes, and what these cost.

    hours: from the mean active time of the judgments that these tasks have; None where no time is known.
    """
    votes = votes_of(connection, project.id)
    tasks = _affected(connection, project, choice, votes)
    overlap = _overlap(project, choice)
    judgments = len(tasks) * overlap
    times = [one.active_ms for one in votes.judgments if one.task.id in tasks and one.active_ms is not None]
    hours = fmean(times) * judgments / 3_600_000 if times else None
    return {
        "tasks": len(tasks),
        "overlap": overlap,
        "judgments": judgments,
        "kinds": dict(sorted(Counter(one.kind for one in tasks.values()).items())),
        "hours": None if hours is None else round(hours, 4),
        "cost": None if hours is None else round(hours * project.settings.cost_per_hour, 2),
        "currency": project.settings.currency,
    }


def ask_again(connection: Connection, project: Project, choice: Choice, actor: str) -> dict[str, int]:
    """Ask again what is affected; returns how many tasks, and how many judgments they want.

    What was asked again and is not judged yet is not asked a third time, so that the same call twice is one.
    """
    table = schema.project  # locked: two at once must not ask the same twice
    connection.execute(for_update(connection, select(table.c.id).where(table.c.id == project.id), of=table)).one()
    votes = votes_of(connection, project.id)
    tasks, overlap = sorted(_affected(connection, project, choice, votes)), _overlap(project, choice)
    for start in range(0, len(tasks), CHUNK):
        _replace(connection, tasks[start : start + CHUNK], overlap)
    told = {"tasks": len(tasks), "judgments": len(tasks) * overlap}
    if tasks:
        given = {"which": choice.which, "kinds": list(choice.kinds)}
        log_event(connection, actor, "ask_again", "project", project.id, told | given)
    return told


def _overlap(project: Project, choice: Choice) -> int:
    wanted = project.settings.overlap if choice.overlap is None else choice.overlap
    if not 1 <= wanted <= 50:
        raise Refused("invalid", f"a task wants 1 to 50 judgments, not {wanted}")
    return wanted


def _affected(connection: Connection, project: Project, choice: Choice, votes: Votes) -> dict[str, Task]:
    """The open tasks by id that count now and have a judgment which was not given under the newest guideline."""
    if choice.which not in ("all", "divided"):
        raise Refused("invalid", f"{choice.which!r}: ask again all, or what raters are divided on (divided)")
    unknown = sorted(set(choice.kinds) - set(schema.KINDS))
    if unknown:
        raise Refused("invalid", f"{unknown[0]!r} is no kind of task; give one of {', '.join(schema.KINDS)}")
    newest, asked = newest_guidelines(connection, project.id), _asked(connection, project.id)
    table = schema.task
    closed = set(
        connection.execute(select(table.c.id).where(table.c.project_id == project.id, ~table.c.open)).scalars()
    )
    apart: Mapping[str, Any] = divided(votes) if choice.which == "divided" else {}
    return {
        one.task.id: one.task
        for one in votes.judgments
        if one.role in ("vote", "adjudication")
        and one.guideline_id not in newest
        and one.task.id not in closed
        and one.task.kind in (choice.kinds or schema.KINDS)
        and one.task.id not in asked
        and (choice.which == "all" or one.task.id in apart)
    }


def _asked(connection: Connection, project_id: str) -> set[str]:
    """The tasks that were asked again."""
    task = schema.task
    query = select(task.c.again_of).where(task.c.project_id == project_id, task.c.again_of.is_not(None))
    return set(connection.execute(query.where(task.c.repeat_of.is_(None), ~task.c.is_gold)).scalars())


def rounds_of(connection: Connection, prompts: Collection[str]) -> list[list[str]]:
    """The tasks of these prompts that were asked again, each with those that ask the same again, in their order."""
    task = schema.task
    query = select(task.c.id, task.c.again_of).where(task.c.prompt_id.in_(prompts), task.c.again_of.is_not(None))
    rows = connection.execute(query.where(task.c.repeat_of.is_(None), ~task.c.is_gold).order_by(task.c.id)).all()
    later = {row.again_of: row.id for row in rows}
    rounds = []
    for first in sorted(later.keys() - {row.id for row in rows}):
        rounds.append([first])
        while rounds[-1][-1] in later:
            rounds[-1].append(later[rounds[-1][-1]])
    return rounds


def _replace(connection: Connection, task_ids: Sequence[str], overlap: int) -> None:
    """Close these tasks, and open one with the same answers for each."""
    task, item = schema.task, schema.task_item
    query = select(task).where(task.c.id.in_(task_ids)).order_by(task.c.id)  # in order: no deadlocks among writers
    rows = connection.execute(for_update(connection, query, of=task)).all()
    connection.execute(update(task).where(task.c.id.in_(task_ids)).values(open=False))
    made = {row.id: new_id() for row in rows}
    items = connection.execute(select(item).where(item.c.task_id.in_(task_ids))).all()
    now = ids.now_ms()
    connection.execute(insert(task), [_further(row, made[row.id], overlap, now) for row in rows])
    connection.execute(insert(item), [one._asdict() | {"task_id": made[one.task_id]} for one in items])


def _further(row: Any, task_id: str, overlap: int, now: int) -> dict[str, Any]:
    """The task that asks again: its key is another one, so that sides and order are drawn anew.

    How the answers came to be asked about in the first place is told of it as well.
    """
    own = {"id": task_id, "overlap": overlap, "first_overlap": overlap, "places": overlap, "open": True}
    own |= {"created_ms": now, "again_of": row.id}
    return row._asdict() | own | {"order_key": content_sha256(["again", row.order_key])}
