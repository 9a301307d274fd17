"""The policies that managers may draw answers from: what the server's operator gave, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from baro.errors import ConfigError
from baro.hub import is_hub_id


def known_policies(given: Sequence[str]) -> dict[str, str]:
    """Policies by name: hub ids, models and runs, and every run with a model in a folder of runs."""
    found: dict[str, str] = {}
    for value in given:
        path = Path(value)
        if not path.is_dir():
            if not is_hub_id(value):
                raise ConfigError(
                    f"{value}: is no folder and no hub id; a policy is a run, a model's folder or owner/name"
                )
            found[value] = value
            continue
        inside = [path] if _is_model(path) else [one for one in sorted(path.iterdir()) if _is_model(one)]
        if not inside:
            raise ConfigError(f"{path}: holds no model; give a run, a model's folder, or a folder of runs")
        for one in inside:
            if one.resolve().name in found:
                raise ConfigError(f"{one}: there is another policy {one.resolve().name!r}; rename one of them")
            found[one.resolve().name] = str(one.resolve())
    return found


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file() or ((path / "run.json").is_file() and (path / "model").is_dir())
