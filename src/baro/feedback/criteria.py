"""The criteria that come with Baro, in English and Korean."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import yaml

from baro.errors import ConfigError

LOW, HIGH = 1, 5


def shipped_criteria(keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    """All of them, or these, as ``project.set_criteria`` takes them."""
    known = yaml.safe_load((files("baro.feedback") / "criteria.yaml").read_text(encoding="utf-8"))
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is none of the criteria that come with Baro: {', '.join(known)}")
    return [
        {"key": key, "labels": labels, "low": LOW, "high": HIGH, "weight": 1.0}
        for key, labels in known.items()
        if not keys or key in keys
    ]
