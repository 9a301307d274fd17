"""Hashes of what tiny runs save, to show that a change only moves code: ``python -m benchmarks.bits DIR``.

Run it before and after, on the same machine, and compare what it prints: DIR is emptied first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

ROWS = [
    {"prompt": f"Say {word} to {name}.", "chosen": f"{word}, dear {name}!", "rejected": f"{word}."}
    for word in ("hi", "bye", "thanks", "welcome")
    for name in ("Mina", "Jun", "Sora", "Alex")
]
LENGTH = "def length(completions, **columns):\n    return [float(len(one)) for one in completions]\n"
DATA = {"max_length": 96}
SHAPE = {
    "vocabulary": 300, "hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2, "max_positions": 96
}  # fmt: skip
ON_POLICY = {
    "do": "ppo", "policy": "sft", "prompts": "prompts.jsonl", "accept_weak_reward_model": True,
    "rollout": {"prompts": 4, "completions": 2, "epochs": 2, "minibatches": 2}, "sampling": {"max_new_tokens": 8},
    "trainer": {"seed": 3, "steps": 8, "learning_rate": 1e-4}, "data": DATA,
}  # fmt: skip


def steps(**more: object) -> dict[str, object]:
    return {"seed": 3, "steps": 4, "batch_size": 4, **more}


def pairs(verb: str, key: str, trained: str, **more: object) -> dict[str, object]:
    return {"do": verb, key: trained, "preferences": "pairs.jsonl", "data": DATA, **more}


HOT, HELD = steps(learning_rate=1e-3), steps(held_out_fraction=0.25)
STAGES = {
    "base": {"do": "base", "text": "pairs.jsonl", "architecture": SHAPE, "trainer": steps(batch_size=8), "data": DATA},
    "sft": {"do": "sft", "policy": "base", "demonstrations": "pairs.jsonl", "trainer": HELD, "data": DATA},
    "reward": pairs("reward", "model", "sft", trainer=HELD | {"learning_rate": 1e-3}),
    "dpo": pairs("dpo", "policy", "sft", trainer=HOT),
    "dpo_lora": pairs("dpo", "policy", "sft", trainer=HOT, lora={"r": 2}),
    "ppo": ON_POLICY | {"reward_model": "reward"},
    "ppo_two": ON_POLICY | {"rewards": [{"by": "reward", "weight": 2.0}, {"by": "rewards_of_bits:length"}]},
    "ppo_lora": ON_POLICY | {"reward_model": "reward", "lora": {"r": 2}},
    "answers": {
        "do": "generate", "policy": "ppo", "prompts": "prompts.jsonl", "n": 2, "sampling": {"max_new_tokens": 8},
    },
    "labels": {"do": "label", "answers": "answers", "by": "reward"},
}  # fmt: skip


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    os.environ["BARO_CACHE"] = str(Path.cwd() / "cache")
    sys.path.insert(0, str(Path.cwd()))
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in ROWS))
    Path("rewards_of_bits.py").write_text(LENGTH)
    from baro.pipeline import run_pipeline

    for name, run in run_pipeline({"stages": STAGES}, out="runs/bits").items():
        for file in sorted([*run.path.glob("*/*.safetensors"), *run.path.glob("records.jsonl")]):
            if "checkpoint" not in file.parent.name:
                where = file.relative_to(run.path)
                print(f"{name:10} {where!s:36} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
