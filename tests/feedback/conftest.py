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

import pytest
from feedback.judging import unwaiting

from baro.feedback import ids
from baro.feedback.database import FILE, Store

number = count()


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
        for _ in range(600):
            ready = subprocess.run([self.programs / "pg_isready", "-h", self.folder], **self._quiet())
            if ready.returncode == 0:
                return
            time.sleep(0.05)
        pytest.fail("PostgreSQL did not start")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=60)

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
    template, cluster = request.getfixturevalue("postgres_template"), request.getfixturevalue("postgres")
    name = f"baro_{next(number)}"
    cluster.run(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield cluster.url(name)
    cluster.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """A fresh store, open."""
    opened = unwaiting(Store.open(address))
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """Call it with milliseconds, and the store's clock goes on by so many; it stands still otherwise."""
    now = [1_800_000_000_000]

    def forward(ms: int) -> int:
        now[0] += ms
        return now[0]

    monkeypatch.setattr(ids, "now_ms", lambda: now[0])
    return forward
