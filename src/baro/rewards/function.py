"""A user's Python function as a RewardSource, with TRL's signature."""

from __future__ import annotations

import inspect
import math
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from baro.errors import ConfigError
from baro.records import Conversation, Role, Rollout, Score, message_list, plain_conversation
from baro.rewards.waiting import begun

_ARGUMENTS = ("prompts", "completions", "completion_ids")


class FunctionReward:
    """``function(prompts, completions, completion_ids, **columns) -> list[float | None]``, which may be async.

    Prompts and completions are strings where they are one turn, messages otherwise; of an argument that the function
    annotates as a list of lists (``completions: list[list[dict[str, str]]]``, as TRL's own rewards do) each is a list
    of messages, one turn too. ``columns`` are the prompt rows'
    other columns, one list each, with None where a row lacks one. None in the answer means that the function has no
    opinion on this completion. NaN is a failure; so is an exception, for the whole call. ConfigError for an answer that
    is no list of numbers, one for each completion.
    """

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        self.function, self.name = function, name
        self._messages = {argument: _wants_messages(function, argument) for argument in ("prompts", "completions")}

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return self.start_scoring(rollouts)()

    def start_scoring(self, rollouts: Sequence[Rollout]) -> Callable[[], list[Score]]:
        """Begin to score; what is returned waits for the scores. Async functions run meanwhile, beside each other."""
        names = dict.fromkeys(name for one in rollouts for name in one.extra)
        if taken := [name for name in names if name in _ARGUMENTS]:
            raise ConfigError(f"{self.name}: gets an argument {taken[0]!r} already; rename that column of the prompts")
        try:
            values = self.function(
                prompts=[self._written("prompts", r.prompt, "user") for r in rollouts],
                completions=[self._written("completions", r.completion, "assistant") for r in rollouts],
                completion_ids=[list(r.completion_ids) for r in rollouts],
                **{name: [one.extra.get(name) for one in rollouts] for name in names},
            )
        except Exception as error:  # whatever a user's code raises; the run goes on or stops by max_error_fraction
            failed = self._failed(error, len(rollouts))
            return lambda: failed
        if not inspect.isawaitable(values):
            found = self._scores(values, len(rollouts))
            return lambda: found
        coming = begun(_awaited(values))

        def finish() -> list[Score]:
            try:
                values = coming.result()
            except Exception as error:
                return self._failed(error, len(rollouts))
            return self._scores(values, len(rollouts))

        return finish

    def _written(self, argument: str, turns: Conversation, role: Role) -> str | list[dict[str, Any]]:
        return message_list(turns) if self._messages[argument] else plain_conversation(turns, role)

    def _failed(self, error: Exception, count: int) -> list[Score]:
        where = traceback.extract_tb(error.__traceback__)[-1]
        sentence = f"{self.name} raised {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return [Score(None, sentence)] * count

    def _scores(self, values: Any, count: int) -> list[Score]:
        is_list = hasattr(values, "__len__") and hasattr(values, "__getitem__")
        if not is_list or isinstance(values, str | bytes | Mapping):
            raise ConfigError(
                f"{self.name}: returned {type(values).__name__}; a list of numbers is needed, one for each completion"
            )
        if len(values) != count:
            raise ConfigError(
                f"{self.name}: returned {len(values)} rewards for {count} completions; one each, in their order"
            )
        return [self._score(value) for value in values]

    def _score(self, value: Any) -> Score:
        if value is None:
            return Score(None)
        try:
            if isinstance(value, str | bytes) or getattr(value, "ndim", 0) != 0:
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(
                f"{self.name}: returned a {type(value).__name__} ({str(value)[:40]}) for a completion; a number or "
                "None is needed"
            ) from None
        return Score(number) if math.isfinite(number) else Score(None, f"{self.name} returned {number}")


def _wants_messages(function: Callable[..., Any], argument: str) -> bool:
    """Whether an argument is annotated as a list of lists. The annotation is read as it is written, not evaluated."""
    try:
        parameter = inspect.signature(function).parameters.get(argument)
    except (TypeError, ValueError):  # written in C, and without a signature
        return False
    if parameter is None or parameter.annotation is inspect.Parameter.empty:
        return False
    said = parameter.annotation
    text = said if isinstance(said, str) else inspect.formatannotation(said)
    return (
        re.fullmatch(r"([\w.]*\.)?(list|List|Sequence)\[([\w.]*\.)?(list|List|Sequence)\b.*\]", text.strip())
        is not None
    )


async def _awaited(values: Awaitable[Any]) -> Any:
    return await values
