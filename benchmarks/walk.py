"""How far a reader walks: the files that a pair and a prompt enter up to the first update.

``python -m benchmarks.walk``

Traced at run time on tiny models: every call of a function of src/baro between the reading of the file and the first
optimiser step counts for its file, and a move is a call from one file into another. What runs for every stage alike
(the run directory, the config, the trainer's own bookkeeping) is counted too, and listed apart.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import baro

SOURCE = Path(baro.__file__).parent
HOUSE = {"config.py", "declared.py", "problems.py", "files.py", "rows.py", "runs.py", "bar.py", "checkpoints.py"}
HOUSE |= {"errors.py", "termination.py", "determinism.py", "code_hash.py", "tensor_files.py", "inputs.py", "hub.py"}


def walked(run: Callable[[], object]) -> tuple[list[str], int]:
    """The files of src/baro that ``run`` enters until the first optimiser step, and the moves between them."""
    from baro.trainer import Trainer

    files: dict[str, None] = {}
    moves, here, done = 0, "", False

    def look(frame: FrameType, event: str, _: Any) -> None:
        nonlocal moves, here, done
        path = Path(frame.f_code.co_filename)
        if event != "call" or done or SOURCE not in path.parents:
            return
        name = path.relative_to(SOURCE).as_posix()
        files[name] = None
        moves, here = moves + (name != here), name
        done = frame.f_code is Trainer._update.__code__

    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(None)
    return list(files), moves


def main() -> None:
    from baro.pipeline import run_pipeline
    from benchmarks.bits import ROWS, STAGES

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["BARO_CACHE"] = str(Path.cwd() / "cache")
        sys.path.insert(0, folder)
        Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in ROWS))
        run_pipeline({"stages": {name: STAGES[name] for name in ("base", "sft", "reward")}}, out="runs/walk")
        from baro.config import load_config
        from baro.verbs import VERBS

        for name, key in (("dpo", "a pair in dpo"), ("ppo", "a prompt in ppo")):
            made = {"sft": "runs/walk/sft", "reward": "runs/walk/reward"}
            values = {k: made.get(str(v), v) for k, v in STAGES[name].items() if k != "do"}
            config_class, run = VERBS[name].load()
            config = load_config(config_class, None, values=values)
            files, moves = walked(lambda run=run, config=config, name=name: run(config, f"walked/{name}"))
            house = [one for one in files if one in HOUSE]
            print(f"{key}: {len(files) - len(house)} files and {len(house)} of the house, {moves} moves")
            print("  " + " ".join(one for one in files if one not in house))


if __name__ == "__main__":
    main()
