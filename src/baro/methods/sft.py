"""Supervised fine-tuning: imitate demonstrations.

    L = −(1/N) Σ_n log π(y_n | x, y_<n)      over the N scored tokens of the step (assistant turns and their end tokens)

Ouyang et al. 2022, arXiv:2203.02155 §3.5. The end-of-turn token is trained, so that the model learns to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from baro import config as blocks
from baro.batch import GroupBatch
from baro.compute import ComputeConfig, LoraConfig
from baro.data.encode import encode_demonstrations
from baro.declared import Model, Records
from baro.methods import stage
from baro.models.forward import ScoredModel
from baro.models.load import load_policy, save_policy
from baro.protocols import LossOutput
from baro.records import Demonstration
from baro.runs import RunDir


class Config(blocks.Config):
    """``baro sft``."""

    policy: Model = Field(description="the model to train: a run, a folder, or a hub id")
    demonstrations: Records = Field(description="prompts with answers to imitate: a run or a file")
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=2e-5, epochs=3, batch_size=16)
    data: blocks.DataConfig = blocks.DataConfig()
    lora: LoraConfig | None = Field(None, description="train low-rank adapters in place of all weights")
    compute: ComputeConfig = ComputeConfig()


class Objective(stage.Trained):
    """Cross-entropy on the scored tokens."""

    def __init__(self, policy: ScoredModel) -> None:
        super().__init__(policy=policy)
        self.policy = policy

    def losses(self, batch: GroupBatch, totals: Mapping[str, float]) -> Iterator[LossOutput]:
        logprobs = self.policy(batch, ["logprobs"]).logprobs
        nll = -logprobs.sum()
        yield LossOutput(nll / totals["tokens"], {"nll": (nll.detach(), len(logprobs))})


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Train, save ``model/``, and return the run directory; the same call resumes or returns what is finished."""
    job = stage.Offline("sft", config, out)
    if not job.finished:
        job.read(Demonstration, encode_demonstrations)
        policy = load_policy(job.folder, compute=config.compute, lora=config.lora, seed=config.trainer.seed)
        job.fit(Objective(policy))
        job.save(policy, save_policy)
    return job.run
