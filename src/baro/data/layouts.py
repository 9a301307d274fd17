"""What a layout is: columns that belong together, and the record that a row of them makes. The table is in ``known``.

Columns go by the names that public files give them (``NAMES``); the functions see the first of these names only. Errors
are DataErrors without a place, which readers add, and speak of the file's own names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from baro.config import DataConfig
from baro.data import messages
from baro.data.cells import Columns, empty, number
from baro.data.files import UTF_8, nearest
from baro.data.rows import Unusable
from baro.errors import DataError
from baro.records import Answers, Demonstration, Prompt, Record, Safety

NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem", "query", "instruction", "Q", "input"),
    "completion": ("completion", "response", "output"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response"),
    "responses": ("responses", "completions"),
    "conversations": ("conversations", "conversation"),
    "answer": ("answer", "A"),
    "tests": ("tests", "test", "test_list"),
}
"""What else a column may be called; the first name that a row has is taken."""

CRITERIA = (
    *("helpfulness", "harmlessness", "honesty", "truthfulness", "correctness", "coherence", "complexity", "verbosity"),
    *("clarity", "security", "safety", "empathy", "politeness", "creativity", "instruction_following", "quality"),
    *("overall", "score", "rating", "reward"),
)
"""Columns that are scores, higher is better. Others are scores where ``data.criteria`` names them."""
SCORE = "score/"
"""What a column begins with that is a score of any name: ``score/tone``."""
JUDGING = re.compile(
    r"labels?|scores?|ranks?|ranking|ratings?|rewards?|(sample_)?weights?|p_chosen|margin|winner|preference|preferred|"
    r"thumbs?|votes?|unsafe|is_safe|acceptable\?|safety_ranks|safer_response_id|is_response_\d_safe|annotation_\d|"
    r"final_label|" + "|".join(CRITERIA)
)
"""Columns that judge an answer: where nothing reads them, the answer would be taken for a good one."""
NUMBERS_THAT_JUDGE = re.compile(r"\w+_(score|rating|reward)")
"""Likewise, where they hold numbers. Whether more is better, their names do not say."""
AGAINST_JUDGED = re.compile(r"labels?|(sample_)?weights?|winner|preferred")
"""Columns that may change or weigh a judgment that the row holds in another way."""


@dataclass(frozen=True)
class Reading:
    """What the user says about a file's columns. A pair's margin is ``margin_scale`` times its score difference."""

    criteria: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    system: Literal["keep", "merge", "drop"] = "keep"
    margin_scale: float | None = None
    encoding: str = UTF_8

    @classmethod
    def of(cls, config: DataConfig, *, criteria: Iterable[str] = (), margin_scale: float | None = None) -> Reading:
        """What a config says, and further criteria."""
        return cls((*config.criteria, *criteria), tuple(config.ignore), config.system, margin_scale, config.encoding)


class Looked:
    """The first rows of a file, as far as they decide what it is."""

    def __init__(self, rows: Sequence[Columns]) -> None:
        self.rows = rows
        self.names = list(dict.fromkeys(name for columns in rows for name in columns))

    def values(self, name: str) -> list[Any]:
        """What a column says, without the cells that say nothing."""
        return [columns[name] for columns in self.rows if not empty(columns.get(name))]

    def __contains__(self, name: object) -> bool:
        return name in self.names


def criterion(column: str, reading: Reading) -> str | None:
    """What a column is a score of; None where it is not known to be one."""
    if column.startswith(SCORE):
        return column.removeprefix(SCORE) or None
    return column if column in (*CRITERIA, *reading.criteria) and column not in reading.ignore else None


def is_number(value: Any) -> bool:
    """Whether a cell holds a finite number."""
    try:
        number(value, "")
    except DataError:
        return False
    return True


def always(looked: Looked, reading: Reading) -> bool:
    """No more than its columns is asked of a file."""
    return True


@dataclass(frozen=True)
class Layout:
    """Columns that belong together.

    build: a record of a row's cells, by their first names, and its other columns. numbered: a pattern of further
    columns that are read; scored: columns that are scores are read. keeps: columns that are read and stay among the
    others. when: what must hold of the first rows as well. judged: the columns without which a row says nothing; blank:
    columns of which a cell may say nothing where others of the row say something. merges: neighbouring rows of one
    prompt become one record. assemble: makes, in place of ``build``, the records of neighbouring rows with the same
    ``together``.
    """

    columns: tuple[str, ...]
    makes: type[Record]
    build: Callable[[Columns, dict[str, Any], Reading], Record]
    says: str
    optional: tuple[str, ...] = ()
    numbered: str = r"(?!)"
    scored: bool = False
    keeps: tuple[str, ...] = ()
    when: Callable[[Looked, Reading], bool] = always
    judged: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    merges: bool = False
    together: str = ""
    assemble: Callable[[Sequence[tuple[str, Columns]]], Iterator[tuple[str, Record | Unusable]]] | None = None
    common: bool = True  # worth naming where a file is not recognised

    @property
    def name(self) -> str:
        """The columns as people write them."""
        return "/".join(self.columns)

    @property
    def unsaid(self) -> tuple[str, ...]:
        """The columns that a row may lack."""
        return (*self.judged, *self.blank)

    def fit(self, looked: Looked, reading: Reading) -> Fit | None:
        """How this layout reads rows like these ones, None if it does not."""
        names = {}
        for column in (*self.columns, *self.optional):
            found = next((name for name in NAMES.get(column, (column,)) if name in looked), None)
            if found is None and column in self.columns:
                return None
            names[column] = found or column
        if names.get("prompt") != "instruction":
            names.pop("input", None)  # Alpaca's; anywhere else it may mean anything
        if len(set(names.values())) < len(names) or not self.when(looked, reading):
            return None
        return Fit(self, names, reading)


@dataclass(frozen=True)
class Fit:
    """A layout with the names that a file gives its columns, and what the user says about them.

    wanted: what a stage makes of the records; a prompt is one whatever was said about its answers.
    """

    layout: Layout
    names: Mapping[str, str]
    reading: Reading = field(default_factory=Reading)
    wanted: type[Record] | None = None

    def record(self, columns: Columns) -> Record:
        """A row as a record; columns that the layout does not know are kept as its ``extra``.

        Raises DataError where it cannot be read or judges in a way that nothing obeys, Unusable where it says nothing.
        """
        for column in self.layout.columns:
            if self.names[column] not in columns and column not in self.layout.unsaid:
                raise DataError(_missing(self.names[column], columns, self.names.values()))
        unsaid = next((self.names[c] for c in self.layout.judged if empty(columns.get(self.names[c]))), None)
        if unsaid is not None:
            raise Unusable(f"no {unsaid}", f"has no {unsaid!r}, and so no judgment")
        others = self.others(columns)
        self._check_judging(columns, others)
        read = {column: columns[name] for column, name in self.names.items() if name in columns}
        read |= {name: value for name, value in columns.items() if self._further(name)}
        try:
            made = self.layout.build(read, {name: columns[name] for name in others}, self.reading)
        except (DataError, Unusable) as error:
            error.args = (self._own_names(str(error)),)
            if isinstance(error, Unusable):
                error.sentence = error.args[0]
            raise
        return made

    def _own_names(self, sentence: str) -> str:
        for column, name in self.names.items():
            sentence = sentence.replace(f"{column!r}", f"{name!r}") if column != name else sentence
        return sentence

    def _check_judging(self, columns: Columns, others: Iterable[str]) -> None:
        for name in others:
            if name not in self.reading.ignore and self._judges(name, columns[name]):
                raise DataError(
                    f"column {name!r} judges the row ({_short(columns[name])}), and nothing obeys it here; name it in "
                    "data.ignore to leave it aside, or in data.criteria if it is a score of which more is better"
                )

    def _judges(self, name: str, value: Any) -> bool:
        if self.wanted is Prompt or empty(value) or name in self.layout.keeps:
            return False
        unknown_score = bool(NUMBERS_THAT_JUDGE.fullmatch(name)) and is_number(value)
        if self.layout.makes not in (Demonstration, Answers, Safety):
            return bool(AGAINST_JUDGED.fullmatch(name)) or (self.layout.scored and unknown_score)
        return bool(JUDGING.fullmatch(name)) or name.startswith(SCORE) or unknown_score

    def _further(self, name: str) -> bool:
        """Whether a column is read though the layout does not name it."""
        scored = self.layout.scored and criterion(name, self.reading) is not None
        return name not in self.reading.ignore and bool(scored or re.fullmatch(self.layout.numbered, name))

    def others(self, columns: Iterable[str]) -> list[str]:
        """The columns that are kept beside the record."""
        known = {name for column, name in self.names.items() if column not in self.layout.keeps}
        return [name for name in columns if name not in known and not self._further(name)]

    def says(self, looked: Looked) -> str:
        """What was taken for what."""
        names = {column: repr(name) for column, name in self.names.items()}
        parts = [f"the prompt is {names['prompt']}"] if names.get("prompt", "'prompt'") != "'prompt'" else []
        parts.append(self.layout.says.format_map(names))
        further = [name for name in looked.names if self._further(name)]
        parts += [f"read as well: {listed(further)}"] if further else []
        optional = [column for column in self.layout.optional if self.names.get(column) in looked]
        parts += [f"{names[column]} read as well" for column in optional if column not in self.layout.keeps]
        told = {self.names[column] for column in self.layout.keeps if column not in self.layout.optional}
        others = [name for name in self.others(looked.names) if name not in told]
        parts += [f"kept beside them: {listed(others)}"] if others else []
        return "; ".join([*parts, *self._about_messages(looked, others)])

    def _about_messages(self, looked: Looked, others: Sequence[str]) -> list[str]:
        """Keys of messages that are not read, and columns that look like turns and are no part of the record."""
        read = [name for name in looked.names if name not in others]
        keys = sorted({key for name in read for value in looked.values(name) for key in messages.unknown_keys(value)})
        asked = [name for name in others if "test" not in name]  # asserts of a program are lists of texts, too
        turns = [name for name in asked if looked.values(name) and all(map(_like_turns, looked.values(name)))]
        left = [f"left out of messages: {listed(keys)}"] if keys else []
        return left + ([f"look like turns of a conversation, and are not read: {listed(turns)}"] if turns else [])


def _like_turns(value: Any) -> bool:
    return (
        messages.looks_spelled(value)
        or messages.is_messages(value)
        or (isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) and " " in one for one in value))
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def listed(columns: Iterable[str]) -> str:
    """Names as people read them."""
    return ", ".join(repr(name) for name in columns)


def _missing(name: str, columns: Columns, known: Iterable[str]) -> str:
    near = nearest(name, [other for other in columns if other not in known])
    hint = f"did you mean {near!r}?" if near else f"it has {listed(columns)}"
    return f"column {name!r} is missing, which the first rows have; {hint}"
