"""Wheels for a machine without a network: ``python -m benchmarks.wheels FOLDER --python 3.12``.

Gathers, at the versions of constraints.txt, what the training commands import beyond torch, transformers and what comes
with them. ``benchmarks.gpu --wheels FOLDER`` takes from it what is not installed there; nothing that is installed is
replaced.
"""

from __future__ import annotations

import argparse
import atexit
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

NEEDED = {
    "peft": "peft",
    "accelerate": "accelerate",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic_core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "typing_extensions": "typing_extensions",
    "jaxtyping": "jaxtyping",
    "wadler_lindig": "wadler_lindig",
    "yaml": "PyYAML",
    "rich": "rich",
    "markdown_it": "markdown-it-py",
    "mdurl": "mdurl",
    "pygments": "Pygments",
    "typer": "typer",
    "annotated_doc": "annotated-doc",
    "shellingham": "shellingham",
    "click": "click",
}
"""The import and the package of each; an import that is there already is left alone."""

PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")


def gather(folder: Path, python: str, machine: str) -> None:
    """Download the wheels into the folder."""
    constraints = Path(__file__).parents[1] / "constraints.txt"
    lines = (line.split("==") for line in constraints.read_text().splitlines() if "==" in line)
    pinned = {_plain(name): f"{name}=={number}" for name, number in lines}
    wanted = [pinned.get(_plain(package), package) for package in NEEDED.values()]
    platforms = [word for one in PLATFORMS for word in ("--platform", f"{one}_{machine}")]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), *target, *wanted]
    subprocess.run(command, check=True)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def use(folder: Path) -> list[str]:
    """Make what is missing importable, from the folder's wheels; the names of what was taken."""
    wheels = {_plain(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    missing = [package for name, package in NEEDED.items() if find_spec(name) is None]
    absent = [package for package in missing if _plain(package) not in wheels]
    if absent:
        raise SystemExit(f"{folder}: no wheel of {', '.join(absent)}; gather them again with benchmarks.wheels")
    if missing:
        target = tempfile.mkdtemp(prefix="wheels-")
        atexit.register(shutil.rmtree, target)
        taken = [str(wheels[_plain(package)]) for package in missing]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target]
        subprocess.run([*command, *taken], check=True)
        sys.path.append(target)
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the wheels go")
    parser.add_argument("--python", default="3.12", help="the other machine's Python")
    parser.add_argument("--machine", default="x86_64", help="its processor")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    gather(arguments.folder, arguments.python, arguments.machine)
    size = sum(path.stat().st_size for path in arguments.folder.glob("*.whl"))
    print(f"{arguments.folder}: {len(list(arguments.folder.glob('*.whl')))} wheels, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
