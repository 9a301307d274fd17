"""A YAML file of stages, run in the order in which they need each other; what is finished is not run again.

    out: runs/mine          # where the stages' directories go; runs/<name of the file> unless given
    seed: 0                 # the seed of every stage that does not set its own
    stages:
      sft: {do: sft, policy: ..., demonstrations: ...}
      dpo: {do: dpo, policy: sft, preferences: pairs.train}

``do`` is a word of the command line, or ``module:run`` for a method of one's own (a module with Config and run); the
other keys are its config. A value of an input that equals a stage's name is that stage's output, ``stage.output`` where
it has several. Other paths are relative to the working directory. Each stage is checked before the first one runs, and
no torch is imported before that.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baro.errors import BaroError
from baro.pipeline_reader import Pipeline, Reader, Stage
from baro.runs import RunDir

log = logging.getLogger("baro")


def load_pipeline(
    source: Path | str | Mapping[str, Any], *, out: Path | str | None = None, overrides: Sequence[str] = ()
) -> Pipeline:
    """Read and check a whole pipeline. ``overrides`` are like ``stages.sft.trainer.steps=10``, as after ``--set``.

    Raises ConfigError with file:line for an unknown key, verb or stage, and for stages that wait for each other.
    """
    return Reader(source, out, overrides).pipeline()


def run_pipeline(
    source: Path | str | Mapping[str, Any] | Pipeline, *, out: Path | str | None = None, overrides: Sequence[str] = ()
) -> dict[str, RunDir]:
    """Run every stage that is not finished, in this process, and return all by name; ``source`` may be loaded already.

    Killed and called again, it goes on where it was. A stage whose config or inputs changed is refused with the
    difference: nothing is deleted.
    """
    pipeline = source if isinstance(source, Pipeline) else load_pipeline(source, out=out, overrides=overrides)
    done: dict[str, RunDir] = {}
    skipped = 0
    for number, stage in enumerate(pipeline.stages, start=1):
        was_finished = stage.finished
        if not was_finished:
            log.info("%s: %s, stage %d of %d", stage.name, stage.do, number, len(pipeline.stages))
        done[stage.name] = _run_stage(stage)
        if was_finished:
            skipped += 1
            log.info("%s: finished, skipped", stage.name)
        gc.collect()  # models of this stage must not stand beside those of the next
    if skipped == len(pipeline.stages):
        log.info("all %d stages are finished; there was nothing to do", skipped)
    for stage in pipeline.stages:
        if stage.do == "report":
            log.info("report: %s", stage.out / "report.html")
    return done


def _run_stage(stage: Stage) -> RunDir:
    try:
        return stage.run(stage.config, stage.out)
    except BaroError as error:
        error.args = (f"{stage.name}: {error}",)
        raise
