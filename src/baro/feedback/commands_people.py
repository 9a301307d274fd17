"""``baro feedback ...``: the people who judge, the server they judge at, and how well it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from baro.errors import ConfigError
from baro.feedback.commands import ACTOR, Json, ProjectName, StoreOption, app, one_of, open_store, tell

Role = Annotated[
    str | None,
    typer.Option(
        metavar="rater|adjudicator|manager", help="In this project: a rater unless given; with --again what they were."
    ),
]
RaterName = Annotated[str, typer.Argument(metavar="RATER", help="The pseudonym, or the id.")]


@app.command()
def invite(
    name: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="None with --all-projects.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many raters.")] = 1,
    role: Role = None,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="A manager of every project of the store, and of those to come.")
    ] = False,
    lang: Annotated[str, typer.Option(metavar="ko|en", help="The language of their page.")] = "ko",
    pseudonym: Annotated[str | None, typer.Option(help="What a new person is called; a number unless given.")] = None,
    again: Annotated[
        str | None,
        typer.Option(
            "--again", metavar="RATER", help="Another link for who has lost theirs, or works in another project."
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Where the server is reached; as `serve` was started last unless given.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write pseudonyms and links there as CSV.")] = None,
    store: StoreOption = "feedback",
) -> None:
    """Who was invited, with a link that works once each; give each to one person."""
    from baro.feedback.address import known_address
    from baro.feedback.cells import write_private_csv
    from baro.feedback.people import active_id, add_member, add_rater, find_rater, pseudonyms_of
    from baro.feedback.people import invite as make_invite
    from baro.feedback.project import get_project

    _check_invitation(name, count, role, all_projects, pseudonym, again)
    if csv is not None and csv.exists():
        raise ConfigError(f"{csv}: exists already; name another file")

    def work(connection: Any) -> tuple[list[tuple[str, str]], str | None]:
        here = None if name is None else get_project(connection, name).id
        new = {"role": role or ("manager" if all_projects else "rater"), "lang": lang, "pseudonym": pseudonym}
        if again is not None and here is not None:
            people = [active_id(find_rater(connection, again))]
            add_member(connection, here, people[0], ACTOR, role)
        else:
            people = [add_rater(connection, here, **new) for _ in range(count)]
        names = pseudonyms_of(connection, people)
        return [(names[one], make_invite(connection, one)) for one in people], known_address(connection)

    made, known = open_store(store).write(work)
    place = (address or known or "").rstrip("/")
    rows = [(who, f"{place}/join#{token}") for who, token in made]
    if csv is not None:
        write_private_csv(csv, ["pseudonym", "link"], rows)
    typer.echo("\n".join([str(csv)] if csv is not None else [f"{who}  {link}" for who, link in rows]))
    if not place:
        typer.echo(
            "no address is known, since no server was started with this store yet: put the one that `baro feedback "
            "serve` prints in front of each /join, or give --address",
            err=True,
        )


def _check_invitation(
    name: str | None, count: int, role: str | None, all_projects: bool, pseudonym: str | None, again: str | None
) -> None:
    """ConfigError for options that say different things."""
    if all_projects and (name or again or role not in (None, "manager")):
        raise ConfigError("--all-projects invites a new manager of every project; leave out PROJECT, --again, --role")
    if not all_projects and name is None:
        raise ConfigError("name the PROJECT, or invite a manager of every project with --all-projects")
    if count > 1 and (pseudonym or again):
        raise ConfigError("--pseudonym and --again are about one person; leave --count out")


@app.command()
def revoke(rater: RaterName, store: StoreOption = "feedback") -> None:
    """End somebody's sessions and invitations; what they judged stays."""
    from baro.feedback import people

    open_store(store).write(
        lambda connection: people.revoke(connection, people.find_rater(connection, rater).id, ACTOR)
    )


@app.command()
def erase(rater: RaterName, store: StoreOption = "feedback") -> None:
    """Forget who somebody is, and end their access; what they judged stays."""
    from baro.feedback.people import erase as erase_rater
    from baro.feedback.people import find_rater

    open_store(store).write(lambda connection: erase_rater(connection, find_rater(connection, rater).id, ACTOR))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Where to listen; this machine only unless given.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    hosts: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Names under which people reach it.")] = None,
    behind_https_proxy: Annotated[
        bool, typer.Option("--behind-https-proxy", help="A proxy speaks HTTPS to them.")
    ] = False,
    policies: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="What managers may draw answers from.")
    ] = None,
    files: Annotated[Path | None, typer.Option(metavar="DIR", help="Where exports go; the store unless given.")] = None,
    pool: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Connections to PostgreSQL of this process; 8 unless given.")
    ] = None,
    store: StoreOption = "feedback",
) -> None:
    """The web page on which people judge."""
    open_store(store).close()
    from baro.feedback.server.serve import serve as run_server

    run_server(
        store,
        host=host,
        port=port,
        hosts=hosts or (),
        behind_https_proxy=behind_https_proxy,
        policies=policies or (),
        files=files,
        pool=pool,
    )


@app.command()
def progress(name: ProjectName, json_: Json = False, store: StoreOption = "feedback") -> None:
    """How far it is, and what it cost."""
    _panel(store, name, "progress", json_)


@app.command()
def agreement(
    name: ProjectName,
    guidelines: Annotated[
        str, typer.Option(metavar="all|newest", help="Judgments under every guideline, or under the newest only.")
    ] = "all",
    policy: Annotated[
        str,
        typer.Option(metavar="all|random", help="All tasks, or only those drawn at random."),
    ] = "all",
    json_: Json = False,
    store: StoreOption = "feedback",
) -> None:
    """How far raters agree, with intervals."""
    given = (one_of("--guidelines", guidelines, ("all", "newest")), one_of("--policy", policy, ("all", "random")))
    _panel(store, name, "agreement", json_, *given)


@app.command()
def bias(name: ProjectName, json_: Json = False, store: StoreOption = "feedback") -> None:
    """Habits that have nothing to do with the answers: sides, length, haste, and what changes over a sitting."""
    _panel(store, name, "bias", json_)


@app.command()
def raters(name: ProjectName, json_: Json = False, store: StoreOption = "feedback") -> None:
    """Each rater's figures, with flags and the evidence for them."""
    _panel(store, name, "raters", json_)


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="All projects unless named.")] = None,
    what: Annotated[
        str, typer.Argument(metavar="[tasks|prompts|guidelines|criteria|events|people]", help="What to list of it.")
    ] = "tasks",
    state: Annotated[
        str | None, typer.Option(metavar="open|full|closed|gold|withdrawn", help="Only tasks in this state.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="How many to pass over.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    json_: Json = False,
    store: StoreOption = "feedback",
) -> None:
    """The projects of the store, or what is in one."""
    from baro.feedback.changes import Chosen
    from baro.feedback.project import get_project
    from baro.feedback.server import listing

    one_of("WHAT", what, ("tasks", "prompts", "guidelines", "criteria", "events", "people"))
    states = ("open", "full", "closed", "gold", "withdrawn")
    chosen = Chosen(state=None if state is None else one_of("--state", state, states))
    with open_store(store).read() as connection:
        if name is None:
            found: Any = listing.projects(connection)
        elif what == "criteria":
            found = listing.criteria(connection, get_project(connection, name).id)
        elif what == "tasks":
            found = listing.tasks(connection, get_project(connection, name).id, chosen, offset, limit)
        else:
            found = getattr(listing, what)(connection, get_project(connection, name).id, offset, limit)
    tell(found, json_)


@app.command()
def task(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its id.")],
    json_: Json = False,
    store: StoreOption = "feedback",
) -> None:
    """Everything about a task: the models behind its answers, every judgment, revised and taken back ones too."""
    from baro.feedback.server.listing import task as told

    with open_store(store).read() as connection:
        tell(told(connection, task), json_)


def _panel(store: str, name: str, which: str, as_json: bool, *more: Any) -> None:
    from baro.feedback import panel
    from baro.feedback.project import get_project

    with open_store(store).read() as connection:
        tell(getattr(panel, which)(connection, get_project(connection, name), *more), as_json)


@app.command()
def adjudicate(name: ProjectName, json_: Json = False, store: StoreOption = "feedback") -> None:
    """The tasks on which raters disagree, the least sure first; they are settled on the manager's page."""
    _panel(store, name, "disagreements", json_)
