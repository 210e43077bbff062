"""`serve`: the first lines, with the first key, and the choice of the WSGI server."""

import ctypes
import sys
from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import click
import sqlalchemy as sa
from flask import Flask, current_app

import seed
from api.first_key import store_admin_key
from auth import create_key
from database import backend, close_database
from database.backend import display_name
from database.connection import connection, execute, write_transaction
from models import ApiKey
from server.log import set_up_logging
from server.spool import Spool
from server.turns import Turns
from settings import InvalidSetting, Settings, missing_package

NO_TLS = "Warning: without TLS, others on the network can read API keys: put a proxy in front (see PROXIES in README)."


def run_server(app: Flask, settings: Settings, variables: Collection[str], demo: bool, sandbox: bool) -> None:
    """Serve until a signal. `variables` are the environment variables that settings are from, for error messages."""
    if settings.workers > 1 and settings.server != "granian":
        name, other = ("WORKERS", "SERVER=granian") if "WORKERS" in variables else ("--workers", "--server granian")
        raise InvalidSetting(f"{name} needs a server with several processes: add {other}.")
    set_up_logging(settings.log_format)
    store_admin_key(settings.cardfile_admin_key)
    return_freed_memory()
    server: Any
    if settings.server == "granian":
        try:
            from server.granian_server import Granian
        except ImportError as error:
            raise click.ClickException(missing_package(error, "granian")) from error
        # Granian would end a response that fails halfway as if it were complete.
        app.wsgi_app = Spool(Turns(app.wsgi_app), streams=0)  # type: ignore[method-assign]
        server = Granian(app, settings, variables)
    else:
        from server.waitress_server import Waitress

        app.wsgi_app = Spool(app.wsgi_app, streams=max(1, settings.threads // 8))  # type: ignore[method-assign]
        server = Waitress(app, settings, variables)
    if demo:
        seed.load_demo(only_if_empty=True)
    print_first_lines(settings, server.address, server.port, sandbox)
    close_database()
    server.run()
    for each in reversed(app.extensions["background"]):
        each.stop()


def return_freed_memory() -> None:
    """Let glibc return freed blocks of 1 MiB or more to the system, instead of keeping them for each thread.

    Without it, clients that read nothing cost more memory than tests/server/test_slow_clients.py allows.
    """
    with suppress(OSError, AttributeError, TypeError):
        # M_MMAP_THRESHOLD of malloc.h
        ctypes.CDLL(None).mallopt(-3, 1024 * 1024)


def print_first_lines(settings: Settings, address: str, port: int, sandbox: bool) -> None:
    """Print the API's URL; on the very first start, create an admin key and print it."""
    if sys.stdout is None:
        raise click.ClickException("There is no standard output to show the first key on.")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    version = backend().version(connection().execute)
    name = f"{'a temporary copy of ' if sandbox else ''}{display_name(settings.database_url)}"
    click.echo(f"Cardfile serves {url}/api/v1 from {name} ({version}){': nothing is kept' if sandbox else ''}.")
    create_link = current_app.extensions.get("sign_in_link")
    if create_link:
        click.echo(f"Documentation: {url}/docs")
    if not (is_loopback(settings.host) or settings.proxies):
        click.echo(NO_TLS)
    # Printed before it is committed: otherwise a key that was never shown could stay valid.
    with write_transaction():
        if execute(sa.select(ApiKey.id).limit(1)).fetchone() is None:
            _key_id, key = create_key("first start", "admin")
            click.echo(f"Your admin key, shown this once: {key}\nTry it:\n")
            click.echo(f'  curl -H "Authorization: Bearer {key}" {url}/api/v1/companies\n')
        # A sign-in link is safe only if no other machine can reach the server.
        if create_link and is_loopback(settings.host):
            click.echo(f"Developer settings (one-time link, valid for 15 minutes): {url}{create_link()}")
        sys.stdout.flush()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
