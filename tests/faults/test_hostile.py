"""Hostile programs score 0, their twins 1; nothing of them is left; started by root and by an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import ATTACKS, SCRIPTS

SOURCE = Path(__file__).parents[2] / "src" / "baro"
LIMITS = {
    "hostile": {"cpu_seconds": 1, "deadline_seconds": 4.0, "memory_mb": 256},
    "twin": {"cpu_seconds": 4, "deadline_seconds": 60.0, "memory_mb": 256},  # it ends by itself, on a slow machine too
}
SLACK = 12.0  # of seconds, for a machine that does other things as well
NOBODY = 65534
LEFT_BEHIND = (
    "/baro_was_here.py",
    "/usr/baro_was_here.py",
    "/usr/bin/baro_was_here.py",
    os.path.expanduser("~root/baro_was_here.py"),
)
TEMPORARY = ("a", "left", "note", "mine.py", "conftest.py", "sitecustomize.py")


def for_all(path: Path) -> bool:
    """Whether any user may run or read it."""
    return all(one.stat().st_mode & 0o001 for one in path.parents) and bool(path.stat().st_mode & 0o005)


def python_for_all() -> str | None:
    names = (os.path.realpath(sys.executable), shutil.which(f"python3.{sys.version_info[1]}", path="/usr/bin"))
    return next((one for one in names if one and for_all(Path(os.path.realpath(one)))), None)


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    """The sandbox and this folder's programs where any user may read them."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "baro" / "rewards").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("hostile_run.py"), folder)
    for name in ("__init__.py", "errors.py", "rewards/__init__.py", "rewards/sandbox*.py"):
        for path in SOURCE.glob(name):
            shutil.copy(path, folder / path.relative_to(SOURCE.parent))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["root", "user"])
def run(request: pytest.FixtureRequest, copy: Path, sandbox_holds: None) -> Any:
    """Runs programs in a pool that the named user starts; once for all tests of this module."""
    env = {"PATH": os.environ["PATH"], "HOME": str(copy), "BARO_SECRET": "hf_secret"}
    started: dict[str, Any] = {}
    if request.param == "root":
        if os.getuid() != 0:
            pytest.skip("only root can start it as root")
        command = [sys.executable]
    else:
        command = [sys.executable if os.getuid() else python_for_all()]
        started = {} if os.getuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        assert command[0], "no Python here that an ordinary user may run"

    def ran(which: str) -> dict[str, Any]:
        checked = [{"program": getattr(one, which), "tests": one.tests} for one in ATTACKS]
        scripts = [{"program": one[1 + (which == "twin")], "given": "3\n"} for one in SCRIPTS]
        asked = json.dumps({"limits": LIMITS[which], "checked": checked, "scripts": scripts})
        told = subprocess.run(
            [*command, copy / "hostile_run.py", copy], input=asked, capture_output=True, text=True, timeout=120,
            check=False, env=env, cwd=copy, **started,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        found = json.loads(told.stdout)
        assert (found["uid"] == 0) == (request.param == "root")
        return found

    return ran


def test_there_are_enough_of_them():
    names = [one.name for one in ATTACKS]
    assert len(set(names)) == len(names) >= 60


def test_the_documentation_lists_each_of_them():
    said = (SOURCE.parents[1] / "docs" / "rewards.md").read_text()
    assert [one.name for one in ATTACKS if one.name not in said] == []
    assert f"{len(ATTACKS)} programs" in said


@pytest.mark.parametrize("which", ["hostile", "twin"])
def test_attacks_score_0_and_their_twins_1(run, which):
    start = time.time()
    before = {path: sorted(os.listdir(path)) for path in ("/", "/usr") if os.path.isdir(path)}
    found = run(which)
    right = [
        (one[0] is True) and (not scripted or one[3].strip() == "6")
        for scripted, one in zip([False] * len(ATTACKS) + [True] * len(SCRIPTS), found["outcomes"], strict=True)
    ]
    names = [one.name for one in ATTACKS] + [one[0] for one in SCRIPTS]
    told = dict(zip(names, found["outcomes"], strict=True))
    strange = {name: told[name] for name, one in zip(names, right, strict=True) if one != (which == "twin")}
    assert strange == {}, strange
    assert {name: one for name, one in told.items() if one[2] is not None} == {}, "an error is no score"
    late = {name: one for name, one in told.items() if one[4] > LIMITS[which]["deadline_seconds"] + SLACK}
    assert late == {}
    assert found["same server"], "one of them ended the pool"
    assert (found["left"], found["strange"]) == (0, []), "processes are left"
    assert {path: sorted(os.listdir(path)) for path in before} == before
    assert not [path for path in LEFT_BEHIND if os.path.exists(path)]
    new = [one for one in TEMPORARY if os.path.exists(f"/tmp/{one}") and os.stat(f"/tmp/{one}").st_mtime > start]
    assert new == []
