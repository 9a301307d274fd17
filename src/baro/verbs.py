"""What a stage can do: the verbs of the command line and of pipelines, and the user's own methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

from baro.config import Config
from baro.declared import Kind
from baro.errors import ConfigError
from baro.runs import RunDir

Run = Callable[..., RunDir]
Makes = Literal["policy", "scorer", "records", "nothing", "anything"]
FITS: Mapping[Kind, tuple[Makes, ...]] = {
    "model": ("policy", "scorer", "anything"),
    "records": ("records", "anything"),
    "scorer": ("scorer", "anything"),
    "object": (),
    "constitution": (),
    "run": ("policy", "scorer", "records", "nothing", "anything"),
}
"""What each kind of input takes."""


@dataclass(frozen=True)
class Verb:
    """Where a stage's Config and run are; what its own name stands for elsewhere, and files beside that, by name."""

    load: Callable[[], tuple[type[Config], Run]]
    makes: Makes = "nothing"
    outputs: Mapping[str, str] = field(default_factory=dict)
    tells_rows: bool = False  # on stdout, as it makes them: its run takes ``tell``


def _at(module: str) -> Callable[[], tuple[type[Config], Run]]:
    def load() -> tuple[type[Config], Run]:
        found = import_module(module)
        return found.Config, found.run

    return load


VERBS: dict[str, Verb] = {
    "base": Verb(_at("baro.methods.base"), "policy"),
    "sft": Verb(_at("baro.methods.sft"), "policy"),
    "reward": Verb(_at("baro.methods.reward"), "scorer"),
    "cost": Verb(_at("baro.methods.cost"), "scorer"),
    "dpo": Verb(_at("baro.methods.dpo"), "policy"),
    "kto": Verb(_at("baro.methods.kto"), "policy"),
    "ppo": Verb(_at("baro.methods.ppo"), "policy", {"value_model": "value_model"}),
    "safe-ppo": Verb(
        _at("baro.methods.safe_ppo"),
        "policy",
        {"value_model": "value_model", "cost_value_model": "cost_value_model"},
    ),
    "grpo": Verb(_at("baro.methods.grpo"), "policy"),
    "critique": Verb(_at("baro.methods.critique"), "records"),
    "generate": Verb(_at("baro.methods.generate"), "records"),
    "label": Verb(_at("baro.methods.label"), "records"),
    "verify": Verb(_at("baro.methods.verify"), tells_rows=True),
    "feedback collect": Verb(_at("baro.feedback.collect"), "records", {"pairs": "pairs.jsonl"}),
    "data split": Verb(_at("baro.methods.split"), outputs={"train": "train.jsonl", "held_out": "held_out.jsonl"}),
    "evaluate": Verb(_at("baro.evaluate.evaluate")),
    "report": Verb(_at("baro.evaluate.report_stage")),
}


def output_makes(file: str) -> Makes:
    """What a file or folder beside a stage's main output is."""
    return "records" if file.endswith(".jsonl") else "scorer"


def own_method(name: str) -> Verb:
    """A method from outside the package, ``module:run``: a function beside a class Config, whose fields say what they
    name (``policy: Model``)."""
    from baro.inputs import load_object

    run = load_object(name)
    config = getattr(import_module(name.partition(":")[0]), "Config", None)
    if not (isinstance(config, type) and issubclass(config, Config) and callable(run)):
        raise ConfigError(f"{name}: a method is a function run(config, out) beside a class Config")
    return Verb(lambda: (config, run), "anything")
