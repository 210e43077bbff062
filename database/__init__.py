"""The database: its engine and its transactions, the same on SQLite and PostgreSQL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, current_app, g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase

from database.backend import Backend, backend_of, place_of
from database.reading import (
    TakesLong,
    drop_reader,
    end_reading,
    haste,
    hold_snapshot,
    init_reading,
    keep_reader,
    read,
    read_by,
    read_within,
    unwrapped,
    write,
    write_prepared,
)
from database.schema import DatabaseRefused, copy_to, examine, upgrade
from settings import Settings, lacking

__all__ = [
    "DatabaseRefused",
    "TakesLong",
    "backend",
    "backend_of",
    "close_connections",
    "copy_to",
    "db",
    "drop_reader",
    "examine",
    "haste",
    "hold_snapshot",
    "keep_reader",
    "place_of",
    "read",
    "read_by",
    "unwrapped",
    "write",
    "write_json",
    "write_prepared",
    "write_transaction",
]


class Base(DeclarativeBase):
    """What every model is declared on. Constraints have names from the first day: SQLite can't rename them later."""

    metadata = MetaData(
        naming_convention={
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def backend() -> Backend:
    """Return how the app's database does things."""
    return backend_of(db.engine.url)


def write_json(value: Any) -> str:
    """Return the value as compact JSON with its characters as they are, as the databases' own functions write it."""
    return ENCODER.encode(value)


def init_database(app: Flask, settings: Settings) -> None:
    """Give the app its engine and bring the database's schema up to date.

    Raises DatabaseRefused when it can't be opened, isn't Cardfile's, or was written by a newer Cardfile.
    """
    own = backend_of(settings.database_url)
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        **own.ENGINE_OPTIONS,
        "json_serializer": write_json,
        # A thread may read by one while another program of its own writes by a second.
        "pool_size": 2 * settings.threads,
        "pool_timeout": 5,
    }
    try:
        db.init_app(app)
        with app.app_context():
            event.listen(db.engine, "connect", own.prepare)
            event.listen(db.engine, "begin", own.begin)
            init_reading(app, db.engine)
            try:
                upgrade(db.engine)
            finally:
                # A server that forks its workers must not hand them an open connection.
                db.engine.dispose()
    except ModuleNotFoundError as error:
        raise DatabaseRefused(lacking(error, "requirements-postgresql.txt")) from error
    except DatabaseError as error:
        reason = str(error.orig).strip()
        raise DatabaseRefused(f"{place_of(settings.database_url)} can't be opened: {reason}.") from error


def close_connections() -> None:
    """Close what the app has open."""
    end_reading()
    db.session.remove()
    current_app.extensions["reading"].dispose()
    db.engine.dispose()


@contextmanager
def write_transaction(keep: bool = True) -> Iterator[None]:
    """Run the block in one writing transaction of `db.session`: committed at its end, undone when it raises.

    With keep=False it is undone in any case.
    """
    # A read that is under way can't become a write once somebody else has written, so it ends here.
    end_reading()
    db.session.rollback()
    # What is read inside the block is read by the connection that writes.
    read_within(db.session.connection(execution_options={"begin": "IMMEDIATE"}).connection)
    try:
        yield
        if keep:
            db.session.commit()
        else:
            db.session.rollback()
    except BaseException:
        db.session.rollback()
        raise
    finally:
        g.pop("reader")
