"""Configs: a YAML file, ``--set a.b=c`` and plain values become one frozen pydantic model. No torch here.

Every error is a ConfigError with one sentence per problem, in the order of the file: where, which key, what is wrong,
what to do. YAML is read by the rules of YAML 1.2: ``5e-7`` is a number; ``yes``, ``off`` and dates are text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from baro.declared import Records, check_once
from baro.errors import ConfigError
from baro.problems import KeyPath, Origin, dotted, problem_sentences, shown, union_members
from baro.records import SamplingParams

NO_EFFECT: dict[str, Any] = {"no_effect": True}
"""``json_schema_extra`` of a field that changes no result: it is left out of hashes and may change at a resume."""

MAY_REPEAT: dict[str, Any] = {"may_repeat": True}
"""``json_schema_extra`` of a list whose members are no names, and may be equal."""


class Config(BaseModel):
    """Base of all configs: frozen, unknown keys refused, no silent conversions, no NaN or infinity.

    A block that is given in part keeps the rest of the default that its owner has for it, not of the block's class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    _either: ClassVar[tuple[tuple[str, str], ...]] = ()  # fields that replace each other: one given drops the other

    @model_validator(mode="before")
    @classmethod
    def _complete_blocks(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        completed = dict(values)
        for name, field in cls.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            if isinstance(default, Config) and isinstance(completed.get(name), Mapping):
                completed[name] = default._with(completed[name])
        return completed

    def _with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What this block was made with, and ``given`` over it."""
        replaced = {name for pair in self._either if any(given.get(key) is not None for key in pair) for name in pair}
        made_with = {name: getattr(self, name) for name in self.model_fields_set - replaced}
        for name, value in given.items():
            inner = made_with.get(name)
            made_with[name] = inner._with(value) if isinstance(inner, Config) and isinstance(value, Mapping) else value
        return made_with

    @field_validator("*", mode="before")
    @classmethod
    def _no_silent_conversion(cls, value: Any, field: ValidationInfo) -> Any:
        """Pydantic would read true as 1 and the text '8' as 8; only the text of a float is let through."""
        kinds = union_members(cls.model_fields[field.field_name or ""].annotation)
        from_bool = isinstance(value, bool) and bool not in kinds
        from_text = isinstance(value, str) and str not in kinds and float not in kinds
        if (from_bool or from_text) and (int in kinds or float in kinds):
            raise PydanticKnownError("int_type" if int in kinds else "float_type")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _each_once(cls, value: Any, field: ValidationInfo) -> Any:
        """A list of names holds each once; of named blocks, their class looks at the names."""
        if isinstance(value, list | tuple) and cls.model_fields[field.field_name or ""].json_schema_extra != MAY_REPEAT:
            check_once([one for one in value if isinstance(one, str)])
        return value

    @model_validator(mode="after")
    def _muon_has_matrices(self) -> Config:
        muon = getattr(getattr(self, "trainer", None), "optimizer", "adamw") == "muon"
        for key in ("lora", "freeze_backbone"):
            if muon and getattr(self, key, None):
                raise ValueError(f"trainer.optimizer muon trains whole matrices, and {key} trains none; take adamw")
        return self


class OptimiserConfig(Config):
    """How long and how fast a model is trained; of online methods all of the block ``trainer``."""

    _either: ClassVar[tuple[tuple[str, str], ...]] = (("epochs", "steps"),)

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: Muon for the matrices of the layers, and AdamW for all else"
    )
    learning_rate: float = Field(gt=0, description="the optimiser's learning rate at its highest")
    epochs: float | None = Field(None, gt=0, description="how often every row or prompt is seen; 1 without steps")
    steps: int | None = Field(None, ge=1, description="optimiser steps of the whole run, in place of epochs")
    micro_batch_tokens: int = Field(8192, ge=1, description="tokens computed at once: memory and speed, not results")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="the learning rate after warm-up")
    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rate rises linearly from 0")
    max_grad_norm: float = Field(1.0, ge=0, description="norm that each model's gradients are cut to; 0 cuts none")
    weight_decay: float = Field(
        0.0, ge=0, description="what of a weight is taken off in a step, times the learning rate"
    )
    seed: int = Field(0, ge=0, description="seed of the order, of new weights and of sampling")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints", json_schema_extra=NO_EFFECT)

    @model_validator(mode="after")
    def _one_length(self) -> OptimiserConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps are both given; keep one (the other may be null)")
        if self.epochs is None and self.steps is None:
            object.__setattr__(self, "epochs", 1.0)  # past `frozen`: nobody else has seen this config yet
        return self


class TrainerConfig(OptimiserConfig):
    """The block ``trainer`` of methods that learn from a file: also how many rows a step takes, and held-out rows."""

    _either: ClassVar[tuple[tuple[str, str], ...]] = (("epochs", "steps"), ("held_out", "held_out_fraction"))

    batch_size: int = Field(32, ge=1, description="prompts per optimiser step, over all processes")
    evaluate_every: int = Field(0, ge=0, description="steps between held-out losses; 0 is ten times a run")
    held_out_fraction: float = Field(0.0, ge=0, lt=1, description="share of the prompts held out of training")
    held_out: Records | None = Field(None, description="file of the held-out rows, in place of held_out_fraction")
    keep: Literal["last", "best"] = Field("last", description="the weights kept: the last, or of least held-out loss")

    @model_validator(mode="after")
    def _fits_together(self) -> TrainerConfig:
        held_out = self.held_out is not None or self.held_out_fraction > 0
        if self.held_out is not None and self.held_out_fraction > 0:
            raise ValueError("held_out and held_out_fraction are both given; keep one")
        if self.keep == "best" and not held_out:
            raise ValueError("keep: best needs held-out rows; give held_out or held_out_fraction")
        if self.evaluate_every and not held_out:
            raise ValueError("evaluate_every needs held-out rows; give held_out or held_out_fraction")
        return self


class SamplingConfig(Config):
    """How completions are drawn."""

    max_new_tokens: int = Field(64, ge=1, description="tokens after which a completion is cut off")
    temperature: float = Field(1.0, ge=0, description="logits are divided by it; 0 takes the likeliest token")
    top_k: int = Field(0, ge=0, description="only the k likeliest tokens are drawn from; 0 is all")
    top_p: float = Field(1.0, gt=0, le=1, description="only the likeliest tokens of this total probability; 1 is all")
    min_p: float = Field(0.0, ge=0, le=1, description="only tokens of this share of the highest probability; 0 is all")

    def params(self) -> SamplingParams:
        """The same as the plain value that samplers take."""
        return SamplingParams(**self.model_dump())


class DataConfig(Config):
    """How rows become tokens, and how many of them may be left out."""

    max_length: int = Field(1024, ge=1, description="most tokens of a prompt with its completion")
    max_dropped_fraction: float = Field(0.01, ge=0, le=1, description="share of dropped rows above which the run stops")
    encoding: str = Field("utf-8", description="of files of text, where it is another: cp949 of a Korean spreadsheet")
    template: Literal["auto", "plain", "none", "open"] = Field(
        "auto", description="auto: the model's own, or plain; none: raw continuation; open: without an end, too"
    )
    system: Literal["keep", "merge", "drop"] = Field(
        "keep", description="system messages: as they are, above the first question, or left out"
    )
    criteria: list[str] = Field([], description="columns that are scores, besides those that are known as such")
    ignore: list[str] = Field([], description="columns that judge the rows and are to be left aside")

    @model_validator(mode="after")
    def _scored_or_left_aside(self) -> DataConfig:
        if both := [one for one in self.criteria if one in self.ignore]:
            raise ValueError(f"column {both[0]!r} stands in criteria and in ignore; keep one")
        return self


C = TypeVar("C", bound=Config)


def load_config(
    cls: type[C], path: Path | None, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> C:
    """The file, then ``--set`` overrides, then plain values: the later wins, blocks are joined."""
    given, origins = read_config_file(path) if path is not None else ({}, {(): (0, "")})
    for position, override in enumerate(overrides):
        put_value(given, origins, *parse_override(override), (10**9 + position, f"--set {override}"))
    for key, value in (values or {}).items():
        put_value(given, origins, (key,), value, (10**10, ""))
    try:
        return cls.model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(problem_sentences(cls, given, origins, error))) from None


def identity(config: Config) -> dict[str, Any]:
    """What a config's results depend on, as JSON values: all of it but the fields marked ``NO_EFFECT``."""
    kept, everything = {}, config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        if field.json_schema_extra != NO_EFFECT:
            kept[name] = _identity_of(getattr(config, name), everything[name])
    return kept


def _identity_of(value: Any, dumped: Any) -> Any:
    """A field's value without what is marked in the blocks that it holds; ``dumped``: it as JSON values."""
    if isinstance(value, Config):
        return identity(value)
    if isinstance(value, list | tuple):
        return [_identity_of(one, own) for one, own in zip(value, dumped, strict=True)]
    if isinstance(value, Mapping):
        return {str(key): _identity_of(one, dumped[str(key)]) for key, one in value.items()}
    return dumped


def config_hash(config: Config, inputs: Mapping[str, str]) -> str:
    """8 hex digits that name a config with the hashes of its inputs: SHA-256 of their canonical JSON."""
    whole = {"config": identity(config), "inputs": dict(inputs)}
    canonical = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: PyYAML takes 5e-7 for text, and ``no`` for false."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


for _tag, _pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?(0|[1-9][0-9_]*)"),
    ("float", r"[-+]?(\d[\d_]*\.[\d_]*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(?i:inf)|\.(?i:nan)"),
    ("merge", r"<<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$", re.A), None)


def read_config_file(path: Path) -> tuple[dict[str, Any], dict[KeyPath, Origin]]:
    try:
        value, lines = _read_yaml(path.read_bytes(), lambda line: f"{path}:{line}")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path of the config") from None
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{path}:1: a config is a block of keys, not {shown(value)}; write KEY: VALUE lines")
    return value or {}, {(): (0, str(path)), **{key: (line, f"{path}:{line}") for key, line in lines.items()}}


def _read_yaml(text: bytes, place: Callable[[int], str]) -> tuple[Any, dict[KeyPath, int]]:
    """The value of a YAML text, and the line of every key and list item."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = _key_lines(node, place)
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where, problem = place(mark.line + 1 if mark else 1), ", ".join(filter(None, (error.context, error.problem)))
    except yaml.reader.ReaderError as error:
        where, problem = place(text.count(b"\n", 0, error.position) + 1), "it is not plain UTF-8 text"
    raise ConfigError(f"{where}: this is not valid YAML ({problem}); check indentation, colons and quotes")


def _key_lines(root: yaml.Node | None, place: Callable[[int], str]) -> dict[KeyPath, int]:
    """The line of every key and list item; a key that stands twice in one block is refused."""
    lines: dict[KeyPath, int] = {}
    pending: list[tuple[KeyPath, yaml.Node | None]] = [((), root)]
    seen: set[int] = set()  # an anchored node has one place however often it is referred to
    while pending:
        path, node = pending.pop()
        seen.add(id(node))
        for part, line, value in _children(node):
            key = (*path, part)
            if key in lines:
                raise ConfigError(f"{place(line)}: the key '{dotted(key)}' stands in line {lines[key]} too; keep one")
            lines[key] = line
            pending += [] if id(value) in seen else [(key, value)]
    return lines


def _children(node: yaml.Node | None) -> Iterator[tuple[str | int, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), key.start_mark.line + 1, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((index, item.start_mark.line + 1, item) for index, item in enumerate(node.value))


def parse_override(override: str) -> tuple[KeyPath, Any]:
    """The key and the value of ``--set a.b=c``; the value is YAML."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: this is no assignment; write --set KEY=VALUE or --set BLOCK.KEY=VALUE")
    return path, _read_yaml(text.encode(), lambda line: f"--set {override}")[0]


def put_value(given: dict[str, Any], origins: dict[KeyPath, Origin], path: KeyPath, value: Any, origin: Origin) -> None:
    """Put a value at ``path``, in place, over what the file or an earlier override has there."""
    block: dict[Any, Any] = given
    for depth, part in enumerate(path[:-1], start=1):
        inner = block.get(part)
        if inner is not None and not isinstance(inner, dict):
            start, parent = f"{origin[1]}: " * bool(origin[1]), dotted(path[:depth])
            raise ConfigError(f"{start}'{parent}' is {shown(inner)} and has no keys; set all of '{parent}' at once")
        block[part] = block = dict(inner or {})  # a copy: an anchored block may stand in two places
    if isinstance(value, Mapping) and isinstance(block.get(path[-1]), dict):
        for name, inner in value.items():
            put_value(given, origins, (*path, name), inner, origin)
        return
    block[path[-1]] = value
    for key in [key for key in origins if key[: len(path)] == path]:
        del origins[key]
    origins[path] = origin
