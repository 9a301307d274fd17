"""The table of layouts: which columns belong together, and the record that a row of them makes.

A layout is one small function and one entry in ``LAYOUTS``. Columns go by the names that public files give them
(``NAMES``); the functions see the first of these names only. Errors are DataErrors without a place, which readers add.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from baro.data import cells
from baro.data.cells import Columns
from baro.data.files import nearest
from baro.data.rows import kind_of
from baro.errors import DataError
from baro.records import Answers, Demonstration, Message, Preference, Prompt, Ranking, Rated, Record, Thumb

NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "query", "instruction", "Q"),
    "completion": ("completion", "response", "output"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response"),
    "responses": ("responses", "completions"),
    "conversations": ("conversations", "conversation"),
    "answer": ("answer", "A"),
    "tests": ("tests", "test", "test_list"),
}
"""What else a column may be called; the first name that a row has is taken."""

STRENGTH = ("p_chosen", "margin", "score_chosen", "score_rejected")
_CRITERIA = (
    "helpfulness|harmlessness|honesty|truthfulness|correctness|coherence|complexity|verbosity|clarity|security|safety|"
    r"empathy|politeness|creativity|instruction_following|quality|overall|score|rating|reward|\w+_score|\w+_rating"
)
_NUMBERED = r"(completion|response)_(\d+)"


@dataclass(frozen=True)
class Layout:
    """Columns that belong together.

    build: a record of a row's cells, by their first names, and its other columns. also: a pattern of further columns.
    keeps: columns that are read and stay among the others. when: what must hold of the first row's columns as well.
    merges: neighbouring rows of one prompt become one record.
    """

    columns: tuple[str, ...]
    makes: type[Record]
    build: Callable[[Columns, dict[str, Any]], Record]
    says: str
    optional: tuple[str, ...] = ()
    also: str = r"(?!)"
    keeps: tuple[str, ...] = ()
    when: Callable[[Columns], bool] = lambda columns: True
    merges: bool = False

    @property
    def name(self) -> str:
        """The columns as people write them."""
        return "/".join(self.columns)

    def fit(self, columns: Columns) -> Fit | None:
        """How this layout reads rows like this one, None if it does not."""
        names = {}
        for column in (*self.columns, *self.optional):
            found = next((name for name in NAMES.get(column, (column,)) if name in columns), None)
            if found is None and column in self.columns:
                return None
            names[column] = found or column
        if names.get("prompt") != "instruction":
            names.pop("input", None)  # Alpaca's; anywhere else it may mean anything
        return Fit(self, names) if self.when(columns) else None


@dataclass(frozen=True)
class Fit:
    """A layout with the names that a file gives its columns."""

    layout: Layout
    names: Mapping[str, str]

    def record(self, columns: Columns) -> Record:
        """A row as a record; columns that the layout does not know are kept as its ``extra``."""
        for column in self.layout.columns:
            if self.names[column] not in columns:
                raise DataError(_missing(self.names[column], columns, self.names.values()))
        read = {column: columns[name] for column, name in self.names.items() if name in columns}
        read |= {name: value for name, value in columns.items() if re.fullmatch(self.layout.also, name)}
        return self.layout.build(read, {name: columns[name] for name in self.others(columns)})

    def others(self, columns: Iterable[str]) -> list[str]:
        """The columns that are kept beside the record."""
        known = {name for column, name in self.names.items() if column not in self.layout.keeps}
        return [name for name in columns if name not in known and not re.fullmatch(self.layout.also, name)]

    def says(self, columns: Columns) -> str:
        """What was taken for what."""
        names = {column: repr(name) for column, name in self.names.items()}
        parts = [f"the prompt is {names['prompt']}"] if names.get("prompt", "'prompt'") != "'prompt'" else []
        parts.append(self.layout.says.format_map(names))
        further = [name for name in columns if re.fullmatch(self.layout.also, name)]
        parts += [f"read as well: {listed(further)}"] if further else []
        optional = [column for column in self.layout.optional if self.names.get(column) in columns]
        parts += [f"{names[column]} read as well" for column in optional]
        told = {self.names[column] for column in self.layout.keeps}
        others = [name for name in self.others(columns) if name not in told]
        return "; ".join(parts + ([f"kept beside them: {listed(others)}"] if others else []))


def listed(columns: Iterable[str]) -> str:
    """Names as people read them."""
    return ", ".join(repr(name) for name in columns)


def _missing(name: str, columns: Columns, known: Iterable[str]) -> str:
    near = nearest(name, [other for other in columns if other not in known])
    hint = f"did you mean {near!r}?" if near else f"it has {listed(columns)}"
    return f"column {name!r} is missing, which the first row has; {hint}"


# ---------------------------------------------------------------------------------------------------- demonstrations


def _text(row: Columns, extra: dict[str, Any]) -> Demonstration:
    return Demonstration((), (Message("assistant", cells.string(row, "text")),), extra)


def _answer_in(column: str) -> Callable[[Columns, dict[str, Any]], Demonstration]:
    def build(row: Columns, extra: dict[str, Any]) -> Demonstration:
        prompt = cells.prompt_of(row)
        return Demonstration(prompt, cells.answer(row, column, prompt), extra)

    return build


def _conversation_in(column: str) -> Callable[[Columns, dict[str, Any]], Demonstration]:
    def build(row: Columns, extra: dict[str, Any]) -> Demonstration:
        turns = cells.with_system(row, cells.whole_conversation(row[column], column))
        return Demonstration(*cells.split_at_answer(turns), extra)

    return build


# ------------------------------------------------------------------------------------------------------- preferences


def _pair(row: Columns, extra: dict[str, Any]) -> Preference:
    prompt = cells.prompt_of(row)
    chosen, rejected = (cells.answer(row, name, prompt) for name in ("chosen", "rejected"))
    return Preference(prompt, chosen, rejected, *_strength(row), extra)


def _transcripts(row: Columns, extra: dict[str, Any]) -> Preference:
    both = [cells.with_system(row, cells.whole_conversation(row[name], name)) for name in ("chosen", "rejected")]
    chosen, rejected = (cells.through_last_answer(turns) for turns in both)
    common = cells.common_prompt(chosen, rejected)
    return Preference(chosen[:common], chosen[common:], rejected[common:], *_strength(row), extra)


def _safe_rlhf(row: Columns, extra: dict[str, Any]) -> Preference:
    """The preference by helpfulness; the safety columns stay as they are, for a cost model."""
    prompt, better = cells.prompt_of(row), cells.whole(row["better_response_id"])
    if better not in (0, 1):
        raise DataError(f"'better_response_id' is {row['better_response_id']!r}; 0 or 1 is needed")
    first, second = (cells.answer(row, name, prompt) for name in ("response_0", "response_1"))
    chosen, rejected = (second, first) if better else (first, second)
    return Preference(prompt, chosen, rejected, extra=extra)


def _strength(row: Columns) -> tuple[float, float]:
    """p_chosen and margin; two scores make a margin where none is given."""
    found = {name: cells.number(row[name], f"column {name!r}") for name in STRENGTH if name in row}
    p_chosen = found.get("p_chosen", 1.0)
    if not 0.0 <= p_chosen <= 1.0:
        raise DataError(f"'p_chosen' is {p_chosen}; a probability from 0 to 1 is needed")
    difference = found["score_chosen"] - found["score_rejected"] if STRENGTH[2] in found and STRENGTH[3] in found else 0
    return p_chosen, float(found.get("margin", difference))


# ------------------------------------------------------------------------------------- rankings, ratings, thumbs, rest


def _ranked(row: Columns, extra: dict[str, Any]) -> Ranking:
    answers, ranks = cells.listed(row, "responses"), [cells.whole(rank) for rank in cells.listed(row, "ranks")]
    _same_length("ranks", answers, ranks)
    return _ranking(row, answers, ranks, "ranks", extra)


def _numbered(row: Columns, extra: dict[str, Any]) -> Ranking:
    """``ranking`` holds a rank for each of the numbered columns; it may count from 0."""
    columns = sorted(
        (name for name in row if re.fullmatch(_NUMBERED, name)), key=lambda name: int(name.rpartition("_")[2])
    )
    answers, ranks = [row[name] for name in columns], [cells.whole(rank) for rank in cells.listed(row, "ranking")]
    _same_length("ranking", answers, ranks)
    from_zero = 0 in ranks
    return _ranking(row, answers, [None if r is None else r + from_zero for r in ranks], "ranking", extra)


def _ranking(row: Columns, answers: list[Any], ranks: list[int | None], column: str, extra: dict[str, Any]) -> Ranking:
    known = [rank for rank in ranks if rank is not None and rank >= 1]
    if len(known) != len(ranks):
        raise DataError(f"{column!r} must be whole numbers from 1, the best, upwards")
    prompt = cells.prompt_of(row)
    completions = tuple(cells.completion(one, "responses", prompt) for one in answers)
    return Ranking(prompt, completions, tuple(known), extra)


def _same_length(column: str, answers: list[Any], values: list[Any]) -> None:
    if len(answers) != len(values):
        raise DataError(
            f"'responses' has {len(answers)} entries and {column!r} {len(values)}; each response needs "
            f"{'a rank' if column in ('ranks', 'ranking') else 'one'}"
        )


def _rated(column: str) -> Callable[[Columns, dict[str, Any]], Rated]:
    """A list with an object of scores for each response, or with one number, which is then the score ``column``."""

    def build(row: Columns, extra: dict[str, Any]) -> Rated:
        answers, values = cells.listed(row, "responses"), cells.listed(row, column)
        _same_length(column, answers, values)
        prompt, criterion = cells.prompt_of(row), column.removesuffix("s")
        given = [value if isinstance(value, dict) else {criterion: value} for value in values]
        completions = tuple(cells.completion(one, "responses", prompt) for one in answers)
        return Rated(prompt, completions, tuple(_scores(one, f"in {column!r} the score") for one in given), extra)

    return build


def _score_columns(row: Columns, extra: dict[str, Any]) -> Rated:
    prompt = cells.prompt_of(row)
    given = {name: value for name, value in row.items() if re.fullmatch(_CRITERIA, name)}
    return Rated(prompt, (cells.answer(row, "completion", prompt),), (_scores(given, "column"),), extra)


def _scores(given: Mapping[str, Any], place: str) -> dict[str, float]:
    """Scores by criterion; what was not judged is null, and left out."""
    return {name: cells.number(value, f"{place} {name!r}") for name, value in given.items() if value not in (None, "")}


def _has_scores(columns: Columns) -> bool:
    values = [value for name, value in columns.items() if re.fullmatch(_CRITERIA, name) and value not in (None, "")]
    try:
        return bool(values) and all(cells.number(value, "") is not None for value in values)
    except DataError:
        return False


def _thumb(row: Columns, extra: dict[str, Any]) -> Thumb:
    label, prompt = cells.truth(row["label"]), cells.prompt_of(row)
    if label is None:
        raise DataError(f"column 'label' is {kind_of(row['label'])}; a thumb is true (up) or false (down)")
    return Thumb(prompt, cells.answer(row, "completion", prompt), label, extra)


def _is_thumb(columns: Columns) -> bool:
    return cells.truth(columns.get("label")) is not None


def _answers(row: Columns, extra: dict[str, Any]) -> Answers:
    texts = row["responses"]
    finished = row.get("finished", [True] * len(texts) if isinstance(texts, list) else [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError("column 'responses' must be a list of texts; answers are what `baro generate` writes")
    if not isinstance(finished, list) or not all(isinstance(one, bool) for one in finished):
        raise DataError("column 'finished' must be a list of true and false")
    _same_length("finished", texts, finished)
    return Answers(cells.prompt_of(row), tuple(texts), tuple(finished), extra)


def _prompt(row: Columns, extra: dict[str, Any]) -> Prompt:
    return Prompt(cells.prompt_of(row), extra)


BEFORE = ("system", "input")
LAYOUTS = [  # the first that fits is taken
    Layout(
        ("prompt", "chosen", "rejected"),
        Preference,
        _pair,
        "prompt, {chosen} and {rejected} as named",
        (*BEFORE, *STRENGTH),
        keeps=STRENGTH[2:],
    ),
    Layout(
        ("chosen", "rejected"),
        Preference,
        _transcripts,
        "{chosen} and {rejected} are whole conversations, the prompt is what both begin with",
        ("system", *STRENGTH),
        keeps=STRENGTH[2:],
    ),
    Layout(
        ("prompt", "response_0", "response_1", "better_response_id"),
        Preference,
        _safe_rlhf,
        "the chosen response is the one that {better_response_id} names",
        BEFORE,
        keeps=("better_response_id",),
    ),
    Layout(
        ("prompt", "responses", "ranks"),
        Ranking,
        _ranked,
        "prompt, {responses} and {ranks} (1 is best) as named",
        BEFORE,
    ),
    Layout(
        ("prompt", "ranking"),
        Ranking,
        _numbered,
        "{ranking} has a rank for each numbered response, the lowest is the best",
        BEFORE,
        also=_NUMBERED,
        when=lambda columns: any(re.fullmatch(_NUMBERED, name) for name in columns),
    ),
    Layout(("prompt", "responses", "scores"), Rated, _rated("scores"), "{scores} are those of {responses}", BEFORE),
    Layout(("prompt", "responses", "ratings"), Rated, _rated("ratings"), "{ratings} are those of {responses}", BEFORE),
    Layout(
        ("prompt", "completion", "label"),
        Thumb,
        _thumb,
        "the answer is {completion}, {label} its thumb",
        BEFORE,
        when=_is_thumb,
    ),
    Layout(
        ("prompt", "completion"),
        Rated,
        _score_columns,
        "the answer is {completion}, beside it stand its scores; neighbouring rows of one prompt belong together",
        BEFORE,
        also=_CRITERIA,
        when=_has_scores,
        merges=True,
    ),
    Layout(
        ("prompt", "completion"),
        Demonstration,
        _answer_in("completion"),
        "the answer is {completion}",
        BEFORE,
        when=lambda columns: not _is_thumb(columns),  # thumbs down are nothing to imitate
    ),
    *(
        Layout(
            (column,),
            Demonstration,
            _conversation_in(column),
            f"of {{{column}}}, the prompt is what stands before the first answer, the rest is the completion",
            ("system",),
        )
        for column in ("messages", "conversations")
    ),
    Layout(
        ("prompt", "responses"), Answers, _answers, "{responses} are answers without a judgment", (*BEFORE, "finished")
    ),
    Layout(("prompt", "answer"), Prompt, _prompt, "{answer} is kept for verifiers", BEFORE, keeps=("answer",)),
    Layout(("prompt", "answer"), Demonstration, _answer_in("answer"), "the answer is {answer}", BEFORE),
    Layout(("prompt", "tests"), Prompt, _prompt, "{tests} is kept for verifiers", BEFORE, keeps=("tests",)),
    Layout(("text",), Demonstration, _text, "{text} is raw text"),
    Layout(("prompt",), Prompt, _prompt, "{prompt} is the prompt", BEFORE),
]
