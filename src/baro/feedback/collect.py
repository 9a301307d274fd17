"""``baro feedback collect``: answers in, judgments out, as a stage of a pipeline.

The store lies in the run directory. People judge on the web page, which is served until every task has the judgments
that it wants; killed, the stage goes on with what is there. Simulated people (``by``) work through the same HTTP
interface, one after the other, so that a seed settles everything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sqlalchemy import Connection, func, select

from baro import config as blocks
from baro.config import NO_EFFECT
from baro.errors import ConfigError
from baro.feedback import people, schema
from baro.feedback.database import Store, set_secret_seed
from baro.feedback.ids import content_sha256
from baro.feedback.labels import LabelSettings
from baro.feedback.project import (
    Project,
    add_generation,
    add_prompt,
    add_response,
    create_project,
    get_project,
    make_tasks,
)
from baro.feedback.rows import ExportSettings
from baro.feedback.settings import ProjectSettings
from baro.feedback.stage_input import FORM_OF, rows_of
from baro.records import Answers

if TYPE_CHECKING:
    from baro.data.formats import Loaded
    from baro.runs import RunDir

log = logging.getLogger("baro")
PROJECT = "collected"
PAIRS = "pairs.jsonl"
POLL_SECONDS = 2.0


class Config(blocks.Config):
    """``baro feedback collect``."""

    answers: str = Field(description="what is judged: a run of generate, or a file of prompts with responses")
    kind: Literal["pair", "rank", "thumb", "safety", "criteria"] = Field("pair", description="how it is judged")
    per_prompt: int = Field(1, ge=1, description="tasks made of each prompt's answers")
    size: int | None = Field(None, ge=1, le=9, description="answers in a task; 4 for rankings, 2 for pairs, else 1")
    overlap: int = Field(2, ge=1, le=50, description="judgments of each task")
    by: str | None = Field(None, description="simulated people, module:NAME; without it people judge on the web page")
    seed: int = Field(0, ge=0, description="seed of which answers meet; with simulated people, of everything")
    raters: int = Field(2, ge=1, description="people who are invited", json_schema_extra=NO_EFFECT)
    lang: Literal["en", "ko"] = Field("ko", description="language of their page", json_schema_extra=NO_EFFECT)
    port: int = Field(8765, ge=0, le=65535, description="where the page is served", json_schema_extra=NO_EFFECT)
    expand: Literal["all", "adjacent", "best"] = Field("all", description="which pairs of a ranking")
    labels: LabelSettings = LabelSettings()


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Collect, write ``records.jsonl`` and the store, and return the run directory; goes on with what is there."""
    from baro.data.formats import read_records
    from baro.inputs import load_object, open_run, resolve

    crowd = None if config.by is None else load_object(config.by)
    if crowd is not None and not hasattr(crowd, "answer"):
        raise ConfigError(f"{config.by}: has no answer(who, task); simulated people have that, and a count")
    run = open_run("feedback-collect", config, {"answers": (config.answers, "records")}, out)
    if run.finished:
        return run
    store = Store.open(run.path / "store", create=True)
    try:
        loaded = read_records(resolve(config.answers, "records"), Answers)
        project = store.write(lambda connection: _filled(connection, config, loaded))
        if crowd is None:
            _wait_for_people(store, project, config, run.path)
        else:
            _simulate(store, project, crowd, run.path)
        _write(run, store, project, config)
    finally:
        store.close()
    run.finish()
    return run


def _filled(connection: Connection, config: Config, loaded: Loaded) -> Project:
    """The project with its answers and tasks; made in one transaction, so it is there whole or not at all."""
    if connection.execute(select(schema.project.c.id)).first() is not None:
        return get_project(connection, PROJECT)
    if config.by is not None:
        set_secret_seed(connection, f"collect {config.seed}")
    settings = ProjectSettings(overlap=config.overlap, repeat_fraction=0, gold_fraction=0, lease_minutes=60)
    project = create_project(connection, PROJECT, settings)
    model = add_generation(connection, project.id, config.answers, {})
    for key, record in loaded:
        assert isinstance(record, Answers)
        prompt_id, _ = add_prompt(connection, project.id, record.prompt, key, record.extra)
        for text, finished in zip(record.completions, record.finished, strict=True):
            add_response(connection, prompt_id, model, text, finished=finished)
    made = make_tasks(
        connection, project, config.kind, per_prompt=config.per_prompt, size=config.size, seed=config.seed
    )
    for sentence in made.refused[:3]:
        log.warning("%s", sentence)
    log.info("%d tasks; %d prompts have too few different answers", made.added, len(made.refused))
    return project


def _counts(store: Store) -> tuple[int, int]:
    """Judgments that are there, and that are wanted in all."""
    with store.read() as connection:
        task = schema.task
        wanted, missing = connection.execute(select(func.sum(task.c.overlap), func.sum(task.c.places))).one()
        leased = select(func.count()).select_from(schema.assignment).where(schema.assignment.c.state == "leased")
        return int(wanted or 0) - int(missing or 0) - connection.execute(leased).scalar_one(), int(wanted or 0)


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("judgments"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


@contextmanager
def _served(store: Store, folder: Path, port: int, per_second: float) -> Iterator[str]:
    """The web page, by a thread of this process; yields its address."""
    import socket

    import uvicorn

    from baro.feedback.server.app import create_app

    app = create_app(store, files=folder, per_second=per_second, burst=int(10 * per_second))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, ws="none"))
    listening = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=15)


def _wait_for_people(store: Store, project: Project, config: Config, folder: Path) -> None:
    def invited(connection: Connection) -> list[str]:
        known = list(connection.execute(select(schema.rater.c.id).order_by(schema.rater.c.id)).scalars())
        more = range(len(known), config.raters)
        known += [people.add_rater(connection, project.id, lang=config.lang) for _ in more]
        return [people.invite(connection, rater_id) for rater_id in known]

    with _served(store, folder, config.port, per_second=20) as address, _bar() as bar:
        for token in store.write(invited):
            log.info("open once, one for each person: %s/join#%s", address, token)
        done, wanted = _counts(store)
        shown = bar.add_task("judgments", total=wanted, completed=done)
        while done < wanted:
            time.sleep(POLL_SECONDS)
            done, wanted = _counts(store)
            bar.update(shown, completed=done, total=wanted)


def _simulate(store: Store, project: Project, crowd: Any, folder: Path) -> None:
    """Each simulated person in turn takes a task and answers it, until nobody finds another."""
    from baro.feedback.client import Client

    tokens = store.write(lambda connection: [_token(connection, project, who) for who in range(crowd.count)])
    with _served(store, folder, 0, per_second=1e6) as address, _bar() as bar:
        done, wanted = _counts(store)
        shown = bar.add_task("judgments", total=wanted, completed=done)
        clients = [Client(address, token) for token in tokens]
        who, idle = _next_person(store, crowd.count), 0
        while idle < crowd.count:
            task = clients[who].next(PROJECT)
            idle = 0 if task else idle + 1
            if task:
                clients[who].submit(task, crowd.answer(who, task), ui_version="simulated")
                bar.advance(shown)
            who = (who + 1) % crowd.count
        for client in clients:
            client.close()


def _token(connection: Connection, project: Project, who: int) -> str:
    name = f"simulated-{who}"
    found = connection.execute(select(schema.rater.c.id).where(schema.rater.c.pseudonym == name)).scalar_one_or_none()
    return people.open_session(
        connection, found or people.add_rater(connection, project.id, pseudonym=name), kind="api"
    )


def _next_person(store: Store, count: int) -> int:
    """Who comes after the one that judged last: a stage that was killed goes on as if it had not been."""
    with store.read() as connection:
        newest = select(schema.rater.c.pseudonym).join(schema.judgment, schema.judgment.c.rater_id == schema.rater.c.id)
        name = connection.execute(newest.order_by(schema.judgment.c.event_id.desc()).limit(1)).scalar_one_or_none()
    return 0 if name is None else (int(name.removeprefix("simulated-")) + 1) % count


def _write(run: RunDir, store: Store, project: Project, config: Config) -> None:
    """The records of what was judged, of a ranking its pairs as well, and the figures."""
    import json

    from baro.data.files import write_rows
    from baro.feedback.panel import agreement
    from baro.runs import write_atomic

    settings = ExportSettings(labels=config.labels, expand=config.expand)
    with store.read() as connection:
        found = rows_of(connection, project, FORM_OF[config.kind], settings)
        pairs = rows_of(connection, project, "pairs", settings) if config.kind in ("rank", "pair") else []
        told = agreement(connection, project)
    write_rows(run.records, _without_ids(found))
    write_rows(run.path / PAIRS, _without_ids(pairs))
    done, _ = _counts(store)
    named = {"judgments": done, "rows": len(found), "pairs": len(pairs)}
    figures = [{"name": name, "value": float(n), "low": None, "high": None, "n": None} for name, n in named.items()]
    write_atomic(run.path / "figures.json", json.dumps(figures, ensure_ascii=False, indent=1))
    write_atomic(run.path / "agreement.json", json.dumps(told, ensure_ascii=False, indent=1))


def _without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was judged, in an order of its own: ids tell of this store alone, and would differ when it is made again."""
    plain = [{name: value for name, value in row.items() if not name.endswith(("_id", "_ids"))} for row in rows]
    return sorted(plain, key=content_sha256)
