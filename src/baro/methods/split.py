"""``baro data split``: a file cut in two, one part of which is held out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import Field

from baro import config as blocks
from baro.data.check import split_file
from baro.declared import Records
from baro.inputs import open_run, resolve
from baro.methods.stage import write_figures
from baro.runs import RunDir

log = logging.getLogger("baro")


class Config(blocks.Config):
    """``baro data split``."""

    file: Records = Field(description="the file to cut in two: a run or a file")
    hold_out: float = Field(gt=0, description="how much is held out: a fraction below 1, or a number of rows")
    by: Literal["prompt", "row"] = Field("prompt", description="prompt keeps all rows of one prompt on one side")
    encoding: str = Field("utf-8", description="of a file of text, where it is another: cp949 of a Korean spreadsheet")
    seed: int = Field(0, ge=0, description="seed of what is held out")


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Write ``train.jsonl`` and ``held_out.jsonl`` into a run directory; the same call returns what is finished."""
    run = open_run("data-split", config, out)
    if not run.finished:
        path = resolve(config.file, "records")
        _, _, counts = split_file(path, config.hold_out, config.by, run.path, config.seed, config.encoding)
        write_figures(run, {name: float(count) for name, count in counts.items()})
        log.info("%s: %s", config.file, ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        run.finish()
    return run
