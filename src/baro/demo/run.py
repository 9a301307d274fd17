"""``baro demo``: writes the files of an embedded task and runs its pipeline."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from baro.data.files import write_rows
from baro.demo import arithmetic as sums
from baro.demo import safety_files, world
from baro.errors import ConfigError
from baro.files import write_atomic
from baro.pipeline import run_pipeline

log = logging.getLogger("baro")
SIZES: Mapping[str, int] = {
    "text": 24_000,
    "demonstrations": 2_400,
    "feedback": 2_700,
    "policy": 3_000,
    "held_out": 1_200,
}
"""Texts to pre-train on, demonstrations, and prompts to judge, to practise on, and to be compared on."""

SEEDS = 3  # of `baro demo --all`
Task = Literal["preferences", "arithmetic", "safety"]
EVALUATED: Mapping[Task, Sequence[str]] = {
    "preferences": ("reward", "labels_of_gold", "evaluation"),
    "arithmetic": ("evaluation", "greedy"),
    "safety": ("reward", "cost", "evaluation"),
}
"""The stages whose figures `baro demo --all` puts into one file."""
JUDGED_BY_NOBODY = {"--all": "three seeds", "--arithmetic": "sums, which are checked", "--safety": "invented hazards"}


def run_demo(
    seed: int = 0, all: bool = False, out: Path | None = None, human: int | None = None, task: Task = "preferences"
) -> Path:
    """Run (or continue) the demo; returns its folder, in which report/report.html lies.

    all: three seeds from ``seed`` on, each with KTO on thumbs of the same people, GRPO, and two more PPO runs (a random
    reward, no KL penalty), one report a seed, and summary.json with every figure of every seed. human: so many pairs
    are judged by a person on the web page, in place of all rankings of the simulated people but the held-out ones.
    task: preferences, sums that are checked (arithmetic), or rewards under a limit on harm (safety). Raises ConfigError
    for human with all, or with another task than preferences.
    """
    if human is not None and (all or task != "preferences"):
        other = "--all" if all else f"--{task}"
        raise ConfigError(
            f"{other} and --human exclude each other: nobody judges {JUDGED_BY_NOBODY[other]}; leave one out"
        )
    words = ["demo", *[task] * (task != "preferences")] + ["all"] * all + ["human"] * (human is not None)
    out = out or Path("runs") / f"{'-'.join(words)}-{seed}"

    def one_seed(seed: int, out: Path) -> Path:
        if task == "preferences":
            return _one_seed(seed, out, with_controls=all, human=human)
        outlines = {"arithmetic": arithmetic_pipeline, "safety": safety_pipeline}
        run_pipeline(outlines[task](out / "data", seed), out=out)
        return out

    if not all:
        return one_seed(seed, out)
    folders = [one_seed(one, out / f"seed-{one}") for one in range(seed, seed + SEEDS)]
    write_atomic(out / "summary.json", json.dumps(_summary(folders, EVALUATED[task]), indent=1, allow_nan=False))
    return out


def _one_seed(seed: int, out: Path, *, with_controls: bool = False, human: int | None = None) -> Path:
    write_data(out / "data", seed)
    outline = pipeline(out / "data", seed, with_controls=with_controls)
    if human is not None:
        log.info("a model is trained first; the page opens in about two minutes")
        outline = judged_by_a_person(outline, human)
    run_pipeline(outline, out=out)
    return out


def _summary(seeds: list[Path], stages: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The figures of these stages by stage and name, one entry a seed: value, and where there are some, both ends."""
    found: dict[str, dict[str, dict[str, Any]]] = {stage: {} for stage in stages}
    for folder in seeds:
        for stage, figures in found.items():
            for figure in json.loads((folder / stage / "figures.json").read_text()):
                shown = [figure["value"], figure["low"], figure["high"]]
                figures.setdefault(figure["name"], {})[folder.name] = shown
    return found


def arithmetic_pipeline(data: Path, seed: int, sizes: Mapping[str, int] = sums.SIZES) -> Mapping[str, Any]:
    """The stages of the verifiable task; its files are written into ``data``."""
    _write(data, sums.files_of(seed, sizes))
    return _stages_in("arithmetic.yaml", data) | {"seed": seed}


def safety_pipeline(data: Path, seed: int, sizes: Mapping[str, int] = safety_files.SIZES) -> Mapping[str, Any]:
    """The stages of the safety task; its files are written into ``data``."""
    _write(data, safety_files.files_of(seed, sizes))
    return _stages_in("safety.yaml", data) | {"seed": seed}


def pipeline(data: Path, seed: int, *, with_controls: bool) -> Mapping[str, Any]:
    """The demo's stages with the folder of its data put in."""
    outline = _stages_in("pipeline.yaml", data)
    if with_controls:
        ppo, evaluation = outline["stages"]["ppo"], outline["stages"]["evaluation"]
        random = {key: value for key, value in ppo.items() if key != "reward_model"}
        controls = {
            "ppo-random-reward": random | {"rewards": [{"by": "baro.demo.world:random_reward"}]},
            "ppo-kl-off": ppo | {"kl": {"coef": 0.0}},
        }
        evaluation["policies"] = [*evaluation["policies"], "kto", "grpo", *controls]
        outline["stages"] |= controls | _stages_in("more.yaml", data)
    return outline | {"seed": seed}


def _stages_in(file: str, data: Path) -> dict[str, Any]:
    """A file of the package, with the folder of the demo's data put in."""
    found: dict[str, Any] = yaml.safe_load((files("baro.demo") / file).read_text().replace("DATA/", f"{data}/"))
    return found


def judged_by_a_person(outline: Mapping[str, Any], count: int) -> Mapping[str, Any]:
    """The stages with ``count`` pairs in place of the simulated people's rankings.

    So few judgments make a weak reward model, which PPO refuses unless told otherwise and which the report calls weak;
    small batches let them count. The held-out rankings stay with the simulated people, who have the time for them.
    """
    stages = {name: dict(stage) for name, stage in outline["stages"].items()}
    judged = {key: value for key, value in stages["judged"].items() if key != "by"}
    chosen = {"policy": "random", "count": count}
    korean = os.environ.get("LANG", "").startswith("ko")
    page = {"raters": 1, "open_page": True, "lang": "ko" if korean else "en"}
    stages["judged"] = judged | {"kind": "pair", "choose": chosen} | page
    for name in ("reward", "dpo"):
        stages[name]["trainer"] = stages[name]["trainer"] | {"batch_size": 8, "epochs": 2}
    stages["ppo"]["accept_weak_reward_model"] = True
    return {**outline, "stages": stages}


def write_data(folder: Path, seed: int, sizes: Mapping[str, int] | None = None) -> None:
    """The five files of the embedded task, of SIZES rows or of ``sizes``; the same seed gives the same bytes."""
    sizes = sizes or SIZES
    rows = {
        "text": world.pretraining_text(seed, sizes["text"]),
        "demonstrations": world.demonstrations(seed, sizes["demonstrations"]),
        "feedback": world.prompts(seed, sizes["feedback"], "feedback"),
        "policy": world.prompts(seed, sizes["policy"], "policy"),
        "held_out": world.prompts(seed, sizes["held_out"], "held_out"),
    }
    _write(folder, rows)


def _write(folder: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for name, written in rows.items():
        write_rows(folder / f"{name}.jsonl", written)
