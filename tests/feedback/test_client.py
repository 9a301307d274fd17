"""The client: what it waits out, what it sends again, and what it never sends twice."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from feedback.serving import ANSWERS, Site, routes, serving
from sqlalchemy import func, select

from baro.errors import BackendError, ConfigError
from baro.feedback import people, schema
from baro.feedback.client import Client
from baro.feedback.database import FILE, Store
from baro.feedback.refusals import Refused

Fault = Callable[[httpx2.Request, Callable[[], httpx2.Response]], httpx2.Response]


class Wire(httpx2.BaseTransport):
    """Between client and server; each fault in ``faults`` is what happens to one request."""

    def __init__(self, site: Site):
        self.site = site
        self.faults: list[Fault] = []
        self.sent: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request)
        fault = self.faults.pop(0) if self.faults else lambda _, go_on: go_on()
        return fault(request, lambda: self._answer(request))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.site.http.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        self.site.http.cookies.clear()
        headers = [(name, value) for name, value in answer.headers.multi_items() if name != "content-length"]
        return httpx2.Response(answer.status_code, headers=headers, content=answer.content)


def lost_before(request: httpx2.Request, _: Any) -> httpx2.Response:
    raise httpx2.ConnectError("no route", request=request)


def lost_after(request: httpx2.Request, go_on: Any) -> httpx2.Response:
    go_on()
    raise httpx2.ReadTimeout("no answer", request=request)


def status(code: int, **headers: str) -> Fault:
    return lambda request, _: httpx2.Response(code, headers=headers, json={"error": "busy", "message": "later"})


@pytest.fixture
def site(sqlite_template: Path, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    with serving(Store.open(tmp_path), tmp_path) as made:
        yield made


@pytest.fixture
def wire(site: Site) -> Wire:
    return Wire(site)


def client(site: Site, wire: Wire, who: str = "rater", **options: Any) -> Client:
    pauses: list[float] = []
    made = Client("http://localhost", site.tokens[who], transport=wire, pause=pauses.append, **options)
    made.pauses = pauses
    return made


def judgments(site: Site) -> int:
    with site.store.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()


def test_a_rater_works(site: Site, wire: Wire):
    with client(site, wire) as rater:
        assert rater.me()["pseudonym"] == "rater"
        assert rater.guideline("colours")["version"] == 1
        task = rater.next("colours")
        done = rater.submit(task, ANSWERS["pair"], confidence=5, active_ms=1000)
        assert (done["revision"], done["answer"]) == (1, ANSWERS["pair"])
        again = rater.open(task["assignment"])
        assert rater.submit(again, ANSWERS["pair"], comment="twice")["revision"] == 2
        assert rater.retract(again)["action"] == "retract"
        rater.skip(rater.next("colours"), "too hard")
        rater.release(rater.next("colours"))
        assert rater.history("colours", limit=5)["items"] == []


@pytest.mark.parametrize(
    "faults",
    [
        [lost_before],
        [lost_after],
        [status(503), status(502), status(500)],
        [status(429, **{"Retry-After": "7"})],
        [lost_after, lost_before, lost_after, status(503), lost_after],
    ],
)
def test_a_judgment_is_neither_lost_nor_doubled(site: Site, wire: Wire, faults: list[Fault]):
    rater = client(site, wire)
    task = rater.next("colours")
    wire.faults, wire.sent = list(faults), []
    done = rater.submit(task, ANSWERS["pair"])
    assert done["revision"] == 1
    assert judgments(site) == 1
    assert len(wire.sent) == len(faults) + 1
    assert len({json.loads(one.read())["key"] for one in wire.sent}) == 1
    assert len(rater.pauses) == len(faults)
    if len(faults) == 1 and faults[0] not in (lost_before, lost_after):
        assert rater.pauses == [7.0]
    assert rater.pauses == sorted(rater.pauses)


def test_what_was_ended_in_a_lost_attempt_is_ended(site: Site, wire: Wire):
    rater = client(site, wire)
    task = rater.next("colours")
    wire.faults = [lost_after]
    rater.skip(task, "too hard")
    task = rater.next("colours")
    wire.faults = [lost_after, status(503)]
    rater.release(task)
    with pytest.raises(Refused):
        rater.release(task)


def test_refusals_keep_their_codes(site: Site, wire: Wire):
    rater = client(site, wire)
    with pytest.raises(Refused) as refused:
        rater.next("nowhere")
    assert refused.value.code == "not_found"
    task = rater.next("colours")
    with pytest.raises(Refused) as refused:
        rater.submit(task, {"kind": "pair", "choice": {"outcome": "win", "position": 9}})
    assert refused.value.code == "invalid"
    assert refused.value.more["problems"]
    with pytest.raises(Refused, match="NUL or half a character"):
        rater.submit(task, ANSWERS["pair"], comment="\ud800")
    assert rater.pauses == []
    with pytest.raises(Refused) as refused:
        client(site, wire, "rater").projects()
    assert refused.value.code == "forbidden"


def test_it_gives_up_in_the_end(site: Site, wire: Wire):
    rater = client(site, wire, attempts=3)
    wire.faults = [lost_before] * 3
    with pytest.raises(BackendError, match="did not succeed"):
        rater.me()
    assert len(wire.sent) == 3
    assert len(rater.pauses) == 2
    with pytest.raises(ConfigError, match="no address"):
        Client("localhost:8000", "x")


def test_what_could_happen_twice_is_sent_again_only_where_it_cannot_have_happened(site: Site, wire: Wire):
    manager = client(site, wire, "manager")
    wire.faults = [lost_before, status(503)]
    assert manager.invite("colours", pseudonym="one")["link"]
    wire.faults, wire.sent = [lost_after], []
    with pytest.raises(BackendError):
        manager.invite("colours", pseudonym="two")
    assert len(wire.sent) == 1


def test_a_manager_works(site: Site, wire: Wire):
    manager = client(site, wire, "manager")
    assert manager.create_project("new", {"overlap": 1, "repeat_fraction": 0, "gold_fraction": 0})["name"] == "new"
    assert manager.change_settings("new", {"blur": True})["settings"]["blur"] is True
    assert manager.add_prompts("new", [{"prompt": "which?"}])["added"] == 1
    talk = [
        {"messages": [{"role": "user", "content": "call 010-1234-5678"}], "consent": said} for said in (True, False)
    ]
    told = manager.add_prompts("new", talk, "talk", chat={"personal": "mask"})
    assert (told["added"], told["ledger"]["dropped_by_reason"]) == (1, {"no consent": 1})
    with pytest.raises(Refused, match="none is left; let rows of people who agreed say"):
        manager.add_prompts("new", talk[1:], "talk", chat={})
    wire.faults = [lost_after]
    assert manager.add_responses("new", [{"prompt": "which?", "responses": ["a", "b"]}], "m")["known"] == 2
    assert manager.make_tasks("new", "pair")["added"] == 1
    assert manager.publish_guideline("new", "en", "read")["version"] == 1
    assert manager.set_criteria("new", [{"key": "x", "labels": {"en": {"name": "X"}}, "low": 0, "high": 1}])
    link = manager.invite("new", lang="en")["link"]
    wire.faults = [lost_after, lost_before, status(503)]
    rater = Client.join(link, transport=wire)
    with pytest.raises(Refused):
        Client.join(link, transport=wire)
    task = rater.next("new")
    assert task["guideline"]["version"] == 1
    rater.submit(task, ANSWERS["pair"])
    (row,) = manager.listed("new", "tasks", state="full")["items"]
    assert manager.task(row["id"])["judgments"][0]["answer"] == ANSWERS["pair"]
    assert {one["name"]: one["tasks"] for one in manager.projects()}["new"] == 1
    assert manager.figures("new", "progress")["judgments"] == 1
    assert manager.publish_guideline("new", "en", "read again")["version"] == 2
    assert manager.preview_again("new", "all", kinds=["pair", "rank"], overlap=2)["judgments"] == 2
    wire.faults = [lost_after]
    assert manager.ask_again("new", "all", kinds=["pair"]) == {"tasks": 0, "judgments": 0}  # the first attempt did it
    assert rater.submit(rater.next("new"), ANSWERS["pair"])["revision"] == 1
    told = manager.figures("new", "agreement", guidelines="newest")["guidelines"]
    assert [(one["version"], one["judgments"]) for one in told] == [(1, 1), (2, 1)]
    assert len(manager.preview("new", "pairs")["rows"]) == 1
    assert manager.download(manager.export("new", "pairs")["id"])[:2] == b"PK"
    manager.revoke(rater.me()["id"])
    with pytest.raises(Refused):
        rater.me()
    with pytest.raises(ConfigError):
        Client.join("http://localhost/join")


PAGES_ONLY = {  # what a page needs besides, and a program does not
    "GET /api/texts/{lang}",
    "GET /api/assignments/{assignment}",
    "POST /api/assignments/{assignment}/renew",
    "PUT /api/assignments/{assignment}/draft",
    "POST /api/manage/preview",
}


def test_the_client_does_what_the_pages_do(site: Site, wire: Wire):
    """Every route of the interface is asked by a method of the client."""
    manager, settler = client(site, wire, "manager"), client(site, wire, "settler")
    raters = [client(site, wire, who) for who in ("rater", "second")]
    raters[0].set_language("en")
    for rater in raters:  # sides are mirrored for the second, so that two left answers disagree
        task = rater.next("colours")
        rater.submit(task, ANSWERS["pair"])
        rater.history("colours")
        rater.guideline("colours")
    raters[1].retract(raters[1].open(task["assignment"]))
    raters[1].submit(raters[1].next("colours"), ANSWERS["pair"])
    raters[1].skip(raters[1].next("colours"), "too hard")
    raters[1].release(raters[1].next("colours"))

    (disputed,) = settler.figures("colours", "adjudication")["items"]
    leased = settler.adjudicate(disputed["task"])
    assert settler.settle(leased, ANSWERS["pair"], "rater_error", "misread")["action"] == "submit"
    assert settler.figures("colours", "adjudication")["items"] == []
    assert manager.task(disputed["task"])["judgments"][-1]["purpose"] == "adjudicate"

    manager.create_project("new")
    manager.change_settings("new", {"overlap": 1})
    assert manager.project("new")["settings"]["overlap"] == 1
    assert [one["name"] for one in manager.projects()] == ["colours", "elsewhere", "new"]
    manager.add_prompts("new", [{"prompt": "which?"}])
    manager.add_responses("new", [{"prompt": "which?", "responses": ["a", "b"]}], "m", {"temperature": 0.5})
    manager.make_tasks("new", "pair")
    for what in ("prompts", "tasks", "guidelines", "criteria", "raters", "exports", "events", "jobs"):
        assert isinstance(manager.listed("new", what), dict)
    (task,) = manager.listed("new", "tasks", state="open", limit=1)["items"]
    gold = manager.set_gold("new", task["id"], ANSWERS["pair"], "it is so")["task"]
    gold = manager.correct_gold("new", gold, {"kind": "pair", "choice": {"outcome": "tie"}}, "it is not")["task"]
    assert manager.withdraw_gold("new", gold, "who knows") == {"task": task["id"]}
    assert manager.preview_change("new", {"state": "open"}, "priority", 3)["changed"] == 1
    done = manager.change_tasks("new", {"all": True}, "priority", 3)
    assert manager.undo("new", done["events"])["changed"] == 1
    (prompt,) = (one["id"] for one in manager.listed("new", "prompts")["items"])
    assert manager.withdraw("new", [prompt], "wrong language")["tasks"] == 1
    assert manager.restore("new", [prompt])["tasks"] == 1
    assert manager.sources("new") == ["upload"]
    assert manager.set_state("new", "paused")["state"] == manager.project("new")["state"] == "paused"
    assert manager.set_state("new", "open")["state"] == "open"
    manager.set_criteria("new", manager.shipped_criteria())
    versions = [manager.publish_guideline("new", "en", text)["id"] for text in ("read", "read twice")]
    assert "twice" in "".join(manager.difference(*versions)["diff"])
    manager.preview_again("new")
    manager.ask_again("new")

    assert manager.policies() == []
    with pytest.raises(Refused):
        manager.generate("new", [{"policy": "none of the server's"}])
    for ask in (manager.job, manager.start_again, manager.cancel):
        with pytest.raises(Refused):
            ask("no-such-job")
    rater = manager.invite("new", lang="en")["rater"]
    visitor = Client.join(manager.invite("new", rater=rater)["link"], transport=wire)
    assert visitor.me()["id"] == rater
    visitor.sign_out()
    with pytest.raises(Refused):
        visitor.me()
    manager.revoke(rater)
    manager.erase(rater)

    assert manager.redact("new", prompt, "asked by letter")["entity"] == "prompt"
    for which in ("progress", "agreement", "bias"):
        assert manager.figures("colours", which)
    manager.habit("colours", "left", limit=5)
    manager.preview("colours", "pairs")
    assert manager.download(manager.export("colours", "facts")["id"])[:2] == b"PK"

    asked = {f"{one.method} {one.url.raw_path.decode().partition('?')[0]}" for one in wire.sent}
    patterns = {one: re.sub(r"\{[^}]*\}", "[^/]+", one) for one in routes(site.app) if " /api/" in one}
    assert {one for one, path in patterns.items() if not any(re.fullmatch(path, ask) for ask in asked)} == PAGES_ONLY


def test_names_stay_names(site: Site, wire: Wire):
    """A project's name in an address is one part of a path, whatever stands in it."""
    rater = client(site, wire)
    for name in ("../manage", "a/b", "a?b=c", "a#b", "%2e%2e", "..%2f"):
        with pytest.raises(Refused) as refused:
            rater.next(name)
        assert refused.value.code in ("not_found", "invalid")


def test_the_token_is_not_kept_in_errors(site: Site, wire: Wire):
    site.tokens["gone"] = site.store.write(lambda c: people.open_session(c, site.ids["rater"], days=-1))
    with pytest.raises(Refused) as refused:
        client(site, wire, "gone").me()
    assert refused.value.code == "unauthorized"
    assert site.tokens["gone"] not in str(refused.value)


def test_a_change_says_which_tasks(site: Site, wire: Wire):
    """A request that lost its filter changes nothing, and neither does one of somebody else's."""
    manager = client(site, wire, "manager")
    for which in ({}, {"all": True, "kind": "pair"}):
        with pytest.raises(Refused, match="say which tasks"):
            manager.change_tasks("colours", which, "close")
    with pytest.raises(Refused, match="overlap lies between 1 and 50"):
        manager.change_tasks("colours", {"all": True}, "overlap", 0)
    (task,) = manager.listed("colours", "tasks", limit=1)["items"]
    with pytest.raises(Refused, match="there is no task"):
        manager.change_tasks("elsewhere", {"tasks": [task["id"]]}, "close")
    with pytest.raises(Refused, match="there is no prompt"):
        manager.redact("elsewhere", task["prompt"], "asked")
    with pytest.raises(Refused, match="there is no prompt"):
        manager.withdraw("elsewhere", [task["prompt"]])
    for who in ("rater", "settler"):
        for ask in (
            lambda one: one.change_tasks("colours", {"all": True}, "close"),
            lambda one: one.set_state("colours", "ended"),
            lambda one: one.redact("colours", task["prompt"], "asked"),
            lambda one: one.withdraw("colours", [task["prompt"]]),
        ):
            with pytest.raises(Refused) as refused:
                ask(client(site, wire, who))
            assert refused.value.code == "forbidden"
    assert len(manager.listed("colours", "tasks", state="open")["items"]) == 6
    manager.set_state("colours", "paused")
    with pytest.raises(Refused) as refused:
        client(site, wire, "rater").next("colours")
    assert (refused.value.code, refused.value.status) == ("paused", 409)


def test_several_are_invited_and_one_works_in_two_projects(site: Site, wire: Wire):
    manager = client(site, wire, "manager")
    made = manager.invite("colours", lang="en", count=3)["people"]
    assert len({one["pseudonym"] for one in made}) == len({one["link"] for one in made}) == 3
    with pytest.raises(Refused, match="about one person; leave count out"):
        manager.invite("colours", pseudonym="mina", count=2)
    rater = Client.join(made[0]["link"], transport=wire)
    with pytest.raises(Refused):
        rater.next("elsewhere")
    assert manager.invite("elsewhere", rater=made[0]["rater"])["rater"] == made[0]["rater"]
    assert rater.next("elsewhere") is None
    assert [one["name"] for one in rater.me()["projects"]] == ["colours", "elsewhere"]
    assert len(manager.listed("elsewhere", "raters")["raters"]) == 2
