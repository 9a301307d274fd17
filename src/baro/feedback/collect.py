"""``baro feedback collect``: answers in, judgments out, as a stage of a pipeline.

Every prompt is asked about, its answers meeting at random, or so many tasks as ``choose`` says, most of them where
reward models are unsure. The store lies in the run directory. People judge on the web page, which is served until every
task has the judgments that it wants; killed, the stage goes on with what is there. Simulated people (``by``) work
through the same HTTP interface, one after the other, so that a seed settles everything.
"""

from __future__ import annotations

import logging
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)
from sqlalchemy import Connection, func, select

from baro import config as blocks
from baro.config import NO_EFFECT
from baro.declared import Object, Records, Scorer, is_object
from baro.errors import ConfigError
from baro.feedback import ask, people, schema
from baro.feedback.assign import available
from baro.feedback.collected import selection_of, without_ids
from baro.feedback.criteria import set_criteria, shipped_criteria
from baro.feedback.database import Store, check_text, set_secret_seed
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
from baro.feedback.refusals import Refused
from baro.feedback.rows import ExportSettings
from baro.feedback.settings import ProjectSettings
from baro.feedback.stage_input import FORM_OF, rows_of
from baro.feedback.states import state_of
from baro.records import Answers
from baro.rows import finite

if TYPE_CHECKING:
    from baro.data.formats import Loaded
    from baro.runs import RunDir

log = logging.getLogger("baro")
PROJECT = "collected"
PAIRS = "pairs.jsonl"
POLL_SECONDS = 2.0
UNDO_SECONDS = 10.0  # in which the last judgment of all can still be taken back


class Choose(blocks.Config):
    """What is asked, where not every prompt is; as ``baro feedback ask`` chooses."""

    policy: ask.Policy = Field(
        description="random; margin: where one reward model is least sure; disagreement: where several differ most"
    )
    count: int = Field(ge=1, description="tasks in all")
    rewards: list[Scorer] = Field([], description="the reward models: runs, folders, or functions module:NAME")
    random_fraction: float = Field(
        ask.LEAST_RANDOM, ge=ask.LEAST_RANDOM, le=1, description="share of the tasks that is drawn at random"
    )

    @model_validator(mode="after")
    def _as_many_rewards_as_the_policy_looks_at(self) -> Choose:
        one_function = len(self.rewards) == 1 and is_object(self.rewards[0])  # and no ensemble run
        fewest = 2 if one_function else 1
        least, most = {"random": (0, 0), "margin": (1, 1), "disagreement": (fewest, None)}[self.policy]
        if len(self.rewards) < least or (most is not None and len(self.rewards) > most):
            looks = "random looks at no reward, margin at one, disagreement at two or more, or at an ensemble"
            raise ValueError(f"policy {self.policy} with {len(self.rewards)} rewards: {looks}; change one of the two")
        return self


class Config(blocks.Config):
    """``baro feedback collect``."""

    answers: Records = Field(description="what is judged: a run of generate, or a file of prompts with responses")
    kind: Literal["pair", "rank", "thumb", "safety", "criteria"] = Field("pair", description="how it is judged")
    per_prompt: int = Field(1, ge=1, description="tasks made of each prompt's answers")
    size: int | None = Field(None, ge=1, le=9, description="answers in a task; 4 for rankings, 2 for pairs, else 1")
    overlap: int = Field(2, ge=1, le=50, description="judgments of each task")
    by: Object | None = Field(
        None, description="simulated people, module:NAME; people judge on the web page unless given"
    )
    seed: int = Field(0, ge=0, description="seed of which answers meet; with simulated people, of everything")
    criteria: list[str] = Field(
        [], description="criteria of Baro's that are scored, for kind criteria; all unless given"
    )
    raters: int | None = Field(
        None, ge=1, description="people who are invited; as many as overlap unless given", json_schema_extra=NO_EFFECT
    )
    lang: Literal["en", "ko"] = Field("ko", description="language of their page", json_schema_extra=NO_EFFECT)
    port: int = Field(8765, ge=0, le=65535, description="where the page is served", json_schema_extra=NO_EFFECT)
    open_page: bool = Field(
        False, description="open the page in this machine's browser, for the first of them", json_schema_extra=NO_EFFECT
    )
    expand: Literal["all", "adjacent", "best"] = Field("all", description="which pairs of a ranking")
    labels: LabelSettings = LabelSettings()
    choose: Choose | None = Field(None, description="so many tasks, chosen; every prompt unless given")

    @model_validator(mode="after")
    def _enough_people_for_each_task(self) -> Config:
        if self.by is None and self.raters is not None and self.raters < self.overlap:
            few = f"{self.raters} raters cannot give {self.overlap} judgments of each task, one each"
            raise ValueError(f"{few}; raise raters or lower overlap")
        return self

    @model_validator(mode="after")
    def _criteria_are_for_criteria(self) -> Config:
        if self.criteria and self.kind != "criteria":
            raise ValueError(f"criteria are scored in tasks of kind criteria, and kind is {self.kind}; leave them out")
        return self

    @model_validator(mode="after")
    def _choose_says_what_is_asked(self) -> Config:
        if self.choose is not None and self.kind not in ask.KINDS:
            raise ValueError(f"choose goes with tasks that compare answers, and kind is {self.kind}; leave choose out")
        if self.choose is not None and self.per_prompt != 1:
            raise ValueError("choose.count says how many tasks there are, and per_prompt too; leave per_prompt out")
        return self


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Collect, write ``records.jsonl`` and the store, and return the run directory; goes on with what is there."""
    from baro.inputs import load_object, open_run

    crowd = None if config.by is None else load_object(config.by)
    if crowd is not None and not hasattr(crowd, "answer"):
        raise ConfigError(f"{config.by}: has no answer(who, task); simulated people have that, and a count")
    run = open_run("feedback-collect", config, out)
    if run.finished:
        return run
    store = _store_with_tasks(run.path / "store", config)
    try:
        with store.read() as connection:
            project = get_project(connection, PROJECT)
        if crowd is None:
            _wait_for_people(store, project, config, run.path)
        else:
            _simulate(store, project, crowd, run.path)
        done, wanted = _counts(store)
        if done < wanted:
            log.warning("%d of %d judgments are missing: nobody is left who may still give them", wanted - done, wanted)
        _write(run, store, project, config)
    finally:
        store.close()
    run.finish()
    return run


def _store_with_tasks(folder: Path, config: Config) -> Store:
    """The store, which is there with all tasks or not at all: after an error, a corrected config starts again."""
    from baro.data.formats import read_records
    from baro.files import atomic_directory
    from baro.inputs import resolve

    if not folder.exists():
        loaded = read_records(resolve(config.answers, "records"), Answers)
        with atomic_directory(folder) as partial:
            partial.chmod(0o700)
            made = Store.open(partial, create=True)
            try:
                made.write(lambda connection: _fill(connection, config, loaded))
            finally:
                made.close()
    return Store.open(folder)


def _fill(connection: Connection, config: Config, loaded: Loaded) -> None:
    if config.by is not None:
        set_secret_seed(connection, f"collect {config.seed}")
    settings = ProjectSettings(overlap=config.overlap, repeat_fraction=0, gold_fraction=0, lease_minutes=60)
    project = create_project(connection, PROJECT, settings)
    model = add_generation(connection, project.id, config.answers, {})
    unusable = []  # what a model can say and no page can show
    for key, record in track(list(loaded), "prompts", console=Console(stderr=True)):
        assert isinstance(record, Answers)
        prompt_id, _ = add_prompt(connection, project.id, record.prompt, key, record.extra)
        for text, finished in zip(record.completions, record.finished, strict=True):
            try:
                check_text(text)
            except Refused as error:
                unusable.append(f"{key}: {error}")
            else:
                add_response(connection, prompt_id, model, text, finished=finished)
    if unusable:
        log.warning("answers left out, since no page can show them: %d; for example %s", len(unusable), unusable[0])
    if config.kind == "criteria":
        set_criteria(connection, project, shipped_criteria(config.criteria), "feedback collect")
    if config.choose is None:
        _every_prompt(connection, project, config)
    else:
        _chosen(connection, project, config, config.choose)


def _every_prompt(connection: Connection, project: Project, config: Config) -> None:
    made = make_tasks(
        connection, project, config.kind, per_prompt=config.per_prompt, size=config.size, seed=config.seed
    )
    for one in made.refused[:3]:
        log.warning("%s", one)
    log.info("%d tasks; %d prompts left out", made.added, len(made.refused))


def _chosen(connection: Connection, project: Project, config: Config, choose: Choose) -> None:
    from baro.feedback.scored import in_common_units, load_different, load_members, scores_of

    if choose.policy == "disagreement":
        scores = in_common_units(scores_of(connection, project, load_members(choose.rewards)))
    else:
        scores = scores_of(connection, project, load_different(choose.rewards))
    found = ask.select(
        connection, project, config.kind, choose.count, policy=choose.policy, scores=scores or None, seed=config.seed,
        random_fraction=choose.random_fraction, size=config.size,
    )  # fmt: skip
    log.info("%d tasks of %d candidates, %d of them at random", *(found[n] for n in ("added", "candidates", "random")))
    if not found["added"]:
        raise ConfigError(f"{config.answers}: no prompt has enough different answers to compare; give other answers")
    if found["added"] < choose.count:
        log.warning("choose.count is %d, and the answers make only %d tasks", choose.count, found["added"])


def _counts(store: Store) -> tuple[int, int]:
    """Judgments that are there, and that are wanted in all; free places of tasks that are closed are not wanted."""
    with store.read() as connection:
        task = schema.task
        handed_out = task.c.open & ~task.c.withdrawn
        missing = select(func.sum(task.c.places)).where(handed_out)
        given = connection.execute(select(func.sum(task.c.overlap - task.c.places))).scalar_one()
        left = connection.execute(missing).scalar_one()
        leased = select(func.count()).select_from(schema.assignment).where(schema.assignment.c.state == "leased")
        return int(given or 0) - connection.execute(leased).scalar_one(), int(given or 0) + int(left or 0)


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("judgments"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


@contextmanager
def _served(store: Store, folder: Path, port: int, per_second: float) -> Iterator[str]:
    """The web page, by a thread of this process; yields its address."""
    import uvicorn

    from baro.feedback.server.app import create_app
    from baro.feedback.server.serve import listen

    app = create_app(store, files=folder, per_second=per_second, burst=int(10 * per_second))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, ws="none"))
    listening = listen("127.0.0.1", port)
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
        more = range(len(known), config.overlap if config.raters is None else config.raters)
        known += [people.add_rater(connection, project.id, lang=config.lang) for _ in more]
        return [people.invite(connection, rater_id) for rater_id in known]

    with _served(store, folder, config.port, per_second=20) as address, _bar() as bar:
        links = [f"{address}/join#{token}" for token in store.write(invited)]
        for link in links:
            log.info("open once, one for each person: %s", link)
        if config.open_page and not webbrowser.open(links[0]):
            log.warning("no browser could be opened here; open the link above yourself")
        done, wanted = _counts(store)
        shown = bar.add_task("judgments", total=wanted, completed=done)
        complete_for = 0.0
        while complete_for < UNDO_SECONDS:
            time.sleep(POLL_SECONDS)
            done, wanted = _counts(store)
            with store.read() as connection:
                state = state_of(connection, project.id)
            if state == "ended":
                log.info("the project was ended; what was judged is written")
                return
            over = state == "open" and (done >= wanted or _nobody_can(store, project))
            complete_for = complete_for + POLL_SECONDS if over else 0.0
            bar.update(shown, completed=done, total=wanted)


def _nobody_can(store: Store, project: Project) -> bool:
    """Nobody holds a task, and what is left was skipped by everybody who could take it."""
    assignment, rater, task = schema.assignment, schema.rater, schema.task
    with store.read() as connection:
        if connection.execute(select(assignment.c.id).where(assignment.c.state == "leased").limit(1)).first():
            return False
        active = connection.execute(select(rater.c.id).where(rater.c.active)).scalars().all()
        left = (select(task.c.id).where(available(one, project.id)).limit(1) for one in active)
        return all(connection.execute(query).first() is None for query in left)


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
            task = _next(clients[who])
            idle = 0 if task else idle + 1
            if task:
                clients[who].submit(task, crowd.answer(who, task), ui_version="simulated")
                bar.advance(shown)
            who = (who + 1) % crowd.count
        for client in clients:
            client.close()


def _next(client: Any) -> Any:
    """The next task; None after the project's end. A pause is waited out."""
    while True:
        try:
            return client.next(PROJECT)
        except Refused as refused:
            if refused.code == "ended":
                return None
            if refused.code != "paused":
                raise
        time.sleep(POLL_SECONDS)


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
    """The records of what was judged, of a ranking and of safety its pairs as well, and the figures."""
    import json

    from baro.data.files import write_rows
    from baro.feedback.panel import agreement
    from baro.files import write_atomic

    settings = ExportSettings(labels=config.labels, expand=config.expand)
    with store.read() as connection:
        found = rows_of(connection, project, FORM_OF[config.kind], settings)
        pairs = rows_of(connection, project, "pairs", settings) if config.kind in ("rank", "pair", "safety") else []
        told = agreement(connection, project)
        how = selection_of(connection)
    shown = {} if config.choose is None else how
    write_rows(run.records, without_ids(found, shown))
    write_rows(run.path / PAIRS, without_ids(pairs, shown))
    done, _ = _counts(store)
    at_random = sum(one["policy"] == "random" for one in how.values())
    named = {"judgments": done, "rows": len(found), "pairs": len(pairs)}
    named |= {"random_tasks": at_random, "chosen_tasks": len(how) - at_random}
    figures = [{"name": name, "value": float(n), "low": None, "high": None, "n": None} for name, n in named.items()]
    write_atomic(run.path / "figures.json", json.dumps(figures, ensure_ascii=False, indent=1, allow_nan=False))
    write_atomic(run.path / "agreement.json", json.dumps(finite(told), ensure_ascii=False, indent=1, allow_nan=False))
