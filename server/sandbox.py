"""`serve --sandbox`: a copy of the database, which is removed at the end."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError

from database.record import Record
from database.schema import UnusableDatabase, upgrade
from database.sqlite import begin_history, copy_pages, driver, engine_of


@contextmanager
def temporary_copy(url: URL) -> Iterator[str]:
    """Run the block with the path of a copy of a SQLite file, in a folder that is removed at the block's end.

    The file may be served and written meanwhile; if it doesn't exist, the copy is empty. Raises UnusableDatabase.
    """
    if url.get_backend_name() != "sqlite":
        raise UnusableDatabase("--sandbox serves a copy of a SQLite file: `copy` the PostgreSQL database to one first.")
    for number in signal.SIGTERM, signal.SIGHUP:
        # nohup ignores SIGHUP.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    source = Path(str(url.database))
    Record(str(source)).require_own_wal()
    with TemporaryDirectory(prefix="cardfile-sandbox-") as folder:
        copy = Path(folder) / source.name
        try:
            if source.exists():
                copy_pages(source, copy, synchronous="OFF")
            else:
                click.echo(f"There is no database at {source}: the sandbox is empty.", err=True)
            engine = engine_of(copy)
            upgrade(engine, keep_old=False)
            engine.dispose()
            begin_history(copy, "-sandbox")
        except (DatabaseError, driver.Error) as error:
            raise UnusableDatabase(f"{source} can't be copied: {getattr(error, 'orig', error)}.") from error
        yield str(copy)
