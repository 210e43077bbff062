"""`serve`: the log, the first key, and the choice of the server."""

import gc
import json
import logging
import sys
from ipaddress import ip_address
from typing import Any

import click
from flask import Flask, current_app
from sqlalchemy import select

import seed
from api.protocol import tell_second
from auth import create_key
from database import backend, close_connections, db, place_of, write_transaction
from models import ApiKey
from settings import SettingRefused, Settings

log = logging.getLogger("cardfile")


class TextLine(logging.Formatter):
    """A log line as text."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return tell_second(int(record.created))


class JSONLine(TextLine):
    """A log line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname, "log": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def run_server(app: Flask, settings: Settings, demo: bool) -> None:
    """Serve until a signal, by the server that the settings name."""
    if settings.workers > 1 and settings.server != "granian":
        raise SettingRefused("--workers needs a server that keeps several processes: add --server granian.")
    set_up_logging(settings.log_format)
    server: Any
    if settings.server == "granian":
        from server.granian_server import Granian

        server = Granian(app, settings)
    else:
        from server.waitress_server import Waitress

        server = Waitress(app, settings)
    if demo:
        seed.load_demo(only_if_empty=True)
    if sys.stdout is None:
        raise click.ClickException("There is no standard output to show the first key on.")
    greet(settings, server.port)
    close_connections()
    # What is here now stays: the collector needn't look through it again and again.
    gc.freeze()
    server.run()


def set_up_logging(log_format: str) -> None:
    """Write the log to standard error, where the access log is written too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLine() if log_format == "json" else TextLine("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A queue is how waitress keeps up with a burst, not news.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def greet(settings: Settings, port: int) -> None:
    """Say where the API is; on the very first start, create an admin key and show it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    version = backend().version(db.session.connection())
    click.echo(f"Cardfile serves {url}/api/v1 from {place_of(settings.database_url)} ({version}).")
    # Shown before it is kept: a key that nobody saw would be there for ever.
    with write_transaction():
        if db.session.scalar(select(ApiKey.id).limit(1)) is None:
            _record, key = create_key("first start", "admin")
            click.echo(f"Your admin key, shown this once: {key}\nTry it:\n")
            click.echo(f'  curl -H "Authorization: Bearer {key}" {url}/api/v1/companies\n')
        # Only where nobody but this machine's people can follow it.
        create_link = current_app.extensions.get("sign_in_link")
        if create_link and is_loopback(settings.host):
            click.echo(f"Developer settings (one-time link, valid for 15 minutes): {url}{create_link()}")
        sys.stdout.flush()


def is_loopback(host: str) -> bool:
    """Tell whether what listens there is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
