"""Several models of one run, trained one after the other: the members of an ensemble.

members/k/         a run directory: config with the member's seed, metrics, checkpoints, figures
model/members/k/   its weights; with adapters only these and the head, and model/backbone once

A member is finished when its run says so, and is not trained again. Member 0 has the run's own seed, so that it is what
a run of one model would be; the seeds of the others are streams of it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from baro.batch import Sample
from baro.checkpoints import as_os_error
from baro.data.stored import Picked
from baro.errors import GuardStop
from baro.files import atomic_directory, sync_to_disk, write_atomic
from baro.functional.streams import stream, stream_key
from baro.methods import stage
from baro.models.folders import MEMBERS, name_beside
from baro.models.forward import ScoredModel
from baro.models.load import save_scalar_model
from baro.models.members import BACKBONE, Ensemble, load_members, member_folder, save_adapter_member
from baro.models.place import arithmetic
from baro.rewards.figures import mean_rows
from baro.runs import RunDir

if TYPE_CHECKING:
    from baro.methods.reward import Config

log = logging.getLogger("baro")
Train = Callable[[RunDir, "Config", Sequence[Sample]], ScoredModel]
"""Trains one member, on its samples and with its config, in its run; writes its figures; returns it."""


def train_members(job: stage.Offline, config: Config, train: Train) -> list[ScoredModel]:
    """Train what is not trained yet, put ``model/`` together, and return the members, loaded from there.

    Raises GuardStop, after which the run can be taken up again, where a member is stopped.
    """
    for k in range(config.members):
        try:
            _train_member(job, config, k, train)
        except GuardStop:
            job.run.finish("stopped")
            raise
    _put_together(job, config)
    files = [RunDir.load(job.run.path / MEMBERS / str(k)).metrics.read() for k in range(config.members)]
    rows = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in mean_rows(files)]
    write_atomic(job.run.metrics.path, "".join(rows))
    return load_members(job.run.model, compute=config.compute)


def member_config(config: Config, k: int) -> Config:
    """What member k is trained with: the run's config as of one model, with a seed of its own."""
    trainer = config.trainer
    seed = trainer.seed if k == 0 else stream_key("member", trainer.seed, k) % 2**31
    return config.model_copy(
        update={"members": 1, "bootstrap": False, "trainer": trainer.model_copy(update={"seed": seed})}
    )


def resampled(samples: Sequence[Sample], seed: int, k: int) -> Sequence[Sample]:
    """As many samples, drawn with replacement: Breiman 1996, Bagging predictors. Those of member k."""
    drawn = stream("bootstrap", seed, k).integers(len(samples), size=len(samples))
    return Picked(samples, drawn.tolist())


def _train_member(job: stage.Offline, whole: Config, k: int, train: Train) -> None:
    config = member_config(whole, k)
    run = RunDir.open(
        job.run.path / MEMBERS / str(k), verb="reward-member", config=config, inputs=job.run.manifest["inputs"],
        environment=arithmetic(whole.compute),
    )  # fmt: skip
    if run.finished:
        return
    log.info("member %d of %d", k + 1, whole.members)
    samples = resampled(job.train, whole.trainer.seed, k) if whole.bootstrap else job.train
    try:
        model = train(run, config, samples)
        if model.measured is None:
            raise GuardStop(
                f"member {k} gives every answer the same score, so that it cannot be put beside the others; lower the "
                "learning rate, or look at its metrics.jsonl"
            )
        folder = member_folder(job.run.model, k)
        if whole.lora is not None:
            with atomic_directory(folder) as inside, as_os_error():
                save_adapter_member(model, inside)
        else:
            stage.save_model(job.run, job.template, partial(save_scalar_model, model), name=_below(job.run, folder))
    except BaseException:
        run.close()
        raise
    run.finish()


def _put_together(job: stage.Offline, config: Config) -> None:
    """What ``model/`` has beside its members; written again where a run was killed before it was finished."""
    folder, adapters = job.run.model, config.lora is not None
    described = folder / (BACKBONE if adapters else f"{MEMBERS}/0") / "config.json"
    shutil.copyfile(described, folder / "config.json")
    job.template.save(folder)
    Ensemble(config.members, adapters).write(folder)
    name_beside(folder)
    for inside in (one for one in folder.iterdir() if one.is_file()):
        sync_to_disk(inside)
    sync_to_disk(folder)


def save_backbone(job: stage.Offline, model: ScoredModel) -> None:
    """What adapters stand on, once."""
    if not (job.run.model / BACKBONE).exists():
        where = _below(job.run, job.run.model / BACKBONE)
        stage.save_model(job.run, job.template, lambda folder: model.model.save_pretrained(folder), name=where)


def _below(run: RunDir, folder: Path) -> str:
    return str(folder.relative_to(run.path))
