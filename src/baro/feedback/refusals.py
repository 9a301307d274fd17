"""Why a request is refused: what the server turns into a status and a code, and the command line into a sentence."""

from __future__ import annotations

from typing import Any

from baro.errors import BaroError

STATUS = {
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "lease_lost": 409,
    "stale_draft": 409,
    "paused": 409,
    "ended": 409,
    "invalid": 422,
    "safety_conflict": 422,
}


class Refused(BaroError):
    """A request that cannot be done. ``code`` is one of STATUS; ``more`` is told beside the sentence."""

    exit_code = 2

    def __init__(self, code: str, message: str, **more: Any):
        super().__init__(message)
        self.code, self.status, self.more = code, STATUS[code], more
