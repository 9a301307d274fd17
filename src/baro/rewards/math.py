"""Mathematical answers compared by their value: fractions, roots, sets, intervals, equations, LaTeX or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from baro.errors import ConfigError
from baro.records import Rollout
from baro.rewards.sandbox import shared_sandbox
from baro.rewards.sandbox_jobs import Limits, Outcome, Trusted
from baro.rewards.verified import Row, Verified, no_column, what_is_right
from baro.verifier_config import Math

MODULE = "baro.rewards.sandbox_math"
MEMORY_MB = 1024  # SymPy takes 200 by itself


class MathVerifier:
    """1 where math-verify finds the completion's last answer, boxed before others, equal to the row's.

    Two changes to math-verify: an equation between numbers that is false, ``17 = 18``, is wrong and not its right side;
    what runs past the deadline is an error and not wrong. It runs in the sandbox, because it evaluates what it reads.
    """

    def __init__(self, config: Math) -> None:
        found = find_spec("math_verify")
        if found is None or found.origin is None:
            raise ConfigError("the verifier math needs math-verify: `pip install 'baro[math]'`")
        packages = str(Path(found.origin).resolve().parents[1])
        limits = Limits(math.ceil(config.deadline_seconds), config.deadline_seconds, MEMORY_MB)
        self.config = config
        self.sandbox = shared_sandbox(limits, config.unsafe_local, (MODULE,), (packages,))
        self.sandbox.start()

    def check(self, rollouts: Sequence[Rollout]) -> list[Verified]:
        column = self.config.answer
        golds = [self._gold(one.extra) for one in rollouts]
        jobs = [
            Trusted(MODULE, {"gold": str(gold), "answer": one.text})
            for one, gold in zip(rollouts, golds, strict=True)
            if gold is not None
        ]
        found = iter(self.sandbox.run(jobs))
        return [
            no_column(one.extra, column) if gold is None else _verified(next(found))
            for one, gold in zip(rollouts, golds, strict=True)
        ]

    def right(self, row: Row) -> str | None:
        gold = self._gold(row)
        if gold is None:
            return None
        return str(gold) if "\\boxed" in str(gold) else f"\\boxed{{{gold}}}"

    def _gold(self, row: Row) -> Any:
        """What is right, which a row of MATH says in its solution alone."""
        said = what_is_right(row, self.config.answer)
        return row.get("solution") if said is None and self.config.answer == "answer" else said


def _verified(outcome: Outcome) -> Verified:
    if outcome.error is not None:
        return Verified(None, error=outcome.error)
    read = outcome.found.get("read")
    right, reason = outcome.found.get("right") is True, str(outcome.found.get("reason"))
    return Verified(float(right), reason, read=None if read is None else str(read))
