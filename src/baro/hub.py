"""Models from the Hugging Face hub, by way of its local cache: ``owner/name`` becomes a folder."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from baro.errors import ConfigError

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]  # no pickles, no code
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", re.ASCII)  # no part looks like an option
FILE_NAMES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".yaml")


def is_hub_id(value: str | Path) -> bool:
    """Whether a value that is no path here has the form owner/name, maybe with @revision, and no file's name."""
    if not isinstance(value, str) or value.removesuffix(".gz").endswith(FILE_NAMES):
        return False
    return _NAME.fullmatch(value) is not None and not Path(value).exists()


@lru_cache
def snapshot(name: str) -> Path:
    """The folder of the repository ``name`` in the local cache, downloaded if it is not there yet.

    With HF_HUB_OFFLINE=1 nothing is downloaded. Raises ConfigError where there is no such model, or no way to it.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        # said outright: huggingface_hub 1.33 asks the hub for a commit's list of files though it is offline
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=FILES, local_files_only=constants.HF_HUB_OFFLINE
        )
        return Path(str(folder))
    except RepositoryNotFoundError as error:
        reason = "the hub has no such model, or it is not open to you; check the name, or run `hf auth login`"
        raise ConfigError(f"{name}: {reason}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = "not in the local Hugging Face cache, and the hub cannot be reached"
        how = f"run `hf download {name}` where there is a network, or give a folder"
        raise ConfigError(f"{name}: {reason}; {how}") from error
