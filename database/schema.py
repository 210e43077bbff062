"""The schema: its revisions, its upgrade, its examination, and copies of the file that holds it."""

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import DatabaseError

from database.backend import backend_of, place_of

MIGRATIONS = Path(__file__).parent.parent / "migrations"

log = logging.getLogger("cardfile")


class DatabaseRefused(Exception):
    """The database cannot be used as it is; the message is one sentence for the person who named it."""


def copy_to(path: str, engine: Engine) -> None:
    """Write a consistent copy of the database to a new file, while others may go on writing.

    Raises DatabaseRefused when the file exists or can't be written, or the database is on a server.
    """
    if engine.dialect.name != "sqlite":
        raise DatabaseRefused("A PostgreSQL database is copied by pg_dump.")
    if Path(path).exists():
        raise DatabaseRefused(f"{path} exists: name a new file.")
    part = Path(f"{path}.part")
    try:
        with engine.connect().execution_options(begin=None) as reader:
            reader.exec_driver_sql("VACUUM INTO ?", (str(part),))
        part.rename(path)
    except DatabaseError as error:
        part.unlink(missing_ok=True)
        raise DatabaseRefused(f"{engine.url.database} can't be copied to {path}: {error.orig}.") from error


def revisions() -> list[str]:
    """Return the schema's revisions, oldest first: the numbers that the files in migrations/versions begin with."""
    return sorted(path.name[:4] for path in (MIGRATIONS / "versions").iterdir() if re.match(r"\d{4}_", path.name))


def revision(connection: Connection) -> str | None:
    """Return the schema's revision in this database, or None when it is empty.

    Raises DatabaseRefused when another program's tables are in it.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if not {"alembic_version", "companies", "changes"} <= set(tables):
        raise DatabaseRefused("This database has tables but is not Cardfile's: name another.")
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest revision; a file that holds an older one is copied beside itself first.

    Raises DatabaseRefused for a database of a newer Cardfile or of another program.
    """
    with engine.connect().execution_options(begin=None) as connection:
        if revision(connection) == revisions()[-1]:
            return
        with backend_of(engine.url).upgrading(connection):
            # Asked again under the lock: another process may have upgraded it meanwhile.
            current = revision(connection)
            if current not in {None, *revisions()}:
                known = revisions()[-1]
                raise DatabaseRefused(
                    f"This database is of a newer Cardfile (schema {current}, known here up to {known})."
                )
            if current is not None and current != revisions()[-1]:
                keep_copy(engine, current)
            run_migrations(connection)
            connection.commit()


def keep_copy(engine: Engine, current: str) -> None:
    """Copy a file that is about to be upgraded beside itself, and say so."""
    kept = "back it up by pg_dump"
    if engine.dialect.name == "sqlite":
        copy = f"{engine.url.database}.{current}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.bak"
        copy_to(copy, engine)
        kept = f"the file as it was is kept in {copy}"
    log.warning("Upgrading the schema from %s to %s; %s", current, revisions()[-1], kept)


def run_migrations(connection: Connection) -> None:
    """Run what lies between the database's revision and the newest, inside the transaction that is open."""
    # Imported here because a start that has nothing to upgrade must not pay for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    backend = backend_of(connection.engine.url)
    before = backend.schema_of(connection)
    command.upgrade(config, "head")
    # Rebuilding a table drops its triggers without a word, and with them the log of its changes.
    for name in before.keys() - backend.schema_of(connection).keys():
        if before[name].startswith("CREATE TRIGGER"):
            raise DatabaseRefused(f"The upgrade would lose the trigger {name}.")
    for sentence in backend.broken_references(connection):
        raise DatabaseRefused(f"The upgrade would break a reference: {sentence}.")


def examine(engine: Engine) -> tuple[dict[str, str], list[str]]:
    """Return what there is to know of the database, by name, and every fault that is found in it."""
    backend = backend_of(engine.url)
    with backend.scratch(engine) as connection:
        run_migrations(connection)
        declared = backend.schema_of(connection)
    with engine.connect() as connection:
        faults = backend.damages(connection) + backend.broken_references(connection)
        found = backend.schema_of(connection)
        faults += [f"{name} is missing or changed" for name, sql in declared.items() if found.get(name) != sql]
        report = {
            "database": place_of(engine.url),
            "integrity": "damaged" if faults else "ok",
            "schema": str(revision(connection)),
            "version": backend.version(connection),
        }
    return report, faults
