"""`mcp`, the API for agents over standard input and output."""

import os
import sys
from contextlib import ExitStack

import click

from auth import is_well_formed
from commands.group import open_app, setting_options


@click.command("mcp")
@click.option("--url", metavar="URL", help="Forward to this server, instead of opening the database.")
@setting_options("database_url")
def mcp_command(url: str | None, **options: str | None) -> None:
    """Serve the Model Context Protocol on standard input and output, with the key in CARDFILE_KEY."""
    from mcp.stdio import PING, relay, to_app, to_server

    if url and options["database_url"]:
        raise click.UsageError("Send messages to a server by --url, or open a database by --database, not both.")
    if sys.stdin is None or sys.stdout is None:
        raise click.ClickException("Standard input and output must be open: MCP clients write and read there.")
    key = os.environ.get("CARDFILE_KEY", "")
    if not is_well_formed(key):
        raise click.ClickException("CARDFILE_KEY must hold an API key, as `keys create NAME --scope write` prints it.")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with ExitStack() as stack:
        if url:
            send = to_server(url, headers)
        else:
            app = stack.enter_context(open_app(options, create=False))
            stack.callback(app.extensions["last_use"].stop)
            send = to_app(app, headers)
        answer = send(PING, {})
        if answer and "result" not in answer:
            raise click.ClickException(answer["error"]["message"])
        relay(send, sys.stdin.buffer, sys.stdout.buffer)
