"""Granian: a WSGI server in Rust with several worker processes (optional: requirements-granian.txt).

Its threads wait for clients without a limit. So there are many, of which the gate lets some work at a time. Linux drops
clients that don't read (server/listener.py), close_silent_connections() those that don't send. Granian has no public
setting for an inherited socket, with which the port listens before the first key is shown and drops such clients.
"""

import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

import click
from flask import Flask, has_app_context

from database.connection import release_connection
from server import listener
from server.listener import BACKLOG, open_sockets, raise_descriptor_limit, share
from server.signals import catch_signals
from settings import Settings, missing_package

# Threads of a process, most of which may wait for clients.
MAX_THREADS = 512
CHECK_SECONDS = 1


def import_granian() -> Any:
    """Return the package. Raises click.ClickException where it isn't installed."""
    try:
        import granian.constants
        import granian.http
        import granian.net
        import granian.server
    except ImportError as error:
        raise click.ClickException(missing_package(error, "requirements-granian.txt")) from error
    return granian


def inheriting_server(granian: Any, sockets: list[socket.socket]) -> Any:
    """Return a class of Granian's server, each of whose workers listens on one of the sockets."""

    class InheritingServer(granian.server.Server):  # type: ignore[misc]
        def _init_shared_socket(self) -> None:
            self._ssp, self._sso = None, sockets[0]

        def _spawn_worker(self, idx: int, **rest: Any) -> Any:
            self._shd = granian.net.SocketHolder(sockets[idx].fileno(), False, BACKLOG)
            return super()._spawn_worker(idx=idx, **rest)

    return InheritingServer


def create_server(granian: Any, workers: int, own: socket.socket, connection_limit: int) -> Any:
    """Return Granian's server, whose workers listen on the socket, and on others with its address."""
    return inheriting_server(granian, share(own, workers))(
        "cardfile",
        port=own.getsockname()[1],
        interface=granian.constants.Interfaces.WSGI,
        workers=workers,
        blocking_threads=MAX_THREADS,
        backpressure=connection_limit,
        # HTTP/2 has windows of its own, which the system's time limit doesn't see.
        http=granian.constants.HTTPModes.http1,
        http1_settings=granian.http.HTTP1Settings(
            # Also the time that an idle connection lives.
            header_read_timeout=listener.IDLE_SECONDS * 1000,
            max_buffer_size=64 * 1024,
        ),
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=8,
    )


class Granian:
    """The server: it listens once constructed, and starts its worker processes in run()."""

    def __init__(self, app: Flask, settings: Settings, variables: Collection[str]) -> None:
        granian = import_granian()
        self.app, self.gate = app, threading.BoundedSemaphore(settings.threads)
        # Since when requests, outside of the gate, wait for their bodies, by thread.
        self.waits: dict[int, float] = {}
        connection_limit = raise_descriptor_limit()
        # Granian takes one socket: of several addresses the first.
        own, *others = open_sockets(settings, variables)
        for each in others:
            each.close()
        self.address, self.port = own.getsockname()[:2]
        self.server = create_server(granian, settings.workers, own, connection_limit)
        # Installed before the greeting, because its reader may stop the server at once.
        self.signals = catch_signals()

    def run(self) -> None:
        """Serve until a signal; then finish open requests, and return."""
        # Imported here because the one-file binary has neither this module nor Granian.
        import multiprocessing

        # Worker processes inherit the app and the socket.
        multiprocessing.set_start_method("fork", force=True)
        # A signal may have come before Granian had its own handlers.
        self.server.on_startup(lambda: self.signals and self.server.signal_handler_interrupt())
        self.server.serve(target_loader=self.start_worker, wrap_loader=False)

    def start_worker(self) -> Callable[..., Iterable[bytes]]:
        """Return a worker's WSGI app, and begin to close its stalled connections."""
        threading.Thread(target=self.close_stalled_connections, daemon=True).start()
        return self.respond

    def close_stalled_connections(self) -> None:
        """Close the connections whose bodies make no progress, for ever."""
        while True:
            time.sleep(CHECK_SECONDS)
            now = time.monotonic()
            if any(now - since > listener.STALLED_SECONDS for since in list(self.waits.values())):
                close_silent_connections(self.port)

    def respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the app, which needs no body to refuse a request without a key."""
        status = ""

        def start(line: str, *rest: Any) -> Any:
            nonlocal status
            status = line
            return start_response(line, *rest)

        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            environ["wsgi.input"] = Body(environ["wsgi.input"], self.gate, self.waits)
        with self.gate:
            body = self.app(environ, start)
            if status.startswith("413"):
                # Read, so that its sender sees the response.
                environ["wsgi.input"].read(8 * self.app.config["MAX_CONTENT_LENGTH"])
            return body


class Body:
    """A request's body, which is read outside of the gate."""

    def __init__(self, stream: Any, gate: threading.Semaphore, waits: dict[int, float]) -> None:
        self.stream, self.gate, self.waits = stream, gate, waits

    def read(self, size: int | None = None) -> bytes:
        """Return so many bytes, or all; fewer when the connection ends. No transaction is open yet."""
        if has_app_context():
            # Else requests that wait would use up the connections to the database.
            release_connection()
        self.waits[threading.get_ident()] = time.monotonic()
        self.gate.release()
        try:
            data: bytes = self.stream.read(size)
            return data
        finally:
            del self.waits[threading.get_ident()]
            self.gate.acquire()


def close_silent_connections(port: int) -> None:
    """Close the connections that wait for a response, and had no traffic for STALLED_SECONDS.

    Where there is none, the stalled client has had 100 Continue: then all silent connections are closed.
    """
    for unanswered in True, False:
        if sum(close_if_silent(each, unanswered) for each in own_connections(port)):
            return


def own_connections(port: int) -> Iterator[socket.socket]:
    """Yield a copy of each connection of this process to the port."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                with socket.socket(fileno=os.dup(int(name))) as copy:
                    is_tcp = copy.family in {socket.AF_INET, socket.AF_INET6}
                    if is_tcp and copy.getsockname()[1] == port and copy.getpeername():
                        yield copy


def close_if_silent(connection: socket.socket, unanswered: bool) -> bool:
    """Close a connection without traffic for STALLED_SECONDS, perhaps only if it waits for a response; tell if so."""
    # Linux's struct tcp_info: the milliseconds since data was sent and since data was received.
    sent, received = struct.unpack_from("=I4xI", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 44)
    is_silent = min(sent, received) > listener.STALLED_SECONDS * 1000 and (received < sent or not unanswered)
    if is_silent:
        # OSError: the client has closed it meanwhile.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    return is_silent
