"""Names are for people, ids for the store: neither is ever found in the other's place."""

import ast
import re
from pathlib import Path

import pytest
from feedback.serving import Site, error_of, serving

from baro.errors import ConfigError
from baro.feedback import ids, people, project
from baro.feedback.database import FILE, Store
from baro.feedback.refusals import Refused

PACKAGE = Path(ids.__file__).parent


def test_what_looks_like_an_id():
    assert all(ids.looks_like_id(ids.new_id()) for _ in range(100))
    assert ids.looks_like_id("01arz3ndektsv4rrffq69g5fav")
    for name in ("", "rater-1", "A" * 25, "A" * 27, "A" * 25 + "-", "A" * 25 + "U", "가" * 26):
        assert not ids.looks_like_id(name)


@pytest.mark.parametrize("change", [str, str.lower])
def test_names_that_look_like_ids_are_refused(store: Store, change):
    """A project called as another's id was, and a pseudonym that was a rater's id, used to open the wrong one."""
    there = store.write(lambda c: project.create_project(c, "there"))
    rater = store.write(lambda c: people.add_rater(c, there.id, pseudonym="one"))
    with pytest.raises(ConfigError, match="looks like an id"):
        store.write(lambda c: project.create_project(c, change(there.id)))
    with pytest.raises(Refused, match="looks like an id"):
        store.write(lambda c: people.add_rater(c, there.id, pseudonym=change(rater)))


def test_each_is_found_by_its_own(store: Store):
    there = store.write(lambda c: project.create_project(c, "there"))
    rater = store.write(lambda c: people.add_rater(c, there.id, pseudonym="one"))
    with store.read() as c:
        assert project.get_project(c, "there") == project.project_by_id(c, there.id) == there
        assert {find.id for find in (people.find_rater(c, "one"), people.find_rater(c, rater))} == {rater}
        assert people.rater_by_id(c, rater).id == people.rater_by_pseudonym(c, "one").id == rater
        for find, given in (
            (project.get_project, there.id), (project.project_by_id, "there"), (people.rater_by_id, "one"),
            (people.rater_by_pseudonym, rater), (people.find_rater, "nobody"), (people.find_rater, ids.new_id()),
        ):  # fmt: skip
            with pytest.raises(Refused, match="there is no"):
                find(c, given)


def test_no_query_takes_a_name_or_an_id():
    """The kind: ``(table.c.name == given) | (table.c.id == given)``, which finds whichever comes first."""
    given = r"\.c\.(name|pseudonym|id) == (\w+)"
    either = re.compile(rf"{given}\b.*\|.*{given}\b")

    def both(text: str) -> bool:
        one = either.search(text)
        return one is not None and one[2] == one[4] and len({one[1], one[3]} & {"name", "pseudonym", "id"}) == 2

    assert both("(t.c.name == x) | (t.c.id == x)")
    assert both("(t.c.id == x) | (t.c.pseudonym == x)")
    assert not both("(t.c.id == x) | (t.c.id == y)")
    found = [
        f"{path.name}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        if both(ast.unparse(node))
    ]
    assert found == []


@pytest.fixture
def site(sqlite_template: Path, tmp_path: Path):
    (tmp_path / FILE).write_bytes(sqlite_template.read_bytes())
    with serving(Store.open(tmp_path), tmp_path) as made:
        yield made


def test_pages_and_routes_know_projects_by_name_and_raters_by_id(site: Site):
    with site.store.read() as c:
        there = project.get_project(c, "colours")
        rater = people.rater_by_id(c, site.ask("rater", "GET", "/api/me").json()["id"])
    assert site.ask("rater", "GET", "/judge/colours").status_code == 200
    assert site.ask("rater", "GET", f"/judge/{there.id}").status_code == 404
    assert error_of(site.ask("manager", "GET", f"/api/manage/projects/{there.id}"))[0] == 404
    assert error_of(site.ask("manager", "POST", f"/api/manage/raters/{rater.pseudonym}/revoke", {}))[0] == 404
    assert site.ask("manager", "POST", f"/api/manage/raters/{rater.id}/revoke", {}).status_code == 204
    again = {"rater": rater.id}
    assert error_of(site.ask("manager", "POST", "/api/manage/projects/colours/invites", again)) == (409, "conflict")
