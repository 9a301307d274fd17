"""Reads a pipeline's file: checks every stage, replaces names of stages by paths, and puts the stages in order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from baro import config as blocks
from baro.constitution import SHIPPED
from baro.data.hub import at_hub
from baro.data.splits import asked_for
from baro.declared import FEEDBACK, Kind, Named, inputs_in, is_object
from baro.errors import ConfigError
from baro.hub import is_hub_id
from baro.problems import KeyPath, Origin, problem_sentences
from baro.runs import RunDir
from baro.verbs import FITS, VERBS, Makes, Run, Verb, output_makes, own_method

WORDS: Mapping[Makes, str] = {
    "policy": "a policy",
    "scorer": "a reward or value model",
    "records": "records",
    "nothing": "nothing that other stages take",
    "anything": "what its method makes",
}
WORDS_OF_KIND: Mapping[Kind, str] = {
    "model": "a model",
    "records": "records",
    "scorer": "what gives scores",
    "object": "a Python object, module:NAME",
    "constitution": "a constitution, a name or a YAML file",
    "run": "a run",
}


class Outline(blocks.Config):
    """The top level of a pipeline file."""

    stages: dict[str, dict[str, Any]] = Field(description="names of stages with what they do")
    out: str | None = Field(None, description="where the stages' directories go")
    seed: int | None = Field(None, ge=0, description="the seed of every stage that does not set its own")


@dataclass(frozen=True)
class Stage:
    """One stage, ready to run."""

    name: str
    do: str
    config: blocks.Config
    run: Run
    needs: tuple[str, ...]  # names of the stages whose outputs it reads
    out: Path

    @property
    def finished(self) -> bool:
        """Whether its directory says so."""
        return (self.out / "run.json").exists() and RunDir.load(self.out).finished


@dataclass(frozen=True)
class Pipeline:
    """Stages in an order in which each comes after those that it needs."""

    stages: tuple[Stage, ...]
    out: Path


class Reader:
    """One reading of a pipeline: the values with where each came from."""

    def __init__(
        self, source: Path | str | Mapping[str, Any], out: Path | str | None, overrides: Sequence[str]
    ) -> None:
        self.path = None if isinstance(source, Mapping) else Path(source)
        self.given: dict[str, Any]
        self.origins: dict[KeyPath, Origin]
        self.given, self.origins = blocks.read_config_file(self.path) if self.path else (copied(source), {})
        for position, override in enumerate(overrides):
            key, value = blocks.parse_override(override)
            blocks.put_value(self.given, self.origins, key, value, (10**9 + position, f"--set {override}"))
        self.outline = self._checked(Outline, (), self.given)
        default = Path("runs") / (self.path.stem if self.path else "pipeline")
        self.out = Path(out or self.outline.out or default)
        self.needs: dict[str, list[str]] = {}

    def pipeline(self) -> Pipeline:
        """Check all stages, replace names by paths, and put them in order."""
        if not self.outline.stages:
            raise ConfigError(f"{self._place(('stages',))}'stages' is empty; add a stage, NAME: {{do: VERB, ...}}")
        for name in self.outline.stages:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise self._error(("stages", name), f"{name!r} is no name for a stage; use letters, digits, - and _")
        stages = {name: self._stage(name, values) for name, values in self.outline.stages.items()}
        order = list(self._order())
        for name in order:
            if stages[name].do == "report" and self.outline.stages[name].get("runs", "all") == "all":
                stages[name] = self._about_all(stages[name], order)
        return Pipeline(tuple(stages[name] for name in order), self.out)

    def _about_all(self, stage: Stage, order: Sequence[str]) -> Stage:
        """A report on all stages tells them in the order in which they run."""
        runs = [str(self.out / name) for name in order if name in stage.needs]
        return replace(stage, config=stage.config.model_copy(update={"runs": runs}))

    def _stage(self, name: str, values: Mapping[str, Any]) -> Stage:
        verb = self._verb(name, values)
        config_class, run = verb.load()
        own = {key: value for key, value in values.items() if key != "do"}
        seeded = self._with_seed(config_class, own)
        self._checked(config_class, ("stages", name), seeded)  # as written, so that errors quote what was written
        self.needs[name] = []
        resolved = self._with_paths(name, config_class, seeded)
        if values["do"] == "report" and resolved.get("runs", "all") == "all":
            self.needs[name] = [other for other, value in self.outline.stages.items() if value.get("do") != "report"]
        config = self._checked(config_class, ("stages", name), resolved)
        needs = tuple(dict.fromkeys(self.needs[name]))
        return Stage(name, values["do"], config, run, needs, self.out / name)

    def _verb(self, name: str, values: Mapping[str, Any]) -> Verb:
        do = values.get("do")
        if do is None:
            raise self._error(("stages", name), f"stage {name!r} does not say what to do; add do: VERB")
        if do not in VERBS and ":" in str(do):
            try:
                return own_method(str(do))
            except ConfigError as error:
                raise self._error(("stages", name, "do"), str(error)) from error
        if do not in VERBS:
            raise self._error(("stages", name, "do"), f"no verb {do!r}; {_meant(str(do), VERBS)}, or module:run")
        return VERBS[do]

    def _with_seed(self, config_class: type[blocks.Config], values: dict[str, Any]) -> dict[str, Any]:
        """The values with the pipeline's seed, where the stage has a seed and sets none."""
        fields, seed = config_class.model_fields, self.outline.seed
        if seed is None:
            return values
        if "trainer" in fields and isinstance(trainer := values.get("trainer", {}), Mapping):
            return values | {"trainer": {"seed": seed} | dict(trainer)}
        return {"seed": seed} | values if "seed" in fields else values

    def _with_paths(self, name: str, config_class: type[blocks.Config], values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, with names of stages replaced by paths in whatever the config declares as an input."""
        resolved: dict[str, Any] = copied(values)
        for one in list(inputs_in(config_class, resolved)):
            block: Any = resolved
            for part in one.path[:-1]:
                block = block[part]
            if one.path[-1] == "by" and block.get("combine") is not None:
                self._check_several(("stages", name, *one.path[:-1], "combine"), one.value)
            block[one.path[-1]] = self._reference(name, ("stages", name, *one.path), one)
        return resolved

    def _check_several(self, where: KeyPath, value: str) -> None:
        """``combine`` of a stage that trains one reward model."""
        values = self.outline.stages.get(value, {})
        if values.get("do") == "reward" and values.get("members", 1) == 1:
            way_out = f"leave it out, or give stage {value!r} members: 4"
            raise self._error(where, f"combine is for several members, and {value!r} trains one; {way_out}")

    def _reference(self, name: str, where: KeyPath, named: Named) -> str:
        """A stage's output, or the value as it is where it can be found without one."""
        value, kind = named.value, named.kind
        stage, _, output = value.partition(".")
        if stage in self.outline.stages and (not output or not Path(value).exists()):
            self.needs[name].append(stage)
            return self._output(where, stage, output, named)
        known = Path(value).exists() or (kind == "records" and value.startswith(FEEDBACK))
        known = known or (kind == "records" and (asked_for(Path(value))[1] is not None or at_hub(value)))
        known = known or (kind in ("scorer", "object") and is_object(value))
        known = known or (kind == "constitution" and value in SHIPPED)
        if known or (kind in ("model", "records", "scorer") and is_hub_id(value)):
            return value
        raise self._error(where, f"{value!r} is no stage, file or folder; {_meant(value, self.outline.stages)}")

    def _output(self, where: KeyPath, stage: str, output: str, named: Named) -> str:
        verb = self._verb(stage, self.outline.stages[stage])
        names = [f"{stage}.{name}" for name in verb.outputs]
        if output and output not in verb.outputs:
            known = f"it has {' and '.join(names)}" if names else f"write {stage}"
            raise self._error(where, f"stage {stage!r} has no output {output!r}; {known}")
        makes = output_makes(verb.outputs[output]) if output else verb.makes
        if makes not in FITS[named.kind]:
            fitting = [one for one in names if output_makes(verb.outputs[one.partition(".")[2]]) in FITS[named.kind]]
            what = f"stage {stage!r} makes {WORDS[makes]}, and {named.key!r} needs {WORDS_OF_KIND[named.kind]}"
            raise self._error(where, f"{what}; write {' or '.join(fitting) if fitting else 'another stage'}")
        return str(self.out / stage / verb.outputs[output] if output else self.out / stage)

    def _order(self) -> Iterator[str]:
        """The stages, each after those that it needs, otherwise as in the file."""
        waiting = list(self.needs)
        done: set[str] = set()
        while waiting:
            ready = next((name for name in waiting if done.issuperset(self.needs[name])), None)
            if ready is None:
                raise self._cycle(waiting, done)
            waiting.remove(ready)
            done.add(ready)
            yield ready

    def _cycle(self, waiting: Sequence[str], done: set[str]) -> ConfigError:
        """Walk from need to need until a stage comes again."""
        walked = [waiting[0]]
        while walked.count(walked[-1]) == 1:
            walked.append(next(need for need in self.needs[walked[-1]] if need not in done))
        circle = walked[walked.index(walked[-1]) :]
        needs = " needs ".join(circle)
        return self._error(("stages", circle[0]), f"stages wait for each other: {needs}; break the circle")

    # ------------------------------------------------------------------------------------------------------ errors

    def _checked(self, config_class: type[Any], where: KeyPath, values: Mapping[str, Any]) -> Any:
        """The config of the block at ``where``; an error names the line of each key that is wrong."""
        try:
            return config_class.model_validate(values)
        except ValidationError as error:
            here = {key[len(where) :]: place for key, place in self.origins.items() if key[: len(where)] == where}
            sentences = problem_sentences(config_class, values, {(): (0, "")} | here, error)  # no file, no line
            stage = f" in stage {where[1]!r}" if len(where) > 1 and not self.path else ""
            raise ConfigError("\n".join(sentence + stage for sentence in sentences)) from None

    def _place(self, where: KeyPath) -> str:
        """``file:line: `` of the nearest key that has one."""
        known = [self.origins[where[:n]][1] for n in range(len(where) + 1) if where[:n] in self.origins]
        return f"{known[-1]}: " if known else ""

    def _error(self, where: KeyPath, sentence: str) -> ConfigError:
        return ConfigError(self._place(where) + sentence)


def _meant(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def copied(value: Any) -> Any:
    """Dicts, lists and configs as plain ones of our own."""
    if isinstance(value, blocks.Config):
        return value.model_dump(exclude_unset=True, by_alias=True)
    if isinstance(value, Mapping):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list | tuple) else value
