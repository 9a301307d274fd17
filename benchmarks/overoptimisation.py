"""How far a noisy reward can be followed, by one model and by ensembles: ``python -m benchmarks.overoptimisation``.

The embedded task. The gold judge labels pairs of the SFT policy's answers, and each label is flipped with probability
--noise. One run of ``baro reward`` trains --members reward models on them. Then their scores are optimised in two ways:

    best-of-n   --answers answers to each of --prompts held-out prompts; of every n of them the one with the highest
                score. The estimate is unbiased: the mean over all choices of n of the answers. KL: log n − (n−1)/n.
    PPO         without a KL penalty; the gold judge is logged beside the reward, with weight 0. KL: the mean over a
                rollout of log π − log π_ref, summed over the answer.

by the score of one member (best-of-n: each of them in turn, on average; PPO: member 0), the members' mean, the least of
them, and their mean less λ times their variance (0.5 for best-of-n, 0.1 for PPO: Coste et al. 2024, arXiv:2310.02743).

What is compared: at the KL where the gold utility of one member has fallen --drop points below its peak, the ensembles'
gold utility less the single member's, in points (hundredths of utility), with a 95% interval: for best-of-n a bootstrap
over prompts, for PPO from lines through the six rollouts nearest to that KL. Where it has not fallen so far, at the
largest KL, and the row says so.

--out gets overoptimisation.json with every figure, and curves.json, which docs/figures/draw.py draws when it lies there
as overoptimisation.json. What is finished is not run again, also by the other benchmarks on the embedded task.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Mapping, Sequence
from math import lgamma
from pathlib import Path
from typing import Any, cast

import numpy as np

from baro.data.files import write_rows
from baro.data.formats import read_records
from baro.demo import world
from baro.demo.judge import text_of
from baro.files import write_atomic
from baro.functional.ensembles import combined_score
from baro.functional.statistics import best_of_n_kl_bound
from baro.pipeline import run_pipeline
from baro.records import Answers, completions_of
from baro.rows import JsonLines
from baro.scorers import load_reward
from benchmarks.embedded import demo_stages, judged_pairs, two_answers

ARMS = ("single", "mean", "worst", "variance")
WAYS = ("best_of_n", "ppo")
PENALTY = {"best_of_n": 0.5, "ppo": 0.1}
NEAREST = 6  # rollouts
T_975 = 2.306  # of Student's t with 8 degrees of freedom: two lines through six rollouts
Curve = dict[str, Any]


def gold(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """The gold judge's utility as a reward: only ever logged, with weight 0."""
    return [world.gold.utility(text_of(a), text_of(b)) for a, b in zip(prompts, completions, strict=True)]


def flipped_labels(answers: Path, out: Path, noise: float, seed: int) -> dict[str, float]:
    """Pairs of the first two answers as the gold judge likes them, a share of them the wrong way round."""
    draw, rows, flips = random.Random(seed), list[dict[str, str]](), 0
    for prompt, first, second, first_is_better in judged_pairs(answers, world.gold):
        flip = draw.random() < noise
        chosen, rejected = (first, second) if first_is_better != flip else (second, first)
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        flips += flip
    write_rows(out, rows)
    return {"pairs": len(rows), "flipped": round(flips / len(rows), 3)}


class Seed:
    """One seed's folder and pipeline."""

    def __init__(self, seed: int, given: argparse.Namespace) -> None:
        self.seed, self.given, self.out = seed, given, given.out / f"seed-{seed}"
        self.demo = demo_stages(self.out)
        self.policy = str(self.out / "sft")

    def run(self) -> dict[str, Any]:
        """Both ways of optimising, with their curves and comparisons."""
        two_answers(self.out, self.seed)
        answers = {"policy": self.policy, "n": self.given.answers, "limit": self.given.prompts}
        held_out = {"prompts": f"{self.out}/data/held_out.jsonl"}
        self._stages({"answers": self.demo["answers"] | answers | held_out})
        labels = flipped_labels(self.out / "pairs", self.out / "labels.jsonl", self.given.noise, self.seed)
        trainer = self.demo["reward"]["trainer"] | {"held_out": None, "held_out_fraction": 0.1, "epochs": 2}
        reward = {"do": "reward", "model": self.policy, "preferences": str(self.out / "labels.jsonl")}
        reward |= {"pooling": "mean", "members": self.given.members, "trainer": trainer}
        self._stages({"reward": reward})
        told = {row["name"]: row["value"] for row in json.loads((self.out / "reward" / "figures.json").read_text())}
        found: dict[str, Any] = {"seed": self.seed, **labels, "reward": told}
        if "best_of_n" in self.given.ways:
            best = self._best_of_n()
            found["best_of_n"] = {"curves": best, "compared": compared(best, self.given.drop, by_prompt)}
        if "ppo" in self.given.ways:
            self._stages({f"ppo-{arm}": self._ppo(arm) for arm in self.given.arms})
            ppo = {arm: self._ppo_curve(arm) for arm in self.given.arms}
            found["ppo"] = {"curves": ppo, "compared": compared(ppo, self.given.drop, by_rollout)}
        return found

    def _stages(self, stages: Mapping[str, Any]) -> None:
        run_pipeline({"stages": dict(stages), "seed": self.seed}, out=self.out)

    def _ppo(self, arm: str) -> dict[str, Any]:
        reward = self.out / "reward"
        term: dict[str, Any] = {"by": str(reward / "model" / "members" / "0" if arm == "single" else reward)}
        term |= {} if arm == "single" else {"combine": arm}
        term |= {"penalty": PENALTY["ppo"]} if arm == "variance" else {}
        watched = {"by": "benchmarks.overoptimisation:gold", "weight": 0.0, "name": "gold"}
        steps = {"steps": self.given.rollouts * 8, "epochs": None, "schedule": "constant", "checkpoint_every": 10**6}
        return self.demo["ppo"] | {
            "policy": self.policy, "reward_model": None, "rewards": [term | {"name": "proxy"}, watched],
            "accept_weak_reward_model": True, "kl": {"coef": 0.0}, "value_model": self.policy,
            "rollout": {"prompts": self.given.rollout_prompts, "completions": 1, "epochs": 2, "minibatches": 4},
            "trainer": self.demo["ppo"]["trainer"] | steps,
        }  # fmt: skip

    def _ppo_curve(self, arm: str) -> Curve:
        """Per rollout: √KL, gold and proxy, means over its steps' minibatches, which are its completions."""
        by_rollout: dict[float, list[Mapping[str, float]]] = {}
        for row in JsonLines(self.out / f"ppo-{arm}" / "metrics.jsonl").read():
            if "rollout" in row:
                by_rollout.setdefault(row["rollout"], []).append(row)
        names = {"kl": "objective/kl", "gold": "objective/score/gold", "proxy": "objective/score/proxy"}
        means = {
            key: [float(np.mean([r[name] for r in rows])) for rows in by_rollout.values()]
            for key, name in names.items()
        }
        return {"x": [math.sqrt(max(0.0, kl)) for kl in means["kl"]], "gold": means["gold"], "proxy": means["proxy"]}

    def _best_of_n(self) -> dict[str, Curve]:
        """By arm: √KL of each n, gold and proxy, and gold prompt by prompt for the bootstrap."""
        records = read_records(self.out / "answers" / "records.jsonl", Answers).records
        rollouts = [one for record in records for one in completions_of(record)]
        shape = (len(records), self.given.answers)
        true = np.array([world.gold.utility(text_of(one.prompt), one.text) for one in rollouts]).reshape(shape)
        source = load_reward(str(self.out / "reward"))
        scaled = np.array(
            [[m.scale.scaled(cast(float, s.value)) for s in m.source.score(rollouts)] for m in source.members]
        )
        proxies = {"single": scaled.reshape(-1, *shape)}
        for arm in ("mean", "worst", "variance"):
            values = [combined_score(z, combine=arm, penalty=PENALTY["best_of_n"]) for z in scaled.T.tolist()]
            proxies[arm] = np.array(values).reshape(1, *shape)
        counts = [2**k for k in range(int(math.log2(self.given.answers)) + 1)]
        curves = {}
        for arm, several in proxies.items():
            chosen = np.mean([best_of(true, proxy, counts) for proxy in several], axis=0)  # [n, prompts]
            own = np.mean([best_of(proxy, proxy, counts) for proxy in several], axis=0)
            x = [math.sqrt(best_of_n_kl_bound(n)) for n in counts]
            curves[arm] = {"n": counts, "x": x, "gold": chosen.mean(1).tolist(), "proxy": own.mean(1).tolist()}
            curves[arm]["by_prompt"] = chosen.tolist()
        return curves


def best_of(values: np.ndarray, scores: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """The expected value of the best-scored of n of a prompt's N answers, by n and prompt: without a choice's luck.

    Σ_i C(i, n−1) / C(N, n) · value of the i-th smallest score, i from 0; Nakano et al. 2021, arXiv:2112.09332, app. I.
    """
    ordered = np.take_along_axis(values, scores.argsort(axis=1, kind="stable"), axis=1)
    places, total = np.arange(values.shape[1]), values.shape[1]
    weights = [np.exp(_log_choose(places, n - 1) - _log_choose(np.array([total]), n)) for n in counts]
    return np.array([ordered @ weight for weight in weights])


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
    """log C(n, k); −∞ where k is above n."""
    return np.array([-np.inf if k > m else lgamma(m + 1) - lgamma(k + 1) - lgamma(m - k + 1) for m in n.flat])


# ------------------------------------------------------------------------------------------------------ comparisons


def fallen(curve: Mapping[str, Any], drop: float) -> tuple[int, bool]:
    """The first place after its peak where gold is ``drop`` points below it, and whether there is one, or the last."""
    values = np.array(curve["gold"])
    peak = int(values.argmax())
    below = [i for i in range(peak, len(values)) if values[i] <= values[peak] - drop / 100]
    return (below[0], True) if below else (len(values) - 1, False)


def compared(curves: Mapping[str, Curve], drop: float, difference: Any) -> dict[str, Any]:
    """Each ensemble's gold less the single member's, where the latter's has fallen, in points."""
    single = curves["single"]
    place, has_fallen = fallen(single, drop)
    found = {arm: difference(curve, single, place) for arm, curve in curves.items() if arm != "single"}
    peak = max(single["gold"])
    return {
        "has_fallen": has_fallen, "kl": single["x"][place] ** 2, "single_peak": round(100 * peak, 2),
        "single": round(100 * single["gold"][place], 2),
        "difference": {arm: [round(100 * one, 2) for one in values] for arm, values in found.items()},
    }  # fmt: skip


def by_prompt(curve: Curve, single: Curve, place: int, draws: int = 2000) -> tuple[float, float, float]:
    """Value and bootstrap interval over prompts, at the same n."""
    gap = np.array(curve["by_prompt"][place]) - np.array(single["by_prompt"][place])
    means = np.random.default_rng(0).choice(gap, (draws, len(gap))).mean(1)
    return float(gap.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def by_rollout(curve: Curve, single: Curve, place: int) -> tuple[float, float, float]:
    """Value and interval at the place's √KL, by a line through each arm's rollouts that are nearest to it.

    A line, because gold falls steeply there; the interval is Student's, from what the rollouts are off the line.
    """
    at = single["x"][place]
    (one, variance), (other, more) = (_line_at(arm, at) for arm in (curve, single))
    half = T_975 * math.sqrt(variance + more)
    return one - other, one - other - half, one - other + half


def _line_at(curve: Curve, at: float) -> tuple[float, float]:
    """The least-squares line's value at an x, and its variance: s² (1/n + (at − x̄)² / Σ(x − x̄)²), s² with n − 2."""
    x, y = np.array(curve["x"]), np.array(curve["gold"])
    near = np.argsort(np.abs(x - at), kind="stable")[:NEAREST]
    x, y = x[near], y[near]
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    off = y - y.mean() - slope * (x - x.mean())
    s2 = float((off**2).sum()) / (len(x) - 2)
    return float(y.mean()) + slope * (at - float(x.mean())), s2 * (1 / len(x) + (at - float(x.mean())) ** 2 / spread)


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Curve]]]:
    """By way of optimising, of each seed, by arm: √KL, gold and proxy, to four digits."""
    return {
        way: [
            {
                arm: {key: [float(f"{one:.4g}") for one in curve[key]] for key in ("x", "gold", "proxy")}
                for arm, curve in row[way]["curves"].items()
            }
            for row in rows
            if way in row
        ]
        for way in WAYS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--noise", type=float, default=0.25, help="share of the labels that are flipped")
    parser.add_argument("--prompts", type=int, default=80, help="held-out prompts of best-of-n")
    parser.add_argument("--answers", type=int, default=512, help="answers to each; a power of 2")
    parser.add_argument("--rollouts", type=int, default=24, help="of PPO, of 8 optimiser steps each")
    parser.add_argument("--rollout-prompts", type=int, default=128)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="of PPO")
    parser.add_argument("--drop", type=float, default=5.0, help="points below the peak")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        rows.append(Seed(seed, given).run())
        told = {way: rows[-1][way]["compared"] for way in given.ways}
        print(json.dumps({"seed": seed, "noise": given.noise} | told), flush=True)
        settings = {key: str(value) for key, value in vars(given).items() if key != "out"}
        write_atomic(
            given.out / "overoptimisation.json", json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n"
        )
        write_atomic(given.out / "curves.json", json.dumps(curves(rows)) + "\n")


if __name__ == "__main__":
    main()
