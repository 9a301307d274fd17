"""What one backbone costs in quality: ``python -m benchmarks.trunk_gold``.

The embedded task. One LoRA reward model, trained from the SFT policy on the people's judgments; then PPO twice with it,
on the same prompts and for as many steps:

    four_full   all weights of policy and value model are trained; reference and reward model beside them, the latter
                merged; values start at it
    trunk       policy, reference, value model and reward model are adapters of one backbone; values start at the
                reward's adapter

Learning rates: the demo's for all weights, --times as much for adapters, in the reward model too. The gold judge
compares both policies with SFT on the same held-out prompts. One JSON object a seed: both win rates, and trunk less
four_full, with 95% intervals over prompts (paired: a bootstrap that draws prompts).

--demo takes a finished ``baro demo`` of the seed, of which sft, judged and judged_held_out are used, in place of
making them. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from baro.demo.run import write_data
from baro.functional.statistics import bootstrap_interval
from baro.pipeline import run_pipeline
from baro.rows import JsonLines
from benchmarks.embedded import JUDGE, Stages, demo_stages, win_rates

MADE = ("base", "sft", "answers", "shown", "judged", "judged_held_out")
LORA = {"r": 16, "alpha": 32.0}


def arms(demo: Stages, sft: Path, reward: Path, times: float) -> Stages:
    """PPO by all weights and by adapters, all else equal."""
    ppo = demo["ppo"] | {"policy": str(sft), "reward_model": str(reward), "accept_weak_reward_model": True}
    faster = ppo["trainer"] | {"learning_rate": times * ppo["trainer"]["learning_rate"]}
    value = ppo["value"] | {"learning_rate": times * ppo["value"]["learning_rate"]}
    return {"four_full": ppo, "trunk": ppo | {"lora": LORA, "trainer": faster, "value": value}}


def reward_stage(demo: Stages, made: Path, times: float) -> dict[str, Any]:
    """The demo's reward model with adapters, on the same judgments."""
    reward = demo["reward"]
    trainer = reward["trainer"] | {"learning_rate": times * reward["trainer"]["learning_rate"]}
    trainer |= {"held_out": str(made / "judged_held_out" / "pairs.jsonl")}
    inputs = {"model": str(made / "sft"), "preferences": str(made / "judged")}
    return reward | inputs | {"trainer": trainer, "lora": LORA}


def difference(evaluation: Path, seed: int) -> list[float]:
    """Win rate of trunk less that of four_full, over prompts that both were judged on: value, low, high."""
    judged = [row["scores"][JUDGE] for row in JsonLines(evaluation / "comparisons.jsonl").read()]
    both = [one for one in judged if one["trunk"] is not None and one["four_full"] is not None]
    found = bootstrap_interval(np.array([one["trunk"] - one["four_full"] for one in both]), seed=seed)
    return [round(one, 3) for one in (found.value, found.low, found.high)]


def one_seed(seed: int, given: argparse.Namespace) -> dict[str, Any]:
    out = given.out / f"seed-{seed}"
    write_data(out / "data", seed)
    demo, made = demo_stages(out), given.demo or out
    if given.demo is None:
        run_pipeline({"stages": {name: demo[name] for name in MADE}, "seed": seed}, out=out)
    folder = out / "trunk"
    stage = reward_stage(demo, made, given.times)
    reward = run_pipeline({"stages": {"reward": stage}, "seed": seed}, out=folder)["reward"]
    figures = {row["name"]: row["value"] for row in json.loads((reward.path / "figures.json").read_text())}
    stages = arms(demo, made / "sft", reward.path, given.times)
    told = win_rates(stages, folder, seed, demo, made / "sft")
    found = {"seed": seed, "reward_accuracy": round(figures["reward_model/accuracy"], 3), "arms": told}
    return found | {"difference": difference(folder / "evaluation", seed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--times", type=float, default=5.0, help="learning rates of adapters over those of all weights")
    parser.add_argument("--demo", type=Path, help="a finished demo of the seed")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    given = parser.parse_args()
    for seed in given.seeds:
        print(json.dumps(one_seed(seed, given)), flush=True)


if __name__ == "__main__":
    main()
