"""The pages: who is sent where, in which language, and how static files are kept."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from feedback.serving import Site, error_of, serving

from baro.feedback import catalogue, people, project
from baro.feedback.database import FILE, Store
from baro.feedback.server import pages


@pytest.fixture(scope="module")
def site(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / FILE).write_bytes(sqlite_template.read_bytes())
    with serving(Store.open(folder), folder) as made:
        yield made


def test_everybody_is_sent_where_they_belong(site: Site):
    def led(who: str | None, path: str = "/") -> tuple[int, str | None]:
        response = site.ask(who, "GET", path)
        return response.status_code, response.headers.get("location")

    assert led(None) == (303, "/join")
    assert led("rater") == (303, "/judge/colours")
    assert led("manager") == (303, "/manage")
    assert led(None, "/judge/colours") == (303, "/join")
    assert led(None, "/manage/colours/tasks") == (303, "/join")
    assert led("rater", "/judge/colours") == (200, None)
    assert led("rater", "/judge/elsewhere") == (404, None)
    assert led("rater", "/manage") == (403, None)
    assert led("manager", "/manage/colours/nothing") == (404, None)


def test_who_has_several_projects_chooses(site: Site):
    def join_both(connection):
        rater = people.add_rater(connection, site.project.id, pseudonym="both")
        people.add_member(connection, project.get_project(connection, "elsewhere").id, rater, "test")
        return people.open_session(connection, rater)

    site.tokens["both"] = site.store.write(join_both)
    html = site.ask("both", "GET", "/").text
    assert 'href="/judge/colours"' in html
    assert 'href="/judge/elsewhere"' in html


def test_pages_keep_to_their_own_policy(site: Site):
    """No inline script or style, nothing from elsewhere, and the version of the static files everywhere."""
    shown = ((None, "/join"), ("rater", "/judge/colours"), ("rater", "/judge/elsewhere"), ("manager", "/manage"),
             ("manager", "/manage/colours/tasks"), ("settler", "/manage/colours/adjudicate"))  # fmt: skip
    for who, path in shown:
        page = site.ask(who, "GET", path)
        assert page.status_code == (404 if path == "/judge/elsewhere" else 200)
        html = page.text
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|javascript:|https?://", html)
        assert pages.load_assets().version in html
        for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
            found = site.ask(None, "GET", address)
            assert found.status_code == 200, address
            assert found.headers["cache-control"] == pages.FOREVER


def test_the_language_is_the_raters_else_the_browsers(site: Site):
    assert '<html lang="ko">' in site.ask("rater", "GET", "/judge/colours").text
    for given, lang in (("ko-KR,ko;q=0.9,en;q=0.8", "ko"), ("de,en;q=0.5", "en"), ("", "en"), ("en;q=0.1,ko", "ko"),
                        ("ko;q=0,en;q=nonsense", "ko"), ("x" * 10_000, "en")):  # fmt: skip
        assert catalogue.preferred(given) == lang
    html = site.http.get("/join", headers={"Accept-Language": "ko"}).text
    assert '<html lang="ko">' in html


def test_static_files_are_kept_by_version(site: Site):
    version = pages.load_assets().version
    fresh = site.http.get(f"/static/{version}/dom.js")
    assert fresh.headers["content-type"] == "text/javascript; charset=utf-8"
    assert fresh.headers["cache-control"] == pages.FOREVER
    assert fresh.headers["x-content-type-options"] == "nosniff"
    older = site.http.get("/static/older/dom.js")
    assert older.headers["cache-control"] == pages.ASK_FIRST
    etag = {"If-None-Match": older.headers["etag"]}
    assert site.http.get("/static/older/dom.js", headers=etag).status_code == 304
    assert error_of(site.http.get(f"/static/{version}/nothing.js")) == (404, "not_found")
    for path in pages.load_assets().files:
        found = site.http.get(f"/static/{version}/{path}")
        assert found.headers["content-type"] == pages.MEDIA[Path(path).suffix]


def test_what_scripts_import_is_in_the_page(site: Site):
    """All modules of a page are loaded at once, under the version's path, by names that are there."""
    assets = pages.load_assets()
    for entry in ("home.js", "join.js", "work.js", "manage.js"):
        named = set(assets.modules(entry))
        for name in named - {"vendor/katex/katex.min.js"}:
            inside = re.findall(r"""(?:from|import)\s*\(?\s*["']([^"']+)["']""", assets.files[name].content.decode())
            assert all(path.startswith("./") for path in inside), name
            assert {path.removeprefix("./") for path in inside} <= named, name
    assert {"dom.js", "formulas.js", "vendor/katex/katex.min.js"} <= set(assets.modules("work.js"))
    html = site.ask("rater", "GET", "/judge/colours").text
    assert html.count('rel="modulepreload"') == len(assets.modules("work.js"))


def test_the_version_changes_with_a_file(tmp_path: Path):
    (tmp_path / "a.js").write_text("1")
    before = pages.load_assets(tmp_path).version
    pages.load_assets.cache_clear()
    (tmp_path / "a.js").write_text("2")
    assert pages.load_assets(tmp_path).version != before
    pages.load_assets.cache_clear()


def test_one_name_for_one_thing(site: Site):
    """In Korean, managers read the words that raters do, and none that only translates an English one."""
    korean = site.ask(None, "GET", "/api/texts/ko").json()
    other = re.compile("겹침|평활|유용|해로움|평가 항목|항목별|편집")
    assert {key: text for key, text in korean.items() if other.search(text)} == {}
