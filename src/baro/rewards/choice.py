"""A verifier of multiple choice, and how a text names one of the choices."""

from __future__ import annotations

import re
from typing import Any

from baro.records import Rollout
from baro.rewards.verified import OneByOne, Row, Verified, no_column, what_is_right
from baro.verifier_config import Choice

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
_LISTED = re.compile(r"^[ \t*\"'`]*(?:\(([A-E①-⑤가나다라마])\)|([A-E])[.):]|([①-⑤]))\s", re.MULTILINE)
_LOOKED_BEHIND = 40
_ARTICLE = re.compile(r"\s+[a-z]")  # a dog
_DENIED = re.compile(r"\s*(?:은|는|이|가)?\s*아(?:니|닙|닌)")
_SECOND = re.compile(
    r"\s*(?:,|/|&|or\b|and\b|또는|혹은|이나|나|및|와|과)?\s*\(?(?:[A-E①-⑤가나다라마]|[1-5]\s?번)(?![A-Za-z0-9가-힣])"
)  # a hedge: A or B


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
    for stated in reversed(list(_STATED.finditer(text))):
        behind = text[stated.end() : stated.end() + _LOOKED_BEHIND]
        if (stated[1].islower() and _ARTICLE.match(behind)) or _DENIED.match(behind):
            continue
        return None if _SECOND.match(behind) else _index(stated[1])
    named = {_index("".join(one)) for one in _LISTED.findall(text)} if _LEADING.match(text) else set()
    return named.pop() if len(named) == 1 else None


def _index(symbol: str) -> int:
    if symbol.isdecimal():
        return int(symbol) - 1
    return next(form.index(symbol.upper()) for form in _FORMS if symbol.upper() in form)
