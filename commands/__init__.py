"""The commands, each as `python service.py NAME`; `serve` is the one meant when none is named."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from flask import Flask
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError

from auth import create_key
from database import DatabaseRefused, close_connections, copy_to, db, examine, place_of, sqlite, write_transaction
from models import SCOPES, ApiKey, now
from schemas import KeySchema, pointers
from seed import UNTIL, SeedRefused
from settings import VERSION, SettingRefused, Settings, load_settings

BUILT_ON = f"SQLite {sqlite.driver.sqlite_version}, Python {sys.version.split()[0]}"
REFUSALS = (SettingRefused, DatabaseRefused, SeedRefused)


class Commands(click.Group):
    """The group: serves when no command is named, and says in one sentence why a command can't go on."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "--version"}):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except REFUSALS as error:
            raise click.ClickException(str(error)) from error
        except DBAPIError as error:
            raise click.ClickException(f"The database can't be used: {error.orig}.") from error
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'A file'}: {error.strerror}.") from error


def setting_options(*names: str) -> Callable[[Any], Any]:
    """Give a command the flags of these settings."""

    def decorate(command: Any) -> Any:
        for row in reversed([row for row in fields(Settings) if row.name in names]):
            note = f"{row.metadata['help']}  [{row.name.upper()}; default: {row.metadata['default']}]"
            command = click.option(row.metadata["flag"], row.name, metavar="VALUE", help=note)(command)
        return command

    return decorate


@contextmanager
def open_app(flags: Mapping[str, str | None], create: bool = True) -> Iterator[Flask]:
    """Open the app that the flags and the environment describe, its context pushed."""
    create_app: Callable[[Settings], Flask] = click.get_current_context().find_root().obj
    settings = load_settings(flags, os.environ)
    on_a_server = settings.database_url.get_backend_name() != "sqlite"
    if not (create or on_a_server or Path(place_of(settings.database_url)).exists()):
        raise click.ClickException(f"There is no database at {place_of(settings.database_url)}.")
    app = create_app(settings)
    with app.app_context():
        try:
            yield app
        finally:
            close_connections()


def say(verb: str, counts: Mapping[str, int]) -> None:
    """Tell on standard error how many rows of what were dealt with."""
    click.echo(f"{verb} {', '.join(f'{count} {name}' for name, count in counts.items())}.", err=True)


@click.group(cls=Commands)
@click.version_option(VERSION, prog_name="cardfile", message=f"%(prog)s %(version)s ({BUILT_ON})")
def cli() -> None:
    """Serve companies, contacts and conversations as JSON from one SQLite file."""


@cli.command()
@setting_options(*(row.name for row in fields(Settings)))
@click.option("--demo", is_flag=True, help="Fill an empty database with demo data first.")
def serve(demo: bool, **flags: str | None) -> None:
    """Serve the API until Ctrl-C or SIGTERM (the default command)."""
    from server import run_server

    settings = load_settings(flags, os.environ)
    with open_app(flags) as app:
        run_server(app, settings, demo)


@cli.group()
def keys() -> None:
    """Create, list and delete API keys."""


@keys.command("create")
@click.argument("name")
@click.option("--scope", type=click.Choice(SCOPES), default="read", show_default=True)
@click.option("--expires", type=click.IntRange(1, 36_500), metavar="DAYS", help="Refuse the key after so many days.")
@setting_options("database_url")
def create_key_command(name: str, scope: str, expires: int | None, **flags: str | None) -> None:
    """Create a key and print it, alone; it can't be shown again."""
    from datetime import timedelta

    try:
        KeySchema().load({"name": name})
    except ValidationError as error:
        raise click.BadParameter(next(pointers(error.messages))["detail"], param_hint="NAME") from None
    with open_app(flags), write_transaction():
        _record, key = create_key(name, scope, now() + timedelta(days=expires) if expires else None)
    click.echo(key)


@keys.command("list")
@setting_options("database_url")
def list_keys(**flags: str | None) -> None:
    """List the keys' records, oldest first."""
    columns = {"id": 36, "prefix": 8, "scope": 5, "createdAt": 20, "lastUsedAt": 20, "expiresAt": 20, "name": 0}
    click.echo("  ".join(name.ljust(width) for name, width in columns.items()))
    with open_app(flags, create=False):
        records = db.session.scalars(db.select(ApiKey).order_by(ApiKey.created_at, ApiKey.id))
        for record in KeySchema().dump(records, many=True):
            click.echo("  ".join((record[name] or "-").ljust(width) for name, width in columns.items()))


@keys.command("delete")
@click.argument("key_id", metavar="ID")
@setting_options("database_url")
def delete_key(key_id: str, **flags: str | None) -> None:
    """Delete a key; it is refused from the next request on."""
    with open_app(flags, create=False), write_transaction():
        if db.session.scalar(db.delete(ApiKey).where(ApiKey.id == key_id).returning(ApiKey.id)) is None:
            raise click.ClickException(f"There is no key with the id {key_id}: see `keys list`.")


@cli.command("seed")
@click.option("--companies", type=click.IntRange(0, 1_000_000), default=50, show_default=True)
@click.option("--seed", "number", type=int, default=42, show_default=True, help="The same number gives the same data.")
@click.option("--until", metavar="DAY", default=UNTIL, show_default=True, help="The last day of the two years filled.")
@click.option("--from", "path", type=click.Path(exists=True, dir_okay=False), help="Load this JSON file instead.")
@click.option("--reset", is_flag=True, help="Delete all companies, contacts and conversations first.")
@click.option("--yes", is_flag=True, help="Don't ask before deleting.")
@setting_options("database_url")
def seed_command(
    companies: int, number: int, until: str, path: str | None, reset: bool, yes: bool, **flags: str | None
) -> None:
    """Load demo data, or the given data, in one transaction."""
    import seed

    with open_app(flags):
        if reset and not yes and any(seed.count_rows().values()):
            held = ", ".join(f"{count} {name}" for name, count in seed.count_rows().items())
            click.confirm(f"Delete {held}?", abort=True)
        loaded = seed.load_file(path, reset) if path else seed.load_demo(companies, number, until, reset)
        say("Loaded", loaded)


@cli.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True)
@setting_options("database_url")
def export_command(folder: Path, form: str, **flags: str | None) -> None:
    """Write every resource to a file in DIR, all as they were at one moment."""
    from transfer import export_rows

    with open_app(flags, create=False):
        say("Wrote", export_rows(folder, form))


@cli.command("import")
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@setting_options("database_url")
def import_command(path: Path, **flags: str | None) -> None:
    """Store the rows of a file, or of a folder of files, as `export` writes them; rows with a known id are updated."""
    from transfer import TransferRefused, import_rows

    with open_app(flags):
        try:
            say("Stored", import_rows(path))
        except TransferRefused as error:
            raise click.ClickException(str(error)) from None


@cli.command()
@click.argument("path", metavar="FILE")
@setting_options("database_url")
def backup(path: str, **flags: str | None) -> None:
    """Write a consistent copy of the database to FILE, while it is being served."""
    with open_app(flags, create=False):
        copy_to(path, db.engine)


@cli.command()
@setting_options("database_url")
def check(**flags: str | None) -> None:
    """Check the database's integrity; say the versions of its schema and of its software."""
    with open_app(flags, create=False):
        report, faults = examine(db.engine)
    for name, value in report.items():
        click.echo(f"{name}: {value}")
    for fault in faults:
        click.echo(f"fault: {fault}", err=True)
    if faults:
        raise click.ClickException("The database is damaged: restore a backup.")
