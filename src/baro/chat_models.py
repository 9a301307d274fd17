"""From a config to who answers: a model that is loaded here, one on a server, or rules."""

from __future__ import annotations

from baro.chat_config import ChatModelConfig
from baro.compute import ComputeConfig
from baro.errors import ConfigError
from baro.inputs import load_object, load_template, resolve
from baro.models.load import load_policy
from baro.models.place import AUTO
from baro.protocols import ChatModel
from baro.rollout.chat import LocalChatModel
from baro.rollout.remote import RemoteChatModel, needs_openai
from baro.runs import RunDir


def load_chat_model(config: ChatModelConfig, *, compute: ComputeConfig = AUTO, run: RunDir) -> ChatModel:
    """The ChatModel that a config asks for. What a server answers is kept in the ``run``, and asked once."""
    if config.by is not None:
        rules: ChatModel = load_object(config.by)
        if not hasattr(rules, "chat"):
            raise ConfigError(f"{config.by}: has no method chat(conversations, n, params, keys); rules answer by that")
        return rules
    if config.server is not None:
        needs_openai()
        return RemoteChatModel(config.server, run.path)
    assert config.model is not None, "the config was checked"
    template = load_template(config.model)
    frozen = compute.model_copy(update={"gradient_checkpointing": False})
    return LocalChatModel(load_policy(resolve(config.model, "model"), compute=frozen), template, name=config.called)
