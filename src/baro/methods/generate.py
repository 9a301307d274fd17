"""Answers to prompts, drawn from a policy: what people, judges and reward models then compare.

Sample s of prompt i uses the random stream (seed, i, s) and nothing else, so that a killed run that starts over draws
the same answers. The records are written once, when all are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from baro import config as blocks
from baro.bar import progress_bar
from baro.batch import Sample
from baro.compute import ComputeConfig
from baro.data.encode import encode_prompts
from baro.data.formats import write_records
from baro.data.template import Template
from baro.declared import Model, Records
from baro.files import saving
from baro.functional.statistics import Interval
from baro.functional.streams import stream_key
from baro.inputs import load_template, open_run, resolve
from baro.methods import stage
from baro.models.forward import ScoredModel
from baro.models.load import load_policy
from baro.records import Answers, Completion, Prompt, Rollout, SamplingParams, said
from baro.rollout.engine import Engine
from baro.runs import RunDir

CHUNK = 512  # prompts at once: bounds the tables of random numbers and tokens


class Config(blocks.Config):
    """``baro generate``."""

    policy: Model = Field(description="the model to draw from: a run, a folder, or a hub id")
    prompts: Records = Field(description="what to answer: a run or a file")
    n: int = Field(4, ge=1, description="answers drawn for each prompt")
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()
    seed: int = Field(0, ge=0, description="seed of the sampling")
    limit: int | None = Field(None, ge=1, description="only so many prompts, the first ones; all unless given")
    data: blocks.DataConfig = blocks.DataConfig()
    compute: ComputeConfig = ComputeConfig()


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Draw, write ``records.jsonl``, and return the run directory; the same call returns what is finished."""
    run = open_run("generate", config, out)
    if run.finished:
        return run
    template = load_template(config.policy, config.data.template)
    room = stage.prompt_room(config.data, config.sampling, config.policy)
    prompts, samples = read_prompts(run, template, "prompts", config.prompts, config.data, room, config.limit)
    policy = load_policy(resolve(config.policy, "model"), compute=config.compute)
    keys = [stream_key("generate", config.seed, i) for i in range(len(samples))]
    drawn = draw_answers(policy, template, prompts, samples, config.n, config.sampling.params(), keys, "generate")
    with saving(run.records):
        write_records(run.records, [answers_of(prompts[i], group) for i, group in enumerate(drawn)])
    stage.write_figures(run, figures_of([one for group in drawn for one in group]))
    run.finish("finished")
    return run


def read_prompts(
    run: RunDir,
    template: Template,
    key: str,
    value: str,
    data_config: blocks.DataConfig,
    room: int,
    limit: int | None = None,
) -> tuple[list[Prompt], Sequence[Sample]]:
    """The first ``limit`` prompts of at most ``room`` tokens, and their tokens."""
    loaded, samples = stage.Reader(run, template, data_config, Prompt, encode_prompts, room).read(key, value)
    samples = samples[:limit]
    return loaded.at((sample.key for sample in samples), Prompt), samples


def draw_answers(
    policy: ScoredModel,
    template: Template,
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
    n: int,
    params: SamplingParams,
    keys: Sequence[int],
    description: str,
) -> list[list[Rollout]]:
    """``n`` answers to each prompt, in order, with a progress bar; ``keys`` names each prompt's random streams."""
    engine = Engine(policy, end_ids=template.end_ids)
    drawn: list[list[Rollout]] = []
    with progress_bar(description, n * len(samples)) as show:
        for start in range(0, len(samples), CHUNK):
            chunk = slice(start, start + CHUNK)
            engine.on_progress = lambda done, _, before=n * start: show(before + done)
            found = engine.generate([s.prompt_ids.tolist() for s in samples[chunk]], n, params, keys[chunk])
            for prompt, group in zip(prompts[chunk], found, strict=True):
                drawn.append([_rollout(prompt, one, template) for one in group])
    return drawn


def _rollout(prompt: Prompt, one: Completion, template: Template) -> Rollout:
    return Rollout(prompt.prompt, said(template.decode(one.ids)), one.ids, one.finished, dict(prompt.extra))


def answers_of(prompt: Prompt, group: Sequence[Rollout]) -> Answers:
    """A prompt's answers as a record."""
    texts, finished = tuple(one.text for one in group), tuple(one.finished for one in group)
    return Answers(prompt.prompt, texts, finished, prompt.extra)


def figures_of(drawn: Sequence[Rollout]) -> dict[str, Interval | float]:
    """How many answers there are, how long in tokens on average, and how many ended by themselves."""
    count = len(drawn)
    return {
        "answers": float(count),
        "tokens": sum(len(one.completion_ids) for one in drawn) / count,
        "finished_fraction": sum(one.finished for one in drawn) / count,
    }
