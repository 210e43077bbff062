"""Run revisions on the connection that database.schema.upgrade() opened, inside its transaction."""

from contextlib import nullcontext

from alembic import context

from database import Base
from migrations.rebuild import kept_rows

connection = context.config.attributes["connection"]
# The constraints that revisions create are named by the naming convention of the metadata.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with kept_rows(connection) if context.config.attributes.get("rebuild") else nullcontext():
    context.run_migrations()
