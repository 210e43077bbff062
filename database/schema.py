"""The schema: its revisions, its upgrade, and the copy of the file before an upgrade."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from glob import escape
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, inspect
from sqlalchemy.exc import DatabaseError

from database.backend import backend_of
from database.new_file import file_time, new_file
from database.sqlite import TABLES, begin_history, is_writable

MIGRATIONS = Path(__file__).parent.parent / "migrations"
# No release ended with these revisions, and they have changed: databases of the same one differ.
CHANGED = ("0001", "0002", "0003", "0005", "0007", "0008")

log = logging.getLogger("cardfile")


class UnusableDatabase(Exception):
    """The database can't be used; the message is one sentence for the operator."""


class ForeignDatabase(UnusableDatabase):
    """The database is another program's."""


def require_writable(url: URL, action: str = "written") -> None:
    """Raise UnusableDatabase if the database is a file that SQLite can't write."""
    # SQLite keeps the WAL beside the file that a link points to.
    path = Path(os.path.realpath(str(url.database)))
    if url.get_backend_name() == "sqlite" and not is_writable(path):
        raise UnusableDatabase(
            f"{path} can't be {action}: it and its folder {path.parent} must be writable,"
            " because SQLite keeps its WAL beside the file."
        )


@contextmanager
def copied_to(path: Path, engine: Engine) -> Iterator[Path]:
    """Write a consistent copy of the database, while others may write to it; it is `path` after the block succeeds.

    Raises UnusableDatabase when the file exists or can't be written, or the database is on a server.
    """
    if engine.dialect.name != "sqlite":
        raise UnusableDatabase("Back up a PostgreSQL database by pg_dump.")
    with new_file(path) as part:
        if path.exists():
            raise UnusableDatabase(f"{path} exists: name a new file.")
        try:
            with engine.connect() as connection:
                # As bytes, because a path need not be UTF-8.
                connection.exec_driver_sql("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(part),))
        except DatabaseError as error:
            raise UnusableDatabase(f"{engine.url.database} can't be copied to {path}: {error.orig}.") from error
        begin_history(part)
        yield path


def revisions() -> list[str]:
    """Return the revisions, oldest first: the numbers at the beginning of the file names in migrations/versions."""
    return sorted(path.name[:4] for path in (MIGRATIONS / "versions").iterdir() if re.match(r"\d{4}_", path.name))


def revision(connection: Connection) -> str | None:
    """Return the revision of the schema, or None for an empty database. Raises ForeignDatabase."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if not set(TABLES) <= set(tables):
        raise ForeignDatabase("This database has tables but is not Cardfile's: name another.")
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def upgrade(engine: Engine, keep_old: bool = True) -> None:
    """Upgrade the schema to the newest revision; with keep_old, copy a file with an older schema beside it first.

    Raises UnusableDatabase for a database that is of another Cardfile or program, can't be written, or has a broken
    reference.
    """
    with engine.connect() as connection:
        if revision(connection) == revisions()[-1]:
            return
        with backend_of(engine.url).upgrading(connection):
            # Read again under the lock: another process may have upgraded it meanwhile.
            current = revision(connection)
            require_upgradable(connection, current)
            is_old = keep_old and current not in {None, revisions()[-1]}
            with keep_copy(engine, str(current)) if is_old else nullcontext() as copy:
                run_migrations(connection, rebuild=current in CHANGED)
            try:
                connection.commit()
            except DatabaseError:
                # A server that is restarted again and again would fill the disk.
                if copy:
                    copy.unlink()
                raise


def require_upgradable(connection: Connection, current: str | None) -> None:
    """Raise UnusableDatabase for an unknown schema, a file that can't be written, or a broken reference."""
    engine, newest = connection.engine, revisions()[-1]
    if current not in {None, *CHANGED, *revisions()}:
        raise UnusableDatabase(f"This Cardfile knows schemas up to {newest}, not {current}: run the one that wrote it.")
    require_writable(engine.url, f"upgraded to schema {newest}")
    for sentence in backend_of(engine.url).broken_references(connection):
        raise UnusableDatabase(
            f"The database can't be upgraded: {sentence}."
            " In a database shell, set the reference to NULL, or delete the row if it must have one, by its rowid."
        )


def keep_copy(engine: Engine, current: str) -> AbstractContextManager[Path | None]:
    """Return the context of an upgrade, which is logged: if it succeeds, a copy of the old file is beside it."""
    copied: AbstractContextManager[Path | None] = nullcontext()
    note = "back it up by pg_dump"
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        # Remove what killed upgrades left: only one upgrade runs at a time, and its copy gets its name at the end.
        for part in path.parent.glob(f"{escape(path.name)}.[0-9][0-9][0-9][0-9]-*.bak.part*"):
            part.unlink()
        copy = Path(f"{path}.{current}-{file_time()}.bak")
        copied, note = copied_to(copy, engine), f"the old file is kept as {copy}"
    log.warning("Upgrading the schema from %s to %s; %s", current, revisions()[-1], note)
    return copied


def run_migrations(connection: Connection, rebuild: bool = False) -> None:
    """Run the revisions that the database lacks, or all of them with its rows, inside the open transaction."""
    # Imported here because alembic is slow to import, and most starts upgrade nothing.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "rebuild": rebuild})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    backend = backend_of(connection.engine.url)
    before = backend.schema_of(connection)
    command.upgrade(config, "head")
    # Rebuilding a table silently drops its triggers, and with them the log of its changes.
    for name in before.keys() - backend.schema_of(connection).keys():
        if before[name].startswith("CREATE TRIGGER"):
            raise UnusableDatabase(f"The upgrade would lose the trigger {name}.")
    for sentence in backend.broken_references(connection):
        raise UnusableDatabase(f"The upgrade would break a reference: {sentence}.")
