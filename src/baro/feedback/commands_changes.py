"""``baro feedback ...``: what a manager takes back: a project's state, tasks, prompts, and texts that have to go."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from baro.errors import ConfigError
from baro.feedback.commands import ACTOR, Json, ProjectName, StoreOption, one_of, open_store, tell
from baro.feedback.commands_out import app

__all__ = ["app"]  # with all its commands

Source = Annotated[str | None, typer.Option(metavar="NAME", help="Whose prompts came from this file.")]
ACTIONS = ("close", "reopen", "withdraw", "restore", "priority", "overlap")
STATES = ("open", "full", "closed", "withdrawn")
KINDS = ("pair", "rank", "thumb", "safety", "criteria", "edit")


def _project(where: str, name: str) -> tuple[Any, Any]:
    from baro.feedback.project import get_project

    opened = open_store(where)
    with opened.read() as connection:
        return opened, get_project(connection, name)


def _set_state(store: str, name: str, state: str) -> None:
    from baro.feedback.changes import set_state

    opened, project = _project(store, name)
    done = opened.write(lambda connection: set_state(connection, project, state, ACTOR))
    ended = f"; {done['leases']} tasks in somebody's hands were taken back" if done["leases"] else ""
    typer.echo(f"{name} is {state}{ended}")


@app.command()
def pause(name: ProjectName, store: StoreOption = "feedback") -> None:
    """Hand out nothing until the project is resumed; what is in somebody's hands can be sent."""
    _set_state(store, name, "paused")


@app.command()
def resume(name: ProjectName, store: StoreOption = "feedback") -> None:
    """Hand out tasks again, after a pause or after the end."""
    _set_state(store, name, "open")


@app.command()
def end(name: ProjectName, store: StoreOption = "feedback") -> None:
    """Hand out nothing any more, and end every lease; `resume` takes it back."""
    _set_state(store, name, "ended")


@app.command()
def change(
    name: ProjectName,
    action: Annotated[str, typer.Argument(metavar="|".join(ACTIONS), help="What is to become of the tasks.")],
    value: Annotated[int | None, typer.Argument(metavar="[N]", help="The new priority or overlap.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Tasks of this kind.")] = None,
    source: Source = None,
    state: Annotated[str | None, typer.Option(metavar="|".join(STATES), help="Tasks in this state.")] = None,
    priority: Annotated[int | None, typer.Option(help="Tasks of this priority.")] = None,
    tasks: Annotated[list[str] | None, typer.Option("--task", metavar="ID", help="These tasks.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tasks of the project.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Only say how many that would be.")] = False,
    json_: Json = False,
    store: StoreOption = "feedback",
) -> None:
    """Close, reopen, withdraw or restore tasks, or give them another priority or overlap; `undo` takes it back."""
    from baro.feedback import changes

    opened, project = _project(store, name)
    given = {
        "kind": None if kind is None else one_of("--kind", kind, KINDS),
        "source": source,
        "state": None if state is None else one_of("--state", state, STATES),
        "priority": priority,
        "tasks": tasks or None,
    }
    if everything == any(one is not None for one in given.values()):
        raise ConfigError("say which tasks: --kind, --source, --state, --priority or --task, or --all alone")
    chosen = _checked(changes.Chosen, given)
    wanted = _checked(changes.Change, {"action": one_of("ACTION", action, ACTIONS), "value": value})
    if preview:
        with opened.read() as connection:
            found = changes.preview(connection, project, chosen, wanted)
        words = f"of {found['tasks']} tasks {found['changed']} would change"
        more = f"; {found['judgments']} judgments, {found['in_hand']} in somebody's hands"
        tell(found, True) if json_ else typer.echo(words + more)
    else:
        _say(name, changes.change_tasks(opened, project, chosen, wanted, ACTOR), json_)


def _checked(kind: Any, given: Any) -> Any:
    from pydantic import ValidationError

    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {what}" if where else what) from None


def _say(name: str, done: Any, as_json: bool) -> None:
    if as_json:
        tell(done, True)
        return
    typer.echo(f"{done['changed']} tasks changed, {done['same']} were so already or cannot change")
    if done["events"]:
        typer.echo(f"to take it back: baro feedback undo {name} {_ranges(done['events'])}", err=True)


def _ranges(events: list[int]) -> str:
    """Numbers as they are written for ``undo``: 3, 5-9."""
    parts: list[list[int]] = []
    for one in sorted(events):
        if parts and one == parts[-1][-1] + 1:
            parts[-1].append(one)
        else:
            parts.append([one])
    return " ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


@app.command()
def undo(
    name: ProjectName,
    events: Annotated[list[str], typer.Argument(metavar="EVENT...", help="As the change told them: 12, or 12-15.")],
    json_: Json = False,
    store: StoreOption = "feedback",
) -> None:
    """Take back changes of tasks or prompts, where nobody has changed them since."""
    from baro.feedback import changes

    numbers: list[int] = []
    for one in events:
        first, _, last = one.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and int(first) <= int(last or first)):
            raise ConfigError(f"{one}: is no event; give numbers, or a first and a last one with a hyphen between")
        numbers += range(int(first), int(last or first) + 1)
    opened, project = _project(store, name)
    _say(name, changes.undo(opened, project, numbers, ACTOR), json_)


@app.command()
def withdraw(
    name: ProjectName,
    prompts: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT...]", help="Their ids.")] = None,
    source: Source = None,
    restore: Annotated[bool, typer.Option("--restore", help="Let them count again.")] = False,
    why: Annotated[str, typer.Option(help="Kept in the log.")] = "",
    store: StoreOption = "feedback",
) -> None:
    """Prompts with all their tasks count no more in labels and exports; what was judged stays in the store."""
    from sqlalchemy import select

    from baro.feedback import schema
    from baro.feedback.intake import in_parts
    from baro.feedback.withdrawals import withdraw_prompts

    if bool(prompts) == (source is not None):
        raise ConfigError("name the prompts by their ids, or where they came from with --source")
    opened, project = _project(store, name)
    chosen = sorted(set(prompts or ()))
    if source is not None:
        table = schema.prompt
        with opened.read() as connection:
            here = (table.c.project_id == project.id) & (table.c.source == source)
            chosen = list(connection.execute(select(table.c.id).where(here).order_by(table.c.id)).scalars())
        if not chosen:
            raise ConfigError(f"--source {source}: no prompt of {name} came from there")

    def work(connection: Any, part: Any) -> Any:
        return withdraw_prompts(connection, project, part, ACTOR, withdrawn=not restore, why=why)

    done = list(in_parts(opened, chosen, work, 100))
    found = {key: sum(one[key] for one in done) for key in ("prompts", "tasks", "judgments")}
    what = "restored" if restore else "withdrawn"
    typer.echo(
        f"{found['prompts']} prompts {what}, with {found['tasks']} tasks and {found['judgments']} judgments; "
        f"{len(chosen) - found['prompts']} were so already"
    )


@app.command()
def redact(
    entity: Annotated[str, typer.Argument(metavar="ID", help="Of a prompt, response, judgment or skipped task.")],
    why: Annotated[str, typer.Option(help="Kept in the log, beside who did it.")],
    message: Annotated[int | None, typer.Option(min=1, help="Only this message of a prompt.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: StoreOption = "feedback",
) -> None:
    """Overwrite a text with "[removed]" for ever, in the store and in every export from now on."""
    from baro.feedback.redaction import redact as remove

    opened = open_store(store)
    if not yes:
        typer.confirm("The text cannot be had back from this store. Remove it?", abort=True, err=True)
    done = remove(opened, entity, why, ACTOR, message=message)
    typer.echo(f"{done['entity']} {entity} of {done['project']}: removed; {done['tasks']} more tasks count no more")
    for other in done["same_text"]:
        typer.echo(f"{other} has the same text, and still has it", err=True)
    typer.echo("backups, exports and runs made before hold copies; remove them there", err=True)
