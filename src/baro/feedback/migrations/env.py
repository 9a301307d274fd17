"""What Alembic runs for every command: over the connection of migrate.py, in its transaction."""

from alembic import context

from baro.feedback.migrate import VERSION_TABLE
from baro.feedback.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",  # it cannot ALTER: a table is copied
)
with context.begin_transaction():
    context.run_migrations()
