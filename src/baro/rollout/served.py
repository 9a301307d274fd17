"""What servers answered in a run: each call on the disk when it ends, known by its content and never made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baro.chat_config import ServerConfig
from baro.errors import BackendError
from baro.files import fault_point
from baro.rows import JsonLines

FILE = "server_calls.jsonl"


@dataclass
class Spent:
    """What the calls of one server took so far, over all starts of the run."""

    calls: int = 0
    failed: int = 0
    read: int = 0  # tokens
    written: int = 0


class Served:
    """The calls of one model of one server, as a file in a run's folder holds them: answers by name, and their price.

    Several of one server share the file: what another of them wrote is known here too.
    """

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self.config, self.spent = config, Spent()
        self.path = folder / FILE
        self._file, self._offset = JsonLines(self.path), 0
        self._file.drop_broken_end()
        self._known: dict[str, Any] = {}
        self._who = {"base_url": config.base_url, "model": config.model}
        self._read()

    def known(self, name: str) -> Any:
        """What was answered to the call of this name; None where nothing was."""
        return self._known.get(name)

    def keep(self, answers: Mapping[str, Any], usage: tuple[int, int]) -> None:
        """A call that was answered, one answer for each name, and the tokens that it read and wrote."""
        self._append({"answers": dict(answers), "read": usage[0], "written": usage[1]})
        fault_point("after-server-call")

    def fail(self, reason: str) -> None:
        """A call that failed; it counts, and is made again by the next start."""
        self._append({"failed": reason})

    @property
    def cost(self) -> float | None:
        """In the unit of the prices; None where there are none."""
        if self.config.price_input is None or self.config.price_output is None:
            return None
        return (self.spent.read * self.config.price_input + self.spent.written * self.config.price_output) / 1e6

    def check_budget(self, in_flight: int) -> None:
        """BackendError where no further call may be made. Calls in flight may still go beyond ``max_cost``."""
        self._read()
        most, cost = self.config.max_calls, self.cost
        spent = ""
        if most is not None and self.spent.calls + in_flight >= most:
            spent = f"max_calls {most} is spent"
        elif cost is not None and self.config.max_cost is not None and cost >= self.config.max_cost:
            spent = f"max_cost {self.config.max_cost:g} is spent ({cost:.4g} so far)"
        if spent:
            raise BackendError(
                f"{self.config.model} at {self.config.base_url}: {spent}; what was answered is kept in {self.path}: "
                "raise it, and the same command goes on from there"
            )

    def _append(self, row: Mapping[str, Any]) -> None:
        self._file.append({**self._who, **row})
        self._file.sync()
        self._read()

    def _read(self) -> None:
        """Take in what the file got since the last look."""
        if self._file.offset <= self._offset:
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            if {key: row.get(key) for key in self._who} != self._who:
                continue
            self._known |= row.get("answers", {})
            self.spent.calls += 1
            self.spent.failed += "failed" in row
            self.spent.read += row.get("read", 0)
            self.spent.written += row.get("written", 0)
