"""Records that Argilla exports: fields, and for each question the responses of its users (nested or flattened)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from baro.data.ledger import Ledger
from baro.feedback import answers
from baro.feedback.judged import (
    Judged,
    Shown,
    chosen_of,
    ms_of,
    odd,
    position_of,
    ranking_of,
    shown_in,
    squeezed,
)

Given = tuple[str, str, Any]  # question, user, value


def read_argilla(key: str, record: Mapping[str, Any], ledger: Ledger) -> list[Judged]:
    """The judgments of one record. Texts become edits of its only answer, or the user's comment."""
    fields = record.get("fields")
    shown = shown_in(fields if isinstance(fields, dict) else record)
    if shown is None:
        odd(ledger, key, "holds no prompt with answers beside it")
        return []
    if record.get("suggestions") or any(name.endswith(".suggestion") for name in record):
        ledger.pass_over(key, "suggestion", "a suggestion is no person's judgment")
    at = ms_of(record.get("updated_at") or record.get("inserted_at"))
    found: list[Judged] = []
    comments: dict[str, str] = {}
    for question, user, value in _given(record):
        answer = _answer(question, value, shown)
        if answer is not None:
            found.append(Judged(key, shown.prompt, shown.texts, answer, user, at_ms=at))
        elif isinstance(value, str) and " " in value.strip():
            comments[user] = "\n\n".join(filter(None, (comments.get(user), value)))
        else:
            odd(ledger, key, f"the answer {value!r} to the question {question!r} fits no kind of judgment")
    found = [replace(one, answer=_whole(one.answer, shown)) for one in found]
    return _commented(key, _joined(found), comments, ledger)


def _given(record: Mapping[str, Any]) -> Iterator[Given]:
    """Every submitted answer, of the three forms that exports have."""
    responses = record.get("responses")
    if isinstance(responses, dict):  # by question
        for question, listed in responses.items():
            for one in listed if isinstance(listed, list) else []:
                if one.get("status", "submitted") == "submitted":
                    yield question, str(one.get("user_id", "")), one.get("value")
    elif isinstance(responses, list):  # by user
        for one in responses:
            if one.get("status", "submitted") == "submitted":
                for question, value in (one.get("values") or {}).items():
                    yield question, str(one.get("user_id", "")), value.get("value")
    for name, values in record.items():  # flattened
        if name.endswith(".responses") and isinstance(values, list):
            users, status = record.get(f"{name}.users") or [], record.get(f"{name}.status") or []
            for i, value in enumerate(values):
                if i >= len(status) or status[i] == "submitted":
                    yield name.removesuffix(".responses"), str(users[i]) if i < len(users) else "", value


def _answer(question: str, value: Any, shown: Shown) -> answers.Answer | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _rating(question, value, shown)
    if isinstance(value, list):
        return _ranking(value, shown)
    if not isinstance(value, str):
        return None
    chosen = chosen_of(value, shown)
    edits = any(word in squeezed(question) for word in ("edit", "correct", "rewrit", "improve", "revis"))
    if chosen is None and edits and len(shown.answers) == 1 and value != shown.texts[0]:
        return answers.EditAnswer(text=value)
    return chosen


def _rating(question: str, value: int, shown: Shown) -> answers.CriteriaAnswer | None:
    """A rating of the only answer, or of the one whose name or number the question ends with."""
    if len(shown.answers) == 1:
        return answers.CriteriaAnswer(scores={question: [value]})
    for i, name in enumerate(shown.answers):
        if squeezed(question).endswith(squeezed(name)):
            short = question[: len(question) - len(name)].rstrip("_- ") or "rating"
            return answers.CriteriaAnswer(
                scores={short: [value if k == i else None for k in range(len(shown.answers))]}
            )
    return None


def _ranking(value: list[Any], shown: Shown) -> answers.Answer | None:
    """The names in their order, or objects with a value and a rank; of two answers it is a pair."""
    ranks: list[int | None] = [None] * len(shown.answers)
    for place, one in enumerate(value, start=1):
        name, rank = (one.get("value"), one.get("rank")) if isinstance(one, dict) else (one, place)
        position = position_of(name, shown)
        if position is None or not isinstance(rank, int) or isinstance(rank, bool):
            return None
        ranks[position] = rank
    return ranking_of(ranks)


def _whole(answer: answers.Answer, shown: Shown) -> answers.Answer:
    """A ranking of two answers is a pair."""
    if not isinstance(answer, answers.RankAnswer) or len(shown.answers) != 2:
        return answer
    if answer.ranks[0] == answer.ranks[1]:
        return answers.PairAnswer(choice=answers.Choice(outcome="tie"))
    return answers.PairAnswer(choice=answers.Choice(outcome="win", position=answer.ranks.index(1)))  # type: ignore[arg-type]


def _joined(found: list[Judged]) -> list[Judged]:
    """One judgment of all criteria by each user, since they are one task."""
    scores: dict[str, dict[str, list[int | None]]] = {}
    for one in found:
        if isinstance(one.answer, answers.CriteriaAnswer):
            for key, row in one.answer.scores.items():
                mine = scores.setdefault(one.rater, {}).setdefault(key, [None] * len(row))
                scores[one.rater][key] = [new if new is not None else old for new, old in zip(row, mine, strict=True)]
    others = [one for one in found if not isinstance(one.answer, answers.CriteriaAnswer)]
    first = {one.rater: one for one in reversed(found) if isinstance(one.answer, answers.CriteriaAnswer)}
    whole = [replace(first[user], answer=answers.CriteriaAnswer(scores=given)) for user, given in scores.items()]
    return others + whole


def _commented(key: str, found: list[Judged], comments: dict[str, str], ledger: Ledger) -> list[Judged]:
    """Comments stand with the user's first judgment of the record."""
    placed = [replace(one, comment=comments.pop(one.rater, "")) for one in found]
    for text in comments.values():
        odd(ledger, key, f"the comment {text[:40]!r} stands with no judgment")
    return placed
