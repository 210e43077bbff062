"""The connection of a request: statements that are compiled once, snapshots, and the one writing transaction.

Statements run on the driver's connection. SQLAlchemy would take longer to execute one (execute() 25 µs,
exec_driver_sql() 13 µs) than SQLite does (4 µs): single reads would be 19 to 28 % slower by exec_driver_sql()
(`make bench ABLATE=driver-connection`).
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app, g, request

from database.backend import backend_of
from database.identity import DatabaseFile, LostFile
from database.slots import Slots
from database.statement import Source, Statement
from database.write_lock import WriteLock

MAX_STATEMENTS = 1_000
LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM changes"
# A large page takes its memory several times while it is read, and more threads read it no faster. Behind slow ones,
# a read waits no longer than this.
MAX_LARGE_READS = 2
MAX_WAIT_SECONDS = 2
# A read is a long one after so many reports of SQLite, which come every few milliseconds, or so many seconds.
SHORT_REPORTS = 20
SHORT_SECONDS = 0.5
MAX_READ_SECONDS = 5
# The key of the WSGI environment under which waitress has its task, which knows the client.
TASK = "cardfile.task"


class TooManyLongReads(Exception):
    """Other clients' long reads hold all of the threads that such reads may have."""


class ReadTimeout(Exception):
    """A statement took MAX_READ_SECONDS, though no other long read ran at its end."""


class Connection:
    """A connection to the database, in autocommit mode until a transaction is begun."""

    def __init__(self, pooled: Any, home: "Connections") -> None:
        self.pooled, self.home = pooled, home
        self.driver = pooled.driver_connection
        self.in_transaction = self.has_slot = False
        # When the statement of execute_read() began, and how many reports of its progress there were.
        self.read_since, self.reports = math.inf, 0
        self.has_progress = home.backend.limit_reads(self.driver, self.is_overdue, MAX_READ_SECONDS)

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run SQL and return the driver's cursor; rows have the driver's types."""
        return self.driver.execute(sql, values)

    def is_overdue(self) -> bool:
        """Tell SQLite whether to break off the statement; a long read needs a slot to go on."""
        seconds, self.reports = time.monotonic() - self.read_since, self.reports + 1
        if seconds < 0:
            return False
        is_gone = TASK in request.environ and request.environ[TASK].is_client_gone()
        # Where all slots are taken, the read will probably be refused: sooner, so that many of them cost little.
        is_full = self.home.long_reads.taken == self.home.long_reads.count
        is_long = self.reports > SHORT_REPORTS // (4 if is_full else 1) or seconds > SHORT_SECONDS
        return is_gone or (is_long and (not self.take_slot() or seconds > MAX_READ_SECONDS))

    def take_slot(self) -> bool:
        """Count the request among the long reads until its end; tell whether it may be one."""
        self.has_slot = self.has_slot or self.home.long_reads.acquire()
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
        """Return the connection to the idle ones; a snapshot that it holds ends. A broken connection is closed."""
        try:
            self.end()
            self.free_slot()
            self.home.idle.append(self)
        except self.home.engine.dialect.loaded_dbapi.Error:
            self.close()

    def close(self) -> None:
        """Close the connection, because it may be broken."""
        self.free_slot()
        self.pooled.invalidate()

    def free_slot(self) -> None:
        """Count the request among the long reads no longer."""
        if self.has_slot:
            self.has_slot = False
            self.home.long_reads.release()


class Connections:
    """The app's idle connections, its compiled statements, the lock of its writers, and its file, if it is SQLite's."""

    def __init__(self, engine: sa.Engine, file: DatabaseFile | None, threads: int) -> None:
        self.engine, self.file = engine, file
        self.write_lock = WriteLock(file.record.lock if file else None, threads // 4)
        self.large_reads = threading.BoundedSemaphore(MAX_LARGE_READS)
        # Half of the threads are left to other requests.
        self.long_reads = Slots(threads // 2, patience=0.2)
        self.backend = backend_of(engine.url)
        self.idle: deque[Connection] = deque()
        self.compile = lru_cache(MAX_STATEMENTS)(self.compile_anew)
        # Called with the number of the first change that the transaction may have made.
        self.before_commit: Callable[[int], None] = lambda _first: None

    def compile_anew(self, source: Source, *arguments: Any) -> Statement:
        """Return the compiled statement."""
        return Statement(source(*arguments) if callable(source) else source, self.engine.dialect)

    @contextmanager
    def large_read(self) -> Iterator[None]:
        """Run the block, which reads a large page, while few others do. Raises TooManyLongReads."""
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


def init_connections(app: Flask, engine: sa.Engine, file: DatabaseFile | None, threads: int) -> None:
    """Give the app its connections; writers of several processes take turns by the file's lock file."""
    app.extensions["connections"] = Connections(engine, file, threads)
    app.teardown_appcontext(release_connection)


def connections() -> Connections:
    """Return the app's connections."""
    found: Connections = current_app.extensions["connections"]
    return found


def connection() -> Connection:
    """Return the connection of this app context."""
    own: Connection | None = g.get("connection")
    if own is None:
        own = g.connection = connections().open()
    return own


def detach_connection() -> Connection:
    """Take the connection out of this context, for a response that is sent after the context's end.

    The caller sets g.connection again where it is used, and calls release_detached(). Raises TooManyLongReads.
    """
    own = connection()
    if not own.take_slot():
        raise TooManyLongReads
    del g.connection
    return own


def release_detached(own: Connection) -> None:
    """Release a detached connection; what was written during its snapshot can then leave SQLite's WAL file."""
    with suppress(own.home.engine.dialect.loaded_dbapi.Error):
        own.end()
        for sql in own.home.backend.AFTER_SNAPSHOT:
            own.execute(sql)
    own.release()


def release_connection(_error: BaseException | None = None) -> None:
    """Release this context's connection, if it has one."""
    own: Connection | None = g.pop("connection", None)
    if own is not None:
        own.release()


def discard_connections(error: BaseException) -> None:
    """Close this context's connection and the idle ones, because an error may have broken them."""
    home = connections()
    try:
        if home.file:
            home.file.require_in_place()
    except LostFile:
        # Reads go on by the open connections: none can be opened.
        return
    if home.is_disk_full(error):
        # With its last connection, SQLite deletes the shared memory, and couldn't create it again to read.
        return
    if "connection" in g:
        g.pop("connection").close()
    home.close()


def execute(source: Source, /, *arguments: Any, **values: Any) -> Any:
    """Run a statement, or the one that source(*arguments) returns, with the values; return the driver's cursor.

    It is compiled once for each set of arguments. Outside of a transaction it reads from a snapshot of its own.
    """
    own = connection()
    statement = own.home.compile(source, *arguments)
    return own.execute(statement.sql, statement.bind(values))


def execute_read(source: Source, /, *arguments: Any, **values: Any) -> Any:
    """Run a statement like execute(), but not for longer than MAX_READ_SECONDS.

    Raises ReadTimeout, or TooManyLongReads, and ends a snapshot: PostgreSQL would refuse to read on in it.
    """
    own = connection()
    # Any read may be a long one where the driver reports no progress.
    if not (own.has_progress or own.take_slot()):
        raise TooManyLongReads
    own.read_since, own.reports = time.monotonic(), 0
    try:
        return execute(source, *arguments, **values)
    except own.home.engine.dialect.loaded_dbapi.Error as error:
        if own.home.backend.BROKEN_OFF not in {getattr(error, name, "") for name in ("sqlite_errorname", "sqlstate")}:
            raise
        own.read_since = math.inf
        own.end()
        raise (TooManyLongReads if own.home.long_reads.taken > own.has_slot else ReadTimeout) from None
    finally:
        own.read_since = math.inf


def execute_many(source: Source, /, *arguments: Any, rows: Iterable[Mapping[str, Any]]) -> None:
    """Run a statement, or the one that source(*arguments) returns, once for each row of values."""
    own = connection()
    statement = own.home.compile(source, *arguments)
    own.driver.cursor().executemany(statement.sql, [statement.bind(values) for values in rows])


def begin_snapshot() -> None:
    """Read from one snapshot until the end of the request, the present one if it has begun already."""
    if not (own := connection()).in_transaction:
        own.begin(own.home.backend.BEGIN_SNAPSHOT)


@contextmanager
def write_transaction(keep: bool = True) -> Iterator[None]:
    """Run the block in a writing transaction: committed at its end, rolled back when it raises, or with keep=False.

    Raises WriteLockTimeout when other writers take too long, and LostFile. It can't be nested.
    """
    # A snapshot can't become a writing transaction once another connection has written.
    release_connection()
    own = connection()
    file = own.home.file
    with own.home.write_lock.hold() as lock:
        try:
            own.begin(*own.home.backend.BEGIN_WRITING)
            # On SQLite, it reads the schema again, too: a bulk load that ended meanwhile has changed it.
            [last] = own.execute(LAST_SEQ).fetchone()
            yield
            if keep:
                own.home.before_commit(last + 1)
            last_change = file.require_current(own) if file and keep else None
            own.end("COMMIT" if keep else "ROLLBACK")
            if file and last_change and lock is not None:
                file.record.write(lock, *last_change)
        except BaseException as error:
            try:
                own.end()
            except own.home.engine.dialect.loaded_dbapi.Error:
                # The transaction is already over, or its state is unknown.
                discard_connections(error)
            raise
