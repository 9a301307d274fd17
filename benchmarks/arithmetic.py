"""The verifiable task with its controls, measured: ``python -m benchmarks.arithmetic --out FOLDER``.

Runs ``baro demo --arithmetic`` stage by stage for each of --seeds, and prints one JSON line a seed and then the table:

    accuracy   share of answers whose last number is right, eight to each held-out problem at temperature 1
    lead       what it has above SFT's, problem by problem
    greedy     the same of the one answer at temperature 0
    pass@8     share of problems with a right answer among the eight
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
from baro.functional.statistics import Interval, bootstrap_interval
from baro.pipeline import run_pipeline
from baro.rows import JsonLines

REWARDED = ("grpo", "grpo-random-reward", "grpo-format-reward")
Answers = Mapping[str, np.ndarray]  # by policy: [problems, answers], 1 where something holds


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
    sampled, greedy = (answers(out / stage / "comparisons.jsonl") for stage in ("evaluation", "greedy"))
    right = sampled["right"]
    told = {
        policy: {
            "accuracy": rounded(over_problems(of.mean(1))),
            "lead": rounded(over_problems(of.mean(1) - right["sft"].mean(1))),
            "greedy": rounded(over_problems(greedy["right"][policy].mean(1))),
            "pass@8": rounded(over_problems(of.max(1))),
            "worked": rounded(over_problems(sampled["worked"][policy].mean(1))),
            "form": rounded(over_problems(sampled["form"][policy].mean(1))),
        }
        for policy, of in right.items()
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


def answers(path: Path) -> dict[str, Answers]:
    """By reward and policy the scores of every problem's answers, and whether they are worked out."""
    found: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in JsonLines(path).read():
        steps = {policy: float("=" in answer) for policy, answer in row["answers"].items()}
        for reward, by_policy in (row["scores"] | {"worked": steps}).items():
            for policy, score in by_policy.items():
                found[reward][policy][row["prompt"]].append(score)
    return {
        reward: {policy: np.array(list(by_problem.values())) for policy, by_problem in policies.items()}
        for reward, policies in found.items()
    }


def over_problems(values: np.ndarray) -> Interval:
    """The mean of one value a problem."""
    return bootstrap_interval(values, seed=0)


def rounded(interval: Interval) -> list[float]:
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
    figures = ("accuracy", "lead", "greedy", "pass@8", "worked", "form")
    lines = [f"| policy | seed | {' | '.join(figures)} | seconds |", "|---" * 9 + "|"]
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
