"""waitress (one process): its limits, its own errors as problem+json, persistent connections, graceful shutdown."""

import logging
import re
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_from_bytes

from flask import Flask
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, WSGITask

from api.problems import DETAILS, PROBLEM_TYPE, problem_json
from api.protocol import request_id_from
from auth import API, is_well_formed, sent_key
from database.connection import TASK
from server import listener
from server.listener import open_sockets, raise_descriptor_limit
from server.signals import catch_signals
from settings import Settings

access_log = logging.getLogger("cardfile.access")

# Less than the ten seconds that `docker stop` waits.
SHUTDOWN_SECONDS = 8
# The first of them, in which requests that clients have already sent are still accepted.
LAST_REQUESTS_SECONDS = 0.3
CHECK_SECONDS = 0.5
# With more unsent bytes of earlier responses, the next response on a connection is the last one.
MAX_UNREAD = 64 * 1024
# With more unsent bytes, the rest of a long list is written to a file; well below "outbuf_high_watermark".
MAX_UNSENT = 256 * 1024
accept_one = BaseWSGIServer.handle_accept
ASCII = bytes(range(128))
FOLDED_LINE = re.compile(rb"\n[ \t]")
TRANSFER_ENCODING = re.compile(rb"^transfer-encoding[ \t]*:", re.IGNORECASE | re.MULTILINE)

OPTIONS = {
    # select() fails past 1,024 descriptors.
    "asyncore_use_poll": True,
    # check_connections() closes idle connections; this would also cut a response whose client pauses.
    "channel_timeout": 24 * 3600,
    "max_request_header_size": 64 * 1024,
    "ident": None,
    # A body up to the limit stays in memory, so that a full disk doesn't break its connection.
    "inbuf_overflow": 2 * 1024 * 1024,
    # The setting `proxies` decides about these headers, for every server.
    "clear_untrusted_proxy_headers": False,
    # A client that goes away is no error of the server.
    "log_socket_errors": False,
    # With more unsent bytes, the thread of a long list waits for its client.
    "outbuf_high_watermark": 1024 * 1024,
    # Spool puts large responses into files.
    "outbuf_overflow": 64 * 1024 * 1024,
}


class KeepAliveTask(WSGITask):  # type: ignore[misc]
    """Keeps the connection open after 204, 304 and chunked responses (RFC 9112 §6.3 and §9.3)."""

    def execute(self) -> None:
        # Otherwise a thread would wait for a client that sends many requests and reads no responses.
        if self.channel.total_outbufs_len > MAX_UNREAD or Channel.is_stopping:
            super().set_close_on_finish()
        super().execute()

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[TASK] = self
        return environ

    def has_unsent_output(self) -> bool:
        """Tell whether the client reads more slowly than the response is made."""
        return bool(self.channel.total_outbufs_len > MAX_UNSENT)

    def is_client_gone(self) -> bool:
        """Tell whether the client has closed the connection, or at least its own side."""
        try:
            return not self.channel.socket.recv(1, socket.MSG_PEEK)
        except OSError as error:
            return not isinstance(error, BlockingIOError)

    def set_close_on_finish(self) -> None:
        # waitress calls this after every response that has no Content-Length.
        is_chunked = self.chunked_response and self.request.command != "HEAD"
        is_delimited = self.version == "1.1" and (is_chunked or not self.has_body)
        if not is_delimited or self.request.headers.get("CONNECTION", "").lower() == "close":
            super().set_close_on_finish()


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers requests that waitress refuses by itself (unreadable or too large) with problem+json, and logs them."""

    def execute(self) -> None:
        # waitress logs it when the client has gone, but some unreadable requests have none.
        self.request.path = getattr(self.request, "path", "")
        error, request_id = self.request.error, request_id_from(self.request.headers.get("X_REQUEST_ID", ""))
        body = problem_json(error.code, DETAILS.get(error.code, f"{error.body.rstrip('.')}."), request_id).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", PROBLEM_TYPE), ("X-Request-Id", request_id)]
        self.content_length = len(body)
        self.set_close_on_finish()
        self.channel.has_unread_body = True
        self.write(b"" if getattr(self.request, "command", "") == "HEAD" else body)
        access_log.info("rejected before the app: %s %s", self.status, request_id)


class StrictParser(HTTPChannel.parser_class):  # type: ignore[misc]
    """Closes the connection after a request of ambiguous length; refuses folded headers and long chunk extensions."""

    fault = ""
    # When check_connections() saw the unfinished request for the first time.
    first_seen = 0.0

    def parse_header(self, header_plus: bytes) -> None:
        line, end, fields = header_plus.partition(b"\r\n")
        method, space, target = line.partition(b" ")
        # curl, for example, sends ?q=café as it was typed; waitress would refuse that.
        target = target if target.isascii() else quote_from_bytes(target, ASCII).encode()
        super().parse_header(method + space + target + end + fields)
        # RFC 9112 §5.2: a proxy may read such a header otherwise.
        if FOLDED_LINE.search(header_plus):
            self.fault = "A header continues on the next line"
        # §3.2.2: an absolute URI overrides Host.
        if self.proxy_netloc and "HOST" in self.headers:
            self.headers["HOST"] = self.proxy_netloc
        # §6.1 and §6.3: a proxy may find the end of a request with such headers elsewhere (request smuggling).
        if TRANSFER_ENCODING.search(header_plus) and (not self.chunked or "CONTENT_LENGTH" in self.headers):
            self.headers["CONNECTION"] = "close"

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        # waitress would keep a chunk's extension or the trailer, and search all of it again with every packet.
        if self.chunked and len(self.body_rcv.control_line + self.body_rcv.trailer) > self.adj.max_request_header_size:
            self.fault = "A chunk extension or trailer is too large"
        if self.fault:
            self.error = SimpleNamespace(code=400, reason="Bad Request", body=self.fault)
            self.completed = True
        return consumed


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that reads the rest of a body after the response, so that the client sees it (RFC 9112 §9.6)."""

    task_class, error_task_class, parser_class = KeepAliveTask, ProblemTask, StrictParser
    is_stopping = has_unread_body = will_close = False
    lingers_until = 0.0

    def handle_close(self) -> None:
        if self.has_unread_body and self.will_close and not self.lingers_until:
            self.lingers_until, self.will_close = time.time() + listener.LINGER_SECONDS, False
            self.request = None
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def received(self, data: bytes) -> bool:
        return bool(self.lingers_until or super().received(data))


class Waitress:
    """The server: it listens once constructed, and answers requests in run()."""

    def __init__(self, app: Flask, settings: Settings, variables: Collection[str]) -> None:
        # waitress has no public setting for its tasks. Without KeepAliveTask every 304 closes the client's connection;
        # without ProblemTask its own errors are plain text; without accept_all() 2,600 clients need two seconds.
        BaseWSGIServer.channel_class, BaseWSGIServer.handle_accept = Channel, accept_all
        connection_limit, listening = raise_descriptor_limit(), open_sockets(settings, variables)
        self.address, self.port = listening[0].getsockname()[:2]
        self.app, self.channels = app, dict[int, Any]()
        self.server = create_server(
            app,
            server_name=settings.host,
            map=self.channels,
            sockets=listening,
            threads=settings.threads,
            connection_limit=connection_limit,
            # A body over the app's limit is read up to here, so that its sender sees the 413.
            max_request_body_size=8 * app.config["MAX_CONTENT_LENGTH"],
            **OPTIONS,
        )
        # Installed before the first lines are printed, because a program that reads them may stop the server at once.
        self.signals = catch_signals()

    def run(self) -> None:
        """Serve until a signal; then stop accepting connections, finish open requests, and return."""
        for each in self.app.extensions["background"]:
            each.start()
        next_check = 0.0
        # waitress's own run() drops responses that its loop has not sent yet.
        while not self.signals:
            wasyncore.loop(timeout=CHECK_SECONDS, use_poll=True, map=self.channels, count=1)
            if time.monotonic() >= next_check:
                check_connections(self.channels)
                next_check = time.monotonic() + CHECK_SECONDS
        stop(self.server, self.channels)


def accept_all(server: Any) -> None:
    """Accept all waiting connections at once: a round of the loop takes longer the more connections there are."""
    before = -1
    while server.readable() and len(server.active_channels) > before:
        before = len(server.active_channels)
        accept_one(server)


def stop(server: Any, sockets: dict[int, Any]) -> None:
    """Accept the requests that clients have already sent, then stop accepting connections, and finish open requests."""
    Channel.is_stopping = True
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while time.monotonic() < deadline - SHUTDOWN_SECONDS + LAST_REQUESTS_SECONDS:
        wasyncore.loop(timeout=0.05, use_poll=True, map=sockets, count=1)
    for each in list(sockets.values()):
        if isinstance(each, BaseWSGIServer):
            wasyncore.dispatcher.close(each)
    while close_idle_connections(sockets) and time.monotonic() < deadline:
        wasyncore.loop(timeout=0.05, use_poll=True, map=sockets, count=1)
    server.task_dispatcher.shutdown(timeout=max(0, deadline - time.monotonic()))
    wasyncore.close_all(sockets)


def check_connections(sockets: dict[int, Any]) -> None:
    """Close idle connections, and those whose request makes no progress; answer requests without a key at once.

    A body may take any time as long as it makes progress, a header STALLED_SECONDS in all.
    """
    now = time.time()
    for channel in list(sockets.values()):
        if not isinstance(channel, HTTPChannel) or channel.requests or channel.total_outbufs_len:
            continue
        # It is a time of the system clock, which may have been set back since.
        channel.last_activity = min(channel.last_activity, now)
        request, since, limit = channel.request, channel.last_activity, float(listener.IDLE_SECONDS)
        if request is not None:
            request.first_seen = min(request.first_seen or now, now)
            since, limit = since if request.headers_finished else request.first_seen, listener.STALLED_SECONDS
        if len(sockets) > listener.CROWDED * channel.adj.connection_limit:
            limit = listener.CROWDED_SECONDS
        if now - since > limit or now > (channel.lingers_until or now):
            channel.will_close = True
        elif request is not None and request.headers_finished and lacks_key(request):
            answer_without_body(channel)


def lacks_key(request: Any) -> bool:
    """Tell whether an API request's Authorization header can't be valid: the app answers it without its body."""
    token = sent_key(request.headers.get("AUTHORIZATION", ""))
    return request.path.startswith(f"{API}/") and not is_well_formed(token or "")


def answer_without_body(channel: Any) -> None:
    """Let the app answer a request whose body has not arrived, and close the connection after the response."""
    request, channel.request = channel.request, None
    request.body_rcv = None
    request.headers |= {"CONNECTION": "close", "CONTENT_LENGTH": "0"}
    channel.has_unread_body = True
    channel.requests.append(request)
    channel.server.add_task(channel)


def close_idle_connections(sockets: dict[int, Any]) -> bool:
    """Close the connections without an open request; tell whether any others are left."""
    channels = [each for each in sockets.values() if isinstance(each, HTTPChannel)]
    for channel in channels:
        is_receiving = channel.request and channel.request.headers_finished
        if not (channel.requests or is_receiving or channel.total_outbufs_len):
            channel.will_close = True
    return bool(channels)
