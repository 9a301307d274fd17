"""Every judgment as a row, revised and taken back ones too: what all labels can be made from again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from baro.feedback import schema
from baro.feedback.derive import Judgment, Votes, votes_of
from baro.feedback.rows import Built, Row, Source

SAID = {
    "pairs": ("dimension", "outcome", "winner", "strength", "position"),
    "thumbs": ("response", "good", "reasons"),
    "safety": ("response", "safe", "severity", "categories"),
    "scores": ("response", "criterion", "score"),
    "edits": ("response", "edited", "critique", "spans"),
}
"""The lists of ``Votes`` and what is told of each entry; rankings are told as responses with ranks."""


@dataclass(frozen=True)
class Facts:
    """All judgments up to an event. guidelines: version and language by id. reasons: of adjudications, by judgment."""

    votes: Votes
    guidelines: Mapping[str, tuple[int, str]]
    reasons: Mapping[str, tuple[str, str]]


def facts_of(connection: Connection, project_id: str, watermark: int) -> Facts:
    """Read them."""
    guideline, settled = schema.guideline, schema.adjudication
    versions = select(guideline.c.id, guideline.c.version, guideline.c.lang).where(guideline.c.project_id == project_id)
    reasons = (
        select(settled)
        .join(schema.task, schema.task.c.id == settled.c.task_id)
        .where(schema.task.c.project_id == project_id)
    )
    return Facts(
        votes_of(connection, project_id, watermark, history=True),
        {row.id: (row.version, row.lang) for row in connection.execute(versions)},
        {row.judgment_id: (row.reason, row.note) for row in connection.execute(reasons)},
    )


def fact_rows(source: Source, facts: Facts) -> Built:
    """Raters go by their ids, which say nothing; tasks with a known answer are left out here too."""
    said = _said(facts.votes)
    built = Built()
    for judgment in facts.votes.judgments:
        if judgment.role == "gold":
            built.dropped["known_answer"] += 1
            continue
        prompt = judgment.task.prompt_id
        row = _head(judgment, facts) | {"prompt": source.messages(prompt)}
        row["responses"] = [{"id": one, "text": source.text(one)} for one in judgment.task.responses]
        for entry, one in zip(row["responses"], judgment.task.responses, strict=True):
            entry |= {"model": source.model(one)} if source.settings.models else {}
        row |= {name: said[name].get(judgment.id, []) for name in ("pairs", "ranks", *list(SAID)[1:])}
        for edit in row["edits"]:
            edit["text"] = None if edit["edited"] is None else source.text(edit["edited"])
        built.rows.append((prompt, row))
    return built


def _head(judgment: Judgment, facts: Facts) -> Row:
    version, lang = facts.guidelines.get(judgment.guideline_id or "", (None, None))
    reason, note = facts.reasons.get(judgment.id, (None, None))
    names = ("id", "assignment_id", "rater_id", "role", "revision", "action", "event_id", "ui_version", "opened_ms")
    names += ("submitted_ms", "active_ms", "confidence", "comment")
    row: Row = {name: getattr(judgment, name) for name in names}
    row |= {"task_id": judgment.task.id, "kind": judgment.task.kind, "prompt_id": judgment.task.prompt_id}
    row |= {"policy": judgment.task.policy, "propensity": round(judgment.task.propensity, 9)}
    row |= {"guideline_version": version, "guideline_lang": lang, "reason": reason, "note": note}
    return row | {"flags": [dict(one) for one in judgment.flags], "shown": list(judgment.shown)}


def _said(votes: Votes) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What was said by list and judgment."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {"ranks": {}}
    for ranking in votes.ranks:
        entries = [
            {"response": one, "rank": ranking.ranks.get(one)} for one in ranking.judgment.task.responses
        ]  # fmt: skip
        found["ranks"][ranking.judgment.id] = entries
    for name, fields in SAID.items():
        here = found.setdefault(name, {})
        for one in getattr(votes, name):
            entry = {field: _plain(getattr(one, field)) for field in fields}
            here.setdefault(one.judgment.id, []).append(entry)
    return found


def _plain(value: Any) -> Any:
    return [dict(one) if isinstance(one, Mapping) else one for one in value] if isinstance(value, tuple) else value
