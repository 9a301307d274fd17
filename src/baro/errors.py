"""Everything that Baro raises on purpose.

    BaroError                 exit 1   anything below, seen from outside
    ├── ConfigError           exit 2   a config key or value, a flag, a missing file, a missing extra
    ├── DataError             exit 2   a row, a file, a template; says file:line
    ├── RunError              exit 2   a run directory: other config, other data, damaged, other versions
    ├── RewardError           exit 1   too many scores failed
    ├── BackendError          exit 1   a server, a subprocess or a disk did not do its part
    └── GuardStop             exit 3   training was stopped on purpose; the last good checkpoint is kept

Every message says what was wrong, where, and what to do. Errors that are not a BaroError are our own bugs.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_ERROR_FRACTION = 0.05  # of scores or judgments that may fail where no config key says it


class BaroError(Exception):
    """Base of all errors that are raised on purpose; the message is one clear sentence for the user."""

    exit_code = 1


class ConfigError(BaroError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class DataError(BaroError):
    """An input file or row is wrong; the message begins with ``file:line``."""

    exit_code = 2


class RunError(BaroError):
    """A run directory does not fit what was asked of it."""

    exit_code = 2


class RewardError(BaroError):
    """More scores failed than ``max_error_fraction`` allows."""


def check_failures(
    failed: Sequence[str],
    n: int,
    name: str,
    what: str = "judgments",
    advice: str = "",
    limit: float = MAX_ERROR_FRACTION,
) -> None:
    """Raise RewardError where more than the share ``limit`` of ``n`` failed; ``failed`` says why, each in words."""
    if len(failed) > limit * n:
        raise RewardError(
            f"{name}: {len(failed)} of {n} {what} failed, more than {limit:.0%}; {advice}the first: {failed[0]}"
        )


class BackendError(BaroError):
    """Something outside this process failed: a server, a subprocess, the disk."""


class GuardStop(BaroError):
    """A guard stopped the run (NaN, exploding KL, missing gradients); the last good checkpoint is intact."""

    exit_code = 3
