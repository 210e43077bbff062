"""Granian: a WSGI server in Rust with several worker processes (optional: requirements-granian.txt).

Its threads wait for clients without a limit. So there are many, of which the gate lets some work at a time. Linux drops
clients that don't read (server/listener.py), close_silent_connections() those that don't send. Granian has no public
setting for an inherited socket, with which the port listens before the first key is shown and drops such clients.
"""

import ctypes
import errno
import gc
import math
import os
import signal
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
CHECK_SECONDS = 0.5
# In a crowd, a client may wait so long for a response. Linux doesn't tell it from one that has sent half a header.
CROWDED_ANSWER_SECONDS = 5
PR_SET_PDEATHSIG = 1


def import_granian() -> Any:
    """Return the package. Raises click.ClickException where it isn't installed."""
    try:
        import granian.constants
        import granian.http
        import granian.log
        import granian.net
        import granian.server
    except ImportError as error:
        raise click.ClickException(missing_package(error, "granian")) from error
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
        # Such as a worker process that died.
        log_level=granian.log.LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
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
        self.connection_limit = raise_descriptor_limit()
        # Granian takes one socket: of several addresses the first.
        own, *others = open_sockets(settings, variables)
        for each in others:
            each.close()
        self.address, self.port = own.getsockname()[:2]
        self.server = create_server(granian, settings.workers, own, self.connection_limit)
        # Installed before the greeting, because its reader may stop the server at once.
        self.signals = catch_signals()

    def run(self) -> None:
        """Serve until a signal; then finish open requests, and return."""
        # Imported here because the one-file binary has neither this module nor Granian.
        import multiprocessing

        # Worker processes inherit the app and the socket.
        multiprocessing.set_start_method("fork", force=True)
        # Else each worker's first full collection copies the memory that the processes share (tests/soak/test_load.py).
        gc.freeze()
        # A signal may have come before Granian had its own handlers.
        self.server.on_startup(lambda: self.signals and self.server.signal_handler_interrupt())
        # A worker process may stop before its parent knows why, as when a signal is sent to all.
        self.server.on_shutdown(lambda: self.server.interrupt_signal and self.server.interrupt_children.clear())
        self.server.serve(target_loader=self.start_worker, wrap_loader=False)

    def start_worker(self) -> Callable[..., Iterable[bytes]]:
        """Return a worker's WSGI app, and begin to close its stalled connections; the worker ends with its parent."""
        with suppress(AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # After Ctrl-C the parent sends SIGTERM. Of two signals at once, Linux may not wake Python's main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # Granian catches SIGTERM a moment later. Until here, the inherited handler has only noted it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self.server.interrupt_signal:
            # The parent may send it only now.
            time.sleep(1)
            signal.raise_signal(signal.SIGTERM)
        threading.Thread(target=self.close_stalled_connections, daemon=True).start()
        for each in self.app.extensions["background"]:
            each.start()
        return self.respond

    def close_stalled_connections(self) -> None:
        """Close the connections whose bodies make no progress, for ever."""
        while True:
            time.sleep(CHECK_SECONDS)
            now = time.monotonic()
            if any(now - since > listener.STALLED_SECONDS for since in list(self.waits.values())):
                limit = listener.STALLED_SECONDS
                # Without any that waits for a response, the stalled client has had 100 Continue.
                close_silent_connections(self.port, math.inf, limit) or close_silent_connections(
                    self.port, limit, limit
                )
            elif is_crowded(self.connection_limit):
                close_silent_connections(self.port, listener.CROWDED_SECONDS, CROWDED_ANSWER_SECONDS)

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
                # Its sender sees the response once the rest is read (RFC 9112 §9.6).
                deadline = time.monotonic() + listener.LINGER_SECONDS
                while environ["wsgi.input"].read(1024 * 1024) and time.monotonic() < deadline:
                    pass
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


def close_silent_connections(port: int, idle: float, unanswered: float) -> int:
    """Close the connections without traffic for so many seconds, idle or waiting for a response; return how many."""
    closed = 0
    for each in own_connections(port):
        # Linux's struct tcp_info: the milliseconds since data was sent and since data was received.
        sent, received = struct.unpack_from("=I4xI", each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 44)
        if min(sent, received) > 1000 * (unanswered if received < sent else idle):
            closed += 1
            # OSError: the client has closed it meanwhile.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
    return closed


def own_connections(port: int) -> Iterator[socket.socket]:
    """Yield each connection of this process to the port, as it is: no descriptor may be left for a copy."""
    for number in range(2 * listener.MAX_CONNECTIONS):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                connection = socket.socket(fileno=number)
                try:
                    is_tcp = connection.family in {socket.AF_INET, socket.AF_INET6}
                    if is_tcp and connection.getsockname()[1] == port and connection.getpeername():
                        yield connection
                finally:
                    connection.detach()


def is_crowded(connection_limit: int) -> bool:
    """Tell whether nearly as many files are open as a process may have connections."""
    try:
        return len(os.listdir("/proc/self/fd")) > listener.CROWDED * connection_limit
    except OSError as error:
        return error.errno == errno.EMFILE
