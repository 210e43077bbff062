"""waitress (one process): its limits, its own errors as problem+json, persistent connections, graceful shutdown."""

import logging
import signal
import time
from types import FrameType
from typing import Any

import click
from flask import Flask
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, WSGITask

from api.problems import DETAILS, PROBLEM_TYPE, problem_json
from api.protocol import request_id_from
from settings import Settings

access_log = logging.getLogger("cardfile.access")

# Less than the ten seconds that `docker stop` waits.
SHUTDOWN_SECONDS = 8
# The one-file binary receives one Ctrl-C twice: from the terminal and from its parent process.
SAME_SIGNAL_SECONDS = 0.5

OPTIONS = {
    "connection_limit": 2000,
    # select() fails past 1,024 descriptors.
    "asyncore_use_poll": True,
    "channel_timeout": 10,
    "cleanup_interval": 5,
    "max_request_header_size": 64 * 1024,
    "ident": None,
    # The setting `proxies` decides about these headers, for every server.
    "clear_untrusted_proxy_headers": False,
    # A long list waits for its reader once this much is unsent, so that waitress never buffers it in a file.
    "outbuf_high_watermark": 1024 * 1024,
    "outbuf_overflow": 8 * 1024 * 1024,
}


class KeepAliveTask(WSGITask):  # type: ignore[misc]
    """Keeps the connection open after 204, 304 and chunked responses (RFC 9112 §6.3 and §9.3)."""

    def set_close_on_finish(self) -> None:
        # waitress calls this after every response that has no Content-Length.
        is_chunked = self.chunked_response and self.request.command != "HEAD"
        is_delimited = self.version == "1.1" and (is_chunked or not self.has_body)
        if not is_delimited or self.request.headers.get("CONNECTION", "").lower() == "close":
            super().set_close_on_finish()


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers requests that waitress refuses by itself (unreadable or too large) with problem+json, and logs them."""

    def execute(self) -> None:
        error, request_id = self.request.error, request_id_from(self.request.headers.get("X_REQUEST_ID", ""))
        body = problem_json(error.code, DETAILS.get(error.code, f"{error.body.rstrip('.')}."), request_id).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", PROBLEM_TYPE), ("X-Request-Id", request_id)]
        self.content_length = len(body)
        self.set_close_on_finish()
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)
        access_log.info("rejected before the app: %s %s", self.status, request_id)


class Waitress:
    """The server: it listens once constructed, and answers requests in run()."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        raise_descriptor_limit()
        self.sockets: dict[int, Any] = {}
        self.server = listen(app, settings, self.sockets)
        # Installed before the greeting, because its reader may stop the server at once.
        self.signals = catch_signals()
        self.port = next(each for each in self.sockets.values() if isinstance(each, BaseWSGIServer)).effective_port

    def run(self) -> None:
        """Serve until a signal; then stop accepting connections, finish open requests, and return."""
        serve_until(self.signals, self.server, self.sockets)


def listen(app: Flask, settings: Settings, sockets: dict[int, Any]) -> Any:
    """Return a waitress server that listens; its sockets are added to the given map."""
    # waitress has no public setting for its tasks. Without KeepAliveTask every 304 closes the client's connection;
    # without ProblemTask its own errors are plain text.
    HTTPChannel.task_class, HTTPChannel.error_task_class = KeepAliveTask, ProblemTask
    try:
        return create_server(
            app,
            map=sockets,
            host=settings.host,
            port=settings.port,
            server_name=settings.host,
            threads=settings.threads,
            # A body over the app's limit is read up to here, so that its sender sees the 413.
            max_request_body_size=8 * app.config["MAX_CONTENT_LENGTH"],
            **OPTIONS,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        message = f"Can't listen on {settings.host} port {settings.port}: {reason}."
        raise click.ClickException(message) from error


def raise_descriptor_limit() -> None:
    """Raise the limit of open files to what the connection limit needs, where the system has such a limit."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def catch_signals() -> list[float]:
    """Return a list that receives the times of SIGTERM and Ctrl-C; a second Ctrl-C raises KeyboardInterrupt."""
    times: list[float] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        times.append(time.monotonic())
        if number == signal.SIGINT and times[-1] - times[0] > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return times


def serve_until(signals: list[float], server: Any, sockets: dict[int, Any]) -> None:
    """Run waitress's loop until a signal arrives; then stop accepting connections and finish open requests."""
    # waitress's own run() drops responses that its loop has not sent yet.
    while not signals:
        wasyncore.loop(timeout=0.5, use_poll=True, map=sockets, count=1)
    for each in list(sockets.values()):
        if isinstance(each, BaseWSGIServer):
            wasyncore.dispatcher.close(each)
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while close_idle_connections(sockets) and time.monotonic() < deadline:
        wasyncore.loop(timeout=0.05, use_poll=True, map=sockets, count=1)
    server.task_dispatcher.shutdown(timeout=max(0, deadline - time.monotonic()))
    wasyncore.close_all(sockets)


def close_idle_connections(sockets: dict[int, Any]) -> bool:
    """Close the connections without an open request; tell whether any others are left."""
    channels = [each for each in sockets.values() if isinstance(each, HTTPChannel)]
    for channel in channels:
        is_receiving = channel.request and channel.request.headers_finished
        if not (channel.requests or is_receiving or channel.total_outbufs_len):
            channel.will_close = True
    return bool(channels)
