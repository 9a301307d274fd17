"""Programs a second of the sandbox, and whether it accepts what is right and refuses what is wrong.

    python -m benchmarks.sandbox HUMANEVAL MBPP

HUMANEVAL and MBPP are HumanEval.jsonl and sanitized-mbpp.json, gzipped or not, as their authors publish them. Printed
are the canonical solutions that pass, the ones that are refused by name, and mutations of HumanEval's that must fail:
each returns a value that its type never equals. The rate is of canonical solutions on one core, `taskset` to it.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from baro.rewards.code import Problem, problem_of
from baro.rewards.sandbox import Sandbox

ROUNDS = 3


def rows(path: Path) -> list[dict[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        text = file.read()
    return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]


def wrong_by_construction(row: dict[str, Any]) -> str:
    """The canonical solution, whose every answer is hidden behind a tuple that equals none of the wanted values."""
    name = row["entry_point"]
    whole = row["prompt"] + row["canonical_solution"]
    return f"{whole}\n_right = {name}\ndef {name}(*args, **kwargs):\n    return (_right(*args, **kwargs), 'and more')\n"


def report(sandbox: Sandbox, title: str, named: list[tuple[Any, Problem, str]]) -> float:
    """Programs a second; prints what passed and what did not."""
    jobs = [problem.jobs(code)[0] for _, problem, code in named]
    start = time.perf_counter()
    outcomes = sandbox.run(jobs)
    rate = len(jobs) / (time.perf_counter() - start)
    passed = sum(one.passed is True for one in outcomes)
    refused = [(name, one.error) for (name, _, _), one in zip(named, outcomes, strict=True) if one.error]
    failed = [(name, one.reason) for (name, _, _), one in zip(named, outcomes, strict=True) if one.passed is False]
    print(
        f"{title}: {passed} of {len(jobs)} pass, {len(failed)} score 0, {len(refused)} are refused; {rate:.0f} a second"
    )
    for name, why in (refused + failed)[:10]:
        print(f"  {name}: {why}")
    return rate


def main() -> None:
    human, mbpp = (rows(Path(one)) for one in sys.argv[1:3])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the sandbox inherits it
    right = [
        (row["task_id"], problem_of(row, row["prompt"]), row["prompt"] + row["canonical_solution"]) for row in human
    ]
    asserted = [(row["task_id"], problem_of(row, row["prompt"]), row["code"]) for row in mbpp]
    wrong = [(row["task_id"], problem_of(row, row["prompt"]), wrong_by_construction(row)) for row in human]
    for _ in range(ROUNDS):
        sandbox = Sandbox()
        sandbox.start()
        report(sandbox, "HumanEval, canonical solutions", right)
        report(sandbox, "MBPP sanitized, canonical solutions", asserted)
        report(sandbox, "HumanEval, mutations", wrong)
        sandbox.close()


if __name__ == "__main__":
    main()
