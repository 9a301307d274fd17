"""Who answers conversations: a local model, or one on a server. No torch here."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from baro.config import NO_EFFECT, Config
from baro.declared import Model, Object, default_name


class ServerConfig(Config):
    """A model on a server that speaks the OpenAI chat API."""

    base_url: str = Field(description="where the API is, as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="what the server calls the model")
    api_key_env: str | None = Field(
        None,
        description="the environment variable that holds the key; no key is sent unless given",
        json_schema_extra=NO_EFFECT,
    )
    timeout: float = Field(60.0, gt=0, description="seconds of one call, answer included", json_schema_extra=NO_EFFECT)
    retries: int = Field(5, ge=0, description="further tries of a call that failed", json_schema_extra=NO_EFFECT)
    concurrency: int = Field(8, ge=1, description="calls at the same time", json_schema_extra=NO_EFFECT)
    requests_per_minute: float | None = Field(
        None, gt=0, description="calls started in a minute; no limit unless given", json_schema_extra=NO_EFFECT
    )
    max_calls: int | None = Field(
        None, ge=1, description="calls of the whole run, after which it stops", json_schema_extra=NO_EFFECT
    )
    max_cost: float | None = Field(
        None, gt=0, description="cost of the whole run, after which it stops", json_schema_extra=NO_EFFECT
    )
    price_input: float | None = Field(
        None, ge=0, description="price of a million tokens that are read", json_schema_extra=NO_EFFECT
    )
    price_output: float | None = Field(
        None, ge=0, description="price of a million tokens that are written", json_schema_extra=NO_EFFECT
    )

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("it is no address; write it as http://localhost:8000/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:  # it would stand in every run directory
            raise ValueError("an address holds no key, name or password; leave them out, and name api_key_env")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError("it is the name of an environment variable, in capitals, and never the key itself")
        return name

    @model_validator(mode="after")
    def _cost_is_known(self) -> ServerConfig:
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("price_input and price_output go together; give both, or none")
        if self.max_cost is not None and self.price_input is None:
            raise ValueError("max_cost needs price_input and price_output; give them, or max_calls instead")
        return self


class ChatModelConfig(Config):
    """Who answers: a local model, one on a server, or a program of rules."""

    model: Model | None = Field(None, description="a run, a folder, or a hub id, loaded here")
    server: ServerConfig | None = Field(None, description="in place of model: one that a server has")
    by: Object | None = Field(
        None, description="in place of model: rules, module:NAME with chat(conversations, n, params, keys)"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> ChatModelConfig:
        if sum(one is not None for one in (self.model, self.server, self.by)) != 1:
            raise ValueError(
                "give either model (a run, a folder, or a hub id), server (a block with base_url), or by (module:NAME)"
            )
        return self

    @property
    def called(self) -> str:
        """Its name in logs."""
        if self.server is not None:
            return self.server.model
        return default_name(self.model or str(self.by))
