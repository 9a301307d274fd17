"""What flags say to a config, beside ``cli``, which makes the commands of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from baro.errors import ConfigError


def given_once(flag: str, positional: Any, option: Any) -> Any:
    """A value that may be given as an argument or as a flag, and not as both."""
    if positional and option:
        raise ConfigError(f"{flag} is given twice, as an argument and as a flag; keep one")
    return positional or option


def named_values(flag: str, values: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` as a name and a value; without a name, what stands after the colon or the last slash."""
    from baro.declared import default_name

    found: dict[str, str] = {}
    for given in values or []:
        name, equals, value = given.partition("=")
        if not equals:
            name, value = default_name(given), given
        if name in found:
            raise ConfigError(f"{flag}: two of them are called {name}; write {flag} NAME={value}")
        found[name] = value
    return found


def print_row(row: Mapping[str, Any]) -> None:
    """A row on stdout, as JSON."""
    typer.echo(json.dumps(row, ensure_ascii=False, allow_nan=False))


def verify(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="The same as --file.")] = None,
    file_flag: Annotated[str | None, typer.Option("--file", metavar="FILE", help="Rows with completions.")] = None,
    verifier: Annotated[str | None, typer.Option(metavar="NAME", help="gsm8k, text, choice, format, ...")] = None,
    audit: Annotated[bool | None, typer.Option("--audit", help="How often it is wrong, by known verdicts.")] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of a file that is not UTF-8: cp949.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="A judgment to leave aside.")] = None,
) -> dict[str, Any]:
    """Look at completions with a verifier: a JSON line for each; with --audit how often it is wrong."""
    what = given_once("file", file, file_flag)
    block = None if verifier is None else {"name": verifier}  # a block, so that --set verifier.KEY goes beside it
    return {"file": what, "verifier": block, "audit": audit, "encoding": encoding, "ignore": ignore}
