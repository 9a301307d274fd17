"""What beta does, from nearly none to too much: ``python -m benchmarks.beta``, and ``... --method ppo``.

The embedded task. The gold judge labels the SFT policy's two answers to each prompt, each label is flipped with
probability --noise, and one policy is trained for each --betas on the same labels. The gold judge compares it with SFT
on held-out prompts.

    dpo    beta of the loss, one epoch. 0 is refused: the loss would be log 2 whatever the policy does.
    ppo    kl.coef, the demo's settings, on a reward model that was trained on the same labels. 0 is no penalty.

One JSON object a seed: win rates with 95% intervals over prompts, and KL from SFT in nats; then the table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.embedded import Stages, table, two_answers, win_rates
from benchmarks.label_noise import stages as of_labels
from benchmarks.label_noise import vote

BETAS = {"dpo": [0.001, 0.03, 0.1, 0.3, 10.0], "ppo": [0.0, 0.02, 0.05, 0.15, 1.0]}


def stages(method: str, betas: list[float], demo: Stages, folder: Path, sft: Path) -> Stages:
    """One stage a beta, all else equal; before ppo's the reward model that all of them share."""
    if method == "dpo":
        dpo = of_labels(["dpo"], demo, folder, sft, 0.0)["dpo"]
        return {_name(method, beta): dpo | {"beta": beta} for beta in betas}
    trainer = demo["reward"]["trainer"] | {"held_out": None, "held_out_fraction": 0.1}
    reward = demo["reward"] | {"model": str(sft), "preferences": str(folder / "vote.jsonl"), "trainer": trainer}
    ppo = demo["ppo"] | {"policy": str(sft), "reward_model": "reward", "accept_weak_reward_model": True}
    return {"reward": reward} | {_name(method, beta): ppo | {"kl": {"coef": beta}} for beta in betas}


def _name(method: str, beta: float) -> str:
    return f"{method}-{beta:g}".replace(".", "_")  # as stages may be named


def one_seed(seed: int, given: argparse.Namespace) -> dict[str, Any]:
    out = given.out / f"seed-{seed}"
    demo, sft = two_answers(out, seed), out / "sft"
    folder = out / f"beta-{given.method}"
    labels = vote(out / "pairs", folder, given.noise, seed, given.pairs)
    arms = win_rates(stages(given.method, given.betas, demo, folder, sft), folder, seed, demo, sft, given.prompts)
    by_beta = {f"{beta:g}": arms[_name(given.method, beta)] for beta in given.betas}
    return {"seed": seed, "noise": given.noise} | labels | {"arms": by_beta}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=list(BETAS), default="dpo")
    parser.add_argument("--betas", type=float, nargs="+", help="those of the method unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--noise", type=float, default=0.25, help="probability that a label is flipped")
    parser.add_argument("--prompts", type=int, default=300, help="held-out prompts of the comparison")
    parser.add_argument("--pairs", type=int, default=1200, help="labelled pairs that are learnt from, at most")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    given = parser.parse_args()
    given.betas = given.betas or BETAS[given.method]
    rows = []
    for seed in given.seeds:
        rows.append(one_seed(seed, given))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
