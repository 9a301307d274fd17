"""Files of rows from the Hugging Face hub, kept in its own cache."""

from __future__ import annotations

from pathlib import Path

from baro.data.files import SUFFIXES
from baro.errors import ConfigError
from baro.hub import is_hub_id

ROWS = [f"*{suffix}{zipped}" for suffix in SUFFIXES for zipped in ("", ".gz")]


def at_hub(value: str) -> bool:
    """Whether a value that is no path here names a data set: ``owner/name``, maybe with ``@revision``, ``:SPLIT``."""
    return is_hub_id(value.partition(":")[0])


def fetch_rows(value: str) -> Path:
    """The folder with the data files of a hub data set: what lies in the cache, else downloaded.

    Of ``owner/name:SPLIT`` that folder and the split, ``FOLDER#SPLIT``. With HF_HUB_OFFLINE=1 only the cache is read.
    Raises ConfigError, one sentence, for whatever goes wrong.
    """
    from huggingface_hub import constants, snapshot_download

    dataset, _, split = value.partition(":")
    name, _, revision = dataset.partition("@")
    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=ROWS,
            local_files_only=constants.HF_HUB_OFFLINE,
        )
    except Exception as error:  # what the library raises has many bases, OSError and ValueError among them
        offline = constants.HF_HUB_OFFLINE
        reason = (
            "HF_HUB_OFFLINE is set and it is not in the cache" if offline else str(error).strip().partition("\n")[0]
        )
        way_out = "unset it to download" if offline else "check the name and the network"
        raise ConfigError(
            f"{value}: no such file, and the hub's data set cannot be had ({reason}); {way_out}, or give a path"
        ) from error
    return Path(f"{folder}#{split}" if split else str(folder))
