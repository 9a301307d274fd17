"""Large files of judgments: they go in by parts, between which raters work; what was cut short is taken up again."""

from __future__ import annotations

import json
import signal
import time

import pytest
from feedback.judging import Desk
from forks import BARO
from sqlalchemy import func, select

from baro.feedback import assign, imports, schema
from baro.feedback.derive import votes_of

PART = 10  # so that small files have many parts as well


def many(tmp_path, rows):
    path = tmp_path / "many.jsonl"
    lines = [json.dumps({"prompt": f"q{i}", "chosen": "a", "rejected": "b"}) for i in range(rows)]
    path.write_text("\n".join(lines))
    return path


class Import:
    """``baro feedback import`` as a process of its own; ``part``: rows of one transaction."""

    def __init__(self, forks, address, path, part=PART):
        words = ["feedback", "import", "demo", path, "--format", "plain", "--store", address]
        self.process = forks.start(f"from baro.feedback import imports\nimports.AT_ONCE = {part}\n{BARO}", *words)

    def started(self, store):
        """Wait until some of it is in the store; how much."""
        while not (count := stored(store)):
            assert self.process.poll() is None, self.process.errors
            time.sleep(0.01)
        return count


def stored(store):
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()


def test_an_import_that_is_killed_is_taken_up(forks, address, store, tmp_path):
    desk, path, rows = Desk(store), many(tmp_path, 100), 100
    running = Import(forks, address, path)
    running.started(store)
    running.process.kill()
    assert running.process.wait() == -signal.SIGKILL
    there = stored(store)
    assert 0 < there < rows
    assert there % PART == 0
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


@pytest.mark.parametrize(
    ("rows", "part"), [(150, PART), pytest.param(600, imports.AT_ONCE, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_raters_work_while_a_file_is_imported(forks, address, store, tmp_path, rows, part):
    desk = Desk(store)
    for i in range(6):
        desk.task("pair", f"ours {i}", ["x", "y"], overlap=1)
    ann, waits, started = desk.rater("ann"), [], time.monotonic()
    running = Import(forks, address, many(tmp_path, rows), part)
    running.started(store)
    for _ in range(3):
        begun = time.monotonic()
        assert store.write(lambda c: assign.claim(c, ann, desk.project)) is not None
        waits.append(time.monotonic() - begun)
    assert running.process.poll() is None, "it ended too early to tell anything"
    assert stored(store) < rows
    assert running.process.wait() == 0, running.process.errors
    assert max(waits) < (time.monotonic() - started) / 2, waits  # some of a dozen parts, however slow the machine
    assert f"{rows} judgments added, 0 known" in running.process.output


def test_two_imports_at_once_add_everything_once(forks, address, store, tmp_path):
    desk, path = Desk(store), many(tmp_path, 60)
    running = [Import(forks, address, path) for _ in range(2)]
    assert [one.process.wait() for one in running] == [0, 0], [one.process.errors for one in running]
    with store.read() as connection:
        assert len(votes_of(connection, desk.project.id).pairs) == 60
        assert connection.execute(select(func.count()).select_from(schema.task)).scalar_one() == 60
