"""`keys create`, `keys generate`, `keys list` and `keys delete`."""

from datetime import timedelta

import click
from marshmallow import ValidationError

import auth
from api.keys import all_records
from commands.group import open_app, setting_options
from database.columns import now
from database.connection import write_transaction
from formats.errors import pointers
from models import SCOPES
from schemas import KeySchema


@click.group()
def keys() -> None:
    """Create, list and delete API keys."""


@keys.command("create")
@click.argument("name")
@click.option("--scope", type=click.Choice(SCOPES), default="read", show_default=True)
@click.option("--expires", type=click.IntRange(1, 36_500), metavar="DAYS", help="Days until the key expires.")
@setting_options("database_url")
def create_key(name: str, scope: str, expires: int | None, **options: str | None) -> None:
    """Create a key and print it, alone; it can't be shown again."""
    try:
        KeySchema().load({"name": name})
    except ValidationError as error:
        raise click.BadParameter(next(pointers(error.messages))["detail"], param_hint="NAME") from None
    with open_app(options), write_transaction():
        _key_id, key = auth.create_key(name, scope, now() + timedelta(days=expires) if expires else None)
        # A key that can't be printed is not stored.
        click.echo(key)


@keys.command("generate")
def generate_key() -> None:
    """Print a new key that is stored nowhere, for CARDFILE_ADMIN_KEY."""
    click.echo(auth.new_key())


@keys.command("list")
@setting_options("database_url")
def list_keys(**options: str | None) -> None:
    """List the keys' records, oldest first."""
    columns = {"id": 36, "prefix": 8, "scope": 5, "createdAt": 20, "lastUsedAt": 20, "expiresAt": 20, "name": 0}
    with open_app(options, create=False, writes=False):
        click.echo("  ".join(name.ljust(width) for name, width in columns.items()))
        for record in all_records():
            click.echo("  ".join((record[name] or "-").ljust(width) for name, width in columns.items()))


@keys.command("delete")
@click.argument("key_id", metavar="ID")
@setting_options("database_url")
def delete_key(key_id: str, **options: str | None) -> None:
    """Delete a key; it is refused from the next request on."""
    with open_app(options, create=False), write_transaction():
        if not auth.delete_key(key_id):
            raise click.ClickException(f"There is no key with the id {key_id}: see `keys list`.")
