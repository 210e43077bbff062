"""`check`: the integrity of the database, and the versions of its schema and software."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from database import sqlite
from database.backend import backend_of, display_name
from database.schema import revision, run_migrations


def check_database(engine: Engine) -> tuple[dict[str, str], list[str]]:
    """Return a report on the database (database, integrity, schema, version), and a sentence for every fault."""
    backend = backend_of(engine.url)
    with empty_database(engine) as connection:
        run_migrations(connection)
        expected = backend.schema_of(connection)
    with engine.connect() as connection:
        faults = find_damage(connection) + backend.broken_references(connection)
        integrity, found = "damaged" if faults else "ok", backend.schema_of(connection)
        faults += [f"{name} is missing or changed" for name, sql in expected.items() if found.get(name) != sql]
        report = {
            "database": display_name(engine.url),
            "integrity": integrity,
            "schema": str(revision(connection)),
            "version": backend.version(connection.exec_driver_sql),
        }
    return report, faults


def find_damage(connection: Connection) -> list[str]:
    """Return the errors of SQLite's integrity check; nothing on PostgreSQL, where pg_amcheck finds damage."""
    if connection.dialect.name != "sqlite":
        return []
    return [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]


@contextmanager
def empty_database(engine: Engine) -> Iterator[Connection]:
    """Run the block with a connection to a temporary empty database of the engine's kind."""
    if engine.dialect.name == "sqlite":
        new = sqlite.engine_of(Path(":memory:"))
        with new.connect() as connection:
            yield connection
        new.dispose()
        return
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("CREATE SCHEMA cardfile_scratch")
        connection.exec_driver_sql("SET LOCAL search_path TO cardfile_scratch")
        yield connection
        connection.rollback()
