"""Verifiers: rewards that look up what is right, in a column of the prompt's row, and say why they score as they do.

0 means that a completion was looked at and is wrong. What could not be looked at (a row without its column, a deadline
that ran out, a verifier that failed) is an error, and no score. What models and files write is read here, never run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from baro.errors import BaroError, RewardError
from baro.records import Rollout, Score
from baro.rewards.answers import Gsm8kVerifier, TextVerifier
from baro.rewards.choice import ChoiceVerifier
from baro.rewards.code import CodeVerifier
from baro.rewards.forms import FormatVerifier, JsonVerifier, LengthVerifier, RepetitionVerifier
from baro.rewards.math import MathVerifier
from baro.rewards.verified import Verified, Verifier, failed
from baro.verifier_config import VerifierConfig


class VerifierReward:
    """A verifier as a RewardSource; RewardError where it gives another number of scores than it was asked for."""

    def __init__(self, verifier: Verifier, *, name: str) -> None:
        self.verifier, self.name = verifier, name

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(one.score, one.error) for one in self.check(rollouts)]

    def check(self, rollouts: Sequence[Rollout]) -> list[Verified]:
        """What the verifier found, or how it failed; a score is a finite number."""
        started = time.perf_counter()
        try:
            found = self.verifier.check(rollouts)
        except BaroError:  # raised on purpose: without what it needs a verifier refuses
            raise
        except Exception as error:  # a verifier that fails scores nothing: the run goes on or stops by its limit
            found = [failed(error)] * len(rollouts)
        if len(found) != len(rollouts):
            raise RewardError(f"{self.name}: gave {len(found)} scores for {len(rollouts)} completions; mend it")
        share = (time.perf_counter() - started) / max(len(found), 1)
        return [self._checked(one, share) for one in found]

    def _checked(self, one: Verified, share: float) -> Verified:
        seconds = share if one.seconds is None else one.seconds
        if one.error is not None:
            return Verified(None, error=f"{self.name}: {one.error}", seconds=seconds)
        if one.score is None or not math.isfinite(one.score):
            wrong = f"{self.name}: gave the score {one.score}, and a finite number is needed"
            return Verified(None, error=wrong, seconds=seconds)
        return replace(one, seconds=seconds)


def load_verifier(config: VerifierConfig, *, name: str) -> VerifierReward:
    """The reward that a config asks for."""
    return VerifierReward(make_verifier(config), name=name)


def make_verifier(config: VerifierConfig) -> Verifier:
    """The verifier of a config's name."""
    return _VERIFIERS[config.name](config)


_VERIFIERS: dict[str, Callable[[Any], Verifier]] = {
    "gsm8k": Gsm8kVerifier,
    "text": TextVerifier,
    "choice": ChoiceVerifier,
    "format": FormatVerifier,
    "json": JsonVerifier,
    "length": LengthVerifier,
    "repetition": RepetitionVerifier,
    "code": CodeVerifier,
    "math": MathVerifier,
}
