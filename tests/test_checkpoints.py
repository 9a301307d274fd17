"""Checkpoints: any state comes back to the bit, and a kill at any moment leaves a whole one."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import weakref
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import baro.checkpoints
from baro.checkpoints import (
    as_os_error,
    load_checkpoint,
    pack_state,
    read_state,
    save_checkpoint,
    unpack_state,
    write_state,
)
from baro.config import DataConfig
from baro.errors import BackendError, RunError
from baro.runs import RunDir
from baro.tensor_files import NAMES, write_tensors


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run():
    with closing(RunDir.open(Path("run"), verb="sft", config=DataConfig(), inputs={})) as opened:
        yield opened


def bits(tensor: Tensor) -> Tensor:
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)  # reshape(-1) may keep a stride of 2
    return flat.copy_(tensor.detach().reshape(-1)).view(torch.uint8)


def same(a: object, b: object) -> bool:
    """Equal to the bit, types included."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.dtype == b.dtype and a.shape == b.shape
        return alike and (a.numel() == 0 or bits(a).equal(bits(b)))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and repr(a) == repr(b)


STATE = {
    "model": {"a.weight": torch.arange(6.0).reshape(2, 3), "b/bias": torch.zeros(3, dtype=torch.bfloat16)},
    "optimizer": {"state": [{"step": torch.tensor(3.0), "exp_avg": torch.full((2,), 1e-30)}], "lr": 5e-7},
    "source": {"position": 12, "ids": torch.tensor([1, 2], dtype=torch.int64), "seen": [True, None, "바로"]},
    "best": float("inf"),
}


def test_a_checkpoint_comes_back(run):
    assert load_checkpoint(run) is None
    folder = save_checkpoint(run, 7, STATE)
    assert folder == Path("run/checkpoints/step-000007")
    assert sorted(os.listdir(folder)) == [
        "checkpoint.json",
        "model.safetensors",
        "optimizer.safetensors",
        "source.safetensors",
        "state.json",
    ]
    step, state = load_checkpoint(run)
    assert step == 7
    assert same(state, STATE)


def test_what_lies_in_the_files(run):
    folder = save_checkpoint(run, 7, STATE)
    assert json.loads((folder / "state.json").read_text()) == {
        "model": {"a.weight": {"$tensor": "/model/a.weight"}, "b/bias": {"$tensor": "/model/b~1bias"}},
        "optimizer": {
            "state": [
                {"step": {"$tensor": "/optimizer/state/0/step"}, "exp_avg": {"$tensor": "/optimizer/state/0/exp_avg"}}
            ],
            "lr": 5e-7,
        },
        "source": {"position": 12, "ids": {"$tensor": "/source/ids"}, "seen": [True, None, "바로"]},
        "best": {"$float": "inf"},
    }
    assert load_file(folder / "model.safetensors").keys() == {"/model/a.weight", "/model/b~1bias"}
    index = json.loads((folder / "checkpoint.json").read_text())
    assert index["step"] == 7
    assert set(index["files"]) == {"state.json", "model.safetensors", "optimizer.safetensors", "source.safetensors"}


def test_the_newest_are_kept(run):
    for step in (1, 2, 3, 4):
        save_checkpoint(run, step, {"step": step}, keep=3 if step < 4 else 2)
        kept = [path.name for path in run.checkpoint_folders()]
        assert kept == [f"step-{kept:06d}" for kept in range(max(1, 3 if step == 4 else 1), step + 1)]
    assert load_checkpoint(run) == (4, {"step": 4})
    assert sorted(os.listdir(run.checkpoints)) == ["step-000003", "step-000004"]
    with pytest.raises(ValueError, match="keep must be at least 1"):
        save_checkpoint(run, 5, {}, keep=0)


def test_the_same_step_again(run):
    save_checkpoint(run, 1, {"x": 1, "model": {"w": torch.ones(1)}})
    save_checkpoint(run, 1, {"x": 2})
    assert load_checkpoint(run) == (1, {"x": 2})
    assert os.listdir(run.checkpoints) == ["step-000001"]


def test_rows_reach_the_disk_before_their_offset(run, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    run.metrics.append({"step": 1})
    run.samples.append({"step": 1})
    save_checkpoint(run, 1, {"offset": run.metrics.offset})
    names = [Path(path).name for path in synced]
    assert names[:2] == ["metrics.jsonl", "samples.jsonl"]
    assert names[-1] == "checkpoints"
    assert {"state.json", "checkpoint.json"} < set(names)


# -------------------------------------------------------------------------------------------------------- states

dtypes = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]
)
shapes = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def tensors(draw) -> Tensor:
    """Random bits of any type and shape, whole, transposed, strided or a view into something larger."""
    dtype, shape = draw(dtypes), draw(shapes)
    tensor = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))).to(dtype)
    form = draw(st.sampled_from(["whole", "transposed", "strided", "view", "parameter"]))
    if form == "parameter" and tensor.is_floating_point():
        return torch.nn.Parameter(tensor)
    if form == "transposed" and tensor.dim():
        return tensor.permute(*reversed(range(tensor.dim())))
    if form == "strided" and tensor.dim():
        return tensor[::2]
    return torch.stack([tensor, tensor])[1] if form == "view" else tensor


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["$tensor", "$float"])
)
keys = st.text(max_size=4) | st.sampled_from(["$tensor", "$float", "$", "$$x", "a/b", "a~1b", "~", "__metadata__"])
values = st.recursive(
    leaves | tensors(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_state_comes_back(state):
    document, packed = pack_state(state)
    assert same(unpack_state(json.loads(json.dumps(document, allow_nan=False)), packed), state)
    write_state(Path("state.safetensors"), state)
    assert same(read_state(Path("state.safetensors")), state)


@pytest.mark.parametrize(
    "lies", [torch.zeros(4)[::2], torch.zeros(2)[::2], torch.zeros(2, 3).T, torch.zeros(3, 2)[:1, ::2]]
)
def test_any_tensor_comes_back_however_it_lies(lies):
    """Of one number every stride counts as contiguous, and a view of its bytes wants stride 1."""
    values = lies.copy_(torch.arange(float(lies.numel())).view_as(lies))
    write_state(Path("state.safetensors"), {"lies": values})
    assert torch.equal(read_state(Path("state.safetensors"))["lies"], values)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), values, max_size=3))
@settings(max_examples=25, deadline=None)
def test_any_state_comes_back_from_a_checkpoint(state):
    with closing(RunDir.open(Path("run"), verb="sft", config=DataConfig(), inputs={})) as run:
        save_checkpoint(run, 1, state)
        assert same(load_checkpoint(run)[1], state)


def test_tied_weights_come_back_as_one():
    tied = torch.nn.Linear(3, 2, bias=False).weight
    write_state(Path("s"), {"model": {"head": tied, "embedding": tied.detach(), "other": tied.T}})
    model = read_state(Path("s"))["model"]
    assert model["head"] is model["embedding"]
    assert model["head"].equal(tied)
    assert model["other"].equal(tied.T)
    assert not model["head"].requires_grad
    assert Path("s").stat().st_size < 2 * 24 + 400


def test_overlapping_views_come_back_apart():
    whole = torch.arange(10)
    write_state(Path("s"), {"whole": whole, "head": whole[:4], "tail": whole[2:], "same_start": whole[:4].view(2, 2)})
    state = read_state(Path("s"))
    assert {name: tensor.tolist() for name, tensor in state.items()} == {
        "whole": list(range(10)),
        "head": [0, 1, 2, 3],
        "tail": list(range(2, 10)),
        "same_start": [[0, 1], [2, 3]],
    }
    state["whole"].zero_()
    assert state["tail"].tolist() == list(range(2, 10))


def test_a_small_view_does_not_save_what_it_is_a_view_of():
    write_state(Path("s"), {"row": torch.zeros(1000, 100)[3]})
    assert Path("s").stat().st_size < 1000


def test_a_loaded_tensor_outlives_its_file():
    write_state(Path("s"), {"x": torch.ones(3)})
    x = read_state(Path("s"))["x"]
    Path("s").write_bytes(b"")
    assert x.tolist() == [1, 1, 1]
    assert x.data_ptr() % 64 == 0


STRANGE = "is a sparse, quantised, complex or meta tensor; a state's are dense, real and in memory"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"a": (1, 2)}, "state/a is a tuple; a state holds dict, list, str, numbers and tensors"),
        ({"a": [0, {"b": {3}}]}, "state/a/1/b is a set; a state holds dict, list, str, numbers and tensors"),
        ({"a": {0: 1}}, "state/a has the key 0, a int; the keys of a state are str"),
        ({1: 1}, "state has the key 1, a int; the keys of a state are str"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, f"state/a {STRANGE}"),
        ({"a": [torch.zeros(2, device="meta")]}, f"state/a/0 {STRANGE}"),
        ({"a": torch.zeros(2).to_sparse()}, f"state/a {STRANGE}"),
    ],
)
def test_what_a_state_cannot_hold(state, sentence):
    with pytest.raises(TypeError) as raised:
        pack_state(state)
    assert str(raised.value) == sentence


def test_a_key_that_is_no_file_name(run):
    with pytest.raises(TypeError) as raised:
        save_checkpoint(run, 1, {"../x": torch.ones(1)})
    assert str(raised.value) == "state/..~1x names a file; its key must consist of letters, digits, - and _"
    assert load_checkpoint(run) is None


# --------------------------------------------------------------------------------------------- damage, a full disk


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("model.safetensors", flip_last_bit, "model.safetensors is not what was written (its SHA-256 differs)"),
        ("state.json", cut_off, "state.json is not what was written (its SHA-256 differs)"),
        ("source.safetensors", Path.unlink, "source.safetensors is missing"),
        ("checkpoint.json", Path.unlink, "checkpoint.json is missing or damaged"),
        ("checkpoint.json", cut_off, "checkpoint.json is missing or damaged"),
    ],
)
def test_a_damaged_checkpoint_is_named(run, name, damage, problem):
    start = "run/checkpoints/step-000001: "
    save_checkpoint(run, 1, STATE)
    damage(run.checkpoints / "step-000001" / name)
    with pytest.raises(RunError) as raised:
        load_checkpoint(run)
    way_out = "remove this folder and run the same command again to go on from the beginning"
    assert str(raised.value) == f"{start}{problem}; {way_out}"
    save_checkpoint(run, 2, {})
    damage = run.checkpoints / "step-000002" / "state.json"
    damage.write_text("[]")
    with pytest.raises(RunError, match=r"; remove this folder and run .* to go on from step-000001$"):
        load_checkpoint(run)


def test_a_damaged_state_file():
    write_state(Path("s"), STATE)
    cut_off(Path("s"))
    with pytest.raises(RunError, match=r"^s: is damaged \(.*\); remove it and run the same command again$"):
        read_state(Path("s"))


@pytest.mark.parametrize("where", ["fsync", "tensors"])
def test_full_disk(run, monkeypatch, where):
    save_checkpoint(run, 1, STATE)

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync") if where == "fsync" else (baro.checkpoints, "write_tensors")), no_space)
        with pytest.raises(BackendError) as raised:
            save_checkpoint(run, 2, {"model": {"w": torch.ones(1)}}, keep=1)
    assert str(raised.value) == (
        "run/checkpoints/step-000002: cannot be saved because the disk is full; the last checkpoint is intact: free"
        " some space and run the same command again"
    )
    assert os.listdir(run.checkpoints) == ["step-000001"]
    assert same(load_checkpoint(run)[1], STATE)


def test_a_full_disk_in_safetensors_own_words():
    full = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(OSError, match="No space left") as raised, as_os_error():
        raise SafetensorError(full)
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(SafetensorError, match="something else"), as_os_error():
        raise SafetensorError("something else")


def test_tensors_are_written_one_at_a_time(run):
    """Of a model on a GPU, or in shards, one tensor at a time is on the host."""
    made: list[weakref.ref] = []

    def whole(tensor: Tensor) -> Tensor:
        assert sum(one() is not None for one in made) == 0
        copy = tensor.clone()
        made.append(weakref.ref(copy))
        return copy

    state = {"model": {f"w{i}": torch.full((i + 1, 2), float(i)) for i in range(9)}, "optimizer": {"m": torch.ones(3)}}
    save_checkpoint(run, 1, state, whole=whole)
    assert len(made) == 10
    assert same(load_checkpoint(run)[1], state)


def test_any_types_side_by_side_are_read_by_safetensors(tmp_path):
    kinds = {str(kind): torch.tensor([0, 1, 1]).to(kind) for kind in reversed(NAMES)}
    kinds |= {"empty": torch.zeros(0, 3), "number": torch.tensor(2.5), "turned": torch.arange(6).view(2, 3).T}
    written = write_tensors(tmp_path / "t.safetensors", kinds, Tensor.cpu)
    content = (tmp_path / "t.safetensors").read_bytes()
    assert written == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    found = load_file(tmp_path / "t.safetensors")
    assert found.keys() == kinds.keys()
    assert all(same(found[name], tensor) for name, tensor in kinds.items())
    with pytest.raises(TypeError, match=r"z is of type torch\.complex64"):
        write_tensors(tmp_path / "u.safetensors", {"z": torch.zeros(1, dtype=torch.complex64)}, Tensor.cpu)


# ------------------------------------------------------------------------------------------------------- a kill

# before-fsync and after-rename are first reached for run.json, then once for each checkpoint; between-files four times
# a checkpoint; while-deleting once for each of the old one's five files.
KILLS = {
    "before-fsync:2": None,
    "before-fsync:3": 1,
    "between-files:2": None,
    "between-files:5": 1,
    "between-files:8": 1,
    "after-rename:2": 1,
    "after-rename:3": 2,
    "while-deleting:1": 2,
    "while-deleting:5": 2,
}
"""What a kill there leaves as the newest checkpoint."""

PROGRAM = """
import os, sys
from pathlib import Path
import torch
from baro.checkpoints import save_checkpoint
from baro.config import DataConfig
from baro.runs import RunDir

def state(step):
    return {"model": {"w": torch.full((100,), float(step))}, "optimizer": {"m": torch.full((9,), float(step))},
            "source": {"ids": torch.full((3,), step)}, "step": step}

for fault in sys.argv[1:]:
    if os.fork() == 0:
        os.environ["BARO_FAULT"] = fault
        run = RunDir.open(Path(fault), verb="sft", config=DataConfig(), inputs={})
        save_checkpoint(run, 1, state(1), keep=1)
        save_checkpoint(run, 2, state(2), keep=1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """Directories of runs that were killed, each while it saved two checkpoints; named after the fault."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", PROGRAM, *KILLS, "never"]
    process = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    assert process.stdout.split() == [str(-signal.SIGKILL)] * len(KILLS) + ["0"]
    return folder


@pytest.mark.parametrize("fault", [*KILLS, "never"])
def test_a_kill_leaves_the_checkpoint_before_or_the_new_one(killed, fault):
    folder = killed / fault
    with closing(RunDir.open(folder, verb="sft", config=DataConfig(), inputs={}, allow_environment_change=True)) as run:
        loaded, step = load_checkpoint(run), KILLS.get(fault, 2)
        if step is None:
            assert loaded is None
        else:
            assert loaded[0] == loaded[1]["step"] == step
            assert loaded[1]["model"]["w"].tolist() == [step] * 100
            assert loaded[1]["optimizer"]["m"].tolist() == [step] * 9
            assert loaded[1]["source"]["ids"].tolist() == [step] * 3
        assert all(name.startswith("step-") for name in os.listdir(run.checkpoints))
        save_checkpoint(run, 2, {"step": 2}, keep=1)
        assert load_checkpoint(run) == (2, {"step": 2})
        assert os.listdir(run.checkpoints) == ["step-000002"]
