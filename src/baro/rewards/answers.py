"""Verifiers that compare a completion with what its row says is right: a number, a text."""

from __future__ import annotations

import unicodedata
from fractions import Fraction
from typing import Any

from baro.records import Rollout
from baro.rewards.numbers import Number, last_number, only_number
from baro.rewards.verified import OneByOne, Row, Verified, no_column, what_is_right
from baro.verifier_config import Gsm8k, Text

# ----------------------------------------------------------------------------------------------------------- numbers


class Gsm8kVerifier(OneByOne):
    """1 where the completion's number has the value of the row's, as exact fractions; numbers.py says what is read.

    The row's answer is a number, or a solution with the number after ``####``. Cobbe et al. 2021, arXiv:2110.14168.
    """

    def __init__(self, config: Gsm8k) -> None:
        self.config = config

    def look(self, rollout: Rollout) -> Verified:
        row, column = rollout.extra, self.config.answer
        said = what_is_right(row, column)
        if said is None:
            return no_column(row, column)
        gold = _gold_number(said)
        if gold is None:
            return Verified(None, error=f"the row's {column} is {str(said)[-60:]!r}, which gives no one number")
        read, why = self._read(rollout.text)
        if read is None:
            return Verified(0.0, why)
        if read.value is None:
            return Verified(0.0, f"{read.text[:60]!r} is no plain number")
        right = read.value == gold
        why = f"{read.text[:60]} is right" if right else f"{read.text[:60]}, right is {gold}"
        return Verified(float(right), why, read=str(read.value))

    def right(self, row: Row) -> str | None:
        answer = what_is_right(row, self.config.answer)
        if answer is None:
            return None
        return str(answer) if "####" in str(answer) else f"#### {answer}"

    def _read(self, text: str) -> tuple[Number | None, str]:
        if self.config.method == "flexible":
            return last_number(text), "there is no number"
        _, mark, after = text.rpartition("####")
        if not mark:
            return None, "there is no ####"
        line = after.strip().partition("\n")[0]
        return only_number(line), f"after #### stands {line[:60]!r}, which is not one number"


def _gold_number(value: Any) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    found = only_number(text.rpartition("####")[2])
    return None if found is None else found.value


# -------------------------------------------------------------------------------------------------------------- text


class TextVerifier(OneByOne):
    """1 where the completion is the row's text, or one of its texts; Hangul and accents in composed form (NFC)."""

    def __init__(self, config: Text) -> None:
        self.config = config

    def look(self, rollout: Rollout) -> Verified:
        column = self.config.answer
        value = what_is_right(rollout.extra, column)
        if value is None or value == []:
            return no_column(rollout.extra, column)
        accepted = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(one, str | int | float) and str(one).strip() for one in accepted):
            return Verified(None, error=f"the row's {column} is {str(value)[:60]!r}, and a text or a list of texts is")
        text = rollout.text
        if self.config.after is not None:
            _, mark, text = _composed(text).rpartition(_composed(self.config.after))
            if not mark:
                return Verified(0.0, f"there is no {self.config.after!r}")
        read = self._form(text)
        right = read in {self._form(str(one)) for one in accepted}
        said = f"{text.strip()[:60]!r}"
        why = f"{said} is right" if right else f"{said}, right is {str(accepted[0])[:60]!r}"
        return Verified(float(right), why, read=read or None)

    def right(self, row: Row) -> str | None:
        value = what_is_right(row, self.config.answer)
        first = value[0] if isinstance(value, list | tuple) and value else value
        return None if first is None or first == [] else f"{self.config.after or ''} {first}"

    def _form(self, text: str) -> str:
        if self.config.compare == "exact":
            return _composed(text).strip()
        words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        return unicodedata.normalize("NFKC", words).strip(" .。!?\"'`*")


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
