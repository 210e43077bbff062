"""Run revisions on the connection that database.schema.upgrade() opened, inside its transaction."""

from alembic import context
from sqlalchemy import inspect

from database import Base

connection = context.config.attributes["connection"]
# The constraints that revisions create are named by the naming convention of the metadata.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
if inspect(connection).has_table("alembic_version"):
    # Revision 0004 upgrades every schema before it.
    connection.exec_driver_sql("DELETE FROM alembic_version WHERE version_num < '0004'")
context.run_migrations()
