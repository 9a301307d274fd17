"""Mutation testing of the losses: would their tests notice a small fault? ``python -m benchmarks.mutants``.

Draws mutants of four files of ``baro.functional`` by seed and runs each against that file's own tests, as pytest would
(jaxtyping's checks, warnings as errors, first failure ends it), in a copy of the tree. A mutant is killed when a test
fails, crashes, or takes more processor time than ``SECONDS``. What survives is printed as a diff: a test is missing, or
the mutant computes the same. Ends with 1 where fewer than ``ENOUGH`` are killed.

torch and pytest are imported once; each mutant is a fork of that process. The quickest tests come first, and Hypothesis
does not shrink what fails. --out is written after every verdict. Started again with the same --out, what was killed is
not run again; what survived is, since a test may have been added. Take another --out where tests were taken away.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutants_operators import Mutant, mutants

ROOT = Path(__file__).parents[1]
FUNCTIONAL = Path("src/baro/functional")
FILES = ("preference", "advantages", "policy", "tokens")
HEAVY = ("torch", "numpy", "pytest", "hypothesis.strategies", "jaxtyping", "beartype", "torch.utils._python_dispatch")
SECONDS = 30
"""Processor time of one mutant; the tests of a file take 1 to 3."""
MEMORY = 16 * 2**30
"""Bytes of addresses of one mutant: a list that grows without end is a failure, too."""
ENOUGH = 0.95
QUIET = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-p",
    "no:faulthandler",
    "-q",
    "-x",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``by`` is the test that failed, or how the process ended; None where all passed."""

    by: str | None
    seconds: float


class Watch:
    """A plugin of pytest: the quickest tests first, and which failed first, or which file could not be imported."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.known, self.nodeid = seconds, ""
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.nodeid = self.nodeid or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.nodeid = self.nodeid or f"import of {report.nodeid}"


def copied_tree(folder: Path) -> None:
    """What the tests of ``baro.functional`` need, and nothing compiled."""
    parts = ("src/baro", "tests/functional", "tests/oracles")
    for part in parts:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for name in ("pyproject.toml", "tests/conftest.py", "tests/budgets.py", "tests/README.md"):
        shutil.copy(ROOT / name, folder / name)


class Tests:
    """The tests of each file in a copy of the tree; they pass on the file as it is, or no mutant would tell anything.

    Compiled tests are kept from this first run, the four files' own are not: a mutant of the same second and size would
    be taken for the one before.
    """

    def __init__(self, tree: Path, names: Iterable[str]) -> None:
        self.tree, self.seconds = tree, dict[str, dict[str, float]]()
        for name in names:
            code, nodeid, self.seconds[name] = self._told(name, compiled=True)
            if code:
                raise SystemExit(f"{name}.py as it is fails: {nodeid}; mutants would all be killed")
        for name in FILES:
            for path in (tree / FUNCTIONAL / "__pycache__").glob(f"{name}.*"):
                path.unlink()

    def verdict(self, name: str, text: str) -> Verdict:
        """What becomes of a file's tests with this text in its place."""
        target, begun = self.tree / FUNCTIONAL / f"{name}.py", time.monotonic()
        original = target.read_text()
        target.write_text(text)
        try:
            code, by, _ = self._told(name)
        finally:
            target.write_text(original)
        return Verdict(by if code else None, round(time.monotonic() - begun, 2))

    def _told(self, name: str, *, compiled: bool = False) -> tuple[int, str, dict[str, float]]:
        """pytest's exit status in a fork, what failed first, and the seconds of each test."""
        told, said = self.tree / "told.json", self.tree / "said.txt"
        told.unlink(missing_ok=True)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            sys.dont_write_bytecode = not compiled
            _run_tests(self.tree, name, Watch(self.seconds.get(name, {})), told, said)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return 1, f"time: over {SECONDS} s" if number == signal.SIGXCPU else signal.Signals(number).name, {}
        if not told.exists():
            raise RuntimeError(f"pytest did not end; what it said is in {said}")
        code, by, at, seconds = json.loads(told.read_text())
        own = self.tree / FUNCTIONAL / f"{name}.py"
        if code not in (0, 1, 2) or (code and not by) or not (code or Path(at) == own):
            raise RuntimeError(f"pytest ended with {code} on {at}; what it said is in {said}")
        return code, by, seconds


def _run_tests(tree: Path, name: str, watch: Watch, told: Path, said: Path) -> None:
    """The child: ends the process."""
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))  # at the first SIGXCPU, then SIGKILL
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree / "src"))  # before the installed package
    arguments = [*QUIET, "-c", str(tree / "pyproject.toml"), "--rootdir", str(tree), "--basetemp", str(tree / "tmp")]
    try:
        code = int(pytest.main([*arguments, f"tests/functional/test_{name}.py"], plugins=[watch]))
        module = sys.modules.get(f"baro.functional.{name}")
        told.write_text(json.dumps([code, watch.nodeid, getattr(module, "__file__", ""), watch.seconds]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(0)


def drawn(count: int, seed: int) -> tuple[list[tuple[str, Mutant]], int]:
    """The first ``count`` of all mutants in an order by seed, so that fewer are a part of more; and how many exist."""
    pool = [
        (name, one) for name in FILES for one in mutants(f"{name}.py", (ROOT / FUNCTIONAL / f"{name}.py").read_text())
    ]
    order = random.Random(seed).sample(range(len(pool)), len(pool))[:count]
    return [pool[i] for i in order], len(pool)


def tested(chosen: Sequence[tuple[str, Mutant]], out: Path, tree: Path) -> list[dict[str, Any]]:
    """Every mutant with its verdict, the killed ones of an earlier run taken over; survivors are printed as they come.

    ``tree`` is a folder of its own for the copy; no module of ``baro`` may have been imported before.
    """
    warm(tree)
    tests = Tests(tree, dict.fromkeys(name for name, _ in chosen))
    before = {_key(row): row for row in (json.loads(out.read_text()) if out.exists() else []) if row["killed_by"]}
    rows: list[dict[str, Any]] = []
    for name, one in chosen:
        row = {"file": one.file, "line": one.line, "operator": one.operator}
        row |= {"diff": one.diff((ROOT / FUNCTIONAL / f"{name}.py").read_text())}
        done = before.get(_key(row))
        if done is None:
            found = tests.verdict(name, one.text)
            done = row | {"killed_by": found.by, "seconds": found.seconds}
            if found.by is None:
                print(f"\nsurvived: {one.file}:{one.line}, {one.operator}\n{row['diff']}", flush=True)
        rows.append(done)
        before.pop(_key(row), None)
        write_whole(out, json.dumps([*rows, *before.values()], indent=1, ensure_ascii=False) + "\n")
    write_whole(out, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return rows


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["file"], row["diff"]


def write_whole(path: Path, text: str) -> None:
    """Beside the file, then in its place: an interruption leaves one of them. ``baro.files`` may not be imported."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    beside.replace(path)


def warm(tree: Path) -> None:
    """Copy the tree, and import once what every child needs."""
    if "baro" in sys.modules:
        raise RuntimeError("baro is imported already: its tests would not see the mutants")
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in HEAVY:
        importlib.import_module(module)
    from hypothesis import Phase, configuration, settings

    copied_tree(tree)
    configuration.set_hypothesis_home_dir(tree / ".hypothesis")
    settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), database=None)
    settings.load_profile("mutants")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="how many mutants are drawn")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--out", type=Path, default=Path("mutants.json"), help="file for every mutant and its verdict")
    options = parser.parse_args()
    chosen, there_are = drawn(options.count, options.seed)
    print(f"{len(chosen)} of {there_are} mutants, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        rows = tested(chosen, options.out, Path(folder).resolve())
    all_of, killed = Counter(row["file"] for row in rows), Counter(row["file"] for row in rows if row["killed_by"])
    print()
    for file, number in all_of.items():
        print(f"{file:16} {killed[file]:4} of {number:4} killed")
    share = killed.total() / len(rows)
    print(f"{'together':16} {killed.total():4} of {len(rows):4} killed, {share:.1%}")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
