"""What may be asked of the sandbox, and what comes of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

MOST_BYTES = 1 << 20  # of what a job may write
NONCE_CHARS = 32
LONGEST_SHOWN = 500


@dataclass(frozen=True)
class Limits:
    """What one program may take. Its tests have the same limits for themselves."""

    cpu_seconds: int = 5
    deadline_seconds: float = 15.0  # from the start of the job to its end, waiting included
    memory_mb: int = 512


@dataclass(frozen=True)
class Checked:
    """A program, and tests that call it from another process.

    ``sources`` are readings of the program: the first that compiles is run. ``helpers`` runs before the tests if it is
    code. The function that is tested is ``entry_point``; without one, every name that the tests use and nobody defines,
    and ``functions``, though Python may have its own of that name.
    """

    sources: tuple[str, ...]
    tests: str
    helpers: str = ""
    entry_point: str = ""
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """A whole program that reads its standard input and writes its standard output."""

    sources: tuple[str, ...]
    given: str


@dataclass(frozen=True)
class Trusted:
    """``check(value)`` of one of the pool's own modules, for work on values that nobody trusts; values are JSON's."""

    module: str
    value: Any


Job = Checked | Script | Trusted


def content_key(job: Job) -> str:
    """Two jobs with one key are the same job."""
    named = {"kind": type(job).__name__, **asdict(job)}
    return hashlib.sha256(json.dumps(named, sort_keys=True, allow_nan=False).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What came of a job: ``passed``, or an ``error`` where nothing can be said about the program."""

    passed: bool | None
    reason: str = ""
    error: str | None = None
    output: str = ""  # of a Script
    found: Mapping[str, Any] = field(default_factory=dict)  # of a Trusted: what its function returned
    seconds: float = 0.0
    timed_out: bool = False


@dataclass(frozen=True)
class Heard:
    """All that is known of a job that is over."""

    nonce: str
    said: bytes  # on the pipe of its verdict or its output
    ended: Mapping[str, Mapping[str, Any]]  # by side: its exit code, or why it could not begin
    stopped: str  # why it was ended from outside
    seconds: float
    cpu_seconds: int  # that a side may take


def outcome(job: Job, heard: Heard) -> Outcome:
    """Nothing that was not said behind the nonce makes a program right."""
    found = _outcome(job, heard)
    return replace(found, reason=shown(found.reason), error=None if found.error is None else shown(found.error))


def shown(text: str) -> str:
    """A program's words as logs and files may hold them: one line, without what steers a terminal."""
    return "".join(one if one.isprintable() else " " for one in text)[:LONGEST_SHOWN]


def _outcome(job: Job, heard: Heard) -> Outcome:
    failed = next((one["failed"] for one in heard.ended.values() if "failed" in one), None)
    if failed is not None:
        return Outcome(None, error=str(failed), seconds=heard.seconds)
    if isinstance(job, Script):
        return _of_script(heard)
    verdict = spoken(heard)
    if isinstance(job, Trusted):
        return _of_trusted(verdict, heard)
    if verdict is None:
        reason = heard.stopped or f"the tests ended without a verdict{_how(heard, 'tests')}"
        return Outcome(False, reason + _how(heard, "program"), seconds=heard.seconds, timed_out=_late(heard))
    if "error" in verdict:
        return Outcome(None, error=str(verdict["error"]), seconds=heard.seconds)
    passed = verdict.get("passed") is True
    reason = str(verdict.get("reason"))
    if verdict.get("ended") is True:
        reason += _how(heard, "program", by_itself=True)
    return Outcome(passed, reason, seconds=heard.seconds)


def _of_script(heard: Heard) -> Outcome:
    code = heard.ended.get("script", {}).get("code")
    output = heard.said.decode("utf-8", "replace")
    if heard.stopped or code != 0:
        reason = heard.stopped or f"the program ended with code {code}{_how(heard, 'script')}"
        return Outcome(False, reason, output=output, seconds=heard.seconds, timed_out=_late(heard))
    return Outcome(True, "it ran to its end", output=output, seconds=heard.seconds)


def _of_trusted(verdict: Mapping[str, Any] | None, heard: Heard) -> Outcome:
    if verdict is None:
        error = heard.stopped or f"the check ended without an answer{_how(heard, 'tests')}"
        return Outcome(None, error=error, seconds=heard.seconds)
    failed = verdict.get("error")
    return Outcome(None, error=None if failed is None else str(failed), found=verdict, seconds=heard.seconds)


def spoken(heard: Heard) -> Mapping[str, Any] | None:
    """What stands behind the nonce, or None."""
    nonce, body = heard.said[:NONCE_CHARS], heard.said[NONCE_CHARS:]
    if not heard.nonce or not hmac.compare_digest(nonce, heard.nonce.encode()):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _how(heard: Heard, name: str, *, by_itself: bool = False) -> str:
    """How a side ended, in words, where it was by a signal that did not come from here; the same words each time."""
    ended = heard.ended.get(name)
    if ended is None or ended["code"] >= 0 or (ended.get("on_request") and not by_itself):
        return ""
    number = signal.Signals(-ended["code"])
    if number == signal.SIGKILL:  # by the kernel, which does not say for which of the two
        return f" (its process was killed: its {heard.cpu_seconds} s of CPU time or its memory were used up)"
    return f" (its process ended by {number.name})"


def _late(heard: Heard) -> bool:
    return heard.stopped.startswith("more than") and "seconds" in heard.stopped
