"""Sentences that many texts share: the sign of answers that were learned by rote. No torch here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_END = re.compile(r"(?<=[.!?。！？])[\s\"'”’)]+|\n+")
SHORTEST = 10  # characters of a sentence that counts: "Yes." and "네." are no boilerplate


class Common(NamedTuple):
    """The sentence that most texts hold, and how many of them do; no sentence and 0 where none is long enough."""

    sentence: str
    texts: int


def sentences(text: str) -> list[str]:
    """The sentences of a text of at least 10 characters, without the space around them and in lower case."""
    found = (" ".join(one.split()).strip("\"'“”‘’()") for one in _END.split(text))
    return [one.lower() for one in found if len(one) >= SHORTEST]


def most_common_sentence(texts: Sequence[str]) -> Common:
    """The sentence that most of the texts hold, each text counted once; of equally common ones the first.

    Bai et al. 2022, arXiv:2212.08073, section 4.3: over-trained models put the same sentence into most answers.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_once(sentences(text)))
    return Common(*counts.most_common(1)[0]) if counts else Common("", 0)


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
