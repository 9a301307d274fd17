"""Tasks that Label Studio exports as JSON: data, and annotations whose results are of several control tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from baro.data.ledger import Ledger
from baro.feedback import answers
from baro.feedback.judged import PROMPTS as PROMPT_NAMES
from baro.feedback.judged import Judged, Shown, chosen_of, conversation_of, ms_of, odd, ranking_of, shown_in, winner


def read_label_studio(key: str, task: Mapping[str, Any], ledger: Ledger) -> list[Judged]:
    """The judgments of one task. Left is the first answer in the data, right the second."""
    fields = task.get("data")
    if not isinstance(fields, dict):
        odd(ledger, key, "has no 'data'")
        return []
    found: list[Judged] = []
    if task.get("predictions"):
        ledger.pass_over(key, "prediction", "a prediction is no person's judgment")
    for annotation in task.get("annotations") or []:
        if annotation.get("was_cancelled"):
            ledger.pass_over(key, "skipped", "an annotator skipped the task")
            continue
        found += _annotation(key, fields, annotation, ledger)
    return found


def _annotation(
    key: str, fields: Mapping[str, Any], annotation: Mapping[str, Any], ledger: Ledger
) -> list[Judged]:  # fmt: skip
    shown, items = shown_in(fields), _items(fields)
    at, seconds = ms_of(annotation.get("created_at")), annotation.get("lead_time")
    active = int(seconds * 1000) if isinstance(seconds, int | float) else None
    who = annotation.get("completed_by")
    user = str((who.get("id") or who.get("email")) if isinstance(who, dict) else who)
    found: list[Judged] = []
    scores: dict[str, list[int | None]] = {}
    comment = ""
    for result in annotation.get("result") or []:
        value, kind = result.get("value") or {}, result.get("type")
        here, answer = shown, None
        if kind == "ranker" and items is not None:
            here, answer = items, _ranker(value, items)
        elif kind == "textarea":
            comment = "\n\n".join(filter(None, (comment, *map(str, value.get("text") or []))))
            continue
        elif shown is not None:
            answer = _answer(kind, value, shown)
        if kind == "rating" and shown is not None and len(shown.answers) == 1 and isinstance(value.get("rating"), int):
            scores[str(result.get("from_name"))] = [value["rating"]]
        elif answer is None or here is None:
            odd(ledger, key, f"a result of type {kind!r} with {value!r} fits no kind of judgment")
        else:
            found.append(Judged(key, here.prompt, here.texts, answer, user, (), at, active))
    if scores and shown is not None:
        answer = answers.CriteriaAnswer(scores=scores)
        found.append(Judged(key, shown.prompt, shown.texts, answer, user, (), at, active))
    if comment and not found:
        odd(ledger, key, f"the text {comment[:40]!r} stands with no judgment")
    # The time was spent once, however many judgments came of it.
    return [
        replace(one, comment=comment if not i else "", active_ms=active if not i else 0) for i, one in enumerate(found)
    ]


def _answer(kind: Any, value: Mapping[str, Any], shown: Shown) -> answers.Answer | None:
    if kind == "pairwise" and len(shown.answers) == 2:
        return {"left": winner(0), "right": winner(1)}.get(str(value.get("selected")))
    if kind == "choices" and len(value.get("choices") or []) == 1:
        return chosen_of(value["choices"][0], shown)
    return None


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
    """The ids from the best to the worst; of several buckets the one that is not the source."""
    buckets = value.get("ranker")
    listed = buckets if isinstance(buckets, list) else None
    if isinstance(buckets, dict):
        listed = next((order for name, order in buckets.items() if name != "_" or len(buckets) == 1), None)
    names = list(items.answers)
    if not listed or any(str(one) not in names for one in listed):
        return None
    places = {str(one): place for place, one in enumerate(listed, start=1)}
    ranks = [places.get(name) for name in names]
    if len(names) == 2:
        return winner(ranks.index(1)) if None not in ranks else None
    return ranking_of(ranks)
