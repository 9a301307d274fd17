"""Turns what a config names (a run, a path, a hub id, ``module:NAME``) into what a stage works with."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from baro.code_hash import hash_module
from baro.config import Config, config_hash
from baro.constitution import constitution_file
from baro.data.files import find_files
from baro.data.hub import at_hub, fetch_rows
from baro.data.rendering import Kind as TemplateKind
from baro.data.splits import asked_for
from baro.data.template import Template
from baro.declared import FEEDBACK, Kind, Named, inputs_in, is_object
from baro.errors import ConfigError, RunError
from baro.files import hash_path
from baro.hub import is_hub_id, snapshot
from baro.models.folders import check_tokens, model_config
from baro.models.members import is_ensemble, read_ensemble
from baro.models.place import AUTO, arithmetic
from baro.models.trunk import SavedRole
from baro.protocols import LocalWorld, World
from baro.runs import RunDir, default_out

log = logging.getLogger("baro")


def training_world() -> World:
    """The processes that train together: of a stage one, and a launcher of several is refused before it writes.

    In Python a Trainer, its source and its sampler take a ``TorchWorld``; a stage passes on what it gets from here.
    """
    ranks = os.environ.get("WORLD_SIZE", "1")
    if ranks != "1":
        raise ConfigError(
            f"WORLD_SIZE is {ranks}, and a stage trains in one process; start it without a launcher, or give "
            "baro.trainer.Trainer a TorchWorld in a program of your own"
        )
    return LocalWorld()


def resolve(value: str, kind: Kind) -> Path:
    """Where an input lies: inside a finished run, at a path, or at the hub and so in its cache.

    Of records also a split: ``FOLDER#SPLIT``, which ``find_files`` takes apart, or ``owner/name:SPLIT`` at the hub.
    """
    path, split = asked_for(Path(value)) if kind == "records" else (Path(value), None)
    if value.startswith(FEEDBACK) and kind == "records":
        return _exported(value.removeprefix(FEEDBACK))
    run = run_of(value)
    if run is not None and (status := RunDir.load(run).manifest["status"]) != "finished":
        raise RunError(f"{run}: this run is {status}, not finished; run its command again first")
    if run == path and split is None:
        return _inside_run(path, kind)
    if path.exists():
        return Path(value)
    if kind != "records" and is_hub_id(value):
        return snapshot(value)
    if kind == "records" and at_hub(value) and not path.parent.is_dir():  # a mistyped path asks no hub
        return fetch_rows(value)
    raise ConfigError(f"{value}: no such file or folder; give a run directory, a path, or a hub id")


def run_of(value: str) -> Path | None:
    """The run directory that an input is or lies in."""
    path, _ = asked_for(Path(value))
    return next((one for one in (path, path.parent) if (one / "run.json").exists()), None)


def _inside_run(path: Path, kind: Kind) -> Path:
    inside = path / ("records.jsonl" if kind == "records" else "model")
    if not inside.exists():
        makes = "records" if kind == "records" else "a model"
        raise ConfigError(f"{path}: this run holds no {inside.name}; name a stage that makes {makes}")
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
    """The SHA-256 of what a value names: a file's or folder's content, a run's run.json, an object's source files."""
    if kind == "run":
        return hash_path(RunDir.load(Path(value)).path / "run.json")
    if kind in ("scorer", "object") and is_object(value):
        return _hash_code(value.partition(":")[0], value)
    if kind == "constitution":
        return hash_path(constitution_file(value))
    if kind == "object":
        raise ConfigError(f"{value}: no Python object; write module:NAME")
    return find_files(resolve(value, kind)).sha256 if kind == "records" else hash_path(resolve(value, kind))


def _hash_code(module: str, what: str) -> str:
    find_own_modules()
    found = hash_module(module)
    if found is None:
        log.warning("%s: has no source file, so that a change of its code is not noticed", what)
    return found or f"object {what}"


def open_run(verb: str, config: Config, out: Path | str | None, **options: Any) -> RunDir:
    """The stage's run directory, new or resumed.

    It is named by the config and the contents of all that the config's fields declare as inputs (``declared.py``),
    unless ``out`` says otherwise; a method from outside the package is one of them. What the stage computes with is
    written down beside the versions.
    """
    inputs = list(inputs_in(type(config), config))
    hashes = {one.key: hash_input(one.value, one.kind) for one in inputs}
    if getattr(config, "on_one_trunk", False):
        hashes |= _adapters(inputs, hashes["policy"])
    module = type(config).__module__
    if module.partition(".")[0] != "baro":
        hashes["method"] = _hash_code(module, module)
    path = Path(out) if out is not None else default_out(verb, config_hash(config, hashes))
    parents = [run for one in inputs if (run := run_of(one.value)) is not None]
    if any(one.kind in ("model", "scorer") for one in inputs) or hasattr(config, "compute"):
        options["environment"] = arithmetic(getattr(config, "compute", AUTO))
    return RunDir.open(path, verb=verb, config=config, inputs=hashes, parents=list(dict.fromkeys(parents)), **options)


def load_template(value: str, kind: TemplateKind = "auto") -> Template:
    """A model's tokenizer and template, said. A model of a run keeps the template that it was trained with."""
    folder = resolve(value, "model")
    own = template_of(folder)
    template = own if kind == "auto" else Template.load(folder, kind)
    if template.fingerprint != own.fingerprint and (Path(value) / "run.json").exists():
        raise ConfigError(
            f"{value}: was trained with another template ({own.describe()}) than data.template={kind} asks for "
            f"({template.describe()}); leave data.template at auto"
        )
    log.info("%s", template.describe())
    return template


class OfPolicy(Protocol):
    """A config whose other models read the policy's tokens."""

    @property
    def policy(self) -> str: ...


def check_same_tokens(config: OfPolicy, *keys: str) -> None:
    """The models under these keys read the policy's token ids as what they are. ConfigError for another vocabulary."""
    policy = config.policy
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


def find_own_modules() -> None:
    """Let modules of the working directory be imported."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def template_of(folder: Path) -> Template:
    """A model's tokenizer and own template, after its config is found to be one that Baro takes, and fits it."""
    model_config(folder)
    template = Template.load(folder)
    check_tokens(folder, template.tokenizer.get_vocab())
    return template


def load_object(name: str) -> Any:
    """``module:NAME`` imported from the installed packages or the working directory."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"{name}: not a run; a Python object is written module:NAME")
    find_own_modules()
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name}: cannot import: {error}; start baro in the folder of {module}.py") from error
    except AttributeError as error:
        raise ConfigError(f"{name}: module {module} has no {attribute}") from error
    return found


def obstacle_to_trunk(value: str, base: str) -> str:
    """Why a reward run's model cannot stand on a backbone, whose folder has the SHA-256 ``base``; empty: it can."""
    run = run_of(value)
    manifest = {} if run is None else RunDir.load(run).manifest
    if run is None or manifest["verb"] not in ("reward", "cost"):
        return "it is no run of `baro reward` or `baro cost`, which would say on which base it was trained"
    if not (run / "adapter").is_dir() and not (is_ensemble(run / "model") and read_ensemble(run / "model").adapters):
        return "it has no adapter: it was trained without lora"
    if manifest["inputs"]["model"] != base:
        return f"its adapter was trained on another base ({manifest['config']['model']})"
    return ""


def _adapters(inputs: Sequence[Named], base: str) -> dict[str, str]:
    """The SHA-256 of each adapter that a run takes onto its policy's backbone: of that model ``model/`` is not read."""
    models = {one.key: one.value for one in inputs if one.kind in ("scorer", "model") and not is_object(one.value)}
    found = {key: saved_role(value).adapter for key, value in models.items() if not obstacle_to_trunk(value, base)}
    return {f"{key}.adapter": hash_path(adapter) for key, adapter in found.items() if adapter.is_dir()}


def saved_role(value: str) -> SavedRole:
    """Where a LoRA reward run has its adapter, and how its scores are made."""
    run = run_of(value)
    assert run is not None, "obstacle_to_trunk was asked"
    return SavedRole(run / "adapter", run / "model")
