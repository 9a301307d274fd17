"""Answers drawn by ``baro generate`` for a manager: one process at a time, and its answers imported when it ends.

A policy is known by a name that the server's operator gave it; what comes over HTTP never becomes a path or a part of a
command. Every job has a folder, from which a server that is started anew knows what became of it: a process that is
still at work is followed, what it has finished is imported, and what was cut short waits for somebody to start it
again, from where it was left. Only one server works on the jobs of a folder.

JOB/job.json       what was asked for, and how far it is
JOB/prompts.jsonl  the prompts
JOB/answers-N      the run of one policy
JOB/output-N.txt   what its process says, as long as nobody has seen its end; then JOB/log-N.txt, without the bars
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import Field
from sqlalchemy import Connection

from baro import config as blocks
from baro.data.files import read_rows, write_rows
from baro.data.formats import read_records
from baro.errors import BaroError, ConfigError, RunError
from baro.feedback.database import Store, check_text, log_event
from baro.feedback.ids import new_id, now_ms
from baro.feedback.intake import in_parts
from baro.feedback.project import Project, add_generation, add_response
from baro.feedback.refusals import Refused
from baro.feedback.server.detached import Detached, is_locked
from baro.files import write_atomic
from baro.records import Answers
from baro.runs import RunDir

log = logging.getLogger("baro")
BARO = (sys.executable, "-m", "baro")
WORKING = ("queued", "running")
WAITING_AT_MOST, LISTED, LOG_LINES, MAX_LINE = 10, 10, 40, 2000
AT_ONCE = 300  # answers that are imported in one transaction
LOOK_SECONDS = 0.2
PROMPT_ID = "feedback_prompt_id"
_JOB_ID = re.compile(r"[0-9A-Z]{26}")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COUNT = re.compile(r"\b(\d+)/(\d+)\b")


class Draw(blocks.Config):
    """What to draw from one policy."""

    policy: str = Field(max_length=200, description="its name among the server's policies")
    n: int = Field(4, ge=1, le=64, description="answers to each prompt")
    seed: int = Field(0, ge=0, le=2**31, description="seed of the sampling")
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()


class Interrupted(Exception):
    """A job that was cut short; it can be started again, unless a manager has ended it."""


@dataclass
class Job:
    """What was asked for, and how far it is."""

    folder: Path
    project_id: str
    project: str
    draws: Sequence[Draw]
    prompts: int
    actor: str
    created_ms: int
    state: str = "queued"  # running, done, failed, interrupted, cancelled
    drawn: int = 0  # policies whose answers are imported
    added: int = 0
    problem: str | None = None
    drawing: int = 0  # answers of the one at work
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    @classmethod
    def load(cls, folder: Path) -> Job:
        """As it was saved, with the end of its log."""
        told = json.loads((folder / "job.json").read_bytes())
        job = cls(folder, **told | {"draws": [Draw.model_validate(one) for one in told["draws"]]})
        for number in range(len(job.draws)):
            kept = folder / f"log-{number}.txt"
            job.lines.extend(kept.read_text().splitlines() if kept.exists() else ())
        return job

    def save(self) -> None:
        """Its folder says from now on what this says."""
        names = ("project_id", "project", "prompts", "actor", "created_ms", "state", "drawn", "added", "problem")
        told = {name: getattr(self, name) for name in names} | {"draws": [one.model_dump() for one in self.draws]}
        write_atomic(self.folder / "job.json", json.dumps(told, ensure_ascii=False, allow_nan=False))

    def turn(self, state: str, problem: str | None = None) -> None:
        """Come into another state."""
        self.state, self.problem = state, problem
        self.save()

    @property
    def total(self) -> int:
        """Answers that were asked for."""
        return sum(draw.n for draw in self.draws) * self.prompts

    def to_json(self) -> dict[str, Any]:
        """For a manager's page."""
        done = sum(draw.n for draw in self.draws[: self.drawn]) * self.prompts + self.drawing
        told = {"job": self.folder.name, "project": self.project, "state": self.state, "problem": self.problem}
        counts = {"done": min(self.total, done), "total": self.total, "added": self.added}
        return told | counts | {"created_ms": self.created_ms, "log_tail": list(self.lines)}


class Jobs:
    """A queue with one worker. ``command``: what ``baro`` is started by."""

    def __init__(self, store: Store, folder: Path, policies: Mapping[str, str], command: Sequence[str] = BARO):
        self.store, self.folder, self.policies, self.command = store, folder, dict(policies), tuple(command)
        self._jobs: dict[str, Job] = {}  # this server's
        self._worker = ThreadPoolExecutor(1, "baro-generate")
        self._process: Detached | None = None
        self._turn: IO[str] | None = None  # held by the one server that works here
        self._first = False  # whether that is this one
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> None:
        """Take up what an earlier server has left, in the background."""
        self._worker.submit(self._take_over)

    def start(
        self, project: Project, draws: Sequence[Draw], prompts: Sequence[tuple[str, list[dict[str, str]]]], actor: str
    ) -> str:
        """Queue it; returns the job's id. Refused for a policy that the server does not offer."""
        for draw in draws:
            self._policy(draw)
        if not draws or not prompts:
            raise Refused("invalid", "there is nothing to draw; name a policy, and import prompts first")
        with self._lock:
            self._check_waiting()
            job = Job(self.folder / new_id(), project.id, project.name, draws, len(prompts), actor, now_ms())
            job.folder.mkdir(parents=True, mode=0o700)
            rows = ({"prompt": messages, PROMPT_ID: prompt_id} for prompt_id, messages in prompts)
            write_rows(job.folder / "prompts.jsonl", rows)
            self._queue(job)
        return job.folder.name

    def again(self, job_id: str) -> None:
        """Queue a job that was cut short or failed; it goes on where it was left."""
        with self._lock:
            job = self.get(job_id)
            if job.state not in ("interrupted", "failed"):
                raise Refused("conflict", f"this job is {job.state}; only one that was cut short is started again")
            self._check_waiting()
            self._queue(job)

    def cancel(self, job_id: str, actor: str) -> None:
        """End a job for good; answers that were imported before stay."""
        with self._lock:
            job = self.get(job_id)
            if job.state not in WORKING:
                raise Refused("conflict", f"this job is {job.state} already")
            if job_id not in self._jobs and not self._first:
                raise Refused("conflict", "another server works on this job; cancel it there")
            job.turn("cancelled")
        for lock in job.folder.glob("process-*.lock"):
            Detached(lock, lock).end()
        self.store.write(lambda c: log_event(c, actor, "cancel", "project", job.project_id, {"job": job_id}))

    def get(self, job_id: str) -> Job:
        """A job by its id."""
        if _JOB_ID.fullmatch(job_id) and (job_id in self._jobs or (self.folder / job_id / "job.json").exists()):
            return self._jobs.get(job_id) or Job.load(self.folder / job_id)
        raise Refused("not_found", "there is no such job")

    def of(self, project_id: str) -> list[Job]:
        """The last jobs of a project, the newest first."""
        found: list[Job] = []
        for job_id in sorted(self._ids(), reverse=True):
            job = self._readable(job_id)
            found += [job] if job is not None and job.project_id == project_id else []
            if len(found) == LISTED:
                break
        return found

    def close(self) -> None:
        """End the process at work, and begin no other."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.end()
        self._worker.shutdown(cancel_futures=True)
        if self._turn is not None:
            self._turn.close()

    # --------------------------------------------------------------------------------------------------- the worker

    def _ids(self) -> list[str]:
        found = [one.parent.name for one in self.folder.glob("*/job.json")]
        return [name for name in found if _JOB_ID.fullmatch(name)]

    def _readable(self, job_id: str) -> Job | None:
        """A job; None for what another version of Baro wrote and this one cannot read."""
        try:
            return self.get(job_id)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("the job %s cannot be read: %s", job_id, error)
            return None

    def _check_waiting(self) -> None:
        if sum(job.state in WORKING for job in self._jobs.values()) >= WAITING_AT_MOST:
            raise Refused("conflict", f"{WAITING_AT_MOST} jobs are waiting already; let some end first")

    def _queue(self, job: Job) -> None:
        self._jobs[job.folder.name] = job
        job.turn("queued")
        self._worker.submit(self._run, job)

    def _policy(self, draw: Draw) -> str:
        if draw.policy not in self.policies:
            names = ", ".join(sorted(self.policies)) or "none: start the server with --policies"
            raise Refused("invalid", f"{draw.policy!r} is no policy of this server; there are {names}")
        return self.policies[draw.policy]

    def _have_turn(self) -> bool:
        """Wait until no other server works here; False if this one was stopped before."""
        if self._turn is None:
            self._turn = (self.folder / "server.lock").open("w")
            while not self._closed and not self._first:
                self._first = _locked(self._turn)
                time.sleep(0 if self._first else LOOK_SECONDS)
        return not self._closed

    def _take_over(self) -> None:
        """Go through what an earlier server has not ended."""
        try:
            if not self._ids() or not self._have_turn():
                return
            for job_id in sorted(set(self._ids()) - set(self._jobs)):
                with self._lock:  # nobody cancels it in between
                    job = self._readable(job_id)
                    if job is None or job.state not in WORKING:
                        continue
                    self._jobs[job_id] = job
                self._run(job)
        except Exception:
            log.exception("the jobs in %s cannot be taken up", self.folder)

    def _run(self, job: Job) -> None:
        if not self._have_turn():
            return  # the next server takes it up
        left, job.drawing = job.state == "running", 0  # left by an earlier server
        try:
            with self._lock:
                self._check_wanted(job)
                job.turn("running")
            for number in range(job.drawn, len(job.draws)):
                self._draw(job, number, left)
                left = False
            end, problem = "done", None
        except Interrupted as cut:
            end, problem = "interrupted", str(cut)
        except (BaroError, OSError) as error:
            end, problem = "failed", str(error)
        except Exception:
            log.exception("the job %s failed", job.folder.name)
            end, problem = "failed", "the server failed; what happened is in its log"
        try:
            with self._lock:
                if job.state in WORKING:  # not cancelled
                    job.turn(end, problem)
        except (BaroError, OSError):  # it is shown as it is, and the next server looks at it again
            log.exception("the job %s cannot be saved", job.folder.name)

    def _check_wanted(self, job: Job) -> None:
        if job.state == "cancelled" or self._closed:
            raise Interrupted("it was cancelled" if job.state == "cancelled" else "the server was stopped")

    def _draw(self, job: Job, number: int, left: bool) -> None:
        """Draw from one policy and import its answers. left: an earlier server may have begun with it."""
        draw, out, said = job.draws[number], job.folder / f"answers-{number}", list[str]()
        process = self._begin(job, number, left)
        ended_with = process.follow(lambda line: _follow(job, line, said), lambda line: _follow_bar(job, line))
        self._process = None
        _keep_log(job, number, said)
        last = said[-1] if said else "it said nothing"
        if ended_with is None and not _finished(out):
            raise Interrupted(f"{draw.policy}: `baro generate` was cut short: {last}")
        if ended_with or job.state == "cancelled":
            self._check_wanted(job)
            raise ConfigError(f"{draw.policy}: `baro generate` ended with {ended_with}: {last}")
        self._import(job, number)
        job.drawn, job.drawing = number + 1, 0
        job.save()

    def _begin(self, job: Job, number: int, left: bool) -> Detached:
        """The process that draws: a new one, unless one is at work, or was when the earlier server ended."""
        lock, output = job.folder / f"process-{number}.lock", job.folder / f"output-{number}.txt"
        draw = job.draws[number]
        sampling = draw.sampling.model_dump()
        arguments = [f"--policy={self._policy(draw)}", f"--prompts={job.folder / 'prompts.jsonl'}", f"--n={draw.n}"]
        arguments += [f"--seed={draw.seed}", f"--out={job.folder / f'answers-{number}'}"]
        arguments += [f"--set=sampling.{name}={value}" for name, value in sampling.items()]
        # rich draws its bar for terminals only, and our bar is how we know how far it is
        environment = os.environ | {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "NO_COLOR": "1", "COLUMNS": "120"}
        with self._lock:
            self._check_wanted(job)
            if (left and output.exists()) or is_locked(lock):
                output.touch()
                self._process = Detached(lock, output)
            else:
                self._process = Detached.start([*self.command, "generate", *arguments], lock, output, environment)
            return self._process

    def _import(self, job: Job, number: int) -> None:
        """Enter the answers, some at a time. All are read before; what is there already is not added again."""
        draw, said = job.draws[number], list[str]()
        known = {row.columns[PROMPT_ID] for row in read_rows(job.folder / "prompts.jsonl")}
        rows: list[tuple[str, str, bool]] = []
        for key, record in read_records(job.folder / f"answers-{number}" / "records.jsonl", Answers):
            assert isinstance(record, Answers)
            prompt_id = record.extra.get(PROMPT_ID)
            if prompt_id not in known:
                raise ConfigError(f"{key}: answers a prompt that this job did not ask about")
            for text, whole in zip(record.completions, record.finished, strict=True):
                try:
                    check_text(text)
                    rows.append((str(prompt_id), text, whole))
                except Refused as refused:
                    said.append(f"{key}: an answer was left out: {refused}")
        job.lines.extend(said)
        _keep_log(job, number, said)
        settings = {"n": draw.n, "seed": draw.seed, **draw.sampling.model_dump()}

        def enter(connection: Connection, part: Sequence[tuple[str, str, bool]]) -> int:
            made = add_generation(connection, job.project_id, draw.policy, settings)
            return sum(add_response(connection, at, made, text, finished=whole)[1] for at, text, whole in part)

        before = job.added
        for added in in_parts(self.store, rows, enter, AT_ONCE):
            job.added += added
            job.save()
        told = {"policy": draw.policy, "added": job.added - before}
        self.store.write(lambda c: log_event(c, job.actor, "generate", "project", job.project_id, told))


def _locked(file: IO[str]) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _finished(out: Path) -> bool:
    try:
        return RunDir.load(out).finished
    except RunError:
        return False


def _keep_log(job: Job, number: int, said: Sequence[str]) -> None:
    """What a process said that has ended; the states of its bar are not kept."""
    kept = job.folder / f"log-{number}.txt"
    before = kept.read_text() if kept.exists() else ""
    write_atomic(kept, before + "".join(f"{line}\n" for line in said))
    (job.folder / f"output-{number}.txt").unlink(missing_ok=True)


def _follow(job: Job, line: str, said: list[str]) -> None:
    """Take a line of the log, or a state of the bar."""
    if not _follow_bar(job, line) and (text := _plain(line)[:MAX_LINE]):
        job.lines.append(text)
        said.append(text)


def _follow_bar(job: Job, line: str) -> bool:
    counts = _COUNT.findall(_plain(line)) if _plain(line).startswith("generate ") else []
    if counts:
        job.drawing = int(counts[-1][0])
    return bool(counts)


def _plain(line: str) -> str:
    return _ESCAPES.sub("", line).strip()
