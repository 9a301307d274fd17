"""Programs a second of the sandbox, and whether it accepts what is right and refuses what is wrong.

    python -m benchmarks.sandbox HUMANEVAL MBPP

HUMANEVAL and MBPP are HumanEval.jsonl and sanitized-mbpp.json, gzipped or not, as their authors publish them. Printed
are the canonical solutions that pass, the ones that are refused by name, and mutations of HumanEval's that must fail:
each hides every answer behind a tuple that equals nothing wanted. Everything runs on one core. The rate by the clock
holds whatever else the machine does; the one by processor time is that of an idle core.
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
TOLD = 3  # of what did not pass


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


def processor_seconds(process: int) -> float:
    """Of a process and all below it, those that have ended included."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)


def report(sandbox: Sandbox, title: str, named: list[tuple[Any, Problem, str]]) -> None:
    """Print what passed, what did not, and how long it took."""
    jobs = [problem.jobs(code)[0] for _, problem, code in named]
    assert sandbox._server is not None
    inside, here, start = processor_seconds(sandbox._server.pid), time.process_time(), time.perf_counter()
    outcomes = sandbox.run(jobs)
    taken = time.perf_counter() - start
    used = processor_seconds(sandbox._server.pid) - inside + time.process_time() - here
    passed = sum(one.passed is True for one in outcomes)
    refused = [(name, one.error) for (name, _, _), one in zip(named, outcomes, strict=True) if one.error]
    failed = [(name, one.reason) for (name, _, _), one in zip(named, outcomes, strict=True) if one.passed is False]
    print(f"{title}: {passed} of {len(jobs)} pass, {len(failed)} score 0, {len(refused)} are refused")
    each = used / len(jobs)
    print(
        f"  {len(jobs) / taken:.0f} a second by the clock, {1 / each:.0f} by processor time ({1e3 * each:.1f} ms each)"
    )
    for name, why in (refused + failed)[:TOLD]:
        print(f"  {name}: {why}")


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
