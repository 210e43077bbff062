"""SQLite: PRAGMAs, one writer at a time, checks of the file."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert

from database.search import bulk_indexing
from formats.matching import address_value, fold_text

try:
    from pysqlite3 import dbapi2
except ImportError:
    import sqlite3 as dbapi2
driver: ModuleType = dbapi2

__all__ = ["bulk_indexing", "insert"]

ENGINE_OPTIONS = {"module": driver}
BUSY_MILLISECONDS = 5000
WAL_BYTES = 8 * 1024 * 1024
INTERRUPTED = "SQLITE_INTERRUPT"
# Steps of SQLite's virtual machine between calls of the progress handler: a page of 50 rows takes a tenth of them.
PROGRESS_STEPS = 20_000
BEGIN_SNAPSHOT = "BEGIN"
BEGIN_WRITING = ("BEGIN IMMEDIATE",)
TABLES = "alembic_version", "changes", "companies"
IS_OWN = f"SELECT count(*) = 0 OR sum(name IN {TABLES}) = {len(TABLES)} FROM sqlite_master"
UNAVAILABLE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR")
WAL_RESET_BUG = (
    ", which can corrupt a file in rare cases: install pysqlite3, or on ARM64 run a Python with SQLite 3.51.3 or newer,"
    " as `uv python install` has it"
)
DAMAGED = "The database's file is damaged: restore a backup."
READ_ONLY = "The database's file, its -wal and -shm or its folder can't be written: see owner and mode."


def has_wal_reset_bug(version: tuple[int, ...] = driver.sqlite_version_info) -> bool:
    """Tell whether this SQLite can corrupt a WAL file when two connections checkpoint at once (fixed in 3.51.3)."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


def version(_execute: Any) -> str:
    """Return SQLite's version, and what to do if it has the WAL-reset bug."""
    return f"SQLite {driver.sqlite_version}{WAL_RESET_BUG if has_wal_reset_bug() else ''}"


def error_name(error: Any) -> str:
    """Return the SQLite result code of an error of the driver, such as SQLITE_BUSY, or ""."""
    return getattr(error, "sqlite_errorname", "") or ""


def is_full(error: Any) -> bool:
    """Tell whether the driver's error means that the disk is full."""
    return error_name(error) == "SQLITE_FULL" or "disk is full" in str(error)


def is_unavailable(error: Any) -> bool:
    """Tell whether the driver's error means that the file is locked or out of reach, perhaps only for a moment."""
    return error_name(error).startswith(UNAVAILABLE)


def fault(error: Any) -> str | None:
    """Return the sentence about a fault that the operator must fix, or None for another error."""
    if error_name(error).startswith("SQLITE_READONLY"):
        return READ_ONLY
    return DAMAGED if error_name(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) else None


def limit_reads(connection: Any, is_overdue: Callable[[], bool], _seconds: float) -> bool:
    """Interrupt a statement of the connection when is_overdue() returns True; tell that it has a progress handler."""
    connection.set_progress_handler(is_overdue, PROGRESS_STEPS)
    return True


def prepare(connection: Any, _record: object) -> None:
    """Prepare a new connection: autocommit, a timeout for locks, durable commits, foreign keys."""
    # Autocommit: the driver must not begin transactions by itself.
    connection.isolation_level = None
    # Another program may have stored invalid UTF-8: such a row is shown with replacement characters.
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    for name, function in ("ip_value", address_value), ("fold_text", lambda text: text and fold_text(text)):
        connection.create_function(name, 1, function, deterministic=True)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    # The file of another program will be refused, and must not be changed before.
    if connection.execute(IS_OWN).fetchone()[0]:
        connection.execute("PRAGMA journal_mode = WAL")
    # A WAL file that grew during a long read is truncated to this when a write restarts it.
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # With it, older versions refuse the JSON functions in the schema.
    if driver.sqlite_version_info >= (3, 51):
        connection.execute("PRAGMA trusted_schema = OFF")


def connect(path: str, mode: str) -> Any:
    """Connect to a file in a mode of SQLite's URIs: rw, or rwc to create it (sqlite.org/uri.html)."""
    return driver.connect(f"{Path(path).as_uri()}?mode={mode}", uri=True, check_same_thread=False)


def is_undamaged(path: str) -> bool:
    """Tell whether a file has all of its pages; SQLite reads the whole file."""
    # On a new connection, because another one may have cached pages that the file no longer has.
    with suppress(driver.Error), closing(connect(path, "rw")) as connection:
        prepare(connection, None)
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    return False


def is_writable(path: Path) -> bool:
    """Tell whether SQLite can write the file, if it exists, and the WAL in its folder."""
    return not any(os.access(each, os.F_OK) and not os.access(each, os.W_OK) for each in (path.parent, path))


def connect_to_read(path: Path) -> Any:
    """Connect to a file to read it, also if it can't be written.

    Raises the driver's error if SQLite would have to write in order to read the WAL or journal.
    """
    path = Path(os.path.realpath(path))
    if is_writable(path):
        return driver.connect(path)
    beside = [Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal")]
    names = [each.name for each in beside if each.exists() and each.stat().st_size]
    # SQLite reads an immutable file without the files beside it, and without locks.
    connection = driver.connect(f"{path.as_uri()}?{'mode=ro' if names else 'immutable=1'}", uri=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except driver.Error:
        connection.close()
        if not names:
            raise
        files = " and ".join([path.name, *names])
        reason = f"SQLite must write to read {names[0]}: copy {files} to a folder that can be written"
        raise driver.OperationalError(reason) from None
    return connection


def engine_of(path: Path) -> Engine:
    """Return an engine for a file that is not the app's database."""
    engine = create_engine(URL.create("sqlite", database=str(path)), **ENGINE_OPTIONS)
    event.listen(engine, "connect", prepare)
    return engine


def copy_pages(source: Path, target: Path, synchronous: str = "FULL") -> None:
    """Replace the content of a database by that of another, in one transaction (SQLite's online backup)."""
    with closing(connect_to_read(source)) as reader, closing(driver.connect(target)) as writer:
        writer.execute(f"PRAGMA synchronous = {synchronous}")
        reader.backup(writer)


def begin_history(path: Path, suffix: str = "") -> None:
    """Give a copy a new Dataset-Id, because its next changes may differ from the original's."""
    with closing(driver.connect(path)) as connection, connection:
        # The first schema lacks the table.
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'dataset'").fetchone():
            connection.execute("UPDATE dataset SET id = ?", (f"{uuid4()}{suffix}",))


@contextmanager
def upgrading(connection: Connection) -> Iterator[None]:
    """Run the block in a writing transaction that may rebuild tables; what it doesn't commit is rolled back."""
    # Otherwise dropping the old table of a rebuilt one would set the columns that refer to it to null.
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


@contextmanager
def without_trigger(execute: Callable[..., Any], table: str, name: str) -> Iterator[None]:
    """Run the block without a trigger of a table, inside a writing transaction."""
    [trigger] = execute(f"SELECT sql FROM sqlite_master WHERE name = '{table}_{name}'").fetchone()
    execute(f"DROP TRIGGER {table}_{name}")
    yield
    execute(trigger)


def erase_free_pages(execute: Callable[..., Any], resource: str) -> None:
    """Remove deleted data from the search index, the file's free pages and the WAL.

    Writers wait meanwhile. Raises the driver's error when another transaction doesn't end.
    """
    execute(f"INSERT INTO {resource}_search ({resource}_search) VALUES ('optimize')")
    execute("VACUUM")
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    # SQLite waits for transactions, but not for another connection's checkpoint.
    while execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            error = driver.OperationalError("another transaction does not end")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error
        time.sleep(0.01)


def broken_references(connection: Connection) -> list[str]:
    """Return a sentence for each row that refers to one that is missing."""
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check")
    return [f"row {rowid} of {table} refers to a row of {parent} that is missing" for table, rowid, parent, _ in rows]


def schema_of(connection: Connection) -> dict[str, str]:
    """Return the SQL of every table, index and trigger, by name."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {row.name: row.sql for row in rows}
