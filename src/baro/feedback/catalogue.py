"""The words of the pages: one flat catalogue for each language, the same for templates and scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "texts"
LANGUAGES = ("en", "ko")


@lru_cache
def catalogue(lang: str) -> Mapping[str, str]:
    """Every text of a language by its key."""
    if lang not in LANGUAGES:
        raise KeyError(lang)
    texts: Mapping[str, str] = json.loads((FOLDER / f"{lang}.json").read_text(encoding="utf-8"))
    return texts


def preferred(accept_language: str) -> str:
    """The language of a browser's Accept-Language header that there is, the first where none is."""
    wishes = []
    for position, part in enumerate(accept_language[:500].split(",")):
        tag, _, weight = part.strip().partition(";q=")
        wishes.append((-_number(weight), position, tag.split("-")[0].lower()))
    return next((lang for _, _, lang in sorted(wishes) if lang in LANGUAGES), LANGUAGES[0])


def _number(weight: str) -> float:
    try:
        return min(1.0, max(0.0, float(weight or 1)))
    except ValueError:
        return 0.0
