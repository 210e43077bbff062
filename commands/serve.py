"""`serve`, the command of the room server."""

import os
from contextlib import nullcontext
from dataclasses import fields

import click

from commands.group import open_app, setting_options, settings_of
from settings import Settings, variables_used


@click.command()
@setting_options(*(row.name for row in fields(Settings)))
@click.option("--demo", is_flag=True, help="Fill an empty database with demo data first.")
@click.option("--sandbox", is_flag=True, help="Serve a temporary copy of the database: nothing is kept.")
def serve(demo: bool, sandbox: bool, **options: str | None) -> None:
    """Serve the API until Ctrl-C or SIGTERM (the default command)."""
    from server import run_server
    from server.sandbox import temporary_copy

    settings = settings_of(options)
    with (
        temporary_copy(settings.database_url) if sandbox else nullcontext(options["database_url"]) as url,
        open_app(options | {"database_url": url}) as app,
    ):
        run_server(app, settings, variables_used(options, os.environ), demo, sandbox)
