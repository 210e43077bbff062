"""What PostgreSQL does its own way: isolation levels, and a lock in whose order the changes are numbered."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql import insert

__all__ = ["insert"]

ENGINE_OPTIONS: dict[str, Any] = {"connect_args": {"connect_timeout": 5}}
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# It is a server, perhaps far away, that reads.
CAN_BOUND = False
# SQLSTATE classes and codes: lost connections, too many of them, shutdowns; a lock not had in time, a deadlock.
UNAVAILABLE = ("08", "53300", "57P", "55P03", "40")
# "cardfile" as a number. The triggers of the change log take the same one.
LOCK = "SELECT pg_advisory_xact_lock(x'6361726466696c65'::bigint)"
BEGIN_WRITING = ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", LOCK)


def version(connection: Connection) -> str:
    """Return the server's version."""
    return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar()}"


def is_full(error: Any) -> bool:
    """Tell whether the driver's error means that the disk is full."""
    return getattr(error, "sqlstate", None) == "53100"


def is_unavailable(error: Any) -> bool:
    """Tell whether the driver's error means that the server is busy or gone, and may not be a moment later."""
    # What never reached a server has no state: a refused or broken connection.
    state = getattr(error, "sqlstate", None)
    return state.startswith(UNAVAILABLE) if state else type(error).__name__ == "OperationalError"


def prepare(connection: Any, _record: object) -> None:
    """Prepare a new connection: times in UTC, and no waiting for ever."""
    from psycopg.types.string import TextLoader

    connection.autocommit = True
    connection.execute("SET TIME ZONE 'UTC'")
    connection.execute("SET lock_timeout = '5s'")
    connection.autocommit = False
    # The JSON that the server writes is passed on as it is.
    connection.adapters.register_loader("json", TextLoader)


def begin(connection: Connection) -> None:
    """Open the transaction in the mode that the connection's option `begin` names, as SQLite calls it.

    DEFERRED reads from one snapshot; IMMEDIATE is the only one to write until its end; None leaves it to the caller.
    """
    from psycopg import IsolationLevel

    mode = connection.get_execution_options().get("begin", "DEFERRED")
    driver: Any = connection.connection.driver_connection
    driver.read_only = mode == "DEFERRED"
    # A writer waits for the lock first, and must then see what was committed while it waited.
    driver.isolation_level = IsolationLevel.REPEATABLE_READ if mode == "DEFERRED" else IsolationLevel.READ_COMMITTED
    if mode == "IMMEDIATE":
        connection.exec_driver_sql(LOCK)


def prepare_reading(connection: Any) -> None:
    """Prepare a driver's connection whose statements each read from a snapshot of their own."""
    connection.autocommit = True


def bound(_connection: Any, _on: bool) -> None:
    """Can't be done here, see CAN_BOUND."""


@contextmanager
def upgrading(connection: Connection) -> Iterator[None]:
    """Run the block in a writing transaction, alone; what it doesn't commit is undone."""
    connection.exec_driver_sql(LOCK)
    try:
        yield
    finally:
        connection.rollback()


@contextmanager
def bulk_search(_connection: Connection, _name: str) -> Iterator[None]:
    """Run the block: there is no index of text to keep."""
    yield


def broken_references(_connection: Connection) -> list[str]:
    """Return nothing: no transaction can leave a broken reference."""
    return []


def damages(_connection: Connection) -> list[str]:
    """Return nothing: pg_amcheck looks into a server's files."""
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
        UNION ALL SELECT tgname, pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger
            JOIN pg_class ON pg_class.oid = tgrelid JOIN here ON relnamespace = here.oid WHERE NOT tgisinternal
        UNION ALL SELECT proname || '()', prosrc FROM pg_proc JOIN here ON pronamespace = here.oid
        """
    )
    own = f"{connection.exec_driver_sql('SELECT current_schema()').scalar()}."
    return {name: sql.replace(own, "") for name, sql in rows}


@contextmanager
def scratch(engine: Engine) -> Iterator[Connection]:
    """Give a connection to an empty schema, which is gone at the block's end."""
    with engine.connect().execution_options(begin=None) as connection:
        connection.exec_driver_sql("CREATE SCHEMA cardfile_scratch")
        connection.exec_driver_sql("SET LOCAL search_path TO cardfile_scratch")
        yield connection
        connection.rollback()
