"""The schemas before revision 0004, which no release created: their rows move to the tables of 0004."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa
from alembic import op

from database.backend import backend_of
from migrations.resources import RESOURCES
from migrations.triggers import is_postgresql

# In the order of their references.
TABLES = (*RESOURCES, "api_keys", "changes", "replays", "sessions")


@contextmanager
def kept_rows() -> Iterator[None]:
    """Drop the tables of an earlier schema, if there are any, run the block, and insert their rows into the new tables.

    The rows keep their order, and get new internal numbers.
    """
    inspector = sa.inspect(op.get_bind())
    found = [name for name in TABLES if inspector.has_table(name)]
    for name in found:
        op.execute(f"CREATE TEMPORARY TABLE old_{name} AS SELECT * FROM {name} ORDER BY 1")
    drop_tables(found)
    yield
    for name in found:
        copy_rows(name)


def drop_tables(names: list[str]) -> None:
    """Drop the tables with their triggers, and what these use: functions on PostgreSQL, search indexes on SQLite."""
    if is_postgresql() and names:
        tables = ", ".join(f"'{name}'::regclass" for name in names)
        query = f"SELECT DISTINCT tgfoid::regprocedure::text FROM pg_trigger WHERE tgrelid IN ({tables})"
        for function in op.get_bind().exec_driver_sql(f"{query} AND NOT tgisinternal").scalars().all():
            op.execute(f"DROP FUNCTION {function} CASCADE")
    for name in reversed(names):
        op.execute(f"DROP TABLE {name}")
        op.execute(f"DROP TABLE IF EXISTS {name}_search")


def copy_rows(name: str) -> None:
    """Insert the kept rows of a table, without logging those of a resource: the old log has their changes."""
    connection = op.get_bind()
    found = connection.exec_driver_sql(f"SELECT * FROM old_{name} LIMIT 0").keys()
    columns = ", ".join(column for column in found if column != "number")
    with ExitStack() as stack:
        if name in RESOURCES:
            without_trigger = backend_of(connection.engine.url).without_trigger
            stack.enter_context(without_trigger(connection.exec_driver_sql, name, "log_created"))
        op.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM old_{name}")
    op.execute(f"DROP TABLE old_{name}")
