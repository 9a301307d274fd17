"""Facts are only ever added: triggers that refuse UPDATE and DELETE, in each database's words."""

from __future__ import annotations

from collections.abc import Iterator

from baro.feedback.schema import APPEND_ONLY


def trigger_statements(dialect: str) -> Iterator[str]:
    """The DDL for every append-only table."""
    if dialect == "postgresql":
        yield (
            "CREATE OR REPLACE FUNCTION baro_append_only() RETURNS trigger AS $$ BEGIN "
            "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation'; END $$ "
            "LANGUAGE plpgsql"
        )
    for table in APPEND_ONLY:
        if dialect == "postgresql":
            yield (
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION baro_append_only()"
            )
            continue
        for action in ("UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
