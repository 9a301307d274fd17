"""Where people reach the store's page: what `serve` said last, for links that are made elsewhere."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from baro.feedback import schema

KEY = "address"


def known_address(connection: Connection) -> str | None:
    """As `serve` was started last; None if it never was."""
    return connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == KEY)).scalar_one_or_none()


def keep_address(connection: Connection, address: str) -> None:
    """From now on it is this one."""
    before = known_address(connection)
    if before is None:
        connection.execute(insert(schema.meta).values(key=KEY, value=address))
    elif before != address:
        connection.execute(update(schema.meta).where(schema.meta.c.key == KEY).values(value=address))
