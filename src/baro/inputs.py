"""Turns what a config names (a run, a path, a hub id, ``module:NAME``) into what a stage works with."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from baro.code_hash import hash_module
from baro.compute import ComputeConfig
from baro.config import Config, config_hash
from baro.constitution import constitution_file
from baro.data.files import find_files
from baro.data.formats import read_records
from baro.data.hub import at_hub, fetch_rows
from baro.data.ledger import Ledger, write_ledger
from baro.data.rendering import Kind as TemplateKind
from baro.data.splits import asked_for
from baro.data.template import Template
from baro.declared import FEEDBACK, Kind, Named, default_name, inputs_in, is_object
from baro.errors import ConfigError, RunError
from baro.files import hash_path, write_atomic
from baro.functional.ensembles import Scale
from baro.hub import is_hub_id, snapshot
from baro.models.folders import check_tokens, model_config
from baro.models.forward import ScoredModel
from baro.models.load import load_scalar_model
from baro.models.members import is_ensemble, load_members, members_on, read_ensemble
from baro.models.place import AUTO, arithmetic
from baro.models.trunk import SavedRole, Trunk, frozen_role
from baro.protocols import LocalWorld, PairJudge, RewardSource, World
from baro.records import completions_of
from baro.reward_config import RewardTerm, ScoredBy
from baro.rewards.costs import check_signs, refuse_costs
from baro.rewards.ensemble import (
    EnsembleReward,
    Member,
    check_same_template,
    combined_as,
    measured,
    scales_of_training,
)
from baro.rewards.function import FunctionReward
from baro.rewards.judging import RoundRobin
from baro.rewards.learned import LearnedReward
from baro.rewards.terms import WeightedReward
from baro.rewards.verifiers import load_verifier
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


def load_judge(name: str) -> PairJudge:
    """A PairJudge from ``module:NAME``."""
    judge: PairJudge = load_object(name)
    if not hasattr(judge, "compare"):
        raise ConfigError(f"{name}: has no method compare(pairs); a judge compares two completions of one prompt")
    return judge


def load_rewards(
    terms: Sequence[RewardTerm],
    key: str,
    *,
    sampler_fingerprint: str = "",
    compute: ComputeConfig = AUTO,
    run: RunDir,
    trunk: Trunk | None = None,
) -> list[WeightedReward]:
    """Each term's RewardSource with its weight and name, in the order of the terms, which stand under ``key``."""
    load = partial(load_scorer, sampler_fingerprint=sampler_fingerprint, compute=compute, run=run, trunk=trunk)
    sources = [load(term, f"{key}.{i}", name=term.called) for i, term in enumerate(terms)]
    check_signs(key, terms, sources)
    return [WeightedReward(source, term.weight, term.called) for source, term in zip(sources, terms, strict=True)]


def load_scorer(
    asked: ScoredBy,
    key: str = "",
    *,
    name: str,
    sampler_fingerprint: str = "",
    compute: ComputeConfig = AUTO,
    run: RunDir,
    trunk: Trunk | None = None,
) -> Any:
    """The RewardSource that a config asks for: a verifier, one as ``load_reward`` gives it, an ensemble, or a list.

    key: the block of the config that asks, none where it is the config itself. By what the members of a list are
    centred and scaled is kept in the ``run``, in scales.json; the rows have their account in its ledger.
    """
    if asked.verifier is not None:
        return load_verifier(asked.verifier, name=name)
    if isinstance(asked, RewardTerm) and asked.judge is not None:
        return RoundRobin(load_judge(asked.judge), name=name)
    load = partial(load_reward, sampler_fingerprint=sampler_fingerprint, compute=compute, trunk=trunk)
    if isinstance(asked.by, str):
        return combined_as(load(asked.by), asked.by, asked.combine, asked.penalty)
    check_different(asked.sources)
    sources = [load(one) for one in asked.sources]
    refuse_costs(asked.sources, sources)
    check_same_template(asked.sources, sources)
    scales = _scales(asked, key, sources, run)
    members = [Member(source, scale) for source, scale in zip(sources, scales, strict=True)]
    return EnsembleReward(members, name=name, combine=asked.combine or "mean", penalty=asked.penalty)


def check_different(values: Sequence[str]) -> None:
    """ConfigError where two names are of one model: it differs in nothing from itself."""
    known: dict[str, str] = {}
    for value in values:
        content = value if is_object(value) else hash_input(value, "scorer")
        if content in known:
            raise ConfigError(f"{known[content]} and {value} are the same reward model; name different ones")
        known[content] = value


def _scales(asked: ScoredBy, key: str, sources: Sequence[Any], run: RunDir) -> list[Scale]:
    """The members' means and sds: on ``scaled_on``, else on what they were trained on, if that is the same."""
    path = run.path / "scales.json"
    kept = json.loads(path.read_bytes()) if path.exists() else []
    members = set(asked.sources)
    known = [one for one in kept if one["scaled_on"] == asked.scaled_on and one["members"].keys() == members]
    if not known:
        if asked.scaled_on is None:
            scales = scales_of_training(asked.sources, sources)
        else:
            loaded = read_records(resolve(asked.scaled_on, "records"))
            ledger, rows = Ledger(loaded.name), [completions_of(record) for record in loaded.records]
            scales, scored = measured(sources, [one for row in rows for one in row], where=asked.scaled_on)
            whole = iter(scored)
            for row_key, row in zip(loaded.keys, rows, strict=True):
                completions = [next(whole) for _ in row]
                if completions and all(completions):
                    ledger.keep()
                else:
                    ledger.drop(row_key, "not scored", "a member gives no score to a completion, or there is none")
            write_ledger(run.path, f"{key}.scaled_on".lstrip("."), asked.scaled_on, ledger)
        found = {by: scale._asdict() for by, scale in zip(asked.sources, scales, strict=True)}
        known = [{"scaled_on": asked.scaled_on, "members": found}]
        write_atomic(path, json.dumps([*kept, *known], ensure_ascii=False, indent=1, allow_nan=False))
    return [Scale(**known[0]["members"][by]) for by in asked.sources]


def load_reward(
    by: str, *, sampler_fingerprint: str = "", compute: ComputeConfig = AUTO, trunk: Trunk | None = None
) -> RewardSource:
    """One RewardSource, called by what stands after the colon or by the last part of its path; a model as ``compute``
    says, like the policy beside it, or on the policy's ``trunk`` where it is an adapter of its backbone. An ensemble
    run is the mean of its members."""
    if is_object(by):
        found = load_object(by)
        if hasattr(found, "score"):
            source: RewardSource = found
            return source
        if not callable(found):
            raise ConfigError(f"{by}: is neither a function nor an object with score(rollouts)")
        return FunctionReward(found, name=default_name(by))
    folder = resolve(by, "model")
    template = template_of(folder)
    log.info("%s: %s", by, template.describe())
    name, models = default_name(by), _models_of(by, folder, compute, trunk)
    if not is_ensemble(folder):
        return LearnedReward(models[0], template, name=name, sampler_fingerprint=sampler_fingerprint)
    sources = [
        LearnedReward(model, template, name=f"{name}/{k}", sampler_fingerprint=sampler_fingerprint)
        for k, model in enumerate(models)
    ]
    scales = scales_of_training([f"{by}: member {k}" for k in range(len(sources))], sources)
    members = [Member(source, scale) for source, scale in zip(sources, scales, strict=True)]
    return EnsembleReward(members, name=name)


def _models_of(by: str, folder: Path, compute: ComputeConfig, trunk: Trunk | None) -> list[ScoredModel]:
    """A reward model, or an ensemble's members; on the trunk if they are adapters of its backbone, which is said."""
    frozen = compute.model_copy(update={"gradient_checkpointing": False})
    if trunk is not None:
        reason = obstacle_to_trunk(by, trunk.base)
        if not reason:
            log.info("%s: stands on the policy's backbone, as the adapter that it was trained as", by)
            adapter = trunk.free_name("reward_model")
            if is_ensemble(folder):
                return members_on(trunk.policy, folder, adapter)
            return [frozen_role(trunk.policy, saved_role(by), adapter)]
        log.info("%s: is a model of its own beside the policy's backbone, since %s", by, reason)
    return load_members(folder, compute=frozen) if is_ensemble(folder) else [load_scalar_model(folder, compute=frozen)]


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


def load_each(by: str, *, compute: ComputeConfig = AUTO) -> list[Any]:
    """The RewardSources of which one consists: an ensemble's members, each in the ensemble's units; else itself."""
    source = load_reward(by, compute=compute)
    return source.scaled_members() if isinstance(source, EnsembleReward) else [source]
