"""Where a value model starts, and on what it stands: a model of its own, or an adapter on the policy's backbone."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from baro.data.template import Template
from baro.declared import is_object
from baro.errors import ConfigError
from baro.inputs import obstacle_to_trunk, resolve, saved_role
from baro.models.folders import is_encoder
from baro.models.forward import ScoredModel
from baro.models.heads import Role
from baro.models.load import load_value_model, new_scalar_model
from baro.models.lora import add_adapter
from baro.models.members import first_member
from baro.models.place import placed
from baro.models.trunk import Trunk, new_value_role, value_role
from baro.online_config import OnlineConfig
from baro.reward_config import RewardTerm

log = logging.getLogger("baro")


def value_model(
    config: OnlineConfig,
    asked: str | None,
    trunk: Trunk | None,
    *,
    terms: Sequence[RewardTerm],
    role: Role = "value_model",
) -> ScoredModel:
    """The model of the values of a total of ``terms``, which starts at ``asked`` or where ``value_start`` says.

    With ``lora`` adapters and its head are all that is trained of it, as of the policy; on a ``trunk`` its adapter
    stands on the policy's backbone. ConfigError where ``asked`` cannot stand there.
    """
    start, seed = value_start(config, asked, terms), config.trainer.seed
    if trunk is not None:
        return _on_trunk(config, start, asked is not None, trunk, role)
    folder = resolve(start, "model")
    if start == config.policy:
        found = new_scalar_model(folder, seed=seed, role=role)
    else:
        found = load_value_model(folder, seed=seed, role=role)
    if config.lora is not None:
        add_adapter(found, config.lora, seed=seed, role=role)
    return placed(found, config.compute)


def _on_trunk(config: OnlineConfig, start: str, asked: bool, trunk: Trunk, role: Role) -> ScoredModel:
    """An adapter of the policy's backbone: that of a reward run, if it is one of this backbone, else a new one."""
    seed = config.trainer.seed
    assert config.lora is not None
    if start != config.policy:
        reason = obstacle_to_trunk(start, trunk.base)
        if not reason:
            return value_role(trunk.policy, saved_role(start), seed=seed, role=role)
        if asked:
            raise ConfigError(
                f"{role}: {start} cannot stand on the policy's backbone, since {reason}; leave {role} out, "
                "or set shared_trunk: false"
            )
        log.info("%s starts new on the policy's backbone, not at %s, since %s", role, start, reason)
    return new_value_role(trunk.policy, config.lora, seed=seed, role=role)


def value_start(config: OnlineConfig, asked: str | None, terms: Sequence[RewardTerm]) -> str:
    """Where a total's value model starts: as told, else at the model that is its only term (an ensemble's first) if
    that reads the policy's tokens and is a whole model.
    """
    if asked is not None:
        return asked
    by = terms[0].by if len(terms) == 1 else None
    if isinstance(by, str) and not is_object(by):
        policy, reward = resolve(config.policy, "model"), resolve(by, "model")
        if Template.load(reward).fingerprint == Template.load(policy).fingerprint and not is_encoder(reward):
            first = first_member(reward)
            return by if first == reward else config.policy if first is None else str(first)
    return config.policy
