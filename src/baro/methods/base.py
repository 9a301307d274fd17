"""A small new model from text: a byte-level BPE, a random Llama, and pre-training by sft's code on every token."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from baro import config as blocks
from baro.compute import ComputeConfig
from baro.data.encode import encode_texts
from baro.data.formats import read_records
from baro.data.layouts import Reading
from baro.data.new_tokenizer import train_tokenizer
from baro.data.rendering import plain_text
from baro.data.template import Template
from baro.declared import Records
from baro.inputs import open_run, resolve, training_world
from baro.methods import sft, stage
from baro.models.load import Architecture, new_policy, save_policy
from baro.records import Demonstration
from baro.runs import RunDir


class ArchitectureConfig(blocks.Config):
    """The shape of the new model, a Llama with tied embeddings."""

    vocabulary: int = Field(1024, ge=259, description="tokens of the byte-level BPE, special ones included")
    split_digits: bool = Field(False, description="every digit is a token of its own, as arithmetic needs it")
    hidden_size: int = Field(128, ge=8, description="width of the residual stream")
    intermediate_size: int = Field(344, ge=8, description="width of the feed-forward layers")
    layers: int = Field(4, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; they divide hidden_size")
    max_positions: int = Field(512, ge=8, description="longest sequence that the model can read, in tokens")


class Config(blocks.Config):
    """``baro base``."""

    text: Records = Field(description="text to learn from: a file; conversations are written out in the plain template")
    architecture: ArchitectureConfig = ArchitectureConfig()
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=1e-3, epochs=1, batch_size=64, warmup_steps=20)
    data: blocks.DataConfig = blocks.DataConfig(max_length=512)
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _the_template_is_plain(self) -> Config:
        if self.data.template not in ("auto", "plain"):
            raise ValueError(f"data.template is {self.data.template}, and a new model has the plain one; leave it out")
        return self


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Make, train and save a model; the same call resumes or returns what is finished."""
    world = training_world()
    run = open_run("base", config, out)
    if run.finished:
        return run
    shape, seed = config.architecture, config.trainer.seed
    loaded = read_records(resolve(config.text, "records"), Demonstration, Reading.of(config.data))
    rows = loaded.all_of(Demonstration)
    texts = [plain_text(r.prompt + r.completion) if r.prompt else r.completion[0].content for r in rows]
    template = Template(train_tokenizer(texts, shape.vocabulary, split_digits=shape.split_digits), "plain")
    length = min(config.data.max_length, shape.max_positions)
    reader = stage.Reader(run, template, config.data, Demonstration, encode_texts, length)
    _, train, held_out = reader.train_and_held_out("text", config.text, config.trainer)
    architecture = Architecture(
        hidden_size=shape.hidden_size,
        layers=shape.layers,
        heads=shape.heads,
        max_positions=shape.max_positions,
        intermediate_size=shape.intermediate_size,
    )
    policy = new_policy(
        architecture, vocabulary=template.vocabulary, special=template.special, seed=seed, compute=config.compute
    )
    objective, size = sft.Objective(policy), policy.hidden_size
    stage.fit_offline(run, objective, train, held_out, config.trainer, hidden_size=size, world=world)
    stage.save_model(run, template, lambda path: save_policy(policy, path))
    run.finish("finished")
    return run
