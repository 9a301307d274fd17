"""How rows that say what is harmful become records: pairs, lists of answers, single answers with their raters' labels.

A label is a probability of being unsafe. Where raters are told one by one, it is the share of those who said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from baro.data import cells, messages
from baro.data.cells import Columns
from baro.data.layouts import Looked, Reading
from baro.data.rows import Unusable
from baro.errors import DataError
from baro.records import Safety

Extra = dict[str, Any]
BOTH = (0, 1)
PKU_FURTHER = (
    "safer_response_id",
    *(f"response_{k}_{what}" for what in ("severity_level", "harm_category") for k in BOTH),
)
"""What PKU-SafeRLHF has beside the two labels; its first version had no severity and no categories."""
XSTEST_ANSWERS = {"1_full_compliance": True, "2_full_refusal": False, "3_partial_refusal": False}
"""XSTest's labels, and whether an answer of this kind does what it was asked."""
UNSAFE_PROMPTS = "contrast_"
SAFE_PROMPTS = (
    *("homonyms", "figurative_language", "safe_targets", "safe_contexts", "definitions", "nons_group_real_discr"),
    *("real_group_nons_discr", "historical_events", "privacy_public", "privacy_fictional"),
)
"""XSTest's types of prompt. Of an unsafe one the type begins with ``UNSAFE_PROMPTS``."""
ACCEPTABLE = {"acceptable": False, "non-acceptable": True, "dont_know": None}
"""What a rater of SQuARe may say, and whether that is unsafe."""

# -------------------------------------------------------------------------------------------------- several answers


def pku(row: Columns, extra: Extra, reading: Reading) -> Safety:
    """Two responses with a label each; ``safer_response_id``, where given, compares them."""
    prompt, both = messages.answered(row, [(f"response_{k}", row[f"response_{k}"]) for k in BOTH])
    unsafe = tuple(_not_safe(row, f"is_response_{k}_safe") for k in BOTH)
    severity = tuple(_number(row.get(f"response_{k}_severity_level"), f"response_{k}_severity_level") for k in BOTH)
    kinds = tuple(_kinds(row.get(f"response_{k}_harm_category"), f"response_{k}_harm_category") for k in BOTH)
    ranks: tuple[int, ...] = ()
    if not cells.empty(safer := row.get("safer_response_id")):
        if cells.whole(safer) not in BOTH:
            raise DataError(f"'safer_response_id' is {safer!r}; 0 or 1 is needed")
        ranks = (2, 1) if cells.whole(safer) else (1, 2)
    return Safety(prompt, tuple(both), unsafe, ranks, 1.0, _if_any(severity), kinds if any(kinds) else (), extra)


def several(row: Columns, extra: Extra, reading: Reading) -> Safety:
    """Baro's own layout: lists with an entry for each response, null where nothing is known."""
    answers = cells.listed(row, "responses")
    prompt, completions = messages.answered(row, [("responses", one) for one in answers])
    unsafe = tuple(_probability(one, "unsafe") for one in _each(row, "unsafe", answers) or [None] * len(answers))
    ranks = [cells.whole(one) for one in _each(row, "safety_ranks", answers)]
    known = tuple(one for one in ranks if one is not None and one >= 1)
    if len(known) != len(ranks):
        raise DataError("'safety_ranks' must be whole numbers from 1, the safest, upwards")
    severity = tuple(_number(one, "severity") for one in _each(row, "severity", answers))
    kinds = tuple(_kinds(one, "categories") for one in _each(row, "categories", answers))
    p_safer = _probability(row.get("p_safer"), "p_safer")
    sure = 1.0 if p_safer is None else p_safer
    return Safety(prompt, tuple(completions), unsafe, known, sure, severity, kinds, extra)


def _each(row: Columns, column: str, answers: Sequence[Any]) -> list[Any]:
    """A column with an entry for each response; none where the row lacks it."""
    if cells.empty(row.get(column)):
        return []
    values = cells.listed(row, column)
    if len(values) != len(answers):
        raise DataError(f"'responses' has {len(answers)} entries and {column!r} {len(values)}; each response needs one")
    return values


# ---------------------------------------------------------------------------------------------------- single answers


def single(row: Columns, extra: Extra, reading: Reading) -> Safety:
    """One answer and the probability that it is unsafe."""
    unsafe, severity = _probability(row["unsafe"], "unsafe"), _number(row.get("severity"), "severity")
    return _one(row, extra, unsafe, _kinds(row.get("category"), "category"), severity)


def is_safe(row: Columns, extra: Extra, reading: Reading) -> Safety:
    """BeaverTails: one answer, whether it is safe, and what kinds of harm are in it."""
    return _one(row, extra, _not_safe(row, "is_safe"), _kinds(row.get("category"), "category"))


def square(row: Columns, extra: Extra, reading: Reading) -> Safety:
    """SQuARe: an answer to a sensitive question that raters found acceptable or not; who does not know has no vote."""
    acceptable = cells.truth(row["acceptable?"])
    if acceptable is None:
        raise DataError(f"'acceptable?' is {row['acceptable?']!r}; 1 or 0 is needed")
    votes = _square_votes(row.get("raw_annotations"))
    unsafe = sum(votes) / len(votes) if votes else float(not acceptable)
    if unsafe != 0.5 and (unsafe > 0.5) == acceptable:
        raise Unusable("contradiction", "'acceptable?' says otherwise than most of the raters in 'raw_annotations'")
    return _one(row, extra, unsafe, _kinds(row.get("question_category"), "question_category"))


def _square_votes(raw: Any) -> list[bool]:
    """What the raters said who had an opinion; nothing where they are not told one by one."""
    raw = cells.parsed(raw) if isinstance(raw, str) else raw
    if cells.empty(raw):
        return []
    said = next((v for k, v in raw.items() if k.startswith("Q2")), None) if isinstance(raw, Mapping) else None
    if not isinstance(said, list) or not all(isinstance(one, Mapping) for one in said):
        raise DataError("column 'raw_annotations' needs a list of raters under 'Q2: Acceptable or Non-acceptable'")
    unknown = [one.get("acceptable?") for one in said if one.get("acceptable?") not in ACCEPTABLE]
    if unknown:
        raise DataError(f"in 'raw_annotations' a rater said {unknown[0]!r}; one of {', '.join(ACCEPTABLE)} is needed")
    votes = [ACCEPTABLE[one["acceptable?"]] for one in said]
    return [one for one in votes if one is not None]


def xstest(row: Columns, extra: Extra, reading: Reading) -> Safety:
    """XSTest: to do what an unsafe prompt asks is unsafe; to refuse, wholly or in part, is not, nor is any answer to a
    safe prompt. Where the two annotators differ, ``final_label`` is a third vote.
    """
    kind = cells.string(row, "type")
    if kind not in SAFE_PROMPTS and not kind.startswith(UNSAFE_PROMPTS):
        raise DataError(f"'type' is {kind!r}, which is none of XSTest's; safe and unsafe prompts go by their types")
    said = [row[name] for name in ("annotation_1", "annotation_2") if not cells.empty(row[name])]
    if not said:
        raise Unusable("no judgment", "has no 'annotation_1' and no 'annotation_2'")
    said += [row["final_label"]] if len(set(said)) > 1 and not cells.empty(row.get("final_label")) else []
    if unknown := [one for one in said if one not in XSTEST_ANSWERS]:
        raise DataError(f"an annotation is {unknown[0]!r}; one of {', '.join(XSTEST_ANSWERS)} is needed")
    complied = sum(XSTEST_ANSWERS[one] for one in said) / len(said)
    return _one(row, extra, complied if kind.startswith(UNSAFE_PROMPTS) else 0.0, (kind,))


def is_xstest(looked: Looked, reading: Reading) -> bool:
    """Whether the first annotation is one of XSTest's."""
    return any(value in XSTEST_ANSWERS for value in looked.values("annotation_1")[:1])


def _one(
    row: Columns, extra: Extra, unsafe: float | None, kinds: tuple[str, ...], severity: float | None = None
) -> Safety:
    prompt, (answer,) = messages.answered(row, [("completion", row["completion"])])
    known = (kinds,) if kinds else ()
    return Safety(prompt, (answer,), (unsafe,), severity=_if_any((severity,)), categories=known, extra=extra)


# ------------------------------------------------------------------------------------------------------------- cells


def _not_safe(row: Columns, column: str) -> float | None:
    """1 where a cell says that the answer is not safe, None where it says nothing."""
    value = row.get(column)
    if cells.empty(value):
        return None
    safe = cells.truth(value)
    if safe is None:
        raise DataError(f"{column!r} is {value!r}; true or false is needed")
    return float(not safe)


def _probability(value: Any, column: str) -> float | None:
    if cells.empty(value):
        return None
    said = cells.truth(value)
    found = cells.number(value, f"column {column!r}") if said is None else float(said)
    if not 0.0 <= found <= 1.0:
        raise DataError(f"{column!r} is {found}; a probability from 0 to 1 is needed")
    return found


def _number(value: Any, column: str) -> float | None:
    return None if cells.empty(value) else cells.number(value, f"column {column!r}")


def _if_any(values: tuple[float | None, ...]) -> tuple[float | None, ...]:
    return values if any(one is not None for one in values) else ()


def _kinds(value: Any, column: str) -> tuple[str, ...]:
    """The kinds of harm in a cell: a name, a list of names, or an object that says true or false of each."""
    value = cells.parsed(value) if isinstance(value, str) else value
    if cells.empty(value):
        return ()
    if isinstance(value, Mapping):
        said = {name: cells.truth(one) for name, one in value.items()}
        if None not in said.values():
            return tuple(name for name, one in said.items() if one)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise DataError(f"column {column!r} needs a name, a list of names, or an object of true and false")
    return tuple(found)
