"""The rows of a database of a revision that has changed since, before any release, move to new tables."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection, inspect

from database.backend import backend_of
from migrations.resources import RESOURCES

# In the order of their references.
TABLES = (
    *RESOURCES,
    *("api_keys", "rolled_keys", "replays", "sessions", "key_uses"),
    *("changes", "dataset", "writes"),
    *("webhooks", "webhook_attempts"),
)
# Values of columns that a table may lack.
DEFAULTS = {"webhooks": {"replays": "0"}}


@contextmanager
def kept_rows(connection: Connection) -> Iterator[None]:
    """Drop all tables, run the block, which creates them anew, and insert the rows that they had.

    The rows get new internal numbers. Indexes that an administrator has added are lost.
    """
    found = [name for name in TABLES if inspect(connection).has_table(name)]
    for name in found:
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE old_{name} AS SELECT * FROM {name} ORDER BY 1")
    drop_tables(connection, found)
    connection.exec_driver_sql("DELETE FROM alembic_version")
    yield
    for name in found:
        copy_rows(connection, name)


def drop_tables(connection: Connection, names: list[str]) -> None:
    """Drop the tables with their triggers, and what these use: functions on PostgreSQL, search indexes on SQLite."""
    if connection.dialect.name == "postgresql":
        tables = ", ".join(f"'{name}'::regclass" for name in names)
        query = f"SELECT DISTINCT tgfoid::regprocedure::text FROM pg_trigger WHERE tgrelid IN ({tables})"
        functions = connection.exec_driver_sql(f"{query} AND NOT tgisinternal").scalars().all()
        for function in (*functions, "ip_value(text)"):
            connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {function} CASCADE")
    for name in reversed(names):
        connection.exec_driver_sql(f"DROP TABLE {name}")
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}_search")


def copy_rows(connection: Connection, name: str) -> None:
    """Insert the kept rows of a table, without logging those of a resource: the old log has their changes."""
    execute, defaults = connection.exec_driver_sql, DEFAULTS.get(name, {})
    found = execute(f"SELECT * FROM old_{name} LIMIT 0").keys()
    values = defaults | {column: column for column in found if column != "number"}
    with ExitStack() as stack:
        if name in RESOURCES:
            stack.enter_context(backend_of(connection.engine.url).without_trigger(execute, name, "log_created"))
        # A revision has inserted the row of `dataset`.
        execute(f"DELETE FROM {name}")
        execute(f"INSERT INTO {name} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM old_{name}")
    execute(f"DROP TABLE old_{name}")
