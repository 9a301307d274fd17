"""A YAML file of stages, run in the order in which they need each other; what is finished is not run again.

    out: runs/mine          # where the stages' directories go; runs/<name of the file> unless given
    seed: 0                 # the seed of every stage that does not set its own
    stages:
      sft: {do: sft, policy: ..., demonstrations: ...}
      dpo: {do: dpo, policy: sft, preferences: pairs.train}

``do`` is a word of the command line, or ``module:run`` for a method of one's own (a module with Config and run); the
other keys are its config. A value of an input that equals a stage's name is that stage's output, ``stage.output`` where
it has several. Other paths are relative to the working directory. Each stage is checked before the first one runs, and
no torch is imported before that.
"""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from baro import config as blocks
from baro.errors import BaroError, ConfigError
from baro.files import hash_path
from baro.problems import problem_sentences
from baro.runs import RunDir, default_out

log = logging.getLogger("baro")
Run = Callable[..., RunDir]
KeyPath = tuple[str | int, ...]


class SplitConfig(blocks.Config):
    """``baro data split``."""

    file: str = Field(description="the file to cut in two: a run or a file")
    hold_out: float = Field(gt=0, description="how much is held out: a fraction below 1, or a number of rows")
    by: Literal["prompt", "row"] = Field("prompt", description="prompt keeps all rows of one prompt on one side")
    seed: int = Field(0, ge=0, description="seed of what is held out")


def split(config: SplitConfig, out: Path | str | None = None) -> RunDir:
    """Write ``train.jsonl`` and ``held_out.jsonl`` into a run directory; the same call returns what is finished."""
    from baro.data.check import split_file
    from baro.inputs import open_run, resolve
    from baro.methods.stage import write_figures

    run = open_run("data-split", config, {"file": (config.file, "records")}, out)
    if not run.finished:
        _, _, counts = split_file(resolve(config.file, "records"), config.hold_out, config.by, run.path, config.seed)
        write_figures(run, {name: float(count) for name, count in counts.items()})
        log.info("%s: %s", config.file, ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        run.finish()
    return run


class ReportConfig(blocks.Config):
    """``baro report``."""

    runs: list[str] | Literal["all"] = Field("all", description="the runs to report on; in a pipeline, all its stages")
    title: str = Field("Baro", description="the heading")
    language: Literal["en", "ko"] = Field("en", description="language of the report's own words")


def report(config: ReportConfig, out: Path | str | None = None) -> RunDir:
    """Write report.html and report.json into a run directory; the same call returns what is finished."""
    from baro.evaluate.report import build_report

    if config.runs == "all" or not config.runs:
        raise ConfigError("runs: outside of a pipeline, name the runs to report on")
    paths = {Path(value).name: Path(value) for value in config.runs}
    if len(paths) < len(config.runs):
        raise ConfigError("runs: two of them have the same name; a report needs runs with different names")
    hashes = {name: hash_path(RunDir.load(path).path / "run.json") for name, path in paths.items()}
    where = Path(out) if out is not None else default_out("report", blocks.config_hash(config, hashes))
    run = RunDir.open(where, verb="report", config=config, inputs=hashes, parents=list(paths.values()))
    if not run.finished:
        names = {str(path): name for name, path in paths.items()}
        build_report(list(paths.values()), run.path, title=config.title, names=names, language=config.language)
        run.finish()
    return run


# ------------------------------------------------------------------------------------------------------------- verbs


@dataclass(frozen=True)
class Verb:
    """What a stage can do. ``inputs``: config keys that may name a stage; ``outputs``: files beside the main one."""

    load: Callable[[], tuple[type[blocks.Config], Run]]
    inputs: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    main_output: bool = True  # whether the stage's own name is an output
    guessed: bool = False  # inputs may be plain text as well, so that what names no stage is left alone


def _method(module: str) -> Callable[[], tuple[type[blocks.Config], Run]]:
    def load() -> tuple[type[blocks.Config], Run]:
        found = import_module(module)
        return found.Config, found.run

    return load


def _own_method(name: str) -> Verb:
    """A method from outside the package. Each key of text may name a stage, since we do not know which are inputs."""
    from baro.inputs import load_object

    run = load_object(name)
    config = getattr(import_module(name.partition(":")[0]), "Config", None)
    if not (isinstance(config, type) and issubclass(config, blocks.Config) and callable(run)):
        raise ConfigError(f"{name}: a method is a function run(config, out) beside a class Config")
    texts = [key for key, one in config.model_fields.items() if one.annotation in (str, str | None)]
    return Verb(lambda: (config, run), (*texts, _HELD_OUT), guessed=True)


_HELD_OUT = "trainer.held_out"
_EVALUATED = ("policies", "against", "ref_policy", "prompts", "pairs", "baseline_pairs", "loss_on")
_SCORERS = ("judges", "rewards", "best_of")
VERBS: dict[str, Verb] = {
    "base": Verb(_method("baro.methods.base"), ("text", _HELD_OUT)),
    "sft": Verb(_method("baro.methods.sft"), ("policy", "demonstrations", _HELD_OUT)),
    "reward": Verb(_method("baro.methods.reward"), ("model", "preferences", _HELD_OUT)),
    "dpo": Verb(_method("baro.methods.dpo"), ("policy", "preferences", "ref_policy", _HELD_OUT)),
    "ppo": Verb(
        _method("baro.methods.ppo"),
        ("policy", "prompts", "reward_model", "rewards", "ref_policy", "value_model", _HELD_OUT),
        {"value_model": "value_model"},
    ),
    "generate": Verb(_method("baro.methods.generate"), ("policy", "prompts")),
    "label": Verb(_method("baro.methods.label"), ("answers", "by")),
    "feedback collect": Verb(_method("baro.feedback.collect"), ("answers", "choose.rewards"), {"pairs": "pairs.jsonl"}),
    "data split": Verb(
        lambda: (SplitConfig, split), ("file",), {"train": "train.jsonl", "held_out": "held_out.jsonl"}, False
    ),
    "evaluate": Verb(_method("baro.evaluate.evaluate"), _EVALUATED + _SCORERS),
    "report": Verb(lambda: (ReportConfig, report), ("runs",)),
}

# ---------------------------------------------------------------------------------------------------------- pipeline


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


def load_pipeline(
    source: Path | str | Mapping[str, Any], *, out: Path | str | None = None, overrides: Sequence[str] = ()
) -> Pipeline:
    """Read and check a whole pipeline. ``overrides`` are like ``stages.sft.trainer.steps=10``, as after ``--set``.

    Raises ConfigError with file:line for an unknown key, verb or stage, and for stages that wait for each other.
    """
    return _Reader(source, out, overrides).pipeline()


def run_pipeline(
    source: Path | str | Mapping[str, Any] | Pipeline, *, out: Path | str | None = None, overrides: Sequence[str] = ()
) -> dict[str, RunDir]:
    """Run every stage that is not finished, in this process, and return all by name; ``source`` may be loaded already.

    Killed and called again, it goes on where it was. A stage whose config or inputs changed is refused with the
    difference: nothing is deleted.
    """
    pipeline = source if isinstance(source, Pipeline) else load_pipeline(source, out=out, overrides=overrides)
    done: dict[str, RunDir] = {}
    skipped = 0
    for number, stage in enumerate(pipeline.stages, start=1):
        was_finished = stage.finished
        if not was_finished:
            log.info("%s: %s, stage %d of %d", stage.name, stage.do, number, len(pipeline.stages))
        done[stage.name] = _run_stage(stage)
        if was_finished:
            skipped += 1
            log.info("%s: finished, skipped", stage.name)
        gc.collect()  # models of this stage must not stand beside those of the next
    if skipped == len(pipeline.stages):
        log.info("all %d stages are finished; there was nothing to do", skipped)
    for stage in pipeline.stages:
        if stage.do == "report":
            log.info("report: %s", stage.out / "report.html")
    return done


def _run_stage(stage: Stage) -> RunDir:
    try:
        return stage.run(stage.config, stage.out)
    except BaroError as error:
        error.args = (f"{stage.name}: {error}",)
        raise


class _Reader:
    """One reading of a pipeline: the values with where each came from."""

    def __init__(
        self, source: Path | str | Mapping[str, Any], out: Path | str | None, overrides: Sequence[str]
    ) -> None:
        self.path = None if isinstance(source, Mapping) else Path(source)
        self.given, self.origins = blocks.read_config_file(self.path) if self.path else (_copied(source), {})
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
        resolved = self._with_paths(name, verb, seeded)
        if config_class is ReportConfig and resolved.get("runs", "all") == "all":
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
                return _own_method(str(do))
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

    def _with_paths(self, name: str, verb: Verb, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, with names of stages replaced by paths in the inputs."""
        resolved = _copied(values)
        for key in verb.inputs:
            *parents, last = key.split(".")
            block = resolved
            for parent in parents:
                block = block.get(parent) if isinstance(block, Mapping) else None
            if isinstance(block, dict) and last in block and (not verb.guessed or self._names_stage(block[last])):
                where = ("stages", name, *parents, last)
                block[last] = self._reference(name, where, block[last], all_runs=verb is VERBS.get("report"))
        return resolved

    def _names_stage(self, value: Any) -> bool:
        return isinstance(value, str) and value.partition(".")[0] in self.outline.stages

    def _reference(self, name: str, where: KeyPath, value: Any, *, all_runs: bool = False) -> Any:
        if isinstance(value, dict):
            return {key: self._reference(name, (*where, key), inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._reference(name, (*where, i), inner, all_runs=all_runs) for i, inner in enumerate(value)]
        if not isinstance(value, str) or (all_runs and value == "all"):
            return value
        stage, _, output = value.partition(".")
        if stage in self.outline.stages and (not output or not Path(value).exists()):
            self.needs[name].append(stage)
            return self._output(where, stage, output, any_run=all_runs)
        if ":" in value or Path(value).exists() or _may_be_hub_id(value):
            return value
        raise self._error(where, f"{value!r} is no stage, file or folder; {_meant(value, self.outline.stages)}")

    def _output(self, where: KeyPath, stage: str, output: str, *, any_run: bool) -> str:
        verb = self._verb(stage, self.outline.stages[stage])
        names = [f"{stage}.{name}" for name in verb.outputs]
        if not output and (verb.main_output or any_run):
            return str(self.out / stage)
        if not output:
            raise self._error(where, f"stage {stage!r} has several outputs; write {' or '.join(names)}")
        if output not in verb.outputs:
            known = f"it has {' and '.join(names)}" if names else f"write {stage}"
            raise self._error(where, f"stage {stage!r} has no output {output!r}; {known}")
        return str(self.out / stage / verb.outputs[output])

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


def _may_be_hub_id(value: str) -> bool:
    return value.count("/") == 1 and not value.startswith((".", "/", "~")) and not value.endswith((".jsonl", ".gz"))


def _meant(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def _copied(value: Any) -> Any:
    """Dicts and lists as plain ones of our own."""
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value
