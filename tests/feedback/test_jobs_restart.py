"""The server ends while answers are drawn, and starts again: what is at work, what has ended, what was cut short."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback.serving import error_of, serving
from feedback.test_server_jobs import FAKE
from forks import Fork, Forks
from sqlalchemy import select

from baro.feedback import project, schema
from baro.feedback.database import FILE, Store
from baro.feedback.project import get_project
from baro.feedback.refusals import Refused
from baro.feedback.server.detached import Detached
from baro.feedback.server.jobs import Draw, Jobs
from baro.records import Message

SERVER = """
import time
from baro.feedback.server import jobs
from feedback.test_jobs_restart import Place
place, dies_at = Place(sys.argv[1]), int(sys.argv[2])
entered, add = [], jobs.add_response
def add_response(*given, **more):
    entered.append(1)
    if len(entered) == dies_at:
        place.die()
    return add(*given, **more)
jobs.add_response, jobs.AT_ONCE = add_response, 2
work = place.jobs()
work.open()
print(*(place.start(work, seed) for seed in range(2)), flush=True)
time.sleep(600)
"""


class Place:
    """A store, a policy that waits while its gate is shut, and whoever works on its jobs."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.store = Store.open(self.folder)
        self.gate = self.folder / "good" / "wait"

    def jobs(self) -> Jobs:
        command = (sys.executable, str(self.folder / "fake.py"))
        return Jobs(self.store, self.folder / "jobs", {"good": str(self.folder / "good")}, command)

    def start(self, jobs: Jobs, seed: int) -> str:
        with self.store.read() as connection:
            made = get_project(connection, "colours")
            query = select(schema.prompt.c.id, schema.prompt.c.messages).order_by(schema.prompt.c.id)
            prompts = [(row.id, row.messages) for row in connection.execute(query)]
        return jobs.start(made, [Draw(policy="good", n=3, seed=seed)], prompts, "test")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def answers(self) -> list[str]:
        with self.store.read() as connection:
            return sorted(connection.execute(select(schema.response.c.text)).scalars())

    def process(self, job: str) -> Detached:
        return Detached(self.folder / "jobs" / job / "process-0.lock", self.folder / "nothing")


@pytest.fixture
def place(sqlite_template: Path, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "good").mkdir()
    made = Place(tmp_path)
    made.gate.touch()

    def fill(connection: Any) -> None:
        colours = project.create_project(connection, "colours")
        for i in range(2):
            project.add_prompt(connection, colours.id, (Message("user", f"question {i}"),), "test")

    made.store.write(fill)
    yield made
    made.gate.unlink(missing_ok=True)
    made.store.close()


@contextlib.contextmanager
def server(forks: Forks, place: Place, dies_at: int = 0) -> Iterator[tuple[Fork, list[str]]]:
    """A server of its own with two jobs; it is killed at the latest when this ends."""
    running = forks.start(SERVER, place.folder, dies_at)
    try:
        until(lambda: running.output.endswith("\n") or running.poll() is not None)
        yield running, running.output.split()
    finally:
        running.kill()
        running.wait()


@contextlib.contextmanager
def working(place: Place) -> Iterator[Jobs]:
    """This process as the next server."""
    jobs = place.jobs()
    jobs.open()
    try:
        yield jobs
    finally:
        jobs.close()


def until(condition: Callable[[], Any], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def killed_at_work(forks: Forks, place: Place) -> list[str]:
    """The first job draws, the second waits, the server is gone."""
    with server(forks, place) as (running, jobs):
        said = place.folder / "jobs" / jobs[0] / "output-0.txt"
        until(lambda: said.exists() and b"generate ---" in said.read_bytes())
        assert place.jobs().get(jobs[0]).state == "running"
        running.kill()
        running.wait()
    return jobs


EXPECTED = sorted([f"drawn {i} of {seed}" for i in range(3) for seed in range(2)] * 2)


def test_what_is_still_at_work_is_followed(forks: Forks, place: Place):
    first, second = killed_at_work(forks, place)
    with working(place) as jobs:
        until(lambda: jobs.get(first).to_json()["done"] == 3)  # half of them, by its bar
        assert [jobs.get(one).state for one in (first, second)] == ["running", "queued"]
        assert place.answers() == []
        place.gate.unlink()
        until(lambda: jobs.get(second).state == "done")
        told = jobs.get(first).to_json()
    assert (told["state"], told["done"], told["total"], told["added"]) == ("done", 6, 6, 6)
    assert json.loads(told["log_tail"][0])[0] == "generate"
    assert len(told["log_tail"]) == 1
    assert place.answers() == EXPECTED
    assert place.jobs().get(first).to_json() == told  # from its folder, too


def test_what_was_finished_meanwhile_is_imported(forks: Forks, place: Place):
    first, second = killed_at_work(forks, place)
    place.gate.unlink()
    until(lambda: not place.process(first).alive)
    assert place.answers() == []
    with working(place) as jobs:
        until(lambda: jobs.get(second).state == "done")
        assert jobs.get(first).added == 6
    assert place.answers() == EXPECTED


def test_what_was_cut_short_waits_to_be_started_again(forks: Forks, place: Place):
    first, second = killed_at_work(forks, place)
    place.process(first).end()
    place.gate.unlink()
    with working(place) as jobs:
        until(lambda: jobs.get(second).state == "done")
        told = jobs.get(first).to_json()
        assert (told["state"], told["added"], len(told["log_tail"])) == ("interrupted", 0, 1)
        assert told["problem"].startswith("good: `baro generate` was cut short")
        assert set(place.answers()) == {f"drawn {i} of 1" for i in range(3)}
        jobs.again(first)
        until(lambda: jobs.get(first).state == "done")
        assert len(jobs.get(first).lines) == 2  # of the first attempt as well
        with pytest.raises(Refused, match="only one that was cut short"):
            jobs.again(first)
    assert place.answers() == EXPECTED


def test_what_an_earlier_server_has_left_is_cancelled(forks: Forks, place: Place):
    """The one that is followed, and the one behind it; the server after the next does not begin with them either."""
    first, second = killed_at_work(forks, place)
    with working(place) as jobs:
        until(lambda: jobs.get(first).to_json()["done"] == 3)
        for one in (second, first):
            jobs.cancel(one, "test")
        assert not place.process(first).alive
    place.gate.unlink()
    with working(place) as jobs:
        third = place.start(jobs, 2)
        until(lambda: jobs.get(third).state == "done")
        assert [jobs.get(one).state for one in (first, second)] == ["cancelled", "cancelled"]
    assert set(place.answers()) == {f"drawn {i} of 2" for i in range(3)}


@pytest.mark.parametrize("dies_at", [1, 2, 3, 6, 8])
def test_a_server_that_dies_while_it_imports(forks: Forks, place: Place, dies_at: int):
    """Two answers are one transaction: whatever it had entered, all is there once in the end."""
    place.gate.unlink()
    with server(forks, place, dies_at) as (running, jobs_started):
        assert running.wait() == -signal.SIGKILL
    assert len(place.answers()) == (dies_at - 1) // 2 * 2
    with working(place) as jobs:
        for one in jobs_started:
            until(lambda one=one: jobs.get(one).state == "done")
        # answers that were entered, and not yet counted when it died
        assert 12 - 2 <= sum(jobs.get(one).added for one in jobs_started) <= 12
    assert place.answers() == EXPECTED


def test_a_second_server_waits_for_the_first(place: Place):
    with working(place) as first:
        begun = place.start(first, 0)
        until(lambda: first.get(begun).state == "running")
        with working(place) as second:
            queued = place.start(second, 1)
            with pytest.raises(Refused, match="another server works on this job"):
                second.cancel(begun, "test")
            assert second.get(begun).state == "running"  # it looks on
            time.sleep(0.5)
            assert second.get(queued).state == "queued"
            assert error_of_refused(second, begun) == "conflict"
            place.gate.unlink()
            until(lambda: first.get(begun).state == "done")
            first.close()
            until(lambda: second.get(queued).state == "done")
    assert place.answers() == EXPECTED


def error_of_refused(jobs: Jobs, job: str) -> str:
    with pytest.raises(Refused) as refused:
        jobs.again(job)
    return refused.value.code


def test_stopped_in_order_and_started_again(place: Place):
    """Over HTTP: the job of a server that was stopped is listed by the next, and goes on at a manager's word."""
    with working(place) as jobs:
        cut, waiting = place.start(jobs, 0), place.start(jobs, 1)
        until(lambda: jobs.get(cut).state == "running")
    assert [place.jobs().get(one).state for one in (cut, waiting)] == ["interrupted", "queued"]
    other = Store.open(place.folder)
    other.write(lambda c: c.execute(schema.project.update().values(name="earlier")))
    with serving(other, place.folder, policies={"good": str(place.folder / "good")}) as site:
        site.app.state.jobs.command = place.jobs().command
        place.gate.unlink()
        until(lambda: site.ask("manager", "GET", f"/api/manage/jobs/{waiting}").json()["state"] == "done")
        listed = site.ask("manager", "GET", "/api/manage/projects/earlier/jobs").json()["jobs"]
        assert [(one["job"], one["state"]) for one in listed] == [(waiting, "done"), (cut, "interrupted")]
        assert site.ask("manager", "GET", "/api/manage/projects/colours/jobs").json() == {"jobs": []}
        again = site.ask("manager", "POST", f"/api/manage/jobs/{cut}/again", {})
        assert (again.status_code, again.json()["state"]) in ((200, "queued"), (200, "running"), (200, "done"))
        until(lambda: site.ask("manager", "GET", f"/api/manage/jobs/{cut}").json()["state"] == "done")
        assert error_of(site.ask("manager", "POST", f"/api/manage/jobs/{cut}/again", {})) == (409, "conflict")
        for name in ("..", "%2e%2e", "A" * 26, "../" + cut, cut.lower()):
            assert error_of(site.ask("manager", "POST", f"/api/manage/jobs/{name}/again", {}))[0] == 404


def test_a_job_of_another_version_is_left_alone(place: Place):
    with working(place) as jobs:
        place.gate.unlink()
        good = place.start(jobs, 0)
        until(lambda: jobs.get(good).state == "done")
    other = place.folder / "jobs" / f"{good[:-1]}{'0' if good[-1] != '0' else '1'}" / "job.json"
    other.parent.mkdir()
    other.write_text(json.dumps({"state": "running", "shape": "unknown"}))
    with place.store.read() as connection:
        colours = get_project(connection, "colours").id
    with working(place) as jobs:
        assert [job.folder.name for job in jobs.of(colours)] == [good]
        second = place.start(jobs, 1)
        until(lambda: jobs.get(second).state == "done")


def test_a_policy_that_the_next_server_does_not_offer(forks: Forks, place: Place):
    first, second = killed_at_work(forks, place)
    place.process(first).end()
    jobs = Jobs(place.store, place.folder / "jobs", {})
    jobs.open()
    until(lambda: jobs.get(second).state == "failed")
    assert "is no policy of this server" in (jobs.get(second).problem or "")
    jobs.close()
