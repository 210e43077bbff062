"""Reading past SQLAlchemy's way of execution: statements are compiled once and run on the driver's own connection."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app, g

from database.backend import backend_of

STATEMENTS_KEPT = 1_000


class Statement:
    """A SELECT as its database's SQL, and what it takes to bind values to it."""

    def __init__(self, select: sa.Select[Any], dialect: sa.Dialect) -> None:
        compiled: Any = select.compile(dialect=dialect)
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
    """A connection that is read by: one snapshot, or the transaction that a request writes in."""

    def __init__(self, pooled: Any, prepare: Callable[..., Statement]) -> None:
        self.pooled, self.prepare = pooled, prepare
        self.connection = pooled.driver_connection

    def run(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        """Return the driver's cursor, whose rows are as the driver gives them."""
        return self.connection.execute(statement.sql, statement.bind(values))


class Reading:
    """An app's engine, and its compiled statements: building and compiling one costs a hundred times its run."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.begin = backend_of(engine.url).begin_reading
        self.prepare = lru_cache(STATEMENTS_KEPT)(self.compile)

    def compile(self, build: Callable[..., sa.Select[Any]], *arguments: Any) -> Statement:
        """Return the statement that the function builds from the arguments."""
        return Statement(build(*arguments), self.engine.dialect)

    def open(self) -> Reader:
        """Return a reader of a new snapshot."""
        reader = Reader(self.engine.raw_connection(), self.prepare)
        self.begin(reader.connection)
        return reader


def unwrapped(proxy: Any) -> Any:
    """Return what Flask's `g` or `request` stands for now; each look through a proxy costs a tenth of a small query."""
    return proxy._get_current_object()


def init_reading(app: Flask, engine: sa.Engine) -> None:
    """Let the app's requests read, each from one snapshot that ends with it."""
    app.extensions["reading"] = Reading(engine)
    app.teardown_appcontext(end_reading)


def read(build: Callable[..., sa.Select[Any]], *arguments: Any, **values: Any) -> Any:
    """Return the cursor of the query that the function builds from the arguments, run with the values.

    It is compiled once, and reads what all queries of this request read: one snapshot, or the transaction it writes in.
    """
    here = unwrapped(g)
    reader: Reader | None = here.get("reader")
    if reader is None:
        reader = here.reader = current_app.extensions["reading"].open()
    return reader.run(reader.prepare(build, *arguments), values)


def read_within(pooled: Any) -> None:
    """Have what is read from here on be read by this connection, which writes."""
    g.reader = Reader(pooled, current_app.extensions["reading"].prepare)


def drop_reader() -> None:
    """Close the connection that this request read by, because it may be broken."""
    if "reader" in g:
        g.pop("reader").pooled.invalidate()


def end_reading(_error: BaseException | None = None) -> None:
    """Let go of the snapshot; what is read next comes from a new one."""
    reader: Reader | None = g.pop("reader", None)
    if reader:
        reader.pooled.close()
