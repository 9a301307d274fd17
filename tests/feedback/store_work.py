"""People at work on a store, and what must hold of it after every step.

Also a script for forks.py, whose process has imported everything and has one thread, so that it may be forked again:

    race ADDRESS PROCESSES      each process claims and submits until nothing is left, every answer twice
    kill ADDRESS TIMES SEED     a process that works is killed with SIGKILL, so many times; then everything is counted
"""

import json
import os
import random
import select as polling
import signal
import sys
import time
from collections import defaultdict
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, select

from baro.feedback import assign, criteria, judge, people, project, schema
from baro.feedback.answers import Submission
from baro.feedback.assign import Lease
from baro.feedback.database import Store
from baro.feedback.people import Rater
from baro.feedback.project import Project
from baro.feedback.settings import ProjectSettings
from baro.records import Message

SCALE = {"key": "clear", "labels": {}, "low": 1, "high": 5}
LIVE = ("leased", "submitted")  # hold a place


def set_up(
    connection: Connection,
    name: str = "colours",
    *,
    prompts: int = 5,
    answers: int = 2,
    kind: str = "pair",
    raters: int = 3,
    **settings: Any,
) -> tuple[Project, list[Rater]]:
    """A project with a task for each prompt, and raters; no hidden repeats and no known answers unless asked for."""
    given = {"repeat_fraction": 0.0, "gold_fraction": 0.0} | settings
    made = project.create_project(connection, name, ProjectSettings.model_validate(given))
    for i in range(prompts):
        prompt_id, _ = project.add_prompt(connection, made.id, (Message("user", f"question {i}"),), "test")
        for j in range(answers):
            generation = project.add_generation(connection, made.id, f"model-{j}", {})
            project.add_response(connection, prompt_id, generation, f"answer {i} {j}")
    if kind == "criteria":
        criteria.set_criteria(connection, made, [SCALE], "test")
    size = answers if kind == "rank" else None
    project.make_tasks(connection, made, kind, size=size)
    people_ = [people.add_rater(connection, made.id) for _ in range(raters)]
    return made, [Rater(one, one, "ko") for one in people_]


def any_answer(kind: str, items: int, draw: random.Random) -> dict[str, Any]:
    """Some answer to a task."""
    choice = {"outcome": "win", "position": draw.randrange(2), "strength": draw.randrange(4)}
    match kind:
        case "pair":
            tie = {"outcome": draw.choice(["tie", "both_bad", "unsure"])}
            return {"kind": kind, "choice": draw.choice([choice, choice, tie])}
        case "rank":
            levels = [draw.randrange(items) for _ in range(items)]
            dense = {level: i + 1 for i, level in enumerate(sorted(set(levels)))}
            left_out = draw.randrange(items) if items > 2 and draw.random() < 0.3 else None
            ranks = [dense[level] for level in levels]
            if left_out is not None and ranks.count(ranks[left_out]) > 1:
                ranks[left_out] = None
            return {"kind": kind, "ranks": ranks}
        case "thumb":
            return {"kind": kind, "thumbs": [{"good": draw.random() < 0.5, "reasons": ["꼼꼼함"]}] * items}
        case "safety":
            marks = [{"safe": True}, {"safe": False, "severity": 2, "categories": ["violence"]}]
            safer = {"outcome": "win", "position": 0}
            return {"kind": kind, "marks": marks, "helpful": choice, "safer": safer}
        case "criteria":
            return {"kind": kind, "scores": {"clear": [draw.choice([1, 5, None]) for _ in range(items)]}}
    return {"kind": "edit", "text": f"better {draw.random()}", "critique": "too short"}


def submission(lease: Lease, key: str, answer: dict[str, Any], **more: Any) -> Submission:
    return Submission.model_validate({"lease": lease.secret, "key": key, "answer": answer, **more})


def task_of(connection: Connection, assignment_id: str) -> Any:
    """The task of an assignment, with how many responses it shows."""
    assignment, task = schema.assignment, schema.task
    row = connection.execute(select(task).join(assignment).where(assignment.c.id == assignment_id)).one()
    items = connection.execute(select(schema.task_item).where(schema.task_item.c.task_id == row.id)).all()
    return row, len(items)


def work(store: Store, rater: Rater, made: Project, draw: random.Random, key: str) -> dict[str, Any] | None:
    """Claim a task and submit an answer; what was stored, None when nothing is left."""
    lease = store.write(lambda connection: assign.claim(connection, rater, made))
    if lease is None:
        return None
    with store.read() as connection:
        task, items = task_of(connection, lease.assignment_id)
    given = submission(lease, key, any_answer(task.kind, items, draw), comment=f"because {key}")
    done = store.write(lambda connection: judge.submit(connection, lease.assignment_id, rater.id, given))
    again = store.write(lambda connection: judge.submit(connection, lease.assignment_id, rater.id, given))
    assert done.new
    assert not again.new
    assert done.judgment_id == again.judgment_id
    return {
        "key": key,
        "judgment": done.judgment_id,
        "rater": rater.id,
        "task": task.id,
        "assignment": lease.assignment_id,
    }


# ------------------------------------------------------------------------------------------------ what must always hold


class Rows:
    """The rows of a project's tasks, or of the whole store; each table is read once."""

    def __init__(self, connection: Connection, project_id: str | None):
        self.connection, self.project_id = connection, project_id
        self._read: dict[str, list[Any]] = {}

    def of(self, table: Any) -> list[Any]:
        if table.name not in self._read:
            given = {} if self.project_id is None else {"project": self.project_id}
            self._read[table.name] = list(self.connection.execute(_query(table, bool(given)), given))
        return self._read[table.name]

    def by_task(self, table: Any) -> dict[str, list[Any]]:
        return _by_task(self.of(table))


@cache
def _query(table: Any, of_project: bool) -> Any:
    """Made once, since making it takes longer than asking it."""
    event, judgment, task = schema.event, schema.judgment, schema.task
    query = select(table)
    if table is event:
        query = query.where(event.c.entity == "judgment", event.c.action != "redact")
    elif table is schema.withdrawal:
        query = query.order_by(table.c.event_id)
    if not of_project:
        return query
    if "project_id" in table.c:
        return query.where(table.c.project_id == bindparam("project"))
    tasks = select(task.c.id).where(task.c.project_id == bindparam("project"))
    if table is event:
        return query.where(event.c.entity_id.in_(select(judgment.c.id).where(judgment.c.task_id.in_(tasks))))
    return query.where(table.c.task_id.in_(tasks))


def _by_task(rows: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.task_id].append(row)
    return found


def broken(connection: Connection, project_id: str | None = None) -> list[str]:
    """Every sentence is an invariant that does not hold."""
    facts = Rows(connection, project_id)
    return [
        sentence for one in (_places, _revisions, _orders, _answers, _events, _withdrawn) for sentence in one(facts)
    ]


def _places(facts: Rows) -> Any:
    assignments = facts.by_task(schema.assignment)
    for task in facts.of(schema.task):
        here = assignments[task.id]
        held = [one for one in here if one.purpose == "judge" and one.state in LIVE]
        if not assign.counted(task):
            if task.places != 0:
                yield f"{task.id} stands beside the queue and has {task.places} places"
        elif task.places != task.overlap - len(held) or len(held) > task.overlap:
            yield f"{task.id} wants {task.overlap}, {len(held)} hold a place, {task.places} are said to be free"
        raters = [one.rater_id for one in here if one.state not in schema.GIVEN_UP]
        if len(set(raters)) < len(raters):
            yield f"{task.id} is in the hands of one rater twice"
        if task.reserved_for and {one.rater_id for one in here} - {task.reserved_for}:
            yield f"{task.id} is a repeat for one rater, and another has it"


def _revisions(facts: Rows) -> Any:
    judgments: dict[str, list[Any]] = defaultdict(list)
    for row in sorted(facts.of(schema.judgment), key=lambda row: row.revision):
        judgments[row.assignment_id].append(row)
    for one in facts.of(schema.assignment):
        here = judgments[one.id]
        if [row.revision for row in here] != list(range(1, len(here) + 1)):
            yield f"{one.id} has the revisions {[row.revision for row in here]}"
        counts = bool(here) and here[-1].action != "retract"
        if counts != (one.state in ("submitted", "extra")):
            yield f"{one.id} is {one.state}, its last judgment is {here[-1].action if here else None}"


def _orders(facts: Rows) -> Any:
    tasks = {row.id: row for row in facts.of(schema.task)}
    items = facts.by_task(schema.task_item)
    assignments = facts.by_task(schema.assignment)
    for task_id, here in assignments.items():
        here = sorted(here, key=lambda row: row.id)
        orders = {row.rater_id: tuple(row.display_order) for row in here}
        if any(sorted(row.display_order) != list(range(len(items[task_id]))) for row in here):
            yield f"{task_id} is shown in {orders}, not all permutations"
        if any(tuple(row.display_order) != orders[row.rater_id] for row in here):
            yield f"{task_id} is shown to a rater in two orders"
        first = tasks[task_id].repeat_of
        if first is not None:
            (before,) = {tuple(row.display_order) for row in assignments[first] if row.rater_id in orders}
            if {before[::-1]} != set(orders.values()):
                yield f"{task_id} is a repeat, and not mirrored"
        elif len(orders) == 2 and len(items[task_id]) > 1 and not any(row.state in schema.GIVEN_UP for row in here):
            one, other = orders.values()
            if one != other[::-1]:
                yield f"{task_id} is shown to two raters as {one} and {other}"


def _answers(facts: Rows) -> Any:
    """A choice names the response that stood where was clicked; a rank is for every response."""
    items = facts.by_task(schema.task_item)
    orders = {row.id: row.display_order for row in facts.of(schema.assignment)}
    said: dict[str, list[Any]] = defaultdict(list)
    for table in (schema.judged_pair, schema.judged_rank):
        for row in facts.of(table):
            said[row.judgment_id].append(row)
    for judgment in facts.of(schema.judgment):
        rows, slots = said[judgment.id], {row.slot: row.response_id for row in items[judgment.task_id]}
        if judgment.action == "retract" or judgment.kind not in ("pair", "rank"):
            if rows:
                yield f"{judgment.id} takes back, and says something"
        elif judgment.kind == "rank":
            if sorted(row.response_id for row in rows) != sorted(slots.values()):
                yield f"{judgment.id} ranks {len(rows)} of {len(slots)} responses"
        else:
            (row,) = rows
            if row.position is not None and row.winner_id != slots[orders[judgment.assignment_id][row.position]]:
                yield f"{judgment.id} says another response than was clicked"


def _events(facts: Rows) -> Any:
    logged = {row.id: row for row in facts.of(schema.event)}
    rows = sorted(facts.of(schema.judgment), key=lambda row: row.event_id)
    for row in rows:
        if row.event_id not in logged or logged[row.event_id].entity_id != row.id:
            yield f"{row.id} is not what event {row.event_id} tells"
    by_task = _by_task(rows)
    for here in by_task.values():
        for one in {row.assignment_id for row in here}:
            revisions = [row.revision for row in here if row.assignment_id == one]
            if revisions != sorted(revisions):
                yield f"{one}: events do not ascend with revisions"
    if len(logged) != len(rows):
        yield f"{len(logged)} events tell of {len(rows)} judgments"


def _withdrawn(facts: Rows) -> Any:
    """The queue's mark is what the newest facts say, and nobody has in hand what counts no more."""
    newest: dict[str, bool] = {}
    for row in facts.of(schema.withdrawal):
        newest[row.task_id or row.prompt_id] = row.withdrawn
    removed = {row.entity_id for row in facts.of(schema.redaction)}
    items = facts.by_task(schema.task_item)
    leased = {row.task_id for row in facts.of(schema.assignment) if row.state == "leased"}
    for task in facts.of(schema.task):
        gone = any(newest.get(one, False) for one in (task.id, task.prompt_id, task.repeat_of))
        gone |= not removed.isdisjoint({task.prompt_id, *(row.response_id for row in items[task.id])})
        if gone != task.withdrawn:
            yield f"{task.id} is marked {task.withdrawn}, and the facts say {gone}"
        if gone and task.id in leased:
            yield f"{task.id} counts no more, and somebody has it"
    for row in facts.of(schema.prompt):
        if row.id in removed and all(turn["content"] != "[removed]" for turn in row.messages):
            yield f"{row.id} was removed, and can be read"


# --------------------------------------------------------------------------------------------------------- as a script


def _worker(address: str, index: int, out: int, seed: int) -> None:
    """What one forked process does: work as one of the raters, and tell of every answer once it was acknowledged."""
    store = Store.open(address)
    with store.read() as connection:
        (name,) = connection.execute(select(schema.project.c.name)).scalars()
        made = project.get_project(connection, name)
        everybody = list(connection.execute(select(schema.rater.c.id).order_by(schema.rater.c.id)).scalars())
    rater = Rater(everybody[index % len(everybody)], "", "ko")
    draw = random.Random(f"{seed} {index}")
    turn = 0
    while (told := work(store, rater, made, draw, f"key-{seed}-{index}-{turn:06d}")) is not None:
        os.write(out, (json.dumps(told) + "\n").encode())
        turn += 1
    store.close()


def _fork(address: str, index: int, out: int, seed: int) -> int:
    if (pid := os.fork()) == 0:
        code = 1
        try:
            _worker(address, index, out, seed)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def race(address: str, processes: str) -> None:
    """Print what every process was told, a line each; the pipe's writes are whole lines."""
    sys.stdout.flush()
    children = [_fork(address, index, 1, 0) for index in range(int(processes))]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    sys.exit(any(codes))


def kill(address: str, times: str, seed: str) -> None:
    """Print the keys that were acknowledged before each SIGKILL, and what does not hold afterwards."""
    draw = random.Random(seed)
    acknowledged: list[dict[str, Any]] = []
    killed = 0
    for turn in range(int(times)):
        reads, writes = os.pipe()
        children = [_fork(address, index, writes, turn) for index in range(2)]
        os.close(writes)
        said = b""
        quiet = polling.select([reads], [], [], 300)  # until the first answer, then a random while longer
        assert quiet[0], "the worker does nothing"
        time.sleep(draw.random() * 0.2)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        while more := os.read(reads, 1 << 16):
            said += more
        os.close(reads)
        acknowledged += [json.loads(line) for line in said.decode().splitlines()]
    store = Store.open(address)
    store.check()
    with store.read() as connection:
        stored = dict(connection.execute(select(schema.judgment.c.idempotency_key, schema.judgment.c.id)).all())
        wrong = broken(connection)
    lost = [one["key"] for one in acknowledged if stored.get(one["key"]) != one["judgment"]]
    store.close()
    told = {"killed": killed, "acknowledged": len(acknowledged), "stored": len(stored), "lost": lost, "wrong": wrong}
    print(json.dumps(told))


def script(command: str, *arguments: str) -> None:
    {"race": race, "kill": kill}[command](*arguments)
