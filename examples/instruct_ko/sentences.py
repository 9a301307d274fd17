"""Plain text out of dialogues: their sentences shuffled, a few to a row, without anybody's name before them.

A model that has read only such text goes on talking when it is asked; that it answers is what fine-tuning adds. This is
a stage of pipeline.yaml from outside the package: a Config, and a run that returns a run directory.
"""

import random

from pydantic import Field

from baro import config as blocks
from baro.data.files import write_rows
from baro.data.formats import read_records
from baro.data.layouts import Reading
from baro.declared import Records
from baro.inputs import open_run, resolve
from baro.records import Demonstration


class Config(blocks.Config):
    """``do: examples.instruct_ko.sentences:run``."""

    demonstrations: Records = Field(description="questions with answers: a run or a file")
    per_row: int = Field(12, ge=1, description="sentences in each text")
    seed: int = Field(0, ge=0, description="seed of their order")


def run(config, out=None):
    """Write ``records.jsonl``, one text a row."""
    run = open_run("sentences", config, out)
    if not run.finished:
        topics = Reading(ignore=("label",))  # the file's label is a topic, and no thumb
        records = read_records(resolve(config.demonstrations, "records"), Demonstration, topics).records
        sentences = [turn.content for one in records for turn in one.prompt + one.completion]
        random.Random(config.seed).shuffle(sentences)
        starts = range(0, len(sentences), config.per_row)
        write_rows(run.records, [{"text": " ".join(sentences[i : i + config.per_row])} for i in starts])
        run.finish()
    return run
