"""The folder of a reward ensemble, and its members in memory.

ensemble.json    how many members there are, and whether they are adapters
config.json      and the tokenizer: those of every member
members/0 ...    whole reward models; or LoRA adapters with their heads, on
backbone/        one model, which is loaded once

By what members are centred and scaled stands with each of them, in its reward_head.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from baro.compute import ComputeConfig
from baro.errors import ConfigError
from baro.models.folders import ENSEMBLE, HEAD_WEIGHTS, MEMBERS, is_encoder, local
from baro.models.forward import ScoredModel
from baro.models.load import load_backbone, load_scalar_model, write_head
from baro.models.lora import save_adapter
from baro.models.place import AUTO, hold_frozen, placed
from baro.models.trunk import SavedRole, frozen_role

BACKBONE = "backbone"


class Ensemble(NamedTuple):
    """What ensemble.json holds."""

    members: int
    adapters: bool

    def write(self, folder: Path) -> None:
        """Into a folder in which everything else is."""
        (folder / ENSEMBLE).write_text(json.dumps(self._asdict(), indent=1, allow_nan=False))


def is_ensemble(folder: str | Path) -> bool:
    """Whether a model folder holds several reward models."""
    return (local(folder) / ENSEMBLE).exists()


def read_ensemble(folder: Path) -> Ensemble:
    """ensemble.json of a folder; ConfigError where it is damaged, or a member is missing."""
    path = folder / ENSEMBLE
    try:
        written = json.loads(path.read_bytes())
        found = Ensemble(int(written["members"]), bool(written["adapters"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: is damaged ({error!r}); copy the run again") from error
    wanted = [member_folder(folder, k) for k in range(found.members)] + [folder / BACKBONE] * found.adapters
    if missing := [one for one in wanted if not one.is_dir()]:
        raise ConfigError(f"{missing[0]}: is missing, and {path} needs it; copy the run again")
    return found


def member_folder(folder: Path, k: int) -> Path:
    """Where member k of an ensemble's folder lies."""
    return folder / MEMBERS / str(k)


def load_members(folder: Path, *, compute: ComputeConfig = AUTO) -> list[ScoredModel]:
    """Every member of an ensemble, to score with; adapters on one backbone, which they share."""
    ensemble = read_ensemble(folder)
    folders = [member_folder(folder, k) for k in range(ensemble.members)]
    if not ensemble.adapters:
        return [load_scalar_model(one, compute=compute) for one in folders]
    own_head = (folders[0] / HEAD_WEIGHTS).exists()
    model = load_backbone(folder / BACKBONE, own_head=own_head)
    backbone = placed(ScoredModel(model, bidirectional=is_encoder(folder / BACKBONE)), compute)
    return members_on(backbone, folder)


def members_on(backbone: ScoredModel, folder: Path, name: str = "member") -> list[ScoredModel]:
    """The members of an ensemble of adapters, put onto a backbone; ``name``: what their adapters' names begin with."""
    folders = [member_folder(folder, k) for k in range(read_ensemble(folder).members)]
    found = [frozen_role(backbone, SavedRole(one, one), f"{name}/{k}") for k, one in enumerate(folders)]
    hold_frozen(backbone)
    return [member.eval() for member in found]


def first_member(folder: Path) -> Path | None:
    """The folder of a whole reward model: the one itself, or an ensemble's first; None where those are adapters."""
    if not is_ensemble(folder):
        return folder
    return None if read_ensemble(folder).adapters else member_folder(folder, 0)


def save_adapter_member(model: ScoredModel, folder: Path) -> None:
    """What a member has of its own beside the backbone: adapter, head, and how its scores are made."""
    save_adapter(model, folder)
    write_head(model, folder)
