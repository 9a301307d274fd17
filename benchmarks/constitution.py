"""Feedback from principles on the safety task: ``python -m benchmarks.constitution --out FOLDER``.

Simulated. The critic is a rule set that overlooks steps in 15% and sees some where there are none in 5% of readings;
the reviser is the SFT policy, whose revisions can fail; neither sees the gold functions, which only measure here. For
each of --seeds

    critique      answers of SFT to the prompts of feedback, criticised and revised --rounds times
    sl-cai        SFT goes on with the last revisions
    labeller      a model that is trained to say (A) or (B) on 500 gold comparisons
    labels        two answers of sl-cai to each prompt of policy, compared by a principle and the labeller's log-probs
                  of (A) and (B), in both orders
    rl-cai-dpo    DPO on these labels, from sl-cai
    rl-cai-ppo    PPO from sl-cai on a reward model of these labels

Printed and in constitution.json, each as [value, low, high] with a 95% interval:

    rounds        of each round 0 .. --rounds: harm and helpfulness on red-team prompts, helpfulness on ordinary ones,
                  and fall, the harm that the round took away, answer by answer
    critic        how often it was right about answers with steps, and about answers without
    labels        agreement of one order and of both orders' mean with gold, and with a simulated person's word;
                  left, how often the answer at (A) is preferred in one order; bias, its distance from a half and that
                  of the mean
    policies      reward (helpfulness) and cost (harm) of each on held-out prompts, and the cost on red-team prompts

docs/figures/draw.py draws the rounds when constitution.json lies there. With --no-training it ends with the rounds.
What is finished is not run again, also by benchmarks.safe_rlhf.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baro.data.formats import read_records
from baro.demo.hazards import CRITIQUES, RED_TEAM, STEP_WORDS
from baro.demo.safety import harm_of, helpful_of, language_of
from baro.demo.safety_files import CONSTITUTION, gold_order
from baro.demo.safety_people import people
from baro.files import write_atomic
from baro.functional.statistics import wilson_interval
from baro.pipeline import run_pipeline
from baro.records import Answers
from baro.rows import JsonLines
from benchmarks.safe_rlhf import (
    COST,
    LIMIT,
    PPO,
    REWARD,
    SAMPLING,
    Stages,
    first_stages,
    judged,
    measured,
    over_prompts,
)

ROUNDS = 3
POLICIES = ("sft", "sl-cai", "rl-cai-dpo", "rl-cai-ppo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/safe-rlhf"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-training", action="store_true")
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        out = given.out / f"seed-{seed}"
        stages = all_stages(out, first_stages(out, seed), given.rounds)
        rows.append(one_seed(seed, out, stages, trains=not given.no_training))
        print(json.dumps(rows[-1]), flush=True)
    write_atomic(given.out / "constitution.json", json.dumps(rows, indent=1) + "\n")
    print(table(rows))


def all_stages(out: Path, first: Stages, rounds: int) -> Stages:
    """The stages of a seed, by name."""
    data = f"{out}/data"
    trainer = {"learning_rate": 5.0e-4, "epochs": 2, "batch_size": 32, "warmup_steps": 10, "schedule": "cosine"}
    return dict(first) | {
        "critique": {
            "do": "critique", "policy": "sft", "prompts": f"{data}/feedback.jsonl", "constitution": str(CONSTITUTION),
            "critic": {"by": "baro.demo.safety_people:critic"}, "rounds": rounds, "sampling": SAMPLING,
        },
        "sl-cai": {"do": "sft", "policy": "sft", "demonstrations": "critique", "trainer": trainer},
        "labeller": {
            "do": "sft", "policy": "base", "demonstrations": f"{data}/comparisons.jsonl",
            "trainer": trainer | {"learning_rate": 1.0e-3, "epochs": 8, "batch_size": 16},
            "data": {"max_length": 384},
        },
        "drawn": {
            "do": "generate", "policy": "sl-cai", "prompts": f"{data}/policy.jsonl", "n": 2,
            "sampling": SAMPLING | {"temperature": 1.0},
        },
        "labels": {
            "do": "label", "answers": "drawn", "constitution": str(CONSTITUTION), "labeller": {"model": "labeller"},
        },
        "rl-cai-dpo": {
            "do": "dpo", "policy": "sl-cai", "preferences": "labels", "beta": 0.1,
            "trainer": trainer | {"learning_rate": 2.0e-4, "epochs": 1, "batch_size": 16},
        },
        "ai-reward": {
            "do": "reward", "model": "sl-cai", "preferences": "labels", "pooling": "mean",
            "trainer": trainer | {"learning_rate": 1.0e-3, "held_out_fraction": 0.1},
        },
        "rl-cai-ppo": {
            "do": "ppo", "policy": "sl-cai", "prompts": f"{data}/policy.jsonl", "reward_model": "ai-reward",
            "accept_weak_reward_model": True, **{key: value for key, value in PPO.items() if key != "rewards"},
        },
    }  # fmt: skip


def one_seed(seed: int, out: Path, stages: Stages, *, trains: bool) -> dict[str, Any]:
    """Run the stages, and measure rounds, labels and policies by the gold functions."""
    first = {name: stages[name] for name in ("base", "sft", "critique")}
    run_pipeline({"stages": first, "seed": seed}, out=out)
    told: dict[str, Any] = {"seed": seed} | by_round(JsonLines(out / "critique" / "steps.jsonl").read())
    if not trains:
        return told
    evaluation = {
        "do": "evaluate", "policies": list(POLICIES), "prompts": f"{out}/data/held_out.jsonl", "completions": 4,
        "rewards": {"reward": REWARD["by"], "cost": COST["by"]}, "sampling": SAMPLING,
    }  # fmt: skip
    run_pipeline({"stages": stages | {"cai-evaluation": evaluation}, "seed": seed}, out=out)
    answers = dict(iter(read_records(out / "drawn" / "records.jsonl", Answers)))
    told["labels"] = of_labels(JsonLines(out / "labels" / "judgments.jsonl").read(), answers)
    figures = measured(out / "cai-evaluation" / "comparisons.jsonl", LIMIT)
    told["policies"] = judged(figures, LIMIT, over="sft")["arms"]
    return told


def by_round(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The gold figures of each round's answers, and how often the critic was right."""
    kept = [row for row in rows if "error" not in row]
    prompts = [row["prompt"] for row in kept]
    red = np.array([prompt in RED_TEAM for prompt in prompts])
    texts = [[row["answer"], *(step["revision"] for step in row["steps"])] for row in kept]
    harm, helpful = (
        np.array([[score(prompt, text) for text in of] for prompt, of in zip(prompts, texts, strict=True)])
        for score in (harm_of, helpful_of)
    )
    rounds = [
        {
            "harm": over_prompts(harm[red, k]),
            "helpful": over_prompts(helpful[red, k]),
            "ordinary": over_prompts(helpful[~red, k]),
            "fall": over_prompts(harm[red, k - 1] - harm[red, k]) if k else [0.0, 0.0, 0.0],
        }
        for k in range(harm.shape[1])
    ]
    heard: dict[bool, list[bool]] = {True: [], False: []}
    for row, of in zip(kept, texts, strict=True):
        for text, step in zip(of[:-1], row["steps"], strict=True):
            there = any(words in text for words in STEP_WORDS)
            heard[there].append((step["critique"] == CRITIQUES[language_of(row["prompt"])][True]) == there)
    critic = {
        name: share(sum(heard[there]), len(heard[there])) for name, there in (("with_steps", True), ("without", False))
    }
    return {"answers": len(kept), "rounds": rounds, "critic": critic}


def of_labels(rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Answers]) -> dict[str, Any]:
    """Agreement of the labeller with gold and with people, and what the order does, before and after the mean."""
    one_order, mean, with_people, left, left_after = [list[bool]() for _ in range(5)]
    for row in rows:
        if row["p_first"] is None:
            continue
        case = answers[row["row"]]
        prompt, texts = case.prompt[-1].content, [case.completions[k - 1] for k in row["answers"]]
        shown_left = row["answers"].index(row["shown_first"])
        left.append(row["p_left"][0] > 0.5)
        left_after.append((row["p_first"] > 0.5) == (shown_left == 0))
        if better := gold_order(prompt, *texts):
            one_order.append((row["p_left"][0] > 0.5) == ((better > 0) == (shown_left == 0)))
            mean.append((row["p_first"] > 0.5) == (better > 0))
        if (safer := said_by_people(prompt, texts)) is not None:
            with_people.append((row["p_first"] > 0.5) == (safer == 0))
    agreement = {"gold_one_order": one_order, "gold": mean, "people": with_people}
    found: dict[str, Any] = {name: share(sum(right), len(right)) for name, right in agreement.items()}
    found |= {"left": share(sum(left), len(left)), "left_after": share(sum(left_after), len(left_after))}
    bias = {name: abs(found[name][0] - 0.5) for name in ("left", "left_after")}
    return found | {"bias": round(bias["left"], 4), "bias_after": round(bias["left_after"], 4), "pairs": len(left)}


def said_by_people(prompt: str, texts: Sequence[str]) -> int | None:
    """Which of two answers the first simulated person calls the safer one; None for neither."""
    shown = {"kind": "safety", "prompt": [{"text": prompt}], "responses": [{"text": text} for text in texts]}
    safer = people.answer(0, shown)["safer"]
    return safer["position"] if safer["outcome"] == "win" else None


def share(count: float, total: int) -> list[float]:
    """A share with its interval; half, and anything, where there is nothing."""
    if total == 0:
        return [0.5, 0.0, 1.0]
    interval = wilson_interval(count, total)
    return [round(one, 4) for one in (interval.value, interval.low, interval.high)]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rounds, labels and policies, one line each and seed."""
    lines = ["| seed | round | harm | helpful | ordinary | fall |", "|---" * 6 + "|"]
    for row in rows:
        for k, one in enumerate(row["rounds"]):
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*one[name]) for name in ("harm", "helpful", "ordinary", "fall")]
            lines.append(f"| {row['seed']} | {k} | {' | '.join(cells)} |")
    trained = [row for row in rows if "policies" in row]
    lines += ["", "| policy | seed | reward | cost | red_team |", "|---" * 5 + "|"] if trained else []
    for row in trained:
        for policy, one in row["policies"].items():
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*one[name]) for name in ("reward", "cost", "red_team")]
            lines.append(f"| {policy} | {row['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
