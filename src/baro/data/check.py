"""Looking at a file before training on it, writing it in another layout, and cutting it in two: ``baro data``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from baro.batch import Sample
from baro.data.encode import ENCODERS, account
from baro.data.files import UTF_8, write_rows
from baro.data.formats import NOUNS, read_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger
from baro.data.rows import Unusable
from baro.data.source import held_out_rows
from baro.data.stored import encode_cached
from baro.data.template import Template
from baro.data.warnings import warnings_about
from baro.errors import ConfigError, DataError
from baro.records import Record, content_hash

ROWS_SHOWN = 3
SCORED, UNSCORED = "bold black on green", "dim"
_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True, slots=True)
class Shown:
    """A stretch of tokens as people see it: several where only together they make whole characters."""

    text: str
    tokens: int
    scored: bool


@dataclass(frozen=True)
class CheckReport:
    """What a file holds. ``rows``: for each row shown, its key and the tokens of its prompt and of each completion."""

    description: str
    template: str
    ledger: Ledger
    rows: tuple[tuple[str, tuple[tuple[Shown, ...], ...]], ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        rows = [
            {"key": key, "sequences": [[[one.text, one.tokens, one.scored] for one in part] for part in parts]}
            for key, parts in self.rows
        ]
        return {
            "description": self.description,
            "template": self.template,
            "rows": rows,
            "ledger": self.ledger.to_json(),
            "warnings": list(self.warnings),
        }

    def __rich__(self) -> RenderableType:
        lines: list[RenderableType] = [Text(self.description), Text(self.template)]
        if self.rows:
            lines.append(
                Text("scored tokens", SCORED).append(" stand in ⟦ ⟧, a · is between two tokens", "not bold default")
            )
        for key, (prompt, *completions) in self.rows:
            lines += [Text(f"\n{key}", "bold"), _line("prompt", prompt)]
            lines += [_line(f"completion {i}", one) for i, one in enumerate(completions, start=1)]
        warnings = [Text(f"warning: {one}", "yellow") for one in self.warnings]
        return Group(*lines, Text(), self.ledger.summary(), *warnings)


def check_file(
    path: str | Path,
    template: Template | None,
    max_length: int,
    want: type[Record] | None = None,
    reading: Reading | None = None,
) -> CheckReport:
    """What the file is taken for, three rows as tokens, and the ledger; without a template only what needs none."""
    loaded = read_records(path, want, reading)
    ledger = Ledger(loaded.name)
    found = warnings_about(loaded, template)
    if template is None:
        account(loaded, ledger)
        return CheckReport(loaded.description, "no tokenizer given, so that lengths are unknown", ledger, (), found)
    samples = encode_cached(loaded, ENCODERS[loaded.kind], template, max_length, ledger)
    rows = tuple((sample.key, _sequences(sample, template)) for sample in samples[:ROWS_SHOWN])
    return CheckReport(loaded.description, template.describe(), ledger, rows, found)


def kind_called(name: str) -> type[Record]:
    """The kind of record that goes by a name as 'demonstrations'."""
    kinds = {noun.replace(" ", "-"): kind for kind, noun in NOUNS.items()}
    if name not in kinds:
        raise ConfigError(f"--as {name}: no such kind of record; give one of {', '.join(kinds)}")
    return kinds[name]


def split_file(
    path: str | Path,
    hold_out: float,
    by: Literal["prompt", "row"],
    out_dir: str | Path,
    seed: int,
    encoding: str = UTF_8,
) -> tuple[Path, Path, dict[str, int]]:
    """Write ``train.jsonl`` and ``held_out.jsonl``, each row as it stood and in its order.

    ``hold_out``: a fraction below 1, or a number of rows. by="prompt" keeps rows of one prompt on one side.
    """
    loaded = read_records(path, reading=Reading(encoding=encoding))
    if loaded.fit.layout.assemble is not None:
        raise DataError(
            f"{loaded.name}: its rows are turns of trees, which cannot be cut by row; write them as rankings first, by "
            "`baro data convert FILE --to prompt/responses/ranks`"
        )
    groups = [_group(key, record, by) for key, record in loaded.rows()]
    held = held_out_rows(groups, hold_out, seed)
    train_path, held_path = Path(out_dir) / "train.jsonl", Path(out_dir) / "held_out.jsonl"
    write_rows(train_path, (row.line for i, row in enumerate(loaded.files) if i not in held))
    write_rows(held_path, (row.line for i, row in enumerate(loaded.files) if i in held))
    prompts: dict[str, set[str]] = {"train_prompts": set(), "held_out_prompts": set()}
    for i, group in enumerate(groups):
        prompts["held_out_prompts" if i in held else "train_prompts"].add(group)
    counts = {"train": len(groups) - len(held), "held_out": len(held)}
    return train_path, held_path, counts | {name: len(groups) for name, groups in prompts.items()}


def _group(key: str, record: Record | Unusable, by: Literal["prompt", "row"]) -> str:
    """What must not stand on both sides; raw text has no prompt, and equal texts stay together."""
    if isinstance(record, Unusable):
        return key
    return content_hash(record.prompt if by == "prompt" and record.prompt else record)


def _sequences(sample: Sample, template: Template) -> tuple[tuple[Shown, ...], ...]:
    prompt = sample.prompt_ids.tolist()
    branches = [(one.ids.tolist(), one.scored.tolist()) for one in sample.completions]
    parts = [(prompt, [False] * len(prompt)), *branches]
    return tuple(tuple(show_tokens(template, ids, scored)) for ids, scored in parts)


def show_tokens(template: Template, ids: Sequence[int], scored: Sequence[bool]) -> list[Shown]:
    """Tokens as text; bytes of one character are shown together, and never a scored and an unscored token."""
    shown: list[Shown] = []
    start = 0
    for end in range(1, len(ids) + 1):
        text = template.visible(ids[start:end])
        whole = "\ufffd" not in text
        if whole or end == len(ids) or scored[end] != scored[start] or end - start == 4:
            shown.append(Shown(text, end - start, scored[start]))
            start = end
    return shown


def _line(name: str, parts: Sequence[Shown]) -> Text:
    line = Text(f"  {name}: ", "cyan")
    for i, one in enumerate(parts):
        before = "⟦" if one.scored and not (i and parts[i - 1].scored) else "·" if i else ""
        after = "⟧" if one.scored and (i + 1 == len(parts) or not parts[i + 1].scored) else ""
        line.append(before, UNSCORED).append(_printable(one.text), SCORED if one.scored else UNSCORED)
        line.append(after, UNSCORED)
    return line


def _printable(text: str) -> str:
    """Without what a terminal would obey: files are written by strangers."""
    return "".join(_symbol(char) for char in text)


def _symbol(char: str) -> str:
    if char == "\n":
        return "⏎\n    "
    if unicodedata.category(char) == "Cc" or char in _BIDI_CONTROLS:
        return f"\\u{ord(char):04x}"
    return char
