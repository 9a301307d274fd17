"""Answers drawn by ``baro generate`` for a manager: one process at a time, and its answers imported when it ends.

A policy is known by a name that the server's operator gave it; what comes over HTTP never becomes a path or a part of a
command. Jobs are kept in memory: what a stopped server was drawing is asked for again.
"""

from __future__ import annotations

import codecs
import os
import re
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field
from sqlalchemy import Connection

from baro import config as blocks
from baro.data.files import write_rows
from baro.data.formats import read_records
from baro.errors import BaroError, ConfigError
from baro.feedback.database import Store, log_event
from baro.feedback.ids import new_id
from baro.feedback.project import Project, add_generation, add_response
from baro.feedback.refusals import Refused
from baro.records import Answers

BARO = (sys.executable, "-m", "baro")
KEPT, WAITING_AT_MOST, LOG_LINES, MAX_LINE = 100, 10, 40, 2000
GRACE_SECONDS = 5  # between SIGTERM and SIGKILL
PROMPT_ID = "feedback_prompt_id"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COUNT = re.compile(r"\b(\d+)/(\d+)\b")


class Draw(blocks.Config):
    """What to draw from one policy."""

    policy: str = Field(max_length=200, description="its name among the server's policies")
    n: int = Field(4, ge=1, le=64, description="answers to each prompt")
    seed: int = Field(0, ge=0, le=2**31, description="seed of the sampling")
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()


@dataclass
class Job:
    """What was asked for, and how far it is."""

    id: str
    project: Project
    draws: Sequence[Draw]
    prompts: Sequence[tuple[str, list[dict[str, str]]]]
    actor: str
    state: str = "queued"
    done: int = 0  # answers of the policies that are finished
    drawing: int = 0  # answers of the one at work
    added: int = 0
    problem: str | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    @property
    def total(self) -> int:
        """Answers that were asked for."""
        return sum(draw.n for draw in self.draws) * len(self.prompts)

    def to_json(self) -> dict[str, Any]:
        """For a manager's page."""
        told = {"job": self.id, "project": self.project.name, "state": self.state, "problem": self.problem}
        counts = {"done": min(self.total, self.done + self.drawing), "total": self.total, "added": self.added}
        return told | counts | {"log_tail": list(self.lines)}


def known_policies(given: Sequence[str]) -> dict[str, str]:
    """Policies by name: hub ids, models and runs, and every run with a model in a folder of runs."""
    found: dict[str, str] = {}
    for value in given:
        path = Path(value)
        if not path.is_dir():
            if _HUB_ID.fullmatch(value) is None:
                raise ConfigError(
                    f"{value}: is no folder and no hub id; a policy is a run, a model's folder or owner/name"
                )
            found[value] = value
            continue
        inside = [path] if _is_model(path) else [one for one in sorted(path.iterdir()) if _is_model(one)]
        if not inside:
            raise ConfigError(f"{path}: holds no model; give a run, a model's folder, or a folder of runs")
        for one in inside:
            if one.resolve().name in found:
                raise ConfigError(f"{one}: there is another policy {one.resolve().name!r}; rename one of them")
            found[one.resolve().name] = str(one.resolve())
    return found


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() or ((path / "run.json").is_file() and (path / "model").is_dir())


class Jobs:
    """A queue with one worker. ``command``: what ``baro`` is started by."""

    def __init__(self, store: Store, folder: Path, policies: Mapping[str, str], command: Sequence[str] = BARO):
        self.store, self.folder, self.policies, self.command = store, folder, dict(policies), tuple(command)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "baro-generate")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(
        self, project: Project, draws: Sequence[Draw], prompts: Sequence[tuple[str, list[dict[str, str]]]], actor: str
    ) -> str:
        """Queue it; returns the job's id. Refused for a policy that the server does not offer."""
        for draw in draws:
            if draw.policy not in self.policies:
                names = ", ".join(sorted(self.policies)) or "none: start the server with --policies"
                raise Refused("invalid", f"{draw.policy!r} is no policy of this server; there are {names}")
        if not draws or not prompts:
            raise Refused("invalid", "there is nothing to draw; name a policy, and import prompts first")
        with self._lock:
            if sum(job.state in ("queued", "running") for job in self._jobs.values()) >= WAITING_AT_MOST:
                raise Refused("conflict", f"{WAITING_AT_MOST} jobs are waiting already; let some end first")
            job = Job(new_id(), project, draws, prompts, actor)
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        self._worker.submit(self._run, job)
        return job.id

    def get(self, job_id: str) -> Job:
        """A job by its id."""
        job = self._jobs.get(job_id)
        if job is None:
            raise Refused("not_found", "there is no such job; a server that was started anew has forgotten its jobs")
        return job

    def close(self) -> None:
        """End the process at work, and begin no other."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._worker.shutdown(cancel_futures=True)

    def _run(self, job: Job) -> None:
        job.state = "running"
        try:
            folder = self.folder / job.id
            folder.mkdir(parents=True, mode=0o700)
            rows = ({"prompt": messages, PROMPT_ID: prompt_id} for prompt_id, messages in job.prompts)
            write_rows(folder / "prompts.jsonl", rows)
            for number, draw in enumerate(job.draws):
                self._draw(job, draw, folder / "prompts.jsonl", folder / f"answers-{number}")
            job.state = "done"
        except (BaroError, OSError) as error:
            job.state, job.problem = "failed", str(error)
        except Exception:
            job.state, job.problem = "failed", "the server failed; what happened is in its log"
            raise

    def _draw(self, job: Job, draw: Draw, prompts: Path, out: Path) -> None:
        sampling = draw.sampling.model_dump()
        arguments = ["generate", f"--policy={self.policies[draw.policy]}", f"--prompts={prompts}", f"--n={draw.n}"]
        arguments += [f"--seed={draw.seed}", f"--out={out}"]
        arguments += [f"--set=sampling.{name}={value}" for name, value in sampling.items()]
        # rich draws its bar for terminals only, and our bar is how we know how far it is
        environment = os.environ | {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "NO_COLOR": "1", "COLUMNS": "120"}
        with self._lock:
            if self._closed:
                raise Refused("conflict", "the server was stopped")
            nothing = subprocess.DEVNULL
            self._process = subprocess.Popen(
                [*self.command, *arguments], stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, env=environment
            )
        with self._process as process:
            assert process.stderr is not None
            text, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
            while chunk := process.stderr.read1():  # type: ignore[attr-defined]  # buffered readers have it
                *lines, text = re.split(r"[\r\n]", text + decoder.decode(chunk))
                for line in lines:
                    _follow(job, line)
                _follow_bar(job, text)
            _follow(job, text)
        if process.returncode != 0:
            last = job.lines[-1] if job.lines else "it said nothing"
            raise ConfigError(f"{draw.policy}: `baro generate` ended with {process.returncode}: {last}")
        settings = {"n": draw.n, "seed": draw.seed, **sampling}
        job.added += self.store.write(lambda connection: _import(connection, job, draw.policy, settings, out))
        job.done, job.drawing = job.done + draw.n * len(job.prompts), 0


def _follow(job: Job, line: str) -> None:
    """Take a line of the log, or a state of the bar."""
    if not _follow_bar(job, line) and (text := _plain(line)):
        job.lines.append(text[:MAX_LINE])


def _follow_bar(job: Job, line: str) -> bool:
    counts = _COUNT.findall(_plain(line)) if _plain(line).startswith("generate ") else []
    if counts:
        job.drawing = int(counts[-1][0])
    return bool(counts)


def _plain(line: str) -> str:
    return _ESCAPES.sub("", line).strip()


def _import(connection: Connection, job: Job, policy: str, settings: Mapping[str, Any], out: Path) -> int:
    generation = add_generation(connection, job.project.id, policy, settings)
    known, added = {prompt_id for prompt_id, _ in job.prompts}, 0
    for key, record in read_records(out / "records.jsonl", Answers):
        assert isinstance(record, Answers)
        prompt_id = record.extra.get(PROMPT_ID)
        if prompt_id not in known:
            raise ConfigError(f"{key}: answers a prompt that this job did not ask about")
        for text, finished in zip(record.completions, record.finished, strict=True):
            added += add_response(connection, prompt_id, generation, text, finished=finished)[1]
    log_event(connection, job.actor, "generate", "project", job.project.id, {"policy": policy, "added": added})
    return added
