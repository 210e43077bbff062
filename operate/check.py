"""`check`: the integrity of the database, and the versions of its schema and software."""

from sqlalchemy import Engine

from database import backend_of, display_name
from database.schema import revision, run_migrations


def check_database(engine: Engine) -> tuple[dict[str, str], list[str]]:
    """Return a report on the database (database, integrity, schema, version), and a sentence for every fault."""
    backend = backend_of(engine.url)
    with backend.scratch(engine) as connection:
        run_migrations(connection)
        expected = backend.schema_of(connection)
    with engine.connect() as connection:
        faults = backend.damages(connection) + backend.broken_references(connection)
        found = backend.schema_of(connection)
        faults += [f"{name} is missing or changed" for name, sql in expected.items() if found.get(name) != sql]
        report = {
            "database": display_name(engine.url),
            "integrity": "damaged" if faults else "ok",
            "schema": str(revision(connection)),
            "version": backend.version(connection.exec_driver_sql),
        }
    return report, faults
