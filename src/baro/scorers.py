"""From a config to who scores and who compares: reward models, functions, verifiers, ensembles of them, judges."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from baro.chat_models import load_chat_model
from baro.compute import ComputeConfig
from baro.data.formats import read_records
from baro.data.ledger import Ledger, write_ledger
from baro.declared import default_name, is_object
from baro.errors import ConfigError
from baro.files import write_atomic
from baro.functional.ensembles import Scale
from baro.inputs import hash_input, load_object, obstacle_to_trunk, resolve, saved_role, template_of
from baro.judge_config import PairJudgeConfig
from baro.models.forward import ScoredModel
from baro.models.load import load_scalar_model
from baro.models.members import is_ensemble, load_members, members_on
from baro.models.place import AUTO
from baro.models.trunk import Trunk, frozen_role
from baro.protocols import PairJudge, RewardSource
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
from baro.rewards.judge import ChatPairJudge, RubricJudge
from baro.rewards.judging import RoundRobin
from baro.rewards.learned import LearnedReward
from baro.rewards.terms import WeightedReward
from baro.rewards.verifiers import load_verifier
from baro.runs import RunDir

log = logging.getLogger("baro")


def load_judge(asked: str | PairJudgeConfig, *, compute: ComputeConfig = AUTO, run: RunDir) -> PairJudge:
    """A PairJudge from ``module:NAME``, or a chat model that compares."""
    if not isinstance(asked, str):
        return ChatPairJudge(load_chat_model(asked, compute=compute, run=run), asked)
    judge: PairJudge = load_object(asked)
    if not hasattr(judge, "compare"):
        raise ConfigError(f"{asked}: has no method compare(pairs); a judge compares two completions of one prompt")
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
    if asked.rubric is not None:
        return RubricJudge(load_chat_model(asked.rubric, compute=compute, run=run), asked.rubric, name=name)
    if isinstance(asked, RewardTerm) and asked.judge is not None:
        return RoundRobin(load_judge(asked.judge, compute=compute, run=run), name=name)
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


def load_each(by: str, *, compute: ComputeConfig = AUTO) -> list[Any]:
    """The RewardSources of which one consists: an ensemble's members, each in the ensemble's units; else itself."""
    source = load_reward(by, compute=compute)
    return source.scaled_members() if isinstance(source, EnsembleReward) else [source]
