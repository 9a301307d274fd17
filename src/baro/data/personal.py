"""Personal data that can be told by its form: addresses, numbers and keys, and nothing else.

Names, places and what follows from context are not found. A pattern also finds what only looks like one: a row too many
is left out rather than one too few.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text, ``text[start:end]``, and what it looks like."""

    kind: str
    start: int
    end: int


def _always(_: str) -> bool:
    return True


def _is_card(text: str) -> bool:
    """Luhn's check digit: from the right every second digit doubled, its digits added; the sum ends in 0."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_public_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


_BIRTH = r"\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_PATTERNS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), _always),
    "secret key": (
        re.compile(
            r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|hf|ghp|gho|ghs|xox[abp])[-_][A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16})"
            r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
        ),
        _always,
    ),
    "resident registration number": (re.compile(rf"(?<!\d){_BIRTH}[- ]?[1-8]\d{{6}}(?!\d)"), _always),
    "card number": (re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"), _is_card),
    "phone number": (
        re.compile(
            r"(?<![\d.])(?:\+82[-. ]?|0)(?:1[016789]|2|[3-6][1-5]|70|50\d?)[-. )]?\d{3,4}[-. ]?\d{4}(?!\d)"  # Korea
            r"|(?<![\d.])\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}(?!\d)"
            r"|(?<![\d+])\+\d{1,3}(?:[-. ]?\(?\d{1,4}\)?){2,5}\d{2}(?!\d)"
        ),
        _always,
    ),
    "IP address": (re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"), _is_public_address),
}


def find_personal(text: str) -> list[Found]:
    """What looks like an e-mail address, a phone, card or resident registration number, a public IP address, or a key.

    In the order of the text, without overlaps.
    """
    found: list[Found] = []
    for one in sorted(_all(text), key=lambda one: (one.start, -one.end)):
        if not found or one.start >= found[-1].end:
            found.append(one)
    return found


def mask_personal(text: str) -> str:
    """The text with each such stretch replaced by its kind in brackets."""
    for one in reversed(find_personal(text)):
        text = f"{text[: one.start]}[{one.kind}]{text[one.end :]}"
    return text


def _all(text: str) -> Iterator[Found]:
    for kind, (pattern, holds) in _PATTERNS.items():
        for match in pattern.finditer(text):
            if holds(match.group()):
                yield Found(kind, *match.span())
