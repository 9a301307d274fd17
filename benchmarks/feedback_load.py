"""Raters at work on the feedback server: ``python -m benchmarks.feedback_load``.

So many simulated raters over HTTP at once, each thinking for a while between tasks, through the same requests as the
page's, against a server in a process of its own. On the way connections are dropped in mid-request, answers are sent
twice, and leases run out while a rater thinks. Then the store is counted: every judgment that was acknowledged is
there, once, and every task has exactly the judgments that it wanted (late ones beyond that are counted apart).

One JSON object: counts, violations (none is right), and the median and 95th percentile of ``next`` and ``judgment``.
``--think 0 0`` measures the throughput at saturation instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
from sqlalchemy import func, select

from baro.feedback import people, schema
from baro.feedback.database import Store
from baro.feedback.project import add_generation, add_prompt, add_response, add_task, create_project
from baro.feedback.settings import ProjectSettings
from baro.records import Message

PROJECT = "load"


def fill(store: Store, tasks: int, overlap: int, lease_seconds: float, raters: int) -> list[str]:
    """Tasks to judge, and a bearer token for each rater."""

    def work(connection: Any) -> list[str]:
        settings = ProjectSettings(
            overlap=overlap, lease_minutes=lease_seconds / 60, repeat_fraction=0, gold_fraction=0
        )
        project = create_project(connection, PROJECT, settings)
        model = add_generation(connection, project.id, "model", {})
        for number in range(tasks):
            prompt, _ = add_prompt(connection, project.id, (Message("user", f"Question {number}?"),), "load")
            pair = [add_response(connection, prompt, model, f"Answer {side} to {number}.")[0] for side in "ab"]
            add_task(connection, project, "pair", prompt, pair)
        ids = [people.add_rater(connection, project.id) for _ in range(raters)]
        return [people.open_session(connection, one, kind="api") for one in ids]

    return store.write(work)


class Server:
    """``baro feedback serve`` in a process of its own; ``kill`` is SIGKILL."""

    def __init__(self, where: str, port: int, log: Path):
        self.where, self.port, self.log = where, port, log
        self.address = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "baro", "feedback", "serve", "--store", self.where, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=self.log.open("ab"), stderr=subprocess.STDOUT)
        until = time.monotonic() + 300
        while time.monotonic() < until and self.process.poll() is None:
            try:
                httpx2.get(f"{self.address}/api/texts/en", timeout=10)
                return
            except httpx2.TransportError:
                time.sleep(0.05)
        raise SystemExit(f"the server does not answer:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Crowd:
    """Raters who work until nothing is left, with the accidents that happen to them."""

    def __init__(
        self,
        addresses: list[str],
        think: tuple[float, float],
        accidents: float,
        lease_seconds: float,
        most: int,
        patience_seconds: float,
    ):
        self.addresses, self.think, self.accidents = addresses, think, accidents
        self.lease_seconds, self.most, self.patience_seconds = lease_seconds, most, patience_seconds
        self.acknowledged: dict[str, str] = {}  # key -> judgment id
        self.seconds: dict[str, list[float]] = {"next": [], "judgment": [], "503": []}
        self.seen: Counter[str] = Counter()
        self.authorities = httpx2.create_ssl_context()  # of one for each rater, all would wait while they are made

    async def work(self, number: int, token: str) -> None:
        draw = random.Random(number)
        async with httpx2.AsyncClient(
            base_url=self.addresses[number % len(self.addresses)],
            headers={"Authorization": f"Bearer {token}"},
            timeout=self.patience_seconds,
            verify=self.authorities,
        ) as client:
            await asyncio.sleep(draw.uniform(0, self.think[1]))
            for _ in range(self.most):
                task = await self.ask(client, "next", f"/api/projects/{PROJECT}/next", {}, draw)
                if task is None:
                    return
                late = draw.random() < self.accidents
                await asyncio.sleep(1.3 * self.lease_seconds if late else draw.uniform(*self.think))
                await self.judge(client, task, draw)

    async def judge(self, client: httpx2.AsyncClient, task: dict[str, Any], draw: random.Random) -> None:
        choice = {"outcome": "win", "position": draw.randrange(2), "strength": 1}
        said = {"lease": task["lease"], "key": str(uuid4()), "answer": {"kind": "pair", "choice": choice}}
        where = f"/api/assignments/{task['assignment']}/judgment"
        twice = draw.random() < self.accidents
        sends = [self.ask(client, "judgment", where, said, draw) for _ in range(2 if twice else 1)]
        answers = await asyncio.gather(*sends)
        self.seen["double clicks"] += twice
        found = {one["judgment"] for one in answers if one is not None}
        if len(found) > 1:
            self.seen["doubled"] += 1
        for judgment in found:
            self.acknowledged[said["key"]] = judgment

    async def ask(
        self, client: httpx2.AsyncClient, what: str, where: str, body: dict[str, Any], draw: random.Random
    ) -> dict[str, Any] | None:
        """Send until there is an answer, as the page does; None for nothing left."""
        while True:
            started = time.monotonic()
            try:
                sending = asyncio.ensure_future(client.post(where, json=body))
                if draw.random() < self.accidents:  # the connection drops somewhere on the way
                    await asyncio.sleep(draw.uniform(0, 0.01))
                    if not sending.done():
                        sending.cancel()
                        self.seen["dropped connections"] += 1
                        await asyncio.gather(sending, return_exceptions=True)
                        continue
                reply = await sending
            except httpx2.TransportError:
                self.seen["unanswered"] += 1
                await asyncio.sleep(0.1)
                continue
            if reply.status_code == 204:
                return None
            if reply.status_code in (200, 201):
                self.seconds[what].append(time.monotonic() - started)
                return dict(reply.json())
            self.seen[f"status {reply.status_code} to {what}"] += 1
            if reply.status_code not in (429, 503):
                return None
            if reply.status_code == 503:  # at once: something is missing; after long: the machine is slow
                self.seconds["503"].append(time.monotonic() - started)
            await asyncio.sleep(float(reply.headers.get("Retry-After", 1)))


def count(store: Store, overlap: int, crowd: Crowd, finished: bool) -> dict[str, Any]:
    """What the store holds, and what is wrong with it."""
    assignment, judgment = schema.assignment, schema.judgment
    with store.read() as connection:
        stored = {row.idempotency_key: row.id for row in connection.execute(select(judgment))}
        submitted = (
            select(assignment.c.task_id, func.count())
            .where(assignment.c.state == "submitted")
            .group_by(assignment.c.task_id)
        )
        per_task = Counter(number for _, number in connection.execute(submitted))
        states = dict(connection.execute(select(assignment.c.state, func.count()).group_by(assignment.c.state)).all())
        tasks = connection.execute(select(func.count()).select_from(schema.task)).scalar_one()
    lost = [key for key, one in crowd.acknowledged.items() if stored.get(key) != one]
    wrong = sum(number for wanted, number in per_task.items() if wanted > overlap or (finished and wanted != overlap))
    return {
        "tasks": tasks,
        "acknowledged": len(crowd.acknowledged),
        "stored": len(stored),
        "lost": len(lost),
        "doubled": crowd.seen["doubled"],
        "stored_without_acknowledgement": len(set(stored) - set(crowd.acknowledged)),
        "tasks_with_another_overlap": wrong + (tasks - sum(per_task.values()) if finished else 0),
        "assignments": states,
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if not seconds:
        return {}
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1), "n": len(seconds)}


async def run(crowd: Crowd, tokens: list[str]) -> float:
    started = time.monotonic()
    await asyncio.gather(*(crowd.work(number, token) for number, token in enumerate(tokens)))
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a folder or a postgresql:// URL; a new temporary folder unless given")
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--judgments", type=int, default=200, help="of each rater, at most")
    parser.add_argument("--tasks", type=int, help="raters * judgments / overlap unless given")
    parser.add_argument("--overlap", type=int, default=2)
    parser.add_argument("--think", type=float, nargs=2, default=(1.0, 3.0), metavar=("FROM", "TO"), help="seconds")
    parser.add_argument("--accidents", type=float, default=0.05, help="how often each kind of accident happens")
    parser.add_argument("--lease", type=float, default=4.0, help="seconds")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until a request counts as lost")
    parser.add_argument("--port", type=int, default=18765)
    parser.add_argument("--servers", type=int, default=1, help="processes on one store, at this port and the next ones")
    given = parser.parse_args()
    tasks = given.tasks or given.raters * given.judgments // given.overlap
    with tempfile.TemporaryDirectory() as folder:
        where = given.store or folder
        store = Store.open(where, create=True)
        tokens = fill(store, tasks, given.overlap, given.lease, given.raters)
        servers: list[Server] = []
        try:
            for at in range(given.servers):
                servers.append(Server(where, given.port + at, Path(folder) / f"server-{at}.log"))  # noqa: PERF401
            addresses = [one.address for one in servers]
            most = 2 * given.judgments if given.tasks is None else given.judgments
            crowd = Crowd(addresses, tuple(given.think), given.accidents, given.lease, most, given.patience)
            seconds = asyncio.run(run(crowd, tokens))
        finally:
            for one in servers:
                one.kill()
        found = count(store, given.overlap, crowd, finished=given.tasks is None)
    refused = sorted(crowd.seconds.pop("503"))
    figures = {name: percentiles(values) for name, values in crowd.seconds.items()}
    answered = len(crowd.seconds["judgment"])
    print(
        json.dumps(
            {
                "store": "postgresql" if "://" in where else "sqlite",
                "servers": given.servers,
                "raters": given.raters,
                "cores": os.cpu_count(),
            }
            | {"think": list(given.think), "seconds": round(seconds, 1)}
            | {"judgments_per_second": round(answered / seconds, 1)}
            | found
            | {"accidents": dict(crowd.seen), "refused_after_seconds": refused}
            | figures
        )
    )


if __name__ == "__main__":
    main()
