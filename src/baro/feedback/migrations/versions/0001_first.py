"""The first tables. Their DDL lies beside this file, frozen, in each database's words.

A statement ends with an empty line. A later revision that copies a table on SQLite has to make its triggers and partial
indexes again: Alembic does not see them.
"""

from pathlib import Path

from alembic import op

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def upgrade() -> None:
    """Make every table, index and trigger."""
    ddl = Path(__file__).with_name(f"0001_{op.get_context().dialect.name}.sql").read_text(encoding="utf-8")
    for statement in ddl.strip().split("\n\n"):
        op.execute(statement)
