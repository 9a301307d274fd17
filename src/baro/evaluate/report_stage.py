"""``baro report``: a page about runs, as a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from baro import config as blocks
from baro.declared import Run, check_names, default_name
from baro.errors import ConfigError
from baro.evaluate.report import build_report
from baro.inputs import open_run
from baro.runs import RunDir


class Config(blocks.Config):
    """``baro report``."""

    runs: list[Run] | Literal["all"] = Field("all", description="the runs to report on; in a pipeline, all its stages")
    title: str = Field("Baro", description="the heading")
    language: Literal["en", "ko"] = Field("en", description="language of the report's own words")

    @model_validator(mode="after")
    def _names_differ(self) -> Config:
        if self.runs != "all":
            check_names([default_name(one) for one in self.runs], "runs", "a report needs runs with different names")
        return self


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Write report.html and report.json into a run directory; the same call returns what is finished."""
    if config.runs == "all" or not config.runs:
        raise ConfigError("runs: outside of a pipeline, name the runs to report on")
    run = open_run("report", config, out)
    if not run.finished:
        paths = [Path(one) for one in config.runs]
        names = {str(path): path.name for path in paths}
        build_report(paths, run.path, title=config.title, names=names, language=config.language)
        run.finish()
    return run
