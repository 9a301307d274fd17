"""Whether the same run gives the same bits: on a CPU it does; on a GPU as far as torch has deterministic kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_SIGN = "determin"  # in each of torch's warnings about a kernel that is not


@contextmanager
def deterministic(device: torch.device, tell: Callable[[str], None]) -> Iterator[None]:
    """On a GPU, have torch take its deterministic kernels; ``tell`` is given each operation that has none, once.

    On a CPU nothing is set: its kernels give the same bits for the same versions, threads and kind of machine.
    """
    if device.type == "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # a module whose class has properties
    fill = settings.fill_uninitialized_memory
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f".*{_SIGN}")
        show = warnings.showwarning

        def hear(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            text = str(message)
            if _SIGN not in text:
                show(message, category, *place, **more)
            elif (operation := _operation(text)) not in told:
                told.add(operation)
                tell(operation)

        warnings.showwarning = hear
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)
            settings.fill_uninitialized_memory = False  # a debugging aid, and a pass over all memory
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            settings.fill_uninitialized_memory = fill


def _operation(warning: str) -> str:
    """The operation's name, as far as torch's sentence has one at its start."""
    name, found, _ = warning.partition(" does not have a deterministic")
    return name if found else warning.partition(".")[0]
