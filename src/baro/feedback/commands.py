"""``baro feedback ...``: what goes into the store, from the command line; people are in commands_people.py, what
comes out in commands_out.py, and what is taken back in commands_changes.py.

The store is the folder ``feedback`` beside you, or what --store or the environment variable BARO_FEEDBACK names: a
folder, or a PostgreSQL URL. Everything but typer is imported inside functions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baro.errors import ConfigError

if TYPE_CHECKING:
    from baro.feedback.database import Store

app = typer.Typer(help="Judgments by people: a web page, and what becomes of them.", no_args_is_help=True,
                  rich_markup_mode=None)  # fmt: skip
StoreOption = Annotated[str, typer.Option("--store", envvar="BARO_FEEDBACK", metavar="DIR|URL", help="The store.")]
ProjectName = Annotated[str, typer.Argument(metavar="PROJECT")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ACTOR = "command line"  # as database.COMMAND_LINE, which is not imported for --help


def open_store(where: str, *, create: bool = False) -> Store:
    """The store; ConfigError where there is none, or where what feedback needs is not installed."""
    try:
        from baro.feedback.database import Store
    except ModuleNotFoundError as error:
        raise ConfigError(f"feedback needs {error.name}: install it with pip install 'baro[feedback]'") from error
    return Store.open(where, create=create)


def text_of(file: Path) -> str:
    """A file that a person wrote; ConfigError where there is none, or no UTF-8 in it."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); give another file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from None


def tell(found: Any, as_json: bool) -> None:
    """What was found, as YAML for people or as JSON."""
    from baro.rows import finite

    text = json.dumps(finite(found), ensure_ascii=False, allow_nan=False)
    if as_json:
        typer.echo(text)
        return
    import yaml

    typer.echo(yaml.safe_dump(json.loads(text), allow_unicode=True, sort_keys=False).rstrip())


@app.command()
def create(
    name: ProjectName,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")] = None,
    store: StoreOption = "feedback",
) -> None:
    """A new project, and the store if there is none yet."""
    from baro.config import load_config
    from baro.feedback.project import create_project
    from baro.feedback.settings import ProjectSettings

    settings = load_config(ProjectSettings, None, set_ or (), {})
    made = open_store(store, create=True).write(lambda connection: create_project(connection, name, settings))
    typer.echo(made.name)


@app.command()
def settings(
    name: ProjectName,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting to change.")] = None,
    json_: Json = False,
    store: StoreOption = "feedback",
) -> None:
    """A project's settings; with --set new ones from now on."""
    from baro.config import load_config
    from baro.feedback.project import change_settings, get_project
    from baro.feedback.settings import ProjectSettings

    opened = open_store(store)
    with opened.read() as connection:
        project = get_project(connection, name)
    found = project.settings
    now = found.model_dump(mode="json")
    kept = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in now.items()]
    given = load_config(ProjectSettings, None, kept + (set_ or [])).model_dump(mode="json")
    changes = {key: value for key, value in given.items() if value != now[key]}
    if changes:
        found = opened.write(lambda connection: change_settings(connection, project, changes, ACTOR))
    tell(found.model_dump(mode="json"), json_)


@app.command("import")
def import_(
    name: ProjectName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Prompts, answers or judged rows; a file or a run.")],
    model: Annotated[str | None, typer.Option(help="Who wrote the answers; unknown unless given.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="argilla|label-studio|plain", help="Judgments made elsewhere.")
    ] = None,
    chat: Annotated[
        bool,
        typer.Option("--chat", help="Conversations: each turn of a person's, with consent, is a prompt."),
    ] = False,
    personal: Annotated[
        str, typer.Option(metavar="drop|mask|keep", help="With --chat: turns with personal data.")
    ] = "drop",
    all_agreed: Annotated[
        bool, typer.Option("--all-agreed", help="With --chat: everybody agreed, though the rows do not say so.")
    ] = False,
    store: StoreOption = "feedback",
) -> None:
    """Prompts and answers; with --chat the prompts of a log; with --format judgments made elsewhere."""
    from rich.console import Console

    from baro.data.chat_logs import personal_called
    from baro.feedback.imports import enter, read_judged
    from baro.feedback.intake import TOLD, UNKNOWN, ChatLog, Source, take_file
    from baro.feedback.project import get_project

    opened, path = open_store(store), _records_of(file)
    with opened.read() as connection:
        project = get_project(connection, name)
    if format_ is None:
        if chat and model:
            raise ConfigError("--chat takes the prompts of a log, and --model answers; give one of them")
        log = ChatLog(personal_called(personal), all_agreed) if chat else None
        source = Source(path.name, None if chat else model or _model_of(file), prompts_only=chat, chat=log)
        told, ledger = take_file(opened, project, path, source, ACTOR)
        said = _taken(told)
        if told["model"] == UNKNOWN != model:
            typer.echo(f"nobody says who wrote the answers: their model is {UNKNOWN!r}; --model NAME says it", err=True)
    else:
        form, judged, ledger = read_judged(path, one_of("--format", format_, ("argilla", "label-studio", "plain")))
        done = enter(opened, project, form, judged, ledger)
        said = f"{done.judgments} judgments added, {done.known} known"
    Console(stderr=True).print(ledger.summary())
    for entry in ledger.dropped[:TOLD]:
        typer.echo(entry, err=True)
    if len(ledger.dropped) > TOLD:
        typer.echo(f"and {len(ledger.dropped) - TOLD} more rows were dropped", err=True)
    typer.echo(said)


def _taken(told: dict[str, Any]) -> str:
    """20 prompts, 80 answers added; what was there already is said where there is any."""
    known = f"; {told['known_prompts']} prompts, {told['known_answers']} answers known"
    added = f"{told['prompts']} prompts, {told['answers']} answers added"
    return added + known * bool(told["known_prompts"] or told["known_answers"])


def one_of(flag: str, value: str, known: tuple[str, ...]) -> Any:
    """A word of those that are known; ConfigError for another."""
    if value not in known:
        raise ConfigError(f"{flag} {value}: there is no such thing; give one of {', '.join(known)}")
    return value


def _model_of(value: str) -> str | None:
    """Answers of a run need no --model: the run tells who drew them."""
    manifest = Path(value) / "run.json"
    return str(json.loads(manifest.read_text())["config"].get("policy", value)) if manifest.exists() else None


def _records_of(value: str) -> Path:
    """A file, or the records of a run."""
    path = Path(value)
    return path / "records.jsonl" if (path / "run.json").exists() else path


@app.command()
def tasks(
    name: ProjectName,
    kind: Annotated[str, typer.Option(metavar="KIND", help="pair, rank, thumb, safety, criteria or edit.")] = "pair",
    per_prompt: Annotated[int, typer.Option(help="Tasks of each prompt.")] = 1,
    size: Annotated[int | None, typer.Option(help="Answers of a task; 4 for rankings.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Judgments of each task; the project's unless given.")] = None,
    priority: Annotated[int, typer.Option(help="Higher ones are handed out first.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of which answers meet.")] = 0,
    store: StoreOption = "feedback",
) -> None:
    """Tasks from the answers that are there."""
    from baro.feedback.project import get_project, make_tasks

    how = {"per_prompt": per_prompt, "size": size, "overlap": overlap, "priority": priority, "seed": seed}
    done = open_store(store).write(
        lambda connection: make_tasks(connection, get_project(connection, name), kind, **how)
    )
    if not done.added and not done.known:
        none = "the project has no prompts" if not done.refused else "; ".join(map(str, done.refused[:3]))
        more = f"; and {len(done.refused) - 3} more" if len(done.refused) > 3 else ""
        raise ConfigError(f"no {kind} task was made: {none}{more}; import answers, or ask for another kind or --size")
    for one in done.refused[:3]:
        typer.echo(str(one), err=True)
    left_out = f", {len(done.refused)} prompts left out" if done.refused else ""
    typer.echo(f"{done.added} tasks added, {done.known} known{left_out}")


@app.command()
def gold(
    name: ProjectName,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its id.")],
    answer: Annotated[
        str | None, typer.Option(metavar="JSON", help='{"kind": "pair", "choice": ...}; slots for positions.')
    ] = None,
    correct: Annotated[bool, typer.Option("--correct", help="In place of the answer that is known.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="No answer is known any more.")] = False,
    note: Annotated[str, typer.Option(help="Why this is the answer; managers see it.")] = "",
    store: StoreOption = "feedback",
) -> None:
    """Tell the answer to a task, by which raters are measured; prints the id of the task that has it."""
    from baro.feedback.gold import make_gold, replace_gold, withdraw_gold
    from baro.feedback.project import get_project

    if (answer is None) != withdraw or (correct and withdraw):
        raise ConfigError("give the answer with --answer, or --withdraw the one that is known")
    known = None if answer is None else _answer(answer)

    def work(connection: Any) -> str | None:
        project = get_project(connection, name)
        if known is None:
            return withdraw_gold(connection, project, task, note, ACTOR)
        if not correct:
            return make_gold(connection, project, task, known, note, ACTOR)
        replace_gold(connection, project, task, known, note, ACTOR)
        return task

    typer.echo(open_store(store).write(work) or "withdrawn")


def _answer(text: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from baro.feedback.answers import AnyAnswer

    try:
        return TypeAdapter(AnyAnswer).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise ConfigError(f"--answer: {where}: {first['msg']}; a task's judgments show what one looks like") from None


@app.command()
def ask(
    name: ProjectName,
    count: Annotated[int, typer.Option(min=1, help="Tasks to add.")],
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Reward models; several, or an ensemble, see where they differ."),
    ] = None,
    kind: Annotated[str, typer.Option(metavar="KIND", help="pair, rank or safety.")] = "pair",
    random_fraction: Annotated[float, typer.Option(help="Share that is drawn at random, at least 0.2.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    store: StoreOption = "feedback",
) -> None:
    """What to ask next: random pairs, those that a reward model is unsure of, or those on which several differ."""
    from baro.feedback.ask import select
    from baro.feedback.project import get_project

    opened, scores = open_store(store), None
    policy: Any = "random"
    with opened.read() as connection:
        project = get_project(connection, name)
        if by:
            from baro.feedback.scored import in_common_units, load_members, scores_of

            rewards = load_members(by)
            policy = "margin" if len(rewards) == 1 else "disagreement"
            scores = scores_of(connection, project, rewards)
            scores = scores if len(rewards) == 1 else in_common_units(scores)
    found = opened.write(
        lambda connection: select(
            connection, project, kind, count, policy=policy, scores=scores, seed=seed, random_fraction=random_fraction
        )
    )
    again = f", {found['drawn_again']} of which are tasks already" if found["drawn_again"] else ""
    typer.echo(f"{found['added']} tasks added; {found['random']} draws at random{again}")


@app.command()
def guideline(
    name: ProjectName,
    file: Annotated[Path, typer.Argument(metavar="FILE.md", help="The guideline, in Markdown.")],
    lang: Annotated[str, typer.Option(metavar="ko|en", help="Its language.")] = "ko",
    store: StoreOption = "feedback",
) -> None:
    """What raters go by; the same text again is no new version."""
    from baro.feedback.project import get_project, publish_guideline

    body = text_of(file)
    typer.echo(
        open_store(store).write(
            lambda connection: publish_guideline(connection, get_project(connection, name), lang, body, ACTOR)
        )
    )


@app.command("ask-again")
def ask_again(
    name: ProjectName,
    which: Annotated[
        str, typer.Option(metavar="all|divided", help="All that was judged under an older guideline, or disagreements.")
    ] = "all",
    kinds: Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only tasks of this kind.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Judgments of each task; the project's unless given.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only say what it would take.")] = False,
    store: StoreOption = "feedback",
) -> None:
    """Ask again, under the newest guideline, what was judged under an older one; earlier judgments stay."""
    from baro.feedback import again
    from baro.feedback.project import get_project

    opened = open_store(store)
    choice = again.Choice(one_of("--which", which, ("all", "divided")), kinds or (), overlap)
    with opened.read() as connection:
        project = get_project(connection, name)
        found = again.preview(connection, project, choice)
    if preview:
        cost = f"; {found['hours']:.1f} hours, {found['cost']:,.0f} {found['currency']}" if found["hours"] else ""
        typer.echo(f"{found['tasks']} tasks would be asked again, for {found['judgments']} judgments{cost}")
        return
    done = opened.write(lambda connection: again.ask_again(connection, project, choice, ACTOR))
    typer.echo(f"{done['tasks']} tasks asked again, for {done['judgments']} judgments")


@app.command()
def criteria(
    name: ProjectName,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[CRITERION...]", help="All unless named.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Criteria of your own.")] = None,
    store: StoreOption = "feedback",
) -> None:
    """Take criteria that come with Baro: correctness, clarity, security, empathy, politeness, creativity, overall."""
    from baro.feedback.criteria import own_criteria, set_criteria, shipped_criteria
    from baro.feedback.project import get_project

    chosen = [] if file is not None and not keys else shipped_criteria(keys or ())
    chosen += [] if file is None else own_criteria(file)
    open_store(store).write(lambda connection: set_criteria(connection, get_project(connection, name), chosen, ACTOR))
    typer.echo(", ".join(one["key"] for one in chosen))
