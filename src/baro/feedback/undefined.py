"""Why a figure is undefined: as JSON, with its code and values, and as a sentence in a reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baro.feedback.catalogue import catalogue
from baro.functional.undefined import Undefined


def undefined_json(reason: Undefined) -> dict[str, Any]:
    """What stands in place of a figure. ``sentence`` is English; pages say ``code`` in their own words."""
    return {"undefined": _json(reason)}


def _json(reason: Undefined) -> dict[str, Any]:
    values = {name: _json(one) if isinstance(one, Undefined) else one for name, one in reason.values.items()}
    return {"code": reason.code, "values": values, "sentence": str(reason)}


def sentence(told: Mapping[str, Any], lang: str) -> str:
    """A reason's sentence in a language, from what undefined_json made of it."""
    values = {name: sentence(one, lang) if isinstance(one, Mapping) else one for name, one in told["values"].items()}
    return catalogue(lang)[f"undefined.{told['code']}"].format(**values)
