"""A user's Python function as a RewardSource, with TRL's signature."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence

from baro.errors import ConfigError
from baro.records import Rollout, Score, plain_conversation


class FunctionReward:
    """``function(prompts, completions, completion_ids, **columns) -> list[float | None]``.

    Prompts and completions are strings where they are one turn, messages otherwise; ``columns`` are the prompt rows'
    other columns, one list each. None means "cannot be scored"; so does an exception, for the whole call.
    """

    def __init__(self, function: Callable[..., Sequence[float | None]], *, name: str) -> None:
        self.function, self.name = function, name

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        columns = {key: [r.extra.get(key) for r in rollouts] for r in rollouts[:1] for key in r.extra}
        try:
            values = self.function(
                prompts=[plain_conversation(r.prompt) for r in rollouts],
                completions=[r.completion for r in rollouts],
                completion_ids=[list(r.completion_ids) for r in rollouts],
                **columns,
            )
        except Exception as error:  # whatever a user's code raises; the run goes on or stops by max_error_fraction
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename}:{where.lineno}"
            return [Score(None, f"{self.name} raised {type(error).__name__}: {error} ({place})")] * len(rollouts)
        if len(values) != len(rollouts):
            raise ConfigError(
                f"{self.name}: returned {len(values)} rewards for {len(rollouts)} completions; one each, in their order"
            )
        return [self._score(value) for value in values]

    def _score(self, value: float | None) -> Score:
        if value is None:
            return Score(None, f"{self.name} returned None")
        if not math.isfinite(value):
            return Score(None, f"{self.name} returned {value}")
        return Score(float(value))
