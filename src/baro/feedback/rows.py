"""Labels as rows of training files, one builder for each layout. Texts are never cut.

A layout's prompts are all texts or all lists of messages, whatever fits every row, since one column has one type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field
from sqlalchemy import Connection, select

from baro.config import Config
from baro.data.layouts import CRITERIA, SCORE
from baro.data.messages import is_open_transcript, parse_transcript, write_transcript
from baro.errors import DataError
from baro.feedback import schema
from baro.feedback.asked import Task
from baro.feedback.derive import Votes
from baro.feedback.labels import (
    BinaryLabel,
    Labels,
    LabelSettings,
    PairLabel,
    binary_labels,
    by_item,
    pair_labels,
    pairs_of_rankings,
    rank_labels,
    score_labels,
)
from baro.functional.votes import smoothed_vote
from baro.records import Message

Row = dict[str, Any]


class ExportSettings(Config):
    """What an export holds; with the same settings and watermark its files are the same, byte for byte."""

    watermark: int | None = Field(None, ge=0, description="judgments up to this event; the newest unless given")
    of: Literal["pairs", "rankings", "helpful", "safer", "edits"] = Field(
        "pairs", description="what pairs, trl, openrlhf and hh are made of"
    )
    expand: Literal["all", "adjacent", "best"] = Field("all", description="which pairs of a ranking")
    labels: LabelSettings = Field(LabelSettings(), description="how votes become labels")
    prompt: Literal["explicit", "implicit"] = Field("explicit", description="trl: a column, or in both texts")
    models: bool = Field(False, description="with the models that wrote the answers")
    held_out: float = Field(0, ge=0, lt=1, description="share of the prompts in a file of their own, by their hash")
    gzip: bool = Field(False, description="rows in data.jsonl.gz")
    csv: bool = Field(False, description="a CSV as well, for looking at; cells that a spreadsheet would run are quoted")
    lang: Literal["en", "ko"] = Field("en", description="of the dataset card")


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as it was imported."""

    messages: list[dict[str, str]]
    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class ResponseText:
    """An answer; ``model`` is empty for a person's."""

    text: str
    model: str


@dataclass(frozen=True)
class Texts:
    """The texts of a project by id."""

    prompts: Mapping[str, PromptText]
    responses: Mapping[str, ResponseText]


@dataclass
class Built:
    """Rows, each with its prompt's id, and what was left out by reason."""

    rows: list[tuple[str, Row]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def texts_of(connection: Connection, project_id: str) -> Texts:
    """All prompts and responses of a project."""
    prompt, response, generation = schema.prompt, schema.response, schema.generation
    here = prompt.c.project_id == project_id
    prompts = connection.execute(select(prompt.c.id, prompt.c.messages, prompt.c.sha256, prompt.c.source).where(here))
    query = select(response.c.id, response.c.text, generation.c.model).select_from(response).join(prompt)
    query = query.outerjoin(generation, generation.c.id == response.c.generation_id).where(here)
    return Texts(
        {row.id: PromptText(row.messages, row.sha256, row.source) for row in prompts},
        {row.id: ResponseText(row.text, row.model or "") for row in connection.execute(query)},
    )


@dataclass(frozen=True)
class Source:
    """What builders work with."""

    votes: Votes
    texts: Texts
    settings: ExportSettings

    def text(self, response: str) -> str:
        """A response's text."""
        return self.texts.responses[response].text

    def model(self, response: str) -> str:
        """Who wrote a response."""
        return self.texts.responses[response].model

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """A prompt's messages."""
        return self.texts.prompts[prompt].messages


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def is_plain(source: Source, prompts: Iterator[str]) -> bool:
    """Whether every prompt can be written as a text: one message of the user, and nothing that reads as a dialogue."""
    found = (source.messages(prompt) for prompt in prompts)
    return all(
        len(turns) == 1 and turns[0]["role"] == "user" and not is_open_transcript(turns[0]["content"])
        for turns in found
    )


def prompt_writer(source: Source, prompts: Sequence[str]) -> Callable[[str], Any]:
    """How a prompt is written beside answers that are texts."""
    plain = is_plain(source, iter(set(prompts)))
    return lambda prompt: source.messages(prompt)[0]["content"] if plain else source.messages(prompt)


def _beside(prompt: Any, text: str) -> Any:
    """An answer as its prompt is written, text or messages: other trainers take no mixture of them."""
    return text if isinstance(prompt, str) else _answer(text)


# --------------------------------------------------------------------------------------------------------------- pairs


def compared(source: Source) -> Labels[PairLabel]:
    """The comparisons that the settings ask for."""
    votes, settings = source.votes, source.settings
    match settings.of:
        case "pairs":
            return pair_labels(votes, "overall", settings.labels)
        case "rankings":
            return pairs_of_rankings(rank_labels(votes, settings.labels), settings.expand, settings.labels)
        case "helpful" | "safer":
            return pair_labels(votes, settings.of, settings.labels)
    return _edit_pairs(source)


def _edits(source: Source, dropped: Counter[str]) -> list[Any]:
    """All edits of a task, or the adjudicator's alone."""
    groups, settled = by_item(
        source.votes, source.votes.edits, lambda one: one.judgment.task.id, source.settings.labels, dropped,
        lambda one: one.edited is not None,
    )  # fmt: skip
    by_adjudicators = [one for one in source.votes.edits if one.judgment.role == "adjudication"]
    everybodys = [one for group in groups.values() for one in group]
    dropped["critique_only"] += sum(one.edited is None for one in everybodys + by_adjudicators)
    edited = [one for one in everybodys if one.edited]
    dropped["overridden_edit"] += sum(one.judgment.task.id in settled for one in edited)
    found = [one for one in edited if one.judgment.task.id not in settled] + list(settled.values())
    return sorted(found, key=lambda one: (one.judgment.task.id, one.judgment.event_id))


def _edit_pairs(source: Source) -> Labels[PairLabel]:
    """An edit against what was edited: its writer found it better, which is no vote that could be smoothed."""
    labels: Labels[PairLabel] = Labels()
    for one in _edits(source, labels.dropped):
        settled = one.judgment.role == "adjudication"
        labels.rows.append(PairLabel(one.judgment.task, "edit", one.edited, one.response, 1.0, 0.0, 1, settled))
    return labels


def _pairs(source: Source, write: Callable[[Any, list[dict[str, str]], str, str], Row]) -> Built:
    """A row for each comparison: ``write`` gives its texts, beside which stands what is known of it."""
    labels = compared(source)
    built = Built(dropped=Counter(labels.dropped))
    plain = is_plain(source, iter({label.task.prompt_id for label in labels.rows}))
    safe = _safe(source) if source.settings.of in ("helpful", "safer") else None
    for label in labels.rows:
        prompt, chosen, rejected = label.task.prompt_id, source.text(label.chosen), source.text(label.rejected)
        if chosen == rejected:
            built.dropped["same_text"] += 1
            continue
        try:
            row = write(plain, source.messages(prompt), chosen, rejected)
        except DataError as error:
            built.dropped[str(error)] += 1
            continue
        built.rows.append((prompt, row | _of_pair(source, label) | (_safe_columns(label, safe) if safe else {})))
    return built


def _of_pair(source: Source, label: PairLabel) -> Row:
    row: Row = {"p_chosen": round(label.p_chosen, 6), "margin": round(label.margin, 6), "n_votes": label.n_votes}
    row |= {"prompt_id": label.task.prompt_id, "group_id": label.task.id, "chosen_id": label.chosen}
    row |= {"rejected_id": label.rejected, "dimension": label.dimension, "adjudicated": label.adjudicated}
    row |= _selection(label.task)
    if source.settings.models:
        row |= {"chosen_model": source.model(label.chosen), "rejected_model": source.model(label.rejected)}
    return row


def _selection(task: Task) -> Row:
    """How a task came to be asked: only random ones stand for all answers."""
    return {"policy": task.policy, "propensity": round(task.propensity, 9)}


def _safe(source: Source) -> dict[tuple[str, str], bool]:
    labels = binary_labels(source.votes, "safe", source.settings.labels).rows
    return {(label.task.id, label.response): label.value for label in labels}


def _safe_columns(label: PairLabel, safe: Mapping[tuple[str, str], bool]) -> Row:
    return {
        "chosen_safe": safe.get((label.task.id, label.chosen)),
        "rejected_safe": safe.get((label.task.id, label.rejected)),
    }


def _plain_pair(plain: bool, prompt: list[dict[str, str]], chosen: str, rejected: str) -> Row:
    if plain:
        return {"prompt": prompt[0]["content"], "chosen": chosen, "rejected": rejected}
    return {"prompt": prompt, "chosen": _answer(chosen), "rejected": _answer(rejected)}


def _explicit(plain: bool, prompt: list[dict[str, str]], chosen: str, rejected: str) -> Row:
    return {"prompt": prompt, "chosen": _answer(chosen), "rejected": _answer(rejected)}


def _whole(plain: bool, prompt: list[dict[str, str]], chosen: str, rejected: str) -> Row:
    return {"chosen": prompt + _answer(chosen), "rejected": prompt + _answer(rejected)}


def _transcripts(plain: bool, prompt: list[dict[str, str]], chosen: str, rejected: str) -> Row:
    """Raises DataError with the reason for what a transcript would tell differently."""
    row = {}
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt + _answer(answer))  # type: ignore[arg-type]
        if any(turn.role == "system" for turn in turns):
            raise DataError("system_message")
        row[name] = write_transcript(turns)
        if parse_transcript(row[name]) != turns:
            raise DataError("turn_marks_in_text")
    return row


def pair_rows(source: Source) -> Built:
    """prompt, chosen, rejected: texts where every prompt is one message, messages otherwise."""
    return _pairs(source, _plain_pair)


def trl_rows(source: Source) -> Built:
    """TRL's conversational form, with the prompt in a column or in both conversations."""
    return _pairs(source, _whole if source.settings.prompt == "implicit" else _explicit)


def openrlhf_rows(source: Source) -> Built:
    """chosen and rejected are whole conversations."""
    return _pairs(source, _whole)


def transcript_rows(source: Source) -> Built:
    """chosen and rejected as "Human: ... Assistant: ..." texts."""
    return _pairs(source, _transcripts)


# --------------------------------------------------------------------------------------------------- the other layouts


def rank_rows(source: Source) -> Built:
    """All responses of a task with their common ranks."""
    labels = rank_labels(source.votes, source.settings.labels)
    write = prompt_writer(source, [label.task.prompt_id for label in labels.rows])
    built = Built(dropped=Counter(labels.dropped))
    for label in labels.rows:
        row: Row = {"prompt": write(label.task.prompt_id), "responses": [source.text(one) for one in label.responses]}
        row |= {"ranks": list(label.ranks), "utilities": list(label.utilities), "n_votes": label.raters}
        row |= {"prompt_id": label.task.prompt_id, "group_id": label.task.id, "response_ids": list(label.responses)}
        row |= {"adjudicated": label.adjudicated} | _selection(label.task)
        row |= {"models": [source.model(one) for one in label.responses]} if source.settings.models else {}
        built.rows.append((label.task.prompt_id, row))
    return built


def thumb_rows(source: Source) -> Built:
    """Thumbs, and of pairs that most raters called both bad two thumbs down."""
    labels = binary_labels(source.votes, "thumb", source.settings.labels)
    built = Built(dropped=Counter(labels.dropped))
    given, rated = list(labels.rows), {one.response for one in labels.rows}
    for one in _both_bad(source, built.dropped):
        if one.response in rated:
            built.dropped["rated_already"] += 1
            continue
        given.append(one)
        rated.add(one.response)
    write = prompt_writer(source, [one.task.prompt_id for one in given])
    for one in given:
        prompt = write(one.task.prompt_id)
        row: Row = {"prompt": prompt, "completion": _beside(prompt, source.text(one.response)), "label": one.value}
        row |= {"p_good": round(one.p, 6), "n_votes": one.n_votes, "prompt_id": one.task.prompt_id}
        row |= {"group_id": one.task.id, "completion_id": one.response, "adjudicated": one.adjudicated}
        row |= {"completion_model": source.model(one.response)} if source.settings.models else {}
        built.rows.append((one.task.prompt_id, row))
    return built


def _both_bad(source: Source, dropped: Counter[str]) -> Iterator[BinaryLabel]:
    """Of every pair that an adjudicator, else most raters, called both bad: both responses as not good."""
    settings = source.settings.labels
    said = [pair for pair in source.votes.pairs if pair.dimension == "overall" and pair.outcome != "unsure"]
    groups, settled = by_item(source.votes, said, lambda pair: pair.judgment.task.id, settings, dropped)
    for task_id, votes in groups.items():
        group = [settled[task_id]] if task_id in settled else votes
        bad, n = sum(pair.outcome == "both_bad" for pair in group), len(group)
        if 2 * bad <= n:
            continue
        p = float(smoothed_vote(np.array([n - bad]), np.array([n]), prior=settings.prior)[0])
        p = 1 - settings.adjudicated if task_id in settled else p
        task = group[0].judgment.task
        yield from (BinaryLabel(task, one, False, p, n, task_id in settled) for one in task.canonical)


def edit_rows(source: Source) -> Built:
    """Edited responses as demonstrations."""
    built = Built()
    found = _edits(source, built.dropped)
    write = prompt_writer(source, [one.judgment.task.prompt_id for one in found])
    for one in found:
        prompt = one.judgment.task.prompt_id
        row: Row = {"prompt": write(prompt)}
        row |= {"completion": _beside(row["prompt"], source.text(one.edited)), "prompt_id": prompt}
        row |= {"group_id": one.judgment.task.id, "completion_id": one.edited, "edited_from": one.response}
        built.rows.append((prompt, row | {"author": "human", "critique": one.critique}))
    return built


def criteria_rows(source: Source) -> Built:
    """HelpSteer's form: a row for each response, a column for each criterion; rows of one prompt are neighbours."""
    labels = score_labels(source.votes, source.settings.labels)
    names = criteria_columns({name for one in labels.rows for name in one.scores})
    write = prompt_writer(source, [one.task.prompt_id for one in labels.rows])
    built = Built(dropped=Counter(labels.dropped))
    for one in sorted(labels.rows, key=lambda label: (label.task.prompt_id, label.task.id, label.response)):
        prompt = write(one.task.prompt_id)
        row: Row = {"prompt": prompt, "response": _beside(prompt, source.text(one.response))}
        row |= {
            column: None if name not in one.scores else round(one.scores[name], 6) for name, column in names.items()
        }
        row |= {"n_votes": one.n_votes, "prompt_id": one.task.prompt_id, "group_id": one.task.id}
        row |= {"response_id": one.response, "adjudicated": one.adjudicated}
        row |= {"response_model": source.model(one.response)} if source.settings.models else {}
        built.rows.append((one.task.prompt_id, row))
    return built


def criteria_columns(keys: Collection[str]) -> dict[str, str]:
    """The columns of criteria, which are read back as scores: by their own names, or behind ``score/``."""
    return {key: key if key in CRITERIA else SCORE + key for key in sorted(keys)}
