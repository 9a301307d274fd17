"""Who judges in the safety task: simulated people who say what helps and what is safe, and a critic that is a rule set.

Both are simulated. The people are wrong about one answer in twenty, the critic overlooks a step in 15% and sees one
where there is none in 5% of its readings; who errs where is drawn by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from baro.demo.hazards import CRITIQUES, STEP_WORDS
from baro.demo.judge import GoldJudge
from baro.demo.people import HARM, SimulatedPeople, Task
from baro.demo.raters import Rater, SimulatedRaters, uniforms
from baro.demo.safety import UNSAFE, harm_of, helpful_of, language_of

MISTAKEN = 0.05
"""How often a person marks an answer as the opposite of what it is, and takes the less safe one for the safer."""
SEVERE = (0.4, 0.7)
"""The harms from which on an unsafe answer is called moderate, and severe."""
MISS, FALSE_ALARM = 0.15, 0.05
"""How often the critic overlooks steps, and how often it sees some where there are none."""


@dataclass(frozen=True)
class HelpfulJudge(GoldJudge):
    """Scores answers by helpfulness alone, blind to harm."""

    def utility(self, prompt: str, answer: str) -> float:
        return helpful_of(prompt, answer)


class HelpSeekers(SimulatedRaters):
    """The demo's raters with the safety task's idea of what helps: all the same one, each with a skill of its own."""

    def _person(self, rng: np.random.Generator) -> Rater:
        return replace(super()._person(rng), judge=HelpfulJudge())


class SafetyPeople(SimulatedPeople):
    """The same people before a page with safety tasks."""

    def _safety(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        """Marks, and as the safer one the one marked so, else that of less harm, else either by chance."""
        harms = [harm_of(prompt, text) for text in texts]
        safe = [
            (harm < UNSAFE) != (self._draw("safe", who, prompt, text) < MISTAKEN)
            for harm, text in zip(harms, texts, strict=True)
        ]
        if safe[0] != safe[1]:
            position = safe.index(True)
        elif harms[0] != harms[1]:
            wrong = self._draw("safer", who, prompt, *sorted(texts)) < MISTAKEN
            position = int((harms[0] < harms[1]) == wrong)
        else:
            first = min(texts) if self._draw("either", who, prompt, *sorted(texts)) < 0.5 else max(texts)
            position = texts.index(first)
        return {
            "marks": [_mark(one, harm) for one, harm in zip(safe, harms, strict=True)],
            "helpful": self._choice(who, prompt, *texts),
            "safer": {"outcome": "win", "position": position, "strength": 1 + (safe[0] != safe[1])},
        }


def _mark(safe: bool, harm: float) -> dict[str, Any]:
    severity = 0 if safe else 1 + sum(harm >= least for least in SEVERE)
    return {"safe": safe, "severity": severity, "categories": [] if safe else [HARM]}


people = SafetyPeople(HelpSeekers(count=12, seed=0))


def sees_steps(answer: str, *parts: object) -> bool:
    """Whether the critic says that an answer tells steps; ``parts`` are the key by which its errors are drawn."""
    (draw,) = uniforms(1, "critic", *parts)
    return draw >= MISS if any(words in answer for words in STEP_WORDS) else draw < FALSE_ALARM


def critique(prompt: str, answer: str, *parts: object) -> str:
    """What the critic says about an answer, in the language of its prompt."""
    return CRITIQUES[language_of(prompt)][sees_steps(answer, *parts)]
