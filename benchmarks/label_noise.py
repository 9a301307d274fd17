"""What a quarter of flipped labels costs, and which loss bears it: ``python -m benchmarks.label_noise``.

The embedded task's SFT policy answers each prompt twice. Three voters judge each pair as the gold judge does, but each
vote is flipped with probability --noise. On the same pairs, for one epoch, with the demo's learning rate and beta 0.1:

    clean     DPO on the gold judge's own labels
    dpo       DPO on the first vote
    cdpo      the same with label_smoothing = --noise (conservative DPO)
    robust    loss robust with label_smoothing = --noise
    kto       KTO on the first vote: the chosen answer's thumb is up, the rejected one's down
    majority  DPO on the majority of the three votes
    p_chosen  DPO on how sure they are, p_chosen = (w + 1/2) / (n + 1)

Nothing was tuned: cdpo and robust are told the true share of flips. The gold judge compares each policy with SFT on
held-out prompts. One JSON object a seed: win rates with 95% intervals, KL, and how many of the labels are right. At
the end what each arm wins more than dpo on the same prompts, with a 95% interval over the prompts of all seeds.
"""

from __future__ import annotations

import argparse
import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from baro.data.files import write_rows
from baro.demo import world
from baro.functional.statistics import bootstrap_interval
from baro.functional.votes import smoothed_vote
from benchmarks.embedded import Stages, judged_pairs, lead, table, two_answers, win_rates

VOTES = 3
ARMS = {
    "clean": {"preferences": "clean"},
    "dpo": {"preferences": "vote"},
    "cdpo": {"preferences": "vote", "label_smoothing": "noise"},
    "robust": {"preferences": "vote", "label_smoothing": "noise", "loss": "robust"},
    "kto": {"do": "kto", "thumbs": "vote"},
    "majority": {"preferences": "majority"},
    "p_chosen": {"preferences": "soft"},
}


def vote(answers: Path, folder: Path, noise: float, seed: int, most: int | None = None) -> dict[str, float]:
    """Files of the same pairs with the gold judge's label, one vote's, the majority's, and with p_chosen.

    ``most``: only so many pairs, the first ones. Returns how many there are, and the shares of votes and of majorities
    that name the better answer.
    """
    draw, right = random.Random(seed), list[tuple[bool, bool]]()
    rows: dict[str, list[dict[str, Any]]] = {"clean": [], "vote": [], "majority": [], "soft": []}
    for prompt, first, second, first_is_better in islice(judged_pairs(answers, world.gold_without_conciseness), most):
        votes = [(draw.random() >= noise) == first_is_better for _ in range(VOTES)]  # each: the first one is better
        wins = sum(votes)
        labels = {"clean": first_is_better, "vote": votes[0], "majority": 2 * wins > VOTES}
        for name, first_is_chosen in labels.items():
            chosen, rejected = (first, second) if first_is_chosen else (second, first)
            rows[name].append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        sure = float(smoothed_vote(np.array([max(wins, VOTES - wins)]), np.array([VOTES]))[0])
        rows["soft"].append(rows["majority"][-1] | {"p_chosen": sure})
        right.append((labels["vote"] == first_is_better, labels["majority"] == first_is_better))
    for name, found in rows.items():
        write_rows(folder / f"{name}.jsonl", found)
    of_vote, of_majority = np.mean(right, axis=0)
    return {"pairs": len(right), "vote_right": round(of_vote, 3), "majority_right": round(of_majority, 3)}


def stages(arms: list[str], demo: Stages, folder: Path, sft: Path, noise: float) -> Stages:
    """One stage an arm: one epoch over the pairs, and nothing held out."""
    trainer = demo["dpo"]["trainer"] | {"held_out": None, "epochs": 1, "batch_size": 32}
    made: Stages = {}
    for name in arms:
        stage: dict[str, Any] = {"do": "dpo", "policy": str(sft), "beta": 0.1, "trainer": trainer} | ARMS[name]
        if stage["do"] == "kto":  # a row is a thumb: as many pairs a step
            stage["trainer"] = trainer | {"batch_size": 2 * trainer["batch_size"]}
        for key in ("preferences", "thumbs"):
            if key in stage:
                stage[key] = str(folder / f"{stage[key]}.jsonl")
        if "label_smoothing" in stage:
            stage["label_smoothing"] = noise
        made[name] = stage
    return made


def one_seed(seed: int, given: argparse.Namespace) -> dict[str, Any]:
    out = given.out / f"seed-{seed}"
    demo = two_answers(out, seed)
    folder = out / f"noise-{given.noise}"
    labels = vote(out / "pairs", folder, given.noise, seed)
    arms = win_rates(
        stages(given.arms, demo, folder, out / "sft", given.noise), folder, seed, demo, out / "sft", given.prompts
    )
    return {"seed": seed, "noise": given.noise} | labels | {"arms": arms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", type=float, default=0.25, help="probability that a vote is flipped")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--prompts", type=int, default=1200, help="held-out prompts of the comparison")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        rows.append(one_seed(seed, given))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    for arm in given.arms if "dpo" in given.arms else []:
        if arm != "dpo":
            evaluations = [given.out / f"seed-{seed}" / f"noise-{given.noise}" / "evaluation" for seed in given.seeds]
            leads = [lead(one, arm, "dpo") for one in evaluations]
            interval = bootstrap_interval(np.concatenate(leads), seed=0)
            each = ", ".join(f"{one.mean():+.3f}" for one in leads)
            print(f"{arm} less dpo: {interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], by seed {each}")


if __name__ == "__main__":
    main()
