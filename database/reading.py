"""Past SQLAlchemy's way of execution: statements are compiled once and run on the driver's own connection."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app, g

from database.backend import backend_of

STATEMENTS_KEPT = 1_000


class TakesLong(BaseException):
    """What is read in haste takes long: no error, but a thread that has the time has to start the request anew."""


class Haste(threading.local):
    """Whether this thread must not read for long, because others wait for it."""

    is_on = False


haste = Haste()


class Statement:
    """A SELECT, INSERT, UPDATE or DELETE as its database's SQL, and what it takes to bind values to it."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase, dialect: sa.Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        # What SQLite binds by place, PostgreSQL binds by name.
        self.order: list[str] | None = compiled.positiontup
        types = {name: bind.type.dialect_impl(dialect) for name, bind in compiled.binds.items()}
        found = {name: type_.bind_processor(dialect) for name, type_ in types.items()}
        self.processors = {name: process for name, process in found.items() if process}
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}

    def bind(self, given: Mapping[str, Any]) -> Any:
        """Return the values, and the constants of the statement, as the driver takes them."""
        values = {**self.constants, **given}
        for name, process in self.processors.items():
            values[name] = process(values[name])
        return values if self.order is None else [values[name] for name in self.order]


class Reader:
    """A connection that is read by: every statement by itself, unless a snapshot is opened, or the one that writes."""

    def __init__(self, pooled: Any, reading: "Reading", writes: bool = False) -> None:
        self.pooled, self.reading, self.writes = pooled, reading, writes
        self.connection = pooled.driver_connection
        self.holds_snapshot = False

    def run(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        """Return the driver's cursor, whose rows are as the driver gives them."""
        return self.connection.execute(statement.sql, statement.bind(values))

    def close(self) -> None:
        """Let the next request have the connection, its snapshot gone."""
        if self.holds_snapshot:
            self.connection.execute("ROLLBACK")
            self.holds_snapshot = False
        if haste.is_on:
            self.reading.backend.bound(self.connection, False)
        if not self.writes:
            self.reading.idle.append(self)


class Reading:
    """An app's connections to read by, and its compiled statements: building one costs a hundred times its run."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.backend = backend_of(engine.url)
        self.idle: deque[Reader] = deque()
        self.prepare = lru_cache(STATEMENTS_KEPT)(self.compile)

    def compile(self, build: Callable[..., sa.Select[Any] | sa.UpdateBase], *arguments: Any) -> Statement:
        """Return the statement that the function builds from the arguments."""
        return Statement(build(*arguments), self.engine.dialect)

    def open(self) -> Reader:
        """Return a reader that nobody else has."""
        try:
            reader = self.idle.pop()
        except IndexError:
            reader = Reader(self.engine.raw_connection(), self)
            self.backend.prepare_reading(reader.connection)
        if haste.is_on:
            self.backend.bound(reader.connection, True)
        return reader

    def dispose(self) -> None:
        """Close the connections that nobody reads by."""
        while self.idle:
            self.idle.pop().pooled.invalidate()


def init_reading(app: Flask, engine: sa.Engine) -> None:
    """Let the app's requests read."""
    app.extensions["reading"] = Reading(engine)
    app.teardown_appcontext(end_reading)


def unwrapped(proxy: Any) -> Any:
    """Return what Flask's `g` or `request` stands for now; each look through a proxy costs a tenth of a small query."""
    return proxy._get_current_object()


def reader() -> Reader:
    """Return what this request reads by."""
    here = unwrapped(g)
    found: Reader | None = here.get("reader")
    if found is None:
        found = here.reader = current_app.extensions["reading"].open()
    return found


def read(build: Callable[..., sa.Select[Any]], *arguments: Any, **values: Any) -> Any:
    """Return the cursor of the query that the function builds from the arguments, run with the values.

    It is compiled once. By itself it reads from a snapshot of its own; inside a transaction that writes, from that.
    """
    own = reader()
    return own.run(own.reading.prepare(build, *arguments), values)


def write(build: Callable[..., sa.UpdateBase], *arguments: Any, **values: Any) -> None:
    """Run the INSERT, UPDATE or DELETE that the function builds from the arguments, inside a writing transaction."""
    own = reader()
    own.run(own.reading.prepare(build, *arguments), values)


def hold_snapshot() -> None:
    """Have all that this request reads from here on come from one snapshot, however long it takes."""
    if haste.is_on:
        raise TakesLong
    own = reader()
    own.connection.execute(own.reading.backend.BEGIN_SNAPSHOT)
    own.holds_snapshot = True


@contextmanager
def write_prepared(keep: bool = True) -> Iterator[None]:
    """Run the block in one writing transaction of read() and write(): kept at its end, undone when it raises.

    With keep=False it is undone in any case. It does what write_transaction() does, without a session, which takes as
    long as to store a row.
    """
    # A read that is under way can't become a write once somebody else has written, so it ends here.
    end_reading()
    own = reader()
    execute = own.connection.execute
    try:
        for begin in own.reading.backend.BEGIN_WRITING:
            execute(begin)
        yield
        execute("COMMIT" if keep else "ROLLBACK")
    except BaseException:
        try:
            execute("ROLLBACK")
        except own.reading.engine.dialect.loaded_dbapi.Error:
            # It never began, ended by itself, or nobody knows what became of it.
            drop_reader()
        raise


def read_within(pooled: Any) -> None:
    """Have what is read from here on be read by this connection, which writes."""
    g.reader = Reader(pooled, current_app.extensions["reading"], writes=True)


def drop_reader() -> None:
    """Close the connections that are read by, because they may be broken."""
    if "reader" in g:
        g.pop("reader").pooled.invalidate()
    current_app.extensions["reading"].dispose()


def keep_reader() -> Reader:
    """Return what this request reads by, for it to outlast the request; whoever has it closes it."""
    kept = reader()
    g.pop("reader")
    return kept


def read_by(kept: Reader) -> None:
    """Have what is read from here on be read by what was kept."""
    g.reader = kept


def end_reading(_error: BaseException | None = None) -> None:
    """Let go of what this request read by."""
    found: Reader | None = g.pop("reader", None)
    if found:
        found.close()
