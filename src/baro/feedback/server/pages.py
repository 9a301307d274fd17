"""The HTML pages and what they load. Pages are shells; scripts fetch the rest from the API.

Static files are read once, when the application is made: an address is looked up among their names and never becomes a
path. The version is a part of the path, so that what a script imports has it as well; what is asked for with the
current one may be kept forever.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from baro.feedback import view
from baro.feedback.catalogue import catalogue, preferred
from baro.feedback.people import Rater, projects_of, role_in, roles_of
from baro.feedback.refusals import Refused
from baro.feedback.server.checked import CheckedRoute
from baro.feedback.server.sessions import Name, Stored, Visitor, project_of

PACKAGE = Path(__file__).parents[1]
MEDIA = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
FOREVER = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"  # kept, and asked for again with its ETag
TABS = ("overview", "prompts", "tasks", "guidelines", "raters", "agreement", "adjudicate", "export", "settings")
_IMPORT = re.compile(r"""^(?:import|export)\b[^;"']*["']\./([\w./]+)["']""", re.MULTILINE)
router = APIRouter(route_class=CheckedRoute)


@dataclass(frozen=True)
class Asset:
    """A static file."""

    content: bytes
    media: str
    etag: str


@dataclass(frozen=True, eq=False)
class Assets:
    """All static files by their address below /static/VERSION/, and a version that changes with any of them."""

    files: Mapping[str, Asset]
    version: str

    @lru_cache  # noqa: B019 (there is one for each folder, as long as the process lives)
    def modules(self, entry: str) -> tuple[str, ...]:
        """The entry and all that it imports, directly or not: a browser would learn of them one level at a time."""
        found = [entry]
        for name in found:
            beside = PurePosixPath(name).parent
            imported = _IMPORT.findall(self.files[name].content.decode()) if name in self.files else []
            found += [one for one in dict.fromkeys((beside / path).as_posix() for path in imported) if one not in found]
        return tuple(name for name in found if name in self.files)


@lru_cache
def load_assets(folder: Path = PACKAGE / "static") -> Assets:
    """Read the files of known types in a folder; links are left out."""
    files: dict[str, Asset] = {}
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix in MEDIA:
            name, content = path.relative_to(folder).as_posix(), path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            whole.update(f"{name} {digest}\n".encode())
            files[name] = Asset(content, MEDIA[path.suffix], f'"{digest[:32]}"')
    return Assets(files, whole.hexdigest()[:16])


@lru_cache
def _templates(folder: Path = PACKAGE / "templates") -> Environment:
    return Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)


def _page(
    request: Request, rater: Rater | None, name: str, status: int = 200, *, part: str | None = None, **values: Any
) -> HTMLResponse:
    """A page; part: a module that its script loads later on."""
    lang = rater.lang if rater else preferred(request.headers.get("accept-language", ""))
    assets = load_assets()
    common = {"lang": lang, "texts": catalogue(lang), "project": "", "projects": []}
    entries = [f"{one}.js" for one in (name, part) if one]
    modules = dict.fromkeys(module for entry in entries for module in assets.modules(entry))
    common |= {"version": assets.version, "modules": modules}
    html = _templates().get_template(f"{name}.html").render(common | values)
    return HTMLResponse(html, status, headers={"Cache-Control": "no-store", "Vary": "Cookie, Accept-Language"})


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})


def _work(name: str) -> str:
    return f"/judge/{quote(name, safe='')}"


@router.get("/")
def start(request: Request, store: Stored, rater: Visitor, stay: bool = False) -> Response:
    """Where somebody belongs; ``stay``: who comes from their only project's page is not sent back to it."""
    if rater is None:
        return _to("/join")
    with store.read() as connection:
        if roles_of(connection, rater) == {"manager"}:
            return _to("/manage")
    projects = _projects(store, rater)
    alone = len(projects) == 1 and not stay  # of a manager's there are more, with another role
    return _to(_work(projects[0]["name"])) if alone else _page(request, rater, "home", projects=projects)


def _projects(store: Stored, rater: Rater) -> list[dict[str, Any]]:
    with store.read() as connection:
        found = projects_of(connection, rater)
        return [one | {"done": view.progress(connection, rater.id, one["id"])["done"]} for one in found]


@router.get("/join")
def join(request: Request, rater: Visitor) -> Response:
    """Where an invitation leads; its token stands in the address's fragment and does not come here."""
    return _page(request, rater, "join")


@router.get("/judge/{project}")
def work(request: Request, store: Stored, rater: Visitor, project: Name) -> Response:
    """The rater's page."""
    if rater is None:
        return _to("/join")
    try:
        with store.read() as connection:
            name = project_of(connection, rater, project).name
    except Refused as refused:
        return _page(request, rater, "home", refused.status, projects=_projects(store, rater))
    return _page(request, rater, "work", project=name)


@router.get("/manage")
@router.get("/manage/{project}")
@router.get("/manage/{project}/{tab}")
def manage(
    request: Request, store: Stored, rater: Visitor, project: Name | None = None, tab: str = TABS[0]
) -> Response:
    """The manager's pages; who settles disagreements sees the one with those."""
    if rater is None:
        return _to("/join")
    if tab not in TABS:
        raise Refused("not_found", f"the pages of a project are {', '.join(TABS)}")
    with store.read() as connection:
        held, name = roles_of(connection, rater), ""
        role = "manager" if "manager" in held else None  # on the page of all projects
        if project and held & {"manager", "adjudicator"}:
            found = project_of(connection, rater, project)
            name, role = found.name, role_in(connection, rater.id, found.id)
    if role != "manager" and not (role == "adjudicator" and tab == "adjudicate"):
        return _page(request, rater, "home", 403, projects=_projects(store, rater))
    part = f"manage_{tab if project else 'projects'}"
    return _page(request, rater, "manage", part=part, project=name, tab=tab, role=role)


@router.get("/static/{version}/{path:path}")
def static(request: Request, version: str, path: str) -> Response:
    """A script, a style sheet or a font."""
    assets = load_assets()
    found = assets.files.get(path)
    if found is None:
        raise Refused("not_found", "there is no such file")
    headers = {"ETag": found.etag, "Cache-Control": FOREVER if version == assets.version else ASK_FIRST}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media, headers=headers)
