"""The verifiable task with its controls, measured: ``python -m benchmarks.arithmetic --out FOLDER``.

Runs ``baro demo --arithmetic`` stage by stage for each of --seeds, and prints one JSON line a seed and then the table:

    accuracy   share of answers whose last number is right, eight to each held-out problem at temperature 1
    lead       what it has above SFT's, problem by problem
    greedy     the same of the one answer at temperature 0
    pass@8     share of problems with a right answer among the eight
    maj@8      share of problems whose most frequent result is right
    worked     share of the eight that write out steps
    form       share of the eight that end with #### and a number
    seconds    of the stage, by the clock and of the processor

Intervals are 95%, by a bootstrap over problems. --out gets arithmetic.json with every figure, and curves.json, accuracy
and form along each GRPO run, which docs/figures/draw.py draws when it lies there as arithmetic.json. What is finished
is not run again, and its seconds are those of then.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baro.demo.run import arithmetic_pipeline
from baro.files import write_atomic
from baro.functional.statistics import bootstrap_interval
from baro.pipeline import run_pipeline
from baro.rows import JsonLines

REWARDED = ("grpo", "grpo-random-reward", "grpo-format-reward")
ByPolicy = Mapping[str, np.ndarray]  # of each problem one value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/arithmetic"))
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        rows.append(one_seed(seed, given.out / f"seed-{seed}"))
        print(json.dumps(rows[-1]), flush=True)
    write_atomic(given.out / "arithmetic.json", json.dumps(rows, indent=1) + "\n")
    curves = [along(given.out / f"seed-{seed}") for seed in given.seeds]
    write_atomic(given.out / "curves.json", json.dumps(curves) + "\n")
    print(table(rows))


def one_seed(seed: int, out: Path) -> dict[str, Any]:
    """Run the stages one after the other, and measure who answers what."""
    outline = arithmetic_pipeline(out / "data", seed)
    seconds = timed(outline, out)
    figures = {
        (stage, row["name"]): [round(row[key], 3) for key in ("value", "low", "high")]
        for stage in ("evaluation", "greedy")
        for row in json.loads((out / stage / "figures.json").read_text())
        if row["low"] is not None
    }
    right, worked = answers(out / "evaluation" / "comparisons.jsonl")
    told = {
        policy: {
            "accuracy": figures["evaluation", f"{policy}/accuracy/right"],
            "lead": over_problems(right[policy] - right["sft"]),
            "greedy": figures["greedy", f"{policy}/accuracy/right"],
            "pass@8": figures["evaluation", f"{policy}/pass_at_8/right"],
            "maj@8": figures["evaluation", f"{policy}/maj_at_8/right"],
            "worked": over_problems(worked[policy]),
            "form": figures["evaluation", f"{policy}/accuracy/form"],
        }
        for policy in right
    }
    return {"seed": seed, "policies": told, "seconds": seconds}


def timed(outline: Mapping[str, Any], out: Path) -> dict[str, list[float]]:
    """Run the stages; by stage its seconds by the clock and of the processor, kept from when it was run."""
    kept = out / "seconds.json"
    seconds: dict[str, list[float]] = json.loads(kept.read_text()) if kept.exists() else {}
    names = list(outline["stages"])
    for count, name in enumerate(names, start=1):
        clock, processor = time.perf_counter(), time.process_time()
        stages = {one: outline["stages"][one] for one in names[:count]}
        run_pipeline({"stages": stages, "seed": outline["seed"]}, out=out)
        taken = [round(time.perf_counter() - clock, 1), round(time.process_time() - processor, 1)]
        if name not in seconds:
            seconds[name] = taken
            write_atomic(kept, json.dumps(seconds))
    return seconds


def answers(path: Path) -> tuple[ByPolicy, ByPolicy]:
    """By policy, for each problem: the share of its answers that are right, and of those that write out steps."""
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    worked: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in JsonLines(path).read():
        for policy, answer in row["answers"].items():
            right[policy][row["prompt"]].append(row["scores"]["right"][policy])
            worked[policy][row["prompt"]].append(float("=" in answer))
    one, other = (
        {policy: np.array([np.mean(some) for some in by_problem.values()]) for policy, by_problem in found.items()}
        for found in (right, worked)
    )
    return one, other


def over_problems(values: np.ndarray) -> list[float]:
    """The mean of one value a problem, with its interval."""
    interval = bootstrap_interval(values, seed=0)
    return [round(one, 3) for one in (interval.value, interval.low, interval.high)]


def along(out: Path) -> dict[str, dict[str, list[float]]]:
    """By GRPO run the steps at which validation problems were answered, and which share was right and marked."""
    found = {}
    for name in REWARDED:
        measured = [row for row in JsonLines(out / name / "metrics.jsonl").read() if "eval/score/right" in row]
        found[name] = {
            "step": [row["step"] for row in measured],
            "right": [round(row["eval/score/right"], 4) for row in measured],
            "form": [round(row["eval/score/form"], 4) for row in measured],
        }
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a policy and seed."""
    figures = ("accuracy", "lead", "greedy", "pass@8", "maj@8", "worked", "form")
    lines = [f"| policy | seed | {' | '.join(figures)} | seconds |", "|---" * 10 + "|"]
    for policy in rows[0]["policies"]:
        for row in rows:
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*row["policies"][policy][name]) for name in figures]
            clock, processor = row["seconds"][policy]
            lines.append(f"| {policy} | {row['seed']} | {' | '.join(cells)} | {clock:.0f}, {processor:.0f} |")
    for row in rows:
        total = np.array(list(row["seconds"].values())).sum(0)
        lines.append(f"all of seed {row['seed']}: {total[0]:.0f} s by the clock, {total[1]:.0f} s of the processor")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
