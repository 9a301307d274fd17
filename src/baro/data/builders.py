"""How a row of each layout becomes a record: one small function for each, named in the table of ``known``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from baro.data import cells, messages
from baro.data.cells import Columns
from baro.data.layouts import Looked, Reading, criterion, is_number
from baro.errors import DataError
from baro.records import Answers, Demonstration, Message, Preference, Prompt, Ranking, Rated, Thumb

STRENGTH = ("p_chosen", "margin", "score_chosen", "score_rejected")
NUMBERED = r"(completion|response)_(\d+)"
Extra = dict[str, Any]
Build = Callable[[Columns, Extra, Reading], Any]

# ---------------------------------------------------------------------------------------------------- demonstrations


def text(row: Columns, extra: Extra, reading: Reading) -> Demonstration:
    return Demonstration((), (Message("assistant", cells.string(row, "text")),), extra)


def not_a_turn(looked: Looked, reading: Reading) -> bool:
    """Text beside a role is a turn of a conversation, whose other turns stand elsewhere."""
    return not any(name in looked for name in ("role", "parent_id"))


def answer_in(column: str) -> Build:
    def build(row: Columns, extra: Extra, reading: Reading) -> Demonstration:
        prompt, (answer,) = messages.answered(row, [(column, row[column])])
        return Demonstration(prompt, answer, extra)

    return build


def conversation_in(column: str) -> Build:
    def build(row: Columns, extra: Extra, reading: Reading) -> Demonstration:
        turns = messages.with_system(row, messages.whole_conversation(row[column], column))
        return Demonstration(*messages.split_at_answer(turns), extra)

    return build


# ------------------------------------------------------------------------------------------------------- preferences


def pair(row: Columns, extra: Extra, reading: Reading) -> Preference:
    prompt, (chosen, rejected) = messages.answered(row, [(name, row[name]) for name in ("chosen", "rejected")])
    return Preference(prompt, chosen, rejected, *_strength(row, reading), extra)


def behind(column: str) -> Build:
    """A conversation that waits for an answer, and two answers to it (LLaMA-Factory's, axolotl's)."""

    def build(row: Columns, extra: Extra, reading: Reading) -> Preference:
        turns = messages.with_system(row, messages.conversation(row[column], column))
        chosen, rejected = (_only_answer(row[name], name) for name in ("chosen", "rejected"))
        return Preference(turns, chosen, rejected, *_strength(row, reading), extra)

    return build


def _only_answer(value: Any, column: str) -> tuple[Message, ...]:
    value = messages.spelled(value)
    return (Message("assistant", value),) if isinstance(value, str) else messages.conversation(value, column)


def transcripts(row: Columns, extra: Extra, reading: Reading) -> Preference:
    both = [messages.with_system(row, messages.whole_conversation(row[name], name)) for name in ("chosen", "rejected")]
    chosen, rejected = (messages.through_last_answer(turns) for turns in both)
    common = messages.common_prompt(chosen, rejected)
    return Preference(chosen[:common], chosen[common:], rejected[common:], *_strength(row, reading), extra)


def safe_rlhf(row: Columns, extra: Extra, reading: Reading) -> Preference:
    """The preference by helpfulness; the safety columns stay as they are, for a cost model."""
    better = cells.whole(row["better_response_id"])
    if better not in (0, 1):
        raise DataError(f"'better_response_id' is {row['better_response_id']!r}; 0 or 1 is needed")
    return _first_or_second(row, ("response_0", "response_1"), first_is_better=not better, extra=extra)


def _first_or_second(row: Columns, names: tuple[str, str], *, first_is_better: bool, extra: Extra) -> Preference:
    prompt, (first, second) = messages.answered(row, [(name, row[name]) for name in names])
    chosen, rejected = (first, second) if first_is_better else (second, first)
    return Preference(prompt, chosen, rejected, extra=extra)


def helpsteer3(row: Columns, extra: Extra, reading: Reading) -> Preference:
    """From −3, the first is much better, to 3, the second is; 0 says that neither is."""
    said = cells.number(row["overall_preference"], "column 'overall_preference'")
    named = {**row, "prompt": row["context"]}
    pair = _first_or_second(named, ("response1", "response2"), first_is_better=said <= 0, extra=extra)
    return pair if said else Preference(pair.prompt, pair.chosen, pair.rejected, 0.5, extra=pair.extra)


def shp(row: Columns, extra: Extra, reading: Reading) -> Preference:
    """``labels`` is 1 where people prefer A, and 0 where they prefer B."""
    label = cells.truth(row["labels"])
    if label is None:
        raise DataError(f"'labels' is {row['labels']!r}; 1 (A is preferred) or 0 (B) is needed")
    named = {"prompt": row["history"], **{name: row[name] for name in ("human_ref_A", "human_ref_B")}}
    return _first_or_second(named, ("human_ref_A", "human_ref_B"), first_is_better=label, extra=extra)


def _strength(row: Columns, reading: Reading) -> tuple[float, float]:
    """p_chosen and margin; two scores make a margin where that was asked for and none is given."""
    given = {name: row[name] for name in STRENGTH if not cells.empty(row.get(name))}
    found = {name: cells.number(value, f"column {name!r}") for name, value in given.items()}
    p_chosen = found.get("p_chosen", 1.0)
    if not 0.0 <= p_chosen <= 1.0:
        raise DataError(f"'p_chosen' is {p_chosen}; a probability from 0 to 1 is needed")
    margin = 0.0
    if reading.margin_scale is not None and STRENGTH[2] in found and STRENGTH[3] in found:
        margin = reading.margin_scale * (found["score_chosen"] - found["score_rejected"])
    return p_chosen, found.get("margin", margin)


# ------------------------------------------------------------------------------------- rankings, ratings, thumbs, rest


def ranked(row: Columns, extra: Extra, reading: Reading) -> Ranking:
    answers, ranks = cells.listed(row, "responses"), [cells.whole(rank) for rank in cells.listed(row, "ranks")]
    _same_length("ranks", answers, ranks)
    return _ranking(row, answers, ranks, "ranks", extra)


def numbered(row: Columns, extra: Extra, reading: Reading) -> Ranking:
    """``ranking`` holds a rank for each of the numbered columns; it may count from 0."""
    columns = sorted(
        (name for name in row if re.fullmatch(NUMBERED, name)), key=lambda name: int(name.rpartition("_")[2])
    )
    answers, ranks = [row[name] for name in columns], [cells.whole(rank) for rank in cells.listed(row, "ranking")]
    _same_length("ranking", answers, ranks)
    from_zero = 0 in ranks
    return _ranking(row, answers, [None if r is None else r + from_zero for r in ranks], "ranking", extra)


def nectar(row: Columns, extra: Extra, reading: Reading) -> Ranking:
    """A list of answers, each an object with its text, its rank, and who gave it."""
    entries = cells.listed(row, "answers")
    if not _objects(entries, "answer", "rank"):
        raise DataError("column 'answers' needs objects with 'answer' and 'rank'")
    ranks = [cells.whole(one["rank"]) for one in entries]
    return _ranking(row, [one["answer"] for one in entries], ranks, "answers", extra)


def _objects(value: Any, *keys: str) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and set(keys) <= set(one) for one in value)


def _ranking(row: Columns, answers: list[Any], ranks: list[int | None], column: str, extra: Extra) -> Ranking:
    known = [rank for rank in ranks if rank is not None and rank >= 1]
    if len(known) != len(ranks):
        raise DataError(f"{column!r} must be whole numbers from 1, the best, upwards")
    prompt, completions = messages.answered(row, [("responses", one) for one in answers])
    return Ranking(prompt, tuple(completions), tuple(known), extra)


def _same_length(column: str, answers: list[Any], values: list[Any]) -> None:
    if len(answers) != len(values):
        raise DataError(
            f"'responses' has {len(answers)} entries and {column!r} {len(values)}; each response needs "
            f"{'a rank' if column in ('ranks', 'ranking') else 'one'}"
        )


def rated(column: str) -> Build:
    """A list with an object of scores for each response, or with one number, which is then the score ``column``."""

    def build(row: Columns, extra: Extra, reading: Reading) -> Rated:
        answers, values = cells.listed(row, "responses"), cells.listed(row, column)
        _same_length(column, answers, values)
        given = [value if isinstance(value, dict) else {column.removesuffix("s"): value} for value in values]
        prompt, completions = messages.answered(row, [("responses", one) for one in answers])
        scores = tuple(_scores(one, f"in {column!r} the score") for one in given)
        return Rated(prompt, tuple(completions), scores, extra)

    return build


def ultrafeedback(row: Columns, extra: Extra, reading: Reading) -> Rated:
    """Each completion is an object with its text and annotations, each of which holds a ``Rating``, a number or N/A."""
    entries = cells.listed(row, "responses")
    if not _objects(entries, "response", "annotations"):
        raise DataError("column 'responses' needs objects with 'response' and 'annotations'")
    prompt, completions = messages.answered(row, [("responses", one["response"]) for one in entries])
    return Rated(prompt, tuple(completions), tuple(_annotations(one["annotations"]) for one in entries), extra)


def _annotations(given: Any) -> dict[str, float]:
    if not isinstance(given, dict) or not all(isinstance(one, dict) and "Rating" in one for one in given.values()):
        raise DataError("the annotations in 'responses' need an object with a 'Rating' for each aspect")
    ratings = {name: one["Rating"] for name, one in given.items() if one["Rating"] not in (None, "", "N/A")}
    return {name: cells.number(value, f"the rating {name!r}") for name, value in ratings.items()}


def score_columns(row: Columns, extra: Extra, reading: Reading) -> Rated:
    given = {said: value for name, value in row.items() if (said := criterion(name, reading)) is not None}
    prompt, (answer,) = messages.answered(row, [("completion", row["completion"])])
    return Rated(prompt, (answer,), (_scores(given, "column"),), extra)


def _scores(given: Mapping[str, Any], place: str) -> dict[str, float]:
    """Scores by criterion; what was not judged is null, and left out."""
    return {name: cells.number(value, f"{place} {name!r}") for name, value in given.items() if not cells.empty(value)}


def has_scores(looked: Looked, reading: Reading) -> bool:
    """Whether there are columns with the names of scores, and each begins with a number."""
    names = [name for name in looked.names if criterion(name, reading) is not None and looked.values(name)]
    return bool(names) and all(is_number(looked.values(name)[0]) for name in names)


def thumb(row: Columns, extra: Extra, reading: Reading) -> Thumb:
    label = cells.truth(row["label"])
    if label is None:
        raise DataError(
            f"column 'label' is {row['label']!r}; a thumb is true or 1 (up), false or 0 (down); if it is none, name "
            "it in data.ignore"
        )
    prompt, (answer,) = messages.answered(row, [("completion", row["completion"])])
    return Thumb(prompt, answer, label, extra)


def has_label(looked: Looked, reading: Reading) -> bool:
    return bool(looked.values("label")) and "label" not in reading.ignore


def answers(row: Columns, extra: Extra, reading: Reading) -> Answers:
    texts = row["responses"]
    finished = row.get("finished", [True] * len(texts) if isinstance(texts, list) else [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError("column 'responses' must be a list of texts; answers are what `baro generate` writes")
    if not isinstance(finished, list) or not all(isinstance(one, bool) for one in finished):
        raise DataError("column 'finished' must be a list of true and false")
    _same_length("finished", texts, finished)
    return Answers(messages.prompt_of(row), tuple(texts), tuple(finished), extra)


def prompt(row: Columns, extra: Extra, reading: Reading) -> Prompt:
    return Prompt(messages.prompt_of(row), extra)


def prompt_in(column: str) -> Build:
    """A prompt in a column that anywhere else holds something else."""

    def build(row: Columns, extra: Extra, reading: Reading) -> Prompt:
        return Prompt(messages.prompt_of({**row, "prompt": cells.string(row, column)}), extra)

    return build


def each(columns: Sequence[str], *keys: str) -> Callable[[Looked, Reading], bool]:
    """Whether the first of these columns that says anything holds lists of objects with these keys."""

    def holds(looked: Looked, reading: Reading) -> bool:
        said = [value for name in columns for value in looked.values(name)[:1]]
        return bool(said) and _objects(said[0], *keys)

    return holds
