"""Files of any known layout as records: what is recognised, what one record holds of another, how records are written.

The first row decides, every other row must fit; what was taken for what is told in one sentence. The layouts are in
``layouts``. Nothing is held in memory that is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from baro.data.cells import is_open_transcript
from baro.data.files import UTF_8, Files, find_files, nearest, write_rows
from baro.data.layouts import LAYOUTS, NAMES, Fit, listed
from baro.data.ledger import Unusable
from baro.data.rows import Row, placed
from baro.errors import DataError
from baro.records import Answers, Demonstration, Preference, Prompt, Ranking, Rated, Record, Thumb, to_row

Wanted = type[Record] | tuple[type[Record], ...]

NOUNS: dict[type, str] = {
    Prompt: "prompts",
    Demonstration: "demonstrations",
    Preference: "preferences",
    Ranking: "rankings",
    Thumb: "thumbs",
    Rated: "rated answers",
    Answers: "answers",
}


@dataclass(frozen=True)
class Loaded:
    """The records of a file or folder, read when they are asked for.

    ``kind``: what every record is. Iterating gives each row's key and record, one after the other; None stands for a
    row that holds no such record and is nobody's mistake (a thumb down, where answers to imitate are wanted), Unusable
    for one that holds none and should.
    """

    files: Files
    fit: Fit
    kind: type[Record]
    description: str
    held: tuple[tuple[str, Record], ...] | None = None  # in place of the rows

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self.files.name

    @property
    def converted(self) -> bool:
        """Whether the file holds larger records, of which only a part is used, so that rows may say the same."""
        return self.fit.layout.makes is not self.kind or self.held is not None

    @property
    def is_text(self) -> bool:
        """Whether it is raw text, around which no template is put."""
        return self.fit.layout.columns == ("text",)

    def holding(self, rows: Iterable[tuple[str, Record]], kind: type[Record]) -> Loaded:
        """The same file as other records, which were made of its rows; these are held in memory."""
        return replace(self, held=tuple(rows), kind=kind)

    def __iter__(self) -> Iterator[tuple[str, Record | Unusable | None]]:
        if self.held is not None:
            yield from self.held
            return
        rows: Iterator[tuple[str, Any]] = self.rows()
        if self.fit.layout.merges:
            rows = (_merged(list(group)) for _, group in groupby(rows, key=lambda row: getattr(row[1], "prompt", row)))
        for key, record in rows:
            yield key, record if isinstance(record, Unusable) else placed(key, serve, record, self.kind)

    def rows(self) -> Iterator[tuple[str, Record | Unusable]]:
        """Each row by itself, as the record that its layout makes, or why there is none in it."""
        for row in self.files:
            yield row.key, self._missing(row) or placed(row.key, self.fit.record, row.columns)

    def _missing(self, row: Row) -> Unusable | None:
        """In a table an empty cell may be an empty text or one that is missing."""
        needed = [self.fit.names[column] for column in self.fit.layout.columns] if row.table else []
        missing = next((name for name in needed if row.columns.get(name, "") is None), None)
        if missing is None:
            return None
        return Unusable("missing cell", f"the cell under {missing!r} is empty; fill it in or remove the row")

    @cached_property
    def _all(self) -> tuple[tuple[str, Record], ...]:
        return tuple((key, record) for key, record in self if not isinstance(record, Unusable | None))

    @property
    def records(self) -> tuple[Record, ...]:
        """All records at once."""
        return tuple(record for _, record in self._all)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each of ``records``."""
        return tuple(key for key, _ in self._all)

    def at(self, keys: Iterable[str]) -> list[Record]:
        """The records of these keys, in this order: what stands behind the samples that were kept."""
        wanted = list(keys)
        missing = set(wanted)
        found = {key: record for key, record in self if key in missing and not isinstance(record, Unusable | None)}
        return [found[key] for key in wanted]


def read_records(path: str | Path, want: Wanted | None = None, encoding: str = UTF_8) -> Loaded:
    """Take a file as the wanted kind of record, or as whatever it holds.

    A record that contains the wanted one serves (a preference holds a demonstration and a prompt); with several wanted
    kinds the first that the file has, or contains, is made. Raises DataError, here for the first row and while reading
    for the others: ``file:line``, what, and what to do.
    """
    files = find_files(path, encoding)
    first = next(iter(files))
    fit, kind = _recognise(first, want if isinstance(want, tuple) else (want,) if want else None)
    return Loaded(files, fit, kind, _describe(files, first, fit, kind))


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write records so that ``read_records`` gives back the same ones."""
    write_rows(path, (escaped(to_row(record)) for record in records))


def escaped(row: dict[str, Any]) -> dict[str, Any]:
    """Text that would be read back as a transcript is written as messages."""
    if is_open_transcript(row.get("prompt")):
        row["prompt"] = [{"role": "user", "content": row["prompt"]}]
    return row


# --------------------------------------------------------------------------------- what a record holds besides itself


def _two_ranked(pair: Preference) -> Ranking:
    """A pair as a ranking of two; equally good is a tie, and how sure the label is gets lost."""
    ranks = (1, 1) if pair.p_chosen == 0.5 else (1, 2) if pair.p_chosen > 0.5 else (2, 1)
    return Ranking(pair.prompt, (pair.chosen, pair.rejected), ranks, pair.extra)


def _chosen(pair: Preference) -> Demonstration:
    return Demonstration(pair.prompt, pair.chosen, pair.extra)


def _best(ranking: Ranking) -> Demonstration:
    if not ranking.ranks:
        raise DataError("holds no demonstration; mend or remove this row")
    return Demonstration(ranking.prompt, ranking.completions[ranking.ranks.index(min(ranking.ranks))], ranking.extra)


def _liked(thumb: Thumb) -> Demonstration | None:
    extra = {**thumb.extra, "label": thumb.label}
    return Demonstration(thumb.prompt, thumb.completion, extra) if thumb.label else None


def _ordered(rated: Rated) -> Ranking:
    """By the mean over the criteria that every completion has a score for."""
    common = set.intersection(*(set(scores) for scores in rated.scores)) if rated.scores else set()
    if not common:
        raise DataError("no criterion has a score for every response; a ranking needs one")
    means = [sum(scores[name] for name in common) / len(common) for scores in rated.scores]
    ranks = tuple(1 + sum(other > mean for other in means) for mean in means)
    return Ranking(rated.prompt, rated.completions, ranks, rated.extra)


def _prompt_in(record: Demonstration | Preference | Ranking | Thumb | Rated) -> Prompt:
    if not record.prompt:
        raise DataError("holds no prompt; mend or remove this row")
    return Prompt(record.prompt, record.extra)


# A function gives None for a row that holds none, which is nobody's mistake.
CONTAINS: dict[tuple[type[Record], type[Record]], tuple[str, Callable[[Any], Record | None]]] = {
    (Preference, Demonstration): ("'chosen' serves as the answer", _chosen),
    (Preference, Ranking): ("each pair serves as a ranking of two", _two_ranked),
    (Ranking, Demonstration): ("the best response serves as the answer", _best),
    (Thumb, Demonstration): ("only thumbs up serve as answers", _liked),
    (Rated, Ranking): ("the mean of the scores is the order", _ordered),
    (Rated, Demonstration): (
        "the best response by the mean of the scores serves as the answer",
        lambda r: _best(_ordered(r)),
    ),
    **{
        (kind, Prompt): ("only the prompt is used", _prompt_in)
        for kind in (Demonstration, Preference, Ranking, Thumb, Rated)
    },
}


def serve(record: Record, want: type[Record]) -> Record | None:
    """The wanted record that this one is or contains, None where it holds none."""
    if isinstance(record, want):
        return record
    return CONTAINS[type(record), want][1](record)


def _merged(rows: Sequence[tuple[str, Rated]]) -> tuple[str, Rated]:
    """Neighbouring rows of one prompt as one record; other columns in which they differ become lists."""
    (key, first), records = rows[0], [record for _, record in rows]
    if len(records) == 1:
        return key, first
    names = dict.fromkeys(name for record in records for name in record.extra)
    columns = {name: [record.extra.get(name) for record in records] for name in names}
    extra = {name: values[0] if all(v == values[0] for v in values) else values for name, values in columns.items()}
    completions = tuple(one for record in records for one in record.completions)
    return key, replace(first, completions=completions, scores=tuple(s for r in records for s in r.scores), extra=extra)


# ----------------------------------------------------------------------------------------------------- recognition


def _recognise(row: Row, wanted: tuple[type[Record], ...] | None) -> tuple[Fit, type[Record]]:
    """The layout of the first row and the kind of record to make of it."""
    fitting = [fit for layout in LAYOUTS if (fit := layout.fit(row.columns)) is not None]
    if wanted is None and fitting:
        return fitting[0], fitting[0].layout.makes
    wanted = wanted or tuple(NOUNS)
    for fit in fitting:
        if fit.layout.makes in wanted and fit.layout.makes is not Prompt:
            return fit, fit.layout.makes
    for fit in fitting:
        for want in wanted:
            if fit.layout.makes is want or (fit.layout.makes, want) in CONTAINS:
                return fit, want
    raise DataError(f"{row.key}: {_unknown(row.columns, fitting, wanted)}")


def _unknown(columns: dict[str, Any], fitting: Sequence[Fit], wanted: tuple[type[Record], ...]) -> str:
    serving = [one for one in LAYOUTS if any(one.makes is w or (one.makes, w) in CONTAINS for w in wanted)]
    missing = dict.fromkeys(name for one in serving for name in one.columns if name not in columns)
    taken = {name for fit in fitting for name in fit.names.values()} | {
        name for names in NAMES.values() for name in names
    }
    near = [(nearest(name, [one for one in columns if one not in taken]), name) for name in missing]
    hint = next((f"; is {found!r} meant to be {name!r}?" for found, name in near if found), "")
    known = ", ".join(dict.fromkeys(layout.name for layout in serving))
    if fitting:
        found, needed = NOUNS[fitting[0].layout.makes], " or ".join(NOUNS[want] for want in wanted)
        return f"columns {listed(columns)} are {found}, and {needed} are needed: {known}{hint}"
    seen = f"no known layout has the columns {listed(columns)}" if columns else "has no column"
    return f"{seen}; give one of {known}{hint}"


def _describe(files: Files, row: Row, fit: Fit, want: type[Record]) -> str:
    parts = [files.says] if files.says else []
    parts += [fit.says(row.columns)]
    parts += [CONTAINS[fit.layout.makes, want][0]] if fit.layout.makes is not want else []
    return f"{files.name}: {NOUNS[fit.layout.makes]}; " + "; ".join(parts)
