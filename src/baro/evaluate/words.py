"""The languages of a report and their fixed texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from baro.evaluate.words_en import ENGLISH
from baro.evaluate.words_ko import KOREAN

Language = Literal["en", "ko"]
Words = Mapping[str, str]
WORDS: Mapping[Language, Words] = {"en": ENGLISH, "ko": KOREAN}
