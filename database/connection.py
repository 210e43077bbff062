"""The connection of a request: statements that are compiled once, snapshots, and the one writing transaction.

Statements run on the driver's connection. SQLite takes 4 µs for one, SQLAlchemy's exec_driver_sql() 13 µs, execute()
25 µs: with exec_driver_sql(), single reads would be 19 to 28 % slower (`make bench ABLATE=driver-connection`).
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from flask import current_app, g, request

from database.backend import backend_of
from database.identity import DatabaseFile, LostFile
from database.slots import Slots
from database.statement import Source, Statement
from database.write_lock import WriteLock

MAX_STATEMENTS = 1_000
LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM changes"
# Reading a large page takes several times its size in memory, and more threads read no faster: this many read at a
# time, and others wait for at most MAX_WAIT_SECONDS.
MAX_LARGE_READS = 2
MAX_WAIT_SECONDS = 2
# A read is a long one after this many calls of SQLite's progress handler (every few milliseconds), or seconds.
SHORT_CALLBACKS = 20
SHORT_SECONDS = 0.5
MAX_READ_SECONDS = 5
# The key of waitress's task in the WSGI environ: the task tells whether the client has gone.
TASK = "cardfile.task"


class TooManyLongReads(Exception):
    """Long reads of other clients hold all slots for long reads."""


class ReadTimeout(Exception):
    """A statement took MAX_READ_SECONDS, though no other long read ran at its end."""


class Connection:
    """A connection to the database, in autocommit mode until a transaction is begun."""

    def __init__(self, pooled: Any, pool: "Connections") -> None:
        self.pooled, self.pool = pooled, pool
        self.driver = pooled.driver_connection
        self.in_transaction = self.has_slot = False
        # The start of execute_read()'s statement, and the calls of the progress handler since.
        self.read_since, self.callbacks = math.inf, 0
        self.has_progress = pool.backend.limit_reads(self.driver, self.is_overdue, MAX_READ_SECONDS)

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run SQL and return the driver's cursor; rows have the driver's types."""
        return self.driver.execute(sql, values)

    def is_overdue(self) -> bool:
        """Tell SQLite whether to interrupt the statement; a long read needs a slot to continue."""
        seconds, self.callbacks = time.monotonic() - self.read_since, self.callbacks + 1
        if seconds < 0:
            return False
        is_gone = TASK in request.environ and request.environ[TASK].is_client_gone()
        # While all slots are taken, the read will probably be refused: refuse it sooner, so that many cost little.
        is_full = self.pool.long_reads.taken == self.pool.long_reads.count
        is_long = self.callbacks > SHORT_CALLBACKS // (4 if is_full else 1) or seconds > SHORT_SECONDS
        return is_gone or (is_long and (not self.take_slot() or seconds > MAX_READ_SECONDS))

    def take_slot(self) -> bool:
        """Take a slot for long reads until the end of the request, unless it has one; tell whether it has one now."""
        self.has_slot = self.has_slot or self.pool.long_reads.acquire()
        return self.has_slot

    def begin(self, *statements: str) -> None:
        """Begin a transaction by these statements."""
        for sql in statements:
            self.execute(sql)
            self.in_transaction = True

    def end(self, sql: str = "ROLLBACK") -> None:
        """End the transaction, if there is one; on a full disk, SQLite has rolled it back already."""
        if self.in_transaction and (sql == "COMMIT" or getattr(self.driver, "in_transaction", True)):
            self.execute(sql)
        self.in_transaction = False

    def release(self) -> None:
        """End the snapshot, if there is one, and return the connection to the pool; close it if it is broken."""
        try:
            self.end()
            self.release_slot()
            self.pool.idle.append(self)
        except self.pool.engine.dialect.loaded_dbapi.Error:
            self.close()

    def close(self) -> None:
        """Close the connection, because it may be broken."""
        self.release_slot()
        self.pooled.invalidate()

    def release_slot(self) -> None:
        """Release the slot of a long read, if the request has one."""
        if self.has_slot:
            self.has_slot = False
            self.pool.long_reads.release()


class Connections:
    """The app's pool of connections, with its compiled statements, its write lock, and its file on SQLite."""

    def __init__(self, engine: sa.Engine, file: DatabaseFile | None, threads: int) -> None:
        self.engine, self.file = engine, file
        self.write_lock = WriteLock(file.record.lock if file else None, threads // 4)
        self.large_reads = threading.BoundedSemaphore(MAX_LARGE_READS)
        # Half of the threads are left to other requests.
        self.long_reads = Slots(threads // 2, patience=0.2)
        self.backend = backend_of(engine.url)
        # Without it, single reads on Granian would be 20 % slower (`make bench ABLATE=idle-connections`).
        self.idle: deque[Connection] = deque()
        self.compile = lru_cache(MAX_STATEMENTS)(self.compile_uncached)
        # Called with the number of the first change that the transaction may have made.
        self.before_commit: Callable[[int], None] = lambda _first: None

    def compile_uncached(self, source: Source, *arguments: Any) -> Statement:
        """Return the compiled statement."""
        return Statement(source(*arguments) if callable(source) else source, self.engine.dialect)

    @contextmanager
    def large_read(self) -> Iterator[None]:
        """Run the block, which reads a large page, after waiting for other large reads. Raises TooManyLongReads."""
        if not connection().take_slot():
            raise TooManyLongReads
        has_turn = self.large_reads.acquire(timeout=MAX_WAIT_SECONDS)
        try:
            yield
        finally:
            if has_turn:
                self.large_reads.release()

    def is_disk_full(self, error: BaseException) -> bool:
        """Tell whether an error means that the disk is full, or a quota is used up."""
        cause = getattr(error, "orig", error)
        has_room = not (self.file and "disk I/O error" in str(cause)) or self.file.has_room()
        return self.backend.is_full(cause) or not has_room

    def open(self) -> Connection:
        """Return an idle connection, or a new one."""
        try:
            return self.idle.pop()
        except IndexError:
            return Connection(self.engine.raw_connection(), self)

    def close(self) -> None:
        """Close the idle connections."""
        while self.idle:
            self.idle.pop().close()


def connections() -> Connections:
    """Return the app's connections."""
    found: Connections = current_app.extensions["connections"]
    return found


def connection() -> Connection:
    """Return the connection of this app context."""
    current: Connection | None = g.get("connection")
    if current is None:
        current = g.connection = connections().open()
    return current


def detach_connection() -> Connection:
    """Take the connection out of this context, for a response that is sent after the context's end.

    To use it, the caller sets g.connection again; at the end, it calls release(). Raises TooManyLongReads.
    """
    current = connection()
    if not current.take_slot():
        raise TooManyLongReads
    del g.connection
    return current


def release_connection(_error: BaseException | None = None) -> None:
    """Release this context's connection, if it has one."""
    current: Connection | None = g.pop("connection", None)
    if current is not None:
        current.release()


def discard_connections(error: BaseException) -> None:
    """Close this context's connection and the idle ones, because an error may have broken them."""
    pool = connections()
    try:
        if pool.file:
            pool.file.require_in_place()
    except LostFile:
        # The open connections can still read, but no new one can be opened.
        return
    if pool.is_disk_full(error):
        # SQLite deletes the shared memory file with the last connection, and couldn't create it again on a full disk.
        return
    if "connection" in g:
        g.pop("connection").close()
    pool.close()


def execute(source: Source, /, *arguments: Any, **values: Any) -> Any:
    """Run a statement, or the one that source(*arguments) returns, with the values; return the driver's cursor.

    It is compiled once for each set of arguments. Outside of a transaction it reads from a snapshot of its own.
    """
    current = connection()
    statement = current.pool.compile(source, *arguments)
    return current.execute(statement.sql, statement.bind(values))


def execute_read(source: Source, /, *arguments: Any, **values: Any) -> Any:
    """Run a statement like execute(), but not for longer than MAX_READ_SECONDS.

    Raises ReadTimeout or TooManyLongReads, and then ends the snapshot: PostgreSQL would refuse to read from it.
    """
    current = connection()
    # Without a progress handler, any read may be a long one.
    if not (current.has_progress or current.take_slot()):
        raise TooManyLongReads
    current.read_since, current.callbacks = time.monotonic(), 0
    try:
        return execute(source, *arguments, **values)
    except current.pool.engine.dialect.loaded_dbapi.Error as error:
        codes = {getattr(error, name, "") for name in ("sqlite_errorname", "sqlstate")}
        if current.pool.backend.INTERRUPTED not in codes:
            raise
        current.read_since = math.inf
        current.end()
        raise (TooManyLongReads if current.pool.long_reads.taken > current.has_slot else ReadTimeout) from None
    finally:
        current.read_since = math.inf


def execute_many(source: Source, /, *arguments: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    """Run a statement, or the one that source(*arguments) returns, once for each row of values."""
    current = connection()
    statement = current.pool.compile(source, *arguments)
    current.driver.cursor().executemany(statement.sql, [statement.bind(values) for values in rows])


def begin_snapshot() -> None:
    """Read from one snapshot until the end of the request; a transaction that has begun already stays."""
    if not (current := connection()).in_transaction:
        current.begin(current.pool.backend.BEGIN_SNAPSHOT)


@contextmanager
def write_transaction(keep: bool = True) -> Iterator[None]:
    """Run the block in a writing transaction: committed at its end, rolled back when it raises, or with keep=False.

    Raises WriteLockTimeout when other writers take too long, and LostFile. It can't be nested.
    """
    # A snapshot can't become a writing transaction once another connection has written.
    release_connection()
    current = connection()
    file = current.pool.file
    with current.pool.write_lock.hold() as lock:
        try:
            current.begin(*current.pool.backend.BEGIN_WRITING)
            # On SQLite, this also reads the schema again, which a bulk load in another process may have changed.
            [last] = current.execute(LAST_SEQ).fetchone()
            yield
            if keep:
                current.pool.before_commit(last + 1)
            last_change = file.require_current(current) if file and keep else None
            current.end("COMMIT" if keep else "ROLLBACK")
            if file and last_change and lock is not None:
                file.record.write(lock, *last_change)
        except BaseException:
            release_connection()
            raise
