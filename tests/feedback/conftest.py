"""Stores to work on: every test that asks for `store` runs on SQLite and on PostgreSQL, each on its own fresh one."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from feedback.judging import unwaiting
from forks import Forks
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.util import LRUCache

from baro.feedback import coefficients, ids
from baro.feedback import database as database_module
from baro.feedback.database import FILE, Store

HERE = Path(__file__).parent
IMPORTED = (  # by the process that forks
    "alembic.command", "psycopg", "uvicorn.protocols.http.h11_impl", "feedback.store_work", "baro.cli",
    "baro.demo.world", "baro.feedback.collect", "baro.feedback.commands_out", "baro.feedback.commands_people",
    "baro.feedback.commands_changes", "baro.feedback.imports", "baro.feedback.migrate", "baro.feedback.server.app",
    "baro.feedback.server.serve",
)  # fmt: skip
number = count()
EVERY = {"test_processes_claim_and_submit_at_once"}  # quick on PostgreSQL with all parameters
SLOW = {  # there with any; the queries of the figures, kills and imports have other tests
    "test_a_pause_and_a_short_sitting_say_nothing", "test_an_import_that_is_killed_is_taken_up",
    "test_certainty_decides", "test_drift_in_the_course_of_a_sitting", "test_how_strongly_length_pulls",
    "test_where_all_agree_drift_is_not_certain",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the parameters of a test, PostgreSQL gets the first quickly; with the others it is slow. SQLite gets all."""
    seen = set()
    for item in items:
        given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if given.get("database") != "postgres" or item.path.parent != HERE or item.originalname in EVERY:
            continue
        if (test := (item.path, item.originalname)) in seen or item.originalname in SLOW:
            item.add_marker(pytest.mark.slow)
        seen.add(test)


def postgres_folder() -> Path:
    """Where PostgreSQL's programs are, or a skip that says what to install."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or ([Path(on_path).resolve().parent] if on_path else [])
    if not found:
        sentence = "postgresql is not installed: `make system-packages` installs what these tests want"
        if os.environ.get("BARO_REQUIRE"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found[-1]


class Cluster:
    """A PostgreSQL of our own, in a folder of its own, behind a Unix socket; root gives it to the user postgres."""

    def __init__(self, programs: Path) -> None:
        self.programs, self.folder = programs, Path(tempfile.mkdtemp(prefix="baro-postgres-"))
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            os.chown(self.folder, pwd.getpwnam(self.user).pw_uid, -1)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run([programs / "initdb", "-D", self.folder / "data", *options], **self._quiet(), check=True)
        self.start()

    def _quiet(self) -> dict[str, object]:
        nothing = subprocess.DEVNULL
        return {"user": self.user, "cwd": self.folder, "stdout": nothing, "stderr": nothing}

    def start(self) -> None:
        settings = {"listen_addresses": "", "fsync": "off", "max_connections": "150", "deadlock_timeout": "200ms"}
        settings |= {"full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off"}
        given = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        program = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *given]
        self.process = subprocess.Popen(program, **self._quiet())
        for _ in range(6000):
            ready = subprocess.run([self.programs / "pg_isready", "-h", self.folder], **self._quiet())
            if ready.returncode == 0:
                return
            time.sleep(0.05)
        pytest.fail("PostgreSQL did not start")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=600)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def run(self, statement: str) -> None:
        """One statement of an administrator's."""
        self.ask(statement)

    def ask(self, statement: str) -> list[object]:
        """The first column of its rows."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            done = connection.execute(statement)
            return [row[0] for row in done] if done.description else []


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    cluster = Cluster(postgres_folder())
    yield cluster
    cluster.stop()
    shutil.rmtree(cluster.folder)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Every store has engines of its own, each of which compiles all statements anew; here they share what is compiled.

    A dialect knows its server only after the first connection, and is shared from then on.
    """
    first: dict[str, Engine] = {}

    def sharing(made: Callable[..., Engine]) -> Callable[..., Engine]:
        def engine_of(*given: Any, **more: Any) -> Engine:
            engine = made(*given, **more)
            known = first.setdefault(engine.dialect.name, engine)
            if getattr(known.dialect, "server_version_info", None) is None:
                first[engine.dialect.name] = engine
                engine._compiled_cache = LRUCache(5000)
            else:
                engine.dialect = engine.pool._dialect = known.dialect
                engine._compiled_cache = known._compiled_cache
            return engine

        return engine_of

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_sqlite_engine", "_postgres_engine"):
            patch.setattr(database_module, name, sharing(getattr(database_module, name)))
        yield


@pytest.fixture(autouse=True)
def resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few draws for an interval, which most tests do not look at; a module whose tests do overrides this."""
    monkeypatch.setattr(coefficients, "RESAMPLES", 20)


@pytest.fixture(scope="session")
def postgres_template(postgres: Cluster) -> str:
    """A database with our tables, for others to be copied from."""
    postgres.run("CREATE DATABASE baro_template")
    Store.open(postgres.url("baro_template"), create=True).close()
    return "baro_template"


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """An empty PostgreSQL database."""
    name = f"baro_{next(number)}"
    postgres.run(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    Store.open(folder, create=True).close()
    return folder / FILE


class OneForAll:
    """A database for test after test, and a store whose connections stay; after a test its rows are deleted.

    Making a database, connecting and planning take longer than most tests.
    """

    LARGE = 8 << 20  # bytes more than when it was empty, from which files are made anew

    def __init__(self, url: str):
        self.url, self.store = url, Store.open(url)
        self.tables = inspect(self.store._writer).get_table_names()
        with self.store.read() as connection:
            rows = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in self.tables}
            self.bytes = self._bytes(connection)
        self.kept = {name: [tuple(row) for row in found] for name, found in rows.items() if found}

    def _bytes(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def clear(self) -> None:
        with self.store._writer.begin() as connection:
            large = self._bytes(connection) > self.bytes + self.LARGE
            emptied = [f"DELETE FROM {name}" for name in self.tables]
            whole = [f"TRUNCATE {', '.join(self.tables)}"]
            restarts = "SELECT setval(format('%I.%I', schemaname, sequencename), 1, false) FROM pg_sequences"
            rules = "SET LOCAL session_replication_role = replica"  # neither triggers nor references
            connection.exec_driver_sql("; ".join([rules, *(whole if large else emptied)]))
            connection.exec_driver_sql(restarts.replace("%", "%%"))
            for name, rows in self.kept.items():
                places = ", ".join(["%s"] * len(rows[0]))
                connection.exec_driver_sql(f"INSERT INTO {name} VALUES ({places})", rows)


@pytest.fixture(scope="session")
def one_for_all(postgres: Cluster, postgres_template: str) -> Iterator[OneForAll]:
    postgres.run(f"CREATE DATABASE baro_all TEMPLATE {postgres_template}")
    made = OneForAll(postgres.url("baro_all"))
    yield made
    made.store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Which of the two a test runs on."""
    return request.param


@pytest.fixture
def address(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a fresh store is that has its tables."""
    if database == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / FILE)
        yield str(tmp_path)
        return
    shared = request.getfixturevalue("one_for_all")
    yield shared.url
    shared.clear()


@pytest.fixture
def store(address: str, database: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A fresh store, open."""
    if database == "postgres":
        yield request.getfixturevalue("one_for_all").store
        return
    opened = unwaiting(Store.open(address))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts programs that need import nothing."""
    made = Forks(tmp_path_factory.mktemp("forks"), IMPORTED)
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """Call it with milliseconds, and the store's clock goes on by so many; it stands still otherwise."""
    now = [1_800_000_000_000]

    def forward(ms: int) -> int:
        now[0] += ms
        return now[0]

    monkeypatch.setattr(ids, "now_ms", lambda: now[0])
    return forward
