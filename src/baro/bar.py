"""The progress bar of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from baro.runs import RunDir


@contextmanager
def training_bar(run: RunDir | None, total: int, done: int) -> Iterator[Any]:
    """A bar with loss and time left on stderr; nothing for runs that write nothing."""
    if run is None:
        yield lambda step, metrics: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(run.verb, total=total, completed=done, loss="–")
        yield lambda step, metrics: bar.update(task, completed=step, loss=_shown(metrics.get("loss")))


def _shown(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"
