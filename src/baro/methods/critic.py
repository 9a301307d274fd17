"""Where a value model starts, and on what it stands: a model of its own, or an adapter on the policy's backbone."""

from __future__ import annotations

import logging

from baro.data.template import Template
from baro.declared import is_object
from baro.errors import ConfigError
from baro.inputs import obstacle_to_trunk, resolve, saved_role
from baro.models.folders import is_encoder
from baro.models.forward import ScoredModel
from baro.models.load import load_value_model, new_scalar_model
from baro.models.lora import add_adapter
from baro.models.members import first_member
from baro.models.place import placed
from baro.models.trunk import Trunk, new_value_role, value_role
from baro.online_config import OnlineConfig

log = logging.getLogger("baro")


def value_model(config: OnlineConfig, asked: str | None, trunk: Trunk | None) -> ScoredModel:
    """The model of values, which starts at ``asked`` or where ``value_start`` says.

    With ``lora`` adapters and its head are all that is trained of it, as of the policy; on a ``trunk`` its adapter
    stands on the policy's backbone. ConfigError where ``asked`` cannot stand there.
    """
    start, seed = value_start(config, asked), config.trainer.seed
    if trunk is not None:
        return _on_trunk(config, start, asked is not None, trunk)
    folder = resolve(start, "model")
    if start == config.policy:
        found = new_scalar_model(folder, seed=seed, role="value_model")
    else:
        found = load_value_model(folder, seed=seed)
    if config.lora is not None:
        add_adapter(found, config.lora, seed=seed, role="value_model")
    return placed(found, config.compute)


def _on_trunk(config: OnlineConfig, start: str, asked: bool, trunk: Trunk) -> ScoredModel:
    """An adapter of the policy's backbone: that of a reward run, if it is one of this backbone, else a new one."""
    seed = config.trainer.seed
    assert config.lora is not None
    if start != config.policy:
        reason = obstacle_to_trunk(start, trunk.base)
        if not reason:
            return value_role(trunk.policy, saved_role(start), seed=seed)
        if asked:
            raise ConfigError(
                f"value_model: {start} cannot stand on the policy's backbone, since {reason}; leave value_model out, "
                "or set shared_trunk: false"
            )
        log.info("the value model starts new on the policy's backbone, not at %s, since %s", start, reason)
    return new_value_role(trunk.policy, config.lora, seed=seed)


def value_start(config: OnlineConfig, asked: str | None) -> str:
    """Where the value model starts: as told, else at the only reward model (an ensemble's first) if it reads the
    policy's tokens and is a whole model.
    """
    if asked is not None:
        return asked
    by = config.terms[0].by if len(config.terms) == 1 else None
    if isinstance(by, str) and not is_object(by):
        policy, reward = resolve(config.policy, "model"), resolve(by, "model")
        if Template.load(reward).fingerprint == Template.load(policy).fingerprint and not is_encoder(reward):
            first = first_member(reward)
            return by if first == reward else config.policy if first is None else str(first)
    return config.policy
