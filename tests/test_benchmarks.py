"""The comparison with TRL runs: its lines have their keys, and both sides compute the same losses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEYS = {"method", "variant", "peer", "speed_ratio", "memory_ratio", "same_loss", "ours_seconds", "peer_seconds"}


def compared(*arguments: str) -> list[dict]:
    command = [sys.executable, "-m", "benchmarks.peers", "--size", "tiny", "--repeats", "1", "--threads", "1", "--json"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(lines: list[dict], methods: list[str]) -> None:
    assert [line["method"] for line in lines] == methods
    for line in lines:
        assert line.keys() >= KEYS
        assert line["same_loss"] is True
        assert line["largest_loss_gap"] < 1e-4  # of every step, after updates too
        assert min(line["speed_ratio"], line["memory_ratio"], line["ours_seconds"], line["peer_seconds"]) > 0


def test_a_pair_of_sides_on_made_rows():
    check(compared("--methods", "dpo", "--first"), ["dpo"])


@pytest.mark.slow
def test_every_variant_on_rows_from_files(tmp_path):
    hh = [f"\n\nHuman: Name {i}?\n\nAssistant:" for i in range(60)]
    pairs = [{"chosen": f"{text} Yes, {i}.", "rejected": f"{text} No."} for i, text in enumerate(hh)]
    solved = [{"question": f"{i} + {i}?", "answer": f"It is {2 * i}."} for i in range(60)]
    for name, rows in (("hh", pairs), ("gsm8k", solved)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = compared("--hh", str(tmp_path / "hh"), "--gsm8k", str(tmp_path / "gsm8k"))
    check(lines, ["sft"] * 3 + ["reward"] * 2 + ["dpo"] * 3)
