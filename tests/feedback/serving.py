"""A server over a store, with people of every role in two projects, for tests that speak HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feedback.judging import unwaiting
from sqlalchemy import Connection
from starlette.testclient import TestClient

from baro.feedback import criteria, people, project
from baro.feedback.database import Store
from baro.feedback.project import Project
from baro.feedback.server.app import create_app
from baro.feedback.settings import ProjectSettings
from baro.records import Message

MODEL = "zz-secret-model-7b"  # must never reach a rater
CRITERIA = [
    {"key": "overall", "labels": {"en": {"name": "Overall"}}, "low": 1, "high": 5},
    {"key": "clear", "labels": {"en": {"name": "Clear"}}, "low": 0, "high": 4},
]
ANSWERS: dict[str, dict[str, Any]] = {
    "pair": {"kind": "pair", "choice": {"outcome": "win", "position": 0, "strength": 2}},
    "rank": {"kind": "rank", "ranks": [2, 1, 2]},
    "thumb": {"kind": "thumb", "thumbs": [{"good": True, "reasons": ["꼼꼼함"]}]},
    "safety": {
        "kind": "safety",
        "marks": [{"safe": True, "severity": 0, "categories": []},
                  {"safe": False, "severity": 2, "categories": ["violence"]}],
        "helpful": {"outcome": "tie", "position": None, "strength": 0},
        "safer": {"outcome": "win", "position": 0, "strength": 1},
    },
    "criteria": {"kind": "criteria", "scores": {"clear": [0], "overall": [None]}},
    "edit": {"kind": "edit", "position": 0, "text": "better", "critique": "too short",
             "spans": [{"start": 0, "end": 3, "note": "why"}]},
}  # fmt: skip
SIZES = {"rank": 3, "pair": 2, "safety": 2}


class Site:
    """The server, and everybody's tokens."""

    def __init__(self, store: Store, folder: Path, kind: str = "pair", prompts: int = 6, **options: Any):
        self.store, self.kind = store, kind
        self.tokens: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.project: Project = store.write(lambda connection: self._fill(connection, prompts))
        given = {"per_second": 1e6, "burst": 10**6} | options
        self.app = create_app(store, files=folder, hosts=("localhost", "testserver"), **given)

    def _fill(self, connection: Connection, prompts: int) -> Project:
        settings = ProjectSettings(repeat_fraction=0, gold_fraction=0)
        made = project.create_project(connection, "colours", settings)
        other = project.create_project(connection, "elsewhere", settings)
        criteria.set_criteria(connection, made, CRITERIA, "test")
        for i in range(prompts):
            prompt_id, _ = project.add_prompt(connection, made.id, (Message("user", f"question **{i}**"),), "test")
            for j in range(3):
                generation = project.add_generation(connection, made.id, MODEL, {"run": j})
                project.add_response(connection, prompt_id, generation, f"answer {i} {j}")
        project.make_tasks(connection, made, self.kind, size=SIZES.get(self.kind))
        project.publish_guideline(connection, made, "ko", "# 안내\n\n잘 읽어 주세요.", "test")
        for name, role, where in (("rater", "rater", made), ("second", "rater", made), ("stranger", "rater", other),
                                  ("settler", "adjudicator", made), ("manager", "manager", None)):  # fmt: skip
            self.ids[name] = people.add_rater(connection, where and where.id, role=role, pseudonym=name)
            self.tokens[name] = people.open_session(connection, self.ids[name], kind="api")
        return made

    def tell(self, name: str | None) -> dict[str, str]:
        """The headers of a program."""
        return {"Authorization": f"Bearer {self.tokens[name]}"} if name else {}

    def ask(self, who: str | None, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """A request of somebody's."""
        headers = self.tell(who)
        if body is not None:
            headers |= {"Content-Type": "application/json"}
            options["content"] = json.dumps(body)  # with escapes, so that halves of characters travel
        return self.http.request(method, path, headers=headers, follow_redirects=False, **options)

    def next(self, who: str = "rater") -> Any:
        """Somebody's next task."""
        return self.ask(who, "POST", "/api/projects/colours/next", {}).json()

    def submit(self, task: Any, answer: Any = None, who: str = "rater", key: str = "key-00000001", **more: Any) -> Any:
        """Send an answer."""
        body = {"lease": task["lease"], "key": key, "answer": answer or ANSWERS[task["kind"]], **more}
        return self.ask(who, "POST", f"/api/assignments/{task['assignment']}/judgment", body)


@contextmanager
def serving(store: Store, folder: Path, **options: Any) -> Iterator[Site]:
    """A site that answers."""
    site = Site(unwaiting(store), folder, **options)
    # a failing server answers as it would outside of tests
    site.http = TestClient(site.app, base_url="http://localhost", raise_server_exceptions=False)
    with site.http:
        yield site


def error_of(response: Any) -> tuple[int, str]:
    """The status and code of a refusal."""
    return response.status_code, json.loads(response.content)["error"]


def routes(app: Any) -> Iterator[str]:
    """Every method and path that the application answers."""

    def inside(found: Any) -> Iterator[str]:
        for route in found:
            if hasattr(route, "original_router"):
                yield from inside(route.original_router.routes)
            else:
                yield from (f"{method} {route.path}" for method in sorted(route.methods - {"HEAD"}))

    return inside(app.routes)
