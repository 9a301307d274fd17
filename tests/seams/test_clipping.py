"""Models that are trained together do not change each other's steps, not even through the norm of their gradients."""

import math

import pytest
import tiny
import torch
from toys import Method, file_source, random_samples

from baro.config import TrainerConfig
from baro.models.forward import ScoredModel
from baro.protocols import LocalWorld, LossOutput
from baro.trainer import Trainer

SAMPLES = random_samples(0, 8, 2)


class PolicyAndCritic(Method):
    """A policy's likelihood and a critic's squared values, which may be made as large as one likes."""

    scale = 1.0

    def parameter_groups(self):
        return [{"name": name, "params": list(module.parameters())} for name, module in self.of.items()]

    def losses(self, batch, totals):
        yield LossOutput(-self.of["policy"](batch, ["logprobs"]).logprobs.sum() / totals["tokens"], {})
        if "critic" in self.of:
            values = self.of["critic"](batch, ["values"]).values
            yield LossOutput(self.scale * (values - 3).square().sum() / totals["tokens"], {})


def trained(scale: float | None, max_grad_norm: float) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """The policy after a few steps beside a critic whose loss is scaled, or beside none; the metrics of each step."""
    critic = {} if scale is None else {"critic": ScoredModel(tiny.llama_scalar())}
    objective = PolicyAndCritic(policy=ScoredModel(tiny.llama(0)), **critic)
    objective.scale, rows = scale, []
    config = TrainerConfig(learning_rate=0.01, steps=3, max_grad_norm=max_grad_norm)
    source = file_source(SAMPLES, LocalWorld())
    advance = source.advance
    source.advance = lambda metrics: rows.append(dict(metrics)) or advance(metrics)
    Trainer(objective, source, config).fit(until=3)
    return objective.of["policy"].state_dict(), rows


@pytest.mark.parametrize(("max_grad_norm", "scale"), [(0.0, 1e3), (0.01, 1e-3), (0.01, 1e3)])
def test_a_critic_changes_nothing_of_the_policy_s_step(scale, max_grad_norm):
    alone, _ = trained(None, max_grad_norm)
    beside, _ = trained(scale, max_grad_norm)
    assert all(torch.equal(tensor, beside[name]) for name, tensor in alone.items())


def test_the_norms_are_logged_by_name_and_together():
    _, rows = trained(10.0, 0.01)
    for row in rows:
        assert row["grad_norm/critic"] > 1.0 > 0.01  # before clipping
        assert row["grad_norm"] == pytest.approx(math.hypot(row["grad_norm/policy"], row["grad_norm/critic"]))


def test_clipping_still_shortens_a_step():
    unclipped, _ = trained(None, 0.0)
    clipped, _ = trained(None, 1e-12)  # below Adam's epsilon
    start = ScoredModel(tiny.llama(0)).state_dict()
    moved = [sum(float((state[n] - t).norm()) for n, t in start.items()) for state in (unclipped, clipped)]
    assert moved[1] < 0.01 * moved[0]
