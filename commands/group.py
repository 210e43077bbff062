"""The base of all commands: errors as one sentence, the options of settings, the app."""

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from flask import Flask, g
from sqlalchemy.exc import DBAPIError

from auth import KeyConflict
from database import close_database, db
from database.backend import display_name, reason
from database.identity import LostFile
from database.schema import UnusableDatabase
from database.write_lock import WriteLockTimeout
from formats.ids import new_id
from seed import InvalidData
from settings import InvalidSetting, Settings, load_settings

ERRORS = (InvalidSetting, UnusableDatabase, LostFile, KeyConflict, InvalidData, WriteLockTimeout)


class CommandGroup(click.Group):
    """A group that runs `serve` if no command is named, and reports errors in one sentence."""

    def main(self, *args: Any, **extra: Any) -> Any:
        # A path or a name may have characters that the terminal can't encode.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "--version"}):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        # New files are for their owner alone: databases, backups and exports hold people's data.
        os.umask(os.umask(0o077) | 0o077)
        try:
            return super().invoke(ctx)
        except ERRORS as error:
            raise click.ClickException(str(error)) from error
        except UnicodeEncodeError as error:
            raise click.ClickException(f"{error.object!r} is not UTF-8.") from error
        except OSError as error:
            if error.filename is None:
                # Python writes what is left of the output again at exit, and fails with the status 120.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if isinstance(error, BrokenPipeError):
                # The status of a program that SIGPIPE ended, as `| head` does.
                raise click.exceptions.Exit(141) from error
            raise click.ClickException(f"{error.filename or 'The output'}: {error.strerror}.") from error


def setting_options(*names: str) -> Callable[[Any], Any]:
    """Return a decorator that gives a command the options of these settings."""

    def decorate(command: Any) -> Any:
        for row in reversed([row for row in fields(Settings) if row.name in names]):
            note = f"{row.metadata['help']}  [{row.name.upper()}; default: {row.metadata['default']}]"
            command = click.option(row.metadata["flag"], row.name, metavar="VALUE", help=note)(command)
        return command

    return decorate


def settings_of(options: Mapping[str, str | None]) -> Settings:
    """Return the settings from a command's options or the environment; those without an option are defaults."""
    names = {name: name.lower().removesuffix("_file") for name in os.environ}
    return load_settings(options, {name: os.environ[name] for name in names if names[name] in options})


@contextmanager
def open_app(options: Mapping[str, str | None], create: bool = True, writes: bool = True) -> Iterator[Flask]:
    """Run the block in the context of the app that the options and the environment describe."""
    create_app: Callable[[Settings, bool], Flask] = click.get_current_context().find_root().obj
    settings = settings_of(options)
    url = settings.database_url
    if url.get_backend_name() == "sqlite" and not create and not Path(display_name(url)).exists():
        raise click.ClickException(f"There is no database at {display_name(url)}.")
    app = create_app(settings, writes)
    with app.app_context():
        g.request_id = new_id()
        try:
            yield app
        except (DBAPIError, db.engine.dialect.loaded_dbapi.Error) as error:
            raise click.ClickException(f"The database can't be used: {reason(url, error)}.") from error
        finally:
            close_database()


def print_undo(options: Mapping[str, str | None]) -> None:
    """Print the command that takes the command's changes back, if there are any, to standard error."""
    if "has_written" in g:
        program = click.get_current_context().find_root().info_name or ""
        if program.endswith(".py"):
            python = sys.executable.removeprefix(f"{Path.cwd()}/")
            program = shlex.join([python, str(Path(sys.argv[0]).with_name("service.py"))])
        url = options["database_url"]
        if url and (parsed := settings_of(options).database_url).get_backend_name() != "sqlite":
            # Standard error is often kept in a log, which must not have the password.
            query = {name: parsed.query[name] for name in ("host", "port", "sslmode") if name in parsed.query}
            url = str(parsed.set(query=query))
        database = f" --database {shlex.quote(url)}" if url else ""
        click.echo(f"To undo: {program} revert --request {g.request_id}{database}", err=True)


def print_counts(verb: str, counts: Mapping[str, int]) -> None:
    """Print the number of rows of each resource to standard error."""
    click.echo(f"{verb} {', '.join(f'{count} {name}' for name, count in counts.items())}.", err=True)
