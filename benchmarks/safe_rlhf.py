"""Rewards under a limit on harm, on the safety task: ``python -m benchmarks.safe_rlhf --out FOLDER``.

Simulated: reward and cost are the gold functions of baro.demo.safety, so that what is measured is the method and not
the noise of people or of models of them. For each of --seeds base and SFT are trained, and from SFT

    lagrangian    safe PPO, whose multiplier λ holds E[cost] 0.015 below --limit
    fixed-K       the same with a λ that stays: 0 (PPO on the reward alone), and 1/4, 1/2, 1, 2 and 4 times λ̄, the mean
                  λ of the last quarter of the rollouts of lagrangian

All answer the same held-out prompts, --completions times each. Printed and in safe_rlhf.json, each as [value, low,
high] with a 95% interval by a bootstrap over prompts:

    reward, cost  mean over all prompts; feasible: the cost is at most the limit, certain: its upper end is, too
    red_team      the cost on red-team prompts alone
    over          share of answers whose own cost is over the limit
    lead          reward of lagrangian less the arm's, prompt by prompt

--out gets curves.json as well: the figures, and rollout by rollout λ, mean cost, its interval and reward of lagrangian
and of λ = 0, which docs/figures/draw.py draws when it lies there as safe_rlhf.json. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from baro.data.files import write_rows
from baro.demo import safety_files
from baro.demo.hazards import RED_TEAM
from baro.files import write_atomic
from baro.functional.statistics import bootstrap_interval
from baro.pipeline import run_pipeline
from baro.rows import JsonLines

LIMIT = 0.1
MARGIN = 0.015
"""What λ aims below the limit: a mean that is held at the limit itself would be above it half of the time."""
MULTIPLES = {"fixed-0": 0.0, "fixed-1": 1.0, "fixed-1_2": 0.5, "fixed-2": 2.0, "fixed-1_4": 0.25, "fixed-4": 4.0}
REWARD = {"by": "baro.demo.safety:helpful", "name": "helpful"}
COST = {"by": "baro.demo.safety:harm", "name": "harm"}
SAMPLING = {"max_new_tokens": 48, "temperature": 0.7}
PPO: Mapping[str, Any] = {
    "rewards": [REWARD],
    "kl": {"coef": 0.05},
    "value": {"learning_rate": 1.0e-3},
    "reward_shaping": {"missing_eos": "replace", "missing_eos_penalty": 1.0},
    "rollout": {"prompts": 128, "completions": 1, "epochs": 2, "minibatches": 2},
    "sampling": SAMPLING,
    "trainer": {"learning_rate": 8.0e-4, "steps": 96, "warmup_steps": 4, "checkpoint_every": 96},
}
LAGRANGIAN = {"mode": "lagrangian", "multiplier": 0.8, "learning_rate": 0.6, "proportional": 10.0}
"""How λ moves. Without the proportional term it swings, since the policy follows it only after some rollouts."""
LOGGED = {
    "multiplier": "constraint/lambda", "cost": "constraint/mean_cost", "low": "constraint/cost_low",
    "high": "constraint/cost_high", "reward": "objective/scores",
}  # fmt: skip
Stages = dict[str, dict[str, Any]]
ByArm = Mapping[str, np.ndarray]  # of each prompt one value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/safe-rlhf"))
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--completions", type=int, default=2)
    given = parser.parse_args()
    rows, curves = [], []
    for seed in given.seeds:
        out = given.out / f"seed-{seed}"
        rows.append(one_seed(seed, out, first_stages(out, seed), PPO, given.limit, given.completions))
        curves.append({arm: along(out / arm) for arm in rows[-1]["arms"]})
        print(json.dumps(rows[-1]), flush=True)
    write_atomic(given.out / "safe_rlhf.json", json.dumps(rows, indent=1) + "\n")
    drawn = [
        row | {"curves": {arm: curve[arm] for arm in ("lagrangian", "fixed-0")}}
        for row, curve in zip(rows, curves, strict=True)
    ]
    write_atomic(given.out / "curves.json", json.dumps(drawn) + "\n")
    print(table(rows))


def first_stages(out: Path, seed: int, sizes: Mapping[str, int] = safety_files.SIZES) -> Stages:
    """``base`` and ``sft`` of the safety task, whose files are written into ``out``."""
    for name, rows in safety_files.files_of(seed, sizes).items():
        write_rows(out / "data" / f"{name}.jsonl", rows)
    text = (files("baro.demo") / "safety.yaml").read_text().replace("DATA/", f"{out}/data/")
    stages = yaml.safe_load(text)["stages"]
    return {name: stages[name] for name in ("base", "sft")}


def one_seed(
    seed: int, out: Path, first: Stages, ppo: Mapping[str, Any], limit: float, completions: int
) -> dict[str, Any]:
    """Train the arms one after the other, and measure them on the same prompts."""
    shared = {"policy": "sft", "prompts": f"{out}/data/policy.jsonl", **ppo}
    safe = {"do": "safe-ppo", **shared, "costs": [COST]}
    stages: Stages = dict(first)
    stages["lagrangian"] = safe | {"constraint": LAGRANGIAN | {"limit": limit - MARGIN}}
    run_pipeline({"stages": stages, "seed": seed}, out=out)
    mean = last_quarter(along(out / "lagrangian")["multiplier"])
    for name, times in MULTIPLES.items():
        stages[name] = safe | {"constraint": {"mode": "fixed", "multiplier": round(times * mean, 6), "limit": limit}}
    arms = [name for name in stages if name != "base"]
    stages["evaluation"] = {
        "do": "evaluate", "policies": arms, "prompts": f"{out}/data/held_out.jsonl", "completions": completions,
        "rewards": {"reward": REWARD["by"], "cost": COST["by"]}, "sampling": ppo["sampling"],
    }  # fmt: skip
    run_pipeline({"stages": stages, "seed": seed}, out=out)
    told = measured(out / "evaluation" / "comparisons.jsonl", limit)
    return {"seed": seed, "limit": limit, "mean_multiplier": round(mean, 4)} | judged(told, limit)


def last_quarter(values: Sequence[float]) -> float:
    """The mean of the last quarter of the rollouts, at least of one."""
    return float(np.mean(values[-max(1, len(values) // 4) :]))


def along(run: Path) -> dict[str, list[float]]:
    """Rollout by rollout: λ, mean cost with both ends of its interval, and mean reward, as far as the run has them."""
    by_rollout: dict[str, dict[int, list[float]]] = {name: defaultdict(list) for name in LOGGED}
    for row in JsonLines(run / "metrics.jsonl").read() if (run / "metrics.jsonl").exists() else ():
        for name, key in LOGGED.items():
            if "rollout" in row and key in row:
                by_rollout[name][round(row["rollout"])].append(row[key])
    return {
        name: [round(float(np.mean(of[one])), 5) for one in sorted(of)] for name, of in by_rollout.items() if len(of)
    }


def measured(path: Path, limit: float) -> dict[str, ByArm]:
    """By arm, for each prompt: reward, cost, the share of its answers over the limit, and whether it is red-team."""
    found: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in JsonLines(path).read():
        for arm, reward in row["scores"]["reward"].items():
            cost = row["scores"]["cost"][arm]
            for name, value in (("reward", reward), ("cost", cost), ("over", float(cost > limit))):
                found[name][arm][row["prompt"]].append(value)
            found["red_team"][arm][row["prompt"]] = [float(row["prompt"] in RED_TEAM)]
    return {
        name: {arm: np.array([np.mean(some) for some in of.values()]) for arm, of in by_arm.items()}
        for name, by_arm in found.items()
    }


def judged(told: Mapping[str, ByArm], limit: float, over: str = "lagrangian") -> dict[str, Any]:
    """The figures of each arm, their leads that of the arm ``over``, and which fixed λ keeps the limit with the most
    reward.
    """
    arms: dict[str, dict[str, Any]] = {}
    for arm, cost in told["cost"].items():
        arms[arm] = {
            "reward": over_prompts(told["reward"][arm]),
            "cost": over_prompts(cost),
            "red_team": over_prompts(cost[told["red_team"][arm] == 1.0]),
            "over": over_prompts(told["over"][arm]),
            "lead": over_prompts(told["reward"][over] - told["reward"][arm]),
        }
        value, _, high = arms[arm]["cost"]
        arms[arm] |= {"feasible": value <= limit, "certain": high <= limit}
    kept = [arm for arm in MULTIPLES if arm in arms and arms[arm]["feasible"]]
    return {"best_feasible": max(kept, key=lambda arm: arms[arm]["reward"][0], default=None), "arms": arms}


def over_prompts(values: np.ndarray) -> list[float]:
    """The mean of one value a prompt, with its interval."""
    interval = bootstrap_interval(values, seed=0)
    return [round(one, 4) for one in (interval.value, interval.low, interval.high)]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line an arm and seed."""
    figures = ("reward", "cost", "red_team", "over", "lead")
    lines = [f"| arm | seed | λ̄ | {' | '.join(figures)} | limit kept |", "|---" * 9 + "|"]
    for arm in rows[0]["arms"]:
        for row in rows:
            found = row["arms"][arm]
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*found[name]) for name in figures]
            kept = "yes" if found["certain"] else "in the mean" if found["feasible"] else "no"
            lines.append(f"| {arm} | {row['seed']} | {row['mean_multiplier']:.2f} | {' | '.join(cells)} | {kept} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
