"""Granian: a WSGI server in Rust with several worker processes (optional: requirements-granian.txt)."""

import socket
from collections.abc import Callable, Iterable
from typing import Any

import click
from flask import Flask

from settings import Settings, missing_package


class Granian:
    """The server: it checks the port once constructed, and starts its worker processes in run()."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        try:
            from granian.constants import Interfaces
            from granian.http import HTTP1Settings
            from granian.server import Server
        except ImportError as error:
            raise click.ClickException(missing_package(error, "requirements-granian.txt")) from error
        self.app = app
        self.port = find_port(settings)
        self.server = Server(
            "cardfile",
            settings.host,
            self.port,
            interface=Interfaces.WSGI,
            workers=settings.workers,
            blocking_threads=settings.threads,
            http1_settings=HTTP1Settings(header_read_timeout=10_000, keep_alive=True),
            websockets=False,
            log_enabled=False,
            workers_kill_timeout=8,
        )

    def run(self) -> None:
        """Serve until a signal; then finish open requests, and return."""
        self.server.serve(target_loader=lambda: self.respond, wrap_loader=False)

    def respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the app, and read the rest of a body over the limit, so that its sender sees the 413."""
        body = self.app(environ, start_response)
        if "CONTENT_LENGTH" in environ:
            environ["wsgi.input"].read(8 * self.app.config["MAX_CONTENT_LENGTH"])
        return body


def find_port(settings: Settings) -> int:
    """Return the port to listen on, a free one for 0.

    Raises click.ClickException with the reason when the host and port can't be listened on.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
            port: int = probe.getsockname()[1]
            return port
    except OSError as error:
        message = f"Can't listen on {settings.host} port {settings.port}: {error.strerror}."
        raise click.ClickException(message) from error
