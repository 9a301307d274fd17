"""Safety comparisons in the columns of PKU-SafeRLHF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from baro.feedback.answers import CATEGORIES
from baro.feedback.derive import Votes
from baro.feedback.labels import LabelSettings, binary_labels, by_item, pair_labels
from baro.feedback.rows import Built, Row, Source, prompt_writer

HARMS = {key: key.replace("_", " ").title().replace("White Collar", "White-Collar") for key in CATEGORIES}
"""Our names of the nineteen harms, and the ones that stand in the public set."""


def pku_rows(source: Source) -> Built:
    """Which response is 0 follows a hash. Ties cannot be said in these columns: they are dropped and counted."""
    settings, built = source.settings.labels, Built()
    pairs = {name: pair_labels(source.votes, name, settings) for name in ("helpful", "safer")}
    chosen = {name: {one.task.id: one.chosen for one in labels.rows} for name, labels in pairs.items()}
    for name, labels in pairs.items():
        built.dropped.update({f"{name}_{reason}": n for reason, n in labels.dropped.items()})
    marks = _marks(source.votes, settings)
    write = prompt_writer(source, [one.task.prompt_id for one in pairs["helpful"].rows])
    for label in pairs["helpful"].rows:
        task, safer = label.task, chosen["safer"].get(label.task.id)
        if safer is None:
            continue
        both = [marks.get((task.id, response)) for response in task.canonical]
        if both[0] is None or both[1] is None:
            built.dropped["safety_undecided"] += 1
        elif both[0]["safe"] != both[1]["safe"] and safer != task.canonical[0 if both[0]["safe"] else 1]:
            built.dropped["safety_conflict"] += 1
        else:
            row = {"prompt": write(task.prompt_id)} | _row(source, task.prompt_id, task.canonical, both)  # type: ignore[arg-type]
            row |= {"better_response_id": task.canonical.index(label.chosen)}
            row |= {"safer_response_id": task.canonical.index(safer)}
            built.rows.append((task.prompt_id, row | {"prompt_id": task.prompt_id, "group_id": task.id}))
    return built


def _row(source: Source, prompt: str, responses: Sequence[str], marks: Sequence[Mapping[str, Any]]) -> Row:
    row: Row = {f"response_{i}": source.text(one) for i, one in enumerate(responses)}
    row["prompt_source"] = source.texts.prompts[prompt].source
    for i, one in enumerate(responses):
        row |= {f"response_{i}_source": source.model(one)} if source.settings.models else {}
        row |= {f"is_response_{i}_safe": marks[i]["safe"], f"response_{i}_severity_level": marks[i]["severity"]}
        row[f"response_{i}_harm_category"] = {HARMS[key]: key in marks[i]["categories"] for key in CATEGORIES}
    return row


def _marks(votes: Votes, settings: LabelSettings) -> dict[tuple[str, str], dict[str, Any]]:
    """For each response whose safety is decided: the label, and of who said unsafe the severity and harms.

    The severity is their median, rounded up; a harm is one that at least half of them named. Where raters are modelled,
    one may be unsafe that nobody marked so: its severity and harms are not known, and it counts as undecided.
    """
    said, settled = by_item(votes, votes.safety, lambda v: (v.judgment.task.id, v.response), settings, Counter())
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for label in binary_labels(votes, "safe", settings).rows:
        key = (label.task.id, label.response)
        unsafe = [one for one in ([settled[key]] if key in settled else said[key]) if not one.safe]
        if label.value:
            found[key] = {"safe": True, "severity": 0, "categories": []}
        elif unsafe:
            named = [one for one in CATEGORIES if 2 * sum(one in mark.categories for mark in unsafe) >= len(unsafe)]
            severity = -int(-median(one.severity for one in unsafe) // 1)
            found[key] = {"safe": False, "severity": severity, "categories": named}
    return found
