"""Two gloo ranks take the same steps as one process: they train, sample, save, resume and end together."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import ranks
import torch
import toys
from safetensors.torch import load_file

from baro.protocols import LocalWorld
from baro.runs import RunDir
from baro.trainer import Trainer

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The folder of what ranks.py wrote, run once by two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", str(HERE / "ranks.py"), str(folder)],
            env=environment | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()
    assert [process.returncode for process in processes] == [0, 0], errors[0][-3000:] + errors[1][-3000:]
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, torch.Tensor], RunDir]:
    """The weights of one process that trained without a stop, and its run."""
    path = tmp_path_factory.mktemp("alone") / "run"
    with closing(RunDir.open(path, verb="grpo", config=ranks.CONFIG, inputs={})) as run:
        trainer = ranks.online(LocalWorld(), run)
        trainer.fit()
        return ranks.weights(trainer, LocalWorld()), run


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], limit: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name] - tensor).norm() <= limit * max(float(tensor.norm()), 1.0), name


@pytest.mark.parametrize(
    ("build", "limit"),
    [
        (toys.sft, 1e-9),
        (toys.ppo, 1e-9),
        (ranks.narrow, 1e-4),
        (ranks.blocks, 1e-9),
        (ranks.thumbs, 1e-9),
        (ranks.trunk, 1e-9),
        (ranks.grouped, 1e-9),
    ],
)
def test_two_ranks_equal_one(two, build, limit):
    run = build(LocalWorld())
    trainer = Trainer(run.objective, run.source, ranks.CONFIG)
    trainer.fit()
    assert_near(load_file(two / f"{build.__name__}.safetensors"), ranks.weights(trainer, LocalWorld()), limit)


def test_saved_in_a_rollout_and_resumed_by_two_ranks(two, undisturbed):
    expected, alone = undisturbed
    assert_near(load_file(two / "online.safetensors"), expected)
    run = RunDir.load(two / "two")
    assert run.samples.read() == alone.samples.read()  # each rollout once, in one order
    assert [row["step"] for row in run.metrics.read()] == list(range(1, 9))
    for row, other in zip(run.metrics.read(), alone.metrics.read(), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-9)


@pytest.mark.parametrize(("name", "step"), [("one", 3), ("ended", 5)])
def test_saved_by_two_ranks_and_resumed_by_one(two, undisturbed, name, step):
    """``ended``: by SIGTERM to the rank that has no run, while it scored."""
    expected, alone = undisturbed
    assert [folder.name for folder in RunDir.load(two / name).checkpoint_folders()][-1] == f"step-{step:06d}"
    wanted = {"verb": "grpo", "config": ranks.CONFIG, "inputs": {}}
    with closing(RunDir.open(two / name, **wanted, allow_environment_change=True)) as run:  # the threads are others
        trainer = ranks.online(LocalWorld(), run)
        trainer.fit()
    assert_near(ranks.weights(trainer, LocalWorld()), expected)
    assert run.samples.read() == alone.samples.read()


def test_a_signal_to_one_rank_ends_all_after_the_step(two):
    assert [(two / f"code-{rank}").read_text() for rank in range(2)] == ["143 5", "143 5"]
