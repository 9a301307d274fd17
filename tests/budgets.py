"""The time that each suite takes, beside its budget in README.md, and the slowest tests; told after every long run.

Seconds are those of the tests' own processes, added up over all workers. A budget is for an idle machine, so that a
suite over it is told and fails nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
SLOWEST = 20
WORTH_TELLING = 60.0  # seconds of all tests together; a run of a few tests prints nothing


def budgets(text: str) -> dict[str, float]:
    """The seconds of each suite, from the table: one row may name several."""
    found: dict[str, float] = {}
    for names, seconds in re.findall(r"^\| (`[^|]+`) \|.*\| (\d+) \|$", text, flags=re.M):
        found |= dict.fromkeys(re.findall(r"`([^`]+)`", names), float(seconds))
    return found


def suite_of(nodeid: str) -> str:
    """``tests/data/test_files.py::…`` is of data, ``tests/test_cli.py::…`` of test_cli."""
    parts = Path(nodeid.split("::")[0]).parts
    inside = parts[parts.index("tests") + 1 :] if "tests" in parts else parts
    return inside[0].removesuffix(".py")


def summary(seconds: Mapping[str, float], known: Mapping[str, float]) -> list[str]:
    """Lines about the suites that took the longest or more than they may, and about the slowest tests."""
    suites: dict[str, float] = defaultdict(float)
    for nodeid, taken in seconds.items():
        suites[suite_of(nodeid)] += taken
    lines = []
    for suite, taken in sorted(suites.items(), key=lambda one: -one[1]):
        over = taken > known.get(suite, 0.0)
        if over or taken > 10:
            lines.append(f"{taken:7.1f} s of {known.get(suite, 0):4.0f}  {suite}{'  OVER ITS BUDGET' * over}")
    lines += ["", f"the {SLOWEST} slowest tests:"]
    slowest = sorted(seconds.items(), key=lambda one: -one[1])[:SLOWEST]
    return [*lines, *(f"{taken:7.1f} s  {nodeid}" for nodeid, taken in slowest)]


class Budgets:
    """A plugin of pytest that adds up what every test takes, set-up and teardown included."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known, self.seconds = known, defaultdict(float)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if sum(self.seconds.values()) >= WORTH_TELLING:
            terminalreporter.section("seconds by suite")
            for line in summary(self.seconds, self.known):
                terminalreporter.write_line(line)
