"""`serve`, the command of the room server."""

import os
from dataclasses import fields

import click

from commands.group import open_app, setting_options, settings_of
from settings import Settings, variables_used


@click.command()
@setting_options(*(row.name for row in fields(Settings)))
@click.option("--demo", is_flag=True, help="Fill an empty database with demo data first.")
def serve(demo: bool, **options: str | None) -> None:
    """Serve the API until Ctrl-C or SIGTERM (the default command)."""
    from server import run_server

    settings = settings_of(options)
    with open_app(options) as app:
        run_server(app, settings, variables_used(options, os.environ), demo)
