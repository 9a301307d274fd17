"""Large files of judgments: they go in by parts, between which raters work; what was cut short is taken up again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

from feedback.judging import Desk
from sqlalchemy import func, select

from baro.feedback import assign, imports, schema
from baro.feedback.derive import votes_of


def many(tmp_path, rows):
    path = tmp_path / "many.jsonl"
    lines = [json.dumps({"prompt": f"q{i}", "chosen": "a", "rejected": "b"}) for i in range(rows)]
    path.write_text("\n".join(lines))
    return path


class Import:
    """``baro feedback import`` as a process of its own."""

    def __init__(self, address, path):
        command = [sys.executable, "-m", "baro", "feedback", "import", "demo", path, "--format", "plain"]
        self.process = subprocess.Popen(
            [*command, "--store", address], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def started(self, store):
        """Wait until some of it is in the store; how much."""
        while not (count := stored(store)):
            assert self.process.poll() is None, self.process.stdout.read().decode()
            time.sleep(0.01)
        return count


def stored(store):
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()


def test_an_import_that_is_killed_is_taken_up(address, store, tmp_path):
    desk, path, rows = Desk(store), many(tmp_path, 400), 400
    running = Import(address, path)
    running.started(store)
    running.process.kill()
    assert running.process.wait() == -signal.SIGKILL
    running.process.stdout.close()
    there = stored(store)
    assert 0 < there < rows
    assert there % imports.AT_ONCE == 0
    done = imports.import_file(store, desk.project, path, "plain")
    assert (done.judgments, done.known, done.ledger.dropped) == (rows - there, there, [])
    again = imports.import_file(store, desk.project, path, "plain")
    assert (again.judgments, again.known, again.tasks) == (0, rows, 0)
    with store.read() as connection:
        pairs = votes_of(connection, desk.project.id).pairs
        assert len({pair.judgment.task.id for pair in pairs}) == len(pairs) == rows
        for table in (schema.task, schema.assignment, schema.prompt):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == rows
        assert connection.execute(select(func.count()).select_from(schema.rater)).scalar_one() == 1
        assert set(connection.execute(select(schema.task.c.places)).scalars()) == {0}


def test_raters_work_while_a_file_is_imported(address, store, tmp_path):
    desk = Desk(store)
    for i in range(6):
        desk.task("pair", f"ours {i}", ["x", "y"], overlap=1)
    ann, waits = desk.rater("ann"), []
    running = Import(address, many(tmp_path, 600))
    running.started(store)
    for _ in range(3):
        begun = time.monotonic()
        assert store.write(lambda c: assign.claim(c, ann, desk.project)) is not None
        waits.append(time.monotonic() - begun)
    assert running.process.poll() is None, "it ended too early to tell anything"
    assert stored(store) < 600
    assert max(waits) < 2, waits  # a transaction of 50 rows; all at once would be 3 to 10 seconds
    told, _ = running.process.communicate(timeout=120)
    assert running.process.returncode == 0, told.decode()
    assert "600 judgments added, 0 known" in told.decode()


def test_two_imports_at_once_add_everything_once(address, store, tmp_path):
    desk, path = Desk(store), many(tmp_path, 150)
    running = [Import(address, path) for _ in range(2)]
    told = [one.process.communicate(timeout=120)[0].decode() for one in running]
    assert [one.process.returncode for one in running] == [0, 0], told
    with store.read() as connection:
        assert len(votes_of(connection, desk.project.id).pairs) == 150
        assert connection.execute(select(func.count()).select_from(schema.task)).scalar_one() == 150
