"""Numbers as people and models write them, read as exact fractions; nothing is evaluated.

``18``, ``18.0``, ``1,234``, ``$18``, ``-$5``, ``−3``, ``50%``, ``3/4``, ``1 1/2``, ``½``, ``\\frac{3}{4}``,
``1.5e3``, ``2 × 10^6``, ``5 million``, ``18만 5천 원``, ``１８``, ``18개``.

A percent sign is a unit like ``$`` or ``원``: 50% is 50. A comma stands between groups of three digits. What has digits
and is no such number (``3:30``, ``2^3``, ``1,5``, ``1.2.3``) is found without a value, so that no part of it is taken
for one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

LONGEST = 100
"""Digits (and exponents) above which a number is not read: of one with a million digits, arithmetic takes minutes."""

_MINUS = "-−–‐‑"
_CURRENCY = "$€£¥₩￦"
_CODES = ("USD", "EUR", "KRW", "GBP", "JPY", "CNY", "INR", "Rs", "Rs.", "RM")
_CHUNK = re.compile(r"(?<![0-9^])(?<!\^-)(?:(?<![\w.])\.)?[0-9](?:[0-9]|[.,:/^](?=[0-9])|\^-(?=[0-9]))*")
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_PLAIN = re.compile(rf"{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+")
_FRACTION = re.compile(rf"({_WHOLE})/({_WHOLE})")
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)(?![A-Za-z.])")
_TIMES_TEN = re.compile(r"\s?(?:×|\*|·|⋅|x|\\times|\\cdot)\s?10\^(-?[0-9]+)(?![.,][0-9])")
_KOREAN = {"천": 10**3, "백": 10**2, "만": 10**4, "억": 10**8, "조": 10**12}
_ENGLISH = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT = re.compile(
    r"([천백]?[만억조]|[천백])(?!큼|각|합|건|기)|\s?(thousand|million|billion|trillion)\b", re.IGNORECASE
)


class Number(NamedTuple):
    """What a text holds at one place; ``value`` is None where it has digits and is no plain number."""

    text: str
    value: Fraction | None
    start: int
    end: int


def plain(text: str) -> str:
    """The text with one spelling for each digit, fraction and LaTeX space, in which numbers are looked for."""
    if not text.isascii():
        text = "".join(f" {unicodedata.normalize('NFKC', one)}" if one in _VULGAR else one for one in text)
        text = _RAISED.sub(lambda run: "^" + unicodedata.normalize("NFKC", run[0]).replace("−", "-"), text)
        text = unicodedata.normalize("NFKC", _LOWERED.sub("_", text)).replace("⁄", "/")
    text = text.replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("\\$", "$").replace("\\%", "%")
    text = re.sub(r"\\[dt]?frac\s?\{\s?([0-9,]{1,100})\s?\}\s?\{\s?([0-9,]{1,100})\s?\}", r"\1/\2", text)
    return re.sub(r"\^\{(-?[0-9]{1,100})\}", r"^\1", text)


_VULGAR = frozenset("¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞")
_RAISED, _LOWERED = re.compile("[⁰¹²³⁴-⁹⁻]+"), re.compile("[₀-₉]+")


def numbers_in(text: str) -> list[Number]:
    """Every number of a ``plain`` text, in its order."""
    found: list[Number] = []
    for one, unit in _read(text):
        if found and (joined := _joined(text, found[-1], one, unit)) is not None:
            found[-1] = joined
        else:
            found.append(one)
    return found


def last_number(text: str) -> Number | None:
    """The last number of a text, read from its end: of a text with a hundred thousand numbers only some are."""
    size = _TAIL
    while True:
        found = numbers_in(plain(text[-size:]))
        whole = size >= len(text)
        if whole or (found and found[-1].start > _WIDEST):
            return found[-1] if found else None
        size *= 8


_TAIL, _WIDEST = 4000, 1000
"""Characters that are looked at first, and more than a number with its parts has: one nearer to the cut may be cut."""


def only_number(text: str) -> Number | None:
    """The number of a text that has one and no other; None otherwise."""
    text = plain(text).strip()
    spaced = re.match(rf"[{_MINUS}] (?=[0-9{_CURRENCY}])", text)
    found = numbers_in(text[0] + text[2:] if spaced else text)
    return found[0] if len(found) == 1 else None


def _read(text: str) -> Iterator[tuple[Number, int]]:
    """Each number with its Korean unit (1 without), before those that are written in parts are joined."""
    past = 0
    for match in _CHUNK.finditer(text):
        if match.start() < past or _is_name(text, match.start()):
            continue
        value, end, unit = _value(match[0]), match.end(), 1
        if exponent := _EXPONENT.match(text, end) or _TIMES_TEN.match(text, end):
            end = exponent.end()
            value = None if value is None else _times_ten(value, exponent[1])
        elif scale := _UNIT.match(text, end):
            times, end = _scale(scale), scale.end()
            value, unit = None if value is None else value * times, times if scale[1] else 1
        start, negative = _sign(text, match.start())
        value = -value if value is not None and negative else value
        past = end
        yield Number(text[start:end], value, start, end), unit


def _value(digits: str) -> Fraction | None:
    if len(digits) > LONGEST:
        return None
    if _PLAIN.fullmatch(digits):
        return Fraction(digits.replace(",", ""))
    parts = _FRACTION.fullmatch(digits)
    if parts is None or not int(parts[2].replace(",", "")):
        return None
    return Fraction(int(parts[1].replace(",", "")), int(parts[2].replace(",", "")))


def _times_ten(value: Fraction, power: str) -> Fraction | None:
    """value · 10^power; None where the power is longer than a number may be."""
    return None if len(power) > 4 or abs(int(power)) > LONGEST else value * Fraction(10) ** int(power)


def _scale(unit: re.Match[str]) -> int:
    if unit[2]:
        return _ENGLISH[unit[2].lower()]
    times = 1
    for one in unit[1]:
        times *= _KOREAN[one]
    return times


def _is_name(text: str, start: int) -> bool:
    """Whether the digits belong to a word, as in x2 or H2O; of a currency's code they are an amount."""
    before = text[max(0, start - 4) : start]
    if not before or not (before[-1] == "_" or (before[-1].isascii() and before[-1].isalpha())):
        return False
    return not before.endswith(_CODES)


def _sign(text: str, start: int) -> tuple[int, bool]:
    """Where the number begins with its sign and currency, and whether it is negative."""
    at = start
    for marks in (_MINUS, _CURRENCY, _MINUS):
        before = text[at - 1 : at]
        if not before or before not in marks:
            continue
        if before in _MINUS and _is_operator(text, at - 1):
            return at, False
        at -= 1
    return at, any(one in _MINUS for one in text[at:start])


def _is_operator(text: str, at: int) -> bool:
    """Whether a minus is between two things: 10-5, x-5, (2)-1, 50%-5."""
    before = text[at - 1 : at]
    return bool(before) and (before.isalnum() or before in ")]}%_")


def _joined(text: str, first: Number, second: Number, unit: int) -> Number | None:
    """Two parts of one number: 1 1/2, or 18만 5천."""
    gap = text[first.end : second.start]
    if first.value is None or second.value is None or gap not in ("", " ") or text[second.start] in _MINUS:
        return None
    sign = -1 if first.value < 0 else 1
    both = Number(text[first.start : second.end], first.value + sign * second.value, first.start, second.end)
    if "/" in second.text and 0 < second.value < 1 and gap and first.text.lstrip(_MINUS + _CURRENCY).isdecimal():
        return both
    larger = _KOREAN.get(first.text[-1], 1)
    return both if larger > 1 and second.value < larger and (unit > 1 or second.text[0].isdecimal()) else None
