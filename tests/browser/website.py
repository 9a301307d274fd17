"""The feedback server on a port of this machine, and projects to put before raters; for the tests and for sheet.py."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
from feedback.judging import unwaiting
from sqlalchemy import Connection, select

from baro.feedback import people, project, schema
from baro.feedback.client import Client
from baro.feedback.criteria import set_criteria, shipped_criteria
from baro.feedback.database import Store
from baro.feedback.project import Project
from baro.feedback.server.app import create_app
from baro.feedback.server.serve import listen
from baro.feedback.settings import ProjectSettings
from baro.records import Message

MODEL = "zz-secret-model-7b"  # must never reach a rater
KINDS = ("pair", "rank", "thumb", "safety", "criteria", "edit")
SHOWN = {"pair": 2, "rank": 4, "thumb": 1, "safety": 2, "criteria": 1, "edit": 1}
PLAIN = {"repeat_fraction": 0, "gold_fraction": 0, "overlap": 1}
number = count(1)


@dataclass
class Person:
    """Somebody with a session."""

    id: str
    token: str


class Work:
    """A project of its own on a website: what one test puts into it, no other sees."""

    def __init__(self, store: Store, name: str, project_: Project) -> None:
        self.store, self.name, self.project = store, name, project_
        self.tasks: list[str] = []

    def add(
        self,
        kind: str,
        answers: Sequence[str] | None = None,
        *,
        question: str | Sequence[tuple[str, str]] | None = None,
        models: Iterable[str] = (),
        finished: bool = True,
        **options: Any,
    ) -> str:
        """A task, before all that come later. Without texts it gets some of its own."""
        at = len(self.tasks)
        texts = [f"answer {at}.{slot}" for slot in range(SHOWN[kind])] if answers is None else answers
        turns = [("user", question or f"question {at}")] if isinstance(question, str | None) else question
        names = [*models] or [MODEL]

        def work(c: Connection) -> str:
            messages = tuple(Message(role, content) for role, content in turns)
            prompt_id, _ = project.add_prompt(c, self.project.id, messages, "test")
            made = []
            for slot, text in enumerate(texts):
                generation = project.add_generation(c, self.project.id, names[slot % len(names)], {"run": slot})
                made.append(project.add_response(c, prompt_id, generation, text, finished=finished)[0])
            return project.add_task(c, self.project, kind, prompt_id, made, **{"priority": 900 - at, **options})

        self.tasks.append(self.store.write(work))
        return self.tasks[-1]

    def criteria(self, keys: Sequence[str] = ("correctness", "overall")) -> None:
        """Criteria that come with Baro."""
        chosen = shipped_criteria(keys)
        self.store.write(lambda c: set_criteria(c, self.project, chosen, "test"))

    def guideline(self, body: str, lang: str = "en") -> None:
        """A guideline's next version."""
        self.store.write(lambda c: project.publish_guideline(c, self.project, lang, body, "test"))

    def invite(self, **options: Any) -> tuple[str, str]:
        """A rater and the secret of their invitation."""

        def work(c: Connection) -> tuple[str, str]:
            made = people.add_rater(c, self.project.id, **{"lang": "en", **options})
            return made, people.invite(c, made)

        return self.store.write(work)

    def rater(self, **options: Any) -> Person:
        """A rater who is signed in."""

        def work(c: Connection) -> Person:
            made = people.add_rater(c, self.project.id, **{"lang": "en", **options})
            return Person(made, people.open_session(c, made))

        return self.store.write(work)

    def judgments(self, *columns: Any) -> list[Any]:
        """Rows of judgments in the order of their commits, with the assignment's and the task's columns to join."""
        query = select(*(columns or (schema.judgment,))).select_from(schema.judgment).join(
            schema.assignment, schema.judgment.c.assignment_id == schema.assignment.c.id
        ).join(schema.task, schema.task.c.id == schema.judgment.c.task_id)  # fmt: skip
        here = schema.task.c.project_id == self.project.id
        with self.store.read() as c:
            return list(c.execute(query.where(here).order_by(schema.judgment.c.event_id)))

    def actions(self) -> list[str]:
        """What was done, in order."""
        return [row.action for row in self.judgments()]

    def said(self, table: Any, *columns: Any) -> list[tuple[Any, ...]]:
        """Rows of a table of answers, in the order of their judgments."""
        chosen = columns or tuple(one for one in table.c if one.name not in ("judgment_id", "task_id"))
        query = select(*chosen).join(schema.judgment, table.c.judgment_id == schema.judgment.c.id)
        query = query.join(schema.task, schema.judgment.c.task_id == schema.task.c.id)
        here = schema.task.c.project_id == self.project.id
        with self.store.read() as c:
            return [tuple(row) for row in c.execute(query.where(here).order_by(schema.judgment.c.event_id))]

    def responses(self) -> dict[str, str]:
        """Every response's text by its id."""
        query = select(schema.response.c.id, schema.response.c.text).join(schema.prompt)
        with self.store.read() as c:
            return {row.id: row.text for row in c.execute(query.where(schema.prompt.c.project_id == self.project.id))}


def new_work(store: Store, settings: Mapping[str, Any]) -> Work:
    """A new project."""
    name = settings.get("name") or f"project-{next(number)}"
    given = ProjectSettings(**{**PLAIN, **{key: value for key, value in settings.items() if key != "name"}})
    return Work(store, name, store.write(lambda c: project.create_project(c, name, given)))


class Website:
    """The application behind uvicorn, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, unwaiting(Store.open(folder, create=True))
        self.app = create_app(self.store, files=folder, hosts=("127.0.0.1",), per_second=1e6, burst=10**6)
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, log_level="error", ws="none", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()

    def work(self, **settings: Any) -> Work:
        """A project of its own."""
        return new_work(self.store, settings)

    def manager(self, lang: str = "en") -> Person:
        """A manager who is signed in."""

        def work(c: Connection) -> Person:
            made = people.add_rater(c, None, role="manager", lang=lang)
            return Person(made, people.open_session(c, made))

        return self.store.write(work)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.socket.close()


class Process:
    """``baro feedback serve`` as a process that can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder, create=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.child: subprocess.Popen[str] | None = None

    def work(self, **settings: Any) -> Work:
        """A project of its own."""
        return new_work(self.store, settings)

    def start(self) -> None:
        """Returns once it listens."""
        command = [sys.executable, "-m", "baro", "feedback", "serve", "--store", self.folder, "--port", str(self.port)]
        self.child = subprocess.Popen(
            [*map(str, command)], stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        assert self.child.stderr is not None
        told = []
        for line in self.child.stderr:
            told.append(line)
            if "startup complete" in line:
                # what it logs must not fill the pipe
                self.reader = threading.Thread(target=self.child.stderr.read, daemon=True)
                self.reader.start()
                return
        raise AssertionError("the server did not start: " + "".join(told))

    def signal(self, what: int) -> None:
        assert self.child is not None
        self.child.send_signal(what)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.child is not None:
            self.child.kill()
            self.child.wait(20)
            self.reader.join(20)
            self.child.stderr.close()
            self.child = None

    def stop(self) -> None:
        self.kill()
        self.store.close()


# ----------------------------------------------------------------------------------------------------- what it can show

KOREAN = (
    "보상 모델은 비교로 학습합니다. 사람이 한 질문에 대한 두 답변을 보고 어느 쪽이 더 나은지 고르면, "
    "모델은 더 나은 답변에 더 높은 점수를 주도록 배웁니다. "
    "비교가 충분히 쌓이면 아무도 평가하지 않은 답변에서도 사람의 판단과 비슷한 점수를 냅니다."
)
ENGLISH = (
    "A reward model is trained on comparisons: a person sees two answers to one question and says which is better. The "
    "model learns to give the better one a higher score, and with enough comparisons its scores agree with people."
)
MARKDOWN = """
```python
def loss(chosen, rejected):
    return -logsigmoid(chosen - rejected).mean()  # the better answer should score higher
```

| method | needs | $\\beta$ |
|:--|:--|--:|
| PPO | a reward model | 0.05 |
| DPO | pairs | 0.10 |

- It holds that $\\sigma(x) = \\frac{1}{1 + e^{-x}}$.
- See [the paper](https://example.com/paper?a=1&b=2).
"""
QUESTION = {
    "en": [
        ("user", "What is a reward model?"),
        ("assistant", "A model that gives a text a score."),
        ("user", "And why are two answers compared, instead of scoring one? Show the loss as code."),
    ],
    "ko": [
        ("user", "보상 모델이 무엇인가요?"),
        ("assistant", "글에 점수를 매기는 모델입니다."),
        ("user", "점수를 매기지 않고 두 답변을 비교하는 까닭은 무엇인가요? 손실 함수를 코드로 보여 주세요."),
    ],
}
GUIDELINE = {
    "en": "## What a good answer is\n\nIt answers the question, is true, and polite.\n\n- First check the facts.",
    "ko": "## 좋은 답변이란\n\n질문에 바로 답하고, 사실과 맞고, 정중한 답변입니다.\n\n- 사실을 먼저 확인해 주세요.",
}


def sample_texts(kind: str, lang: str) -> list[str]:
    """Answers of usual length for one task."""
    one, other = (KOREAN, ENGLISH) if lang == "ko" else (ENGLISH, KOREAN)
    texts = [one, one.split(".")[0] + ".\n" + MARKDOWN, f"{one}\n\n{other}", one[: len(one) // 2] + "…"]
    return texts[: SHOWN[kind]]


def answer_to(task: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    """An answer that somebody might give."""
    shown = len(task["responses"])
    better = 0 if "beta" in task["responses"][0]["text"] else 1
    side = better if draw.random() < 0.7 else 1 - better
    win = {"outcome": "win", "position": side, "strength": draw.randint(0, 3)}
    match task["kind"]:
        case "pair":
            choice = win if draw.random() < 0.9 else {"outcome": "tie", "position": None, "strength": 0}
            return {"kind": "pair", "choice": choice}
        case "rank":
            return {"kind": "rank", "ranks": draw.sample(range(1, shown + 1), shown)}
        case "thumb":
            return {"kind": "thumb", "thumbs": [{"good": draw.random() < 0.7, "reasons": []} for _ in range(shown)]}
        case "safety":
            harm = {"safe": False, "severity": draw.randint(1, 3), "categories": ["privacy_violation"]}
            marks = [{"safe": True, "severity": 0, "categories": []}] * 2
            if draw.random() < 0.5:
                marks[1 - side] = harm
            return {"kind": "safety", "marks": marks, "helpful": win, "safer": win}
        case "criteria":
            scores = {one["key"]: [draw.randint(2, 5) for _ in range(shown)] for one in task["criteria"]}
            return {"kind": "criteria", "scores": scores}
    return {"kind": "edit", "position": 0, "text": None, "critique": "Too short.", "spans": []}


def judge(site: Website, work: Work, raters: int = 2, **more: Any) -> None:
    """Every task by so many raters, each with the first answer there is."""
    for _ in range(raters):
        with Client(site.url, work.rater().token) as client:
            while (task := client.next(work.name)) is not None:
                client.submit(task, answer_to(task, random.Random(0)), active_ms=60_000, **more)
