"""Adaptive overlap: a task on which its raters disagree asks for one more, up to the project's ``max_overlap``.

How sure a task is, is the smoothed posterior of its least sure question (two equal votes give 0.83, two different ones
0.5). It is also what the queue for adjudicators is ordered by.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select, update

from baro.feedback import schema
from baro.feedback.database import log_event
from baro.feedback.derive import RankVote, Votes, votes_of
from baro.feedback.labels import LabelSettings, binary_probabilities, probabilities
from baro.feedback.project import Project
from baro.functional.votes import needs_another_vote, smoothed_vote

SMOOTHED = LabelSettings()


def posteriors(votes: Votes) -> dict[str, float]:
    """For each task with votes how likely the likelier answer to its least sure question is.

    Pairs, thumbs and safety marks; of a ranking, how many raters put the same response first. Scores and edits have
    none.
    """
    found: dict[str, float] = {}

    def add(task_id: str, p: float) -> None:
        found[task_id] = min(found.get(task_id, 1.0), max(p, 1 - p))

    for dimension in sorted({pair.dimension for pair in votes.pairs}):
        here = [pair for pair in votes.pairs if pair.dimension == dimension and pair.judgment.role == "vote"]
        for task_id, p in probabilities(here, SMOOTHED).items():
            add(task_id, p)
    for marks, attribute in ((votes.thumbs, "good"), (votes.safety, "safe")):
        here_too: list[Any] = [mark for mark in marks if mark.judgment.role == "vote"]
        for (task_id, _), p in binary_probabilities(here_too, attribute, SMOOTHED).items():
            add(task_id, p)
    for task_id, firsts in first_places(votes).items():
        same = np.array([max(Counter(firsts).values())])
        found[task_id] = float(smoothed_vote(same, np.array([len(firsts)]), prior=SMOOTHED.prior)[0])
    return found


def first_places(votes: Votes) -> dict[str, list[frozenset[str]]]:
    """For each ranking task what each rater put first."""
    found: dict[str, list[frozenset[str]]] = {}
    for ranking in votes.ranks:
        if ranking.judgment.role == "vote":
            found.setdefault(ranking.judgment.task.id, []).append(_first(ranking))
    return found


def _first(ranking: RankVote) -> frozenset[str]:
    return frozenset(one for one, rank in ranking.ranks.items() if rank == 1)


def reconsider(connection: Connection, project: Project, task_id: str) -> bool:
    """Ask for one more judgment of a task if its raters leave it unsure; returns whether it did.

    To be called after every judgment, in its transaction, with the task's row locked. Nothing happens while a place is
    free or somebody is at work, once ``max_overlap`` is reached, and when an adjudicator has decided.
    """
    settings = project.settings
    if settings.max_overlap is None or settings.max_overlap <= settings.overlap:
        return False
    table, assignment = schema.task, schema.assignment
    task = connection.execute(select(table).where(table.c.id == task_id)).one()
    if task.is_gold or task.repeat_of is not None or not task.open or task.withdrawn or task.places > 0:
        return False
    busy = select(func.count()).select_from(assignment).where(
        assignment.c.task_id == task_id, assignment.c.purpose == "judge", assignment.c.state == "leased"
    )  # fmt: skip
    if task.overlap >= settings.max_overlap or connection.execute(busy).scalar_one():
        return False
    votes = votes_of(connection, project.id, task_id=task_id)
    p = posteriors(votes).get(task_id)
    settled = any(one.role == "adjudication" for one in votes.judgments)
    if p is None or settled or not needs_another_vote(np.array([p]), certainty=settings.certainty)[0]:
        return False
    more = {"overlap": task.overlap + 1, "places": task.places + 1}
    connection.execute(update(table).where(table.c.id == task_id).values(**more))
    log_event(connection, "adaptive overlap", "raise", "task", task_id, {"overlap": task.overlap + 1, "posterior": p})
    return True
