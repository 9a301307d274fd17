"""What somebody is in one project, they are in no other: every route for managers, asked by managers of another one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from feedback.routes import MANAGER, ROUTES, SETTLER, ask, of_elsewhere
from feedback.serving import ANSWERS, MODEL, Site, error_of, serving
from sqlalchemy import select

from baro.feedback import ids, people, project, schema
from baro.feedback.database import FILE, Store
from baro.feedback.refusals import Refused
from baro.feedback.server.jobs import Job

OF_NO_PROJECT = {"GET /api/manage/policies", "POST /api/manage/preview", "GET /api/manage/criteria"}  # tell nothing
MANAGED = [route for route, audience in ROUTES.items() if audience in (MANAGER, SETTLER)]
SECRETS = (MODEL, "question **", "answer 1 0", "잘 읽어 주세요", "second", "why it is so")


class Elsewhere:
    """Two projects at work, and people who manage only ``elsewhere``."""

    def __init__(self, site: Site):
        self.site = site
        for who in ("rater", "second"):
            assert site.submit(site.next(who), who=who, key=f"key-of-{who}", comment="why it is so").status_code == 201
        made = site.ask("manager", "POST", "/api/manage/projects/colours/exports", {"layout": "facts"}).json()
        body = {"lang": "ko", "body": "잘 읽어 주세요."}
        assert site.ask("manager", "POST", "/api/manage/projects/colours/guidelines", body).status_code == 201
        with site.store.read() as connection:
            self.tasks, self.prompts, self.guidelines = (
                list(connection.execute(select(table.c.id).where(table.c.project_id == site.project.id)).scalars())
                for table in (schema.task, schema.prompt, schema.guideline)
            )
            self.responses = list(connection.execute(select(schema.response.c.id)).scalars())
            self.assignments = list(connection.execute(select(schema.assignment.c.id)).scalars())
            self.events = list(connection.execute(select(schema.event.c.id)).scalars())
        job = Job(site.app.state.jobs.folder / ids.new_id(), site.project.id, "colours", [], 1, "manager", 0)
        job.folder.mkdir(parents=True)
        job.turn("interrupted")
        self.names = {
            "task": self.tasks[0], "assignment": self.assignments[0], "guideline": self.guidelines[0],
            "other": self.guidelines[-1], "export": made["id"], "job": job.folder.name, "rater": site.ids["rater"],
        }  # fmt: skip
        for name, also_here in (("foreign", None), ("both", "rater"), ("settles", "adjudicator")):
            made, token = site.store.write(lambda c, also=also_here: of_elsewhere(c, "manager", also))
            site.ids[name], site.tokens[name] = made, token

    def aimed(self, route: str) -> list[Any]:
        """Bodies that name what is in the other project."""
        task, prompt = self.names["task"], self.prompts[0]
        chosen = [{"all": True}, {"tasks": [task]}]
        found: dict[str, list[Any]] = {
            "gold": [{"task": task, "answer": ANSWERS["pair"]}],
            "gold/withdraw": [{"task": task}],
            "tasks": [{"kind": "pair", "prompts": [prompt]}],
            "generate": [{"policies": [{"policy": "x"}], "prompts": [prompt]}],
            "prompts/withdraw": [{"prompts": [prompt]}],
            "prompts/restore": [{"prompts": [prompt]}],
            "tasks/change": [{"which": one, "action": "close"} for one in chosen],
            "tasks/change/preview": [{"which": one, "action": "close"} for one in chosen],
            "tasks/undo": [{"events": self.events[-20:]}],
            "redact": [{"id": one, "why": "x"} for one in (prompt, self.responses[0])],
            "invites": [{"rater": self.site.ids[who]} for who in ("rater", "settler", "manager", "both")]
            + [{"rater": self.site.ids["both"], "role": "manager"}],
        }
        return found.get(route.partition("{project}/")[2], [])

    def rows(self) -> set[tuple[str, str]]:
        """All that the store holds, but for sessions that are opened, and the other project's own row."""
        with self.site.store.read() as connection:
            return {
                (table.name, repr(row))
                for table in schema.metadata.sorted_tables
                for row in connection.execute(select(table))
                if not (table.name == "project" and row.name == "elsewhere")
            }

    def is_told(self, response: Any, given: Any = None) -> list[str]:
        """What a reply gives away; ids that were given to it are no news."""
        known = [*self.tasks, *self.responses, *self.guidelines, *self.assignments, *SECRETS]
        return [one for one in known if one in response.text and one not in json.dumps(given)]


@pytest.fixture(scope="module")
def elsewhere(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("roles")
    (folder / FILE).write_bytes(sqlite_template.read_bytes())
    with serving(Store.open(folder), folder) as made:
        yield Elsewhere(made)


@pytest.mark.parametrize("route", MANAGED)
def test_a_manager_of_another_project_is_refused(elsewhere: Elsewhere, route: str):
    """Nothing read, nothing changed, by who has no role here and by who has a lesser one."""
    before = elsewhere.rows()
    lesser = ("both",) if ROUTES[route] == SETTLER else ("both", "settles")
    for who in ("foreign", *lesser):
        response = ask(elsewhere.site, who, route, **elsewhere.names)
        if route == "GET /api/manage/projects":
            assert [one["name"] for one in response.json()["projects"]] == ["elsewhere"]
        elif route == "POST /api/manage/projects":
            assert error_of(response) == (403, "forbidden")
        elif route in OF_NO_PROJECT:
            assert response.status_code in (200, 422)
        elif "{rater}" in route:  # whose access would end in both projects
            assert response.status_code == 404
        else:
            assert response.status_code == (404 if who == "foreign" else 403), response.text
        assert elsewhere.is_told(response) == []
        assert elsewhere.rows() == before


@pytest.mark.parametrize("route", [one for one in MANAGED if "{project}" in one and not one.startswith("GET")])
def test_nor_do_they_reach_it_from_their_own(elsewhere: Elsewhere, route: str):
    """Their own project's address, and ids of the other's in the body."""
    before = elsewhere.rows()
    for body in elsewhere.aimed(route):
        method, path = route.split(" ")
        response = elsewhere.site.ask("foreign", method, path.replace("{project}", "elsewhere"), body)
        assert elsewhere.is_told(response, body) == []
        after = elsewhere.rows()
        assert before <= after
        ids_here = [*elsewhere.tasks, *elsewhere.prompts, *elsewhere.responses, elsewhere.site.project.id]
        fresh = [row for _, row in after - before]
        assert [one for one in [*ids_here, *elsewhere.site.ids.values()] if any(one in row for row in fresh)] in (
            [], [elsewhere.site.ids["foreign"]],
        )  # fmt: skip


def test_every_pair_of_roles_is_each_where_it_is(elsewhere: Elsewhere):
    """In a manager's own project they do what managers do; in the other one what their role there does."""
    site = elsewhere.site
    for who in ("foreign", "both", "settles"):
        assert site.ask(who, "GET", "/api/manage/projects/elsewhere").status_code == 200
        assert site.ask(who, "GET", "/manage/elsewhere/raters").status_code == 200
    assert site.ask("both", "POST", "/api/projects/colours/next", {}).status_code == 200
    assert error_of(site.ask("foreign", "POST", "/api/projects/colours/next", {})) == (404, "not_found")
    told = site.ask("settles", "GET", "/api/manage/projects/colours/adjudication")
    assert told.status_code == 200
    assert site.ask("settles", "GET", "/manage/colours/adjudicate").status_code == 200
    for who, path, status in (
        ("foreign", "/manage/colours/raters", 404), ("both", "/manage/colours/raters", 403),
        ("settles", "/manage/colours/raters", 403), ("foreign", "/judge/colours", 404), ("both", "/judge/colours", 200),
    ):  # fmt: skip
        response = site.ask(who, "GET", path)
        assert response.status_code == status, path
        assert elsewhere.is_told(response) == []
    home = site.ask("both", "GET", "/").text
    assert 'href="/judge/colours"' in home
    assert 'href="/manage/elsewhere"' in home
    roles = {one["name"]: one["role"] for one in site.ask("both", "GET", "/api/me").json()["projects"]}
    assert roles == {"colours": "rater", "elsewhere": "manager"}


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Iterator[Site]:
    """On both databases."""
    with serving(store, tmp_path, prompts=2) as made:
        yield made


def listed(site: Site, name: str) -> Mapping[str, str]:
    told = site.ask("manager", "GET", f"/api/manage/projects/{name}/raters").json()["raters"]
    return {one["pseudonym"]: one["role"] for one in told}


def test_an_invitation_says_the_role_in_one_project(site: Site):
    def invite(name: str, **given: Any) -> Any:
        return site.ask("manager", "POST", f"/api/manage/projects/{name}/invites", given)

    made = invite("colours", role="manager", pseudonym="mia").json()
    assert listed(site, "colours")["mia"] == "manager"
    assert invite("elsewhere", rater=made["rater"]).status_code == 201  # a rater there, unless it is said
    assert (listed(site, "colours")["mia"], listed(site, "elsewhere")["mia"]) == ("manager", "rater")
    assert invite("colours", rater=made["rater"]).status_code == 201  # has lost the link, and stays what she is
    assert listed(site, "colours")["mia"] == "manager"
    assert invite("elsewhere", rater=made["rater"], role="adjudicator").status_code == 201
    assert (listed(site, "colours")["mia"], listed(site, "elsewhere")["mia"]) == ("manager", "adjudicator")
    told = site.ask("manager", "GET", "/api/manage/projects/elsewhere/events").json()["items"]
    assert [one["action"] for one in told if one["entity_id"] == made["rater"]][:2] == ["invite", "role"]
    me = invite("colours", rater=site.ids["manager"], role="rater")
    assert error_of(me) == (409, "conflict")
    with pytest.raises(Refused, match="name it"):
        site.store.write(lambda c: people.add_rater(c, None, role="adjudicator"))


def test_managers_of_a_project_settle_what_is_theirs_alone(site: Site):
    """Access is of a person and not of a project: it is given and ended by who manages all of their projects."""
    found = site.store.write(lambda c: project.get_project(c, "elsewhere"))
    mia = site.store.write(lambda c: people.add_rater(c, site.project.id, role="manager", pseudonym="mia"))
    site.tokens["mia"] = site.store.write(lambda c: people.open_session(c, mia, kind="api"))
    site.store.write(lambda c: people.add_member(c, found.id, site.ids["second"], "test"))

    def asked(path: str, **body: Any) -> tuple[int, str | None]:
        response = site.ask("mia", "POST", f"/api/manage/{path}", body)
        return response.status_code, json.loads(response.content)["error"] if response.status_code >= 400 else None

    link = "projects/colours/invites"
    for who in ("stranger", "manager"):  # in no project of hers
        assert asked(link, rater=site.ids[who]) == asked(f"raters/{site.ids[who]}/revoke") == (404, "not_found")
    assert asked(link, rater=site.ids["second"]) == (403, "forbidden")  # a link would open the other project, too
    assert asked(f"raters/{site.ids['second']}/erase") == (403, "forbidden")
    assert asked(link, rater=mia, role="rater") == (409, "conflict")
    assert asked(link, rater=site.ids["rater"], role="adjudicator") == (201, None)
    assert listed(site, "colours")["rater"] == "adjudicator"
    assert asked(f"raters/{site.ids['rater']}/revoke") == (204, None)
    assert site.ask("rater", "GET", "/api/me").status_code == 401


def test_whose_judgments_came_in_a_file_judged_as_a_rater(site: Site):
    """And is no member: an import lets nobody in who works elsewhere."""
    site.submit(site.next())
    here = schema.member.c.rater_id == site.ids["rater"]
    site.store.write(lambda c: c.execute(schema.member.delete().where(here)))
    (row,) = site.ask("manager", "GET", "/api/manage/projects/colours/raters").json()["figures"]
    assert (row["pseudonym"], row["role"]) == ("rater", "rater")
    assert error_of(site.ask("rater", "POST", "/api/projects/colours/next", {})) == (404, "not_found")


def test_a_role_that_was_taken_is_gone_at_once(site: Site):
    mia = site.store.write(lambda c: people.add_rater(c, site.project.id, role="manager"))
    site.tokens["mia"] = site.store.write(lambda c: people.open_session(c, mia, kind="api"))
    assert site.ask("mia", "GET", "/api/manage/projects/colours").status_code == 200
    body = {"rater": mia, "role": "rater"}
    assert site.ask("manager", "POST", "/api/manage/projects/colours/invites", body).status_code == 201
    assert error_of(site.ask("mia", "GET", "/api/manage/projects/colours")) == (403, "forbidden")
    assert site.ask("mia", "POST", "/api/projects/colours/next", {}).status_code == 200
