"""PostgreSQL: isolation levels, and the advisory lock that orders the numbers of changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

__all__ = ["insert"]

ENGINE_OPTIONS: dict[str, Any] = {"connect_args": {"connect_timeout": 5}}
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
INTERRUPTED = "57014"
# SQLSTATE classes and codes: connection lost, too many connections, shutdown, lock timeout, deadlock.
UNAVAILABLE = ("08", "53300", "57P", "55P03", "40", INTERRUPTED)
# "cardfile" as a number. The change log's triggers take the same lock.
LOCK = "SELECT pg_advisory_xact_lock(x'6361726466696c65'::bigint)"
# Writing transactions have no statement timeout.
NO_LIMIT = LOCK.replace("SELECT", "SELECT set_config('statement_timeout', '0', true),")
BEGIN_WRITING = ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", NO_LIMIT)


def version(execute: Any) -> str:
    """Return the server's version."""
    return f"PostgreSQL {execute('SHOW server_version').fetchone()[0]}"


def is_full(error: Any) -> bool:
    """Tell whether the driver's error means that the disk is full."""
    return getattr(error, "sqlstate", None) == "53100"


def is_unavailable(error: Any) -> bool:
    """Tell whether the driver's error means that the server is busy or gone, perhaps only for a moment."""
    # Errors of the connection itself have no SQLSTATE.
    state = getattr(error, "sqlstate", None)
    return state.startswith(UNAVAILABLE) if state else type(error).__name__ == "OperationalError"


def limit_reads(connection: Any, _is_overdue: Callable[[], bool], seconds: float) -> bool:
    """Cancel each statement of the connection after this many seconds; BEGIN_WRITING lifts the limit."""
    connection.execute(f"SET statement_timeout = '{seconds}s'")
    return False


def fault(_error: Any) -> None:
    """Return None: faults that the operator must fix are in the log of the PostgreSQL server."""


def prepare(connection: Any, _record: object) -> None:
    """Prepare a new connection: autocommit, times in UTC, a timeout for locks, JSON as text."""
    from psycopg.types.string import TextLoader

    connection.autocommit = True
    connection.execute("SET TIME ZONE 'UTC'")
    connection.execute("SET lock_timeout = '5s'")
    connection.adapters.register_loader("json", TextLoader)


@contextmanager
def upgrading(connection: Connection) -> Iterator[None]:
    """Run the block in the only writing transaction; what it doesn't commit is rolled back."""
    for sql in BEGIN_WRITING:
        connection.exec_driver_sql(sql)
    try:
        yield
    finally:
        connection.rollback()


@contextmanager
def bulk_indexing(_execute: Any, _table: Any) -> Iterator[None]:
    """Run the block: there is no search index on PostgreSQL."""
    yield


@contextmanager
def without_trigger(execute: Any, table: str, name: str) -> Iterator[None]:
    """Run the block without a trigger of a table, inside a writing transaction."""
    execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_{name}")
    yield
    execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_{name}")


def erase_free_pages(_execute: Any, _resource: str) -> None:
    """Do nothing: autovacuum frees the space of dead rows."""


def broken_references(_connection: Connection) -> list[str]:
    """Return nothing: PostgreSQL always enforces foreign keys."""
    return []


def schema_of(connection: Connection) -> dict[str, str]:
    """Return the SQL of every constraint, index, trigger and function, and the type of every column, by name."""
    rows = connection.exec_driver_sql(
        """
        WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        SELECT relname || '.' || attname, format_type(atttypid, atttypmod) FROM pg_attribute
            JOIN pg_class ON pg_class.oid = attrelid JOIN here ON relnamespace = here.oid
            WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT conname, pg_get_constraintdef(pg_constraint.oid) FROM pg_constraint
            JOIN here ON connamespace = here.oid
        UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT tgname, pg_get_triggerdef(pg_trigger.oid) || CASE tgenabled WHEN 'O' THEN '' ELSE ' OFF' END
            FROM pg_trigger
            JOIN pg_class ON pg_class.oid = tgrelid JOIN here ON relnamespace = here.oid WHERE NOT tgisinternal
        UNION ALL SELECT proname || '()', prosrc FROM pg_proc JOIN here ON pronamespace = here.oid
        """
    )
    prefix = f"{connection.exec_driver_sql('SELECT current_schema()').scalar()}."
    return {name: sql.replace(prefix, "") for name, sql in rows}
