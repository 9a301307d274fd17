"""Supervised fine-tuning: imitate demonstrations.

    L = −(1/N) Σ_n log π(y_n | x, y_<n)      over the N scored tokens of the step (assistant turns and their end tokens)

Ouyang et al. 2022, arXiv:2203.02155 §3.5. The end-of-turn token is trained, so that the model learns to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field
from torch import nn

from baro import config as blocks
from baro.batch import GroupBatch
from baro.data.encode import encode_demonstrations
from baro.inputs import load_template, open_run, resolve
from baro.methods import stage
from baro.models.forward import ScoredModel
from baro.models.load import load_policy, save_policy
from baro.protocols import LossOutput
from baro.records import Demonstration
from baro.runs import RunDir


class Config(blocks.Config):
    """``baro sft``."""

    policy: str = Field(description="the model to train: a run, a folder, or a hub id")
    demonstrations: str = Field(description="prompts with answers to imitate: a run or a file")
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=2e-5, epochs=3, batch_size=16)
    data: blocks.DataConfig = blocks.DataConfig()


class Objective:
    """Cross-entropy on the scored tokens."""

    def __init__(self, policy: ScoredModel) -> None:
        self.policy = policy

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.policy}

    def parameter_groups(self) -> list[dict]:
        return [{"params": [p for p in self.policy.parameters() if p.requires_grad]}]

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        logprobs = self.policy(batch, ["logprobs"]).logprobs
        nll = -logprobs.sum()
        yield LossOutput(nll / totals["tokens"], {"nll": (nll.detach(), len(logprobs))})


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    inputs = {"policy": (config.policy, "model"), "demonstrations": (config.demonstrations, "records")}
    run = open_run("sft", config, inputs, out)
    if run.finished:
        return run
    template = load_template(config.policy, config.data.template)
    reader = stage.Reader(run, template, config.data, Demonstration, encode_demonstrations)
    train, held_out = reader.train_and_held_out(config.demonstrations, config.trainer)
    policy = load_policy(resolve(config.policy, "model"))
    stage.fit_offline(run, Objective(policy), train, held_out, config.trainer, hidden_size=policy.hidden_size)
    stage.save_model(run, template, lambda path: save_policy(policy, path))
    run.finish("finished")
    return run
