"""The commands: `python service.py NAME`, or `cardfile NAME` as a binary. `serve` is the default."""

import sys

import click

from commands.database import backup, check, copy, forget, restore
from commands.files import export_command, import_command
from commands.group import CommandGroup
from commands.history import revert_command
from commands.keys import keys
from commands.mcp import mcp_command
from commands.seed import demo, seed
from commands.serve import serve
from database import sqlite
from settings import VERSION

BUILD = f"SQLite {sqlite.driver.sqlite_version}, Python {sys.version.split()[0]}"


@click.group(cls=CommandGroup)
@click.version_option(VERSION, prog_name="cardfile", message=f"%(prog)s %(version)s ({BUILD})")
def cli() -> None:
    """Cardfile: a CRM REST API over companies, contacts and conversations in one SQLite file."""


cli.add_command(serve)
cli.add_command(keys)
cli.add_command(seed)
cli.add_command(demo)
cli.add_command(export_command)
cli.add_command(import_command)
cli.add_command(backup)
cli.add_command(restore)
cli.add_command(copy)
cli.add_command(revert_command)
cli.add_command(forget)
cli.add_command(check)
cli.add_command(mcp_command)
