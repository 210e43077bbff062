"""`revert`, which takes changes back."""

from typing import Any

import click
import sqlalchemy as sa
from flask import g
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from api.feed import bind
from api.problems import Conflict
from api.revert import revert
from commands.group import open_app, print_undo, setting_options
from database.connection import execute, write_transaction
from formats.errors import MAX_ERRORS, pointers
from models import Change

NEW_CHANGES = sa.select(Change.seq, Change.action, Change.resource, Change.row_id)
NEW_CHANGES = NEW_CHANGES.where(Change.seq > bind("since")).order_by(Change.seq)


@click.command("revert")
@click.option("--request", "request_id", metavar="ID", help="All changes of this request.")
@click.option("--key", "key_id", metavar="ID", help="All changes by this key, with --since.")
@click.option("--since", type=click.IntRange(0), metavar="N", help="The version that a key's changes come after.")
@click.option("--to", type=click.IntRange(0), metavar="N", help="All changes after this version.")
@click.option("--conflicts", type=click.Choice(["skip", "overwrite"]), help="For rows that others changed afterwards.")
@click.option("--dry-run", is_flag=True, help="Show what it would do, and change nothing.")
@setting_options("database_url")
def revert_command(
    request_id: str | None,
    key_id: str | None,
    since: int | None,
    to: int | None,
    conflicts: str | None,
    dry_run: bool,
    **options: str | None,
) -> None:
    """Take changes back by new ones, all or nothing: of a request, of a key, or all after a version."""
    if [request_id, key_id, to].count(None) != 2 or (since is None) != (key_id is None):
        raise click.UsageError("Name the changes by --request, by --key and --since, or by --to.")
    values = {"requestId": request_id, "keyId": key_id, "since": since, "to": to, "conflicts": conflicts}
    with open_app(options, create=False):
        lines = revert_values(values, keep=not dry_run)
        try:
            for line in lines:
                click.echo(line)
        finally:
            # The changes are stored, even if nothing reads the lines.
            for row in g.left_out:
                click.echo(f"Left out: {row}", err=True)
            if dry_run or not lines:
                click.echo("Nothing was changed.", err=True)
            else:
                print_undo(options)


def revert_values(values: dict[str, Any], keep: bool) -> list[str]:
    """Revert the changes, stored only with `keep`; return a line for each new change. Raises ClickException."""
    try:
        with write_transaction(keep):
            changes = execute(NEW_CHANGES, since=revert(values))
            return [f"{seq} {action} {resource}/{row_id}" for seq, action, resource, row_id in changes]
    except (Conflict, ValidationError) as error:
        found = pointers(error.errors if isinstance(error, Conflict) else error.messages)
        details = [f"{each['pointer'][1:]}: {each['detail']}" for each in found]
        details += [f"The first {MAX_ERRORS} are listed."] * (len(details) >= MAX_ERRORS)
        hint = ["Add --conflicts skip or --conflicts overwrite."] if isinstance(error, Conflict) else []
        raise click.ClickException("\n".join(details + hint)) from None
    except HTTPException as error:
        raise click.ClickException(str(error.description)) from None
