"""waitress, the server that needs nothing else: its limits, our errors in its own, an orderly end."""

import logging
import signal
import time
from functools import lru_cache, partial
from types import FrameType
from typing import Any

import click
from flask import Flask
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import build_http_date

from api.problems import PROBLEM_TYPE, SENTENCES, describe
from api.protocol import request_id_from
from database import backend_of
from server.cores import ALL_CORES, ONE_CORE, run_on
from server.dispatcher import Dispatcher, wake
from settings import Settings

access_log = logging.getLogger("cardfile.access")

# Less than the ten that `docker stop` gives.
SECONDS_TO_FINISH = 8
SECONDS_OF_ONE_SIGNAL = 0.5

ADJUSTMENTS = {
    "connection_limit": 2000,
    # Without poll(), the connection limit would kill the process past 1,024 descriptors.
    "asyncore_use_poll": True,
    "channel_timeout": 10,
    "cleanup_interval": 5,
    "max_request_header_size": 64 * 1024,
    "ident": None,
    # Nothing reads what a proxy says of its clients, so it needn't be taken away.
    "clear_untrusted_proxy_headers": False,
    # A long list waits for its reader once this much is unsent, so none is ever kept in a file.
    "outbuf_high_watermark": 1024 * 1024,
    "outbuf_overflow": 8 * 1024 * 1024,
}
date_of = lru_cache(maxsize=1)(build_http_date)


class LastingTask(WSGITask):  # type: ignore[misc]
    """A request's work, after which the connection stays open where the answer shows its own end (RFC 9112 §6.3)."""

    wrote_header: bool

    def is_asked_to_close(self) -> bool:
        """Tell whether the client asks that this be its connection's last answer."""
        return bool(self.request.headers.get("CONNECTION", "").lower() == "close")

    def set_close_on_finish(self) -> None:
        # waitress asks for this after every answer without a length: 204, 304 and those sent in chunks.
        in_chunks = self.chunked_response and self.request.command != "HEAD"
        shows_its_end = self.version == "1.1" and (in_chunks or not self.has_body)
        if not shows_its_end or self.is_asked_to_close():
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        """Return the answer's first bytes; a long list follows them from whatever core is free."""
        headers = dict(self.response_headers)
        is_plain = self.version == "1.1" and self.has_body and "Content-Length" in headers and "Date" not in headers
        if is_plain and not self.is_asked_to_close():
            # waitress would sort the headers and spell each anew, for every answer.
            lines = [f"{name}: {value}" for name, value in self.response_headers]
            lines = [f"HTTP/1.1 {self.status}", *lines, f"Date: {date_of(int(self.start_time))}", "\r\n"]
            return "\r\n".join(lines).encode("latin-1")
        header: bytes = super().build_response_header()
        if self.chunked_response:
            run_on(ALL_CORES)
        return header

    def write(self, data: bytes) -> None:
        """Send a whole answer at once, header and body: each sending lets another thread go first."""
        if self.complete and not self.wrote_header and self.content_length == len(data):
            header = self.build_response_header()
            self.wrote_header, self.content_bytes_written = True, len(data)
            self.channel.write_soon(header + (data if self.has_body else b""))
        else:
            super().write(data)

    def service(self) -> None:
        """Do the work, even when the client goes away in the middle."""
        try:
            super().service()
        finally:
            if self.chunked_response:
                run_on(ONE_CORE)


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """What waitress answers by itself, a request that it can't read or won't take, in the form of all our errors."""

    def execute(self) -> None:
        error, request_id = self.request.error, request_id_from(self.request.headers.get("X_REQUEST_ID", ""))
        body = describe(error.code, SENTENCES.get(error.code, f"{error.body.rstrip('.')}."), request_id).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", PROBLEM_TYPE), ("X-Request-Id", request_id)]
        self.content_length = len(body)
        self.set_close_on_finish()
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)
        access_log.info("refused unread: %s %s", self.status, request_id)


class Waitress:
    """The server: it listens from the beginning, and answers from run() on."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        raise_descriptor_limit()
        run_on(ONE_CORE)
        self.app = app
        self.sockets: dict[int, Any] = {}
        self.server = listen(app, settings, self.sockets)
        # Before anybody is told that it listens, because who reads it may stop the server at once.
        self.signals = catch_signals()
        self.port = next(each for each in self.sockets.values() if isinstance(each, BaseWSGIServer)).effective_port

    def run(self) -> None:
        """Serve until a signal; then stop accepting, finish what is in flight, and return."""
        serve_until(self.signals, self.server, self.sockets)
        self.app.extensions["last_use"].stop()


def listen(app: Flask, settings: Settings, sockets: dict[int, Any]) -> Any:
    """Return a waitress server that listens, its sockets in the map that is given."""
    HTTPChannel.task_class, HTTPChannel.error_task_class = LastingTask, ProblemTask
    dispatcher = Dispatcher(settings.threads, backend_of(settings.database_url).CAN_BOUND)
    try:
        server = create_server(
            app,
            map=sockets,
            _dispatcher=dispatcher,
            host=settings.host,
            port=settings.port,
            threads=settings.threads,
            # What is too large is read all the same, if it isn't huge: who is cut off while sending never sees the 413.
            max_request_body_size=8 * app.config["MAX_CONTENT_LENGTH"],
            **ADJUSTMENTS,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        message = f"Can't listen on {settings.host} port {settings.port}: {reason}."
        raise click.ClickException(message) from error
    for each in sockets.values():
        if isinstance(each, BaseWSGIServer):
            # waitress wakes who listens after every answer; it needn't wake itself.
            each.pull_trigger = partial(wake, dispatcher, each.trigger)
    return server


def raise_descriptor_limit() -> None:
    """Allow as many open files as the connection limit needs, where the system has such a limit."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def catch_signals() -> list[float]:
    """Return a list into which goes when Ctrl-C or SIGTERM came; a later Ctrl-C interrupts as usual."""
    caught: list[float] = []

    def catch(number: int, _frame: FrameType | None) -> None:
        caught.append(time.monotonic())
        # One Ctrl-C comes twice to the one binary: from the terminal, and from the process that unpacked it.
        if number == signal.SIGINT and caught[-1] - caught[0] > SECONDS_OF_ONE_SIGNAL:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, catch)
    signal.signal(signal.SIGTERM, catch)
    return caught


def serve_until(signals: list[float], server: Any, sockets: dict[int, Any]) -> None:
    """Run waitress's loop until a signal was caught, then stop accepting and finish what is in flight."""
    # waitress's own run() ends by dropping the answers that its loop has yet to send.
    while not signals:
        turn(server, sockets, 0.5)
    for each in list(sockets.values()):
        if isinstance(each, BaseWSGIServer):
            wasyncore.dispatcher.close(each)
    deadline = time.monotonic() + SECONDS_TO_FINISH
    while close_idle(sockets) and time.monotonic() < deadline:
        turn(server, sockets, 0.05)
    server.task_dispatcher.shutdown(timeout=max(0, deadline - time.monotonic()))
    wasyncore.close_all(sockets)


def turn(server: Any, sockets: dict[int, Any], timeout: float) -> None:
    """Wait for the clients, no longer than the timeout, then take and answer what has come."""
    dispatcher = server.task_dispatcher
    wasyncore.loop(timeout=0 if dispatcher.taken else timeout, use_poll=True, map=sockets, count=1)
    dispatcher.work()


def close_idle(sockets: dict[int, Any]) -> bool:
    """Close the connections on which nothing is in flight; tell whether any others are left."""
    channels = [each for each in sockets.values() if isinstance(each, HTTPChannel)]
    for channel in channels:
        receiving = channel.request and channel.request.headers_finished
        if not (channel.requests or receiving or channel.total_outbufs_len):
            channel.will_close = True
    return bool(channels)
