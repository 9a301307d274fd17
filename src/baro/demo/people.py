"""Simulated people behind the web page's own interface: they read a task as a browser gets it and send an answer.

An answer is a function of the seed, the person, the prompt and the texts where they stand on the screen; nothing else
is known to them, neither who wrote what nor what others said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from baro.demo.judge import criteria
from baro.demo.raters import SimulatedRaters, uniforms

GOOD_ENOUGH = 0.6  # the utility at which half of the people give a thumb up
STRENGTHS = ((2.0, 3), (0.75, 2))  # logits of a preference above which it is called "much better", "better"
SCORED_AS = {"correctness": "correct", "clarity": "well_formed", "security": "safe", "empathy": "polite",
             "politeness": "polite"}  # fmt: skip
HARM = "physical_harm"

Task = Mapping[str, Any]


class SimulatedPeople:
    """As many people as there are raters; ``answer(who, task)`` is what a page would submit."""

    def __init__(self, raters: SimulatedRaters) -> None:
        self.raters, self.count = raters, raters.count

    def answer(self, who: int, task: Task) -> dict[str, Any]:
        """The answer of person ``who`` to a task, by position; edits are beyond them, they write a critique."""
        say: dict[str, Callable[[int, str, Sequence[str], Task], dict[str, Any]]] = {
            "pair": self._pair,
            "rank": self._rank,
            "thumb": self._thumb,
            "safety": self._safety,
            "criteria": self._criteria,
            "edit": self._edit,
        }
        prompt, texts = task["prompt"][-1]["text"], [one["text"] for one in task["responses"]]
        return {"kind": task["kind"]} | say[task["kind"]](who, prompt, texts, task)

    def _draw(self, *parts: object) -> float:
        return uniforms(1, self.raters.seed, *parts)[0]

    def _logit(self, who: int, prompt: str, text: str) -> float:
        """Utility in units of the person's temperature."""
        person = self.raters.people[who]
        return person.judge.utility(prompt, text) / person.temperature

    def _choice(self, who: int, prompt: str, left: str, right: str) -> dict[str, Any]:
        chosen = 0 if self.raters.prefers_left(prompt, left, right, who) else 1
        gap = abs(self._logit(who, prompt, left) - self._logit(who, prompt, right))
        strength = next((value for least, value in STRENGTHS if gap > least), 1)
        return {"outcome": "win", "position": chosen, "strength": strength}

    def _pair(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        return {"choice": self._choice(who, prompt, *texts)}

    def _rank(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        """The order of utility + Gumbel noise: every two answers compare as this person would judge them as a pair."""
        person = self.raters.people[who]
        lapsed = self._draw("lapse", who, prompt, *sorted(texts)[:4]) < person.lapse
        scores = []
        for position, text in enumerate(texts):
            noise = -math.log(-math.log(max(self._draw("rank", who, prompt, text), 1e-12)))
            known = 0.0 if lapsed else self._logit(who, prompt, text) + (person.side_bias if position == 0 else 0.0)
            scores.append(known + noise)
        return {"ranks": [1 + sum(other > score for other in scores) for score in scores]}

    def _thumb(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        temperature = self.raters.people[who].temperature
        thumbs = []
        for text in texts:
            logit = self._logit(who, prompt, text) - GOOD_ENOUGH / temperature
            thumbs.append({"good": self._draw("thumb", who, prompt, text) < 1 / (1 + math.exp(-logit)), "reasons": []})
        return {"thumbs": thumbs}

    def _safety(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        lapse = self.raters.people[who].lapse
        scores = [criteria(prompt, text)["safe"] for text in texts]
        safe = [(score >= 0.5) != (self._draw("safe", who, prompt, text) < lapse / 2)
                for score, text in zip(scores, texts, strict=True)]  # fmt: skip
        marks = [
            {"safe": one, "severity": 0 if one else 1 + int(2 * (1 - score)), "categories": [] if one else [HARM]}
            for one, score in zip(safe, scores, strict=True)
        ]
        helpful = self._choice(who, prompt, *texts)
        if safe[0] != safe[1]:
            safer = {"outcome": "win", "position": safe.index(True), "strength": 2}
        elif scores[0] != scores[1]:
            safer = {"outcome": "win", "position": 0 if scores[0] > scores[1] else 1, "strength": 1}
        else:
            safer = {"outcome": "tie"}
        return {"marks": marks, "helpful": helpful, "safer": safer}

    def _criteria(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        person = self.raters.people[who]
        found = [criteria(prompt, text) | {"overall": person.judge.utility(prompt, text)} for text in texts]

        def score(one: Mapping[str, Any], known: Mapping[str, float], text: str) -> int | None:
            name = SCORED_AS.get(one["key"], one["key"])
            if name not in known:
                return None
            noise = person.temperature * (self._draw(one["key"], who, prompt, text) - 0.5)
            value = min(max(known[name] + noise, 0.0), 1.0)
            return int(one["low"] + round(value * (one["high"] - one["low"])))

        scales = task["criteria"]
        scores = {
            one["key"]: [score(one, known, text) for known, text in zip(found, texts, strict=True)] for one in scales
        }
        return {"scores": scores}

    def _edit(self, who: int, prompt: str, texts: Sequence[str], task: Task) -> dict[str, Any]:
        lowest = min(criteria(prompt, texts[0]).items(), key=lambda one: one[1])[0]
        return {"position": 0, "critique": f"It should be more {lowest}."}
