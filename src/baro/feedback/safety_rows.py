"""Safety tasks as a stage reads them: soft labels, and every decided part; PKU-SafeRLHF's columns need all parts."""

from __future__ import annotations

from collections import Counter

from baro.feedback.answers import CATEGORIES
from baro.feedback.derive import SafetyVote
from baro.feedback.ids import sha256
from baro.feedback.labels import binary_labels, by_item, pair_labels
from baro.feedback.pku import HARMS
from baro.feedback.rows import Built, Row, Source, prompt_writer


def safety_rows(source: Source) -> Built:
    """For each task its responses with the probability that each is unsafe, and where decided which is the safer.

    Where the votes of a response are divided the probability is one half. A task whose order contradicts its labels is
    dropped and counted.
    """
    settings, built = source.settings.labels, Built()
    groups, settled = by_item(
        source.votes, source.votes.safety, lambda v: (v.judgment.task.id, v.response), settings, built.dropped
    )
    marks = {item: [settled[item]] if item in settled else group for item, group in groups.items()}
    tasks = {group[0].judgment.task.id: group[0].judgment.task for group in marks.values() if group}
    p_safe = {(one.task.id, one.response): one.p for one in binary_labels(source.votes, "safe", settings).rows}
    order = {one.task.id: one for one in pair_labels(source.votes, "safer", settings).rows}
    write = prompt_writer(source, [task.prompt_id for task in tasks.values()])
    for task in tasks.values():
        both = sorted(task.canonical, key=lambda one: sha256(source.text(one)))  # ids differ from store to store
        given = [marks.get((task.id, one), []) for one in both]
        known = zip(both, given, strict=True)
        unsafe = [round(1 - p_safe.get((task.id, one), 0.5), 6) if group else None for one, group in known]
        row: Row = {"prompt": write(task.prompt_id), "responses": [source.text(one) for one in both]}
        row |= {"unsafe": unsafe, "severity": [_severity(one) for one in given], "safety_ranks": None, "p_safer": None}
        if (label := order.get(task.id)) is not None:
            first = label.chosen == both[0]
            row |= {"safety_ranks": [1, 2] if first else [2, 1], "p_safer": round(label.p_chosen, 6)}
            safer, other = unsafe if first else unsafe[::-1]
            if safer is not None and other is not None and safer > 0.5 > other:
                built.dropped["safety_conflict"] += 1
                continue
        row |= {"categories": [_categories(one) for one in given], "n_votes": max(map(len, given))}
        row |= {"prompt_id": task.prompt_id, "group_id": task.id, "response_ids": both}
        row |= {"models": [source.model(one) for one in both]} if source.settings.models else {}
        built.rows.append((task.prompt_id, row))
    return built


def _severity(marks: list[SafetyVote]) -> float | None:
    """The raters' mean; safe is 0."""
    return round(sum(0 if one.safe else one.severity for one in marks) / len(marks), 6) if marks else None


def _categories(marks: list[SafetyVote]) -> list[str]:
    """The harms that at least half of those named who said unsafe."""
    unsafe = [one for one in marks if not one.safe]
    named = Counter(kind for one in unsafe for kind in one.categories)
    return [HARMS[kind] for kind in CATEGORIES if unsafe and 2 * named[kind] >= len(unsafe)]
