"""What reward and cost models share: one score of a completion from a head on any backbone, and what is said of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from baro import config as blocks
from baro.compute import ComputeConfig, LoraConfig
from baro.data.rating import check_input_template, input_template, pair_template
from baro.data.template import Template
from baro.declared import Model
from baro.errors import ConfigError
from baro.methods import stage
from baro.models.folders import is_encoder
from baro.models.forward import ScoredModel
from baro.models.heads import HeadKind, Pooling, Scoring
from baro.models.load import new_scalar_model
from baro.models.lora import add_adapter
from baro.models.place import placed
from baro.rewards.figures import Figures, measure
from baro.rewards.gate import explain, weaknesses
from baro.runs import RunDir

log = logging.getLogger("baro")


class ScalarConfig(blocks.Config):
    """What is trained, how it reads, and how it is trained; the stage's own config names the rows."""

    model: Model = Field(
        description="the backbone: a run, a folder, or a hub id; may be smaller than the policy, or BERT"
    )
    pooling: Pooling | None = Field(
        None, description="the state that is read: last (first for encoders) unless given, or mean, or max"
    )
    head: HeadKind = Field("linear", description="what reads it: a linear layer, or a feed-forward one")
    freeze_backbone: bool = Field(False, description="train the head alone")
    input_template: str | None = Field(
        None, description="text with {prompt} and {completion} that the model is to read"
    )
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=1e-5, epochs=1, batch_size=64)
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _one_way_to_train_and_to_read(self) -> ScalarConfig:
        if self.freeze_backbone and self.lora is not None:
            raise ValueError("freeze_backbone and lora exclude each other: adapters are trained in the backbone")
        if self.input_template is not None:
            check_input_template(self.input_template)
        return self


def new_model(config: ScalarConfig, folder: Path | str, **scoring: Any) -> ScoredModel:
    """A new head on the backbone, of which all, nothing, or adapters are trained; ``scoring``: of its ``Scoring``."""
    encoder = is_encoder(folder)
    pooling: Pooling = config.pooling or ("first" if encoder else "last")
    if pooling == "first" and not encoder:
        raise ConfigError("pooling first is for encoders: a decoder's first token has seen nothing; take last or mean")
    made = new_scalar_model(folder, seed=config.trainer.seed, scoring=Scoring(pooling, **scoring), head=config.head)
    if config.freeze_backbone:
        made.trunk.requires_grad_(False)
    if config.lora is not None:
        add_adapter(made, config.lora, seed=config.trainer.seed, role="reward_model")
    return placed(made, config.compute)


def reading_template(config: ScalarConfig, template: Template, folder: Path | str) -> Template:
    """The template that the model reads: its own, the config's, or an encoder's encoding of two texts."""
    encoder = is_encoder(folder)
    if config.input_template is None:
        return pair_template(template) if encoder else template
    if encoder:
        raise ConfigError("input_template and an encoder exclude each other: it reads the two texts as its own pair")
    return input_template(template, config.input_template)


def measure_scores(model: ScoredModel, job: stage.Offline, config: ScalarConfig) -> None:
    """Keep with the model where its scores lie, on all rows of ``preferences``."""
    split_off = job.held_out if config.trainer.held_out is None else []
    model.measured = measure(model, [*job.train, *split_off], config.trainer.micro_batch_tokens)
    if model.measured is None:
        log.warning("this %s model gives every answer the same score", "cost" if model.scoring.cost else "reward")


def write_figures(run: RunDir, figures: Figures, kind: str) -> None:
    """figures.json, with the number of reasons not to train on this ``kind`` of model; the reasons are told."""
    if not figures:
        return
    reasons = weaknesses(figures)
    figures[f"{kind}_model/weak"] = float(len(reasons))
    for reason in reasons:
        log.warning("this %s model is weak: %s", kind, explain(reason))
    stage.write_figures(run, figures)
