"""Files of any known layout as records: what is recognised, what one record holds of another, how records are written.

The first rows decide, every other row must fit; what was taken for what is told in one sentence. The layouts are in
``known``. Nothing is held in memory that is not asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from baro.data.files import Files, find_files, nearest, write_rows
from baro.data.known import LAYOUTS
from baro.data.layouts import NAMES, Fit, Looked, Reading, is_number, listed
from baro.data.messages import is_open_transcript, system_as
from baro.data.rows import Row, Unusable, placed
from baro.errors import DataError
from baro.records import Answers, Demonstration, Preference, Prompt, Ranking, Rated, Record, Safety, Thumb, to_row

Wanted = type[Record] | tuple[type[Record], ...]
Read = tuple[str, Record | Unusable]
R = TypeVar("R", bound=Record)

LOOKED_AT = 500  # rows that decide what a file is
log = logging.getLogger("baro")

NOUNS: dict[type, str] = {
    Prompt: "prompts",
    Demonstration: "demonstrations",
    Preference: "preferences",
    Ranking: "rankings",
    Thumb: "thumbs",
    Rated: "rated answers",
    Safety: "safety judgments",
    Answers: "answers",
}


@dataclass(frozen=True)
class Loaded:
    """The records of a file or folder, read when they are asked for.

    ``kind``: what every record is. Iterating gives each row's key and record, one after the other; where a row cannot
    be used, or holds no such record (a thumb down, where answers to imitate are wanted), an Unusable says so.
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

    def __iter__(self) -> Iterator[Read]:
        if self.held is not None:
            yield from self.held
            return
        rows = self.rows()
        if self.fit.layout.merges:
            rows = (_merged(list(group)) for _, group in groupby(rows, key=_neighbours))
        for key, record in rows:
            yield key, placed(key, self._served, record)

    def rows(self) -> Iterator[Read]:
        """Each row by itself, as the record that its layout makes; of trees each question."""
        if self.fit.layout.assemble is not None:
            columns = ((row.key, row.columns) for row in self.files)
            for _, group in groupby(columns, key=lambda row: row[1].get(self.fit.layout.together)):
                yield from self.fit.layout.assemble(list(group))
            return
        for row in self.files:
            yield row.key, _usable(row, self.fit)

    def _served(self, record: Record | Unusable) -> Record | Unusable:
        if isinstance(record, Unusable):
            return record
        if self.fit.reading.system != "keep":
            record = replace(record, prompt=system_as(record.prompt, self.fit.reading.system))
        return serve(record, self.kind)

    @cached_property
    def _all(self) -> tuple[tuple[str, Record], ...]:
        """All that can be used; what cannot is told in the log, since there is no ledger here."""
        every = list(self)
        unusable = [(key, one) for key, one in every if isinstance(one, Unusable) and not one.expected]
        if unusable:
            key, first = unusable[0]
            log.warning(
                "%s: %d of %d rows cannot be used and are left out; the first: %s: %s",
                *(self.name, len(unusable), len(every), key, first.sentence),
            )
        return tuple((key, record) for key, record in every if not isinstance(record, Unusable))

    @property
    def records(self) -> tuple[Record, ...]:
        """All records at once."""
        return tuple(record for _, record in self._all)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each of ``records``."""
        return tuple(key for key, _ in self._all)

    def all_of(self, kind: type[R]) -> tuple[R, ...]:
        """All records at once, of a file that was read as this kind."""
        return tuple(_of(kind, record) for record in self.records)

    def at(self, keys: Iterable[str], kind: type[R]) -> list[R]:
        """The records of these keys, in this order: what stands behind the samples that were kept."""
        wanted = list(keys)
        missing = set(wanted)
        found = {key: record for key, record in self if not isinstance(record, Unusable) and key in missing}
        return [_of(kind, found[key]) for key in wanted]


def _of(kind: type[R], record: Record) -> R:
    """The record as what the file was read as."""
    assert isinstance(record, kind), f"a {type(record).__name__} in a file that was read as {kind.__name__}"
    return record


def _usable(row: Row, fit: Fit) -> Record | Unusable:
    try:
        _check_cells(row, fit)
        return placed(row.key, fit.record, row.columns)
    except Unusable as fault:
        return fault


def _check_cells(row: Row, fit: Fit) -> None:
    """In a table an empty cell may be an empty text or one that is missing."""
    needed = (
        [fit.names[column] for column in fit.layout.columns if column not in fit.layout.unsaid] if row.table else []
    )
    missing = next((name for name in needed if row.columns.get(name, "") is None), None)
    if missing is not None:
        raise Unusable("missing cell", f"the cell under {missing!r} is empty; fill it in or remove the row")


def _neighbours(row: Read) -> object:
    """Equal for neighbouring rows that belong together."""
    return row[0] if isinstance(row[1], Unusable) else row[1].prompt


def read_records(path: str | Path, want: Wanted | None = None, reading: Reading | None = None) -> Loaded:
    """Take a file as the wanted kind of record, or as whatever it holds.

    A record that contains the wanted one serves (a preference holds a demonstration and a prompt); the first layout of
    the table that makes or contains one of the wanted kinds decides. Raises DataError, here for what the first rows are
    and while reading for each row: ``file:line``, what, and what to do.
    """
    reading = reading or Reading()
    files = find_files(path, reading.encoding)
    first = list(islice(files, LOOKED_AT))
    looked = Looked([row.columns for row in first])
    fit, kind = _recognise(first[0], looked, want if isinstance(want, tuple) else (want,) if want else None, reading)
    return Loaded(files, fit, kind, _describe(files, looked, fit, kind))


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
        raise DataError("holds no demonstration; fix or remove this row")
    return Demonstration(ranking.prompt, ranking.completions[ranking.ranks.index(min(ranking.ranks))], ranking.extra)


def _liked(thumb: Thumb) -> Demonstration | Unusable:
    if not thumb.label:
        return Unusable("thumb down", "is a thumb down; only thumbs up are answers to imitate", expected=True)
    return Demonstration(thumb.prompt, thumb.completion, {**thumb.extra, "label": thumb.label})


def _ordered(rated: Rated) -> Ranking:
    """By the mean over the criteria that every completion has a score for."""
    common = set.intersection(*(set(scores) for scores in rated.scores)) if rated.scores else set()
    if not common:
        raise DataError("no criterion has a score for every response; a ranking needs one")
    means = [sum(scores[name] for name in common) / len(common) for scores in rated.scores]
    ranks = tuple(1 + sum(other > mean for other in means) for mean in means)
    return Ranking(rated.prompt, rated.completions, ranks, rated.extra)


def _prompt_in(record: Demonstration | Preference | Ranking | Thumb | Rated | Safety) -> Prompt:
    if not record.prompt:
        raise DataError("holds no prompt; fix or remove this row")
    return Prompt(record.prompt, record.extra)


CONTAINS: dict[tuple[type[Record], type[Record]], tuple[str, Callable[[Any], Record | Unusable]]] = {
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
        for kind in (Demonstration, Preference, Ranking, Thumb, Rated, Safety)
    },
}


def serve(record: Record, want: type[Record]) -> Record | Unusable:
    """The wanted record that this one is or contains."""
    if isinstance(record, want):
        return record
    return CONTAINS[type(record), want][1](record)


def _merged(rows: Sequence[tuple[str, Any]]) -> tuple[str, Any]:
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


def _recognise(
    row: Row, looked: Looked, wanted: tuple[type[Record], ...] | None, reading: Reading
) -> tuple[Fit, type[Record]]:
    """The layout of the first rows and the kind of record to make of it."""
    fitting = [fit for layout in LAYOUTS if (fit := layout.fit(looked, reading)) is not None]
    if wanted is None and fitting:
        return replace(fitting[0], wanted=fitting[0].layout.makes), fitting[0].layout.makes
    wanted = wanted or tuple(NOUNS)
    for fit in fitting:
        for want in wanted:
            if fit.layout.makes is want or (fit.layout.makes, want) in CONTAINS:
                return replace(fit, wanted=want), want
    raise DataError(f"{row.key}: {_unknown(dict.fromkeys(looked.names), fitting, wanted)}")


def _unknown(columns: dict[str, Any], fitting: Sequence[Fit], wanted: tuple[type[Record], ...]) -> str:
    common = [one for one in LAYOUTS if one.common]
    serving = [one for one in common if any(one.makes is w or (one.makes, w) in CONTAINS for w in wanted)]
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


def _describe(files: Files, looked: Looked, fit: Fit, want: type[Record]) -> str:
    parts = [files.says] if files.says else []
    parts += [fit.says(looked)]
    parts += [CONTAINS[fit.layout.makes, want][0]] if fit.layout.makes is not want else []
    parts += {"keep": [], "merge": ["system messages stand above the question"], "drop": ["without system messages"]}[
        fit.reading.system
    ]
    return f"{files.name}: {NOUNS[fit.layout.makes]}; " + "; ".join(parts + _about_scores(looked, fit))


def _about_scores(looked: Looked, fit: Fit) -> list[str]:
    """What the two scores of pairs are used for, and how often they say otherwise than the pair."""
    chosen, rejected = (fit.names.get(name) for name in ("score_chosen", "score_rejected"))
    if chosen is None or rejected is None:
        return []
    gaps = [
        float(columns[chosen]) - float(columns[rejected])
        for columns in looked.rows
        if is_number(columns.get(chosen)) and is_number(columns.get(rejected))
    ]
    if not gaps:
        return []
    scale, against = fit.reading.margin_scale, sum(gap < 0 for gap in gaps)
    used = "kept and not used" if scale is None else f"a margin = {scale:g} × score difference where none is given"
    said = [f"the scores are {used} (median difference {median(gaps):g})"]
    return said + (
        [f"in {against} of the first {len(gaps)} pairs the chosen answer has the lower score"] * bool(against)
    )
