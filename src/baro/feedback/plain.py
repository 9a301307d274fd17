"""Files of pairs, rankings, thumbs and scores as judgments by one rater, who is called after the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baro.data.formats import NOUNS, read_records
from baro.data.ledger import Ledger
from baro.data.rows import Unusable
from baro.errors import ConfigError
from baro.feedback import answers
from baro.feedback.judged import Judged, ranking_of, winner
from baro.records import Conversation, Preference, Ranking, Rated, Record, Thumb


def read_plain(path: Path, ledger: Ledger) -> list[Judged]:
    """The judgments of a file of any known layout. ConfigError for one that holds nobody's judgments."""
    loaded = read_records(path)
    if loaded.kind not in (Preference, Ranking, Thumb, Rated):
        raise ConfigError(f"{path.name}: holds {NOUNS[loaded.kind]}, which nobody has judged; import them as prompts")
    name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    found = []
    for key, record in loaded:
        if isinstance(record, Unusable):
            ledger.drop(key, record.reason, record.sentence)
            continue
        completions, answer = _judgment(record)
        texts = [_text(one) for one in completions]
        if answer is None or None in texts:
            what = "an answer of several turns" if None in texts else "more than a task can show, or no whole scores"
            ledger.drop(key, "does not fit", f"holds {what}")
            continue
        found.append(Judged(key, record.prompt, tuple(map(str, texts)), answer, name))
    return found


def _text(completion: Conversation) -> str | None:
    return completion[0].content if len(completion) == 1 and completion[0].role == "assistant" else None


def _judgment(record: Record) -> tuple[tuple[Conversation, ...], Any]:
    """The answers, and what was said of them; None for what no kind of task can say."""
    match record:
        case Preference():
            tie = answers.PairAnswer(choice=answers.Choice(outcome="tie"))
            better = tie if record.p_chosen == 0.5 else winner(0 if record.p_chosen > 0.5 else 1)
            return (record.chosen, record.rejected), better
        case Ranking():
            return record.completions, ranking_of(record.ranks) if 2 <= len(record.completions) <= 9 else None
        case Thumb():
            return (record.completion,), answers.ThumbAnswer(thumbs=[answers.Thumb(good=record.label)])
        case Rated():
            return record.completions, _scores(record)
    raise AssertionError(f"{type(record).__name__} holds no judgment")


def _scores(record: Rated) -> answers.CriteriaAnswer | None:
    names = sorted({name for one in record.scores for name in one})
    given = {name: [one.get(name) for one in record.scores] for name in names}
    if not names or len(record.completions) > 9 or any(s is not None and s % 1 for row in given.values() for s in row):
        return None
    whole = {name: [None if s is None else int(s) for s in row] for name, row in given.items()}
    return answers.CriteriaAnswer(scores=whole)
