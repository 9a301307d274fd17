"""Connections to PostgreSQL: few, waited for, and enough."""

import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from feedback.serving import serving
from sqlalchemy import text
from typer.testing import CliRunner

from baro.errors import BackendError, ConfigError
from baro.feedback import database
from baro.feedback.commands import app
from baro.feedback.database import Store

SEVEN = text("SELECT 7")


@pytest.mark.parametrize("pool", [None, 1, 3])
def test_a_process_has_no_more_connections_than_its_pool(postgres_url: str, monkeypatch, pool: int | None):
    """Who comes later waits, and is told when there is none in time; nothing goes beyond the pool."""
    monkeypatch.setattr(database, "BUSY_MS", 300)
    store = Store.open(postgres_url, create=True, pool=pool)
    most = 8 if pool is None else pool
    waited: list[int] = []
    waiting = threading.Thread(target=lambda: waited.append(store.write(lambda c: c.execute(SEVEN).scalar())))
    with ExitStack() as held:
        for _ in range(most):
            assert held.enter_context(store.read()).execute(SEVEN).scalar() == 7
        with pytest.raises(BackendError, match="too many want to use the database"), store.read():
            pass
        monkeypatch.setattr(store._writer.pool, "_timeout", 10)
        waiting.start()
    waiting.join(10)
    assert waited == [7]
    with store.read() as connection:
        here = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert connection.execute(here).scalar() == most
    store.close()


def test_one_connection_is_enough(postgres_url: str, tmp_path: Path, monkeypatch):
    """Nothing holds a connection and asks for another, which would wait for itself."""
    monkeypatch.setattr(database, "BUSY_MS", 2_000)
    with serving(Store.open(postgres_url, create=True, pool=1), tmp_path) as site:
        task = site.next()
        assert site.submit(task, {"kind": "pair", "choice": {"outcome": "tie"}}).status_code == 201
        for path in ("progress", "agreement", "bias", "raters", "tasks", "events"):
            assert site.ask("manager", "GET", f"/api/manage/projects/colours/{path}").status_code == 200, path


def test_a_folder_has_no_pool(tmp_path: Path):
    Store.open(tmp_path, create=True).close()
    with pytest.raises(ConfigError, match="pool is for PostgreSQL"):
        Store.open(tmp_path, pool=4)
    refused = CliRunner().invoke(app, ["serve", "--store", str(tmp_path), "--pool", "4"])
    assert refused.exit_code != 0


@pytest.mark.slow
def test_four_servers_and_160_raters_at_once(postgres_url: str):
    """Each used to take up to sixty connections of PostgreSQL's hundred, and every third request was a 503.

    What such a want refuses, it refuses at once. On a loaded machine who has waited for BUSY_MS in vain is refused as
    well, and asks again.
    """
    command = [sys.executable, "-m", "benchmarks.feedback_load", "--store", postgres_url, "--servers", "4"]
    command += ["--raters", "160", "--judgments", "3", "--think", "0", "0", "--accidents", "0", "--lease", "1800"]
    command += ["--patience", "600"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["accidents"].get("unanswered", 0) == 0
    assert {what for what in found["accidents"] if what.startswith("status")} <= {
        "status 503 to next", "status 503 to judgment"
    }  # fmt: skip
    assert all(seconds >= 0.9 * database.BUSY_MS / 1000 for seconds in found["refused_after_seconds"])
    assert (found["lost"], found["doubled"], found["tasks_with_another_overlap"]) == (0, 0, 0)
    assert found["acknowledged"] == found["stored"] == 480
