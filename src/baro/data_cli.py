"""``baro data ...``: files before training on them. ``baro data split`` makes a run, and stands with the stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at files before training on them.", no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Encoding = Annotated[str, typer.Option(metavar="NAME", help="Of a file of text that is not UTF-8: cp949, ...")]


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, a hub id or a run.")],
    policy: Annotated[str | None, typer.Option(metavar="RUN", help="Show rows in the tokens of this model.")] = None,
    as_: Annotated[str | None, typer.Option("--as", metavar="KIND", help="As demonstrations, prompts, ...")] = None,
    max_length: Annotated[int, typer.Option(help="Most tokens of a row.")] = 1024,
    encoding: Encoding = "utf-8",
    criteria: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A column that is a score.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A judgment to be left aside.")] = None,
    max_dropped_fraction: Annotated[float, typer.Option(help="Share of unusable rows that is an error.")] = 0.01,
    json_: Json = False,
) -> None:
    """What a file is taken for, three rows as tokens, and what would become of every row."""
    from rich.console import Console

    from baro.data.check import check_file, kind_called
    from baro.data.layouts import Reading
    from baro.inputs import load_template, resolve

    template = load_template(policy) if policy is not None else None
    want = kind_called(as_) if as_ is not None else None
    reading = Reading(criteria=tuple(criteria or ()), ignore=tuple(ignore or ()), encoding=encoding)
    found = check_file(resolve(file, "records"), template, max_length, want, reading)
    if json_:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        Console().print(found)
    found.ledger.check(max_dropped_fraction)


@app.command()
def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file or a run.")],
    to: Annotated[str, typer.Option(metavar="LAYOUT", help="Columns, as in prompt/chosen/rejected.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write: .jsonl or .jsonl.gz.")],
    encoding: Encoding = "utf-8",
    max_dropped_fraction: Annotated[float, typer.Option(help="Share of rows left out that is an error.")] = 0.01,
) -> None:
    """The same records in another layout, as JSON Lines."""
    from rich.console import Console

    from baro.data.convert import convert_file
    from baro.inputs import resolve

    description, ledger = convert_file(resolve(file, "records"), to, out, encoding)
    Console(stderr=True).print(description, ledger.summary(), sep="\n", markup=False, soft_wrap=True)
    ledger.check(max_dropped_fraction)
    typer.echo(str(out))


@app.command()
def prompts(
    file: Annotated[str, typer.Argument(metavar="LOG", help="Conversations: of baro chat, or any layout with turns.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write: .jsonl or .jsonl.gz.")],
    personal: Annotated[
        str, typer.Option(metavar="drop|mask|keep", help="What becomes of prompts with personal data.")
    ] = "drop",
    all_agreed: Annotated[
        bool, typer.Option("--all-agreed", help="Everybody agreed, though the rows do not say so.")
    ] = False,
    encoding: Encoding = "utf-8",
) -> None:
    """Conversations with people as prompts: with consent, once each, without personal data."""
    from rich.console import Console

    from baro.data.chat_logs import personal_called, write_prompts
    from baro.inputs import resolve

    description, ledger = write_prompts(
        resolve(file, "records"), out, personal=personal_called(personal), all_agreed=all_agreed, encoding=encoding
    )
    Console(stderr=True).print(description, ledger.summary(), sep="\n", markup=False, soft_wrap=True)
    typer.echo(str(out))
