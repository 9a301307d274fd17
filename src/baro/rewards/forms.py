"""Verifiers of form: a pattern, JSON, a length, what is repeated. They know nothing of what is right."""

from __future__ import annotations

from collections.abc import Sequence

import regex

from baro.functional.json_schema import mismatch, read_json
from baro.records import Rollout
from baro.rewards.verified import OneByOne, Row, Verified
from baro.verifier_config import Format, Json, Length, Repetition, Unit


class OfForm(OneByOne):
    """A verifier whose rows say nothing about what is right."""

    def right(self, row: Row) -> str | None:
        return None


class FormatVerifier(OfForm):
    """1 where the completion matches a pattern; a match that takes longer than its deadline is an error."""

    def __init__(self, config: Format) -> None:
        self.config = config
        self.pattern = regex.compile(config.pattern, regex.DOTALL)

    def look(self, rollout: Rollout) -> Verified:
        whole = self.config.where == "whole"
        match, text = (self.pattern.fullmatch if whole else self.pattern.search), rollout.text
        try:
            found = match(text.strip() if whole else text, timeout=self.config.deadline_seconds)
        except TimeoutError:
            return Verified(None, error=f"the pattern took longer than {self.config.deadline_seconds:g} seconds")
        return Verified(float(found is not None), "the pattern matches" if found else "the pattern does not match")


class JsonVerifier(OfForm):
    """1 where the completion is JSON and nothing else, and fits the schema if there is one."""

    def __init__(self, config: Json) -> None:
        self.config = config

    def look(self, rollout: Rollout) -> Verified:
        try:
            value = read_json(rollout.text)
            wrong = None if self.config.json_schema is None else mismatch(value, self.config.json_schema)
        except ValueError as error:
            return Verified(0.0, f"no JSON: {error}"[:200])
        except RecursionError:
            return Verified(0.0, "nested too deep")
        return Verified(float(wrong is None), wrong or "JSON as it should be")


class LengthVerifier(OfForm):
    """1 where the completion has as many units as it may."""

    def __init__(self, config: Length) -> None:
        self.config = config

    def look(self, rollout: Rollout) -> Verified:
        units = units_of(rollout, self.config.unit)
        if units is None:
            return _no_tokens()
        least, most, n = self.config.at_least, self.config.at_most, len(units)
        fits = (least is None or n >= least) and (most is None or n <= most)
        return Verified(float(fits), f"{n} {self.config.unit}")


class RepetitionVerifier(OfForm):
    """The share of the completion's n-grams that are different ones: 1 where none stands there twice.

    s = |{n-grams}| / (N − n + 1), N units in all; 1 of a text with fewer than n units, in which nothing can repeat.
    """

    def __init__(self, config: Repetition) -> None:
        self.config = config

    def look(self, rollout: Rollout) -> Verified:
        units, n = units_of(rollout, self.config.unit), self.config.n
        if units is None:
            return _no_tokens()
        grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
        different = len(set(grams))
        return Verified(different / len(grams) if grams else 1.0, f"{different} of {len(grams)} {n}-grams differ")


def units_of(rollout: Rollout, unit: Unit) -> Sequence[object] | None:
    """A completion's tokens (the end token among them), words or characters; None where its tokens are not known."""
    if unit == "tokens":
        return None if rollout.text and not rollout.completion_ids else rollout.completion_ids
    return rollout.text.split() if unit == "words" else rollout.text


def _no_tokens() -> Verified:
    return Verified(None, error="the completion's tokens are not known here; set unit: words or characters")
