"""Verifiers that compare a completion with what its row says is right: a number, a text, a choice."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Any

from baro.records import Rollout
from baro.rewards.numbers import Number, last_number, only_number
from baro.rewards.verified import OneByOne, Row, Verified, no_column, what_is_right
from baro.verifier_config import Choice, Gsm8k, Text

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


# ------------------------------------------------------------------------------------------------------------ choice

_FORMS = ("ABCDE", "①②③④⑤", "가나다라마")
_LETTER = r"\(?([A-Ea-e①-⑤가나다라마]|[1-5](?=\s?번))(?:\s?번)?\)?"
_ENDED = r"(?![A-Za-z0-9가-힣]|\.[0-9])"
_BETWEEN = r"(?:\s|[:=*(\"'`]|\\boxed\{|\\text\{|is\b|option\b|choice\b|은|는)"
_STATED = re.compile(
    rf"(?:answer|choice|정답|답|\\boxed\{{){_BETWEEN}{{0,8}}{_LETTER}(?:이다|입니다|예요|이에요|{_ENDED})",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"[\s*\"'`]*{_LETTER}[\s*\"'`.):]*(?:입니다|이다)?[.\s]*", re.IGNORECASE)
_LONGEST_ALONE = 40
_LEADING = re.compile(r"[\s*\"'`]*(?:\(([A-E①-⑤가나다라마])\)|([A-E])[.):]|([①-⑤]))\s")


class ChoiceVerifier(OneByOne):
    """1 where the completion names the row's choice.

    A choice is named by a sentence (``the answer is (B)``, ``정답: ②``, ``\\boxed{B}``; the last one counts), by a text
    that is nothing else (``B``, ``2번``), or where a text begins with it (``(B) because ...``). Letters elsewhere, as
    the article in ``A dog``, name none.
    """

    def __init__(self, config: Choice) -> None:
        self.config = config

    def look(self, rollout: Rollout) -> Verified:
        row, column = rollout.extra, self.config.answer
        said = what_is_right(row, column)
        if said is None:
            return no_column(row, column)
        gold = self._gold(said)
        if gold is None:
            return Verified(None, error=self._unread(said))
        read = _named_choice(rollout.text)
        if read is None:
            return Verified(0.0, "no choice is named")
        right, letter = read == gold, _FORMS[0][read]
        why = f"{letter} is right" if right else f"{letter}, right is {'ABCDE'[gold]}"
        return Verified(float(right), why, read=letter)

    def right(self, row: Row) -> str | None:
        gold = self._gold(what_is_right(row, self.config.answer))
        return None if gold is None else f"The answer is {_FORMS[0][gold]}."

    def _gold(self, value: Any) -> int | None:
        """The number of the right choice, from 0; None where the row names none."""
        found: int | None = None
        if (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, str) and value.strip().isdecimal()
        ):
            found = None if self.config.count_from is None else int(value) - self.config.count_from
        elif isinstance(value, str):
            found = _named_choice(value)
        return found if found is not None and 0 <= found < self.config.choices else None

    def _unread(self, value: Any) -> str:
        column, said = self.config.answer, repr(str(value)[:60])
        if str(value).strip().isdecimal() and self.config.count_from is None:
            return f"the row's {column} is {said}, which counts from 0 or from 1; set count_from"
        return f"the row's {column} is {said}, which names none of {self.config.choices} choices"


def _named_choice(text: str) -> int | None:
    short = text.strip()
    alone = _ALONE.fullmatch(short) if len(short) <= _LONGEST_ALONE else None
    if alone:
        return _index(alone[1])
    stated = list(_STATED.finditer(text))
    if stated:
        return _index(stated[-1][1])
    leading = _LEADING.match(text)
    return _index(leading[1] or leading[2] or leading[3]) if leading else None


def _index(symbol: str) -> int:
    if symbol.isdecimal():
        return int(symbol) - 1
    return next(form.index(symbol.upper()) for form in _FORMS if symbol.upper() in form)
