"""Whether a project's tasks are handed out: it is open, paused for a while, or ended.

Nothing that somebody has written is lost by it. While a project is paused, tasks in hand can be sent, and a lease goes
on after the pause or runs out. When it ends, every lease ends; what comes late is taken as after any other lease.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from baro.feedback import schema
from baro.feedback.refusals import Refused

WAY = {"open": "resume", "paused": "pause", "ended": "end"}  # the event that leads to each state


def state_of(connection: Connection, project_id: str) -> str:
    """open, paused or ended."""
    return str(connection.execute(select(schema.project.c.state).where(schema.project.c.id == project_id)).scalar_one())


def check_open(connection: Connection, project_id: str) -> None:
    """Refused with the state's name while nothing is handed out."""
    match state_of(connection, project_id):
        case "paused":
            raise Refused("paused", "this project is paused; tasks are handed out again once its manager resumes it")
        case "ended":
            raise Refused("ended", "this project has ended; no more tasks are handed out")
