"""The parts of a report that show texts: the same prompts answered by every policy, and answers along training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baro.evaluate.findings import evaluations
from baro.evaluate.markup import DASH, Html, details, element, finite, foreign, joined, number, section
from baro.evaluate.results import Results
from baro.evaluate.stages import Stage
from baro.evaluate.words import Words

_HANGUL = re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")
SHOWN = 12
FOLDED = 200
"""Prompts in the page at most, so that a large evaluation does not make a page that no browser likes to open."""


def prose(words: object, class_: str) -> Html:
    """A text from a model, with its own writing direction and line breaks; Korean lines break between words."""
    shown = DASH if words is None else words
    return element("div", shown, class_=class_, dir="auto", lang="ko" if _HANGUL.search(str(words)) else None)


def conversation(prompt: Any) -> Html:
    """A prompt: one text, or turns with their roles."""
    if not isinstance(prompt, list):
        return prose(prompt, "text")
    turns = [turn if isinstance(turn, dict) else {"content": turn} for turn in prompt]
    if len(turns) == 1:
        return prose(turns[0].get("content", ""), "text")
    return joined(
        element("div", element("span", turn.get("role", ""), class_="role"), prose(turn.get("content", ""), "text"))
        for turn in turns
    )


@dataclass(frozen=True)
class SideBySide:
    """The answers of one evaluation."""

    stage: Stage
    results: Results | None
    words: Words

    def cards(self) -> list[Html]:
        """The first prompts open, the others folded."""
        rows = self.stage.comparisons
        cards = [self._card(number_, row) for number_, row in enumerate(rows[:FOLDED], start=1)]
        blocks = cards[:SHOWN]
        if len(rows) > SHOWN:
            left_out = len(rows) - len(cards)
            note = element("p", self.words["samples_left_out"].format(n=left_out), class_="lead") if left_out else ""
            summary = self.words["more_samples"].format(n=len(cards) - SHOWN)
            blocks.append(details(summary, *cards[SHOWN:], note))
        return blocks

    def _card(self, index: int, row: Mapping[str, Any]) -> Html:
        heading = element("h4", f"{self.words['prompt']} {index}")
        scores, (shown, folded) = self._scores(row), self._ordered(row["answers"])
        best = {name: _best({p: given[p] for p in shown if p in given}) for name, given in scores.items()}
        columns = [self._answer(policy, row["answers"][policy], scores, best) for policy in shown]
        head = element("header", heading, conversation(row.get("prompt", "")))
        rest = [self._answer(policy, row["answers"][policy], scores, {}) for policy in folded]
        more = (
            details(f"{self.words['controls']} ({len(rest)})", element("div", *rest, class_="answers")) if rest else ""
        )
        return element("article", head, element("div", *columns, class_="answers"), more, class_="sample")

    def _scores(self, row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Scores by judge or reward. A judge's are the chances to win against one policy, which itself has one half."""
        scores = {name: given for name, given in (row.get("scores") or {}).items() if isinstance(given, Mapping)}
        if self.results is None or self.results.evaluation.against is None:
            return scores
        evaluation = self.results.evaluation
        judged = [name for name in scores if name in evaluation.judges]
        return scores | {name: {evaluation.against: 0.5} | dict(scores[name]) for name in judged}

    def _ordered(self, answers: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """What all were compared with, trained policies and best-of-n; and the other controls, to be folded."""
        if self.results is None:
            return list(answers), []
        evaluation, order = self.results.evaluation, [*self.results.ordered, *answers]
        known = sorted(answers, key=lambda policy: (policy != evaluation.against, order.index(policy)))
        folded = [policy for policy in known if evaluation.control(policy) not in (None, "best_of")]
        return [policy for policy in known if policy not in folded], folded

    def _answer(
        self, policy: str, answer: Any, scores: Mapping[str, Mapping[str, Any]], best: Mapping[str, set[str]]
    ) -> Html:
        terms = []
        for judge, given in scores.items():
            mark = element("strong", self.words["best"], class_="best") if policy in best.get(judge, ()) else ""
            value = element("span", number(given.get(policy)), class_="value")
            terms.append(element("div", element("dt", foreign(judge)), element("dd", value, mark)))
        listed = element("dl", *terms, class_="scores") if terms else ""
        return element(
            "section", element("h5", foreign(self._name(policy))), prose(answer, "text"), listed, class_="answer"
        )

    def _name(self, policy: str) -> str:
        return self.results.name(policy) if self.results else policy


def _best(given: Mapping[str, Any]) -> set[str]:
    """The policies with the highest score; none where all are equal."""
    known = {policy: value for policy, value in given.items() if finite(value) is not None}
    top = max(known.values(), default=None)
    best = {policy for policy, value in known.items() if value == top}
    return best if len(best) < len(known) else set()


def samples_section(stages: Sequence[Stage], words: Words) -> Html:
    """Answers side by side, of every evaluation that kept them."""
    results = {e.stage.name: Results(e, words, stages) for e in evaluations(stages)}
    found = [stage for stage in stages if stage.comparisons]
    blocks: list[Html] = []
    lead = words["samples_lead"].format(n=number(sum(len(stage.comparisons) for stage in found)))
    against = {r.against: None for r in results.values() if r.evaluation.judges and r.evaluation.stage in found}
    lead = " ".join([lead, *(words["judges_lead"].format(against=name) for name in against)])
    for stage in found:
        blocks += [element("h3", foreign(stage.name))] if len(found) > 1 else []
        blocks += SideBySide(stage, results.get(stage.name), words).cards()
    return section("samples", words["samples"], lead, *blocks) if blocks else Html("")


def rollouts_section(stages: Sequence[Stage], words: Words) -> Html:
    """The first and the last logged rollout of every stage that sampled."""
    blocks = []
    for stage in stages:
        numbers = list(dict.fromkeys(row.get("rollout") for row in stage.samples))
        ends = list(dict.fromkeys([*numbers[:1], *numbers[-1:]]))
        columns = [_rollout(stage, end, words) for end in ends]
        if columns:
            lead = element("p", words["rollouts_lead"].format(stage=stage.name), class_="lead")
            blocks += [lead, element("div", *columns, class_="pair top")]
    return section("rollouts", words["rollouts"], "", *blocks) if blocks else Html("")


def _rollout(stage: Stage, which: Any, words: Words) -> Html:
    rows = [row for row in stage.samples if row.get("rollout") == which][:4]
    cards = [_sampled(row, words) for row in rows]
    return element("div", element("h4", words["rollout"].format(n=which)), *cards)


def _sampled(row: Mapping[str, Any], words: Words) -> Html:
    unfinished = element("span", words["unfinished"], class_="tag") if row.get("finished") is False else ""
    score = element("div", element("dt", words["score"]), element("dd", number(row.get("score")), unfinished))
    head = element("header", conversation(row.get("prompt", "")))
    answer = element(
        "section", prose(row.get("completion", ""), "text"), element("dl", score, class_="scores"), class_="answer"
    )
    return element("article", head, element("div", answer, class_="answers"), class_="sample")
