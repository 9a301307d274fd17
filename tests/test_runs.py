"""Run directories: what is killed, full, changed or shared by mistake."""

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field

import baro.files
import baro.runs
from baro.config import NO_EFFECT, Config, DataConfig, TrainerConfig
from baro.errors import BackendError, ConfigError, DataError, RunError
from baro.files import atomic_directory, fault_point, hash_path, remove_leftovers, write_atomic
from baro.rows import JsonLines
from baro.runs import RunDir, default_out

ENVIRONMENT = {"python": "3.11.2", "torch": "2.13.0", "threads": 2, "platform": "Linux"}
HASH = "0123456789abcdef" * 4
WAY_OUT = "go back to that, or choose another --out"


class Toy(Config):
    beta: float = 0.1
    seed: int = 0
    block: DataConfig = DataConfig()
    note: str = Field("", json_schema_extra=NO_EFFECT)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baro.runs, "_environment", lambda: dict(ENVIRONMENT))


def begin(path: str | Path = "run", config: Config | None = None, **changed) -> RunDir:
    wanted = {"verb": "dpo", "inputs": {"preferences": HASH}, **changed}
    return RunDir.open(Path(path), config=config or Toy(), **wanted)


def refusal(**changed) -> str:
    with pytest.raises(RunError) as raised:
        begin(**changed)
    return str(raised.value)


def killed_at(fault: str, program: str) -> bool:
    """Run a program with a fault set; whether it was killed there."""
    environment = {**os.environ, "BARO_FAULT": fault}
    process = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# ---------------------------------------------------------------------------------------------- files and folders


def test_write_atomic():
    write_atomic(Path("a.txt"), "자")
    assert Path("a.txt").read_bytes() == b"\xec\x9e\x90"
    write_atomic(Path("a.txt"), b"new")
    assert Path("a.txt").read_bytes() == b"new"
    assert os.listdir() == ["a.txt"]


def test_atomic_directory_replaces_an_older_one():
    for content in ("old", "new"):
        with atomic_directory(Path("model")) as folder:
            (folder / "nested").mkdir()
            (folder / "nested" / content).write_text(content)
    assert [path.as_posix() for path in sorted(Path().rglob("*"))] == ["model", "model/nested", "model/nested/new"]


def test_atomic_directory_leaves_nothing_of_an_error():
    def fail_half_way() -> None:
        with atomic_directory(Path("model")) as folder:
            (folder / "weights").write_text("half")
            raise ZeroDivisionError

    Path("model").mkdir()
    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert os.listdir() == ["model"]
    assert os.listdir("model") == []


FILE = "from pathlib import Path; from baro.files import *; write_atomic(Path('a'), 'new')"
FOLDER = """
from pathlib import Path
from baro.files import *
with atomic_directory(Path('a')) as folder:
    (folder / 'x').write_text('new')
"""


@pytest.mark.parametrize(
    ("fault", "left"), [("before-fsync", "old"), ("after-rename", "new"), ("after-rename:2", "new")]
)
def test_a_killed_write_leaves_the_old_file_or_the_new(fault, left):
    Path("a").write_text("old")
    assert killed_at(fault, FILE) == (fault != "after-rename:2")
    assert Path("a").read_text() == left
    remove_leftovers(Path())
    assert os.listdir() == ["a"]


@pytest.mark.parametrize(
    ("fault", "left"), [("before-fsync", "old"), ("between-renames", "old"), ("after-rename", "new")]
)
def test_a_killed_folder_is_the_old_one_or_the_new(fault, left):
    Path("a").mkdir()
    Path("a/x").write_text("old")
    assert killed_at(fault, FOLDER)
    remove_leftovers(Path())
    assert Path("a/x").read_text() == left
    assert os.listdir() == ["a"]


def test_fault_point_counts(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda process, number: killed.append(number))
    monkeypatch.setenv("BARO_FAULT", "here:3")
    monkeypatch.setattr(baro.files, "_reached", baro.files.Counter())
    for _ in range(4):
        fault_point("there")
        fault_point("here")
        killed.append(None)
    assert killed == [None, None, signal.SIGKILL, None, None]


def test_full_disk(monkeypatch):
    Path("a.txt").write_text("old")
    monkeypatch.setattr(os, "fsync", no_space)
    sentence = (
        "cannot be saved because the disk is full; the last checkpoint is intact: free some space and run the same"
        " command again"
    )
    with pytest.raises(BackendError) as raised:
        write_atomic(Path("a.txt"), "new")
    assert str(raised.value) == f"a.txt: {sentence}"
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(BackendError) as raised, atomic_directory(Path("model")) as folder:
        (folder / "weights").write_text("x")
    assert str(raised.value) == f"model: {sentence}"
    assert os.listdir() == ["a.txt"]
    assert Path("a.txt").read_text() == "old"


def test_full_disk_while_a_row_is_written(monkeypatch):
    rows = JsonLines(Path("metrics.jsonl"))
    monkeypatch.setattr("builtins.open", no_space)
    with pytest.raises(BackendError, match=r"^metrics\.jsonl: cannot be saved because the disk is full; "):
        rows.append({"step": 1})


def test_other_disk_errors_stay_what_they_are(monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(Path("a.txt"), "x")


def test_hash_of_a_file():
    Path("abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert hash_path(Path("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hash_of_a_folder_knows_names_and_contents():
    for folder, name, content in [("a", "x/y", "1"), ("b", "x/y", "1"), ("c", "x/z", "1"), ("d", "x/y", "2")]:
        Path(folder, "x").mkdir(parents=True)
        Path(folder, name).write_text(content)
    a, b, c, d = (hash_path(Path(name)) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3
    # printf 1 > x/y; sha256sum x/y | sha256sum
    assert a == "2280eb818e2f2563580b84ddd2f156b9f61b08f6a4c11acd087fba0f8eb2eb5b"


def test_hash_of_nothing():
    with pytest.raises(ConfigError) as raised:
        hash_path(Path("nope"))
    assert str(raised.value) == "nope: there is no such file or folder; check the path"


def test_default_out():
    assert default_out("dpo", "1a2b3c4d") == Path("runs/dpo-1a2b3c4d")


# ----------------------------------------------------------------------------------------------------------- rows


def test_rows():
    rows = JsonLines(Path("m.jsonl"))
    assert (rows.offset, rows.read()) == (0, [])
    rows.append({"step": 1, "text": "바로\u2028\n"})
    assert rows.offset == len('{"step": 1, "text": "바로\u2028\\n"}\n'.encode())
    rows.append({"step": 2, "half": "\ud83d"})
    rows.sync()
    expected = [{"step": 1, "text": "바로\u2028\n"}, {"step": 2, "half": "\ud83d"}]
    assert rows.read() == expected


def test_figures_that_are_no_numbers_are_null():
    rows = JsonLines(Path("m.jsonl"))
    rows.append({"loss": float("nan"), "nested": {"kl": [float("inf"), 1.5]}})
    assert rows.path.read_text() == '{"loss": null, "nested": {"kl": [null, 1.5]}}\n'


def test_rows_are_cut_back_to_an_offset():
    rows = JsonLines(Path("m.jsonl"))
    rows.append({"step": 1})
    offset = rows.offset
    rows.append({"step": 2})
    rows.truncate(offset)
    rows.truncate(offset)
    rows.append({"step": 3})
    assert rows.read() == [{"step": 1}, {"step": 3}]
    rows.truncate(0)
    assert rows.read() == []
    JsonLines(Path("none.jsonl")).truncate(0)
    with pytest.raises(RunError) as raised:
        rows.truncate(9)
    assert str(raised.value) == (
        "m.jsonl: 0 bytes are left of the 9 that its checkpoint knows; the file was changed after the run wrote it,"
        " so start again with another --out"
    )


def test_a_row_that_is_just_being_written_is_not_read():
    Path("m.jsonl").write_text('{"step": 1}\n{"st')
    assert JsonLines(Path("m.jsonl")).read() == [{"step": 1}]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": 1}\n\n{"a": 2\n', "m.jsonl:3: not a row (Expecting ',' delimiter: line 1 column 8 (char 7))"),
        (b"{}\n[1]\n", "m.jsonl:2: not a row (not an object)"),
        (
            b"\xff\xfe\n",
            "m.jsonl:1: not a row ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)",
        ),
    ],
)
def test_broken_rows(content, problem):
    Path("m.jsonl").write_bytes(content)
    with pytest.raises(DataError) as raised:
        JsonLines(Path("m.jsonl")).read()
    assert str(raised.value) == f"{problem}; write one JSON object on each line"


# ------------------------------------------------------------------------------------------------ a run directory


def test_a_new_run_says_what_it_is():
    with closing(begin(parents=[Path("runs/sft-1")])) as run:
        written = json.loads(Path("run/run.json").read_text())
        assert written == run.manifest
        started = written.pop("started")
        assert written == {
            "format": 1,
            "verb": "dpo",
            "config": {
                "beta": 0.1,
                "seed": 0,
                "block": DataConfig().model_dump(mode="json"),
                "note": "",
            },
            "seed": 0,
            "inputs": {"preferences": HASH},
            "parents": ["runs/sft-1"],
            "environment": ENVIRONMENT,
            "status": "running",
            "finished": None,
        }
        assert started.endswith("+00:00")
        assert not run.finished
        assert run.verb == "dpo"
        assert run.latest_checkpoint is None
        assert run.checkpoints.is_dir()
        assert (run.model, run.records) == (Path("run/model"), Path("run/records.jsonl"))


def test_the_seed_is_the_trainer_s_where_there_is_one():
    class Trained(Config):
        trainer: TrainerConfig = TrainerConfig(learning_rate=1, seed=7)

    with closing(begin(config=Trained())) as run:
        assert run.manifest["seed"] == 7
    with closing(begin("other", config=DataConfig())) as run:
        assert run.manifest["seed"] is None


def test_environment(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    environment = baro.runs._environment()
    assert environment["threads"] == 3
    assert environment["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert {name: environment[name] for name in ("torch", "transformers", "tokenizers", "numpy", "baro")} == {
        name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "baro")
    }


def test_torch_tells_its_own_thread_count(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(get_num_threads=lambda: 5))
    environment = baro.runs._environment()
    assert environment["torch_threads"] == 5
    assert "threads" not in environment


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_an_unfinished_run_is_taken_up_again(end):
    with closing(begin()) as run:
        run.metrics.append({"step": 1})
        started = run.manifest["started"]
        if end == "stopped":
            run.finish("stopped")
            assert RunDir.load(Path("run")).manifest["status"] == "stopped"
    with open("run/metrics.jsonl", "a") as file:
        file.write('{"half')
    Path("run/.model.99.partial").mkdir()
    Path("run/checkpoints/.step-000001.99.partial").write_text("half")
    with closing(begin()) as run:
        assert not run.finished
        assert (run.manifest["status"], run.manifest["started"]) == ("running", started)
        assert run.metrics.read() == [{"step": 1}]
        assert run.metrics.offset == 12
        assert sorted(os.listdir("run")) == ["checkpoints", "metrics.jsonl", "run.json", "run.lock"]
        assert os.listdir("run/checkpoints") == []


def test_a_finished_run_says_so_whatever_the_versions_are_now(monkeypatch):
    begin().finish()
    monkeypatch.setattr(baro.runs, "_environment", lambda: {**ENVIRONMENT, "torch": "3.0"})
    before = Path("run/run.json").read_bytes()
    run, again = begin(), begin()  # it holds no lock
    assert run.finished
    assert again.finished
    assert run.manifest["finished"].endswith("+00:00")
    assert Path("run/run.json").read_bytes() == before


@pytest.mark.parametrize("status", ["stopped", "finished"])
def test_another_config_or_data_is_refused(status):
    run = begin()
    run.metrics.append({"step": 1})
    run.finish(status)
    start = "run: this run was started with"
    assert refusal(config=Toy(beta=0.2)) == f"{start} beta 0.1 (now 0.2); {WAY_OUT}"
    assert refusal(config=Toy(seed=1, block={"template": "none"})) == (
        f'{start} seed 0 (now 1), block.template "auto" (now "none"); {WAY_OUT}'
    )
    assert refusal(verb="sft") == f'{start} verb "dpo" (now "sft"); {WAY_OUT}'
    assert refusal(inputs={"preferences": "f" * 64}) == (
        f'{start} input preferences "0123456789abcdef" (now "ffffffffffffffff"); {WAY_OUT}'
    )
    assert refusal(inputs={}) == (f'{start} input preferences "0123456789abcdef" (now not set); {WAY_OUT}')
    keys = len(DataConfig.model_fields)
    assert refusal(config=DataConfig(), inputs={}).count("(now ") == 4 + 2 * keys  # beta, seed, note, data; block, now
    named = {"preferences": HASH, "rewards": "object judges:gold"}
    run = begin("other", inputs=named)
    run.metrics.append({"step": 1})
    run.finish(status)
    assert refusal(path="other", inputs={**named, "rewards": "object judges:goal"}) == (
        f'other: this run was started with input rewards "object judges:gold" (now "object judges:goal"); {WAY_OUT}'
    )


def test_a_run_that_has_made_nothing_is_begun_anew():
    begin().close()
    Path("run/ledger.json").write_text("{}")
    with closing(begin(config=Toy(beta=0.2), inputs={"preferences": "f" * 64})) as run:
        assert (run.manifest["config"]["beta"], run.manifest["inputs"]) == (0.2, {"preferences": "f" * 64})
        assert sorted(os.listdir("run")) == ["checkpoints", "run.json", "run.lock"]
    Path("run/checkpoints/step-000001").mkdir()
    assert refusal() == (
        'run: this run was started with beta 0.2 (now 0.1), input preferences "ffffffffffffffff"'
        f' (now "0123456789abcdef"); {WAY_OUT}'
    )


def test_what_has_no_effect_may_change():
    begin().close()
    with closing(begin(config=Toy(note="changed"))) as run:
        assert run.manifest["config"]["note"] == "changed"


def test_another_environment_is_refused_unless_allowed(monkeypatch):
    begin().close()
    changed = {**ENVIRONMENT, "torch": "2.14.0", "threads": 4, "platform": "another kernel"}
    monkeypatch.setattr(baro.runs, "_environment", lambda: changed)
    assert refusal() == (
        'run: this run was started with torch "2.13.0" (now "2.14.0"), threads 2 (now 4), so it would not go on bit for'
        " bit; go back to that, or pass --allow-environment-change"
    )
    with closing(begin(allow_environment_change=True)) as run:
        assert run.manifest["environment"] == changed
        assert run.manifest["earlier_environments"] == [ENVIRONMENT]
    begin().close()


def test_a_refused_directory_is_free_again():
    begin().finish()
    refusal(config=Toy(beta=3))
    with closing(begin()) as run:
        assert run.finished


def test_other_directories_are_refused():
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("mine")
    assert refusal(path="notes") == "notes: is not empty and not a run directory (it has a.txt); choose another --out"
    assert os.listdir("notes") == ["a.txt"]
    Path("file").write_text("")
    assert refusal(path="file") == "file: cannot be a run directory (File exists); choose another --out"
    with pytest.raises(RunError) as raised:
        RunDir.load(Path("notes"))
    assert str(raised.value) == "notes: is not a run directory (it has no run.json); check the path"


def test_another_format_is_refused():
    begin().close()
    manifest = json.loads(Path("run/run.json").read_text())
    manifest["environment"]["baro"] = "9.1"
    Path("run/run.json").write_text(json.dumps({**manifest, "format": 2}))
    assert refusal() == (
        "run: is of format 2 and this version of baro reads format 1; use baro 9.1, which wrote it, or run the stage"
        " again with another --out"
    )
    Path("run/run.json").write_text("{")
    assert refusal().startswith("run/run.json: is damaged (Expecting property name")


def test_two_processes_cannot_share_a_directory():
    with closing(begin()):
        alone = f"run: process {os.getpid()} is at work here; wait for it, or choose another --out"
        assert refusal() == alone
        assert RunDir.load(Path("run")).manifest["status"] == "running"  # reading is allowed
    begin().close()


def test_a_killed_process_frees_its_directory():
    program = (
        "import time; from pathlib import Path; from baro.config import DataConfig; from baro.runs import RunDir\n"
        "run = RunDir.open(Path('run'), verb='dpo', config=DataConfig(), inputs={}); print('open', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        assert f"process {process.pid} is at work here" in refusal(config=DataConfig(), inputs={})
        process.kill()
    begin(config=DataConfig(), inputs={}, allow_environment_change=True).close()


def test_a_run_killed_while_it_is_created_is_created_again():
    program = (
        "from pathlib import Path; from baro.config import DataConfig; from baro.runs import RunDir\n"
        "RunDir.open(Path('run'), verb='dpo', config=DataConfig(), inputs={})"
    )
    assert killed_at("before-fsync", program)
    assert not Path("run/run.json").exists()
    begin(config=DataConfig(), inputs={}).close()


def test_checkpoints_are_ordered_by_number():
    with closing(begin()) as run:
        for step in (1_000_000, 20, 999_999):
            (run.checkpoints / f"step-{step:06d}").mkdir()
        assert [path.name for path in run.checkpoint_folders()] == ["step-000020", "step-999999", "step-1000000"]
        assert run.latest_checkpoint == Path("run/checkpoints/step-1000000")


def test_a_package_that_is_not_there_has_no_version(monkeypatch):
    """Baro runs from its source on a machine that has torch and transformers only."""

    def missing(package):
        if package in ("baro", "pyarrow"):
            raise baro.runs.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.undo()
    monkeypatch.setattr(baro.runs, "version", missing)
    known = baro.runs._environment()
    assert (known["baro"], known["pyarrow"], known["torch"]) == (None, None, "1.0")
