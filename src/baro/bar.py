"""Progress bars on stderr: of a training run, of work with a known end, of a sequence taken in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from baro.runs import RunDir

T = TypeVar("T")
_shown_now: list[None] = []  # one for each bar of a work that is under way: two would write over each other


@contextmanager
def _showing() -> Iterator[None]:
    _shown_now.append(None)
    try:
        yield
    finally:
        _shown_now.pop()


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


@contextmanager
def progress_bar(description: str, total: int, *, transient: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with the time left; call what is yielded with how many are done.

    A transient one goes when it is done, and is not there at all where stderr is a file, or inside another one.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = transient and (not console.is_terminal or bool(_shown_now))
    with (
        _showing(),
        Progress(*columns, TimeRemainingColumn(), console=console, transient=transient, disable=hidden) as bar,
    ):
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def calls_bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr that goes when it is done; call what is yielded with how many are done, and what they took."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[took]}"))
    hidden = not console.is_terminal or bool(_shown_now)
    with (
        _showing(),
        Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden) as bar,
    ):
        task = bar.add_task(description, total=total, took="")
        yield lambda done, took: bar.update(task, completed=done, took=took)


def in_parts(items: Sequence[T], size: int, description: str) -> Iterator[Sequence[T]]:
    """The items, ``size`` at a time, with a bar that goes when they are done."""
    with progress_bar(description, len(items), transient=True) as show:
        for start in range(0, len(items), size):
            yield items[start : start + size]
            show(min(start + size, len(items)))
