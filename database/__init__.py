"""The database: its engine, its schema, and the connection of a request; the same on SQLite and PostgreSQL."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, MetaData, event
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase

from database import sqlite
from database.backend import Backend, backend_of, display_name, reason
from database.columns import clock, from_driver
from database.connection import Connections, connections, release_connection
from database.identity import DatabaseFile
from database.record import LAST_CHANGE, Record
from database.schema import UnusableDatabase, require_writable, upgrade
from formats.json_text import encode_json
from formats.values import format_time
from settings import Settings, missing_package


class Base(DeclarativeBase):
    """The base of the models. All constraints have names: SQLite can't name them later."""

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
log = logging.getLogger("cardfile")


def backend() -> Backend:
    """Return the backend of the app's database."""
    return backend_of(db.engine.url)


def engine_options(settings: Settings, file: DatabaseFile | None, writes: bool) -> dict[str, Any]:
    """Return the options of SQLAlchemy's engine."""
    url = settings.database_url
    options = {
        **backend_of(url).ENGINE_OPTIONS,
        "json_serializer": encode_json,
        # One connection for each thread, and as many again for background tasks.
        "pool_size": 2 * settings.threads,
        "pool_timeout": 5,
    }
    if file:
        options["creator"] = file.connect if writes else lambda: sqlite.connect_to_read(Path(file.path))
    return options


def init_database(app: Flask, settings: Settings, writes: bool) -> None:
    """Give the app its engine and bring the database's schema up to date.

    With writes=False, it may be a file that can't be written.
    Raises UnusableDatabase when it can't be opened, or isn't this Cardfile's.
    """
    url = settings.database_url
    file = DatabaseFile(str(url.database)) if url.get_backend_name() == "sqlite" else None
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings, file, writes))
    if file and not (folder := Path(str(url.database)).parent).is_dir():
        raise UnusableDatabase(f"There is no folder {folder} for the database: create it first.")
    if writes:
        require_writable(url)
    if file:
        file.record.require_own_wal()
    try:
        db.init_app(app)
        with app.app_context():
            event.listen(db.engine, "connect", backend_of(url).prepare)
            if file:
                event.listen(db.engine, "connect", file.note_opened)
                event.listen(db.engine, "close", file.note_closed)
            app.extensions["connections"] = Connections(db.engine, file, settings.threads)
            app.teardown_appcontext(release_connection)
            upgrade_and_close(db.engine, file.record if file else None)
    except ModuleNotFoundError as error:
        raise UnusableDatabase(missing_package(error, "postgresql")) from error
    except (ArgumentError, DBAPIError) as error:
        raise UnusableDatabase(f"{display_name(url)} can't be opened: {reason(url, error)}.") from error


def start_clock() -> None:
    """Start the clock at the time of the last change if the system clock is behind it."""
    with db.engine.connect() as connection:
        last = from_driver(connection.exec_driver_sql("SELECT at FROM changes ORDER BY seq DESC LIMIT 1").scalar())
    clock.start(last or datetime.now(UTC))
    if last and last - datetime.now(UTC) > timedelta(minutes=1):
        log.warning("The system clock is behind the last change, at %s: times continue from there.", format_time(last))


def upgrade_and_close(engine: Engine, record: Record | None) -> None:
    """Upgrade the schema, and close the database: a server that forks its workers must not share connections."""
    try:
        upgrade(engine)
        start_clock()
        with engine.connect() as connection:
            has_record = record and record.datasets
            last_change = connection.exec_driver_sql(LAST_CHANGE).fetchone() if has_record else None
    finally:
        engine.dispose()
    if record and last_change:
        record.require_last_change(*last_change)


def close_database() -> None:
    """Close the app's connections."""
    release_connection()
    connections().close()
    db.engine.dispose()
