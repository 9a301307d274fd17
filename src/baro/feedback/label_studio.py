"""Tasks that Label Studio exports as JSON: data, and annotations whose results are of several control tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

from baro.data.ledger import Ledger
from baro.feedback import answers
from baro.feedback.judged import PROMPTS as PROMPT_NAMES
from baro.feedback.judged import (
    Judged,
    Shown,
    chosen_of,
    conversation_of,
    criterion_key,
    edited,
    ms_of,
    odd,
    one_each,
    ranking_of,
    shown_in,
    winner,
)


def is_label_studio(columns: Mapping[str, Any]) -> bool:
    """Whether a row is a task with its annotations."""
    return isinstance(columns.get("data"), dict) and "annotations" in columns


def is_short_form(columns: Mapping[str, Any]) -> bool:
    """Whether a row is of an export that leaves out what is needed: JSON-MIN, CSV, TSV."""
    return "annotation_id" in columns and "annotator" in columns


def read_label_studio(key: str, task: Mapping[str, Any], ledger: Ledger) -> list[Judged]:
    """The judgments of one task, in the order of their time. Left is the first answer in the data, right the second."""
    fields = task.get("data")
    if not isinstance(fields, dict):
        odd(ledger, key, "has no 'data'")
        return []
    shown, items = shown_in(fields), _items(fields)
    if task.get("predictions"):
        ledger.pass_over(key, "prediction", "a prediction is no person's judgment")
    annotations = task.get("annotations") or []
    if not annotations:
        ledger.pass_over(key, "not judged", "nobody has annotated it")
    elif shown is None and items is None:
        odd(ledger, key, "holds no prompt with answers beside it")
        return []
    found: list[Judged] = []
    for annotation in sorted(annotations, key=lambda one: str(_time(one))):
        if annotation.get("was_cancelled"):
            ledger.pass_over(key, "skipped", "an annotator skipped the task")
        elif not annotation.get("result"):
            ledger.pass_over(key, "empty", "an annotation was submitted without saying anything")
        else:
            found += _Annotation(key, shown, items, annotation).read(ledger)
    return found


def _time(annotation: Mapping[str, Any]) -> Any:
    return annotation.get("updated_at") or annotation.get("created_at")


class _Annotation:
    """What one person said of one task."""

    def __init__(self, key: str, shown: Shown | None, items: Shown | None, annotation: Mapping[str, Any]):
        self.key, self.shown, self.items = key, shown, items
        self.results = annotation["result"]
        self.at, seconds = ms_of(_time(annotation)), annotation.get("lead_time")
        timed = isinstance(seconds, int | float) and isfinite(seconds)
        self.active = int(min(max(seconds, 0) * 1000, answers.MAX_MS)) if timed else None  # a page may stay open
        who = annotation.get("completed_by")
        self.user = str((who.get("id") or who.get("email")) if isinstance(who, dict) else who)

    def read(self, ledger: Ledger) -> list[Judged]:
        """Its judgments; the texts that were written beside them are the first one's comment."""
        found: list[Judged] = []
        scores: dict[str, list[int | None]] = {}
        texts: list[str] = []
        for result in self.results:
            value, kind, name = result.get("value") or {}, result.get("type"), str(result.get("from_name"))
            shown = self.items if kind == "ranker" and self.items is not None else self.shown
            answer = None if shown is None else _answer(kind, value, name, shown)
            rating = value.get("rating") if kind == "rating" and shown and len(shown.answers) == 1 else None
            if answer is not None and shown is not None:
                found.append(self._judged(shown, answer, name))
            elif isinstance(rating, int):
                scores[criterion_key(name)] = [rating]
            elif kind == "textarea":
                texts += _texts(value)
            else:
                odd(ledger, self.key, _why(kind, value, name))
        if scores and self.shown is not None:
            found.append(self._judged(self.shown, answers.CriteriaAnswer(scores=scores), "ratings"))
        comment = "\n\n".join(filter(None, texts))
        if comment and not found:
            odd(ledger, self.key, f"the text {comment[:40]!r} stands with no judgment")
        # The time was spent once, however many judgments came of it.
        return [
            replace(one, comment=comment if not i else "", active_ms=self.active if not i else 0)
            for i, one in enumerate(one_each(found, ledger))
        ]

    def _judged(self, shown: Shown, answer: answers.Answer, asked: str) -> Judged:
        return Judged(
            self.key, shown.prompt, shown.texts, answer, self.user, shown.models, self.at, self.active, asked=asked
        )


def _answer(kind: Any, value: Mapping[str, Any], name: str, shown: Shown) -> answers.Answer | None:
    if kind == "pairwise" and len(shown.answers) == 2:
        return {"left": winner(0), "right": winner(1)}.get(str(value.get("selected")))
    if kind == "choices" and len(value.get("choices") or []) == 1:
        return chosen_of(value["choices"][0], shown, name)
    if kind == "textarea" and len(_texts(value)) == 1:
        return edited(name, _texts(value)[0], shown)
    return _ranker(value, shown) if kind == "ranker" else None


def _texts(value: Mapping[str, Any]) -> list[str]:
    given = value.get("text") or []
    return [given] if isinstance(given, str) else [str(one) for one in given]


def _why(kind: Any, value: Mapping[str, Any], name: str) -> str:
    """Why a result is no judgment."""
    buckets = value.get("ranker") if kind == "ranker" else None
    used = (
        [bucket for bucket, listed in buckets.items() if listed and bucket != "_"] if isinstance(buckets, dict) else []
    )
    if len(used) > 1:
        return (
            f"{name!r} sorts the answers into {' and '.join(map(repr, used))}; which of them is the order is not told"
        )
    if isinstance(buckets, dict) and not used:
        return f"{name!r} ranks nothing"
    return f"the answer {value!r} to {name!r} (of type {kind!r}) fits no kind of judgment"


def _items(fields: Mapping[str, Any]) -> Shown | None:
    """The list of answers that a Ranker sorts, by their ids."""
    prompt = next((name for name in PROMPT_NAMES if name in fields), None)
    turns = conversation_of(fields[prompt]) if prompt else None
    for value in fields.values():
        if turns and isinstance(value, list) and value and all(isinstance(one, dict) and "id" in one for one in value):
            texts = {str(one["id"]): one.get("body") or one.get("text") or one.get("title") for one in value}
            if all(isinstance(text, str) for text in texts.values()):
                return Shown(turns, texts)
    return None


def _ranker(value: Mapping[str, Any], items: Shown) -> answers.Answer | None:
    """The ids from the best to the worst. Answers that were left where they came from are not ranked."""
    buckets = value.get("ranker")
    listed = buckets if isinstance(buckets, list) else None
    if isinstance(buckets, dict):
        used = [order for name, order in buckets.items() if order and name != "_"]
        listed = used[0] if len(used) == 1 else None
    names = list(items.answers)
    if not listed or any(str(one) not in names for one in listed):
        return None
    places = {str(one): place for place, one in enumerate(listed, start=1)}
    ranks = [places.get(name) for name in names]
    if len(names) == 2:
        return winner(ranks.index(1)) if None not in ranks else None
    return ranking_of(ranks)
