"""How long a claim and a submission take in a store with many tasks: `python -m benchmarks.feedback_store --help`.

One JSON line for each case; times are milliseconds of one transaction, in one process, as a rater's request needs it.

    import     prompts, answers and tasks are put in; seconds in all, and the highest memory of the process
    fresh      a rater who has done nothing yet
    far        a rater who has done so many of the tasks that wait for a second judgment, and must pass them by
    nothing    the same rater when nothing is left for them
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import insert, select, text

from baro.feedback import assign, ids, judge, people, project, schema, view
from baro.feedback.answers import Submission
from baro.feedback.database import Store
from baro.feedback.people import Rater
from baro.feedback.project import Project
from baro.feedback.settings import ProjectSettings
from baro.records import Message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a new folder or an empty PostgreSQL database; a temporary folder by default")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--done", type=int, default=20_000, help="what the rater of `far` has done")
    parser.add_argument("--times", type=int, default=200, help="how often each is measured")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(given.store or folder, create=True)
        measure(store, given)
        store.close()


def measure(store: Store, given: argparse.Namespace) -> None:
    """Every case, in order."""
    say = Sayer("postgresql" if store.is_postgres else "sqlite", given.tasks)
    made = fill(store, given.tasks, say)
    cycle(store, made, add_rater(store, made), given.times, "fresh", say)
    far = add_rater(store, made)
    pass_by(store, made, far, given.done)
    if store.is_postgres:
        store.write(lambda connection: connection.execute(text("ANALYZE")))
    cycle(store, made, far, given.times, "far", say, done=given.done)
    pass_by(store, made, far, given.tasks)
    say("claim", "nothing", times(lambda _: store.write(lambda c: assign.claim(c, far, made)), 20))
    say("progress", "nothing", times(lambda _: progress(store, far, made), 20))


class Sayer:
    """Prints a line for a case."""

    def __init__(self, database: str, tasks: int) -> None:
        self.always = {"database": database, "tasks": tasks}

    def __call__(self, what: str, case: str, found: list[float], **more: Any) -> None:
        ordered = sorted(found)
        told = {"median_ms": statistics.median(ordered), "p95_ms": ordered[int(len(ordered) * 0.95)]}
        rounded = {key: round(value, 2) for key, value in told.items()}
        print(json.dumps(self.always | {"what": what, "case": case} | rounded | more), flush=True)


def times(work: Callable[[int], Any], how_often: int) -> list[float]:
    """Milliseconds of each call."""
    found = []
    for turn in range(how_often):
        start = time.perf_counter()
        work(turn)
        found.append((time.perf_counter() - start) * 1000)
    return found


def fill(store: Store, tasks: int, say: Sayer) -> Project:
    """A project with a pair for each prompt."""
    settings = ProjectSettings(repeat_fraction=0, gold_fraction=0)
    made = store.write(lambda connection: project.create_project(connection, "benchmark", settings))

    def answers(connection: Any) -> None:
        model = project.add_generation(connection, made.id, "model", {})
        for i in range(tasks):
            prompt_id, _ = project.add_prompt(connection, made.id, (Message("user", f"question {i}"),), "benchmark")
            for j in range(2):
                project.add_response(connection, prompt_id, model, f"answer {i} {j} " * 20)

    for what, work in (("prompts", answers), ("tasks", lambda c: project.make_tasks(c, made, "pair"))):
        (ms,) = times(lambda _, work=work: store.write(work), 1)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        say(what, "import", [ms], memory_mb=memory)
    return made


def add_rater(store: Store, made: Project) -> Rater:
    rater_id = store.write(lambda connection: people.add_rater(connection, made.id))
    return Rater(rater_id, "", "ko")


def cycle(store: Store, made: Project, rater: Rater, how_often: int, case: str, say: Sayer, **more: Any) -> None:
    """Claim, count what is left, submit."""
    leases: list[assign.Lease] = []

    def claim(_: int) -> None:
        leases.append(store.write(lambda connection: assign.claim(connection, rater, made)))

    def submit(turn: int) -> None:
        lease = leases[-1]
        choice = {"outcome": "win", "position": turn % 2}
        raw = {"lease": lease.secret, "key": ids.new_id(), "answer": {"kind": "pair", "choice": choice}}
        given = Submission.model_validate(raw)
        store.write(lambda connection: judge.submit(connection, lease.assignment_id, rater.id, given))

    claims, submits, counts = [], [], []
    for turn in range(how_often):
        claims += times(claim, 1)
        if turn % 10 == 0:
            counts += times(lambda _: progress(store, rater, made), 1)
        submits += times(lambda _, turn=turn: submit(turn), 1)
    say("claim", case, claims, **more)
    say("submit", case, submits, **more)
    say("progress", case, counts, **more)


def progress(store: Store, rater: Rater, made: Project) -> dict[str, int]:
    with store.read() as connection:
        return view.progress(connection, rater.id, made.id)


def pass_by(store: Store, made: Project, rater: Rater, how_many: int) -> None:
    """Give the rater so many submitted assignments of the tasks that come first, without the work."""
    task, assignment = schema.task, schema.assignment

    def work(connection: Any) -> None:
        here = assign.available(rater.id, made.id)
        query = select(task.c.id).where(here).order_by(task.c.priority.desc(), task.c.order_key).limit(how_many)
        found = list(connection.execute(query).scalars())
        row = {"rater_id": rater.id, "purpose": "judge", "state": "submitted", "display_order": [0, 1]}
        row |= {"lease_sha256": "", "leased_ms": 0, "expires_ms": 0, "closed_ms": 0}
        for start in range(0, len(found), 10_000):
            chunk = found[start : start + 10_000]
            connection.execute(insert(assignment), [row | {"id": ids.new_id(), "task_id": one} for one in chunk])
            connection.execute(task.update().where(task.c.id.in_(chunk)).values(places=task.c.places - 1))

    store.write(work)


if __name__ == "__main__":
    main()
