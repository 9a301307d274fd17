"""The part of a report about critique and revision: what each round changed, and the answers with their revisions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from baro.evaluate.answers import FOLDED, SHOWN, conversation, prose
from baro.evaluate.markup import Column, Html, details, element, foreign, joined, number, section, table
from baro.evaluate.results import interval_cell
from baro.evaluate.stages import Stage
from baro.evaluate.words import Words
from baro.functional.repetition import most_common_sentence


def critique_section(stages: Sequence[Stage], words: Words) -> Html:
    """For each stage that revised answers a table of its rounds, and the first answers beside their revisions."""
    found = [stage for stage in stages if stage.revised]
    blocks: list[Html] = []
    for stage in found:
        blocks += [element("h3", foreign(stage.name))] if len(found) > 1 else []
        blocks += [_rounds(stage, words), *_cards(stage, words)]
    lead = words["critiques_lead"].format(n=number(sum(len(stage.revised) for stage in found)))
    return section("critiques", words["critiques"], lead, *blocks) if blocks else Html("")


def _rounds(stage: Stage, words: Words) -> Html:
    """What share of answers each round changed, and what share has the most common sentence after it."""
    figures = {figure.name: figure for figure in stage.figures}
    last = max((int(k) for name in figures for k in re.findall(r"^changed_fraction/round_(\d+)$", name)), default=0)
    if not last:
        return Html("")
    columns = [Column(words["round"]), Column(words["changed"], "number"), Column(words["common_sentence"], "number")]
    columns.append(Column(words["sentence"], "sentence"))
    whole = [row for row in stage.revised if not row.get("error")]
    rows = []
    for k in range(last + 1):
        texts = [_text(row, k) for row in whole]
        common = most_common_sentence([text for text in texts if text is not None])
        changed = interval_cell(figures.get(f"changed_fraction/round_{k}")) if k else ""
        sentence = prose(common.sentence, "text") if common.texts > 1 else ""
        shown = interval_cell(figures.get(f"common_sentence/round_{k}"))
        rows.append([number(k) if k else words["first_answer"], changed, shown, sentence])
    return table(columns, rows, label=f"{words['critiques']}: {stage.name}")


def _text(row: Mapping[str, Any], k: int) -> str | None:
    """The answer after round k; None where the item was given up before."""
    if k == 0:
        return str(row["answer"]) if row.get("answer") is not None else None
    return str(row["steps"][k - 1].get("revision", "")) if k <= len(row["steps"]) else None


def _cards(stage: Stage, words: Words) -> list[Html]:
    cards = [_card(index, row, words) for index, row in enumerate(stage.revised[:FOLDED], start=1)]
    if len(stage.revised) <= SHOWN:
        return cards
    left_out = len(stage.revised) - len(cards)
    note = element("p", words["samples_left_out"].format(n=left_out), class_="lead") if left_out else ""
    summary = words["more_samples"].format(n=len(cards) - SHOWN)
    return [*cards[:SHOWN], details(summary, *cards[SHOWN:], note)]


def _card(index: int, row: Mapping[str, Any], words: Words) -> Html:
    heading = element("h4", f"{words['prompt']} {index}")
    answer = element("section", element("h5", words["first_answer"]), prose(row.get("answer"), "text"), class_="answer")
    rounds = [_round(k, step, words) for k, step in enumerate(row["steps"], start=1)]
    head = element("header", heading, conversation(row.get("prompt", "")))
    tag = element("span", words["given_up"], class_="tag warning")
    ended = element("p", tag, " ", row["error"], class_="ended") if row.get("error") else ""
    return element("article", head, element("div", answer, *rounds, class_="answers"), ended, class_="sample")


def _round(k: int, step: Mapping[str, Any], words: Words) -> Html:
    title = joined([words["round_of"].format(k=k), " · ", foreign(step.get("principle", ""))])
    critique = element(
        "div", element("span", words["critique"], class_="role"), prose(step.get("critique"), "text"), class_="critique"
    )
    return element("section", element("h5", title), critique, prose(step.get("revision"), "text"), class_="answer")
