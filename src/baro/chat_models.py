"""From a config to who answers: a model that is loaded here, or one on a server."""

from __future__ import annotations

from baro.chat_config import ChatModelConfig
from baro.compute import ComputeConfig
from baro.errors import ConfigError
from baro.inputs import load_template, resolve
from baro.models.load import load_policy
from baro.models.place import AUTO
from baro.protocols import ChatModel
from baro.rollout.chat import LocalChatModel
from baro.runs import RunDir


def load_chat_model(config: ChatModelConfig, *, compute: ComputeConfig = AUTO, run: RunDir) -> ChatModel:
    """The ChatModel that a config asks for. What a server answers is kept in the ``run``, and asked once."""
    if config.model is None:
        raise ConfigError("server: not yet; give model, a run, a folder, or a hub id")
    template = load_template(config.model)
    frozen = compute.model_copy(update={"gradient_checkpointing": False})
    return LocalChatModel(load_policy(resolve(config.model, "model"), compute=frozen), template, name=config.called)
