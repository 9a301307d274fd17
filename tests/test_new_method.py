"""The example of a method from outside the package: its loss, its gradient, a run, and its length."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch

from baro.batch import Sample, branch
from baro.collate import collate
from baro.config import DataConfig, TrainerConfig
from baro.data.new_tokenizer import train_tokenizer
from baro.data.template import Template
from baro.models.forward import Outputs, ScoredModel
from baro.models.load import Architecture, new_policy, save_policy

EXAMPLE = Path(__file__).parents[1] / "examples" / "new_method.py"


@pytest.fixture(scope="module")
def simpo() -> ModuleType:
    specification = importlib.util.spec_from_file_location("new_method", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    sys.modules["new_method"] = module  # pydantic looks the annotations up there
    specification.loader.exec_module(module)
    return module


def config_of(simpo: ModuleType, **changes: object) -> object:
    return simpo.Config(policy="p", preferences="q", **changes)


def pair(chosen: list[int], rejected: list[int], prompt: list[int], p_chosen: float = 1.0) -> Sample:
    """A pair as ``encode_preferences`` makes it."""
    better = branch(chosen).with_(fields={"chosen": 1.0, "p_chosen": p_chosen}, units={"pairs": 1.0})
    worse = branch(rejected).with_(fields={"chosen": 0.0, "p_chosen": p_chosen})
    return Sample(torch.tensor(prompt), (better, worse))


PAIRS = [
    pair([3, 4, 5], [6, 7], [1, 2]),
    pair([8], [9, 10, 11, 12], [3]),
    pair([5, 5], [6], [4, 2, 1, 7], p_chosen=0.8),
    pair([13, 2, 2, 9, 1], [14, 3, 8], [2, 6]),
]


class Given:
    """A model whose log-probs are given."""

    def __init__(self, logprobs: list[float]) -> None:
        self.logprobs = torch.tensor(logprobs, dtype=torch.float64)

    def __call__(self, batch: object, outputs: list[str]) -> Outputs:
        return Outputs(logprobs=self.logprobs)


def loss_of(simpo: ModuleType, logprobs: list[float], sample: Sample, **changes: object) -> float:
    (batch,) = collate([sample], micro_batch_tokens=100, hidden_size=16)
    (output,) = simpo.Objective(Given(logprobs), config_of(simpo, **changes)).losses(batch, batch.units)
    return float(output.loss)


def test_literal_loss(simpo):
    # chosen: averages to (−1 − 3)/2 = −2.0; rejected: (−1 − 1.5 − 2)/3 = −1.5
    # z = 2·(−2.0) − 2·(−1.5) − 1 = −2, −log σ(−2) = log(1 + e²) = 2.126928
    logprobs, sample = [-1.0, -3.0, -1.0, -1.5, -2.0], pair([3, 4], [5, 6, 7], [1])
    assert loss_of(simpo, logprobs, sample, beta=2.0, gamma=1.0) == pytest.approx(2.126928, abs=1e-6)
    # β = 1: z = −0.5 − 1 = −1.5, log(1 + e^1.5) = 1.701413; γ = 0: z = −1, log(1 + e) = 1.313262
    assert loss_of(simpo, logprobs, sample, beta=1.0, gamma=1.0) == pytest.approx(1.701413, abs=1e-6)
    assert loss_of(simpo, logprobs, sample, beta=2.0, gamma=0.0) == pytest.approx(1.313262, abs=1e-6)
    # p = 0.8: 0.8 · 2.126928 + 0.2 · log(1 + e^−2) = 1.701542 + 0.2 · 0.126928 = 1.726928
    sure = pair([3, 4], [5, 6, 7], [1], p_chosen=0.8)
    assert loss_of(simpo, logprobs, sure, beta=2.0, gamma=1.0) == pytest.approx(1.726928, abs=1e-6)


@pytest.mark.parametrize("per_row", [1, 2])
@pytest.mark.parametrize("budget", [1, 20, 10**6])
def test_no_layout_changes_the_gradient(simpo, per_row, budget):
    def gradient(samples: list[Sample], budget: int, per_row: int) -> list[torch.Tensor]:
        objective = simpo.Objective(ScoredModel(tiny.llama()), config_of(simpo))
        batches = collate(samples, micro_batch_tokens=budget, hidden_size=16, per_row=per_row)
        totals = {"pairs": sum(batch.units["pairs"] for batch in batches)}
        for batch in batches:
            for output in objective.losses(batch, totals):
                output.loss.backward()
        return [parameter.grad for parameter in objective.policy.parameters()]

    whole, other = gradient(PAIRS, 10**6, 1), gradient(PAIRS[::-1], budget, per_row)
    assert any(one.norm() > 0 for one in whole)
    for a, b in zip(other, whole, strict=True):
        assert (a - b).norm() <= 1e-9 * max(float(b.norm()), 1e-6)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny untrained policy, and pairs in which the kind answer is chosen."""
    folder = tmp_path_factory.mktemp("simpo")
    rows = [
        {"prompt": f"Say {word} to {name}.", "chosen": f"{word}, dear {name}!", "rejected": f"{word}."}
        for word in ("hi", "bye", "thanks", "welcome")
        for name in ("Mina", "Jun", "Sora", "Alex")
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = Template(train_tokenizer([" ".join(row.values()) for row in rows], 300), "plain")
    shape = Architecture(hidden_size=16, layers=1, heads=2, max_positions=96, intermediate_size=24)
    save_policy(new_policy(shape, vocabulary=template.vocabulary, special=template.special, seed=0), folder / "policy")
    template.save(folder / "policy")
    return {"policy": str(folder / "policy"), "preferences": str(folder / "pairs.jsonl")}


def test_a_run_widens_the_margin_and_is_found_again(simpo, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = TrainerConfig(learning_rate=0.01, steps=12, batch_size=8, held_out_fraction=0.25)
    config = simpo.Config(**inputs, trainer=trainer, data=DataConfig(max_length=96))
    run = simpo.run(config)
    rows = run.metrics.read()
    margins = [row["rewards/margins"] for row in rows if "rewards/margins" in row]
    held_out = [row["eval/rewards/margins"] for row in rows if "eval/rewards/margins" in row]
    assert margins[-1] > margins[0] + 0.5
    assert held_out[-1] > held_out[0]
    assert (run.model / "model.safetensors").exists()
    assert run.verb == "simpo"
    again = simpo.run(config)
    assert again.path == run.path
    assert again.finished


def test_it_runs_as_a_program(inputs, tmp_path):
    config = tmp_path / "simpo.yaml"
    lines = [f"{key}: {value}" for key, value in inputs.items()]
    config.write_text("\n".join([*lines, "beta: 2.5", "trainer: {steps: 1, batch_size: 4}", "data: {max_length: 96}"]))
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(config)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / done.stdout.strip()
    assert json.loads((run / "run.json").read_text())["config"]["beta"] == 2.5


def test_it_is_short():
    assert EXAMPLE.read_text().count("\n") <= 60
