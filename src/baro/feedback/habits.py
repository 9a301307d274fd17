"""Habits that have nothing to do with the answers: sides, length, haste, and other answers to the same question.

For each habit the judgments that could show it, each with whether it does. Shares are counted from these lists, and the
lists are what managers look into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from sqlalchemy import Connection, func, select

from baro.feedback import schema
from baro.feedback.derive import Judgment, Votes, votes_of
from baro.feedback.project import Project

Habit = Literal["left", "longer", "repeats", "quick"]
Case = tuple[Judgment, bool]  # whether it shows the habit


def cases_of(connection: Connection, project: Project, votes: Votes) -> dict[Habit, list[Case]]:
    """Every habit's judgments, in the order in which they were made."""
    length = _lengths(connection, votes.project_id)
    found: dict[Habit, list[Case]] = {"left": _left(votes), "longer": _longer(votes, length), "repeats": _same(votes)}
    found["quick"] = _quick(votes, length, project.settings.min_read_ms_per_character)
    assert tuple(found) == get_args(Habit)
    return found


def counts(cases: Sequence[Case]) -> tuple[int, int]:
    """How many show the habit, and of how many."""
    return sum(shows for _, shows in cases), len(cases)


def by_rater(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Each rater's own."""
    found: dict[str, list[Case]] = {}
    for judgment, shows in cases:
        found.setdefault(judgment.rater_id, []).append((judgment, shows))
    return dict(sorted(found.items()))


def judgments(connection: Connection, project: Project, habit: Habit, limit: int = 50) -> dict[str, Any]:
    """The judgments behind one habit's share, the newest first: task, rater, and whether it was counted."""
    cases = cases_of(connection, project, votes_of(connection, project.id))[habit]
    shown = sorted(cases, key=lambda case: -case[0].event_id)[:limit]
    prompt, rater = schema.prompt, schema.rater
    asked = select(prompt.c.id, prompt.c.messages).where(prompt.c.id.in_({one.task.prompt_id for one, _ in shown}))
    start = {row.id: prompt_start(row.messages) for row in connection.execute(asked)}
    who = select(rater.c.id, rater.c.pseudonym).where(rater.c.id.in_({one.rater_id for one, _ in shown}))
    name = {row.id: row.pseudonym for row in connection.execute(who)}
    items = [
        {"task": one.task.id, "prompt_start": start[one.task.prompt_id], "pseudonym": name[one.rater_id]}
        | {"counted": shows}
        for one, shows in shown
    ]
    return {"total": len(cases), "items": items}


def prompt_start(messages: Sequence[Any]) -> str:
    """The first words of a prompt's last turn."""
    return " ".join(messages[-1]["content"].split())[:80] if messages else ""


def _left(votes: Votes) -> list[Case]:
    """Whether each winner stood on the left; of a safety task the more helpful one counts."""
    return [
        (pair.judgment, pair.position == 0)
        for pair in votes.pairs
        if pair.position is not None and pair.dimension != "safer" and pair.judgment.role != "adjudication"
    ]


def _same(votes: Votes) -> list[Case]:
    """Whether a task shown again, sides swapped, was answered as before."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    again: dict[tuple[str, str], dict[str, Any]] = {}
    copies: dict[tuple[str, str], Judgment] = {}
    for pair in votes.pairs:
        task = pair.judgment.task
        key = (pair.judgment.rater_id, task.repeat_of or task.id)
        is_copy = pair.judgment.role == "repeat"
        (again if is_copy else first).setdefault(key, {})[pair.dimension] = pair.winner
        if is_copy:
            copies[key] = pair.judgment
    return [(copies[key], first[key] == answer) for key, answer in again.items() if key in first]


def _longer(votes: Votes, length: dict[str, int]) -> list[Case]:
    """Whether the better one was the longer one, wherever the lengths differ."""
    found = []
    for pair in votes.pairs:
        if pair.winner is not None and pair.dimension != "safer" and pair.judgment.role == "vote":
            (loser,) = set(pair.judgment.task.responses) - {pair.winner}
            if length[pair.winner] != length[loser]:
                found.append((pair.judgment, length[pair.winner] > length[loser]))
    return found


def _quick(votes: Votes, length: dict[str, int], ms_per_character: float) -> list[Case]:
    """Whether each first answer came quicker than anybody reads what was shown."""
    found = []
    for one in votes.judgments:
        if one.active_ms is not None and one.revision == 1:
            characters = length[one.task.prompt_id] + sum(length[response] for response in one.task.responses)
            found.append((one, one.active_ms < characters * ms_per_character))
    return found


def _lengths(connection: Connection, project_id: str) -> dict[str, int]:
    """Characters of each response and each prompt."""
    response, prompt = schema.response, schema.prompt
    here = prompt.c.project_id == project_id
    query = select(response.c.id, func.length(response.c.text)).join(prompt).where(here)
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    for row in connection.execute(select(prompt.c.id, prompt.c.messages).where(here)):
        found[row.id] = sum(len(turn["content"]) for turn in row.messages)
    return found
