"""A run is known by all that its result depends on: what its config names, code of one's own, the machine."""

import sys
from contextlib import closing
from pathlib import Path

import pytest

from baro import inputs
from baro.code_hash import hash_module
from baro.config import Config, DataConfig, TrainerConfig, load_config
from baro.declared import Model, Records, declared_keys, inputs_in
from baro.errors import ConfigError, RunError
from baro.inputs import hash_input, open_run, resolve
from baro.runs import RunDir
from baro.verbs import VERBS

LEAST = {
    "base": {"text": "rows.jsonl"},
    "sft": {"policy": "model", "demonstrations": "rows.jsonl"},
    "reward": {"model": "model", "preferences": "rows.jsonl"},
    "cost": {"model": "model", "preferences": "rows.jsonl"},
    "dpo": {"policy": "model", "preferences": "rows.jsonl"},
    "kto": {"policy": "model", "thumbs": "rows.jsonl"},
    "ppo": {"policy": "model", "prompts": "rows.jsonl", "reward_model": "model"},
    "grpo": {"policy": "model", "prompts": "rows.jsonl", "reward_model": "model"},
    "safe-ppo": {
        "policy": "model", "prompts": "rows.jsonl", "reward_model": "model", "cost_model": "model",
        "constraint": {"limit": 0},
    },
    "critique": {"constitution": "general", "policy": "model", "prompts": "rows.jsonl"},
    "generate": {"policy": "model", "prompts": "rows.jsonl"},
    "label": {"answers": "rows.jsonl", "by": "model"},
    "feedback collect": {"answers": "rows.jsonl"},
    "data split": {"file": "rows.jsonl", "hold_out": 1},
    "evaluate": {"policies": {"p": "model"}, "prompts": "rows.jsonl", "against": "base/model"},
    "report": {},
    "verify": {"file": "rows.jsonl", "verifier": "gsm8k"},
}  # fmt: skip
"""What each verb cannot do without."""
ONLINE = ("ppo", "grpo", "safe-ppo")
WRITTEN = {
    "evaluation.rewards": dict.fromkeys(ONLINE, lambda value: [{"by": value}]),
    "rewards": dict.fromkeys(ONLINE, lambda value: [{"by": value}]) | {"evaluate": lambda value: {"r": value}},
    "costs": {"safe-ppo": lambda value: [{"by": value}]},
    "policies": {"evaluate": lambda value: {"p": value}},
    "judges": {"evaluate": lambda value: {"j": value}},
    "best_of": {"evaluate": lambda value: {"n": 2, "by": value}},
    "runs": {"report": lambda value: [value]},
    "choose.rewards": {"feedback collect": lambda value: [value]},
}
"""How a key is written that holds more than one text."""
BESIDE = {
    "evaluation.prompts": {"evaluation": {"judge": "mine_of_inputs:r"}},
    "evaluation.rewards": {"evaluation": {"prompts": "rows.jsonl"}},
    "evaluation.judge": {"evaluation": {"prompts": "rows.jsonl"}},
    "scaled_on": {"by": ["model", "base/model"]},
    "choose.rewards": {"choose": {"policy": "margin", "count": 1}},
    "rewards": {"reward_model": None},
    "costs": {"cost_model": None},
    ("critique", "answers"): {"prompts": None},
    ("label", "constitution"): {"by": None, "labeller": {"by": "mine_of_inputs:r"}},
    ("label", "labeller.model"): {"by": None, "constitution": "general"},
    ("label", "labeller.by"): {"by": None, "constitution": "general"},
    **{("label", f"rubric.{key}"): {"by": None, "rubric": {"criteria": {"kind": "Is it?"}}} for key in ("model", "by")},
    **{("label", f"judge.{key}"): {"by": None} for key in ("model", "by")},
}
"""What stands beside a key, of all verbs or of one."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with rows, two models, and two modules of one's own, one of which imports the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    Path("given.jsonl").write_text('{"prompt": "c", "completion": "d"}\n')
    for name in ("model", "base/model", "given"):
        Path(name).mkdir(parents=True)
        Path(name, "config.json").write_text("{}")
    function = "def r(prompts, **columns):\n    from helper_of_inputs import sign\n    return [sign] * len(prompts)\n"
    Path("mine_of_inputs.py").write_text(function)
    Path("helper_of_inputs.py").write_text("sign = +1\n")
    Path("mine.yaml").write_text("language: en\nprinciples: [{name: kind, principle: {en: Be kind.}}]\n")
    yield
    for name in ("mine_of_inputs", "helper_of_inputs"):
        sys.modules.pop(name, None)


def keys():
    for verb, one in VERBS.items():
        for key, kind, _ in declared_keys(one.load()[0]):
            yield pytest.param(verb, key, kind, id=f"{verb}-{key}")


def a_run(path):
    with closing(RunDir.open(Path(path), verb="generate", config=DataConfig(), inputs={})) as run:
        run.finish()
    return Path(path)


@pytest.mark.parametrize(("verb", "key", "kind"), list(keys()))
def test_whatever_a_config_names_is_a_part_of_its_run_and_its_run_a_parent(verb, key, kind):
    config_class = VERBS[verb].load()[0]
    run = a_run("runs/made")
    value, changed = {
        "records": ("runs/made/records.jsonl", run / "records.jsonl"),
        "model": ("runs/made/model", run / "model" / "config.json"),
        "scorer": ("mine_of_inputs:r", Path("helper_of_inputs.py")),
        "object": ("mine_of_inputs:r", Path("helper_of_inputs.py")),
        "run": ("runs/made", run / "run.json"),
        "constitution": ("mine.yaml", Path("mine.yaml")),
    }[kind]
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    (run / "records.jsonl").write_text("{}\n")
    Path("mine_of_inputs.py").touch()
    beside = BESIDE.get((verb, key), BESIDE.get(key, {}))
    values = LEAST[verb] | beside if (verb, key) != ("evaluate", "rewards") else dict(LEAST[verb])
    *parents, last = key.split(".")
    block = values
    for parent in parents:
        block[parent] = block = dict(block.get(parent, {}))
    block[last] = WRITTEN.get(key, {}).get(verb, lambda value: value)(value)

    def hashes():
        config = load_config(config_class, None, values=values)
        return {one.key: hash_input(one.value, one.kind) for one in inputs_in(config_class, config)}

    before = hashes()
    if kind in ("records", "model"):
        with closing(open_run(verb, load_config(config_class, None, values=values), "out")) as opened:
            assert "runs/made" in opened.manifest["parents"]
    changed.write_text(changed.read_text().replace("+1", "-1") + " ")
    after = hashes()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == [
        one for one in before if one == key or one.startswith(f"{key}.")
    ]


def test_a_changed_function_is_another_run_and_an_unfinished_one_is_not_gone_on_with():
    values = LEAST["ppo"] | {"reward_model": None, "rewards": [{"by": "mine_of_inputs:r"}]}
    config = load_config(VERBS["ppo"].load()[0], None, values=values)
    with closing(open_run("ppo", config, None)) as run:
        (run.path / "rollout.state").write_text("half a run")
    Path("helper_of_inputs.py").write_text("sign = -1\n")
    with pytest.raises(RunError, match=r"input rewards\.0\.by .* \(now "):
        open_run("ppo", config, run.path)
    with closing(open_run("ppo", config, None)) as other:
        assert other.path != run.path


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("import helper_of_inputs", True),
        ("def f():\n    from helper_of_inputs import sign", True),
        ("import deep.inner", True),
        ("from deep import inner", True),
        ("from deep.inner import word", True),
        ("import json, torch", False),
        ("from baro.records import Message", False),
    ],
)
def test_what_a_module_imports_counts_where_it_is_ones_own(source, counts):
    Path("deep").mkdir()
    Path("deep/__init__.py").write_text("")
    Path("deep/inner.py").write_text("from . import other\nword = 1\n")
    Path("deep/other.py").write_text("import helper_of_inputs\n")
    Path("top_of_inputs.py").write_text(source + "\n")
    before = hash_module("top_of_inputs")
    Path("helper_of_inputs.py").write_text("sign = -1\n")
    assert (hash_module("top_of_inputs") != before) is counts
    Path("top_of_inputs.py").write_text(source + "  # changed\n")
    assert hash_module("top_of_inputs") != before
    assert "top_of_inputs" not in sys.modules  # nothing was run


def test_code_that_cannot_be_read():
    Path("top_of_inputs.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=r"top_of_inputs\.py:1: is no valid Python"):
        hash_module("top_of_inputs")
    assert hash_module("no_such_module_at_all") is None
    with pytest.raises(ConfigError, match="write module:NAME"):
        hash_input("rows.jsonl", "object")


class Own(Config):
    """A method's config from outside of the package."""

    policy: Model
    rows: Records
    note: str = ""
    trainer: TrainerConfig = TrainerConfig(learning_rate=1e-3)


def test_a_methods_own_code_is_a_part_of_its_runs():
    with closing(open_run("own", Own(policy="model", rows="rows.jsonl", note="given.jsonl"), "out")) as run:
        assert run.manifest["inputs"].keys() == {"policy", "rows", "method"}
    assert run.manifest["inputs"]["method"] == hash_module(__name__)


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"device": "cuda"}, {"gpu": "another"}, {"cuda": "13.0"}])
def test_another_machine_does_not_go_on_with_a_run(monkeypatch, change):
    was = {"device": "cpu", "dtype": "float32", "gpu": "one", "cuda": "12.0"}
    config = load_config(VERBS["sft"].load()[0], None, values=LEAST["sft"])
    monkeypatch.setattr(inputs, "arithmetic", lambda compute: was)
    open_run("sft", config, "out").close()
    monkeypatch.setattr(inputs, "arithmetic", lambda compute: was | change)
    (name,) = change
    with pytest.raises(RunError, match=rf"started with {name} .*--allow-environment-change"):
        open_run("sft", config, "out")
    open_run("sft", config, "out", allow_environment_change=True).close()


def test_what_computes_stands_in_the_manifest():
    config = load_config(VERBS["sft"].load()[0], None, values=LEAST["sft"] | {"compute": {"device": "cpu"}})
    with closing(open_run("sft", config, "out")) as run:
        environment = run.manifest["environment"]
    assert (environment["device"], environment["dtype"]) == ("cpu", "float32")
    assert {"torch", "transformers", "peft", "tokenizers", "safetensors", "pyarrow"} <= environment.keys()
    split = load_config(VERBS["data split"].load()[0], None, values=LEAST["data split"])
    with closing(open_run("data-split", split, "split")) as run:
        assert "device" not in run.manifest["environment"]  # nothing is computed by a model


def test_a_file_of_a_run_that_is_not_finished_is_refused():
    run = RunDir.open(Path("runs/half"), verb="data-split", config=DataConfig(), inputs={})
    (run.path / "train.jsonl").write_text("{}\n")
    with closing(run), pytest.raises(RunError, match="runs/half: this run is running, not finished"):
        resolve("runs/half/train.jsonl", "records")
