"""What the benchmarks on the embedded task share: its stages, two answers to each prompt, judged pairs, and figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from baro.data.formats import read_records
from baro.demo import world
from baro.demo.judge import GoldJudge
from baro.demo.run import write_data
from baro.pipeline import run_pipeline
from baro.records import Answers
from baro.rows import JsonLines

JUDGE = "gold_without_conciseness"
"""Compares policies: the gold judge without its taste for short answers, which would count twice."""
Stages = dict[str, dict[str, Any]]


def demo_stages(out: Path) -> Stages:
    """The stages of ``baro demo``, with their data in a folder of ``out``."""
    text = (files("baro.demo") / "pipeline.yaml").read_text()
    stages: Stages = yaml.safe_load(text.replace("DATA/", f"{out}/data/"))["stages"]
    return stages


def two_answers(out: Path, seed: int) -> Stages:
    """Runs ``base`` and ``sft`` of the demo and ``pairs``, the SFT policy's two answers to each prompt.

    Returns the demo's stages. What is finished is not run again.
    """
    write_data(out / "data", seed)
    demo = demo_stages(out)
    first = {name: demo[name] for name in ("base", "sft")} | {"pairs": demo["answers"] | {"policy": "sft", "n": 2}}
    run_pipeline({"stages": first, "seed": seed}, out=out)
    return demo


def judged_pairs(answers: Path, judge: GoldJudge) -> Iterator[tuple[str, str, str, bool]]:
    """Prompt, first and second answer of each row, and whether the judge prefers the first; equals are left out."""
    for record in read_records(answers / "records.jsonl", Answers).records:
        prompt, (first, second) = record.prompt[-1].content, record.completions[:2]
        p = judge.p_first(prompt, first, second)
        if p != 0.5:
            yield prompt, first, second, p == 1.0


def win_rates(
    stages: Mapping[str, Any], out: Path, seed: int, demo: Stages, sft: Path, prompts: int
) -> dict[str, dict[str, Any]]:
    """Run stages that train policies, and compare each policy with SFT on the first of the held-out prompts.

    By stage: ``win_rate``, ``win_rate_length_controlled`` and ``kl`` from SFT in nats, each [value, low, high] with a
    95% interval over prompts.
    """
    policies = [name for name, stage in stages.items() if "policy" in stage]
    evaluation = {
        "do": "evaluate", "policies": policies, "against": str(sft), "judges": {JUDGE: f"baro.demo.world:{JUDGE}"},
        "prompts": demo["evaluation"]["prompts"], "limit": prompts, "sampling": demo["evaluation"]["sampling"],
    }  # fmt: skip
    runs = run_pipeline({"stages": dict(stages) | {"evaluation": evaluation}, "seed": seed}, out=out)
    told = {row["name"]: row for row in json.loads((runs["evaluation"].path / "figures.json").read_text())}
    names = {"win_rate": f"win_rate/{JUDGE}", "win_rate_length_controlled": f"win_rate_length_controlled/{JUDGE}"}
    return {policy: {key: _interval(told[f"{policy}/{name}"]) for key, name in (names | {"kl": "kl"}).items()}
            for policy in policies}  # fmt: skip


def _interval(figure: Mapping[str, Any]) -> list[float]:
    return [round(figure[key], 3) for key in ("value", "low", "high")]


def table(rows: Sequence[Mapping[str, Any]], key: str = "win_rate") -> str:
    """Arms by seeds, as Markdown: value [low, high], KL."""
    lines = []
    for arm in rows[0]["arms"]:
        cells = []
        for row in rows:
            (value, low, high), (kl, *_) = row["arms"][arm][key], row["arms"][arm]["kl"]
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}], {kl:.2f}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lead(evaluation: Path, arm: str, over: str) -> np.ndarray:
    """What an arm wins more than another on each prompt: the judge's verdicts against SFT, one less the other, −1 to 1.

    Paired, so that what makes a prompt easy or hard for all of them falls out.
    """
    judge, found = getattr(world, JUDGE), []
    for row in JsonLines(evaluation / "comparisons.jsonl").read():
        prompt, answers = row["prompt"], row["answers"]
        ours, theirs = (judge.p_first(prompt, answers[name], answers["sft"]) for name in (arm, over))
        found.append(ours - theirs)
    return np.array(found)
