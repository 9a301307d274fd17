"""Every route of the server: whom it is for, and a body that it takes."""

from typing import Any

from feedback.serving import ANSWERS, Site
from sqlalchemy import Connection

from baro.feedback import people, project

ANYBODY, SIGNED_IN, MEMBER, OWN, SETTLER, MANAGER, PAGE = (
    "anybody",
    "signed in",
    "member",
    "own",
    "settler",
    "manager",
    "page",
)
ROUTES: dict[str, str] = {
    "POST /api/session": ANYBODY,
    "DELETE /api/session": SIGNED_IN,
    "GET /api/me": SIGNED_IN,
    "PATCH /api/me": SIGNED_IN,
    "GET /api/texts/{lang}": ANYBODY,
    "POST /api/projects/{project}/next": MEMBER,
    "GET /api/projects/{project}/history": MEMBER,
    "GET /api/projects/{project}/guideline": MEMBER,
    "GET /api/assignments/{assignment}": OWN,
    "POST /api/assignments/{assignment}/open": OWN,
    "POST /api/assignments/{assignment}/renew": OWN,
    "POST /api/assignments/{assignment}/release": OWN,
    "POST /api/assignments/{assignment}/skip": OWN,
    "PUT /api/assignments/{assignment}/draft": OWN,
    "POST /api/assignments/{assignment}/judgment": OWN,
    "POST /api/assignments/{assignment}/retract": OWN,
    "POST /api/assignments/{assignment}/adjudication": SETTLER,
    "GET /api/manage/projects": MANAGER,
    "POST /api/manage/projects": MANAGER,
    "GET /api/manage/projects/{project}": MANAGER,
    "PATCH /api/manage/projects/{project}": MANAGER,
    "POST /api/manage/projects/{project}/prompts": MANAGER,
    "GET /api/manage/projects/{project}/prompts": MANAGER,
    "POST /api/manage/projects/{project}/responses": MANAGER,
    "GET /api/manage/policies": MANAGER,
    "POST /api/manage/projects/{project}/generate": MANAGER,
    "GET /api/manage/jobs/{job}": MANAGER,
    "POST /api/manage/jobs/{job}/again": MANAGER,
    "POST /api/manage/jobs/{job}/cancel": MANAGER,
    "GET /api/manage/projects/{project}/jobs": MANAGER,
    "POST /api/manage/projects/{project}/tasks": MANAGER,
    "GET /api/manage/projects/{project}/tasks": MANAGER,
    "GET /api/manage/tasks/{task}": MANAGER,
    "POST /api/manage/projects/{project}/gold": MANAGER,
    "PUT /api/manage/projects/{project}/gold": MANAGER,
    "POST /api/manage/projects/{project}/gold/withdraw": MANAGER,
    "POST /api/manage/projects/{project}/state": MANAGER,
    "GET /api/manage/projects/{project}/sources": MANAGER,
    "POST /api/manage/projects/{project}/tasks/change": MANAGER,
    "POST /api/manage/projects/{project}/tasks/change/preview": MANAGER,
    "POST /api/manage/projects/{project}/tasks/undo": MANAGER,
    "POST /api/manage/projects/{project}/prompts/withdraw": MANAGER,
    "POST /api/manage/projects/{project}/prompts/restore": MANAGER,
    "POST /api/manage/projects/{project}/redact": MANAGER,
    "GET /api/manage/projects/{project}/guidelines": MANAGER,
    "POST /api/manage/projects/{project}/guidelines": MANAGER,
    "GET /api/manage/guidelines/{guideline}/diff/{other}": MANAGER,
    "GET /api/manage/projects/{project}/again": MANAGER,
    "POST /api/manage/projects/{project}/again": MANAGER,
    "POST /api/manage/preview": MANAGER,
    "GET /api/manage/criteria": MANAGER,
    "GET /api/manage/projects/{project}/events": MANAGER,
    "GET /api/manage/projects/{project}/criteria": MANAGER,
    "PUT /api/manage/projects/{project}/criteria": MANAGER,
    "GET /api/manage/projects/{project}/raters": MANAGER,
    "POST /api/manage/projects/{project}/invites": MANAGER,
    "POST /api/manage/raters/{rater}/revoke": MANAGER,
    "POST /api/manage/raters/{rater}/erase": MANAGER,
    "GET /api/manage/projects/{project}/progress": MANAGER,
    "GET /api/manage/projects/{project}/agreement": MANAGER,
    "GET /api/manage/projects/{project}/bias": MANAGER,
    "GET /api/manage/projects/{project}/bias/{habit}": MANAGER,
    "GET /api/manage/projects/{project}/adjudication": SETTLER,
    "POST /api/manage/tasks/{task}/adjudicate": SETTLER,
    "POST /api/manage/projects/{project}/exports/preview": MANAGER,
    "POST /api/manage/projects/{project}/exports": MANAGER,
    "GET /api/manage/projects/{project}/exports": MANAGER,
    "GET /api/manage/exports/{export}/download": MANAGER,
    "GET /": PAGE,
    "GET /join": ANYBODY,
    "GET /judge/{project}": PAGE,
    "GET /manage": PAGE,
    "GET /manage/{project}": PAGE,
    "GET /manage/{project}/{tab}": PAGE,
    "GET /static/{version}/{path:path}": ANYBODY,
}
"""Who a route is for. A route that is missing here fails the first test below."""

SUBMISSION = {"lease": "x", "key": "key-00000001", "answer": ANSWERS["pair"]}
BODIES: dict[str, Any] = {
    "session": {"token": "x"},
    "me": {"lang": "en"},
    "renew": {"lease": "x"},
    "release": {"lease": "x"},
    "skip": {"lease": "x", "reason": "x"},
    "draft": {"lease": "x", "version": 0, "answer": {}},
    "judgment": SUBMISSION,
    "retract": {"lease": "x", "key": "key-00000001"},
    "adjudication": {"submission": SUBMISSION, "reason": "ambiguous"},
    "projects": {"name": "new"},
    "{project}": {"settings": {}},
    "prompts": {"rows": [{"prompt": "x"}]},
    "responses": {"model": "x", "rows": [{"prompt": "x", "completion": "y"}]},
    "generate": {"policies": [{"policy": "x"}]},
    "tasks": {"kind": "pair"},
    "gold": {"task": "x", "answer": ANSWERS["pair"]},
    "gold/withdraw": {"task": "x"},
    "prompts/withdraw": {"prompts": ["x"]},
    "restore": {"prompts": ["x"]},
    "state": {"state": "paused"},
    "change": {"which": {"all": True}, "action": "close"},
    "change/preview": {"which": {"all": True}, "action": "close"},
    "undo": {"events": [1]},
    "redact": {"id": "x", "why": "x"},
    "guidelines": {"lang": "en", "body": "x"},
    "criteria": [],
    "invites": {},
    "preview": {"layout": "facts"},
    "exports": {"layout": "facts"},
}


def ask(site: Site, who: str | None, route: str, **names: str) -> Any:
    """A request to a route, with a body that it takes."""
    method, path = route.split(" ")
    given = {
        "project": "colours",
        "tab": "tasks",
        "lang": "en",
        "habit": "left",
        "path:path": "x.js",
        "version": "1",
    } | names
    before, _, last = path.rpartition("/")
    known = BODIES.get(f"{before.rpartition('/')[2]}/{last}", BODIES.get(last, {}))
    body = None if method in ("GET", "DELETE") else known
    for name, value in given.items():
        path = path.replace("{" + name + "}", value)
    return site.ask(who, method, path.replace("{", "").replace("}", ""), body)


def of_elsewhere(connection: Connection, role: str, also_here: str | None = None) -> tuple[str, str]:
    """Somebody with this role in the other project, and their token; ``also_here``: with that role in this one."""
    there, here = (project.get_project(connection, name) for name in ("elsewhere", "colours"))
    made = people.add_rater(connection, there.id, role=role)
    if also_here:
        people.add_member(connection, here.id, made, "test", also_here)
    return made, people.open_session(connection, made, kind="api")
