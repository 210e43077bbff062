"""`backup`, `restore`, `copy`, `forget` and `check`, the commands of the room operate."""

from pathlib import Path
from typing import Any

import click
from flask import g

from api.resources import ENDPOINTS
from commands.group import open_app, print_counts, setting_options, settings_of
from database import db
from database.record import Record
from database.schema import UnusableDatabase, copied_to, require_writable
from settings import database_url, without_password


@click.command()
@click.argument("path", metavar="FILE")
@setting_options("database_url")
def backup(path: str, **options: str | None) -> None:
    """Write a consistent copy of the database to FILE, also while it is served."""
    with open_app(options, create=False, writes=False), copied_to(Path(path), db.engine):
        pass
    click.echo(f"Wrote {path}.", err=True)


@click.command()
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@setting_options("database_url")
def restore(path: Path | None, **options: str | None) -> None:
    """Replace the database by the backup FILE, also while it is served; the old database is kept beside it.

    Without FILE, only begin a new history, after a database was restored by pg_restore or by copying its file.
    """
    from operate.restore import begin_database_history, restore_file

    url = settings_of(options).database_url
    if path is None:
        with Record(str(url.database)).cleared(), open_app(options, create=False):
            click.echo(f"The Dataset-Id is {begin_database_history()} now.", err=True)
        return
    if url.get_backend_name() != "sqlite":
        raise UnusableDatabase("Restore a PostgreSQL database by pg_restore, then run `restore` without FILE.")
    require_writable(url)
    old, returned, lost = restore_file(path, Path(str(url.database)))
    click.echo(f"Restored {url.database} from {path}{f'; the old database is {old}' if old else ''}.", err=True)
    for sentence, keys in ("This key is valid again", returned), ("This key is not in the backup", lost):
        for key_id, scope, name in keys:
            click.echo(f"{sentence}: {key_id} ({scope}) {name}", err=True)


def check_url(_context: click.Context, _option: Any, text: str) -> str:
    """Return the URL of a database, as it was given."""
    try:
        database_url(text)
    except ValueError as error:
        raise click.BadParameter(f"It {error}, not {without_password(text)!r}.") from None
    return text


@click.command()
@click.option("--from", "source", required=True, metavar="URL", callback=check_url, help="The database to copy.")
@click.option("--to", "target", required=True, metavar="URL", callback=check_url, help="An empty database.")
def copy(source: str, target: str) -> None:
    """Copy all rows, keys and changes to an empty database, from SQLite to PostgreSQL, say, and compare them.

    What is written to the source meanwhile is not copied: stop its server first.
    """
    from operate.copy import copy_database

    url = settings_of({"database_url": target}).database_url
    require_writable(url)
    with open_app({"database_url": source}, create=False, writes=False):
        dataset, counts = copy_database(db.engine, url)
    print_counts("Copied and compared", counts)
    click.echo(f"The Dataset-Id of the copy is {dataset}.", err=True)


@click.command()
@click.argument("resource", type=click.Choice(list(ENDPOINTS)))
@click.argument("row_id", metavar="ID")
@setting_options("database_url")
def forget(resource: str, row_id: str, **options: str | None) -> None:
    """Delete a row, and erase its data from the change log, stored responses, the search index and the file."""
    from operate.erasure import forget_row

    with open_app(options, create=False):
        if not forget_row(resource, row_id):
            noun = ENDPOINTS[resource].singular
            raise click.ClickException(f"There never was a {noun} with the id {row_id}.")
        click.echo(f"Forgotten by the request {g.request_id}.", err=True)


@click.command()
@setting_options("database_url")
def check(**options: str | None) -> None:
    """Check the integrity of the database; print the versions of its schema and software."""
    from operate.check import check_database

    with open_app(options, create=False, writes=False):
        report, faults = check_database(db.engine)
    for name, value in report.items():
        click.echo(f"{name}: {value}")
    for fault in faults:
        click.echo(f"fault: {fault}", err=True)
    if report["integrity"] != "ok":
        raise click.ClickException("The database is damaged: restore a backup.")
    if faults:
        raise click.ClickException(
            "The rows are undamaged, but the schema isn't Cardfile's: `import` an `export` into a new database."
        )
