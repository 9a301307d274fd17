"""``baro evaluate``: policies on the same prompts, against one of them, and scorers on preference pairs.

Figures, each with a 95% interval by a bootstrap over prompts (proportions of pairs: Wilson):

    P/win_rate/J                     mean verdict of judge J for policy P against ``against``; a tie is 0.5
    P/win_rate_length_controlled/J   the same at equal length in tokens (functional/statistics.py)
    P/kl                             nats per completion: mean over P's own samples of Σ_t log π(y_t) − log π_ref(y_t),
                                     both at the sampling temperature: an estimate of KL(π ‖ π_ref) as they answer
    P/kl_bound                       nats: an upper bound of the KL of best-of-n, log n − (n−1)/n
    P/reward/R                       mean score by reward R
    P/accuracy/R, P/pass_at_K/R, P/maj_at_N/R, P/unsolved_fraction/R
                                     where R says right or wrong: evaluate/solved.py
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

from rich.console import Console
from rich.table import Column, Table

from baro.evaluate import losses, pairs, versus
from baro.evaluate.config import Config
from baro.functional.statistics import Interval
from baro.inputs import open_run
from baro.methods import stage
from baro.runs import RunDir


def run(config: Config, out: Path | str | None = None) -> RunDir:
    """Evaluate, write figures.json and comparisons.jsonl; the same call returns what is finished."""
    run = open_run("evaluate", config, out)
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
