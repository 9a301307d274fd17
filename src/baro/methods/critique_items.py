"""Answers on their way through critique and revision, and the rows that they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from baro.data.formats import LOOKED_AT, read_records, write_records
from baro.errors import DataError
from baro.records import Answers, Conversation, Demonstration, Prompt, content_hash, plain_conversation, said


@dataclass
class Item:
    """An answer on its way through the rounds. ``name``: what its random streams are named by, its content."""

    key: str
    prompt: Conversation
    answer: str | None
    name: str
    extra: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    reason: str = ""  # why it was given up: a word for the ledger's counts
    error: str = ""

    @property
    def current(self) -> str:
        """The answer as it is now."""
        found = self.steps[-1].revision if self.steps else self.answer
        assert found is not None, self.key
        return found

    def row(self) -> dict[str, Any]:
        """All of it, for steps.jsonl."""
        steps = [{"principle": s.principle, "critique": s.critique, "revision": s.revision} for s in self.steps]
        about = {"row": self.key, "prompt": plain_conversation(self.prompt), "answer": self.answer, "steps": steps}
        return about | ({"error": self.error} if self.error else {})


@dataclass(frozen=True)
class Step:
    """One critique and the revision that followed it."""

    principle: str
    critique: str
    revision: str


def check_columns(name: str, items: Sequence[Item]) -> None:
    """DataError where the rows' other columns would make something else of the demonstrations: thumbs, as ``label``."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "demonstrations.jsonl"
        write_records(path, [Demonstration(item.prompt, said("an answer"), item.extra) for item in items[:LOOKED_AT]])
        made = read_records(path, Demonstration)
    if made.converted:
        read_as = made.description.partition(": ")[2]
        raise DataError(
            f"{name}: beside an answer, its columns are read as judgments ({read_as}); rename or remove the one "
            "that judges"
        )


def items_of(key: str, record: Any) -> Iterator[Item]:
    if isinstance(record, Prompt):
        yield Item(key, record.prompt, None, content_hash([record.prompt]), dict(record.extra))
        return
    if isinstance(record, Answers):
        for k, text in enumerate(record.completions):
            own = f"{key} answer {k + 1}" if len(record.completions) > 1 else key
            yield Item(own, record.prompt, text, content_hash([record.prompt, text]), dict(record.extra))
        return
    *before, last = record.completion
    prompt = (*record.prompt, *before)
    yield Item(key, prompt, last.content, content_hash([prompt, last.content]), dict(record.extra))
