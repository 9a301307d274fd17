"""The win rate by number of judgments, drawn at random or chosen: ``python -m benchmarks.label_efficiency``.

The embedded task with the demo's own settings. People, simulated unless --by is empty, rank the four answers of the SFT
policy to N prompts, one person each; DPO learns from these rankings, and the gold judge compares it with SFT on
held-out prompts. N rankings are spent in two ways:

    random   on N prompts drawn at random; a larger draw holds the smaller ones
    margin   --start of them at random, which train a reward model; the others where its scores of the four answers lie
             closest, a fifth of those at random again; all N are counted

DPO takes every ranking once, and at least --least-steps optimiser steps, so that few rankings are gone through more
often. In a trial on 50 rankings (seed 0, steps of 32 pairs) one epoch, ten steps that are all warm-up, left a win rate
of 0.50, 100 steps gave 0.57, and 300 gave 0.48 at a KL of 8. The reward model takes --reward-steps; on the gold judge's
pairs it was right on 0.57 after 100 rankings and on 0.61 after 200, whatever the steps, which is why --start is 200.

Cost: rankings, and people's hours. Where the page measured how long a ranking took (real people), that is the time;
where it did not (simulated ones), it is --seconds for each, which is an assumption and nothing that was measured.

--out gets label_efficiency.json with every figure of every seed and its 95% interval (a bootstrap over the held-out
prompts), and label_efficiency.svg. What is finished is not run again, so counts and seeds may be added later.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from baro.data.formats import read_records, write_records
from baro.demo.run import write_data
from baro.evaluate.plots import Estimate, Point, scatter_plot
from baro.feedback.collect import PROJECT
from baro.feedback.database import Store
from baro.feedback.panel import progress
from baro.feedback.project import get_project
from baro.files import write_atomic
from baro.pipeline import run_pipeline
from baro.records import Answers, Ranking

ARMS = ("random", "margin")
GOLD = "gold_without_conciseness"
Stages = dict[str, dict[str, Any]]


class Seed:
    """One seed's folder; its pipeline grows from what was judged, and what is finished in it is skipped."""

    def __init__(self, seed: int, given: argparse.Namespace) -> None:
        self.seed, self.given, self.out = seed, given, given.out / f"seed-{seed}"
        text = (files("baro.demo") / "pipeline.yaml").read_text()
        self.demo: Stages = yaml.safe_load(text.replace("DATA/", f"{self.out}/data/"))["stages"]
        self.stages: Stages = {}

    def run(self) -> list[dict[str, Any]]:
        """For every count of both arms what it cost and what came of it."""
        write_data(self.out / "data", self.seed)
        start, counts = self.given.start, sorted(self.given.counts)
        more = [n for n in counts if n > start]
        first = {name: self.demo[name] for name in ("base", "sft", "answers")}
        self._run(first | {f"judged-random-{n}": self._judged("answers", "random", n) for n in {*counts, start}})
        bought = [("random", [f"judged-random-{n}"]) for n in counts]
        if more:
            rest = self._rest(self.out / f"judged-random-{start}")
            self._run({"reward": self._reward(f"judged-random-{start}")})
            self._run({f"judged-margin-{n}": self._judged(rest, "margin", n - start) for n in more})
            bought += [("margin", [f"judged-random-{start}", f"judged-margin-{n}"]) for n in more]
        rows = [
            {"seed": self.seed, "arm": arm} | self._spent([self.out / name for name in named]) for arm, named in bought
        ]
        for row, (_, named) in zip(rows, bought, strict=True):
            row |= self._learnt(row, [self.out / name for name in named])
        self._run({})
        return [row | self._found(row) for row in rows]

    def _run(self, more: Stages) -> None:
        self.stages |= more
        run_pipeline({"stages": self.stages, "seed": self.seed}, out=self.out)

    def _judged(self, answers: str, policy: str, count: int) -> dict[str, Any]:
        choose = {"policy": policy, "count": count, "rewards": ["reward"] if policy == "margin" else []}
        people = {"do": "feedback collect", "kind": "rank", "overlap": 1, "by": self.given.by or None}
        return people | {"answers": answers, "choose": choose}

    def _trained(self, name: str, steps: int, **inputs: Any) -> dict[str, Any]:
        """A stage of the demo that takes so many steps on other data, and none of it held out: that would cost too."""
        never_held_out = {"held_out": None, "held_out_fraction": 0.0, "keep": "last"}
        trainer = self.demo[name]["trainer"] | {"steps": steps, "epochs": None} | never_held_out
        return self.demo[name] | inputs | {"trainer": trainer}

    def _reward(self, judged: str) -> dict[str, Any]:
        return self._trained("reward", self.given.reward_steps, model="sft", preferences=judged)

    def _rest(self, judged: Path) -> str:
        """The answers to prompts that nobody was asked about yet."""
        asked = {one.prompt for one in read_records(judged / "records.jsonl", Ranking).records}
        every = read_records(self.out / "answers" / "records.jsonl", Answers).records
        path = self.out / f"{judged.name}-rest.jsonl"
        write_records(path, [one for one in every if one.prompt not in asked])
        return str(path)

    def _learnt(self, row: Mapping[str, Any], judged: Sequence[Path]) -> dict[str, Any]:
        """Add the stages that train on all that was judged, and evaluate; returns how long is learnt."""
        name = _name(row)
        rankings = b"".join((folder / "records.jsonl").read_bytes() for folder in judged)
        path = self.out / f"rankings-{name}.jsonl"
        write_atomic(path, rankings)
        count, batch = rankings.count(b"\n"), self.demo["dpo"]["trainer"]["batch_size"]
        steps = max(self.given.least_steps, math.ceil(count / batch))
        self.stages[f"dpo-{name}"] = self._trained("dpo", steps, policy="sft", preferences=str(path))
        self.stages[f"evaluation-{name}"] = {
            "do": "evaluate", "policies": {row["arm"]: f"dpo-{name}"}, "against": "sft",
            "judges": {GOLD: f"baro.demo.world:{GOLD}"}, "prompts": f"{self.out}/data/held_out.jsonl",
            "sampling": self.demo["evaluation"]["sampling"],
        }  # fmt: skip
        return {"steps": steps, "epochs": round(steps * batch / count, 2)}

    def _found(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The evaluation's figures, each with its interval."""
        found = {f["name"]: [round(f[key], 4) for key in ("value", "low", "high")]
                 for f in _figures(self.out / f"evaluation-{_name(row)}") if f["low"] is not None}  # fmt: skip
        figures = {"win_rate": f"win_rate/{GOLD}", "win_rate_length_controlled": f"win_rate_length_controlled/{GOLD}"}
        return {key: found[f"{row['arm']}/{name}"] for key, name in (figures | {"kl": "kl"}).items()}

    def _spent(self, judged: Sequence[Path]) -> dict[str, Any]:
        """Rankings, how many of them were chosen, and hours: measured, and assumed for what has no time."""
        spent: dict[str, Any] = {"rankings": 0, "chosen": 0, "hours_measured": 0.0, "hours_assumed": 0.0}
        for folder in judged:
            store = Store.open(folder / "store")
            with store.read() as connection:
                told = progress(connection, get_project(connection, PROJECT))
            store.close()
            spent["rankings"] += told["judgments"]
            spent["hours_measured"] += told["hours"]
            spent["hours_assumed"] += told["without_time"] * self.given.seconds / 3600
            spent["chosen"] += int(next(f["value"] for f in _figures(folder) if f["name"] == "chosen_tasks"))
        return {key: round(value, 2) for key, value in spent.items()}


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['arm']}-{row['rankings']}"


def _figures(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "figures.json").read_text())
    return found


# ---------------------------------------------------------------------------------------------------------- the figure


def drawing(rows: Sequence[Mapping[str, Any]]) -> str:
    """Win rates over rankings, these in doublings: a mark for each seed, random and chosen rankings side by side.

    The line leads through the means of the random ones. The report's colours, in a file of its own.
    """
    seeds = sorted({row["seed"] for row in rows})
    least = {arm: min((row["rankings"] for row in rows if row["arm"] == arm), default=0) for arm in ARMS}
    measured, assumed = (sum(row[f"hours_{how}"] for row in rows) for how in ("measured", "assumed"))
    hours = 100 * (measured + assumed) / sum(row["rankings"] for row in rows)
    points, random = [], dict[float, list[float]]()
    for row in rows:
        x, arm = math.log2(row["rankings"]), ARMS.index(row["arm"])
        side = 0.09 * (1 + seeds.index(row["seed"])) * (1 if arm else -1)
        named = row["seed"] == seeds[0] and row["rankings"] == least[row["arm"]]
        points.append(Point(row["arm"] * named, Estimate(x + side), Estimate(*row["win_rate"]), arm))
        if not arm:
            random.setdefault(x, []).append(row["win_rate"][0])
    svg = scatter_plot(
        points,
        label="Gold win rate against SFT over rankings",
        x_label=f"rankings; 100 are {hours:.1f} hours, {'assumed' if assumed else 'measured'}",
        y_label="gold win rate against SFT",
        path=[(x, sum(values) / len(values)) for x, values in sorted(random.items())],
        x_ticks={math.log2(row["rankings"]): f"{row['rankings']:,}" for row in rows},
    )
    style = (files("baro.evaluate") / "report.css").read_text()
    colours = "; ".join(re.findall(r"--[\w-]+: light-dark\([^)]*\)", style))
    own = f"color-scheme: light dark; background: var(--paper); font-family: sans-serif; {colours}"
    return svg.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" style="{own}" ', 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--counts", type=int, nargs="+", default=[50, 100, 200, 400, 800, 1600])
    parser.add_argument("--start", type=int, default=200, help="random rankings before the chosen ones")
    parser.add_argument("--least-steps", type=int, default=100, help="optimiser steps of DPO, at least")
    parser.add_argument("--reward-steps", type=int, default=30, help="optimiser steps of the reward model")
    parser.add_argument("--seconds", type=float, default=40, help="assumed for a ranking whose time nobody measured")
    parser.add_argument("--by", default="baro.demo.world:people", help="simulated people; empty: the web page")
    parser.add_argument("--out", type=Path, default=Path("runs/label_efficiency"))
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        rows += Seed(seed, given).run()
        print(json.dumps([row for row in rows if row["seed"] == seed]), flush=True)
    kept = {key: getattr(given, key) for key in ("start", "least_steps", "reward_steps", "seconds", "by")}
    write_atomic(given.out / "label_efficiency.json", json.dumps({"settings": kept, "rows": rows}, indent=1) + "\n")
    write_atomic(given.out / "label_efficiency.svg", drawing(rows) + "\n")


if __name__ == "__main__":
    main()
