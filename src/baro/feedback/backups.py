"""A store from a backup: a copy that is looked over before anybody works on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from baro.errors import BackendError, ConfigError
from baro.feedback.database import FILE, Store


def restore(backup: Path, where: str | Path) -> Path:
    """Make a store of a backup in a folder that holds none; returns its file.

    Nothing is overwritten: a database that lies there, and what SQLite keeps beside it, would be mixed with the copy.
    The backup stays as it is. ConfigError for another file, BackendError for a damaged one; then no store is made.
    """
    if "://" in str(where):
        raise ConfigError("a PostgreSQL store is restored with pg_restore or psql; this makes an SQLite store")
    folder = Path(where)
    there = sorted(folder.glob(f"{FILE}*"))
    if there:
        raise ConfigError(f"{there[0]}: a store is here already; name another folder with --store, or move it away")
    if not backup.is_file() or not backup.read_bytes()[:16].startswith(b"SQLite format 3"):
        raise ConfigError(f"{backup}: is no backup of a store; give a file that `baro feedback backup` made")
    partial = folder / f".{FILE}.restored"
    try:
        partial.mkdir(parents=True, mode=0o700)
        try:
            shutil.copyfile(backup, partial / FILE)
            os.chmod(partial / FILE, 0o600)
            store = Store.open(partial)
            try:
                store.check()
            finally:
                store.close()
            (partial / FILE).rename(folder / FILE)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise BackendError(f"{folder}: the backup was not restored: {error}") from error
    return folder / FILE
