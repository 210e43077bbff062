"""`restore`: the database is replaced by a backup."""

from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from database.connection import connections, execute, write_transaction
from database.new_file import file_time, sync_folder
from database.record import Record
from database.schema import ForeignDatabase, UnusableDatabase, copied_to, revision, upgrade
from database.sqlite import begin_history, copy_pages, driver, engine_of, is_full, is_unavailable
from models import Dataset
from operate.check import check_database

Key = tuple[str, str, str]


def restore_file(source: Path, target: Path) -> tuple[Path | None, list[Key], list[Key]]:
    """Replace the rows, keys and changes of a database by those of a backup, in one transaction.

    The backup is checked and upgraded in a copy first. The restored database has a new Dataset-Id and no browser
    sessions. It may be served meanwhile. Returns the path of a copy of the old database, if there was one, and the
    id, scope and name of each key that only the backup has, and of each that only the old one had. Raises
    UnusableDatabase, and changes nothing.
    """
    prefix = f".{target.name}.restore-"
    for left in target.parent.iterdir():
        # A killed command leaves its folder.
        if left.name.startswith(prefix):
            rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        copy = Path(folder) / "copy.db"
        try:
            copy_pages(source, copy)
            keys = prepare_copy(copy)
            old, known = set_aside(target) if target.exists() else (None, [])
            copy_pages(copy, target)
        except (DatabaseError, driver.Error) as error:
            cause = getattr(error, "orig", error)
            if is_full(cause) or is_unavailable(cause):
                raise UnusableDatabase(f"{target} can't be replaced now, and stays as it was: {cause}.") from error
            raise UnusableDatabase(f"{source} is not a usable backup: {cause}.") from error
        Record(str(target)).accept(Record(str(copy)).dataset_without_wal())
    return old, [key for key in keys if key not in known], [key for key in known if key not in keys]


def begin_database_history() -> str:
    """Give the app's database a new Dataset-Id, and return it."""
    dataset = str(uuid4())
    with write_transaction():
        execute(sa.update(Dataset).values(id=sa.bindparam("dataset")), dataset=dataset)
    if file := connections().file:
        file.record.accept(dataset)
    return dataset


def prepare_copy(copy: Path) -> list[Key]:
    """Check and upgrade the copy of a backup, and begin its history; return its keys."""
    engine = engine_of(copy)
    try:
        with engine.connect() as connection:
            if revision(connection) is None:
                raise UnusableDatabase("The backup is an empty database.")
        upgrade(engine, keep_old=False)
        _report, faults = check_database(engine)
        if faults:
            raise UnusableDatabase(f"The backup is damaged: {faults[0]}.")
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM sessions")
            keys = find_keys(connection)
    finally:
        engine.dispose()
    begin_history(copy)
    return keys


def find_keys(connection: Connection) -> list[Key]:
    """Return the id, scope and name of each key, oldest first."""
    rows = connection.exec_driver_sql("SELECT id, scope, name FROM api_keys ORDER BY created_at, number")
    return [(row.id, row.scope, row.name) for row in rows]


def set_aside(target: Path) -> tuple[Path, list[Key]]:
    """Copy the database beside itself, or move it there if it is damaged; return the path, and its keys."""
    old = Path(f"{target}.{file_time()}.bak")
    engine = engine_of(target)
    try:
        with engine.connect() as connection:
            revision(connection)
        Record(str(target)).require_own_wal()
        with copied_to(old, engine), engine.connect() as connection:
            return old, find_keys(connection)
    except ForeignDatabase:
        raise
    except (UnusableDatabase, DatabaseError) as error:
        cause = getattr(error if isinstance(error, DatabaseError) else error.__cause__, "orig", None)
        if is_full(cause) or is_unavailable(cause):
            # The database is locked, or its disk full, but it is not damaged.
            raise
        engine.dispose()
        for suffix in "", "-wal", "-shm":
            if (part := Path(f"{target}{suffix}")).exists():
                part.replace(f"{old}{suffix}")
        sync_folder(target.parent)
        return old, []
    finally:
        engine.dispose()
