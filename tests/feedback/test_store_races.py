"""Many processes at once: overlaps are exact, nothing is lost and nothing doubled; and what a SIGKILL leaves."""

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from functools import partial

import pytest
from feedback.store_work import any_answer, broken, set_up, submission
from psycopg import OperationalError
from sqlalchemy import select

from baro.errors import BackendError
from baro.feedback import assign, judge, schema
from baro.feedback.database import Store

LEFT = {"kind": "pair", "choice": {"outcome": "win", "position": 0}}


def script(forks, *arguments):
    done = forks.start("from feedback.store_work import script\nscript(*sys.argv[1:])", *arguments)
    assert done.wait(1200) == 0, done.errors
    return [json.loads(line) for line in done.output.splitlines()]


@pytest.mark.parametrize(
    ("tasks", "overlap", "processes"),
    [pytest.param(24, 3, 6, id="many"), pytest.param(1, 1, 6, id="the last place", marks=pytest.mark.slow)],
)
def test_processes_claim_and_submit_at_once(forks, address, tasks, overlap, processes):
    store = Store.open(address)
    store.write(lambda c: set_up(c, prompts=tasks, overlap=overlap, raters=processes))
    store.close()
    told = script(forks, "race", address, processes)
    store = Store.open(address)
    with store.read() as connection:
        stored = connection.execute(select(schema.judgment)).all()
        assert broken(connection) == []
    store.check()
    store.close()
    assert {row.id for row in stored} == {one["judgment"] for one in told}
    assert len(stored) == len(told) == tasks * overlap
    assert set(Counter(row.task_id for row in stored).values()) == {overlap}
    assert len({(row.task_id, row.rater_id) for row in stored}) == tasks * overlap
    assert [row.revision for row in stored] == [1] * tasks * overlap


def together(*work):
    """Run each in a thread of its own, begun at the same moment; what they returned."""
    start, found = threading.Barrier(len(work)), [None] * len(work)

    def run(place, one):
        start.wait()
        found[place] = one()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(work)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


def test_the_same_key_at_once_is_one_judgment(store, address):
    """As when a browser sends again before the first attempt was answered; two stores are as two processes."""
    made, raters = store.write(lambda c: set_up(c, prompts=10, overlap=1))
    other = Store.open(address)

    def twice(work, *given):
        found = together(*[lambda one=one: one.write(lambda c: work(c, *given)) for one in (store, other)])
        assert sorted(one.new for one in found) == [False, True]
        assert found[0].judgment_id == found[1].judgment_id

    for turn in range(10):
        lease = store.write(lambda c: assign.claim(c, raters[0], made))
        mine = (lease.assignment_id, raters[0].id)
        twice(judge.submit, *mine, submission(lease, f"key-same-{turn}", any_answer("pair", 2, random.Random(turn))))
        twice(judge.retract, *mine, lease.secret, f"key-back-{turn}")
        twice(judge.submit, *mine, submission(lease, f"key-again-{turn}", any_answer("pair", 2, random.Random(turn))))
    other.close()
    with store.read() as connection:
        assert broken(connection) == []


def test_two_windows_of_one_rater_get_one_task(store, address):
    made, raters = store.write(lambda c: set_up(c, prompts=10, overlap=2))
    other = Store.open(address)
    claim = partial(assign.claim, rater=raters[0], project=made)
    for turn in range(10):
        found = together(partial(store.write, claim), partial(other.write, claim))
        assert found[0].assignment_id == found[1].assignment_id
        with store.read() as connection:
            held = connection.execute(select(schema.assignment.c.id).where(schema.assignment.c.state == "leased")).all()
        assert len(held) == 1
        lease = store.write(claim)
        given = submission(lease, f"key-window-{turn}", LEFT)
        store.write(partial(judge.submit, assignment_id=lease.assignment_id, rater_id=raters[0].id, given=given))
    other.close()


def test_nobody_is_told_that_nothing_is_left_while_something_is(store, address):
    """Both places of the only task are asked for at once: each gets one."""
    other = Store.open(address)
    for turn in range(10):
        made, raters = store.write(partial(set_up, name=f"project-{turn}", prompts=1, overlap=2, raters=2))
        claims = [partial(assign.claim, rater=rater, project=made) for rater in raters]
        assert None not in together(partial(store.write, claims[0]), partial(other.write, claims[1]))
    other.close()
    with store.read() as connection:
        assert broken(connection) == []


def killed(forks, address, times, seed):
    store = Store.open(address)
    store.write(lambda c: set_up(c, prompts=3000 if times > 20 else 400, overlap=2, raters=2))
    store.close()
    (told,) = script(forks, "kill", address, times, seed)
    assert told["killed"] == 2 * times
    assert told["acknowledged"] >= times
    assert (told["lost"], told["wrong"]) == ([], [])
    return told


def test_what_was_acknowledged_outlives_a_kill(forks, address):
    killed(forks, address, 5, 0)


@pytest.mark.slow
def test_what_was_acknowledged_outlives_a_hundred_kills(forks, address):
    print(killed(forks, address, 100, 1))


def more(acknowledged, refusals):
    """Until some more answers are acknowledged, beside those that were under way."""
    before, until = len(acknowledged), time.monotonic() + 600
    while len(acknowledged) <= before + 5:
        assert time.monotonic() < until, refusals[-3:]
        time.sleep(0.05)


def kill_one(postgres, name):
    """A backend; PostgreSQL then ends all others and recovers, and returns once that is over.

    Its entry among the activities stays until then, and nobody can connect meanwhile.
    """
    backends = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    pids, until = asked(postgres, backends), time.monotonic() + 600
    subprocess.run(["kill", "-9", str(pids[0])], check=True)
    while pids[0] in asked(postgres, backends):
        assert time.monotonic() < until
        time.sleep(0.05)


def asked(postgres, statement):
    """What the server answers, once it does."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        try:
            if found := postgres.ask(statement):
                return found
        except OperationalError:
            pass
        time.sleep(0.05)
    pytest.fail("PostgreSQL did not recover")


def kill_all(postgres):
    """The server with every process; it is stopped first, so that it makes none while they are counted."""
    postgres.process.send_signal(signal.SIGSTOP)
    command = ["pgrep", "-P", str(postgres.process.pid)]
    children = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["kill", "-9", str(postgres.process.pid), *children], check=False)
    postgres.process.wait()
    (postgres.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
    postgres.start()


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["a backend", "the server"])
def test_postgres_is_killed_under_work(postgres, postgres_template, whole):
    """Its processes die by SIGKILL while people work; what was acknowledged is there, and work goes on."""
    name = f"baro_killed_{whole}".lower()
    postgres.run(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = on")  # off in other tests, which kill no server
    store = Store.open(postgres.url(name))
    made, raters = store.write(lambda c: set_up(c, prompts=4000, overlap=1, raters=2))
    acknowledged, stop, refusals = {}, threading.Event(), []

    def person(who):
        draw, turn = random.Random(who), 0
        while not stop.is_set():
            turn += 1
            try:
                lease = store.write(lambda c: assign.claim(c, raters[who], made))
                given = submission(lease, f"key-{who}-{turn:06d}", any_answer("pair", 2, draw))
                done = store.write(lambda c: judge.submit(c, lease.assignment_id, raters[who].id, given))  # noqa: B023
                acknowledged[given.key] = done.judgment_id
            except BackendError as error:
                refusals.append(str(error))
                time.sleep(0.05)

    threads = [threading.Thread(target=person, args=(who,)) for who in range(2)]
    for one in threads:
        one.start()
    try:
        for _ in range(3):
            more(acknowledged, refusals)
            kill_all(postgres) if whole else kill_one(postgres, name)
            more(acknowledged, refusals)
    finally:
        stop.set()
        for one in threads:
            one.join()
    with store.read() as connection:
        stored = dict(connection.execute(select(schema.judgment.c.idempotency_key, schema.judgment.c.id)).all())
        assert broken(connection) == []
    store.close()
    assert acknowledged.items() <= stored.items()
    assert refusals
    assert all("cannot be used now" in one for one in refusals)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")
