"""What PPO's four models need in memory, GRPO's three and safe PPO's six: ``python -m benchmarks.trunk_memory``.

A random Llama of 30 million parameters takes two steps of ``baro ppo``, sampling, rewards, Adam's update and saving
included, in three ways, of ``baro grpo`` in two (preset grpo: a KL in the loss; two answers to each prompt), and of
``baro safe-ppo`` in two:

    four_full   four models; all weights of policy and value model are trained
    four_lora   four models; adapters of policy and value model are trained
    trunk       one backbone: policy, reference, value model and reward model are roles of it
    grpo_full   three models, without a value model; all of the policy's weights are trained
    grpo_trunk  one backbone: policy, reference and reward model are roles of it
    safe_full   six models, with a cost model and a value model of costs; all weights of policy and values are trained
    safe_trunk  one backbone: all six are roles of it

each in a process of its own, at each batch of --batches (answers in a step, all in one micro-batch; prompts and answers
have 64 tokens each). The reward model is the same LoRA run of ``baro reward`` everywhere, merged where it is a model of
its own; it serves as the cost model too, loaded a second time.

Printed are JSON lines: the peak of the resident set above what the process had after its imports, in MB (on a GPU also
the peak of torch's allocations there), and the share of four_full's, of safe_trunk that of safe_full's. glibc keeps
freed memory in pieces that do not fit what is wanted next. With --returned each tensor is mapped by itself and given
back when it is freed, so that the resident set is what is held (MALLOC_MMAP_THRESHOLD_).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import string
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CASES = ("four_full", "four_lora", "trunk", "grpo_full", "grpo_trunk", "safe_full", "safe_trunk")
TOKENS = 64  # of a prompt, and of an answer
SHAPE = {"hidden_size": 512, "layers": 8, "heads": 8, "max_positions": 256, "intermediate_size": 1376}
SMALL = {"hidden_size": 16, "layers": 1, "heads": 2, "max_positions": 256, "intermediate_size": 24}
VOCABULARY = 8192
MAPPED = 65536  # bytes from which glibc maps an allocation by itself


def prepare(folder: Path, shape: dict[str, int], vocabulary: int) -> None:
    """A random policy, prompts, and a LoRA reward run that was trained from it for one step."""
    from baro.data.files import write_rows
    from baro.data.new_tokenizer import train_tokenizer
    from baro.data.template import Template
    from baro.methods import reward
    from baro.models.load import Architecture, new_policy, save_policy

    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=5)) for _ in range(vocabulary)]
    text = [" ".join(draw.choices(words, k=50)) for _ in range(vocabulary // 5)]
    template = Template(train_tokenizer(text, vocabulary), "plain")
    policy = new_policy(Architecture(**shape), vocabulary=vocabulary, special=template.special, seed=0)
    save_policy(policy, folder / "policy")
    template.save(folder / "policy")

    def prompt() -> str:
        taken = ""
        while len(template.tokenizer(f"{taken} {words[0]}")["input_ids"]) < TOKENS - 16:
            taken += f" {draw.choice(words)}"
        return taken

    rows = [{"prompt": prompt(), "chosen": draw.choice(words), "rejected": draw.choice(words)} for _ in range(64)]
    write_rows(folder / "rows.jsonl", rows)
    trainer = {"steps": 1, "batch_size": 4}
    values = {"model": folder / "policy", "preferences": folder / "rows.jsonl"}
    settings = {name: str(value) for name, value in values.items()}
    reward.run(reward.Config.model_validate(settings | {"trainer": trainer, "lora": {}}), folder / "reward")
    print(json.dumps({"parameters": sum(p.numel() for p in policy.parameters())}), flush=True)


def settings_of(case: str, folder: Path, answers: int, checkpointing: bool) -> dict[str, Any]:
    """The method's config: two steps, each on so many answers."""
    lora = {} if case.endswith("_full") else {"lora": {}, "shared_trunk": case != "four_lora"}
    grpo = case.startswith("grpo")
    drawn = {"prompts": answers, "completions": 2} if grpo else {"prompts": 2 * answers, "completions": 1}
    own = (
        {"ref_policy": str(folder / "policy")} if case == "four_lora" else {}
    )  # else it is the policy without adapters
    return {
        "policy": str(folder / "policy"), "prompts": str(folder / "rows.jsonl"), "reward_model": str(folder / "reward"),
        "accept_weak_reward_model": True, "compute": {"gradient_checkpointing": checkpointing},
        "rollout": {**drawn, "epochs": 1, "minibatches": 2},
        "sampling": {"max_new_tokens": TOKENS}, "trainer": {"steps": 2, "learning_rate": 1e-5},
        **lora, **own, **({"preset": "grpo"} if grpo else {}),
        **({"cost_model": str(folder / "reward"), "constraint": {"limit": 0.0}} if case.startswith("safe") else {}),
    }  # fmt: skip


def measure(case: str, folder: Path, answers: int, checkpointing: bool) -> None:
    """In a process of its own: the run, and its peak above the imports."""
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from baro.grpo_config import Config
    from baro.methods import grpo, ppo, safe_ppo

    torch.zeros(1).sum()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    settings = settings_of(case, folder, answers, checkpointing)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        if "preset" in settings:
            grpo.run(Config.model_validate(settings), Path(out) / "run")
        elif "constraint" in settings:
            safe_ppo.run(safe_ppo.Config.model_validate(settings), Path(out) / "run")
        else:
            ppo.run(ppo.Config.model_validate(settings), Path(out) / "run")
    found = {"peak_mb": memory("VmHWM") - before, "imports_mb": before}
    if torch.cuda.is_available():
        found["allocated_mb"] = torch.cuda.max_memory_allocated() // 2**20
    print(json.dumps(found), flush=True)


def memory(name: str) -> int:
    """A line of this process's status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"/proc/self/status has no {name}; this benchmark needs Linux")


def in_its_own_process(case: str, folder: Path, answers: int, checkpointing: bool, returned: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.trunk_memory", "--case", case, "--folder", str(folder)]
    command += ["--batches", str(answers), *(["--checkpointing"] if checkpointing else [])]
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": str(MAPPED)} if returned else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(
    folder: Path, batches: list[int], checkpointing: bool, returned: bool, cases: Sequence[str] = CASES
) -> list[dict[str, Any]]:
    """Every case at every batch, each with its share of four_full's peak, or of safe_full's."""
    rows = []
    for answers in batches:
        whole = 0
        for case in cases:
            found = in_its_own_process(case, folder, answers, checkpointing, returned)
            whole = found["peak_mb"] if not whole or case == "safe_full" else whole
            about = {"case": case, "answers": answers, "tokens": 2 * TOKENS * answers}
            about |= {"checkpointing": checkpointing, "returned": returned}
            rows.append(about | found | {"share": round(found["peak_mb"] / whole, 3)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8], help="answers in a step")
    parser.add_argument("--checkpointing", action="store_true", help="compute.gradient_checkpointing")
    parser.add_argument("--returned", action="store_true", help="freed memory is given back at once")
    parser.add_argument("--cases", choices=CASES, nargs="+", default=CASES, help="shares are of the first")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try this out")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        measure(given.case, given.folder, given.batches[0], given.checkpointing)
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), SMALL if given.small else SHAPE, 512 if given.small else VOCABULARY)
        compare(Path(folder), given.batches, given.checkpointing, given.returned, given.cases)


if __name__ == "__main__":
    main()
