"""SimPO, a method added from outside the package. Run it: python examples/new_method.py CONFIG.yaml

    L = −(1/P) Σ [ p log σ(z) + (1 − p) log σ(−z) ],   z = β·avg_w − β·avg_l − γ,   avg = log π(y|x) / |y| in nats

Meng, Xia and Chen 2024, arXiv:2405.14734 eq. 6, where every pair is certain: p = 1. Here p is the row's p_chosen."""

import sys
from pathlib import Path

from baro import config as blocks
from baro.data.encode import encode_preferences
from baro.declared import Model, Records
from baro.functional.preference import bradley_terry_loss
from baro.functional.tokens import segment_mean
from baro.methods import stage
from baro.models.load import load_policy, save_policy
from baro.protocols import LossOutput
from baro.records import Preference


class Config(blocks.Config):
    policy: Model  # the model to train: a run or a folder
    preferences: Records  # pairs of completions, the better one chosen: a run or a file
    beta: float = 2.0  # scale of the average log-probs
    gamma: float = 1.0  # by how much the chosen completion must lead, on that scale
    trainer: blocks.TrainerConfig = blocks.TrainerConfig(learning_rate=1e-6, epochs=1, batch_size=32)
    data: blocks.DataConfig = blocks.DataConfig()


class Objective(stage.Trained):  # which says what is trained; only the loss is to be written
    def __init__(self, policy, config):
        super().__init__(policy=policy)
        self.policy, self.config = policy, config

    def losses(self, batch, totals):
        logprobs = self.policy(batch, ["logprobs"]).logprobs  # [N]
        rewards = self.config.beta * segment_mean(logprobs, batch.completion_of, len(batch.group_of))  # [C]
        better = batch.completion_fields["chosen"] == 1
        chosen, rejected, p_chosen = rewards[better], rewards[~better], batch.completion_fields["p_chosen"][better]
        loss = bradley_terry_loss(chosen, rejected, margin=self.config.gamma, p_chosen=p_chosen)
        metrics = {"rewards/margins": ((chosen - rejected).detach().sum(), len(loss))}
        yield LossOutput(loss.sum() / totals["pairs"], metrics)


def run(config, out=None):
    job = stage.Offline("simpo", config, out)
    if not job.finished:
        job.read(Preference, encode_preferences)
        policy = load_policy(job.folder)
        job.fit(Objective(policy, config))
        job.save(policy, save_policy)
    return job.run


if __name__ == "__main__":
    print(run(blocks.load_config(Config, Path(sys.argv[1]))).path)
