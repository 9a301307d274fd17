"""Brings a store's tables to this version's form: new ones are made, older ones upgraded after a backup.

Both go the same way, through the revisions in migrations/versions. A revision is frozen once it was released.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, column, inspect, select, table, text

from baro.errors import ConfigError
from baro.feedback import ids

if TYPE_CHECKING:
    from baro.feedback.database import Store

MIGRATIONS = Path(__file__).with_name("migrations")
REVISIONS = ["0001"]  # oldest first
VERSION_TABLE = "baro_feedback_version"  # a PostgreSQL database may hold another program's alembic_version
_LOCK = 0x6261726D  # PostgreSQL: one upgrades
_turn = threading.Lock()  # Alembic keeps its context in globals


def bring_up_to_date(store: Store, *, create: bool, more: Sequence[Path] = ()) -> Path | None:
    """Make or upgrade the tables; ConfigError if there are none, or a newer Baro's.

    Returns the backup that was made before an upgrade of an SQLite store. ``more``: folders of further revisions.
    """
    with store.read() as connection:
        at = version(connection)
    if at == REVISIONS[-1]:
        return None
    if at is None and not create:
        raise ConfigError(f"{store.where}: holds no feedback yet; `baro feedback create NAME` starts a project there")
    if at is not None and at not in REVISIONS:
        revisions = f"its tables are at revision {at!r}, this Baro's at {REVISIONS[-1]!r}"
        raise ConfigError(
            f"{store.where}: was written by a newer Baro ({revisions}); upgrade Baro; nothing was changed"
        )
    backup = None
    if at is not None and store.file is not None:
        backup = store.backup(store.file.with_name(f"{store.file.stem}-{at}-{ids.now_ms()}.db"))
    with _turn:
        store.rebuild(lambda connection: _upgrade(connection, more))
    return backup


def version(connection: Connection) -> str | None:
    """The revision of the tables, None where there are none."""
    names = inspect(connection).get_table_names()
    if VERSION_TABLE not in names:
        return "unknown" if "judgment" in names else None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar_one_or_none()


def _upgrade(connection: Connection, more: Sequence[Path]) -> None:
    from alembic import command

    from baro.feedback.database import make_secret_seed

    if connection.dialect.name == "postgresql":
        _check_encoding(connection)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    at = version(connection)
    if at == REVISIONS[-1]:  # somebody else was quicker
        return
    command.upgrade(alembic_config(connection, more), REVISIONS[-1])
    if at is None:
        make_secret_seed(connection)


def _check_encoding(connection: Connection) -> None:
    found = connection.execute(text("SHOW server_encoding")).scalar_one()
    if found != "UTF8":
        raise ConfigError(f"the database's encoding is {found}; make one with CREATE DATABASE ... ENCODING 'UTF8'")


def alembic_config(connection: Connection | None, more: Sequence[Path] = ()) -> Any:
    """Alembic's configuration, which has no file: env.py takes the connection that is in it."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    folders = [MIGRATIONS / "versions", *more]
    config.set_main_option("version_locations", "\n".join(str(one).replace("%", "%%") for one in folders))
    return config
