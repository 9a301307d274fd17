"""Every public layout, recognised by its columns and converted to records.

A layout is one small function and one entry in ``LAYOUTS``. The first row decides, every other row must fit; what was
taken for what is told in one sentence. Functions below raise DataError without a place; ``read_records`` adds it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baro.data.files import Row, kind_of, nearest, read_rows, write_rows
from baro.errors import DataError
from baro.records import Answers, Conversation, Demonstration, Message, Preference, Prompt, Ranking, Record, to_row

Columns = Mapping[str, Any]
Wanted = type[Record] | tuple[type[Record], ...]

NOUNS: dict[type, str] = {
    Prompt: "prompts",
    Demonstration: "demonstrations",
    Preference: "preferences",
    Ranking: "rankings",
    Answers: "answers",
}
_TURN = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
_OPEN_TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:\s*", re.DOTALL)


@dataclass(frozen=True)
class Layout:
    """Columns that belong together. ``build`` makes a record of a row; the second argument is its other columns."""

    columns: tuple[str, ...]
    makes: type[Record]
    build: Callable[[Columns, dict[str, Any]], Record]
    says: str
    optional: tuple[str, ...] = ()

    def record(self, columns: Columns) -> Record:
        """A row as a record; columns that the layout does not know are kept as its ``extra``."""
        missing = [name for name in self.columns if name not in columns]
        if missing:
            near = nearest(missing[0], [name for name in columns if name not in self.columns])
            hint = f"did you mean {near!r}?" if near else f"it has {_listed(columns)}"
            raise DataError(f"column {missing[0]!r} is missing, which the first row has; {hint}")
        known = (*self.columns, *self.optional)
        return self.build(columns, {name: value for name, value in columns.items() if name not in known})


@dataclass(frozen=True)
class Loaded:
    """The records of a file. ``keys`` names each one's row; ``description`` says what was taken for what.

    converted: the file holds larger records, of which only a part is used, so that rows may say the same.
    """

    name: str
    records: tuple[Record, ...]
    keys: tuple[str, ...]
    description: str
    converted: bool = False

    def at(self, keys: Iterable[str]) -> list[Record]:
        """The records of these keys, in this order: what stands behind the samples that were kept."""
        by_key = dict(zip(self.keys, self.records, strict=True))
        return [by_key[key] for key in keys]


def read_records(path: str | Path, want: Wanted | None = None) -> Loaded:
    """Read a file as the wanted kind of record, or as whatever it holds.

    A record that contains the wanted one serves (a preference holds a demonstration and a prompt); with several wanted
    kinds the first that the file has, or contains, is made. Raises DataError: ``file:line``, what, and what to do.
    """
    path = Path(path)
    rows = read_rows(path)
    wanted = want if isinstance(want, tuple) else (want,) if want else tuple(NOUNS)
    layout, target = _recognise(rows[0], wanted)
    records = tuple(_record(row, layout, target) for row in rows)
    sentence = _describe(path.name, rows[0], len(rows), layout, target)
    return Loaded(path.name, records, tuple(row.key for row in rows), sentence, converted=layout.makes is not target)


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write records so that ``read_records`` gives back the same ones."""
    write_rows(path, (_escaped(to_row(record)) for record in records))


# ----------------------------------------------------------------------------------------------------------- layouts


def _text(columns: Columns, extra: dict[str, Any]) -> Demonstration:
    return Demonstration((), (Message("assistant", _string(columns, "text")),), extra)


def _prompt(columns: Columns, extra: dict[str, Any]) -> Prompt:
    return Prompt(_prompt_of(columns), extra)


def _messages(columns: Columns, extra: dict[str, Any]) -> Demonstration:
    turns = _conversation(columns["messages"], "messages")
    answered = next((i for i, turn in enumerate(turns) if i and turn.role == "assistant"), len(turns))
    return Demonstration(turns[:answered], _through_last_answer(turns[answered:]), extra)


def _answer_in(column: str) -> Callable[[Columns, dict[str, Any]], Demonstration]:
    def build(columns: Columns, extra: dict[str, Any]) -> Demonstration:
        prompt = _prompt_of(columns)
        return Demonstration(prompt, _answer(columns, column, prompt), extra)

    return build


def _pair(columns: Columns, extra: dict[str, Any]) -> Preference:
    prompt = _prompt_of(columns)
    chosen, rejected = (_answer(columns, name, prompt) for name in ("chosen", "rejected"))
    return Preference(prompt, chosen, rejected, *_strength(columns), extra)


def _transcripts(columns: Columns, extra: dict[str, Any]) -> Preference:
    chosen, rejected = (_through_last_answer(_whole(columns[name], name)) for name in ("chosen", "rejected"))
    common = _common_prompt(chosen, rejected)
    return Preference(chosen[:common], chosen[common:], rejected[common:], *_strength(columns), extra)


def _ranked(columns: Columns, extra: dict[str, Any]) -> Ranking:
    prompt, answers, ranks = _prompt_of(columns), columns["responses"], columns["ranks"]
    for name in ("responses", "ranks"):
        if not isinstance(columns[name], list):
            raise DataError(f"column {name!r} is {kind_of(columns[name])}; a list is needed")
    if len(answers) != len(ranks):
        raise DataError(f"'responses' has {len(answers)} entries and 'ranks' {len(ranks)}; each response needs a rank")
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1 for rank in ranks):
        raise DataError("'ranks' must be whole numbers from 1, the best, upwards")
    completions = tuple(_completion(answer, "responses", prompt) for answer in answers)
    return Ranking(prompt, completions, tuple(ranks), extra)


def _answers(columns: Columns, extra: dict[str, Any]) -> Answers:
    texts = columns["responses"]
    finished = columns.get("finished", [True] * len(texts) if isinstance(texts, list) else [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError("column 'responses' must be a list of texts; answers are what `baro generate` writes")
    if not isinstance(finished, list) or not all(isinstance(one, bool) for one in finished):
        raise DataError("column 'finished' must be a list of true and false")
    if len(finished) != len(texts):
        raise DataError(f"'responses' has {len(texts)} entries and 'finished' {len(finished)}; each response needs one")
    return Answers(_prompt_of(columns), tuple(texts), tuple(finished), extra)


STRENGTH = ("p_chosen", "margin")
LAYOUTS = [  # the first that fits is taken; where prompts are wanted, answers keep their responses as other columns
    Layout(("prompt", "chosen", "rejected"), Preference, _pair, "prompt, 'chosen' and 'rejected' as named", STRENGTH),
    Layout(
        ("chosen", "rejected"),
        Preference,
        _transcripts,
        "'chosen' and 'rejected' are whole conversations, the prompt is what both begin with",
        STRENGTH,
    ),
    Layout(("prompt", "responses", "ranks"), Ranking, _ranked, "prompt, 'responses' and 'ranks' (1 is best) as named"),
    Layout(("prompt", "completion"), Demonstration, _answer_in("completion"), "the answer is 'completion'"),
    Layout(("prompt", "response"), Demonstration, _answer_in("response"), "the answer is 'response'"),
    Layout(
        ("messages",),
        Demonstration,
        _messages,
        "of 'messages', the prompt is what stands before the first answer, the rest is the completion",
    ),
    Layout(("prompt",), Prompt, _prompt, "'prompt' is the prompt"),
    Layout(("prompt", "responses"), Answers, _answers, "'responses' are answers without a judgment", ("finished",)),
    Layout(("text",), Demonstration, _text, "'text' is raw text"),
]

# --------------------------------------------------------------------------------- what a record holds besides itself


def _two_ranked(pair: Preference) -> Ranking:
    """A pair as a ranking of two; equally good is a tie, and how sure the label is gets lost."""
    ranks = (1, 1) if pair.p_chosen == 0.5 else (1, 2) if pair.p_chosen > 0.5 else (2, 1)
    return Ranking(pair.prompt, (pair.chosen, pair.rejected), ranks, pair.extra)


def _chosen(pair: Preference) -> Demonstration:
    return Demonstration(pair.prompt, pair.chosen, pair.extra)


def _best(ranking: Ranking) -> Demonstration | None:
    if not ranking.ranks:
        return None
    return Demonstration(ranking.prompt, ranking.completions[ranking.ranks.index(min(ranking.ranks))], ranking.extra)


def _prompt_in(record: Demonstration | Preference | Ranking) -> Prompt | None:
    return Prompt(record.prompt, record.extra) if record.prompt else None


# A function gives None where this row does not hold it after all.
CONTAINS: dict[tuple[type[Record], type[Record]], tuple[str, Callable[[Any], Record | None]]] = {
    (Preference, Demonstration): ("'chosen' serves as the answer", _chosen),
    (Preference, Ranking): ("each pair serves as a ranking of two", _two_ranked),
    (Preference, Prompt): ("only the prompt is used", _prompt_in),
    (Ranking, Demonstration): ("the best response serves as the answer", _best),
    (Ranking, Prompt): ("only the prompt is used", _prompt_in),
    (Demonstration, Prompt): ("only the prompt is used", _prompt_in),
}


def serve(record: Record, want: type[Record]) -> Record | None:
    """The wanted record that this one is or contains, None where it holds none."""
    if isinstance(record, want):
        return record
    found = CONTAINS.get((type(record), want))
    return found[1](record) if found else None


# ----------------------------------------------------------------------------------------------------- recognition


def _recognise(row: Row, wanted: tuple[type[Record], ...]) -> tuple[Layout, type[Record]]:
    """The layout of the first row and the kind of record to make of it."""
    fitting = [layout for layout in LAYOUTS if all(name in row.columns for name in layout.columns)]
    for layout in fitting:
        if layout.makes in wanted and layout.makes is not Prompt:
            return layout, layout.makes
    for layout in fitting:
        for want in wanted:
            if layout.makes is want or (layout.makes, want) in CONTAINS:
                return layout, want
    raise DataError(f"{row.key}: {_unknown(row.columns, fitting, wanted)}")


def _unknown(columns: Columns, fitting: Sequence[Layout], wanted: tuple[type[Record], ...]) -> str:
    serving = [one for one in LAYOUTS if any(one.makes is w or (one.makes, w) in CONTAINS for w in wanted)]
    missing = dict.fromkeys(name for one in serving for name in one.columns if name not in columns)
    near = [(nearest(name, columns), name) for name in missing]
    hint = next((f"; is {found!r} meant to be {name!r}?" for found, name in near if found), "")
    known = ", ".join("/".join(layout.columns) for layout in serving)
    if fitting:
        found, needed = NOUNS[fitting[0].makes], " or ".join(NOUNS[want] for want in wanted)
        return f"columns {_listed(columns)} are {found}, and {needed} are needed: {known}{hint}"
    seen = f"no known layout has the columns {_listed(columns)}" if columns else "has no column"
    return f"{seen}; give one of {known}{hint}"


def _record(row: Row, layout: Layout, want: type[Record]) -> Record:
    try:
        record = serve(layout.record(row.columns), want)
    except DataError as error:
        raise DataError(f"{row.key}: {error}") from error
    if record is None:
        raise DataError(f"{row.key}: holds no {NOUNS[want].removesuffix('s')}; mend or remove this row")
    return record


def _describe(name: str, row: Row, count: int, layout: Layout, want: type[Record]) -> str:
    parts = [layout.says]
    parts += [f"{column!r} read as well" for column in layout.optional if column in row.columns]
    others = [column for column in row.columns if column not in (*layout.columns, *layout.optional)]
    parts += [f"kept beside them: {_listed(others)}"] if others else []
    parts += [CONTAINS[layout.makes, want][0]] if layout.makes is not want else []
    noun = NOUNS[layout.makes].removesuffix("s" if count == 1 else "")
    return f"{name}: {count:,} {noun}; " + "; ".join(parts)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in columns)


# ----------------------------------------------------------------------------------------------------------- cells


def _string(columns: Columns, column: str) -> str:
    if not isinstance(columns[column], str):
        raise DataError(f"column {column!r} is {kind_of(columns[column])}; text is needed")
    return columns[column]


def _prompt_of(columns: Columns) -> Conversation:
    value = columns["prompt"]
    if not isinstance(value, str):
        return _conversation(value, "prompt")
    if _OPEN_TRANSCRIPT.fullmatch(value):
        return parse_transcript(value)[:-1]  # the last turn is the open one
    return (Message("user", value),)


def _completion(value: Any, column: str, prompt: Conversation) -> Conversation:
    """An answer: text, messages, or messages that begin with the prompt once more."""
    if isinstance(value, str):
        return (Message("assistant", value),)
    turns = value if isinstance(value, tuple) else _conversation(value, column)
    if not turns or turns[0].role == "assistant":
        return turns
    for end in range(len(prompt), len(turns) + 1):  # a system message may stand before the repeated prompt
        if turns[end - len(prompt) : end] == prompt:
            return turns[end:]
    raise DataError(f"column {column!r} begins with another prompt than 'prompt' holds; leave the prompt out of it")


def _answer(columns: Columns, column: str, prompt: Conversation) -> Conversation:
    """Beside a transcript as the prompt stands a transcript that repeats it, or what follows the colon and a space."""
    value, beside = columns[column], columns["prompt"]
    if isinstance(value, str) and isinstance(beside, str) and _OPEN_TRANSCRIPT.fullmatch(beside):
        value = parse_transcript(value) if _TRANSCRIPT.match(value) else value.removeprefix(" ")
    return _completion(value, column, prompt)


def _conversation(value: Any, column: str) -> Conversation:
    if not isinstance(value, list):
        raise DataError(f"column {column!r} is {kind_of(value)}; text or a list of messages is needed")
    return tuple(_message(item, f"message {i} of {column!r}") for i, item in enumerate(value, start=1))


def _message(item: Any, place: str) -> Message:
    if not isinstance(item, dict) or "role" not in item or "content" not in item:
        raise DataError(f"{place} is no message; an object with 'role' and 'content' is needed")
    if item["role"] not in ("system", "user", "assistant"):
        raise DataError(f"{place} has the role {item['role']!r}; known roles are system, user and assistant")
    if not isinstance(item["content"], str):
        raise DataError(f"the content of {place} is {kind_of(item['content'])}; text is needed")
    return Message(item["role"], item["content"])


def _whole(value: Any, column: str) -> Conversation:
    """A conversation with its answer: messages, or a transcript."""
    if not isinstance(value, str):
        return _conversation(value, column)
    if not _TRANSCRIPT.match(value):
        raise DataError(
            f"column {column!r} is plain text without a prompt; add a column 'prompt', or give messages or a "
            r"'\n\nHuman: ... \n\nAssistant: ...' transcript"
        )
    return parse_transcript(value)


def parse_transcript(text: str) -> Conversation:
    """The turns of a "Human: … Assistant: …" text. One space after the colon is no content."""
    parts = _TURN.split("\n\n" + text.lstrip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(
        Message(roles[name], content.removeprefix(" ")) for name, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def _through_last_answer(turns: Conversation) -> Conversation:
    """Without what stands after the last answer: nothing there can be scored."""
    return turns[: max((i + 1 for i, turn in enumerate(turns) if turn.role == "assistant"), default=0)]


def _common_prompt(chosen: Conversation, rejected: Conversation) -> int:
    """How many leading messages are the prompt: the same in both, and followed by an answer in both."""
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        shared += 1
    both = range(min(shared + 1, len(chosen), len(rejected)))
    return max((i for i in both if chosen[i].role == rejected[i].role == "assistant"), default=0)


def _strength(columns: Columns) -> tuple[float, float]:
    p_chosen, margin = columns.get("p_chosen", 1.0), columns.get("margin", 0.0)
    for name, value in (("p_chosen", p_chosen), ("margin", margin)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"column {name!r} is {kind_of(value)}; a finite number is needed")
    if not 0.0 <= p_chosen <= 1.0:
        raise DataError(f"'p_chosen' is {p_chosen}; a probability from 0 to 1 is needed")
    return float(p_chosen), float(margin)


def _escaped(row: dict[str, Any]) -> dict[str, Any]:
    """Text that would be read back as a transcript is written as messages."""
    if isinstance(row.get("prompt"), str) and _OPEN_TRANSCRIPT.fullmatch(row["prompt"]):
        row["prompt"] = [{"role": "user", "content": row["prompt"]}]
    return row
