"""What managers put in, look at and take out, over HTTP."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feedback.serving import ANSWERS, MODEL, Site, error_of, serving
from sqlalchemy import func, select

from baro.feedback import schema
from baro.feedback.database import Store


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Iterator[Site]:
    with serving(store, tmp_path) as made:
        yield made


def manage(site: Site, method: str, path: str, body: Any = None) -> Any:
    return site.ask("manager", method, f"/api/manage/{path}", body)


def test_projects_and_settings(site: Site):
    made = manage(site, "POST", "projects", {"name": "색깔-2", "settings": {"overlap": 3}})
    assert (made.status_code, made.json()["settings"]["overlap"]) == (201, 3)
    assert error_of(manage(site, "POST", "projects", {"name": "색깔-2"})) == (422, "invalid")
    assert error_of(manage(site, "POST", "projects", {"name": "../etc"})) == (422, "invalid")
    wrong = manage(site, "POST", "projects", {"name": "x", "settings": {"overlap": 0}})
    assert wrong.json()["problems"] == ["overlap: Input should be greater than or equal to 1"]
    unknown = manage(site, "PATCH", "projects/colours", {"settings": {"overlaps": 1}})
    assert unknown.json()["problems"] == ["overlaps: Extra inputs are not permitted"]
    changed = manage(site, "PATCH", "projects/colours", {"settings": {"blur": True}}).json()
    assert changed["settings"]["blur"] is True
    assert manage(site, "GET", f"projects/{changed['name']}").json() == changed
    listed = manage(site, "GET", "projects").json()["projects"]
    assert [(one["name"], one["prompts"], one["tasks"], one["raters"]) for one in listed] == [
        ("colours", 6, 6, 3),
        ("elsewhere", 0, 0, 1),
        ("색깔-2", 0, 0, 0),
    ]


LAYOUTS: list[tuple[dict[str, Any], int]] = [
    ({"prompt": "a", "completion": "b"}, 1),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, 2),
    ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}, 2),
    ({"prompt": "a", "responses": ["b", "c", "d"], "ranks": [1, 2, 3]}, 3),
    ({"prompt": "a", "responses": ["b", "c"], "finished": [True, False]}, 2),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, 1),
    ({"instruction": "a", "output": "b"}, 1),
]


@pytest.mark.parametrize(("row", "answers"), LAYOUTS)
def test_rows_of_any_layout(site: Site, row: dict[str, Any], answers: int):
    body = {"model": "m", "settings": {"temperature": 0.7}, "rows": [row]}
    first = manage(site, "POST", "projects/elsewhere/responses", body).json()
    assert (first["added"], first["known"], first["prompts"]) == (answers, 0, 1)
    assert (first["ledger"]["rows"], first["ledger"]["kept"]) == (1, 1)
    again = manage(site, "POST", "projects/elsewhere/responses", body).json()
    assert (again["added"], again["known"], again["prompts"]) == (0, answers, 0)
    prompts = manage(site, "GET", "projects/elsewhere/prompts").json()
    assert [turn["content"] for turn in prompts["items"][0]["messages"]] == ["a"]
    assert prompts["items"][0]["responses"] == answers


def test_files_as_text_with_a_ledger(site: Site):
    text = 'prompt,topic\n"one, two",sky\nthree,sea\n'
    done = manage(site, "POST", "projects/elsewhere/prompts", {"name": "my.csv", "text": text, "format": "csv"}).json()
    assert (done["added"], done["known"]) == (2, 0)
    assert "prompts" in done["ledger"]["description"]
    one, two = (manage(site, "GET", f"projects/elsewhere/prompts?offset={i}&limit=1").json() for i in (0, 1))
    assert (one["total"], one["items"][0]["source"], len(one["items"])) == (2, "my.csv", 1)
    assert [page["items"][0]["extra"]["topic"] for page in (one, two)] == ["sky", "sea"]  # in their order
    lines = '{"text": "raw"}\n{"text": "rawer"}'
    dropped = manage(site, "POST", "projects/elsewhere/prompts", {"text": lines}).json()
    assert dropped["ledger"]["dropped_by_reason"] == {"no prompt": 2}
    assert dropped["ledger"]["dropped"][1]["row"] == "upload.jsonl:2"
    broken = manage(site, "POST", "projects/elsewhere/prompts", {"text": '{"prompt": "a"}\n{"prompt": '})
    assert error_of(broken) == (422, "invalid")
    assert broken.json()["message"].startswith("upload.jsonl:2: ")
    odd = manage(site, "POST", "projects/elsewhere/prompts", {"rows": [{"colour": 1}]})
    assert "no known layout" in odd.json()["message"]
    for body in ({}, {"rows": [{"prompt": "a"}], "text": "x"}, {"rows": []}, {"rows": [1]}):
        assert error_of(manage(site, "POST", "projects/elsewhere/prompts", body)) == (422, "invalid")
    assert manage(site, "GET", "projects/elsewhere/prompts").json()["total"] == 2  # nothing of a file that is broken


def test_prompts_of_answered_rows_are_prompts_only(site: Site):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    assert manage(site, "POST", "projects/elsewhere/prompts", {"rows": rows}).json()["added"] == 1
    assert manage(site, "GET", "projects/elsewhere/prompts").json()["items"][0]["responses"] == 0
    only = manage(site, "POST", "projects/elsewhere/responses", {"model": "m", "rows": [{"prompt": "a"}]}).json()
    assert only["ledger"]["dropped_by_reason"] == {"no answer": 1}


def test_tasks_are_made_listed_and_looked_into(site: Site):
    made = manage(site, "POST", "projects/colours/tasks", {"kind": "thumb", "per_prompt": 2, "overlap": 1}).json()
    assert made == {"added": 12, "known": 0, "refused": []}
    manage(site, "POST", "projects/colours/prompts", {"rows": [{"prompt": "lonely"}]})
    manage(
        site, "POST", "projects/colours/responses", {"model": "m", "rows": [{"prompt": "lonely", "completion": "x"}]}
    )
    refused = manage(site, "POST", "projects/colours/tasks", {"kind": "rank", "size": 3}).json()["refused"]
    assert [(one["code"], one["values"]) for one in refused] == [("too_few", {"have": 1, "kind": "rank", "need": 3})]
    unknown = manage(site, "POST", "projects/colours/tasks", {"kind": "pair", "prompts": ["bogus"]}).json()["refused"]
    sentence = "prompt bogus is not in this project"
    assert unknown == [{"prompt": "bogus", "code": "not_here", "values": {}, "sentence": sentence}]
    page = manage(site, "GET", "projects/colours/tasks?offset=20&limit=3").json()
    assert (page["total"], page["offset"], len(page["items"])) == (24, 20, 3)
    task = site.next()
    site.submit(task, flags=[{"position": 0, "flag": "harmful"}], comment="because")
    assert manage(site, "GET", "projects/colours/tasks?state=gold").json()["total"] == 0
    judged = [t for t in manage(site, "GET", "projects/colours/tasks?limit=200").json()["items"] if t["judgments"]]
    seen = manage(site, "GET", f"tasks/{judged[0]['id']}").json()
    (said,) = seen["judgments"]
    assert (said["pseudonym"], said["comment"], said["answer"]) == ("rater", "because", ANSWERS[task["kind"]])
    shown = {one["id"]: one for one in seen["responses"]}
    assert [shown[one]["text"] for one in said["shown"]] == [one["text"] for one in task["responses"]]
    assert said["flags"] == [{"response_id": said["shown"][0], "flag": "harmful"}]
    assert {one["model"] for one in seen["responses"]} == {MODEL}


def test_known_answers(site: Site):
    unseen = manage(site, "GET", "projects/colours/tasks").json()["items"][-1]["id"]
    given = {"task": unseen, "answer": ANSWERS["pair"], "note": "obvious"}
    assert manage(site, "POST", "projects/colours/gold", given | {"answer": ANSWERS["thumb"]}).status_code == 422
    assert error_of(manage(site, "POST", "projects/elsewhere/gold", given)) == (404, "not_found")
    assert manage(site, "POST", "projects/colours/gold", given).status_code == 201
    assert error_of(manage(site, "POST", "projects/colours/gold", given)) == (409, "conflict")
    assert [one["id"] for one in manage(site, "GET", "projects/colours/tasks?state=gold").json()["items"]] == [unseen]
    task = site.next()
    with site.store.read() as connection:
        here = schema.assignment.c.id == task["assignment"]
        seen = connection.execute(select(schema.assignment.c.task_id).where(here)).scalar_one()
    site.submit(task)
    made = manage(site, "POST", "projects/colours/gold", given | {"task": seen})  # a copy: the task goes on as it was
    assert made.status_code == 201
    copy = made.json()["task"]
    assert copy not in (seen, unseen)
    assert error_of(manage(site, "POST", "projects/colours/gold", given | {"task": seen})) == (409, "conflict")
    known = manage(site, "GET", "projects/colours/tasks?state=gold").json()["items"]
    assert {one["id"] for one in known} == {unseen, copy}
    first, second = (manage(site, "GET", f"tasks/{one}").json() for one in (seen, copy))
    assert (first["is_gold"], len(first["judgments"]), second["gold_answer"]) == (False, 1, ANSWERS["pair"])
    assert [one["id"] for one in first["responses"]] == [one["id"] for one in second["responses"]]


def told_of(site: Site, task: str) -> Any:
    return manage(site, "GET", f"tasks/{task}").json()


def gold_share(site: Site) -> tuple[int, int]:
    """How many tasks with a known answer the rater got right, and of how many."""
    (one,) = manage(site, "GET", "projects/colours/raters").json()["figures"]
    return one["gold"].get("count", 0), one["gold"]["n"]


def judge_gold(site: Site, task: str) -> None:
    """The rater answers a task that was put into their hands; slots are told by what is shown."""
    manage(site, "PATCH", "projects/colours", {"settings": {"gold_fraction": 0.5, "repeat_fraction": 0.5}})
    given = site.next()
    with site.store.read() as connection:
        here = schema.assignment.c.id == given["assignment"]
        row = connection.execute(select(schema.assignment).where(here)).one()
    assert row.task_id == task
    answer = {"kind": "pair", "choice": {"outcome": "win", "position": row.display_order.index(0), "strength": 2}}
    assert site.submit(given, answer).status_code == 201


def test_a_known_answer_is_replaced_and_withdrawn(site: Site, monkeypatch: pytest.MonkeyPatch):
    """And the figures follow at once, even those that take long to compute."""
    monkeypatch.setattr("baro.feedback.server.figures.AT_ONCE_SECONDS", -1.0)
    monkeypatch.setattr("baro.feedback.server.figures.SHARE", 1e12)
    monkeypatch.setattr("baro.feedback.assign.uniform", lambda *_: 0.7)  # a known answer comes up now
    first, second = (one["id"] for one in manage(site, "GET", "projects/colours/tasks?limit=2").json()["items"])
    wanted = manage(site, "GET", "projects/colours/progress").json()["wanted"]
    left, right = ({"kind": "pair", "choice": {"outcome": "win", "position": at, "strength": 2}} for at in (0, 1))
    gold = {"task": first, "answer": right, "note": "clear"}
    assert error_of(manage(site, "PUT", "projects/colours/gold", gold)) == (409, "conflict")  # none yet
    manage(site, "POST", "projects/colours/gold", gold)
    judge_gold(site, first)
    assert gold_share(site) == (0, 1)
    wrong = gold | {"answer": ANSWERS["thumb"]}
    assert error_of(manage(site, "PUT", "projects/colours/gold", wrong)) == (422, "invalid")
    assert manage(site, "PUT", "projects/colours/gold", gold | {"answer": left, "note": "was wrong"}).status_code == 200
    assert gold_share(site) == (1, 1)
    assert [told_of(site, first)[name] for name in ("gold_answer", "gold_note")] == [left, "was wrong"]
    made = manage(site, "POST", "projects/colours/gold/withdraw", {"task": first, "note": "nobody can know"}).json()
    assert gold_share(site) == (0, 0)
    closed, ordinary = told_of(site, first), told_of(site, made["task"])
    assert [closed[name] for name in ("is_gold", "open", "gold_answer")] == [True, False, None]
    assert len(closed["judgments"]) == 1
    assert [ordinary[name] for name in ("is_gold", "open", "places")] == [False, True, closed["overlap"]]
    assert [one["id"] for one in ordinary["responses"]] == [one["id"] for one in closed["responses"]]
    progress = manage(site, "GET", "projects/colours/progress").json()
    assert (progress["wanted"], progress["tasks"]["gold"], progress["tasks"]["closed"]) == (wanted, 0, 1)
    assert manage(site, "GET", "projects/colours/tasks?state=gold").json()["total"] == 0
    facts = manage(site, "POST", "projects/colours/exports/preview", {"layout": "facts"}).json()
    assert (facts["count"], facts["dropped"]) == (0, {"known_answer": 1})  # it never was a vote
    for body in ({"task": first}, {"task": made["task"]}, {"task": second}):
        assert error_of(manage(site, "POST", "projects/colours/gold/withdraw", body)) == (409, "conflict")
    again = manage(site, "POST", "projects/colours/gold", gold | {"task": first}).json()["task"]
    assert again not in (first, made["task"])
    assert manage(site, "POST", "projects/colours/gold/withdraw", {"task": again}).json() == {"task": None}


def test_a_known_answer_that_nobody_has_seen_leaves_the_task_as_it_was(site: Site):
    task = manage(site, "GET", "projects/colours/tasks?limit=1").json()["items"][0]["id"]
    before = told_of(site, task)
    manage(site, "POST", "projects/colours/gold", {"task": task, "answer": ANSWERS["pair"]})
    assert manage(site, "POST", "projects/colours/gold/withdraw", {"task": task}).json() == {"task": task}
    assert told_of(site, task) == before
    told = manage(site, "GET", "projects/colours/events?limit=2").json()["items"]
    assert [(one["actor"], one["action"]) for one in told] == [("manager", "withdraw"), ("manager", "gold")]
    elsewhere = {"task": task, "answer": ANSWERS["pair"]}
    assert error_of(manage(site, "PUT", "projects/elsewhere/gold", elsewhere)) == (404, "not_found")
    assert error_of(site.ask("rater", "POST", "/api/manage/projects/colours/gold/withdraw", {"task": task}))[0] == 403


def test_asking_again(site: Site):
    site.submit(site.next(), active_ms=60_000)
    assert manage(site, "GET", "projects/colours/again").json()["tasks"] == 0
    manage(site, "POST", "projects/colours/guidelines", {"lang": "ko", "body": "# 둘째"})
    told = manage(site, "GET", "projects/colours/again?which=all&kinds=pair&kinds=rank&overlap=3").json()
    assert (told["tasks"], told["judgments"], told["kinds"], told["hours"]) == (1, 3, {"pair": 1}, 0.05)
    assert manage(site, "GET", "projects/colours/again?which=divided").json()["tasks"] == 0
    for path in ("which=some", "kinds=pears", "overlap=0", "overlap=51"):
        assert error_of(manage(site, "GET", f"projects/colours/again?{path}")) == (422, "invalid")
    assert error_of(manage(site, "POST", "projects/colours/again", {"which": "some"})) == (422, "invalid")
    assert error_of(site.ask("rater", "POST", "/api/manage/projects/colours/again", {})) == (403, "forbidden")
    assert manage(site, "POST", "projects/colours/again", {"kinds": ["rank"]}).json() == {"tasks": 0, "judgments": 0}
    for expected in ({"tasks": 1, "judgments": 2}, {"tasks": 0, "judgments": 0}):
        assert manage(site, "POST", "projects/colours/again", {}).json() == expected
    rows = manage(site, "GET", "projects/colours/tasks").json()["items"]
    (earlier,) = [one for one in rows if not one["open"]]
    (later,) = [one for one in rows if one["id"] == earlier["later"]]
    assert (earlier["later"], later["later"], later["judgments"]) == (later["id"], None, 0)
    first, second = (manage(site, "GET", f"tasks/{one['id']}").json() for one in (earlier, later))
    assert (first["earlier"], first["later"]) == (None, second["id"])
    assert (second["earlier"], second["later"]) == (first["id"], None)
    assert [(one["guideline_version"], one["guideline_lang"]) for one in first["judgments"]] == [(1, "ko")]
    (told,) = manage(site, "GET", "projects/colours/events?limit=1").json()["items"]
    assert (told["actor"], told["action"]) == ("manager", "ask_again")
    site.submit(site.next("second"), who="second", key="key-00000002")  # under the newest; of another task
    for which, judgments in (("newest", 1), ("all", 2)):
        (told, _) = manage(site, "GET", f"projects/colours/agreement?guidelines={which}").json()["scales"]
        assert (told["scale"], told["judgments"]) == ("pair/overall", judgments)
    assert error_of(manage(site, "GET", "projects/colours/agreement?guidelines=old")) == (422, "invalid")


def test_guidelines_and_criteria(site: Site):
    one = manage(site, "POST", "projects/colours/guidelines", {"lang": "en", "body": "# Read\n\nslowly"}).json()
    two = manage(site, "POST", "projects/colours/guidelines", {"lang": "en", "body": "# Read\n\nquickly"}).json()
    same = manage(site, "POST", "projects/colours/guidelines", {"lang": "en", "body": "# Read\n\nquickly"}).json()
    assert (one["version"] + 1, same["id"]) == (two["version"], two["id"])
    diff = manage(site, "GET", f"guidelines/{one['id']}/diff/{two['id']}").json()["diff"]
    assert "slowly" in diff[0]
    assert "quickly" in diff[1]
    assert [g["lang"] for g in manage(site, "GET", "projects/colours/guidelines").json()["items"]] == ["en", "en", "ko"]
    script = manage(site, "POST", "projects/colours/guidelines", {"lang": "en", "body": "<script>x</script>"}).json()
    assert "<script" not in script["html"]
    criterion = {"key": "kind", "labels": {"ko": {"name": "친절", "anchors": ["1", "2"]}}, "low": 1, "high": 2}
    kept = manage(site, "PUT", "projects/colours/criteria", [criterion]).json()["criteria"]
    assert {one["key"] for one in kept} == {"kind", "clear", "overall"}
    assert manage(site, "GET", "projects/colours/criteria").json()["criteria"] == kept
    for wrong in ({"low": 3}, {"key": "No Good"}, {"labels": {}}, {"weight": -1}, {"high": 3}):
        assert error_of(manage(site, "PUT", "projects/colours/criteria", [criterion | wrong])) == (422, "invalid")


def test_what_happened_and_what_comes_with_baro(site: Site):
    site.submit(site.next())
    manage(site, "PATCH", "projects/colours", {"settings": {"blur": True}})
    told = manage(site, "GET", "projects/colours/events?limit=2").json()
    assert [(one["actor"], one["action"], one["entity"]) for one in told["items"]] == [
        ("manager", "settings", "project"),
        ("rater", "submit", "judgment"),
    ]
    assert told["total"] > manage(site, "GET", "projects/elsewhere/events").json()["total"]
    shipped = manage(site, "GET", "criteria").json()["criteria"]
    assert manage(site, "PUT", "projects/elsewhere/criteria", shipped).status_code == 200
    html = manage(site, "POST", "preview", {"text": "**bold** <script>"}).json()["html"]
    assert "<strong>bold</strong>" in html
    assert "<script" not in html


def test_what_happened_on_the_page_was_a_managers_doing(site: Site):
    manage(site, "POST", "projects", {"name": "new"})
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    manage(site, "POST", "projects/new/responses", {"model": "m", "rows": rows})
    manage(site, "POST", "projects/new/tasks", {"kind": "pair"})
    made = manage(site, "POST", "projects/new/invites", {}).json()
    manage(site, "POST", "projects/new/invites", {"rater": made["rater"]})
    told = manage(site, "GET", "projects/new/events").json()["items"]
    expected = ["invite", "invite", "add", "tasks", "import", "create"]
    assert [(one["actor"], one["action"]) for one in told] == [("manager", action) for action in expected]


def test_people(site: Site):
    made = manage(site, "POST", "projects/colours/invites", {"pseudonym": "새 사람", "lang": "ko"})
    assert made.status_code == 201
    address, _, token = made.json()["link"].partition("#")
    assert address == "http://localhost/join"
    me = site.http.post("/api/session", json={"token": token}).json()["rater"]
    site.http.cookies.clear()
    assert (me["pseudonym"], me["manages_all"]) == ("새 사람", False)
    assert [(one["name"], one["role"]) for one in me["projects"]] == [("colours", "rater")]
    taken = manage(site, "POST", "projects/colours/invites", {"pseudonym": "새 사람"})
    assert error_of(taken) == (409, "conflict")
    again = manage(site, "POST", "projects/colours/invites", {"rater": me["id"]})
    assert again.json()["rater"] == me["id"]
    site.submit(site.next())
    told = manage(site, "GET", "projects/colours/raters").json()
    assert {one["pseudonym"]: one["joined"] for one in told["raters"]} == {
        "rater": True, "second": True, "settler": True, "새 사람": True
    }  # fmt: skip
    assert [one["pseudonym"] for one in told["figures"]] == ["rater"]
    assert manage(site, "POST", f"raters/{me['id']}/erase", {}).status_code == 204
    gone = {one["id"]: one for one in manage(site, "GET", "projects/colours/raters").json()["raters"]}[me["id"]]
    assert "새 사람" not in gone["pseudonym"]
    assert gone["active"] is False
    assert error_of(manage(site, "POST", "raters/nobody/erase", {})) == (404, "not_found")
    with site.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one() == 1


@pytest.mark.parametrize("which", ["progress", "agreement", "bias", "raters", "adjudication"])
def test_figures_of_an_empty_and_of_a_judged_project(site: Site, which: str):
    assert manage(site, "GET", f"projects/elsewhere/{which}").status_code == 200
    for who, key in (("rater", "key-00000001"), ("second", "key-00000002")):
        assert site.submit(site.next(who), who=who, key=key, active_ms=9000).status_code == 201
    told = manage(site, "GET", f"projects/colours/{which}")
    assert told.status_code == 200
    assert "NaN" not in told.text


def test_the_judgments_behind_a_habit(site: Site):
    assert manage(site, "GET", "projects/elsewhere/bias/left").json() == {"total": 0, "items": []}
    site.submit(site.next("rater"), active_ms=1)
    site.submit(site.next("second"), who="second", key="key-00000002", active_ms=600_000)
    left = manage(site, "GET", "projects/colours/bias/left").json()
    assert (left["total"], [one["pseudonym"] for one in left["items"]]) == (2, ["second", "rater"])
    assert [one["counted"] for one in left["items"]] == [True, True]
    assert left["items"][0]["prompt_start"].startswith("question **")
    assert manage(site, "GET", f"tasks/{left['items'][0]['task']}").json()["judgments"]
    quick = manage(site, "GET", "projects/colours/bias/quick?limit=1").json()
    assert (quick["total"], [one["counted"] for one in quick["items"]]) == (2, [False])
    assert manage(site, "GET", "projects/elsewhere/bias/left").json()["total"] == 0
    assert error_of(manage(site, "GET", "projects/nowhere/bias/left")) == (404, "not_found")
    for path in ("left?limit=0", "left?limit=201", "right", "left?limit=x"):
        assert error_of(manage(site, "GET", f"projects/colours/bias/{path}")) == (422, "invalid")


def test_rows_without_a_question_are_dropped(site: Site):
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": " \n"}]
    rows = [{"prompt": ""}, {"prompt": "a"}, {"prompt": " \t"}]
    told = manage(site, "POST", "projects/elsewhere/prompts", {"rows": rows}).json()
    assert (told["added"], told["ledger"]["kept"], told["ledger"]["dropped_by_reason"]) == (1, 1, {"empty prompt": 2})
    assert told["ledger"]["dropped"][0]["row"] == "upload.jsonl:1"
    assert "has an empty prompt" in told["ledger"]["dropped"][0]["sentence"]
    told = manage(site, "POST", "projects/elsewhere/prompts", {"rows": [{"prompt": messages}]}).json()
    assert told["ledger"]["dropped_by_reason"] == {"empty prompt": 1}
    rows = [{"prompt": "", "completion": "b"}, {"prompt": "a", "completion": ""}]  # an answer may be empty
    told = manage(site, "POST", "projects/elsewhere/responses", {"model": "m", "rows": rows}).json()
    assert (told["added"], told["ledger"]["dropped_by_reason"]) == (1, {"empty prompt": 1})
    assert manage(site, "GET", "projects/elsewhere/prompts").json()["total"] == 1


def test_rows_are_listed_in_their_order(site: Site):
    rows = [{"prompt": f"question {i}"} for i in range(150)]
    manage(site, "POST", "projects/elsewhere/prompts", {"rows": rows})
    listed = manage(site, "GET", "projects/elsewhere/prompts?limit=200").json()["items"]
    assert [one["messages"][0]["content"] for one in listed] == [row["prompt"] for row in rows]


def test_exports(site: Site, tmp_path: Path):
    assert error_of(manage(site, "POST", "projects/colours/exports", {"layout": "pairs"})) == (422, "invalid")
    for who, key in (("rater", "key-00000001"), ("second", "key-00000002")):
        task = site.next(who)
        position = [one["text"] for one in task["responses"]].index(min(one["text"] for one in task["responses"]))
        answer = {"kind": "pair", "choice": {"outcome": "win", "position": position}}
        site.submit(task, answer, who, key)
    preview = manage(site, "POST", "projects/colours/exports/preview", {"layout": "pairs"}).json()
    assert len(preview["rows"]) == 1
    wrong = manage(
        site, "POST", "projects/colours/exports/preview", {"layout": "pairs", "settings": {"folder": "/etc"}}
    )
    assert error_of(wrong) == (422, "invalid")
    assert error_of(manage(site, "POST", "projects/colours/exports", {"layout": "../../x"})) == (422, "invalid")
    made = manage(site, "POST", "projects/colours/exports", {"layout": "pairs"})
    assert made.status_code == 201
    assert str(tmp_path) not in made.text
    listed = manage(site, "GET", "projects/colours/exports").json()
    assert (listed["total"], listed["items"][0]) == (1, made.json())
    assert listed["items"][0]["here"] is True
    zipped = manage(site, "GET", f"exports/{made.json()['id']}/download")
    assert zipped.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
        assert {"data.jsonl", "README.md", "export.json"} <= names
        (rows,) = [name for name in archive.namelist() if name.endswith("data.jsonl")]
        assert json.loads(archive.read(rows).splitlines()[0])["chosen"]
    for export in ("0" * 26, "..", "%2e%2e"):
        assert error_of(manage(site, "GET", f"exports/{export}/download"))[0] == 404


def test_an_export_that_became_a_link_is_not_followed(site: Site, tmp_path: Path):
    site.submit(site.next())
    made = manage(site, "POST", "projects/colours/exports", {"layout": "facts"}).json()
    (folder,) = (tmp_path / "exports").iterdir()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert error_of(manage(site, "GET", f"exports/{made['id']}/download")) == (404, "not_found")
    assert manage(site, "GET", "projects/colours/exports").json()["items"][0]["here"] is False


def test_the_queue_tells_how_many_disagree(site: Site):
    for who in ("rater", "second"):
        for turn in range(3):
            task = site.next(who)
            texts = [one["text"] for one in task["responses"]]
            position = texts.index(min(texts) if who == "rater" else max(texts))
            answer = {"kind": "pair", "choice": {"outcome": "win", "position": position}}
            site.submit(task, answer, who, f"key-{who}-{turn}")
    for who in ("manager", "settler"):
        told = site.ask(who, "GET", "/api/manage/projects/colours/adjudication?limit=2").json()
        assert (told["total"], len(told["items"])) == (3, 2)


@pytest.mark.parametrize("path", ["prompts", "tasks", "guidelines", "exports", "events"])
def test_lists_have_pages_with_bounds(site: Site, path: str):
    for query in ("limit=0", "limit=201", "offset=-1", "offset=99999999999999999999", "limit=x"):
        assert error_of(manage(site, "GET", f"projects/colours/{path}?{query}")) == (422, "invalid")
    assert manage(site, "GET", f"projects/colours/{path}?offset=1000").json()["items"] == []
