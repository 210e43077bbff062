"""`backup` and `check`, the commands of the room operate."""

import click

from commands.group import open_app, setting_options
from database import db
from database.schema import copy_to


@click.command()
@click.argument("path", metavar="FILE")
@setting_options("database_url")
def backup(path: str, **options: str | None) -> None:
    """Write a consistent copy of the database to FILE, also while it is served."""
    with open_app(options, create=False):
        copy_to(path, db.engine)


@click.command()
@setting_options("database_url")
def check(**options: str | None) -> None:
    """Check the integrity of the database; print the versions of its schema and software."""
    from operate.check import check_database

    with open_app(options, create=False):
        report, faults = check_database(db.engine)
    for name, value in report.items():
        click.echo(f"{name}: {value}")
    for fault in faults:
        click.echo(f"fault: {fault}", err=True)
    if faults:
        raise click.ClickException("The database is damaged: restore a backup.")
