"""Scores of a project's answers by reward models: what ``ask`` chooses by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track
from sqlalchemy import Connection, select

from baro.errors import check_failures
from baro.feedback import schema
from baro.feedback.project import Project
from baro.functional.ensembles import Scale
from baro.records import Message, Rollout, said

AT_ONCE = 64


def load_different(values: Sequence[str]) -> list[Any]:
    """The reward sources of these names. ConfigError where two are one model: it differs in nothing from itself."""
    from baro.rewards.costs import comparing
    from baro.scorers import check_different, load_reward

    check_different(values)
    return [comparing(load_reward(one)) for one in values]


def load_members(values: Sequence[str]) -> list[Any]:
    """The same, where an ensemble is each of its members."""
    from baro.rewards.costs import comparing
    from baro.scorers import check_different, load_each

    check_different(values)
    return [comparing(member) for one in values for member in load_each(one)]


def scores_of(connection: Connection, project: Project, rewards: Sequence[Any]) -> dict[str, list[float]]:
    """By response one number for each reward source; an answer that one of them could not score has no entry.

    RewardError where one of them could not score too many of the answers.
    """
    response, prompt = schema.response, schema.prompt
    query = select(response.c.id, response.c.text, response.c.finished, prompt.c.messages).join(prompt)
    by_content = (prompt.c.sha256, response.c.sha256, response.c.id)  # the same batches in every store, to the last bit
    rows = connection.execute(query.where(prompt.c.project_id == project.id).order_by(*by_content)).all()
    scores: dict[str, list[float]] = {row.id: [] for row in rows}
    for reward in rewards:
        failed: list[str] = []
        starts = range(0, len(rows), AT_ONCE)
        for start in track(starts, reward.name, console=Console(stderr=True)):
            part = rows[start : start + AT_ONCE]
            for row, score in zip(part, reward.score([_rollout(row) for row in part]), strict=True):
                scores[row.id] += [] if score.value is None else [score.value]
                failed += [score.error or "no score"] if score.value is None else []
        check_failures(failed, len(rows), reward.name, "scores", "fix the reward, or choose at random; ")
    return {one: values for one, values in scores.items() if len(values) == len(rewards)}


def in_common_units(scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Every model's scores with mean 0 and sd 1 over these answers, so that their differences can be compared.

    A model that gives all answers the same score has no say: 0.
    """
    columns = []
    for values in zip(*scores.values(), strict=True):
        same = min(values) == max(values)
        scale = None if same else Scale.of(values)
        columns.append([0.0 if scale is None else scale.scaled(value) for value in values])
    return {one: list(row) for one, row in zip(scores, zip(*columns, strict=True), strict=True)}


def _rollout(row: Any) -> Rollout:
    turns = tuple(Message(turn["role"], turn["content"]) for turn in row.messages)
    return Rollout(turns, said(row.text), finished=row.finished)
