"""Words that know their Korean particles.

A Korean particle has two forms, chosen by whether the word before it ends in a consonant: 파리는 but 서울은,
파리예요 but 서울이에요. A ``Noun`` puts the right one behind itself in a format string, ``f"{word:은/는}"``, so
that every sentence of the grammar is written once and is correct for every word.
"""

from __future__ import annotations

from typing import Self

FIRST_SYLLABLE, LAST_SYLLABLE, FINALS = 0xAC00, 0xD7A3, 28
RIEUL = 8  # the index of ㄹ among the 28 possible finals, of which the first is "none"
DIGIT_READINGS = dict(zip("0123456789", "영일이삼사오육칠팔구", strict=True))


class Noun(str):
    """A word with its Korean reading, which differs from its spelling for foreign words (apple is read 애플).

    Formatted with a pair ``with final consonant/without``, it appends the form that fits: 은/는, 이/가, 을/를, 과/와,
    이에요/예요, 이야/야, 으로/로 (after ㄹ 로, as after a vowel). Without a pair it is the bare word.
    """

    reading: str

    def __new__(cls, word: str, reading: str | None = None) -> Self:
        noun = super().__new__(cls, word)
        noun.reading = reading or word
        return noun

    def __format__(self, spec: str) -> str:
        if "/" not in spec:
            return super().__format__(spec)
        with_final, without = spec.split("/")
        final = final_consonant(self.reading)
        fits = final not in (0, RIEUL) if with_final == "으로" else final != 0
        return str(self) + (with_final if fits else without)


def final_consonant(reading: str) -> int:
    """The index of the last syllable's final consonant, 0 if it has none; digits count as they are read aloud.

    Ten is read 십, so ``10`` has a final consonant although 0 alone (영) decides the same way. A word that ends in
    anything else is taken to end in a vowel.
    """
    last = DIGIT_READINGS.get(reading[-1:], reading[-1:])
    if not last or not FIRST_SYLLABLE <= ord(last) <= LAST_SYLLABLE:
        return 0
    return (ord(last) - FIRST_SYLLABLE) % FINALS


def has_hangul(text: str) -> bool:
    """Whether any Hangul syllable is in the text."""
    return any(FIRST_SYLLABLE <= ord(character) <= LAST_SYLLABLE for character in text)
