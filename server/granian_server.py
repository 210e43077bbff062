"""Granian, a server in Rust that keeps several processes, for more cores than one (an optional requirement)."""

import socket
from collections.abc import Callable, Iterable
from typing import Any

import click
from flask import Flask
from werkzeug.wsgi import ClosingIterator

from server.cores import ALL_CORES, run_on
from settings import Settings, lacking

Start = Callable[..., Any]


class Granian:
    """The server: its processes are started by run()."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        try:
            from granian.constants import Interfaces
            from granian.http import HTTP1Settings
            from granian.server import Server
        except ImportError as error:
            raise click.ClickException(lacking(error, "requirements-granian.txt")) from error
        # Imported here because the one binary has neither, and is to say so of Granian.
        import multiprocessing

        self.app = app
        self.started = multiprocessing.Value("i", 0)
        self.core = ALL_CORES
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
        """Serve until a signal; then finish what is in flight, and return."""
        self.server.serve(target_loader=self.load, wrap_loader=False)

    def load(self) -> Start:
        """Return what a new process answers by."""
        with self.started.get_lock():
            number = self.started.value
            self.started.value += 1
        if ALL_CORES:
            # A core of its own, as long as there are enough.
            self.core = {sorted(ALL_CORES)[number % len(ALL_CORES)]}
        run_on(self.core)
        return self.answer

    def answer(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        """Answer a request: at once where all of the answer is there, which spares Granian a way through a queue."""
        body = self.app(environ, start_response)
        if "CONTENT_LENGTH" in environ:
            # Who is cut off while sending never sees why.
            environ["wsgi.input"].read(8 * self.app.config["MAX_CONTENT_LENGTH"])
        if isinstance(body, list | tuple):
            # Granian knows the lists alone.
            return list(body)
        run_on(ALL_CORES)
        return ClosingIterator(body, lambda: run_on(self.core))


def find_port(settings: Settings) -> int:
    """Return the port to listen on, a free one for 0; says why where there is none."""
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
