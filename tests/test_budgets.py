"""Every suite has a budget, and what is told of a run adds up."""

from pathlib import Path

import budgets


def test_every_suite_has_a_budget_and_every_budget_a_suite():
    here = Path(__file__).parent
    suites = {path.name for path in here.iterdir() if list(path.glob("test_*.py"))}
    suites |= {path.stem for path in here.glob("test_*.py")}
    assert set(budgets.budgets(budgets.README.read_text())) == suites


def test_seconds_are_added_up_by_suite_and_the_slowest_are_named():
    table = "| suite | proves | budget |\n|---|---|---|\n| `data` | it | 2 |\n| `test_cli`, `test_docs` | that | 50 |\n"
    known = budgets.budgets(table)
    assert known == {"data": 2.0, "test_cli": 50.0, "test_docs": 50.0}
    seconds = {"tests/data/test_a.py::x[1/2]": 1.5, "tests/data/test_b.py::y": 1.0, "tests/test_cli.py::z": 0.5}
    lines = budgets.summary(seconds, known)
    assert lines[0].split() == ["2.5", "s", "of", "2", "data", "OVER", "ITS", "BUDGET"]
    assert lines[1:3] == ["", "the 20 slowest tests:"]
    assert [line.split()[-1] for line in lines[3:]] == list(seconds)


def test_set_up_call_and_teardown_count_for_their_test():
    class Report:
        def __init__(self, nodeid, duration):
            self.nodeid, self.duration = nodeid, duration

    class Terminal:
        def __init__(self):
            self.lines = []

        def section(self, title):
            self.lines.append(title)

        def write_line(self, line):
            self.lines.append(line)

    plugin, short, long = budgets.Budgets({"data": 60.0}), Terminal(), Terminal()
    plugin.pytest_runtest_logreport(Report("tests/data/test_a.py::x", 50.0))
    plugin.pytest_terminal_summary(short)
    assert short.lines == []  # a short run is told nothing
    plugin.pytest_runtest_logreport(Report("tests/data/test_a.py::x", 20.0))
    plugin.pytest_terminal_summary(long)
    assert long.lines[:2] == ["seconds by suite", "   70.0 s of   60  data  OVER ITS BUDGET"]
