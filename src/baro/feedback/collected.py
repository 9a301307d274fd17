"""The rows that ``baro feedback collect`` leaves: without ids, and with how each task came to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from baro.feedback import schema
from baro.feedback.ids import content_sha256


def selection_of(connection: Connection) -> dict[str, dict[str, Any]]:
    """By task how it came to be asked, and the probability with which it was drawn."""
    task = schema.task
    rows = connection.execute(select(task.c.id, task.c.policy, task.c.propensity))
    return {row.id: {"policy": row.policy, "propensity": row.propensity} for row in rows}


def without_ids(rows: list[dict[str, Any]], how: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What was judged, in an order of its own: ids tell of this store alone, and would differ when it is made again.

    how: what is told of each task beside it.
    """
    plain = [
        {name: value for name, value in row.items() if not name.endswith(("_id", "_ids"))}
        | how.get(row.get("group_id", ""), {})
        for row in rows
    ]
    return sorted(plain, key=content_sha256)
