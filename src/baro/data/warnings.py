"""What is allowed in a file and is probably not meant: words of a chat template in the text, thumbs of one kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from baro.data.formats import Loaded
from baro.data.rows import Unusable
from baro.data.template import Template
from baro.data.usable import completions_of
from baro.records import Record, Thumb

LOOKED_AT = 2000  # rows from the beginning
MARKED_FRACTION = 0.01  # of rows that hold a word of a template; people quote one now and then
RARE_FRACTION = 1 / 4  # of thumbs of one kind
_MARKUP = re.compile(
    r"<\|(?:im_start|im_end|start_header_id|eot_id|user|assistant|system|endoftext|end)\|>|\[/?INST\]|<</?SYS>>|"
    r"<(?:start|end)_of_turn>|^### (?:Instruction|Response):|\n\n(?:Human|Assistant):|^(?:User|Assistant): ",
    re.MULTILINE,
)


def warnings_about(loaded: Loaded, template: Template | None) -> tuple[str, ...]:
    """Sentences about the first rows; each says what to do."""
    records = [record for _, record in islice(loaded, LOOKED_AT) if not isinstance(record, Unusable)]
    return tuple(_markup(loaded, records, template)) + tuple(_thumbs(records))


def _markup(loaded: Loaded, records: list[Record], template: Template | None) -> Iterator[str]:
    """The text was rendered once already, by this template or another one, and would be a second time."""
    if loaded.is_text:
        return
    special = [re.escape(token) for token in template.tokenizer.all_special_tokens] if template else []
    pattern = re.compile("|".join([_MARKUP.pattern, *special]), re.MULTILINE)
    found: Counter[str] = Counter()
    for record in records:
        text = "\n".join(turn.content for turns in (record.prompt, *completions_of(record)) for turn in turns)
        found.update({match.group().strip() for match in pattern.finditer(text)})
    (word, count), *_ = found.most_common(1) or [("", 0)]
    if count > MARKED_FRACTION * len(records):
        yield (
            f"template mismatch: {count:,} of the first {len(records):,} rows hold {word!r}, which a chat template "
            "writes around the turns; give messages without it, or `template: none` where the text is rendered already"
        )


def _thumbs(records: list[Record]) -> Iterator[str]:
    """KTO weighs the two kinds against each other."""
    labels = [record.label for record in records if isinstance(record, Thumb)]
    up = sum(labels)
    if labels and not RARE_FRACTION <= up / len(labels) <= 1 - RARE_FRACTION:
        yield (
            f"unbalanced thumbs: {up:,} up and {len(labels) - up:,} down in the first {len(labels):,} rows; give the "
            "rarer kind more weight, so that weight × count of the two are within a factor of 4/3"
        )
