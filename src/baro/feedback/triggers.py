"""Facts are only ever added: triggers that refuse UPDATE and DELETE, in each database's words.

A text that somebody has a right to see removed can be overwritten, in the columns of REDACTED alone and only in a
transaction that database.redacting() is about: SQLite's triggers call a function of the connection's, which no other
program has, and PostgreSQL's read a setting of the transaction's.
"""

from __future__ import annotations

from collections.abc import Iterator

from baro.feedback.schema import APPEND_ONLY, REDACTED, metadata

_REFUSE = (
    "CREATE OR REPLACE FUNCTION baro_append_only() RETURNS trigger AS $$ BEGIN "
    "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation'; END $$ LANGUAGE plpgsql"
)
_REFUSE_UNLESS_REDACTING = (
    "CREATE OR REPLACE FUNCTION baro_redacting() RETURNS trigger AS $$ BEGIN "
    "IF current_setting('baro.redacting', true) IS DISTINCT FROM 'on' THEN "
    "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation'; END IF; RETURN NULL; END $$ "
    "LANGUAGE plpgsql"
)


def trigger_statements(dialect: str) -> Iterator[str]:
    """The DDL for every append-only table."""
    if dialect == "postgresql":
        yield from (_REFUSE, _REFUSE_UNLESS_REDACTING)
    for table in APPEND_ONLY:
        texts = REDACTED.get(table, ())
        others = ", ".join(column.name for column in metadata.tables[table].c if column.name not in texts)
        change = f"UPDATE OF {others}" if texts else "UPDATE"
        if dialect == "postgresql":
            yield from _postgresql(table, change, texts)
        else:
            yield from _sqlite(table, change, texts)


def _postgresql(table: str, change: str, texts: tuple[str, ...]) -> Iterator[str]:
    each = f"ON {table} FOR EACH STATEMENT EXECUTE FUNCTION"
    yield f"CREATE TRIGGER {table}_append_only BEFORE {change} OR DELETE OR TRUNCATE {each} baro_append_only()"
    if texts:
        yield f"CREATE TRIGGER {table}_texts BEFORE UPDATE OF {', '.join(texts)} {each} baro_redacting()"


def _sqlite(table: str, change: str, texts: tuple[str, ...]) -> Iterator[str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    yield f"CREATE TRIGGER {table}_no_update BEFORE {change} ON {table} {refuse}"
    if texts:
        kept = f"BEFORE UPDATE OF {', '.join(texts)} ON {table} WHEN NOT baro_redacting()"
        yield f"CREATE TRIGGER {table}_texts {kept} {refuse}"
    yield f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}"
