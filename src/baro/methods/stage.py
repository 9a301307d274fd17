"""What the training stages share: data with its ledger, held-out samples, one call of Trainer.fit, the model saved.

An offline method is an encoder of its records, a loss and ``Offline``, which does the rest in the order of a run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console
from torch import nn

from baro.batch import GroupBatch, Sample
from baro.checkpoints import as_os_error
from baro.collate import collate
from baro.config import Config, DataConfig, SamplingConfig, TrainerConfig
from baro.data.formats import Loaded, read_records
from baro.data.layouts import Reading
from baro.data.ledger import Ledger, write_ledger
from baro.data.source import FileSource, split_held_out
from baro.data.stored import Encode, encode_cached
from baro.data.template import Template
from baro.declared import inputs_in
from baro.errors import ConfigError, GuardStop, RewardError
from baro.files import atomic_directory, write_atomic
from baro.functional.statistics import Interval
from baro.inputs import load_template, open_run, resolve, training_world
from baro.measure import Measure, evaluate
from baro.models.folders import positions, write_ends
from baro.models.forward import ScoredModel
from baro.models.lora import adapted, save_adapter
from baro.protocols import Objective, Prepare, World
from baro.records import Record, Rollout, plain_conversation
from baro.rows import finite
from baro.runs import RunDir
from baro.trainer import Trainer

log = logging.getLogger("baro")
Block = TypeVar("Block", bound=Config)
R = TypeVar("R", bound=Record)


@dataclass
class Reader:
    """Reads a stage's files, each with its ledger, which is written into the run, shown, and may stop the stage."""

    run: RunDir
    template: Template
    config: DataConfig
    want: type[Record] | tuple[type[Record], ...]
    encode: Encode
    max_length: int | None = None  # the config's unless given
    reading: Reading | None = None  # likewise
    held_out: Loaded | None = None

    def read(self, key: str, value: str) -> tuple[Loaded, Sequence[Sample]]:
        """The records of an input and their samples; the samples' keys name the records that were kept.

        key: where the config names the input, for ``write_ledger``.
        """
        path = resolve(value, "records")
        loaded = read_records(path, self.want, self.reading or Reading.of(self.config))
        log.info("%s", loaded.description)
        ledger = Ledger(loaded.name)
        length = self.max_length or self.config.max_length
        samples = encode_cached(loaded, self.encode, self.template, length, ledger)
        write_ledger(self.run.path, key, value, ledger)
        Console(stderr=True).print(ledger.summary())
        ledger.check(self.config.max_dropped_fraction)
        return loaded, samples

    def train_and_held_out(
        self, key: str, value: str, trainer: TrainerConfig
    ) -> tuple[Loaded, Sequence[Sample], Sequence[Sample]]:
        """What is read, its samples to train on, and those of the file in ``held_out`` or split off by prompt.

        Afterwards ``held_out`` are the records of which the last ones were made.
        """
        loaded, samples = self.read(key, value)
        self.held_out = loaded
        if trainer.held_out is not None:
            self.held_out, held = self.read("trainer.held_out", trainer.held_out)
            return loaded, samples, held
        if trainer.held_out_fraction:
            return loaded, *split_held_out(samples, trainer.held_out_fraction, trainer.seed)
        return loaded, samples, []


def prompt_room(data: DataConfig, sampling: SamplingConfig, *models: str) -> int:
    """Tokens that a prompt may have, so that an answer fits behind it into data.max_length and the model's positions.

    Longer prompts are told in the ledger, with file and line.
    """
    longest = longest_row(data, *models)
    room = longest - sampling.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"sampling.max_new_tokens is {sampling.max_new_tokens}, and with its prompt a row has at most {longest} "
            f"tokens (data.max_length, or the positions of {' and '.join(models)}); lower max_new_tokens"
        )
    log.info("prompts may have fewer than %s tokens: %s less max_new_tokens", room, longest)
    return room


def longest_row(data: DataConfig, *models: str) -> int:
    """Tokens that a row may have which all these models read: data.max_length, or the fewest positions of one of them.

    Said where it is not data.max_length.
    """
    found = {positions(resolve(model, "model")) or data.max_length: model for model in models}
    fewest = min(found)
    if fewest >= data.max_length:
        return data.max_length
    log.info("max_length is %s: %s has so many positions (data.max_length: %s)", fewest, found[fewest], data.max_length)
    return fewest


class Trained:
    """What most objectives share: the modules of these roles are trained, all with the trainer's learning rate."""

    def __init__(self, **modules: nn.Module) -> None:
        self._modules = modules

    def modules(self) -> dict[str, nn.Module]:
        return dict(self._modules)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [p for module in self._modules.values() for p in module.parameters() if p.requires_grad]}]


class Offline:
    """A run that trains one model on the rows of a file: open, ``read``, ``fit``, ``save``.

    The config's own first field of type ``Model`` is what is trained, its own first of ``Records`` what on, wherever
    its blocks ``trainer`` and ``data`` stand.
    """

    def __init__(self, verb: str, config: Config, out: Path | str | None) -> None:
        self.config = config
        self.trainer, self.data = _block(config, "trainer", TrainerConfig), _block(config, "data", DataConfig)
        self.world = training_world()
        own = [one for one in inputs_in(type(config), config) if len(one.path) == 1]  # not what a block names
        first = {one.kind: one for one in reversed(own)}
        self._model, self._records = first["model"].value, first["records"]
        self.run = open_run(verb, config, out)
        self.finished = self.run.finished
        self.train: Sequence[Sample] = []
        self.held_out: Sequence[Sample] = []

    @property
    def folder(self) -> Path | str:
        """Where the model to train lies."""
        return resolve(self._model, "model")

    def read(
        self,
        want: type[Record] | tuple[type[Record], ...],
        encode: Encode,
        change: Callable[[Template], Template] = lambda template: template,
        reading: Reading | None = None,
    ) -> None:
        """The training and the held-out samples; ``change`` may put another template in place of the model's.

        Afterwards ``kind`` is what the file's records were taken for, ``max_length`` the tokens that a row may have.
        """
        self.template = change(load_template(self._model, self.data.template))
        models = [one.value for one in inputs_in(type(self.config), self.config) if one.kind == "model"]
        self.max_length = longest_row(self.data, *models)
        reader = Reader(self.run, self.template, self.data, want, encode, self.max_length, reading)
        key, value = self._records.key, self._records.value
        loaded, self.train, self.held_out = reader.train_and_held_out(key, value, self.trainer)
        self.kind = loaded.kind
        self._held_out_rows = reader.held_out

    def held_out_records(self, kind: type[R]) -> list[R]:
        """The records behind the held-out samples, one for each."""
        assert self._held_out_rows is not None, "read() comes first"
        return self._held_out_rows.at([sample.key for sample in self.held_out], kind)

    def fit(self, objective: Objective, *, once: Prepare | None = None, step: Prepare | None = None) -> None:
        """Train the objective's model on what was read, all completions of a prompt in one micro-batch."""
        (model,) = objective.modules().values()
        assert isinstance(model, ScoredModel)
        fit_offline(
            self.run,
            objective,
            self.train,
            self.held_out,
            self.trainer,
            hidden_size=model.hidden_size,
            once=once,
            step=step,
            world=self.world,
        )

    def save(self, model: ScoredModel, save: Callable[[ScoredModel, Path], None]) -> None:
        """Write ``model/``, and ``adapter/`` where there is one, and finish the run."""
        save_trained(self.run, self.template, model, save)
        self.run.finish("finished")


def _block(config: Config, name: str, kind: type[Block]) -> Block:
    """A block that the config of every offline method has."""
    found = getattr(config, name)
    assert isinstance(found, kind)
    return found


def fit_offline(
    run: RunDir,
    objective: Objective,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    config: TrainerConfig,
    *,
    hidden_size: int,
    world: World,
    once: Prepare | None = None,
    step: Prepare | None = None,
    atom: Literal["completion", "group"] = "group",
) -> None:
    """Train on a file's samples; held-out ones are prepared alike, by ``step`` at each evaluation, and only scored."""
    source = FileSource(
        train,
        batch_size=config.batch_size,
        epochs=config.epochs,
        steps=config.steps,
        seed=config.seed,
        micro_batch_tokens=config.micro_batch_tokens,
        hidden_size=hidden_size,
        world=world,
        once=once,
        step=step,
        atom=atom,
    )
    prepared = once(held_out, world) if once and held_out else held_out

    def batches() -> list[GroupBatch]:
        samples = step(prepared, world) if step and prepared else prepared
        return collate(samples, micro_batch_tokens=config.micro_batch_tokens, hidden_size=hidden_size, atom=atom)

    held = batches if step else cache(batches)  # what ``step`` prepares may depend on the weights
    keep = "loss" if config.keep == "best" else None
    measure = Measure(lambda: evaluate(objective, held(), world), config.evaluate_every, keep)
    fit(run, Trainer(objective, source, config, run=run, measure=measure, world=world))


def fit(run: RunDir, trainer: Trainer) -> None:
    """Trainer.fit; a stop by a guard or for want of rewards is written into the run before it goes on up."""
    try:
        trainer.fit()
    except (GuardStop, RewardError):
        run.finish("stopped")
        raise


def save_trained(
    run: RunDir, template: Template, model: ScoredModel, save: Callable[[ScoredModel, Path], None]
) -> None:
    """``model/``, a plain model; where adapters were trained they are merged into it, and alone in ``adapter/``."""
    if adapted(model):
        save_model(run, template, lambda folder: save_adapter(model, folder), name="adapter")
    save_model(run, template, lambda folder: save(model, folder))


def save_model(run: RunDir, template: Template, save: Callable[[Path], None], name: str = "model") -> None:
    """A model folder with its tokenizer, whole or not at all."""
    with atomic_directory(run.path / name) as folder, as_os_error():
        save(folder)
        write_ends(folder, template.end_ids, template.special["pad"])
        template.save(folder)


def write_figures(run: RunDir, figures: dict[str, Interval | float]) -> None:
    """figures.json: what the report quotes, each as name, value, low, high, n."""
    rows = [
        {"name": name, "value": f.value, "low": f.low, "high": f.high, "n": f.n}
        if isinstance(f, Interval)
        else {"name": name, "value": f, "low": None, "high": None, "n": None}
        for name, f in figures.items()
    ]
    write_atomic(run.path / "figures.json", json.dumps(finite(rows), ensure_ascii=False, indent=1, allow_nan=False))


def write_samples(run: RunDir, number: int, rollouts: Sequence[Rollout], drawn: Sequence[Sample]) -> None:
    """A rollout's first completions into samples.jsonl, as a person would read them."""
    scores = [b.fields["score"] for s in drawn for b in s.completions]
    for rollout, score in list(zip(rollouts, scores, strict=True))[:8]:
        run.samples.append(
            {
                "rollout": number,
                "prompt": plain_conversation(rollout.prompt),
                "completion": plain_conversation(rollout.completion, "assistant"),
                "score": score,
                "finished": rollout.finished,
            }
        )
