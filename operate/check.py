"""`check`: the integrity of the database, and the versions of its schema and software."""

from sqlalchemy import Connection, Engine

from database.backend import backend_of, display_name
from database.schema import changed_objects, revision


def check_database(engine: Engine) -> tuple[dict[str, str], list[str]]:
    """Return a report on the database (database, integrity, schema, version), and a sentence for every fault."""
    backend = backend_of(engine.url)
    with engine.connect() as connection:
        faults = find_damage(connection) + backend.broken_references(connection)
        integrity = "damaged" if faults else "ok"
        faults += [f"{name} is missing or changed" for name in changed_objects(connection)]
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
