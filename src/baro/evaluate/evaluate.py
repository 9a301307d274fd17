"""``baro evaluate``: policies on the same prompts, against one of them, and scorers on preference pairs.

Figures, each with a 95% interval by a bootstrap over prompts (proportions of pairs: Wilson):

    P/win_rate/J                     mean verdict of judge J for policy P against ``against``; a tie is 0.5
    P/win_rate_length_controlled/J   the same at equal length in tokens (functional/statistics.py)
    P/kl                             nats per completion: mean over P's own samples of Σ_t log π(y_t) − log π_ref(y_t),
                                     both at the sampling temperature: an estimate of KL(π ‖ π_ref) as they answer
    P/kl_bound                       nats: an upper bound of the KL of best-of-n, log n − (n−1)/n
    P/reward/R                       mean score by reward R
    P/loss                           nats per token on the texts of ``loss_on`` (evaluate/losses.py)
    P/ref_loss                       nats per token: mean over P's own samples of −(1/|y|) Σ_t log π_ref(y_t), at the
                                     sampling temperature: how fluent the reference finds them
    P/tokens, P/finished_fraction    length of a completion in tokens; share that ended by itself
    P/distinct_2                     different word pairs over all word pairs
    X/pair_accuracy                  how often policy, reward or judge X prefers the better completion of a pair
    baseline/longer_wins, baseline/unigram   the same for the number of characters, and for the choice of words
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Column, Table

from baro import config as blocks
from baro.errors import ConfigError
from baro.evaluate import losses, pairs, versus
from baro.functional.statistics import Interval
from baro.inputs import Kind, open_run
from baro.methods import stage
from baro.runs import RunDir


class BestOf(blocks.Config):
    """A control: of ``n`` samples of ``against``, the one that ``by`` scores highest."""

    n: int = Field(ge=2, description="samples drawn from `against` for each answer")
    by: str = Field(description="a reward run or folder, or a function module:NAME")


class Config(blocks.Config):
    """``baro evaluate``."""

    policies: list[str] | dict[str, str] = Field(
        [], description="the models to evaluate: runs, folders, hub ids; or names for them"
    )
    against: str | None = Field(None, description="the model whose answers theirs are compared with")
    prompts: str | None = Field(None, description="what all of them answer: a run or a file")
    pairs: str | None = Field(None, description="preference pairs to measure accuracy on: a run or a file")
    baseline_pairs: str | None = Field(
        None, description="pairs that the unigram baseline learns from; not those in `pairs`"
    )
    loss_on: str | None = Field(None, description="answers or demonstrations that every policy's loss is measured on")
    judges: dict[str, str] = Field({}, description="names and judges, module:NAME with compare(pairs)")
    rewards: dict[str, str] = Field({}, description="names and rewards: runs, folders, or functions module:NAME")
    ref_policy: str | None = Field(None, description="the model that KL is measured to; `against` unless given")
    best_of: BestOf | dict[str, BestOf] | None = Field(None, description="controls: the best of n samples of `against`")
    completions: int = Field(1, ge=1, description="answers of each policy to each prompt")
    sampling: blocks.SamplingConfig = blocks.SamplingConfig()
    seed: int = Field(0, ge=0, description="seed of the sampling and of the bootstrap")
    limit: int | None = Field(None, ge=1, description="only so many prompts, the first ones; all unless given")
    data: blocks.DataConfig = blocks.DataConfig()

    @model_validator(mode="after")
    def _something_to_do(self) -> Config:
        if self.prompts is None and self.pairs is None and self.loss_on is None:
            raise ValueError(
                "give prompts (to compare policies on), pairs (to measure accuracy on), or loss_on (to measure loss on)"
            )
        if (self.prompts is not None or self.loss_on is not None) and not self.policies:
            raise ValueError("policies is empty; name at least one model to evaluate")
        if self.best_of is not None and self.against is None:
            raise ValueError("best_of draws from `against`, which is not given")
        if self.judges and self.prompts is not None and self.against is None:
            raise ValueError("judges compare with `against`, which is not given")
        if clash := sorted(self.judges.keys() & self.rewards.keys()):
            raise ValueError(f"a judge and a reward are both called {clash[0]}; rename one")
        named = [
            *(self.policies if isinstance(self.policies, dict) else ()),
            *self.judges,
            *self.rewards,
            *self.controls,
        ]
        if slashed := [name for name in named if "/" in name]:
            raise ValueError(f"the name {slashed[0]!r} has a '/', which separates the parts of a figure's name")
        return self

    @property
    def names(self) -> dict[str, str]:
        """Every policy's name and where it lies; a list's members are called by the last part of their path."""
        if isinstance(self.policies, dict):
            return dict(self.policies)
        named: dict[str, str] = {}
        for value in self.policies:
            if named.setdefault(Path(value).name, value) != value:
                both = f"{named[Path(value).name]} and {value}"
                raise ConfigError(f"policies: {both} have the same name; give names of your own, NAME: RUN")
        return named

    @property
    def controls(self) -> dict[str, BestOf]:
        """Every best-of-n control by its name."""
        if isinstance(self.best_of, BestOf):
            return {f"best-of-{self.best_of.n}": self.best_of}
        return dict(self.best_of or {})


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Evaluate, write figures.json and comparisons.jsonl; the same call returns what is finished."""
    run = open_run("evaluate", config, inputs_of(config), out)
    if run.finished:
        return run
    figures: dict[str, Interval | float] = {}
    if config.prompts is not None:
        figures |= versus.compare(run, config)
    if config.pairs is not None:
        figures |= pairs.measure(run, config)
    if config.loss_on is not None:
        figures |= losses.measure(run, config)
    stage.write_figures(run, figures)
    Console(stderr=True).print(table_of(figures))
    run.finish("finished")
    return run


def inputs_of(config: Config) -> dict[str, tuple[str, Kind]]:
    """Everything that the figures depend on besides the config."""
    named: dict[str, tuple[str | None, Kind]] = {
        "against": (config.against, "model"),
        "ref_policy": (config.ref_policy, "model"),
        "prompts": (config.prompts, "records"),
        "pairs": (config.pairs, "records"),
        "baseline_pairs": (config.baseline_pairs, "records"),
        "loss_on": (config.loss_on, "records"),
    }
    groups: dict[str, Mapping[str, str]] = {
        "policies": config.names,
        "judges": config.judges,
        "rewards": config.rewards,
        "best_of": {name: one.by for name, one in config.controls.items()},
    }
    several = {f"{key}.{name}": (value, "model") for key, group in groups.items() for name, value in group.items()}
    return {name: (value, kind) for name, (value, kind) in (named | several).items() if value is not None}


def table_of(figures: Mapping[str, Interval | float]) -> Table:
    """A line for each figure, those of a policy, reward or judge together."""
    table = Table(Column("figure", overflow="fold"), "value", "95% interval", "n")
    groups: dict[str, list[str]] = {}
    for name in figures:
        groups.setdefault(name.partition("/")[0], []).append(name)
    for names in groups.values():
        for name in names:
            table.add_row(name, *shown(figures[name]), end_section=name == names[-1])
    return table


def shown(figure: Interval | float) -> tuple[str, str, str]:
    """A figure, its interval, and how many units it rests on."""
    if isinstance(figure, Interval):
        return f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", str(figure.n)
    return f"{figure:.3f}", "", ""
