"""Records that Argilla exports: fields, and for each question the responses of its users.

Its versions and ways write five forms of the same: by question or by user, and flattened to columns in two ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baro.data.ledger import Ledger
from baro.feedback import answers
from baro.feedback.judged import (
    Judged,
    Shown,
    chosen_of,
    criterion_key,
    edited,
    is_comment,
    ms_of,
    odd,
    one_each,
    position_of,
    ranking_of,
    shown_in,
    squeezed,
    tail_of,
)

SUGGESTION = "-suggestion"  # ends a column of version 1, beside that of the question


@dataclass(frozen=True)
class Given:
    """One user's answer to one question. status: submitted, draft, discarded; None where the export does not tell."""

    question: str
    user: str
    value: Any
    status: str | None


def is_argilla(columns: Mapping[str, Any]) -> bool:
    """Whether a row looks like a record of Argilla's."""
    nested = isinstance(columns.get("fields"), dict) and ("responses" in columns or "suggestions" in columns)
    return nested or any(name.endswith(".responses") for name in columns) or bool(_questions(columns))


def _questions(columns: Mapping[str, Any]) -> list[str]:
    """The columns that hold responses, in data sets of version 1."""
    return [name for name in columns if f"{name}{SUGGESTION}" in columns]


def is_flat_text(columns: Mapping[str, Any]) -> bool:
    """Whether lists of responses were written as texts, which a CSV does."""
    names = [name for name in columns if name.endswith(".responses")] + _questions(columns)
    return any(isinstance(columns[name], str) for name in names)


def read_argilla(key: str, record: Mapping[str, Any], ledger: Ledger) -> list[Judged]:
    """The judgments of one record. Texts become edits of its only answer, or the user's comment."""
    fields = record.get("fields")
    shown = shown_in(fields if isinstance(fields, dict) else record)
    if shown is None:
        odd(ledger, key, "holds no prompt with answers beside it")
        return []
    if record.get("suggestions") or any(_suggests(name, value) for name, value in record.items()):
        ledger.pass_over(key, "suggestion", "a suggestion is no person's judgment")
    at = ms_of(record.get("updated_at") or record.get("inserted_at"))
    found: list[Judged] = []
    comments: dict[str, str] = {}
    given = _submitted(key, list(_given(record)), ledger)
    for one in given:
        answer = _answer(one, shown)
        if answer is not None:
            found.append(
                Judged(key, shown.prompt, shown.texts, answer, one.user, shown.models, at_ms=at, asked=one.question)
            )
        elif isinstance(one.value, str) and (is_comment(one.question) or " " in one.value.strip()):
            comments[one.user] = "\n\n".join(filter(None, (comments.get(one.user), one.value)))
        else:
            odd(ledger, key, f"the answer {one.value!r} to the question {one.question!r} fits no kind of judgment")
    found = [replace(one, answer=_whole(one.answer, shown)) for one in found]
    return _commented(key, one_each(_joined(found), ledger), comments, ledger)


def _suggests(name: str, value: Any) -> bool:
    return name.endswith((".suggestion", SUGGESTION)) and value is not None


def _submitted(key: str, given: list[Given], ledger: Ledger) -> list[Given]:
    """What was submitted; the rest, and what the export leaves open, is told."""
    for status in ("draft", "discarded"):
        for user in dict.fromkeys(one.user for one in given if one.status == status):
            ledger.pass_over(key, status, f"the response of user {user[:8]} is {status}")
    if not given:
        ledger.pass_over(key, "not judged", "nobody has answered a question about it")
    if any(one.status is None for one in given):
        told = "does not tell drafts and discarded responses from submitted ones; all were taken"
        ledger.truncate(key, "status not told", told)
    return [one for one in given if one.status in ("submitted", None)]


def _given(record: Mapping[str, Any]) -> Iterator[Given]:
    """Every answer, of all forms that exports have."""
    responses = record.get("responses")
    if isinstance(responses, dict):  # by question
        for question, listed in responses.items():
            for one in listed if isinstance(listed, list) else []:
                yield Given(question, str(one.get("user_id", "")), one.get("value"), one.get("status"))
    elif isinstance(responses, list):  # by user
        for one in responses:
            status, user = one.get("status", "submitted"), str(one.get("user_id", ""))
            for question, value in (one.get("values") or {}).items():
                yield Given(question, user, value.get("value"), status)
    for name, values in record.items():  # flattened, version 2
        if name.endswith(".responses") and isinstance(values, list):
            users, status = record.get(f"{name}.users") or [], record.get(f"{name}.status") or []
            for i, value in enumerate(values):
                user = str(users[i]) if i < len(users) else ""
                yield Given(name.removesuffix(".responses"), user, value, status[i] if i < len(status) else None)
    for name in _questions(record):  # flattened, version 1
        for one in _rows(record[name]):
            yield Given(name, str(one.get("user_id", "")), one.get("value"), one.get("status", "submitted"))


def _rows(value: Any) -> list[Mapping[str, Any]]:
    """A list of objects; a data set may hold it as an object of lists."""
    if isinstance(value, dict):
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    return value if isinstance(value, list) else []


def _answer(given: Given, shown: Shown) -> answers.Answer | None:
    question, value = given.question, given.value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _rating(question, value, shown)
    if isinstance(value, list | dict):
        return _ranking(_rows(value), shown)
    if not isinstance(value, str) or is_comment(question):
        return None
    return edited(question, value, shown) or chosen_of(value, shown, question)


def _rating(question: str, value: int, shown: Shown) -> answers.CriteriaAnswer | None:
    """A rating of the only answer, or of the one whose name or number the question ends with."""
    if len(shown.answers) == 1:
        return answers.CriteriaAnswer(scores={criterion_key(question): [value]})
    for i, name in enumerate(shown.answers):
        end = name if squeezed(question).endswith(squeezed(name)) else tail_of(name)
        if end and (end == name or tail_of(question) == end):
            short = criterion_key(question[: len(question) - len(end)]) or "rating"
            return answers.CriteriaAnswer(
                scores={short: [value if k == i else None for k in range(len(shown.answers))]}
            )
    return None


def _ranking(value: Sequence[Any], shown: Shown) -> answers.Answer | None:
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
