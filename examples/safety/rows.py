"""Answers with their safety labels out of public files, one part of which is held out: a stage of pipeline.yaml.

Beside each answer stand who wrote it (the file's name here) and whether it refuses, where the file says so.
"""

import hashlib
from typing import Literal

from pydantic import Field

from baro import config as blocks
from baro.data.files import write_rows
from baro.data.formats import escaped, read_records
from baro.declared import Records
from baro.inputs import open_run, resolve
from baro.records import Safety, content_hash, to_row

KEPT = ("responses", "unsafe", "categories", "prompt")


class Config(blocks.Config):
    """``do: examples.safety.rows:run``."""

    files: dict[str, Records] = Field(description="labelled answers, by who wrote them")
    part: Literal["train", "held_out"] = Field(description="which part is written")
    categories: list[str] = Field([], description="held out are the categories with one of these in their name")
    fraction: float = Field(1 / 3, gt=0, lt=1, description="where none is named: the share of prompts that is held out")
    as_text: bool = Field(False, description="prompt and answer as plain text, for a base model to read")
    seed: int = Field(0, ge=0, description="seed of which prompts these are")


def run(config, out=None):
    """Write ``records.jsonl``, an answer a row."""
    run = open_run("safety-rows", config, out)
    if not run.finished:
        rows = [row for who, file in config.files.items() for row in rows_of(who, resolve(file, "records"))]
        kept = [row for row in rows if is_held_out(row, config) == (config.part == "held_out")]
        write_rows(
            run.records,
            [{"text": f"{row['prompt']}\n{row['responses'][0]}"} for row in kept] if config.as_text else kept,
        )
        run.finish()
    return run


def rows_of(who, path):
    loaded = read_records(path, Safety)
    columns = {row.key: row.columns for row in loaded.files}
    for key, record in zip(loaded.keys, loaded.all_of(Safety), strict=True):
        row = {name: value for name, value in escaped(to_row(record)).items() if name in KEPT}
        label = columns[key].get("final_label")
        yield row | {"who": who, "refuses": None if label is None else label != "1_full_compliance"}


def is_held_out(row, config):
    if config.categories:
        named = [name for kinds in row.get("categories", []) for name in kinds]
        return any(word in name for word in config.categories for name in named)
    digest = hashlib.sha256(f"{config.seed} {content_hash(row['prompt'])}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < config.fraction
