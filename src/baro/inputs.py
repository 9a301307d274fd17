"""Turns what a config names (a run, a path, a hub id, ``module:NAME``) into what a stage works with."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from baro.config import Config, RewardTerm, config_hash
from baro.data.hub import fetch_rows, is_hub_id
from baro.data.rendering import Kind as TemplateKind
from baro.data.template import Template
from baro.declared import FEEDBACK, default_name, is_object
from baro.errors import ConfigError, RunError
from baro.files import hash_path
from baro.hub import snapshot
from baro.models.folders import check_tokens
from baro.models.load import load_scalar_model
from baro.protocols import PairJudge
from baro.rewards.function import FunctionReward
from baro.rewards.learned import LearnedReward
from baro.rollout.source import WeightedReward
from baro.runs import RunDir, default_out

log = logging.getLogger("baro")
Kind = Literal["model", "records"]


def resolve(value: str, kind: Kind) -> Path:
    """Where an input lies: inside a finished run, at a path, or at the hub and so in its cache."""
    path = Path(value)
    if value.startswith(FEEDBACK) and kind == "records":
        return _exported(value.removeprefix(FEEDBACK))
    if (path / "run.json").exists():
        return _inside_run(path, kind)
    if path.exists():
        return path
    if kind == "model" and is_hub_id(value):
        return snapshot(value)
    if kind == "records" and is_hub_id(value) and not path.parent.is_dir():  # a mistyped path asks no hub
        return fetch_rows(value)
    raise ConfigError(f"{value}: no such file or folder; give a run directory, a path, or a hub id")


def _inside_run(path: Path, kind: Kind) -> Path:
    status = RunDir.load(path).manifest["status"]
    if status != "finished":
        raise RunError(f"{path}: this run is {status}, not finished; run its command again first")
    inside = path / ("model" if kind == "model" else "records.jsonl")
    if not inside.exists():
        raise ConfigError(f"{path}: this run holds no {inside.name}; name a stage that makes {kind}")
    return inside


@cache
def _exported(name: str) -> Path:
    """``PROJECT``, ``PROJECT/FORM``, or either with ``@WATERMARK``: what people judged, as a file.

    Written by ``baro feedback records`` in a process of its own, so that training needs no database. The same judgments
    are the same file; within one process they are those of the first call.
    """
    named, _, watermark = name.partition("@")
    project, _, form = named.partition("/")
    command = [sys.executable, "-m", "baro", "feedback", "records", project, "--form", form or "auto"]
    command += ["--watermark", watermark] if watermark else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(done.stderr.strip().removeprefix("error: ") or f"{FEEDBACK}{name}: could not be read")
    if done.stderr.strip():
        log.warning("%s", done.stderr.strip())
    return Path(done.stdout.splitlines()[-1])


def hash_input(value: str, kind: Kind) -> str:
    """The content's SHA-256."""
    if is_object(value):
        return f"object {value}"
    return hash_path(resolve(value, kind))


def open_run(
    verb: str, config: Config, inputs: Mapping[str, tuple[str, Kind]], out: Path | str | None, **options: Any
) -> RunDir:
    """The stage's run directory, new or resumed; named by config and input contents unless ``out`` says otherwise."""
    hashes = {name: hash_input(value, kind) for name, (value, kind) in inputs.items()}
    path = Path(out) if out is not None else default_out(verb, config_hash(config, hashes))
    parents = [str(value) for value, _ in inputs.values() if (Path(value) / "run.json").exists()]
    return RunDir.open(path, verb=verb, config=config, inputs=hashes, parents=parents, **options)


def load_template(value: str, kind: TemplateKind = "auto") -> Template:
    """A model's tokenizer and template, said. A model of a run keeps the template that it was trained with."""
    folder = resolve(value, "model")
    own = Template.load(folder)
    check_tokens(folder, own.tokenizer.get_vocab())
    template = own if kind == "auto" else Template.load(folder, kind)
    if template.fingerprint != own.fingerprint and (Path(value) / "run.json").exists():
        raise ConfigError(
            f"{value}: was trained with another template ({own.describe()}) than data.template={kind} asks for "
            f"({template.describe()}); leave data.template at auto"
        )
    log.info("%s", template.describe())
    return template


def check_same_tokens(config: Config, *keys: str) -> None:
    """The models under these keys read the policy's token ids as what they are. ConfigError for another vocabulary."""
    policy = str(config.policy)
    ids: dict[str, int] | None = None
    for key in keys:
        value = getattr(config, key)
        if value is None or value == policy:
            continue
        ids = ids or Template.load(resolve(policy, "model")).tokenizer.get_vocab()
        if Template.load(resolve(value, "model")).tokenizer.get_vocab() != ids:
            raise ConfigError(
                f"{key}: {value} has another vocabulary than the policy {policy}, whose ids it would read"
            )


def load_object(name: str) -> Any:
    """``module:NAME`` imported from the installed packages or the working directory."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"{name}: not a run; a Python object is written module:NAME")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name}: cannot import: {error}; start baro in the folder of {module}.py") from error
    except AttributeError as error:
        raise ConfigError(f"{name}: module {module} has no {attribute}") from error
    return found


def load_judge(name: str) -> PairJudge:
    """A PairJudge from ``module:NAME``."""
    judge = load_object(name)
    if not hasattr(judge, "compare"):
        raise ConfigError(f"{name}: has no method compare(pairs); a judge compares two completions of one prompt")
    return judge


def load_rewards(terms: Sequence[RewardTerm], *, sampler_fingerprint: str = "") -> list[WeightedReward]:
    """Each term's RewardSource with its weight and name, in the order of the terms."""
    return [
        WeightedReward(load_reward(term.by, sampler_fingerprint=sampler_fingerprint), term.weight, term.called)
        for term in terms
    ]


def load_reward(by: str, *, sampler_fingerprint: str = "") -> Any:
    """One RewardSource, called by what stands after the colon, or by the last part of its path."""
    if is_object(by):
        found = load_object(by)
        if hasattr(found, "score"):
            return found
        if not callable(found):
            raise ConfigError(f"{by}: is neither a function nor an object with score(rollouts)")
        return FunctionReward(found, name=default_name(by))
    folder = resolve(by, "model")
    template = Template.load(folder)
    check_tokens(folder, template.tokenizer.get_vocab())
    log.info("%s: %s", by, template.describe())
    return LearnedReward(
        load_scalar_model(folder), template, name=default_name(by), sampler_fingerprint=sampler_fingerprint
    )
