"""Granian: a WSGI server in Rust with several worker processes (optional: requirements-granian.txt).

Its threads wait for slow clients without a time limit. So there are many threads, and a semaphore, the gate, limits how
many of them run the app. Linux closes the connections of clients that don't read (server/listener.py), and
close_silent_connections() those of clients that don't send. Granian has no public setting for an inherited socket: with
one, the port listens before the first key is shown, and has listener.py's options.
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

from flask import Flask, has_app_context
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.net import SocketHolder
from granian.server import Server

from api.rate_limits import TooManyRequests
from database.connection import release_connection
from server import listener
from server.heartbeats import Heartbeats
from server.listener import BACKLOG, open_sockets, raise_descriptor_limit, share
from server.signals import catch_signals
from settings import Settings

# Threads of a process, most of which may wait for clients.
MAX_THREADS = 512
# Bodies that haven't arrived yet: of all clients, and of those with the same key or without one.
MAX_BODIES = MAX_THREADS // 2
MAX_BODIES_OF_CLIENT = MAX_BODIES // 4
# A body of this size fits into the buffers of its connection, also if nobody reads it.
BUFFERED_BYTES = 64 * 1024
CHECK_SECONDS = 0.5
# With nearly all connections in use, a client may wait this long for a response: a client that has sent half a header
# looks the same to Linux.
CROWDED_ANSWER_SECONDS = 5
PR_SET_PDEATHSIG = 1


class InheritingServer(Server):  # type: ignore[misc]
    """Granian's server, whose workers listen on an inherited socket, and on others with its address."""

    def __init__(self, listening: socket.socket, workers: int, connection_limit: int) -> None:
        super().__init__(
            "cardfile",
            port=listening.getsockname()[1],
            interface=Interfaces.WSGI,
            workers=workers,
            blocking_threads=MAX_THREADS,
            backpressure=connection_limit,
            # TCP_USER_TIMEOUT doesn't close HTTP/2 connections whose client stops reading a stream.
            http=HTTPModes.http1,
            # Also the timeout of idle connections.
            http1_settings=HTTP1Settings(header_read_timeout=listener.IDLE_SECONDS * 1000, max_buffer_size=64 * 1024),
            websockets=False,
            # An error is, for example, the end of a worker process.
            log_level=LogLevels.error,
            log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
            respawn_failed_workers=True,
            workers_kill_timeout=8,
        )
        self.sockets = share(listening, workers)

    def _init_shared_socket(self) -> None:
        self._ssp, self._sso = None, self.sockets[0]

    def _spawn_worker(self, idx: int, **rest: Any) -> Any:
        # The worker process inherits the number.
        self.worker_index = idx
        self._shd = SocketHolder(self.sockets[idx].fileno(), False, BACKLOG)
        return super()._spawn_worker(idx=idx, **rest)

    def _drop_shared_socket(self) -> None:
        # By then, the workers have stopped accepting: Granian's loop would not end on a closed socket.
        threading.Timer(0.2, self.close_sockets).start()

    def close_sockets(self) -> None:
        for each in self.sockets:
            # OSError: some systems only shut connections down.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Granian:
    """The server: it listens once constructed, and starts its worker processes in run()."""

    def __init__(self, app: Flask, settings: Settings, variables: Collection[str]) -> None:
        self.app, self.gate = app, threading.BoundedSemaphore(settings.threads)
        # The time since which a request has waited for its body, and its Authorization header, by thread.
        self.waits: dict[int, tuple[float, str]] = {}
        self.heartbeats = Heartbeats(settings.workers)
        self.connection_limit = raise_descriptor_limit()
        # Granian listens on one address: the first of several.
        listening, *others = open_sockets(settings, variables)
        for each in others:
            each.close()
        self.address, self.port = listening.getsockname()[:2]
        self.server = InheritingServer(listening, settings.workers, self.connection_limit)
        # Installed before the first lines are printed, because a program that reads them may stop the server at once.
        self.signals = catch_signals()

    def run(self) -> None:
        """Serve until a signal; then finish open requests, and return."""
        # Imported here because the one-file binary has neither this module nor Granian.
        import multiprocessing

        # Worker processes inherit the app and the socket.
        multiprocessing.set_start_method("fork", force=True)
        # Otherwise each worker's first full garbage collection copies the shared memory (tests/soak/test_load.py).
        gc.freeze()
        hangup = signal.getsignal(signal.SIGHUP)

        def prepare_signals() -> None:
            # Granian's own handler would replace the workers.
            stop = self.server.signal_handler_interrupt
            signal.signal(signal.SIGHUP, signal.SIG_IGN if hangup == signal.SIG_IGN else stop)
            # A signal may have come before Granian had its handlers.
            if self.signals:
                stop()

        self.server.on_startup(prepare_signals)
        # A signal to all processes may stop a worker before its parent has handled the signal.
        self.server.on_shutdown(lambda: self.server.interrupt_signal and self.server.interrupt_children.clear())
        threading.Thread(target=self.heartbeats.kill_hung_workers, daemon=True).start()
        self.server.serve(target_loader=self.start_worker, wrap_loader=False)

    def start_worker(self) -> Callable[..., Iterable[bytes]]:
        """Start a worker's threads, and return its WSGI app; the worker ends with its parent."""
        with suppress(AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # After Ctrl-C the parent sends SIGTERM. Of two signals at once, Linux may not wake Python's main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # Granian installs its own handler of SIGTERM a moment later; the inherited one only notes the signal.
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
        """Beat, and close the connections whose request bodies make no progress, in an endless loop."""
        while True:
            time.sleep(CHECK_SECONDS)
            self.heartbeats.beat(self.server.worker_index)
            now = time.monotonic()
            if any(now - since > listener.STALLED_SECONDS for since, _client in list(self.waits.values())):
                limit = listener.STALLED_SECONDS
                # If no connection waits for a response, the stalled client was sent 100 Continue, and looks idle.
                close_silent_connections(self.port, math.inf, limit) or close_silent_connections(
                    self.port, limit, limit
                )
            elif is_crowded(self.connection_limit):
                close_silent_connections(self.port, listener.CROWDED_SECONDS, CROWDED_ANSWER_SECONDS)

    def respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the app inside the gate; it reads the body outside."""
        status = ""

        def start(line: str, *rest: Any) -> Any:
            nonlocal status
            status = line
            return start_response(line, *rest)

        if "CONTENT_LENGTH" in environ or "HTTP_TRANSFER_ENCODING" in environ:
            environ["wsgi.input"] = Body(environ["wsgi.input"], environ.get("HTTP_AUTHORIZATION", ""), self)
        with self.gate:
            body = self.app(environ, start)
            is_large = int(environ.get("CONTENT_LENGTH", 0)) > BUFFERED_BYTES
            if status.startswith("413") or (is_large and status.startswith("4")):
                return self.read_rest(body, environ["wsgi.input"])
            return body

    def read_rest(self, body: Iterable[bytes], stream: Any) -> Iterator[bytes]:
        """Yield a response, then read the rest of the request: else the client may not see it (RFC 9112 §9.6)."""
        yield b"".join(body)
        getattr(body, "close", bool)()
        deadline = time.monotonic() + listener.LINGER_SECONDS
        with self.gate, suppress(TooManyRequests):
            while stream.read(1024 * 1024) and time.monotonic() < deadline:
                pass


class Body:
    """The input stream of a request, which is read outside of the gate."""

    def __init__(self, stream: Any, client: str, server: Granian) -> None:
        self.stream, self.client, self.gate, self.waits = stream, client, server.gate, server.waits

    def read(self, size: int | None = None) -> bytes:
        """Return `size` bytes, or all; fewer if the connection ends. No transaction is open yet.

        Raises TooManyRequests while many others are waited for, or many with the same key.
        """
        clients = [client for _since, client in list(self.waits.values())]
        if len(clients) >= MAX_BODIES or clients.count(self.client) >= MAX_BODIES_OF_CLIENT:
            raise TooManyRequests("request bodies that arrive slowly", 5)
        if has_app_context():
            # Otherwise waiting requests would use up the connections to the database.
            release_connection()
        self.waits[threading.get_ident()] = time.monotonic(), self.client
        self.gate.release()
        try:
            data: bytes = self.stream.read(size)
            return data
        finally:
            del self.waits[threading.get_ident()]
            self.gate.acquire()


def close_silent_connections(port: int, idle: float, unanswered: float) -> int:
    """Close the connections without traffic for `idle` seconds, or `unanswered` if they wait for a response.

    Return how many were closed.
    """
    closed = 0
    for each in accepted_connections(port):
        # Linux's struct tcp_info: the milliseconds since data was sent and since data was received.
        sent, received = struct.unpack_from("=I4xI", each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 44)
        if min(sent, received) > 1000 * (unanswered if received < sent else idle):
            closed += 1
            # OSError: the client has closed it meanwhile.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
    return closed


def accepted_connections(port: int) -> Iterator[socket.socket]:
    """Yield each connection of this process to the port, without a copy of its descriptor: none may be left."""
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
    """Tell whether this process has nearly as many open files as it may have connections."""
    try:
        return len(os.listdir("/proc/self/fd")) > listener.CROWDED * connection_limit
    except OSError as error:
        return error.errno == errno.EMFILE
