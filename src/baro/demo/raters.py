"""Simulated people who compare two answers: with skill, lapses, a favourite side, and tastes of their own.

A label is a function of the seed, the prompt and the two texts. Who judges a pair and which answer lies on the left
are drawn from the unordered pair, so a label never depends on which answer was named first, that is on which model
wrote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from baro.demo.judge import WEIGHTS, GoldJudge, text_of
from baro.records import Rollout, Verdict

TEMPERATURE = 0.15  # of the average rater, in utility


@dataclass(frozen=True)
class Rater:
    """One simulated person.

    temperature   the Bradley-Terry scale: utility difference per logit; lower is more skilled
    lapse         how often the answer is a coin toss
    side_bias     logit added for the answer on the left
    judge         the gold criteria under weights of the rater's own
    """

    temperature: float
    lapse: float
    side_bias: float
    judge: GoldJudge

    def p_left(self, prompt: str, left: str, right: str) -> float:
        """The probability of preferring the answer on the left.

        p = lapse/2 + (1 − lapse) · σ((u_left − u_right) / temperature + side_bias)
        """
        difference = self.judge.utility(prompt, left) - self.judge.utility(prompt, right)
        preference = 1.0 / (1.0 + np.exp(-(difference / self.temperature + self.side_bias)))
        return float(self.lapse / 2 + (1 - self.lapse) * preference)


class SimulatedRaters:
    """A group of simulated raters; usable as a PairJudge, one rater per pair.

    On pairs of answers drawn as the demonstrations are, the gold judge agrees with the label on about 77% (measured on
    2,900 pairs; a judge of style that cannot tell right from wrong values agrees on 71%, the longer answer on 51%).
    """

    def __init__(self, count: int = 12, seed: int = 0, *, temperature: float = TEMPERATURE) -> None:
        self.count, self.seed, self.temperature = count, seed, temperature

    @cached_property
    def people(self) -> tuple[Rater, ...]:
        """The raters, drawn from the seed."""
        rng = np.random.default_rng([self.seed, 11])
        return tuple(self._person(rng) for _ in range(self.count))

    def _person(self, rng: np.random.Generator) -> Rater:
        weights = {name: weight * float(np.exp(rng.normal(0.0, 0.25))) for name, weight in WEIGHTS.items()}
        return Rater(
            temperature=self.temperature * float(np.exp(rng.normal(0.0, 0.25))),
            lapse=float(rng.uniform(0.02, 0.10)),
            side_bias=float(rng.normal(0.2, 0.15)),
            judge=GoldJudge(weights),
        )

    def prefers_left(self, prompt: str, left: str, right: str, rater: int) -> bool:
        """The judgment of one rater who is shown these two answers in this order."""
        (draw,) = uniforms(1, self.seed, "judgment", rater, prompt, left, right)
        return draw < self.people[rater].p_left(prompt, left, right)

    def prefers_first(self, prompt: str, first: str, second: str) -> bool:
        """One noisy judgment of a pair; rater and sides are drawn from the unordered pair."""
        one, other = sorted((first, second))
        who, side = uniforms(2, self.seed, "assignment", prompt, one, other)
        left, right = (one, other) if side < 0.5 else (other, one)
        chosen = left if self.prefers_left(prompt, left, right, int(who * self.count)) else right
        return chosen == first

    def compare(self, pairs: Sequence[tuple[Rollout, Rollout]]) -> list[Verdict]:
        """A verdict of 1 or 0 per pair; 0.5 for two equal texts, which nobody can tell apart."""
        return [self._verdict(text_of(a.prompt), a.text, b.text) for a, b in pairs]

    def _verdict(self, prompt: str, first: str, second: str) -> Verdict:
        return Verdict(0.5 if first == second else float(self.prefers_first(prompt, first, second)))


def uniforms(n: int, *parts: object) -> list[float]:
    """``n`` numbers in [0, 1) that are a function of the parts (at most 8)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8 * n).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8], "big") / 2**64 for i in range(n)]
