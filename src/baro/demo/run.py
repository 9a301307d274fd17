"""``baro demo``: writes the embedded task's files and runs its pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from baro.data.files import write_rows
from baro.demo import world
from baro.pipeline import run_pipeline

TEXTS, DEMONSTRATIONS, FEEDBACK, POLICY, HELD_OUT = 13_000, 1_600, 2_400, 3_000, 500
"""How many texts, demonstrations, and prompts to judge, to practise on and to be compared on there are."""


def run_demo(seed: int = 0, all: bool = False, out: Path | None = None) -> Path:
    """Run (or continue) the demo of one seed; returns the path of report.html."""
    out = out or Path("runs") / f"demo-{seed}"
    write_data(out / "data", seed)
    runs = run_pipeline(pipeline(out / "data", seed), out=out)
    return runs["report"].path / "report.html"


def pipeline(data: Path, seed: int) -> Mapping[str, Any]:
    """The demo's stages with the folder of its data put in."""
    text = (files("baro.demo") / "pipeline.yaml").read_text().replace("DATA/", f"{data}/")
    return yaml.safe_load(text) | {"seed": seed}


def write_data(folder: Path, seed: int) -> None:
    """The five files of the embedded task; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        "text": world.pretraining_text(seed, TEXTS),
        "demonstrations": world.demonstrations(seed, DEMONSTRATIONS),
        "feedback": world.prompts(seed, FEEDBACK, "feedback"),
        "policy": world.prompts(seed, POLICY, "policy"),
        "held_out": world.prompts(seed, HELD_OUT, "held_out"),
    }
    for name, written in rows.items():
        write_rows(folder / f"{name}.jsonl", written)
