"""Run revisions on the connection that database.schema.upgrade() opened, inside its transaction."""

from alembic import context

from database import Base

# The constraints that revisions create are named by the naming convention of the metadata.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
