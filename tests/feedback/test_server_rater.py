"""What a rater's page calls, on both databases: every kind of task from the claim to the history."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from feedback.serving import ANSWERS, MODEL, Site, error_of, serving
from scipy.stats import binomtest
from sqlalchemy import func, select

from baro.feedback import assign, judge, people, project, schema, view
from baro.feedback.answers import Submission
from baro.feedback.database import Store
from baro.feedback.settings import ProjectSettings
from baro.records import Message


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Iterator[Site]:
    with serving(store, tmp_path) as made:
        yield made


SKIP = {"assignment", "rater", "pseudonym", "at_ms", "reason", "comment", "flags"}  # what a manager sees of one


def at(task: Any, what: str = "") -> str:
    return f"/api/assignments/{task['assignment']}" + (f"/{what}" if what else "")


def judgments(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.judgment)).scalar_one()


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_kind_from_claim_to_history(kind: str, store: Store, tmp_path: Path):
    with serving(store, tmp_path, kind=kind, prompts=2) as site:
        task = site.next()
        assert task["kind"] == kind
        assert task["prompt"][0]["role"] == "user"
        assert "<strong>" in task["prompt"][0]["html"]
        assert [set(one) for one in task["responses"]] == [{"position", "text", "html", "finished"}] * len(
            task["responses"]
        )
        assert [one["key"] for one in task["criteria"]] == (["clear", "overall"] if kind == "criteria" else [])
        more = {"confidence": 4, "comment": "왜냐하면", "flags": [{"position": 0, "flag": "broken"}], "active_ms": 4000}
        done = site.submit(task, **more)
        assert done.status_code == 201, done.text
        assert done.json()["answer"] == ANSWERS[kind]
        assert (done.json()["revision"], done.json()["action"]) == (1, "submit")
        seen = site.ask("rater", "GET", at(task)).json()
        assert seen["answer"] == {k: more[k] for k in ("confidence", "comment", "flags")} | {"answer": ANSWERS[kind]}
        assert (seen["state"], seen["lease"]) == ("submitted", None)
        history = site.ask("rater", "GET", "/api/projects/colours/history").json()
        assert history["done"] == 1
        assert history["today_ms"] == 4000
        assert [one["assignment"] for one in history["items"]] == [task["assignment"]]
        assert site.next()["assignment"] != task["assignment"]
        site.submit(site.next(), key="key-00000002")
        assert site.ask("rater", "POST", "/api/projects/colours/next", {}).status_code == 204


def test_a_key_sent_again_gets_the_same_body(site: Site):
    task = site.next()
    first = site.submit(task)
    again = site.submit(task)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content
    revised = site.ask("rater", "POST", at(task, "open"), {}).json()
    other = {"kind": "pair", "choice": {"outcome": "tie", "position": None, "strength": 0}}
    assert site.submit(revised, other, key="key-00000002").json()["revision"] == 2
    # the older key still stands for the older answer
    late = site.submit(task)
    assert (late.status_code, late.content) == (200, first.content)
    assert judgments(site.store) == 2


def test_revise_and_retract(site: Site):
    task = site.next()
    site.submit(task)
    again = site.ask("rater", "POST", at(task, "open"), {}).json()
    assert again["answer"]["answer"] == ANSWERS["pair"]
    assert error_of(site.submit(task, key="key-00000002")) == (409, "lease_lost")
    taken_back = {"lease": again["lease"], "key": "key-00000003"}
    first = site.ask("rater", "POST", at(task, "retract"), taken_back)
    assert (first.status_code, first.json()["action"], first.json()["answer"]) == (201, "retract", None)
    second = site.ask("rater", "POST", at(task, "retract"), taken_back)
    assert (second.status_code, second.content) == (200, first.content)
    assert site.ask("rater", "GET", "/api/projects/colours/history").json()["items"] == []
    assert error_of(site.ask("rater", "POST", at(task, "open"), {})) == (409, "conflict")


def test_skip_and_release(site: Site):
    first = site.next()
    lease = {"lease": first["lease"]}
    assert site.ask("rater", "POST", at(first, "skip"), lease | {"reason": "too hard"}).status_code == 204
    second = site.next()
    assert second["assignment"] != first["assignment"]
    assert site.ask("rater", "POST", at(second, "release"), {"lease": second["lease"]}).status_code == 204
    assert error_of(site.ask("rater", "POST", at(second, "release"), {"lease": second["lease"]})) == (409, "conflict")
    assert error_of(site.ask("rater", "POST", at(second, "skip"), lease | {"reason": "x"})) == (409, "lease_lost")
    assert site.next()["responses"] == second["responses"]  # a released task comes again


def test_two_tabs_and_a_stale_draft(site: Site):
    one = site.next()
    two = site.next()
    assert one["assignment"] == two["assignment"]
    assert error_of(site.ask("rater", "POST", at(one, "renew"), {"lease": one["lease"]})) == (409, "lease_lost")
    assert site.ask("rater", "POST", at(two, "renew"), {"lease": two["lease"]}).json()["expires_ms"] >= two["now_ms"]
    draft = {"lease": two["lease"], "version": 0, "answer": {"comment": "half"}}
    assert site.ask("rater", "PUT", at(two, "draft"), draft).json() == {"version": 1}
    stale = site.ask("rater", "PUT", at(two, "draft"), draft | {"answer": {"comment": "other"}})
    assert error_of(stale) == (409, "stale_draft")
    assert (stale.json()["version"], stale.json()["answer"]) == (1, {"comment": "half"})
    assert site.next()["draft"] == {"version": 1, "answer": {"comment": "half"}}


def test_a_draft_has_a_largest_size(site: Site):
    task = site.next()
    draft = {"lease": task["lease"], "version": 0, "answer": {"comment": "글" * 700_000}}
    assert error_of(site.ask("rater", "PUT", at(task, "draft"), draft)) == (413, "too_large")


def test_today_is_the_raters_day_in_this_project(site: Site):
    done = site.submit(site.next(), active_ms=4000).json()

    def join(connection: Any) -> None:
        there = project.get_project(connection, "elsewhere").id
        people.add_member(connection, there, site.ids["rater"], "test")

    site.store.write(join)
    history = "/api/projects/{}/history?since={}"
    ask = lambda *given: site.ask("rater", "GET", history.format(*given)).json()["today_ms"]  # noqa: E731
    assert ask("colours", done["submitted_ms"]) == 4000
    assert ask("colours", done["submitted_ms"] + 1) == 0
    assert ask("elsewhere", 0) == 0


def test_what_is_left_does_not_tell_which_task_is_a_check(site: Site, monkeypatch: pytest.MonkeyPatch):
    """Six tasks, one of them in hand: a number that falls with each task of the queue would stand still at others."""
    left = lambda: site.next()["progress"]["left"]  # noqa: E731
    assert left() == 5
    site.submit(site.next())
    assert left() == 5
    monkeypatch.setattr(view, "LEFT", (1, 2))
    assert left() is None


def test_what_is_told_with_a_skip_is_for_the_manager(site: Site):
    task = site.next()
    body = {"lease": task["lease"], "reason": "broken: 글자가 깨졌어요", "comment": "전화번호"}
    wrong = {"flags": [{"position": 2, "flag": "personal"}]}
    assert error_of(site.ask("rater", "POST", at(task, "skip"), body | wrong)) == (422, "invalid")
    flags = {"flags": [{"position": 1, "flag": "personal"}]}
    assert site.ask("rater", "POST", at(task, "skip"), body | flags).status_code == 204
    with site.store.read() as connection:
        where = schema.assignment.c.id == task["assignment"]
        row = connection.execute(select(schema.assignment).where(where)).one()
        shown = [one.id for one in view.shown_responses(connection, row)]
    plain = site.next("second")
    site.ask("second", "POST", at(plain, "skip"), {"lease": plain["lease"], "reason": "other"})
    skips = site.ask("manager", "GET", f"/api/manage/tasks/{row.task_id}").json()["skips"]
    assert [set(one) for one in skips] == [SKIP] * len(skips)
    assert (skips[0]["pseudonym"], skips[0]["reason"], skips[0]["comment"]) == ("rater", body["reason"], "전화번호")
    assert skips[0]["flags"] == [{"response_id": shown[1], "flag": "personal"}]
    assert [(one["reason"], one["comment"], one["flags"]) for one in skips[1:]] in ([], [("other", "", [])])


def test_a_late_answer_is_kept(site: Site, clock: Callable[[int], int]):
    site.tokens |= {
        name: site.store.write(lambda c, name=name: people.open_session(c, site.ids[name], days=400))
        for name in ("rater", "second")
    }
    task = site.next()
    clock(10**8)
    other = site.next("second")
    assert other["kind"] == "pair"
    assert error_of(site.ask("rater", "POST", at(task, "renew"), {"lease": task["lease"]})) == (409, "lease_lost")
    assert site.submit(task).status_code == 201
    assert judgments(site.store) == 1


def test_what_does_not_fit_names_the_field(site: Site):
    task = site.next()
    wrong = site.submit(task, {"kind": "pair", "choice": {"outcome": "win", "position": 7}})
    assert error_of(wrong) == (422, "invalid")
    assert wrong.json()["problems"][0].startswith("answer.pair.choice.position: ")
    assert error_of(site.submit(task, ANSWERS["thumb"])) == (422, "invalid")
    assert error_of(site.submit(task, key="short")) == (422, "invalid")
    assert error_of(site.submit(task, rater="somebody-else")) == (422, "invalid")
    assert error_of(site.submit(task, guideline_id="0" * 26)) == (422, "invalid")
    assert error_of(site.ask("rater", "GET", "/api/projects/colours/history?limit=100000")) == (422, "invalid")
    assert judgments(site.store) == 0


def test_a_safety_conflict_has_its_own_code(store: Store, tmp_path: Path):
    with serving(store, tmp_path, kind="safety", prompts=1) as site:
        answer = ANSWERS["safety"] | {"safer": {"outcome": "win", "position": 1}}
        assert error_of(site.submit(site.next(), answer)) == (422, "safety_conflict")


def test_me_language_and_guideline(site: Site):
    me = site.ask("rater", "GET", "/api/me").json()
    assert me == {
        "id": site.ids["rater"],
        "pseudonym": "rater",
        "lang": "ko",
        "manages_all": False,
        "projects": [{"id": site.project.id, "name": "colours", "state": "open", "role": "rater"}],
    }
    assert site.ask("rater", "PATCH", "/api/me", {"lang": "en"}).json()["lang"] == "en"
    assert site.ask("rater", "GET", "/api/me").json()["lang"] == "en"
    assert error_of(site.ask("rater", "PATCH", "/api/me", {"lang": "xx"})) == (422, "invalid")
    assert error_of(site.ask("rater", "PATCH", "/api/me", {"lang": "en", "role": "manager"})) == (422, "invalid")
    guideline = site.ask("rater", "GET", "/api/projects/colours/guideline").json()
    assert guideline["version"] == 1
    assert "<h1>" in guideline["html"]
    assert site.ask("stranger", "GET", "/api/projects/elsewhere/guideline").status_code == 204
    english, korean = (site.ask(None, "GET", f"/api/texts/{lang}").json() for lang in ("en", "ko"))
    assert set(english) == set(korean)
    assert error_of(site.ask(None, "GET", "/api/texts/..%2Fen")) == (404, "not_found")


def test_nothing_that_a_rater_gets_tells_who_wrote_what(site: Site):
    """Every byte and header of every answer to raters and adjudicators, while they do everything they can."""
    with site.store.read() as connection:
        secret = {MODEL, *connection.execute(select(schema.response.c.id)).scalars()}
        secret |= set(connection.execute(select(schema.generation.c.id)).scalars())
        secret |= set(connection.execute(select(schema.task.c.id)).scalars())
    seen: list[bytes] = []

    def ask(who: str, method: str, path: str, body: Any = None) -> Any:
        response = site.ask(who, method, path, body)
        seen.append(response.content + repr(response.headers).encode())
        return response

    keys = count()
    for who in ("rater", "second", "settler"):
        for path in ("/api/me", "/api/projects/colours/guideline", "/", "/judge/colours", "/api/manage/projects"):
            ask(who, "GET", path)
        for turn in range(3):
            task = ask(who, "POST", "/api/projects/colours/next", {}).json()
            ask(who, "PUT", at(task, "draft"), {"lease": task["lease"], "version": 0, "answer": {"x": 1}})
            answer = {"kind": "pair", "choice": {"outcome": "win", "position": (turn + (who == "rater")) % 2}}
            flags = [{"position": 1, "flag": "harmful"}]
            body = {"lease": task["lease"], "key": f"key-{next(keys):08}", "answer": answer, "flags": flags}
            assert ask(who, "POST", at(task, "judgment"), body).status_code == 201
            ask(who, "GET", at(task))
            again = ask(who, "POST", at(task, "open"), {}).json()
            ask(who, "POST", at(task, "renew"), {"lease": again["lease"]})
        ask(who, "GET", "/api/projects/colours/history")
        ask(who, "POST", at(task, "retract"), {"lease": again["lease"], "key": f"key-{next(keys):08}"})
        ask(who, "POST", at(task, "judgment"), {"lease": "x", "key": "key-x"})
    assert len(seen) > 50
    for content in seen:
        assert not [one for one in secret if one.encode() in content]


def test_who_settles_a_disagreement_is_blind(site: Site):
    mine, theirs = site.next("rater"), site.next("second")
    assert mine["assignment"] != theirs["assignment"]
    for task, who, key in ((mine, "rater", "key-00000001"), (theirs, "second", "key-00000002")):
        site.submit(task, {"kind": "pair", "choice": {"outcome": "win", "position": 0}}, who, key)
    queue = site.ask("settler", "GET", "/api/manage/projects/colours/adjudication").json()["items"]
    assert [set(one) for one in queue] == [{"task", "kind", "prompt", "prompt_start"}]
    task_id = queue[0]["task"]
    assert error_of(site.ask("rater", "POST", f"/api/manage/tasks/{task_id}/adjudicate", {})) == (403, "forbidden")
    task = site.ask("settler", "POST", f"/api/manage/tasks/{task_id}/adjudicate", {}).json()
    assert (task["purpose"], task["answer"]) == ("adjudicate", None)
    submission = {"lease": task["lease"], "key": "key-00000003", "answer": ANSWERS["pair"]}
    given = {"submission": submission, "reason": "ambiguous", "note": "both say the same"}
    done = site.ask("settler", "POST", at(task, "adjudication"), given)
    assert done.status_code == 201
    again = site.ask("settler", "POST", at(task, "adjudication"), given)
    assert (again.status_code, again.content) == (200, done.content)
    assert site.ask("settler", "GET", "/api/manage/projects/colours/adjudication").json()["items"] == []
    seen = site.ask("manager", "GET", f"/api/manage/tasks/{task_id}").json()
    assert [one["reason"] for one in seen["judgments"]] == [None, None, "ambiguous"]
    assert {one["model"] for one in seen["responses"]} == {MODEL}


@pytest.mark.slow
def test_the_side_tells_nothing_about_the_model(tmp_path: Path):
    """Who always takes the better model's text clicks left as often as right: 2,000 judgments by stored functions."""
    store = Store.open(tmp_path, create=True)

    def fill(connection: Any) -> tuple[Any, list[Any]]:
        made = project.create_project(connection, "sides", ProjectSettings(repeat_fraction=0, gold_fraction=0))
        for i in range(1000):
            prompt_id, _ = project.add_prompt(connection, made.id, (Message("user", f"q{i}"),), "test")
            for model in ("better", "worse"):
                generation = project.add_generation(connection, made.id, model, {})
                project.add_response(connection, prompt_id, generation, f"{model} {i}")
        project.make_tasks(connection, made, "pair")
        return made, [people.who(connection, people.open_session(connection, people.add_rater(connection, made.id)))
                      for _ in range(2)]  # fmt: skip

    made, raters = store.write(fill)

    def judge_one(connection: Any, rater: Any) -> None:
        lease = assign.claim(connection, rater, made)
        assert lease is not None
        here = schema.assignment.c.id == lease.assignment_id
        assignment = connection.execute(select(schema.assignment).where(here)).one()
        texts = [one.text for one in view.shown_responses(connection, assignment)]
        position = [text.startswith("better") for text in texts].index(True)
        given = {"kind": "pair", "choice": {"outcome": "win", "position": position}}
        sent = Submission.model_validate({"lease": lease.secret, "key": lease.assignment_id, "answer": given})
        judge.submit(connection, lease.assignment_id, rater.id, sent)

    def judge_all(connection: Any) -> None:
        for _ in range(1000):
            for rater in raters:
                judge_one(connection, rater)

    store.write(judge_all)
    pair, task, response = schema.judged_pair, schema.judgment, schema.response
    with store.read() as connection:
        rows = connection.execute(
            select(task.c.rater_id, pair.c.position, response.c.text)
            .select_from(pair.join(task, task.c.id == pair.c.judgment_id))
            .join(response, response.c.id == pair.c.winner_id)
        ).all()
    store.close()
    assert len(rows) == 2000
    assert all(row.text.startswith("better") for row in rows)
    for rater in raters:
        lefts = [row.position == 0 for row in rows if row.rater_id == rater.id]
        assert binomtest(sum(lefts), len(lefts)).pvalue > 1e-3
    assert sum(row.position == 0 for row in rows) == 1000  # the second rater sees each pair mirrored
