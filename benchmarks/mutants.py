"""Mutation testing of the losses: would their tests notice a small fault? ``python -m benchmarks.mutants``.

Draws mutants of four files of ``baro.functional`` by seed and runs each against that file's own tests, as pytest would
(jaxtyping's checks, warnings as errors, first failure ends it), in a copy of the tree. A mutant is killed when a test
fails, crashes, or takes more processor time than ``SECONDS``. What survives is printed as a diff: a test is missing, or
the mutant computes the same. Ends with 1 where fewer than ``ENOUGH`` are killed.

torch and pytest are imported once; each mutant is a fork of that process. Hypothesis does not shrink what fails.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutants_operators import Mutant, mutants

ROOT = Path(__file__).parents[1]
FUNCTIONAL = Path("src/baro/functional")
FILES = ("preference", "advantages", "policy", "tokens")
HEAVY = ("torch", "numpy", "pytest", "hypothesis.strategies", "jaxtyping", "beartype", "torch.utils._python_dispatch")
SECONDS = 60
"""Processor time of one mutant; the tests of a file take 2 to 5."""
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


class FirstFailure:
    """A plugin of pytest that remembers which test failed first, or which file could not be imported."""

    def __init__(self) -> None:
        self.nodeid: str | None = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.nodeid is None:
            self.nodeid = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and self.nodeid is None:
            self.nodeid = f"import of {report.nodeid}"


def copied_tree(folder: Path) -> None:
    """What the tests of ``baro.functional`` need, and nothing compiled."""
    parts = ("src/baro", "tests/functional", "tests/oracles")
    for part in parts:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "static"))
    for name in ("pyproject.toml", "tests/conftest.py", "tests/budgets.py", "tests/README.md"):
        shutil.copy(ROOT / name, folder / name)


def verdict(tree: Path, name: str, text: str) -> Verdict:
    """Write the text in place of the file, run its tests in a fork, and put the file back."""
    target, original = tree / FUNCTIONAL / f"{name}.py", (ROOT / FUNCTIONAL / f"{name}.py").read_text()
    target.write_text(text)
    begun, told = time.monotonic(), tree / "told.json"
    told.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run_tests(tree, name, told)
    _, status = os.waitpid(child, 0)
    target.write_text(original)
    seconds = round(time.monotonic() - begun, 2)
    if os.WIFSIGNALED(status):
        return Verdict(signal.Signals(os.WTERMSIG(status)).name, seconds)
    if not told.exists():
        raise RuntimeError(f"pytest did not end; what it said is in {tree / 'said.txt'}")
    code, by, at = json.loads(told.read_text())
    if code not in (0, 1, 2) or (code and by is None) or not (code or Path(at) == target):
        raise RuntimeError(f"pytest ended with {code} on {at}; what it said is in {tree / 'said.txt'}")
    return Verdict(by if code else None, seconds)


def _run_tests(tree: Path, name: str, told: Path) -> None:
    """The child: ends the process."""
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    said = os.open(tree / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree / "src"))  # before the installed package
    first = FirstFailure()
    arguments = [*QUIET, "-c", str(tree / "pyproject.toml"), "--rootdir", str(tree), f"tests/functional/test_{name}.py"]
    try:
        code = int(pytest.main(arguments, plugins=[first]))
        module = sys.modules.get(f"baro.functional.{name}")
        told.write_text(json.dumps([code, first.nodeid, getattr(module, "__file__", "")]))
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


def tested(count: int, seed: int, tree: Path) -> list[dict[str, Any]]:
    """Every drawn mutant with its verdict; survivors are printed as they come."""
    chosen, there_are = drawn(count, seed)
    print(f"{len(chosen)} of {there_are} mutants, seed {seed}")
    for name in FILES:
        clean = verdict(tree, name, (ROOT / FUNCTIONAL / f"{name}.py").read_text())
        if clean.by is not None:
            raise SystemExit(f"{name}.py as it is fails: {clean.by}; mutants would all be killed")
    rows = []
    for name, one in chosen:
        found, original = verdict(tree, name, one.text), (ROOT / FUNCTIONAL / f"{name}.py").read_text()
        row = {"file": one.file, "line": one.line, "operator": one.operator, "diff": one.diff(original)}
        rows.append(row | {"killed_by": found.by, "seconds": found.seconds})
        if found.by is None:
            print(f"\nsurvived: {one.file}:{one.line}, {one.operator}\n{row['diff']}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="how many mutants are drawn")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--out", type=Path, default=Path("mutants.json"), help="file for every mutant and its verdict")
    options = parser.parse_args()
    sys.dont_write_bytecode = True  # a mutant of the same second and size would be taken for the one before
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in HEAVY:
        importlib.import_module(module)
    from hypothesis import Phase, settings

    settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate))
    settings.load_profile("mutants")
    folder = Path(tempfile.mkdtemp(prefix="mutants-")).resolve()
    copied_tree(folder)
    rows = tested(options.count, options.seed, folder)
    shutil.rmtree(folder)
    options.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    all_of, killed = Counter(row["file"] for row in rows), Counter(row["file"] for row in rows if row["killed_by"])
    print()
    for file, number in all_of.items():
        print(f"{file:16} {killed[file]:4} of {number:4} killed")
    share = killed.total() / len(rows)
    print(f"{'together':16} {killed.total():4} of {len(rows):4} killed, {share:.1%}")
    return 0 if share >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
