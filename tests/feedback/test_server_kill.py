"""The server dies by SIGKILL while people work, and starts again: what it acknowledged is in the store, once."""

import json
import random
import signal
import socket
import threading
import time
from collections import Counter

import httpx2
import pytest
from feedback.store_work import any_answer, broken, set_up
from forks import BARO, Forks
from sqlalchemy import select

from baro.feedback import people, schema
from baro.feedback.client import Client
from baro.feedback.database import Store

RATERS = 4
LONGEST_WAIT = 0.1  # between two attempts of a client: nobody thinks here


class Server:
    """`baro feedback serve` on one port, again and again."""

    def __init__(self, forks, where):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.forks, self.where = forks, where

    def start(self):
        words = ["feedback", "serve", "--store", self.where, "--port", self.port]
        self.process = self.forks.start(BARO, *words)

    def kill(self):
        """SIGKILL; False if it had died of something else."""
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def check(self):
        assert self.process.poll() is None, self.process.errors[-3000:]


class Wire(httpx2.HTTPTransport):
    """What one rater's client sends, and what comes back: every attempt of every judgment."""

    def __init__(self):
        super().__init__()
        self.sent, self.told = Counter(), {}  # attempts by key; (status, reply) by key
        self.keys, self.answers = {}, {}  # of an assignment, of a key
        self.cut_off = set()  # keys whose attempt got no answer from a server that was there

    def handle_request(self, request):
        if not request.url.path.endswith("/judgment"):
            return super().handle_request(request)
        body = json.loads(request.content)
        key, assignment = body["key"], request.url.path.split("/")[-2]
        self.sent[key] += 1
        self.keys.setdefault(assignment, set()).add(key)
        assert self.answers.setdefault(key, body["answer"]) == body["answer"]
        try:
            response = super().handle_request(request)
            response.read()
        except httpx2.TransportError as error:
            if not isinstance(error, httpx2.ConnectError):
                self.cut_off.add(key)
            raise
        if response.status_code in (200, 201):
            self.told[key] = (response.status_code, json.loads(response.content))
        return response


class Person(threading.Thread):
    """A rater who works without a pause until told to stop; what cannot be sent is sent again."""

    def __init__(self, address, token, who, stop):
        super().__init__(name=f"rater {who}")
        self.wire, self.stop, self.draw = Wire(), stop, random.Random(who)
        self.failed, self.ran_out = None, False
        patient = {"attempts": 2000, "pause": lambda seconds: time.sleep(min(seconds, LONGEST_WAIT))}
        self.client = Client(address, token, transport=self.wire, **patient)

    def run(self):
        try:
            with self.client:
                while not self.stop.is_set():
                    task = self.client.next("colours")
                    if task is None:
                        self.ran_out = True
                        return
                    self.client.submit(task, any_answer("pair", 2, self.draw))
        except Exception as error:
            self.failed = error


def acknowledged(crowd):
    return sum(len(one.wire.told) for one in crowd)


def killed(forks, address, times, tasks, seed):
    """Kill the server so many times under load; then count."""
    store = Store.open(address)
    made, raters = store.write(lambda c: set_up(c, prompts=tasks, overlap=2, raters=RATERS))
    tokens = [store.write(lambda c, one=one: people.open_session(c, one.id, kind="api")) for one in raters]
    server, stop, draw = Server(forks, address), threading.Event(), random.Random(seed)
    crowd = [Person(f"http://127.0.0.1:{server.port}", token, who, stop) for who, token in enumerate(tokens)]
    server.start()
    by_kill = 0
    try:
        for one in crowd:
            one.start()
        for turn in range(times + 1):
            before, until = acknowledged(crowd), time.monotonic() + 600
            while acknowledged(crowd) <= before:  # they went on by themselves
                server.check()
                assert time.monotonic() < until, [one.failed for one in crowd]
                time.sleep(0.002)
            time.sleep(draw.random() * 0.4)
            if turn < times:
                by_kill += server.kill()
                server.start()
    finally:
        stop.set()
        for one in crowd:
            one.join(60)
        server.kill()
    assert by_kill == times
    assert [(one.failed, one.ran_out) for one in crowd] == [(None, False)] * RATERS
    return counted(store, made, crowd) | {"kills": by_kill}


def counted(store, made, crowd):
    """What was acknowledged, beside what is in the store."""
    store.check()
    with store.read() as connection:
        rows = connection.execute(select(schema.judgment)).all()
        said = {row.judgment_id: row for row in connection.execute(select(schema.judged_pair))}
        wrong = broken(connection, made.id) + broken(connection)
    store.close()
    stored = {row.idempotency_key: row for row in rows}
    sent, told, answers = ({}, {}, {})
    for one in crowd:
        assert all(len(keys) == 1 for keys in one.wire.keys.values())  # one key an answer, however often it was sent
        sent, told, answers = sent | one.wire.sent, told | one.wire.told, answers | one.wire.answers
    lost = [key for key, (_, reply) in told.items() if key not in stored or stored[key].id != reply["judgment"]]
    other = [key for key in stored if not same(answers[key], said[stored[key].id])]
    cut_off = set().union(*(one.wire.cut_off for one in crowd))
    return {
        "acknowledged": len(told),
        "lost": len(lost),
        "doubled": len(rows) - len({(row.task_id, row.rater_id) for row in rows}) + len(rows) - len(stored),
        "other answers": len(other),
        "stored": len(rows),
        "sent again": sum(number > 1 for number in sent.values()),
        "cut off": len(cut_off),
        "told only after the kill": sum(status == 200 for status, _ in told.values()),
        "never acknowledged": len(set(sent) - set(told)),
        "wrong": wrong,
    }


def same(answer, row):
    """Whether a row says what was sent."""
    choice = {"position": None, "strength": 0} | answer["choice"]
    return all(choice[name] == getattr(row, name) for name in ("outcome", "position", "strength"))


def check(told):
    figures = {name: told[name] for name in ("lost", "doubled", "other answers", "never acknowledged", "wrong")}
    assert figures == {"lost": 0, "doubled": 0, "other answers": 0, "never acknowledged": 0, "wrong": []}
    assert told["stored"] == told["acknowledged"] > told["kills"]
    assert told["sent again"] > 0


def test_what_the_server_acknowledged_outlives_its_kill(forks: Forks, address: str, database: str):
    check(killed(forks, address, {"sqlite": 3, "postgres": 2}[database], 400, 0))


@pytest.mark.slow
def test_what_the_server_acknowledged_outlives_a_hundred_kills(forks: Forks, address: str):
    told = killed(forks, address, 100, 4000, 1)
    print(json.dumps(told))
    check(told)
    assert told["cut off"] > 0
