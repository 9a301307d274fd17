"""What the training stages share: data with its ledger, held-out samples, one call of Trainer.fit, the model saved."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from baro.batch import Sample
from baro.checkpoints import as_os_error
from baro.collate import collate
from baro.config import DataConfig, TrainerConfig
from baro.data.formats import Loaded, read_records
from baro.data.ledger import Ledger
from baro.data.source import FileSource, split_held_out
from baro.data.template import Template
from baro.errors import GuardStop, RewardError
from baro.functional.statistics import Interval
from baro.inputs import resolve
from baro.protocols import LocalWorld, Objective, Prepare
from baro.records import Record
from baro.runs import RunDir, atomic_directory, write_atomic
from baro.trainer import Trainer

log = logging.getLogger("baro")
Encode = Callable[[Loaded, Template, int, Ledger], list[Sample]]


@dataclass(frozen=True)
class Reader:
    """Reads a stage's files, each with its ledger, which is written into the run, shown, and may stop the stage."""

    run: RunDir
    template: Template
    config: DataConfig
    want: type[Record] | tuple[type[Record], ...]
    encode: Encode
    max_length: int | None = None  # the config's unless given

    def read(self, value: str) -> tuple[Loaded, list[Sample]]:
        """The records of an input and their samples; the samples' keys name the records that were kept."""
        path = resolve(value, "records")
        loaded = read_records(path, self.want)
        log.info("%s", loaded.description)
        ledger = Ledger(loaded.name)
        samples = self.encode(loaded, self.template, self.max_length or self.config.max_length, ledger)
        ledgers = self.run.path / "ledger.json"
        before = json.loads(ledgers.read_text()) if ledgers.exists() else {}
        write_atomic(ledgers, json.dumps(before | {str(value): ledger.to_json()}, ensure_ascii=False, indent=1))
        Console(stderr=True).print(ledger.summary())
        ledger.check(self.config.max_dropped_fraction)
        return loaded, samples

    def train_and_held_out(self, value: str, trainer: TrainerConfig) -> tuple[list[Sample], list[Sample]]:
        """Training samples, and those of the file in ``held_out`` or of a fraction split off by prompt."""
        _, samples = self.read(value)
        if trainer.held_out is not None:
            return samples, self.read(trainer.held_out)[1]
        if trainer.held_out_fraction:
            return split_held_out(samples, trainer.held_out_fraction, trainer.seed)
        return samples, []


def fit_offline(
    run: RunDir,
    objective: Objective,
    train: Sequence[Sample],
    held_out: Sequence[Sample],
    config: TrainerConfig,
    *,
    hidden_size: int,
    prepare: Prepare | None = None,
    atom: Literal["completion", "group"] = "group",
) -> None:
    """Train on a file's samples; held-out samples are prepared alike and only evaluated."""
    layout = {"micro_batch_tokens": config.micro_batch_tokens, "hidden_size": hidden_size, "atom": atom}
    length = {"epochs": config.epochs, "steps": config.steps}
    source = FileSource(train, batch_size=config.batch_size, seed=config.seed, prepare=prepare, **length, **layout)
    prepared = prepare(held_out, LocalWorld()) if prepare and held_out else held_out
    fit(run, Trainer(objective, source, config, run=run, held_out=collate(prepared, **layout)))


def fit(run: RunDir, trainer: Trainer) -> None:
    """Trainer.fit; a stop by a guard or for want of rewards is written into the run before it goes on up."""
    try:
        trainer.fit()
    except (GuardStop, RewardError):
        run.finish("stopped")
        raise


def save_model(run: RunDir, template: Template, save: Callable[[Path], None], name: str = "model") -> None:
    """A model folder with its tokenizer, whole or not at all."""
    with atomic_directory(run.path / name) as folder, as_os_error():
        save(folder)
        template.save(folder)


def write_figures(run: RunDir, figures: dict[str, Interval | float]) -> None:
    """figures.json: what the report quotes, each as name, value, low, high, n."""
    rows = [
        {"name": name, "value": f.value, "low": f.low, "high": f.high, "n": f.n}
        if isinstance(f, Interval)
        else {"name": name, "value": f, "low": None, "high": None, "n": None}
        for name, f in figures.items()
    ]
    write_atomic(run.path / "figures.json", json.dumps(rows, ensure_ascii=False, indent=1))
