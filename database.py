"""The database: its engine, its transactions, and the upgrade of its schema."""

import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase

from settings import Settings

try:
    from pysqlite3 import dbapi2
except ImportError:
    dbapi2 = sqlite3
sqlite: ModuleType = dbapi2

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MILLISECONDS = 5000

log = logging.getLogger("cardfile")


class DatabaseRefused(Exception):
    """The database cannot be used as it is; the message is one sentence for the person who named it."""


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


def has_wal_reset_bug(version: tuple[int, ...] = sqlite.sqlite_version_info) -> bool:
    """Tell whether this SQLite can corrupt a WAL file when two connections checkpoint at once (fixed in 3.51.3)."""
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return not fixed


def write_json(value: Any) -> str:
    """Return the value as compact JSON with its characters as they are, as SQLite's own functions write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def init_database(app: Flask, settings: Settings) -> None:
    """Give the app its engine and bring the file's schema up to date.

    Raises DatabaseRefused when the file can't be opened, isn't Cardfile's, or was written by a newer Cardfile.
    """
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "module": sqlite,
        "json_serializer": write_json,
        "pool_size": settings.threads,
        "pool_timeout": 5,
    }
    db.init_app(app)
    with app.app_context():
        event.listen(db.engine, "connect", set_pragmas)
        event.listen(db.engine, "begin", begin)
        try:
            upgrade(db.engine)
        except DatabaseError as error:
            raise DatabaseRefused(f"{settings.database_url.database} can't be opened: {error.orig}.") from error


def set_pragmas(connection: Any, _record: object) -> None:
    """Prepare a new connection: wait for locks, then keep every committed row, and every reference, true."""
    # The driver must not open transactions by itself: begin() does.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Older versions don't let a schema that isn't trusted use JSON functions, as ours does.
    if sqlite.sqlite_version_info >= (3, 51):
        connection.execute("PRAGMA trusted_schema = OFF")


def begin(connection: Connection) -> None:
    """Open the transaction in the mode that the connection's option `begin` names; None leaves it to the caller."""
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    if mode is not None:
        connection.exec_driver_sql(f"BEGIN {mode}")


@contextmanager
def write_transaction(keep: bool = True) -> Iterator[None]:
    """Run the block in one writing transaction of `db.session`: committed at its end, undone when it raises.

    With keep=False it is undone in any case.
    """
    # A read that is under way can't become a write under WAL once somebody else has written, so it ends here.
    db.session.rollback()
    db.session.connection(execution_options={"begin": "IMMEDIATE"})
    try:
        yield
        if keep:
            db.session.commit()
        else:
            db.session.rollback()
    except BaseException:
        db.session.rollback()
        raise


@contextmanager
def bulk_search(name: str) -> Iterator[None]:
    """Run the block, which inserts many rows into a resource, and index the text of all of them at once at its end.

    Row by row FTS5 writes its index out after every one, which takes three times as long. The trigger that would is
    dropped and made again inside the transaction that is open: nobody else ever sees the table without it.
    """
    index = f"{name}_search"
    execute = db.session.connection().exec_driver_sql
    last = execute(f"SELECT coalesce(max(number), 0) FROM {name}").scalar()
    triggers = [f"{index}_insert", f"{index}_update"]
    found = [execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).scalar() for trigger in triggers]
    on_insert, on_update = map(str, found)
    columns = ", ".join(row.name for row in execute(f"SELECT name FROM pragma_table_info('{index}')"))
    for trigger in triggers:
        execute(f"DROP TRIGGER {trigger}")
    # A new row that the block updates again isn't in the index yet, so it can't be taken out of it.
    execute(on_update.replace(" WHEN ", f" WHEN OLD.number <= {last} AND ", 1))
    # Room for the pages of all its indexes, into which rows fall at random.
    execute("PRAGMA cache_size = -65536")
    yield
    execute("PRAGMA cache_size = -2000")
    execute(f"INSERT INTO {index} (rowid, {columns}) SELECT number, {columns} FROM {name} WHERE number > ?", (last,))
    execute(f"DROP TRIGGER {index}_update")
    execute(on_insert)
    execute(on_update)


def copy_to(path: str, engine: Engine) -> None:
    """Write a consistent copy of the database to a new file, while others may go on writing.

    Raises DatabaseRefused when the file exists or can't be written.
    """
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
        raise DatabaseRefused("This database has tables but is not Cardfile's: name another file.")
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest revision; a file that holds an older one is copied beside itself first.

    Raises DatabaseRefused for a file of a newer Cardfile or of another program.
    """
    with engine.connect().execution_options(begin=None) as connection:
        if revision(connection) == revisions()[-1]:
            return
        # Rebuilding a table, as later revisions may, would otherwise empty the columns that refer to it.
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            # Asked again under the lock: another process may have upgraded it meanwhile.
            run_migrations(engine, connection, revision(connection))
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")


def run_migrations(engine: Engine, connection: Connection, current: str | None) -> None:
    """Run what lies between the current revision and the newest, inside the transaction that is open."""
    known = revisions()
    if current is not None and current not in known:
        raise DatabaseRefused(f"This database is of a newer Cardfile (schema {current}, known here up to {known[-1]}).")
    if current == known[-1]:
        return
    if current is not None:
        copy = f"{engine.url.database}.{current}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.bak"
        copy_to(copy, engine)
        log.warning("Upgrading the schema from %s to %s; the file as it was is kept in %s", current, known[-1], copy)

    # Imported here because a start that has nothing to upgrade must not pay for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    before = schema_of(connection)
    command.upgrade(config, "head")
    # Rebuilding a table drops its triggers without a word, and with them the log of its changes.
    for name in before.keys() - schema_of(connection).keys():
        if before[name].startswith("CREATE TRIGGER"):
            raise DatabaseRefused(f"The upgrade would lose the trigger {name}.")
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise DatabaseRefused(f"The upgrade would leave a row of {broken[0]} that refers to a missing {broken[2]} row.")


def schema_of(connection: Connection) -> dict[str, str]:
    """Return the SQL of every table, index and trigger, by name."""
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {row.name: row.sql for row in rows}


def declared_schema() -> dict[str, str]:
    """Return the schema that a new file is given."""
    with TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/new.db", module=sqlite)
        event.listen(engine, "connect", set_pragmas)
        event.listen(engine, "begin", begin)
        upgrade(engine)
        with engine.connect() as connection:
            found = schema_of(connection)
        engine.dispose()
    return found


def examine() -> tuple[dict[str, str], list[str]]:
    """Return what there is to know of the database, by name, and every fault that is found in it."""
    with db.engine.connect() as connection:
        faults = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
        for table, rowid, parent, _number in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            faults.append(f"row {rowid} of {table} refers to a row of {parent} that is missing")
        found, declared = schema_of(connection), declared_schema()
        faults += [f"{name} is missing or changed" for name, sql in declared.items() if found.get(name) != sql]
        report = {
            "database": str(db.engine.url.database),
            "integrity": "damaged" if faults else "ok",
            "schema": str(revision(connection)),
            "sqlite": sqlite.sqlite_version + (" (has the WAL-reset bug)" if has_wal_reset_bug() else ""),
        }
    return report, faults
