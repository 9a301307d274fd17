"""Which files of a folder are read: their names are parsed as split and shard, ``train_prefs-00000-of-00001``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from baro.errors import DataError

_SHARD = re.compile(r"(-\d+-of-\d+(-[0-9a-f]{8,})?|[-_.]\d+|(?<=train)\d+)$")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_TRAINING = frozenset({"train", "training"})
_HELD_OUT = frozenset({"test", "tests", "testing", "dev", "valid", "validation", "val", "eval", "evaluation"})
_HELD_WORDS = re.compile(r"(?<![a-z])(held|hold)[-_.]?out(?![a-z])", re.I)


def split_of(path: Path, suffixes: tuple[str, ...]) -> str:
    """The split that a file belongs to; ``path`` begins in its folder.

    It is the file's name without type and shard, or a folder's name where that alone says what the file is for
    (``train/0000.parquet``).
    """
    name = path.name.removesuffix(".gz")
    name = next((name.removesuffix(one) for one in suffixes if name.endswith(one)), name)
    label = _SHARD.sub("", name)
    folders = [one for one in reversed(path.parts[:-1]) if _is_for(one, _TRAINING) or is_held_out(one)]
    return label if _is_for(label, _TRAINING) or is_held_out(label) or not folders else folders[0]


def is_held_out(split: str) -> bool:
    """Whether a word of its name says that it is not for training."""
    return _is_for(split, _HELD_OUT) or _HELD_WORDS.search(split) is not None


def _is_for(name: str, words: frozenset[str]) -> bool:
    return any(word.lower() in words for word in _WORD.findall(name))


def choose(paths: list[Path], folder: Path, split: str | None, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of the split that was asked for, else those for training, else all that are not held out.

    Raises DataError, with the splits there are, where the name fits none, and where several are for training.
    """
    inside = {one: one.relative_to(folder) for one in paths}
    splits = {one: split_of(path, suffixes) for one, path in inside.items()}
    if split is not None:
        chosen = [one for one in paths if split in _names(inside[one], splits[one])]
        if not chosen:
            raise DataError(f"{called(folder)}: has no split {split!r}; it has {_listed(splits.values())}")
        return chosen
    usable = [one for one in paths if not is_held_out(splits[one])]
    training = [one for one in usable if _is_for(splits[one], _TRAINING)]
    found = list(dict.fromkeys(splits[one] for one in training))
    if len(found) > 1 and any(one.lower().startswith("train") for one in found):
        raise DataError(
            f"{called(folder)}: several splits are for training: {_listed(found)}; name the one to read, as in "
            f"{named(folder, found[0])}"
        )
    if paths and not usable:
        raise DataError(
            f"{called(folder)}: holds only {_listed(splits.values())}, which is not for training; name the split to "
            f"read, as in {named(folder, splits[paths[0]])}"
        )
    return training or usable


def _names(path: Path, split: str) -> tuple[str, ...]:
    """What a file may be asked for by: its split, also with its folder, or its path."""
    return split, (path.parent / split).as_posix(), path.parent.as_posix(), path.as_posix()


def _listed(splits: Iterable[str]) -> str:
    return ", ".join(sorted(set(splits)))


def called(folder: Path) -> str:
    """What people call a folder: its path, or the hub id of a folder in the hub's cache."""
    return hub_name(folder) or str(folder)


def hub_name(folder: Path) -> str | None:
    """``owner/name`` of a folder that is a snapshot in the hub's cache."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("datasets--"):
        return None
    return repository.removeprefix("datasets--").replace("--", "/", 1)


def named(folder: Path, split: str) -> str:
    """How a split is asked for."""
    return f"{hub_name(folder)}:{split}" if hub_name(folder) else f"{folder}#{split}"


def asked_for(path: Path) -> tuple[Path, str | None]:
    """``FOLDER#SPLIT`` taken apart; a path that is there is none."""
    folder, mark, split = str(path).rpartition("#")
    if path.exists() or not mark or not Path(folder).exists():
        return path, None
    if not Path(folder).is_dir():
        raise DataError(f"{path}: {folder} is a file and has no splits; give the file alone")
    return Path(folder), split
