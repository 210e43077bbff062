"""What SQLite does its own way: a file, PRAGMAs, one writer at a time, FTS5."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert

try:
    from pysqlite3 import dbapi2
except ImportError:
    import sqlite3 as dbapi2
driver: ModuleType = dbapi2

__all__ = ["insert"]

ENGINE_OPTIONS = {"module": driver}
BUSY_MILLISECONDS = 5000
# SQLITE_CONFIG_MEMSTATUS.
MEMORY_STATUS = 9
BEGIN_SNAPSHOT = "BEGIN"
# Who waited while another program changed the schema reads it anew; else the next statement would find no tables.
BEGIN_WRITING = ("BEGIN IMMEDIATE", "SELECT 1 FROM sqlite_master")
# It is this process that reads, so it can also tell how long it does.
CAN_BOUND = True
# Steps of SQLite's machine: a page of some hundred rows, or a few milliseconds.
MOST_STEPS = 20_000
UNAVAILABLE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR")


def stop_counting_memory() -> None:
    """Have SQLite not count what it allocates, which it does under one lock: lists read at once would wait for it.

    It must come before the first connection. Where the library can't be reached so, it goes on counting.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(sys.modules[driver.connect.__module__].__file__)
        library.sqlite3_shutdown()
        library.sqlite3_config(MEMORY_STATUS, 0)
        library.sqlite3_initialize()


stop_counting_memory()


def has_wal_reset_bug(version: tuple[int, ...] = driver.sqlite_version_info) -> bool:
    """Tell whether this SQLite can corrupt a WAL file when two connections checkpoint at once (fixed in 3.51.3)."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


def version(_connection: Connection) -> str:
    """Return the library's version, and whether it is a sound one."""
    bug = ", which can corrupt a file in rare cases: 3.51.3 or newer can't" if has_wal_reset_bug() else ""
    return f"SQLite {driver.sqlite_version}{bug}"


def is_full(error: Any) -> bool:
    """Tell whether the driver's error means that the disk is full."""
    return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or "disk is full" in str(error)


def is_unavailable(error: Any) -> bool:
    """Tell whether the driver's error means that the file is locked or out of reach, and may not be a moment later."""
    return (getattr(error, "sqlite_errorname", "") or "").startswith(UNAVAILABLE)


def prepare(connection: Any, _record: object) -> None:
    """Prepare a new connection: wait for locks, then keep every committed row, and every reference, true."""
    # The driver must not open transactions by itself: begin() does.
    connection.isolation_level = None
    # Any program may have stored what isn't UTF-8: shown in part, it hides no row.
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Older versions don't let a schema that isn't trusted use JSON functions, as ours does.
    if driver.sqlite_version_info >= (3, 51):
        connection.execute("PRAGMA trusted_schema = OFF")


def begin(connection: Connection) -> None:
    """Open the transaction in the mode that the connection's option `begin` names; None leaves it to the caller."""
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    if mode == "IMMEDIATE":
        for statement in BEGIN_WRITING:
            connection.exec_driver_sql(statement).close()
    elif mode is not None:
        connection.exec_driver_sql(f"BEGIN {mode}")


def prepare_reading(_connection: Any) -> None:
    """Prepare a driver's connection whose statements each read from a snapshot of their own: it does so already."""


def bound(connection: Any, on: bool) -> None:
    """Have a driver's connection break off, by an error, what takes more than MOST_STEPS from here on; or no more."""
    # SQLite counts on from a statement's earlier runs, so the first call may come at its very beginning.
    calls = count()
    connection.set_progress_handler((lambda: next(calls) > 1) if on else None, MOST_STEPS // 2 if on else 0)


@contextmanager
def upgrading(connection: Connection) -> Iterator[None]:
    """Run the block in a writing transaction in which tables may be rebuilt; what it doesn't commit is undone."""
    # Rebuilding a table, as later revisions may, would otherwise empty the columns that refer to it.
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


@contextmanager
def bulk_search(connection: Connection, name: str) -> Iterator[None]:
    """Run the block, which inserts many rows into a resource, and index the text of all of them at once at its end.

    Row by row FTS5 writes its index out after every one, which takes three times as long. The trigger that would is
    dropped and made again inside the transaction that is open: nobody else ever sees the table without it.
    """
    index = f"{name}_search"
    execute = connection.exec_driver_sql
    last = execute(f"SELECT coalesce(max(number), 0) FROM {name}").scalar()
    triggers = [f"{index}_insert", f"{index}_update"]
    found = [execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).scalar() for trigger in triggers]
    on_insert, on_update = map(str, found)
    columns = ", ".join(row.name for row in execute(f"SELECT name FROM pragma_table_info('{index}')"))
    for trigger in triggers:
        execute(f"DROP TRIGGER {trigger}")
    # A new row that the block updates again isn't in the index yet, so it can't be taken out of it.
    execute(on_update.replace(" WHEN ", f" WHEN OLD.number <= {last} AND ", 1))
    # Room for the pages of all its indexes, into which rows fall at random.
    execute("PRAGMA cache_size = -65536")
    yield
    execute("PRAGMA cache_size = -2000")
    execute(f"INSERT INTO {index} (rowid, {columns}) SELECT number, {columns} FROM {name} WHERE number > ?", (last,))
    execute(f"DROP TRIGGER {index}_update")
    execute(on_insert)
    execute(on_update)


def broken_references(connection: Connection) -> list[str]:
    """Return a sentence for each row that refers to one that is missing."""
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check")
    return [f"row {rowid} of {table} refers to a row of {parent} that is missing" for table, rowid, parent, _ in rows]


def damages(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong in the file."""
    return [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]


def schema_of(connection: Connection) -> dict[str, str]:
    """Return the SQL of every table, index and trigger, by name."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {row.name: row.sql for row in rows}


@contextmanager
def scratch(_engine: Engine) -> Iterator[Connection]:
    """Give a connection to an empty database, which is gone at the block's end."""
    with TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/new.db", **ENGINE_OPTIONS)
        event.listen(engine, "connect", prepare)
        event.listen(engine, "begin", begin)
        with engine.connect() as connection:
            yield connection
        engine.dispose()
