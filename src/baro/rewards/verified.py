"""What verifiers are: they look at completions, and say what they find or that they could not look. No torch here."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from baro.records import Rollout

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Verified:
    """What a verifier found: a score and why it is that, or an error and no score.

    ``seconds``: how long it looked; where it does not say, its share of the time of those looked at together.
    ``read``: what it took for the answer, in one form for equal answers, so that several can vote; None where it found
    none or takes none.
    """

    score: float | None
    reason: str = ""
    error: str | None = None
    seconds: float | None = field(default=None, compare=False)
    read: str | None = field(default=None, compare=False)


class Verifier(Protocol):
    """Looks at completions; one of Baro's is made from its config by ``make_verifier``."""

    def check(self, rollouts: Sequence[Rollout]) -> list[Verified]:
        """One for each, in the same order."""

    def right(self, row: Row) -> str | None:
        """A completion that is right for a row, made of what the row says; None where nothing says it.

        With it a verifier is tried on its own data before a run begins.
        """


class OneByOne:
    """A verifier that looks at each completion by itself: ``look(text, row)``."""

    def check(self, rollouts: Sequence[Rollout]) -> list[Verified]:
        return [self._looked(one) for one in rollouts]

    def look(self, rollout: Rollout) -> Verified:
        raise NotImplementedError

    def _looked(self, rollout: Rollout) -> Verified:
        started = time.perf_counter()
        try:
            found = self.look(rollout)
        except Exception as error:  # one completion that it fails on has no score; the others have theirs
            found = failed(error)
        return replace(found, seconds=time.perf_counter() - started)


def failed(error: Exception) -> Verified:
    """What is said of a verifier that raised: no score."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Verified(None, error=f"raised {type(error).__name__}: {error} ({where.filename}:{where.lineno})")


ANSWER = ("answer", "ground_truth", "reward_model.ground_truth", "answerKey")
"""What data sets call the column that says what is right; a verifier whose column is ``answer`` takes the first."""


def what_is_right(row: Row, column: str) -> Any:
    """What the row says in a column, or inside one (``reward_model.ground_truth``); None where it says nothing.

    ``answer``, which is every verifier's default, stands for the names of ``ANSWER`` as well.
    """
    for name in ANSWER if column == "answer" else (column,):
        value = row.get(name)
        outer, dot, inner = name.partition(".")
        if value is None and dot and isinstance(row.get(outer), Mapping):
            value = row[outer].get(inner)
        if value is not None:
            return value
    return None


def no_column(row: Row, column: str) -> Verified:
    """The error of a row that does not say what is right."""
    known = ", ".join(row) or "none"
    return Verified(None, error=f"the row has no column {column!r} that says what is right (its columns: {known})")
