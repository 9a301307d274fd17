"""Two gloo ranks take the same steps as one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toys

from baro.config import TrainerConfig
from baro.protocols import LocalWorld
from baro.trainer import Trainer

CONFIG = TrainerConfig(learning_rate=0.01, seed=3, warmup_steps=2, schedule="linear")
RANK = """
import os, sys, json, torch
import torch.distributed as dist
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/seams"]
torch.set_num_threads(1)
import toys
from baro.distributed.world import TorchWorld
from test_two_ranks import CONFIG
from baro.trainer import Trainer
dist.init_process_group("gloo")
world = TorchWorld()
run = getattr(toys, sys.argv[2])(world)
trainer = Trainer(run.objective, run.source, CONFIG, world=world)
trainer.fit()
states = trainer.state_dict()["modules"]
whole = {f"{name}.{key}": world.whole(t) for name, of in states.items() for key, t in of.items()}
sums = {name: float(t.double().abs().sum()) for name, t in whole.items()}
if world.rank == 0:
    print(json.dumps(sums))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("name", ["sft", "ppo"])
def test_two_ranks_equal_one(name):
    run = getattr(toys, name)(LocalWorld())
    trainer = Trainer(run.objective, run.source, CONFIG)
    trainer.fit()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    here = str(Path(__file__).parents[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, here, name],
            env={
                "RANK": str(r),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "PATH": "/usr/bin",
                "HF_HUB_OFFLINE": "1",
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]
    outputs = [rank.communicate(timeout=240) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), outputs[0][1][-2000:] + outputs[1][1][-2000:]
    found = json.loads(outputs[0][0].strip().splitlines()[-1])
    for module, states in trainer.state_dict()["modules"].items():
        for key, tensor in states.items():
            expected = float(tensor.double().abs().sum())
            assert found[f"{module}.{key}"] == pytest.approx(expected, rel=1e-8, abs=1e-12), f"{module}.{key}"
    assert torch.get_default_dtype() == torch.float32
