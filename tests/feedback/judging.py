"""A small store with prompts, answers and raters, and judgments given to it the way the server gives them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, insert, select, update

from baro.feedback import assign, judge, people, project, schema
from baro.feedback.answers import Submission
from baro.feedback.database import FILE, Store
from baro.feedback.ids import new_id
from baro.feedback.settings import ProjectSettings
from baro.records import Message


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Store.open(folder, create=True).close()
        return (Path(folder) / FILE).read_bytes()


def unwaiting(store: Store) -> Store:
    """The same, waiting for no disk: what is on the disk after a power cut is nothing that a test sees."""
    if not store.is_postgres:
        store._writer.dispose()
        event.listen(store._writer, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return store


def new_store(folder: Path, content: bytes | None = None) -> Store:
    """A store of this content, or an empty one: a copy, since to make it takes longer than most tests. Waits for no
    disk."""
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(_empty() if content is None else content)
    return unwaiting(Store.open(folder))


class Desk:
    """A project and its raters. Raters are made when they first judge."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        given = ProjectSettings(**{"repeat_fraction": 0.0, "gold_fraction": 0.0, **settings})
        self.project = store.write(lambda c: project.create_project(c, "demo", given))
        self.raters: dict[str, people.Rater] = {}

    def do(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """A function of (connection, ...) in a transaction of its own."""
        return self.store.write(lambda c: function(c, *arguments, **named))

    def rater(self, name: str) -> people.Rater:
        if name not in self.raters:
            made = self.do(people.add_rater, self.project.id, pseudonym=name)
            self.raters[name] = people.Rater(made, name, "en")
        return self.raters[name]

    def responses(self, prompt: Any, answers: Sequence[str], models: Sequence[str] = ("m",)) -> tuple[str, list[str]]:
        """A prompt (a text or messages) with answers by models; their ids."""

        def work(c: Connection) -> tuple[str, list[str]]:
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            made, _ = project.add_prompt(
                c, self.project.id, tuple(Message(t["role"], t["content"]) for t in turns), "test"
            )
            found = []
            for i, text in enumerate(answers):
                by = project.add_generation(c, self.project.id, models[i % len(models)], {})
                found.append(project.add_response(c, made, by, text)[0])
            return made, found

        return self.store.write(work)

    def task(self, kind: str, prompt: Any, answers: Sequence[str], models: Sequence[str] = ("m",), **more: Any) -> str:
        prompt_id, ids = self.responses(prompt, answers, models)
        return self.do(project.add_task, self.project, kind, prompt_id, ids, **more)

    def say(self, rater: str, task: str, answer: dict[str, Any], **more: Any) -> str:
        """A judgment whose answer goes by slot (lists too), as if this rater had been given just this task."""
        who = self.rater(rater)
        purpose = more.pop("purpose", "judge")

        def work(c: Connection) -> str:
            row = c.execute(select(schema.task).where(schema.task.c.id == task)).one()
            lease = assign._lease(c, row, who, self.project.settings, 10**13, purpose)
            order = c.execute(
                select(schema.assignment.c.display_order).where(schema.assignment.c.id == lease.assignment_id)
            ).scalar_one()
            given = {"lease": lease.secret, "key": new_id(), "answer": by_position(answer, order), "active_ms": 60_000}
            judge.submit(c, lease.assignment_id, who.id, Submission.model_validate({**given, **more}))
            return lease.assignment_id

        return self.store.write(work)

    def again(self, rater: str, assignment: str, answer: dict[str, Any]) -> None:
        """Revise a judgment."""

        def work(c: Connection) -> None:
            lease = assign.renew_secret(c, assignment, self.project.settings)
            table = schema.assignment
            order = c.execute(select(table.c.display_order).where(table.c.id == assignment)).scalar_one()
            given = {"lease": lease.secret, "key": new_id(), "answer": by_position(answer, order)}
            judge.submit(c, assignment, self.rater(rater).id, Submission.model_validate(given))

        self.store.write(work)

    def take_back(self, rater: str, assignment: str) -> None:
        def work(c: Connection) -> None:
            lease = assign.renew_secret(c, assignment, self.project.settings)
            judge.retract(c, assignment, self.rater(rater).id, lease.secret, new_id())

        self.store.write(work)


def by_position(answer: dict[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """An answer by slot as one by position on the screen."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict) and value.get("position") is not None:
            return value | {"position": list(order).index(value["position"])}
        if isinstance(value, list) and len(value) == len(order):
            return [value[slot] for slot in order]
        if isinstance(value, dict):
            return {key: moved(one) for key, one in value.items()}
        return value

    return {key: moved(value) for key, value in answer.items()} if "text" not in answer else moved(answer)


def win(slot: int, strength: int = 0) -> dict[str, Any]:
    """The pair answer that the response in this slot is better."""
    return {"kind": "pair", "choice": {"outcome": "win", "position": slot, "strength": strength}}


def neither(outcome: str = "tie") -> dict[str, Any]:
    return {"kind": "pair", "choice": {"outcome": outcome}}


def rank(*ranks: int | None) -> dict[str, Any]:
    return {"kind": "rank", "ranks": list(ranks)}


def thumbs(*good: bool) -> dict[str, Any]:
    return {"kind": "thumb", "thumbs": [{"good": one} for one in good]}


def safety(marks: Sequence[int], helpful: int | None, safer: int | None) -> dict[str, Any]:
    """Severities by slot (0 is safe, 1 to 3 are violence), and the slots of the more helpful and the safer one."""
    given = [{"safe": s == 0, "severity": s, "categories": ["violence"] if s else []} for s in marks]
    choices = [{"outcome": "tie"} if one is None else {"outcome": "win", "position": one} for one in (helpful, safer)]
    return {"kind": "safety", "marks": given, "helpful": choices[0], "safer": choices[1]}


def many_pairs(desk: Desk, tasks: int, raters: int) -> None:
    """Two judgments of each of many tasks, put into the tables at once: for measuring."""

    desk_ids = [desk.rater(f"r{i}").id for i in range(raters)]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for t in range(tasks):
        prompt, task = f"p{t:06}", f"t{t:06}"
        pair = [f"{task}a", f"{task}b"]
        common = {"project_id": desk.project.id, "created_ms": 1}
        rows["prompt"].append(
            common | {"id": prompt, "messages": [{"role": "user", "content": f"question {t}"}], "sha256": prompt}
            | {"source": "test", "extra": {}}
        )  # fmt: skip
        for one in pair:
            rows["response"].append(
                {"id": one, "prompt_id": prompt, "author": "human", "text": one, "finished": True, "sha256": one}
                | {"created_ms": 1}
            )  # fmt: skip
        rows["task"].append(
            common | {"id": task, "prompt_id": prompt, "kind": "pair", "overlap": 2, "first_overlap": 2, "places": 0}
            | {"priority": 0, "order_key": task, "open": True, "is_gold": False, "policy": "random", "propensity": 1.0}
        )  # fmt: skip
        rows["task_item"] += [{"task_id": task, "slot": s, "response_id": one} for s, one in enumerate(pair)]
        for k in range(2):
            rater, n = desk_ids[(t + k * (1 + t % (raters - 1))) % raters], 2 * t + k
            here = {"task_id": task, "rater_id": rater}
            winner = (t * 7 + k * (t % 5 == 0)) % 2
            rows["assignment"].append(
                here | {"id": f"a{n:07}", "purpose": "judge", "state": "submitted", "display_order": [k, 1 - k]}
                | {"lease_sha256": "", "leased_ms": 1, "expires_ms": 2, "closed_ms": 2}
            )  # fmt: skip
            rows["event"].append(
                {"id": 1_000_000 + n, "at_ms": n, "actor": rater, "action": "submit", "entity": "judgment"}
                | {"entity_id": f"j{n:07}", "details": {}}
            )  # fmt: skip
            rows["judgment"].append(
                here | {"id": f"j{n:07}", "assignment_id": f"a{n:07}", "revision": 1, "action": "submit"}
                | {"idempotency_key": f"key{n:07}", "kind": "pair", "ui_version": "", "opened_ms": 1}
                | {"submitted_ms": n, "active_ms": 5000, "changes": 0, "comment": "", "flags": []}
                | {"event_id": 1_000_000 + n}
            )  # fmt: skip
            rows["judged_pair"].append(
                {"judgment_id": f"j{n:07}", "task_id": task, "winner_id": pair[winner], "dimension": "overall"}
                | {"outcome": "win", "strength": 0, "position": 0 if winner == k else 1}
            )  # fmt: skip

    def store(c: Connection) -> None:
        for name, values in rows.items():
            c.execute(insert(schema.metadata.tables[name]), values)

    desk.store.write(store)


TABLES = ("prompt", "response", "task", "task_item", "event", "assignment", "judgment", "judged_pair")


def make_gold(desk: Desk, task: str, answer: dict[str, Any]) -> None:
    """Give a task a known answer, by slot."""
    here = schema.task.c.id == task
    desk.do(lambda c: c.execute(update(schema.task).where(here).values(is_gold=True, gold_answer=answer, places=0)))
