"""Who may do what, and what the server does with requests that nobody means well by."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from feedback.routes import ANYBODY, MANAGER, MEMBER, OWN, PAGE, ROUTES, SETTLER, SIGNED_IN, ask, of_elsewhere
from feedback.serving import Site, error_of, routes, serving
from sqlalchemy import Connection, func, select, text, update

from baro.feedback import people, schema
from baro.feedback.database import FILE, Store
from baro.feedback.refusals import Refused
from baro.feedback.server import pages
from baro.feedback.server.security import HEADERS


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Iterator[Site]:
    """On both databases."""
    with serving(store, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def one_site(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests that change nothing."""
    folder = tmp_path_factory.mktemp("site")
    (folder / FILE).write_bytes(sqlite_template.read_bytes())
    with serving(Store.open(folder), folder) as made:
        yield made


def test_every_route_says_whom_it_is_for(one_site: Site):
    assert sorted(routes(one_site.app)) == sorted(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_does_what_is_not_theirs(one_site: Site, route: str):
    """By role: without a session, of another project, rater, who settles; and all of them on somebody else's work."""
    audience = ROUTES[route]
    if audience in (ANYBODY, SIGNED_IN) and route != "GET /api/me":
        assert ask(one_site, None, route).status_code in ((401,) if audience == SIGNED_IN else (200, 401, 404))
        return
    theirs = one_site.next("second")["assignment"]
    told = {who: ask(one_site, who, route, assignment=theirs) for who in (None, "stranger", "rater", "settler")}
    status = {who: response.status_code for who, response in told.items()}
    if audience == PAGE:
        assert status[None] == 303
        assert told[None].headers["location"] == "/join"
        if route.startswith("GET /manage"):
            assert set(status.values()) == {303, 403}
        elif route == "GET /judge/{project}":
            assert (status["stranger"], status["rater"]) == (404, 200)
        return
    for response in told.values():
        if response.status_code >= 400:
            assert set(response.json()) >= {"error", "message"}
    assert status[None] == 401
    if audience == MANAGER:
        assert [status[who] for who in ("stranger", "rater", "settler")] == [403, 403, 403]
    elif audience == OWN:
        assert [status[who] for who in ("stranger", "rater", "settler")] == [404, 404, 404]
        same = {told[who].content for who in ("stranger", "rater", "settler")}
        assert same == {ask(one_site, "rater", route, assignment="0" * 26).content}  # as if it were not there
    elif audience == MEMBER:
        assert (status["stranger"], status["rater"]) == (404, 200)
        assert told["stranger"].content == ask(one_site, "stranger", route, project="nowhere").content
    elif audience == SETTLER:
        assert [status[who] for who in ("stranger", "rater")] == [403, 403]
        assert status["settler"] in (200, 404)


def test_who_settles_only_works_in_their_projects(one_site: Site):
    with one_site.store.read() as connection:
        task = connection.execute(select(schema.task.c.id)).scalars().first()
    one_site.tokens["outsider"] = one_site.store.write(lambda c: of_elsewhere(c, "adjudicator")[1])
    for method, path in (("GET", "projects/colours/adjudication"), ("POST", f"tasks/{task}/adjudicate")):
        response = one_site.ask("outsider", method, f"/api/manage/{path}", None if method == "GET" else {})
        assert error_of(response) == (404, "not_found")


# ------------------------------------------------------------------------------------------------------------- sessions


def test_an_invitation_works_once(site: Site):
    token = site.store.write(lambda connection: people.invite(connection, site.ids["rater"]))
    first = site.http.post("/api/session", json={"token": token})
    assert (first.status_code, first.json()["rater"]["pseudonym"]) == (201, "rater")
    cookie = first.headers["set-cookie"]
    assert all(word in cookie for word in ("baro_session=", "HttpOnly", "SameSite=lax", "Path=/", "Max-Age="))
    assert "Secure" not in cookie
    site.http.cookies.clear()
    assert error_of(site.http.post("/api/session", json={"token": token})) == (401, "unauthorized")
    assert error_of(site.http.post("/api/session", json={"token": "x" * 43})) == (401, "unauthorized")
    assert error_of(site.http.post("/api/session", json={"token": "x" * 10_000})) == (422, "invalid")


def exchange(site: Site, token: str, verifier: str | None = None) -> Any:
    """What a browser without a session sends."""
    site.http.cookies.clear()
    answer = site.http.post("/api/session", json={"token": token} | ({"verifier": verifier} if verifier else {}))
    site.http.cookies.clear()
    return answer


def test_a_lost_reply_to_an_invitation_is_asked_for_again(site: Site, clock: Callable[[int], int]):
    """By who has asked first, and nobody else: the link alone, or with another verifier, is a link used up."""
    token = site.store.write(lambda connection: people.invite(connection, site.ids["rater"]))
    mine, other = "m" * 43, "o" * 43
    first = exchange(site, token, mine)  # nobody hears this
    clock(people.ASK_AGAIN_MS - 1)
    for foreign in (other, mine[:-1] + "n", mine.upper(), None):
        assert error_of(exchange(site, token, foreign)) == (401, "unauthorized")
    again = exchange(site, token, mine)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["set-cookie"] == first.headers["set-cookie"]
    with site.store.read() as connection:
        here = schema.session.c.rater_id == site.ids["rater"]
        opened = connection.execute(select(schema.session).where(here, schema.session.c.kind == "browser")).all()
    assert len(opened) == 1
    clock(1)
    assert error_of(exchange(site, token, mine)) == (401, "unauthorized")
    site.tokens["again"] = again.headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert site.ask("again", "GET", "/api/me").status_code == 200  # the session goes on


def test_a_session_taken_back_is_not_given_again(site: Site):
    mine = "m" * 43
    token = site.store.write(lambda connection: people.invite(connection, site.ids["rater"]))
    exchange(site, token, mine)
    site.store.write(lambda c: c.execute(update(schema.session).values(revoked_ms=1)))
    assert error_of(exchange(site, token, mine)) == (401, "unauthorized")
    token = site.store.write(lambda connection: people.invite(connection, site.ids["second"]))
    exchange(site, token, mine)
    site.store.write(lambda connection: people.revoke(connection, site.ids["second"], "test"))
    assert error_of(exchange(site, token, mine)) == (401, "unauthorized")


def test_a_verifier_opens_one_invitations_session_only(site: Site):
    """The same browser with another link is another session; a short verifier could be guessed."""
    mine = "m" * 43
    one, two = (site.store.write(lambda c, who=who: people.invite(c, site.ids[who])) for who in ("rater", "second"))
    sessions = [exchange(site, token, mine) for token in (one, two, one, two)]
    cookies = [answer.headers["set-cookie"] for answer in sessions]
    assert cookies[:2] == cookies[2:]
    assert cookies[0] != cookies[1]
    assert [answer.json()["rater"]["pseudonym"] for answer in sessions] == ["rater", "second"] * 2
    fresh = site.store.write(lambda connection: people.invite(connection, site.ids["rater"]))
    for wrong in ("m" * 31, "m" * 201):
        assert error_of(exchange(site, fresh, wrong)) == (422, "invalid")
    assert exchange(site, fresh).status_code == 201  # it was not used up


def test_many_attempts_at_once_are_one_session(store: Store, tmp_path: Path):
    """A browser that gave up waiting asks again while the server is still at the first."""
    with serving(store, tmp_path) as site:
        token = store.write(lambda connection: people.invite(connection, site.ids["rater"]))
        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(lambda who: store.write(lambda c: _redeemed(c, token, who * 43)), ["m", "o"] * 8))
        assert sorted(Counter(told).values()) == [8, 8]
        assert None in told  # one of the two was first, the other gets nothing


def _redeemed(connection: Connection, token: str, verifier: str) -> str | None:
    try:
        return people.redeem(connection, token, verifier)
    except Refused:
        return None


def test_old_invitations_and_sessions_are_worth_nothing(site: Site):
    token = site.store.write(lambda connection: people.invite(connection, site.ids["rater"], days=-1))
    assert error_of(site.http.post("/api/session", json={"token": token})) == (401, "unauthorized")
    site.tokens["old"] = site.store.write(lambda c: people.open_session(c, site.ids["rater"], days=-1))
    assert error_of(site.ask("old", "GET", "/api/me")) == (401, "unauthorized")
    assert site.ask("rater", "DELETE", "/api/session").status_code == 204
    assert error_of(site.ask("rater", "GET", "/api/me")) == (401, "unauthorized")


def test_revoked_raters_are_out_at_once(site: Site):
    pending = site.store.write(lambda connection: people.invite(connection, site.ids["second"]))
    held = site.next("second")
    assert site.ask("manager", "POST", f"/api/manage/raters/{site.ids['second']}/revoke", {}).status_code == 204
    assert error_of(site.submit(held, who="second")) == (401, "unauthorized")
    assert error_of(site.http.post("/api/session", json={"token": pending})) == (401, "unauthorized")
    invitation = {"rater": site.ids["second"]}
    again = site.ask("manager", "POST", "/api/manage/projects/colours/invites", invitation)
    assert error_of(again) == (409, "conflict")
    mine = site.ask("manager", "POST", f"/api/manage/raters/{site.ids['manager']}/revoke", {})
    assert error_of(mine) == (409, "conflict")


def test_a_bad_bearer_is_not_made_good_by_a_cookie(site: Site):
    cookie = {"Cookie": f"baro_session={site.tokens['rater']}"}
    assert site.http.get("/api/me", headers=cookie).status_code == 200
    for given in ("Bearer nonsense", "Bearer", "Basic abc", "", f"Token {site.tokens['rater']}"):
        assert error_of(site.http.get("/api/me", headers=cookie | {"Authorization": given})) == (401, "unauthorized")


def test_cookies_travel_by_https_only_where_there_is_https(store: Store, tmp_path: Path):
    with serving(store, tmp_path, https=True) as site:
        token = site.store.write(lambda connection: people.invite(connection, site.ids["rater"]))
        assert "Secure" in site.http.post("/api/session", json={"token": token}).headers["set-cookie"]


# ----------------------------------------------------------------------------------------------------- other origins


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost", "Content-Type": "text/plain"}, 403),
        ({"Origin": "http://localhost", "Content-Type": "application/x-www-form-urlencoded"}, 403),
    ],
)
def test_changes_by_cookie_come_from_our_pages_only(one_site: Site, headers: dict[str, str], status: int):
    cookie = {"Cookie": f"baro_session={one_site.tokens['rater']}", "Content-Type": "application/json"}
    response = one_site.http.patch("/api/me", content=b'{"lang": "ko"}', headers=cookie | headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"] == "bad_origin"


def test_nobody_is_signed_in_by_another_site(site: Site):
    token = site.store.write(lambda connection: people.invite(connection, site.ids["rater"]))
    given = {"Origin": "http://evil.example"}
    assert error_of(site.http.post("/api/session", json={"token": token}, headers=given)) == (403, "bad_origin")
    assert site.http.post("/api/session", json={"token": token}).status_code == 201  # it was not used up


def test_only_our_own_host_is_answered(one_site: Site):
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    for method, path in (("GET", "/"), ("GET", "/api/texts/en"), ("POST", "/api/session")):
        response = one_site.http.request(method, path, json={"token": "x"}, headers=rebound)
        assert error_of(response) == (403, "bad_origin")


def test_every_answer_has_the_headers(one_site: Site):
    answers = [
        one_site.ask(None, "GET", "/join"),
        one_site.ask(None, "GET", "/api/me"),
        one_site.ask(None, "GET", "/nowhere"),
        one_site.ask(None, "GET", "/static/none.js"),
        one_site.ask("rater", "GET", "/api/me"),
        one_site.ask(None, "TRACE", "/api/me"),
    ]
    for answer in answers:
        assert all(answer.headers[name] == value for name, value in HEADERS.items())
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    assert [answer.status_code for answer in answers] == [200, 401, 404, 404, 200, 405]
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert one_site.ask("manager", "GET", path).status_code == 404


# ------------------------------------------------------------------------------------------------------- bad requests

INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE rater; --", '" OR ""="', "1; ATTACH DATABASE '/tmp/x' AS y", "%' --", "\\'; --",
    "' UNION SELECT token_sha256 FROM session --", "$$; SELECT pg_sleep(9); $$", "{0.__class__}", "%(id)s", ":id", "?",
    "＇ OR 1=1", "0x27", "colours'/*", "%", "_", "a" * 5000,
]  # fmt: skip


def counts(store: Store) -> dict[str, int]:
    with store.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in schema.metadata.sorted_tables
        }


def test_sql_in_every_parameter_is_text(site: Site):
    """No 500, nothing found that is not there, no table lost; text that is kept comes back letter by letter."""
    before = counts(site.store)
    for word in INJECTIONS:
        quoted = "".join(f"%{byte:02x}" for byte in word.encode())
        for route, audience in ROUTES.items():
            method, path = route.split(" ")
            if "{" not in path or audience == PAGE or method != "GET":
                continue
            for name in ("project", "assignment", "job", "task", "guideline", "other", "export", "lang", "path:path"):
                path = path.replace("{" + name + "}", quoted)
            status = site.ask("manager", "GET", path).status_code
            assert status in (404, 422), (word, route, status)
        for query in (f"offset={quoted}", f"limit={quoted}", f"state={quoted}"):
            assert site.ask("manager", "GET", f"/api/manage/projects/colours/tasks?{query}").status_code == 422
        site.tokens["forged"] = word
        if word.isascii():
            assert site.ask("forged", "GET", "/api/me").status_code == 401
        assert site.http.post("/api/session", json={"token": word}).status_code in (401, 422)
    task = site.next()
    for number, word in enumerate(INJECTIONS):
        more = {"comment": word, "ui_version": word[:40], "key": f"{number:08}{word}"[:100]}
        lease = site.ask("rater", "POST", f"/api/assignments/{task['assignment']}/open", {}).json()
        assert site.submit(lease, **more).status_code == 201
        assert site.ask("rater", "GET", f"/api/assignments/{task['assignment']}").json()["answer"]["comment"] == word
        rows = [{"prompt": word, "completion": f"answer {word}", word[:50]: word}]
        body = {"model": word[:200], "name": word[:200], "rows": rows}
        added = site.ask("manager", "POST", "/api/manage/projects/colours/responses", body)
        assert (added.status_code, added.json()["added"]) == (200, 1), added.text
    after = counts(site.store)
    assert after["judgment"] - before["judgment"] == len(INJECTIONS)
    assert after["prompt"] - before["prompt"] == len(INJECTIONS)
    assert after["rater"] == before["rater"]
    with site.store.read() as connection:
        kept = set(connection.execute(select(schema.judgment.c.comment)).scalars())
        assert kept == set(INJECTIONS)
        models = set(connection.execute(select(schema.generation.c.model)).scalars())
        assert {word[:200] for word in INJECTIONS} <= models
        connection.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../schema.py", "/static/%2e%2e/schema.py", "/static/..%2fschema.py", "/static//etc/passwd",
        "/static/%2fetc%2fpasswd", "/static/....//schema.py", "/static/..\\schema.py", "/static/%00",
        "/static/1/../../schema.py", "/static/1/%2e%2e/schema.py", "/static/1/..%2fschema.py", "/static/1//etc/passwd",
        "/static/1/dom.js%00", "/static/dom.js", "/static/1/%2e/dom.js", "/static/../static2/x", "/static/", "/static",
        "/static/%c0%ae%c0%ae/schema.py",
        "/static/../templates/base.html", "/static/file:///etc/passwd", "/static/../../../../../../etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_static_files(one_site: Site, path: str):
    response = one_site.http.get(path)
    assert response.status_code in (404, 422)
    assert b"root:" not in response.content
    assert b"import" not in response.content


def test_links_are_no_static_files(tmp_path: Path):
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "b.js").symlink_to("/etc/passwd")
    (tmp_path / "c.py").write_text("secret")
    assert list(pages.load_assets(tmp_path).files) == ["a.js"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"lang": "\\u0000"}', 422),
        (b'{"lang": "\\ud800"}', 422),
        (b'{"\\udfff": 1}', 422),
        (b'{"lang": "\xed\xa0\x80"}', 422),
        (b'{"lang": NaN}', 422),
        (b'{"lang": 1e999}', 422),
        (b'{"lang": ' + b"9" * 5000 + b"}", 422),
        ('{"lang": "en"}'.encode("utf-16"), 422),
        (b"[" * 100_000, 422),
        (b'{"lang": ' + b"[" * 200 + b"]" * 200 + b"}", 422),
        (b"", 422),
        (b"null", 422),
        (b'{"lang": "en"', 422),
        (b'{"lang": "en"} x', 422),
        (b'{"lang": true}', 422),
    ],
)
def test_what_is_no_clean_json_is_refused(one_site: Site, content: bytes, status: int):
    headers = one_site.tell("rater") | {"Content-Type": "application/json"}
    response = one_site.http.patch("/api/me", content=content, headers=headers)
    assert error_of(response) == (status, "invalid")
    assert "Traceback" not in response.text


def test_nul_and_half_characters_in_any_field(site: Site):
    task = site.next()
    for bad in ("\0", "a\0b", "\ud800", "\udc00x"):
        assert error_of(site.submit(task, comment=bad)) == (422, "invalid")
        draft = {"lease": task["lease"], "version": 0, "answer": {"comment": [bad]}}
        path = f"/api/assignments/{task['assignment']}"
        assert error_of(site.ask("rater", "PUT", f"{path}/draft", draft)) == (422, "invalid")
        rows = {"rows": [{"prompt": "x", "extra": {bad: 1}}]}
        assert error_of(site.ask("manager", "POST", "/api/manage/projects/colours/prompts", rows)) == (422, "invalid")
        guideline = {"lang": "en", "body": bad}
        given = site.ask("manager", "POST", "/api/manage/projects/colours/guidelines", guideline)
        assert error_of(given) == (422, "invalid")
    for path in ("/api/projects/%00/history", "/api/projects/colours%00/history", "/judge/%00"):
        assert error_of(site.ask("rater", "GET", path)) == (422, "invalid")
    # escaped once more, inside of a file's text
    lines = '{"prompt": "a\\u0000b"}\n{"prompt": "fine", "n": "\\u0000"}\n{"prompt": "fine", "n": NaN}'
    told = site.ask("manager", "POST", "/api/manage/projects/colours/prompts", {"text": lines}).json()
    assert (told["added"], told["ledger"]["dropped_by_reason"]) == (1, {"no text": 2})  # NaN is read as null


def test_bodies_have_a_largest_size(store: Store, tmp_path: Path):
    with serving(store, tmp_path, max_body=10_000, max_import=20_000) as site:
        task = site.next()
        assert error_of(site.submit(task, comment="x" * 10_000)) == (413, "too_large")
        rows = {"rows": [{"prompt": "x" * 15_000}]}
        assert site.ask("manager", "POST", "/api/manage/projects/colours/prompts", rows).json()["added"] == 1
        rows = {"rows": [{"prompt": "x" * 25_000}]}
        response = site.ask("manager", "POST", "/api/manage/projects/colours/prompts", rows)
        assert error_of(response) == (413, "too_large")

        def chunks() -> Iterator[bytes]:  # of unknown length
            for _ in range(100):
                yield b" " * 1000

        headers = site.tell("rater") | {"Content-Type": "application/json"}
        assert error_of(site.http.patch("/api/me", content=chunks(), headers=headers)) == (413, "too_large")


def test_strangers_send_no_large_bodies_to_managers(one_site: Site):
    """Who has no session is told so before the body is looked at."""
    headers = {"Content-Type": "application/json"}
    response = one_site.http.post("/api/manage/projects", content=b"{" * 1000, headers=headers)
    assert error_of(response) == (401, "unauthorized")


def test_too_many_requests(store: Store, tmp_path: Path):
    with serving(store, tmp_path, per_second=0.001, burst=3) as site:
        told = [site.ask("rater", "GET", "/api/me") for _ in range(4)]
        assert [one.status_code for one in told] == [200, 200, 200, 429]
        assert told[3].json()["error"] == "rate_limited"
        assert int(told[3].headers["retry-after"]) > 1
        assert site.ask("second", "GET", "/api/me").status_code == 200


# ----------------------------------------------------------------------------------------------------------- failures


def test_a_database_that_is_in_use_is_busy(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    store, other = Store.open(tmp_path), Store.open(tmp_path)
    with serving(store, tmp_path) as site:
        with store._writer.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 50")

        def hold(connection: Any) -> Any:
            connection.execute(update(schema.rater).values(lang="ko"))
            return site.ask("rater", "PATCH", "/api/me", {"lang": "en"})

        response = other.write(hold)
        assert error_of(response) == (503, "busy")
        assert response.headers["retry-after"] == "2"
        assert str(tmp_path) not in response.text
        assert site.ask("rater", "PATCH", "/api/me", {"lang": "en"}).json()["lang"] == "en"
    other.close()


def test_a_bug_tells_nothing(one_site: Site, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret of the server")

    monkeypatch.setattr(people, "projects_of", broken)
    response = one_site.ask("rater", "GET", "/api/me")
    assert error_of(response) == (500, "internal")
    assert "secret" not in response.text
    assert all(response.headers[name] == value for name, value in HEADERS.items())


def test_refusals_do_not_repeat_what_was_sent(one_site: Site):
    secret = "correct-horse-battery"
    told = one_site.http.post("/api/session", json={"token": secret, secret: 1})
    assert told.status_code == 422
    assert json.dumps(secret) not in json.dumps(told.json()["message"].split(": ")[-1])
