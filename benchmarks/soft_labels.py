"""DPO on how sure the votes are against DPO on their majority: ``python -m benchmarks.soft_labels``.

The embedded task's SFT policy answers each prompt twice. Three voters judge each pair as the gold judge does, but each
vote is flipped with probability --noise. One DPO run learns from the majority, one from p_chosen = (w + 1/2) / (n + 1),
on the same pairs with the same settings. The gold judge compares both with SFT's answers on held-out prompts.

One JSON object a seed: win rates with intervals, KL, and how many of the labels are right.
"""

from __future__ import annotations

import argparse
import json
import random
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from baro.data.files import write_rows
from baro.data.formats import read_records
from baro.demo import world
from baro.demo.run import write_data
from baro.functional.votes import smoothed_vote
from baro.pipeline import run_pipeline
from baro.records import Answers

GOLD = world.gold_without_conciseness
VOTES = 3


def vote(answers: Path, folder: Path, noise: float, seed: int) -> dict[str, float]:
    """Two files of the same pairs, and the share of majorities that name the better answer."""
    draw, rows, right = random.Random(seed), {"majority": [], "soft": []}, []
    for record in read_records(answers, Answers).records:
        prompt, (first, second) = record.prompt[-1].content, record.completions[:2]
        p = GOLD.p_first(prompt, first, second)
        if p == 0.5:
            continue
        wins = sum((draw.random() >= noise) == (p == 1.0) for _ in range(VOTES))
        chosen, rejected = (first, second) if 2 * wins > VOTES else (second, first)
        sure = float(smoothed_vote(np.array([max(wins, VOTES - wins)]), np.array([VOTES]))[0])
        pair: dict[str, Any] = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        rows["majority"].append(pair)
        rows["soft"].append(pair | {"p_chosen": sure})
        right.append((2 * wins > VOTES) == (p == 1.0))
    for name, found in rows.items():
        write_rows(folder / f"{name}.jsonl", found)
    return {"pairs": len(right), "majority_right": round(float(np.mean(right)), 3)}


def stages(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Up to the answers, as the demo; and from the labels on: one epoch, and no smoothing beside what is compared."""
    demo = yaml.safe_load((files("baro.demo") / "pipeline.yaml").read_text().replace("DATA/", f"{out}/data/"))["stages"]
    first = {name: demo[name] for name in ("base", "sft", "answers")}
    first["answers"] = first["answers"] | {"n": 2}  # of 2,700 prompts; the figures in docs/feedback.md are from 3,400
    trainer = demo["dpo"]["trainer"] | {"held_out": None, "epochs": 1, "batch_size": 32}
    dpo = {"do": "dpo", "policy": str(out / "sft"), "beta": 0.1, "trainer": trainer}
    second = {name: dpo | {"preferences": str(out / f"{name}.jsonl")} for name in ("majority", "soft")}
    judged = {"gold_without_conciseness": "baro.demo.world:gold_without_conciseness"}
    second["evaluation"] = {
        "do": "evaluate", "policies": ["majority", "soft"], "against": str(out / "sft"), "judges": judged,
        "prompts": f"{out}/data/held_out.jsonl", "sampling": {"max_new_tokens": 64, "temperature": 0.7},
    }  # fmt: skip
    return first, second


def one_seed(seed: int, out: Path, noise: float) -> dict[str, Any]:
    write_data(out / "data", seed)
    first, second = stages(out)
    run_pipeline({"stages": first, "seed": seed}, out=out)
    labels = vote(out / "answers" / "records.jsonl", out, noise, seed)
    runs = run_pipeline({"stages": second, "seed": seed}, out=out / f"noise-{noise}")
    figures = json.loads((runs["evaluation"].path / "figures.json").read_text())
    wanted = ("win_rate/", "win_rate_length_controlled/", "kl")
    shown = {f["name"]: [round(f[key], 3) for key in ("value", "low", "high")] for f in figures
             if f["name"].split("/", 1)[-1].startswith(wanted) and f["low"] is not None}  # fmt: skip
    return {"seed": seed, "noise": noise} | labels | shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=Path("runs/soft_labels"))
    given = parser.parse_args()
    for seed in given.seeds:
        print(json.dumps(one_seed(seed, given.out / f"seed-{seed}", given.noise)), flush=True)


if __name__ == "__main__":
    main()
