"""``baro feedback ...``: what comes out of the store: data sets, records, backups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baro.feedback.commands import ACTOR, ProjectName, StoreOption, open_store, tell
from baro.feedback.commands_people import app


@app.command()
def export(
    name: ProjectName,
    layout: Annotated[str, typer.Option(metavar="LAYOUT", help="pairs, ranks, kto, pku, criteria, edits, facts, ...")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder is made inside.")] = Path("exports"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting: labels.method, held_out, ...")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only show the first rows and what is left out.")] = False,
    store: StoreOption = "feedback",
) -> None:
    """A data set with its card: rows, what was left out and why, agreement."""
    from baro.config import load_config
    from baro.feedback import exports
    from baro.feedback.project import get_project
    from baro.feedback.rows import ExportSettings

    settings = load_config(ExportSettings, None, set_ or ())
    opened = open_store(store)
    with opened.read() as connection:
        project = get_project(connection, name)
        if preview:
            tell(exports.preview(connection, project, layout, settings), as_json=False)
            return
    done = exports.write(opened, project, layout, settings, out, ACTOR)
    for reason, count in done["dropped"].items():
        typer.echo(f"{count} left out: {reason}", err=True)
    typer.echo(str(done["folder"]))


@app.command()
def records(
    name: ProjectName,
    form: Annotated[
        str, typer.Option(metavar="FORM", help="pairs, ranks, thumbs, ...; what was judged most.")
    ] = "auto",
    watermark: Annotated[int | None, typer.Option(help="Judgments up to this event; the newest unless given.")] = None,
    store: StoreOption = "feedback",
) -> None:
    """What feedback:PROJECT/FORM@WATERMARK stands for: the labels as a file."""
    from baro.data.stored import cache_folder
    from baro.feedback.stage_input import records_file

    folder = cache_folder() / "feedback" if "://" in store else None
    open_store(store).close()
    typer.echo(str(records_file(store, name, form, watermark=watermark, folder=folder)))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; must not exist.")],
    store: StoreOption = "feedback",
) -> None:
    """A copy of the whole store while people go on working."""
    typer.echo(str(open_store(store).backup(file)))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    store: StoreOption = "feedback",
) -> None:
    """A store from a backup, in a folder that holds none yet."""
    from baro.feedback.backups import restore as put_back

    typer.echo(str(put_back(file, store)))
