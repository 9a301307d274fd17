"""Configs: what is read, what is refused, and the exact sentence with which it is refused."""

import hashlib
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest
from pydantic import Field, ValidationError

import baro
from baro.compute import ComputeConfig, LoraConfig
from baro.config import (
    MAY_REPEAT,
    NO_EFFECT,
    Config,
    DataConfig,
    SamplingConfig,
    TrainerConfig,
    config_hash,
    identity,
    load_config,
)
from baro.errors import ConfigError
from baro.evaluate import report_stage
from baro.online_config import RolloutConfig
from baro.records import SamplingParams


class Reward(Config):
    by: str
    weight: float = 1.0


class Toy(Config):
    """A method's config with everything that can go wrong in one."""

    policy: str = Field(description="the model to train")
    rewards: str | list[str | Reward] = "length"
    beta: float = 0.1
    group_size: int | None = None
    reference_free: bool = False
    lengths: list[int] = Field(default_factory=list)
    trainer: TrainerConfig = TrainerConfig(learning_rate=5e-7, epochs=3, batch_size=16)
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig(temperature=0.7))
    out: str | None = Field(None, json_schema_extra=NO_EFFECT)


@pytest.fixture
def yaml_file(tmp_path, monkeypatch):
    """Write dpo.yaml into the working directory, so that errors begin with its bare name."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> Path:
        path = Path("dpo.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path: Path | None, *overrides: str, cls: type[Config] = Toy, **values: object) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(cls, path, overrides, values)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return str(raised.value)


def test_file_then_overrides_then_values(yaml_file):
    path = yaml_file("policy: a\nbeta: 0.2\ntrainer:\n  seed: 1\n  batch_size: 8\n")
    config = load_config(Toy, path, ["beta=0.3", "trainer.seed=2", "lengths=[1, 2]"], {"trainer": {"warmup_steps": 5}})
    assert (config.policy, config.beta, config.lengths) == ("a", 0.3, [1, 2])
    assert (config.trainer.seed, config.trainer.batch_size, config.trainer.warmup_steps) == (2, 8, 5)
    assert load_config(Toy, path, ["beta=0.3"], {"beta": 0.4}).beta == 0.4
    assert load_config(Toy, path, ["trainer={seed: 7}"]).trainer.batch_size == 8  # blocks are joined, not replaced
    assert load_config(Toy, None, ["policy=x", "beta=1", "beta=2"]).beta == 2.0


def test_empty_file_and_no_file(yaml_file):
    assert load_config(DataConfig, yaml_file("# nothing\n")) == DataConfig() == load_config(DataConfig, None)


def test_a_block_given_in_part_keeps_the_method_s_defaults(yaml_file):
    path = yaml_file("policy: a\ntrainer: {seed: 3}\nsampling: {top_k: 5}\n")
    config = load_config(Toy, path)
    assert (config.trainer.learning_rate, config.trainer.epochs, config.trainer.batch_size) == (5e-7, 3.0, 16)
    assert (config.sampling.temperature, config.sampling.top_k) == (0.7, 5)
    assert Toy(policy="a", trainer={"seed": 3}) == Toy(policy="a", trainer=config.trainer)


def test_steps_take_the_place_of_the_method_s_epochs():
    config = load_config(Toy, None, ["policy=a", "trainer.steps=10"])
    assert (config.trainer.steps, config.trainer.epochs, config.trainer.learning_rate) == (10, None, 5e-7)
    assert TrainerConfig(learning_rate=1).epochs == 1.0
    assert TrainerConfig(learning_rate=1, epochs=None, steps=None).epochs == 1.0


@pytest.mark.parametrize(
    ("written", "read"),
    [("5e-7", 5e-7), ("'5e-7'", 5e-7), ("1.0e-5", 1e-5), (".5", 0.5), ("2", 2.0), ("+1E3", 1000.0), ("1_000", 1000.0)],
)
def test_learning_rates_as_people_write_them(yaml_file, written, read):
    path = yaml_file(f"learning_rate: {written}\n")
    assert load_config(TrainerConfig, path).learning_rate == read
    assert load_config(TrainerConfig, None, [f"learning_rate={written}"]).learning_rate == read


@pytest.mark.parametrize("written", ["no", "off", "2024-01-01", "12:30:45", "010", "none"])
def test_plain_words_stay_text(yaml_file, written):
    assert load_config(Toy, yaml_file(f"policy: {written}\n")).policy == written


def test_booleans(yaml_file):
    for written, read in [("true", True), ("False", False), ("yes", True), ("off", False)]:
        assert load_config(Toy, yaml_file(f"policy: a\nreference_free: {written}\n")).reference_free is read


def test_anchors_and_merges(yaml_file):
    path = yaml_file("policy: &name a\nrewards: [*name, {by: *name}]\ntrainer: {<<: {seed: 4}, batch_size: 2}\n")
    config = load_config(Toy, path, ["trainer.seed=5"])
    assert config.rewards == ["a", Reward(by="a")]
    assert (config.trainer.seed, config.trainer.batch_size) == (5, 2)


# ------------------------------------------------------------------------------------------------ errors of a key


def test_unknown_key_names_the_nearest(yaml_file):
    assert refusal(yaml_file("policy: a\nbeat: 0.3\n")) == "dpo.yaml:2: unknown key 'beat'; did you mean 'beta'?"
    nested = yaml_file("policy: a\ntrainer:\n  seed: 1\n  learnig_rate: 1e-5\n")
    assert refusal(nested) == "dpo.yaml:4: unknown key 'trainer.learnig_rate'; did you mean 'trainer.learning_rate'?"
    in_list = yaml_file("policy: a\nrewards:\n- x\n- by: y\n  wieght: 2\n")
    assert refusal(in_list) == "dpo.yaml:5: unknown key 'rewards.1.wieght'; did you mean 'rewards.1.weight'?"


def test_unknown_key_that_belongs_into_a_block(yaml_file):
    path = yaml_file("policy: a\nlearning_rate: 1e-5\n")
    assert refusal(path) == "dpo.yaml:2: unknown key 'learning_rate'; did you mean 'trainer.learning_rate'?"


def test_unknown_key_like_no_other(yaml_file):
    assert refusal(yaml_file("zzzz: 1\n"), cls=DataConfig) == (
        "dpo.yaml:1: unknown key 'zzzz'; the keys here are max_length, max_dropped_fraction, encoding, "
        "template, system, criteria, ignore"
    )


def test_missing_keys(yaml_file):
    sentence = "the key 'policy' is missing (the model to train); add it, or pass --set policy=VALUE"
    assert refusal(yaml_file("beta: 1\n")) == f"dpo.yaml: {sentence}"
    assert refusal(None) == sentence
    assert (
        refusal(yaml_file("policy: a\nrewards:\n- weight: 2\n"))
        == "dpo.yaml:3: the key 'rewards.0.by' is missing; add it"
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("beta: high", "'beta' must be a number, not the text 'high'"),
        ("beta: true", "'beta' must be a number, not true"),
        ("beta: [1]", "'beta' must be a number, not a list"),
        ("beta: null", "'beta' must be a number, not null"),
        ("beta: .inf", "'beta' must be a finite number, not Infinity"),
        ("group_size: '8'", "'group_size' must be a whole number, not the text '8'"),
        ("group_size: 1.5", "'group_size' must be a whole number, not 1.5"),
        ("group_size: true", "'group_size' must be a whole number, not true"),
        ("reference_free: 3", "'reference_free' must be true or false, not 3"),
        ("lengths: 3", "'lengths' must be a list, not 3"),
        ("lengths: [1, x]", "'lengths.1' must be a whole number, not the text 'x'"),
        ("trainer: 5", "'trainer' must be a block of keys, not 5"),
        ("rewards: {a: 1}", "'rewards' must be text or a list, not a block of keys"),
        ("rewards: [4]", "'rewards.0' must be text or a block of keys, not 4"),
        ("out: 7", "'out' must be text, not 7; put it in quotes if it is meant as text"),
        ("7: 7", "'7' must be text, not 7; put it in quotes if it is meant as text"),
        ("beta: " + "x" * 70, "'beta' must be a number, not the text '" + "x" * 57 + "...'"),
        ("trainer: {learning_rate: 0}", "'trainer.learning_rate' must be greater than 0, not 0"),
        ("trainer: {batch_size: 0}", "'trainer.batch_size' must be at least 1, not 0"),
        ("trainer: {held_out_fraction: 1}", "'trainer.held_out_fraction' must be less than 1, not 1"),
        ("sampling: {top_p: 2}", "'sampling.top_p' must be at most 1, not 2"),
        (
            "trainer: {schedule: cosin}",
            "'trainer.schedule' must be 'constant', 'linear' or 'cosine', not the text 'cosin'; did you mean 'cosine'?",
        ),
        (
            "trainer: {steps: 5, epochs: 2}",
            "'trainer': epochs and steps are both given; keep one (the other may be null)",
        ),
        (
            "trainer: {held_out: a, held_out_fraction: 0.1}",
            "'trainer': held_out and held_out_fraction are both given; keep one",
        ),
        (
            "trainer: {keep: best}",
            "'trainer': keep: best needs held-out rows; give held_out or held_out_fraction",
        ),
    ],
)
def test_wrong_values(yaml_file, line, sentence):
    place = "dpo.yaml" if line.startswith("7") else "dpo.yaml:2"  # a key that is no text has no line
    assert refusal(yaml_file(f"policy: a\n{line}\n")) == f"{place}: {sentence}"


def test_minibatches_that_would_be_empty():
    sentence = "2 completions cannot be cut into 3 minibatches; lower minibatches"
    assert refusal(None, "prompts=2", "minibatches=3", cls=RolloutConfig) == sentence


def test_all_problems_the_first_in_the_file_first(yaml_file):
    path = yaml_file("trainer:\n  seed: x\n  sed: 1\nbeta: y\n")
    assert refusal(path, "group_size=z", lengths=0).split("\n") == [
        "dpo.yaml:2: 'trainer.seed' must be a whole number, not the text 'x'",
        "dpo.yaml:3: unknown key 'trainer.sed'; did you mean 'trainer.seed'?",
        "dpo.yaml:4: 'beta' must be a number, not the text 'y'",
        "--set group_size=z: 'group_size' must be a whole number, not the text 'z'",
        "'lengths' must be a list, not 0",
        "dpo.yaml: the key 'policy' is missing (the model to train); add it, or pass --set policy=VALUE",
    ]


# ------------------------------------------------------------------------------------------- errors of an override


def test_errors_of_overrides(yaml_file):
    path = yaml_file("policy: a\nbeta: x\n")
    assert refusal(path, "beta=y") == "--set beta=y: 'beta' must be a number, not the text 'y'"
    assert refusal(path, "beta=1", "trainer.sed=1") == (
        "--set trainer.sed=1: unknown key 'trainer.sed'; did you mean 'trainer.seed'?"
    )
    assert refusal(path, "policy.x=1") == (
        "--set policy.x=1: 'policy' is the text 'a' and has no keys; set all of 'policy' at once"
    )
    no_assignment = "this is no assignment; write --set KEY=VALUE or --set BLOCK.KEY=VALUE"
    for override in ("beta", "=1", "trainer.=1"):
        assert refusal(path, override) == f"--set {override}: {no_assignment}"
    assert refusal(path, "beta=[1") == (
        "--set beta=[1: this is not valid YAML (while parsing a flow sequence, expected ',' or ']', but got"
        " '<stream end>'); check indentation, colons and quotes"
    )


# ------------------------------------------------------------------------------------------------ errors of a file


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("policy: a\n trainer:\n", 2, "mapping values are not allowed here"),
        ("policy: [a\nbeta: 1\n", 2, "while parsing a flow sequence, expected ',' or ']', but got ':'"),
        ("a:\n\tb: 1\n", 2, "while scanning for the next token, found character '\\t' that cannot start any token"),
        ("a: 1\n---\na: 2\n", 2, "expected a single document in the stream, but found another document"),
        (
            "a: !!python/name:x y\n",
            1,
            "could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:x'",
        ),
        (b"policy: a\nbeta: \xff\n", 2, "it is not plain UTF-8 text"),
        (b"\x7fELF\x00\x01\n\x02", 1, "it is not plain UTF-8 text"),
    ],
)
def test_broken_yaml(yaml_file, content, line, problem):
    expected = f"dpo.yaml:{line}: this is not valid YAML ({problem}); check indentation, colons and quotes"
    assert refusal(yaml_file(content)) == expected


def test_duplicate_keys(yaml_file):
    path = yaml_file("policy: a\ntrainer:\n  seed: 1\n  batch_size: 2\n  seed: 3\n")
    assert refusal(path) == "dpo.yaml:5: the key 'trainer.seed' stands in line 3 too; keep one"


def test_not_a_block(yaml_file):
    assert refusal(yaml_file("- a\n")) == "dpo.yaml:1: a config is a block of keys, not a list; write KEY: VALUE lines"


def test_no_such_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence = "dpo.yaml: cannot be read (No such file or directory); check the path of the config"
    assert refusal(Path("dpo.yaml")) == sentence


def test_a_config_that_contains_itself_is_refused(yaml_file):
    assert refusal(yaml_file("policy: a\nlengths: &a [*a]\n")) == (
        "dpo.yaml:2: 'lengths.0' must be a whole number, not a list"
    )


# ----------------------------------------------------------------------------------------------------- the blocks


@pytest.mark.parametrize("block", [TrainerConfig, RolloutConfig, SamplingConfig, DataConfig, ComputeConfig, LoraConfig])
def test_blocks_are_small_and_described(block):
    assert len(block.model_fields) <= 16
    assert all(field.description for field in block.model_fields.values())


def test_configs_are_frozen():
    with pytest.raises(ValidationError):
        DataConfig().max_length = 3


def test_sampling_params():
    config = SamplingConfig(max_new_tokens=8, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    assert config.params() == SamplingParams(max_new_tokens=8, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    assert SamplingConfig().params() == SamplingParams()


# ------------------------------------------------------------------------------------------------------- the hash


def test_hash_is_of_canonical_json():
    canonical = (
        '{"config":{"max_new_tokens":9,"min_p":0.0,"temperature":1.0,"top_k":0,"top_p":1.0},"inputs":{"text":"ab"}}'
    )
    expected = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    assert config_hash(SamplingConfig(max_new_tokens=9), {"text": "ab"}) == expected == "ea71bdec"


def test_hash_depends_on_what_changes_results_only():
    base = Toy(policy="a")
    inputs = {"policy": "1", "text": "2"}
    name = config_hash(base, inputs)
    assert config_hash(Toy(policy="a", out="elsewhere", trainer={"checkpoint_every": 7}), inputs) == name
    assert config_hash(base, {"text": "2", "policy": "1"}) == name
    assert config_hash(Toy(policy="a", trainer={"seed": 1}), inputs) != name
    assert config_hash(base, {**inputs, "text": "3"}) != name
    assert "checkpoint_every" not in identity(base)["trainer"]
    assert json.loads(json.dumps(identity(base))) == identity(base)


# Lists of blocks, by class and field, with values in which two blocks have one name.
TWO_OF_ONE_NAME = {
    ("OnlineConfig", "rewards"): {"policy": "p", "prompts": "x", "rewards": [{"by": "a:r"}, {"by": "b:r"}]},
    ("Config", "costs"): {
        **{"policy": "p", "prompts": "x", "rewards": [{"by": "a:r"}]},
        "costs": [{"by": "a:c"}, {"by": "b:c"}],
    },
    ("EvaluationConfig", "rewards"): {"prompts": "x", "rewards": [{"by": "a:r"}, {"by": "b:r"}]},
    ("Constitution", "principles"): {"language": "en", "principles": [{"name": "a", "principle": {"en": "A"}}] * 2},
    ("Criteria", "criteria"): {"criteria": [{"key": "kind", "labels": {"en": {"name": word}}} for word in "ab"]},
}


SAME = {"categories": "violence"}  # a name that the field takes


def all_configs():
    for module in pkgutil.walk_packages(baro.__path__, "baro."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pending, found = [Config], {}
    while pending:
        one = pending.pop()
        pending += one.__subclasses__()
        if one.__module__.startswith("baro."):
            found[f"{one.__module__}.{one.__name__}"] = one
    return found


def listed(annotation):
    """What the members of a list are, wherever in a field's type it stands."""
    if get_origin(annotation) in (list, tuple):
        yield get_args(annotation)[0]
    else:
        for inner in get_args(annotation):
            yield from listed(inner)


def test_no_list_of_any_config_names_one_thing_twice():
    """An ensemble of one model twice, a criterion of two meanings: each list refuses it, or holds no names."""
    tried = []
    for config in all_configs().values():
        for name, field in config.model_fields.items():
            for member in listed(field.annotation):
                member = get_args(member)[0] if get_origin(member) is Annotated else member
                values = {name: [SAME.get(name, "a/b")] * 2}
                if field.json_schema_extra == MAY_REPEAT:
                    continue
                if isinstance(member, type) and issubclass(member, Config):
                    owner = next(one for one in reversed(config.__mro__) if name in getattr(one, "model_fields", ()))
                    values = TWO_OF_ONE_NAME[owner.__name__, name]
                    if "constraint" in config.model_fields:  # without it nothing else is looked at
                        values = {"constraint": {"limit": 1.0}, "costs": [{"by": "a:cost"}]} | values
                elif member is not str:
                    continue
                with pytest.raises(ValidationError) as error:
                    config.model_validate(values)
                said = [one["msg"] for one in error.value.errors() if one["type"] == "value_error"]
                assert any(re.search("named twice; keep one|are called", one) for one in said), (config, name)
                tried.append(name)
    assert set(tried) >= {"rewards", "criteria", "ignore", "policies", "runs", "target_modules"}


def test_a_name_that_stands_in_a_list_twice_is_refused_with_its_place(yaml_file):
    path = yaml_file("criteria: [kind, warm, kind]")
    with pytest.raises(ConfigError, match=r"dpo\.yaml:1: .*'kind' is named twice; keep one"):
        load_config(DataConfig, path)
    with pytest.raises(ValidationError, match=r"'runs/a' and './runs/a/' are the same; keep one"):
        report_stage.Config(runs=["runs/a", "runs/b", "./runs/a/"])
    path = yaml_file("criteria: [kind]\nignore: [kind]")
    with pytest.raises(ConfigError, match=r"column 'kind' stands in criteria and in ignore; keep one"):
        load_config(DataConfig, path)


def test_no_torch():
    program = "import sys, baro.config, baro.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
