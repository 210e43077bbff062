"""Reading past SQLAlchemy's way of execution: statements are compiled once and run on the driver's own connection."""

from collections.abc import Callable
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
        processors = {name: bind.type.dialect_impl(dialect) for name, bind in compiled.binds.items()}
        self.processors = {name: type_.bind_processor(dialect) for name, type_ in processors.items()}
        self.constants = self.process({name: value for name, value in compiled.params.items() if value is not None})

    def process(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values as the driver takes them."""
        return {name: process(values[name]) if (process := self.processors[name]) else values[name] for name in values}

    def run(self, **values: Any) -> Any:
        """Return the driver's cursor, whose rows are as the driver gives them."""
        bound = {**self.constants, **self.process(values)}
        return reader().execute(self.sql, bound if self.order is None else [bound[name] for name in self.order])


class Reading:
    """An app's engine and its compiled statements; building and compiling one costs a hundred times its run."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.begin = backend_of(engine.url).begin_reading
        self.prepare = lru_cache(STATEMENTS_KEPT)(self.compile)

    def compile(self, build: Callable[..., sa.Select[Any]], *arguments: Any) -> Statement:
        """Return the statement that the function builds from the arguments."""
        return Statement(build(*arguments), self.engine.dialect)


def init_reading(app: Flask, engine: sa.Engine) -> None:
    """Let the app's requests read, each from one snapshot that ends with it."""
    app.extensions["reading"] = Reading(engine)
    app.teardown_appcontext(end_reading)


def prepare(build: Callable[..., sa.Select[Any]], *arguments: Any) -> Statement:
    """Return the statement that the function builds from the arguments, compiled before or now."""
    reading: Reading = current_app.extensions["reading"]
    return reading.prepare(build, *arguments)


def reader() -> Any:
    """Return the driver's connection that this request reads by: one snapshot, or the transaction that it writes in."""
    if "reader" not in g:
        reading: Reading = current_app.extensions["reading"]
        g.reader = reading.engine.raw_connection()
        reading.begin(g.reader.driver_connection)
    return g.reader.driver_connection


def drop_reader() -> None:
    """Close the connection that this request read by, because it may be broken."""
    if "reader" in g:
        g.pop("reader").invalidate()


def end_reading(_error: BaseException | None = None) -> None:
    """Let go of the snapshot; what is read next comes from a new one."""
    if "reader" in g:
        g.pop("reader").close()
