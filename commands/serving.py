"""`serve`: waitress, its limits, the first key, and an end that finishes what is in flight."""

import json
import logging
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

import click
from flask import Flask
from sqlalchemy import select
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, WSGITask

import seed
from api.problems import PROBLEM_TYPE, SENTENCES, describe
from api.protocol import access_log, request_id_from
from auth import create_key
from database import backend, db, place_of, write_transaction
from models import ApiKey
from settings import Settings

# Less than the ten that `docker stop` gives.
SECONDS_TO_FINISH = 8

log = logging.getLogger("cardfile")


ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
ONE_CORE = {sorted(ALL_CORES)[os.getpid() % len(ALL_CORES)]} if ALL_CORES else set()


class JSONLine(logging.Formatter):
    """A log line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname, "log": record.name}
        line |= getattr(record, "members", {"message": record.getMessage()})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LastingTask(WSGITask):  # type: ignore[misc]
    """A request's work, after which the connection stays open where the answer shows its own end (RFC 9112 §6.3)."""

    def set_close_on_finish(self) -> None:
        # waitress asks for this after every answer without a length: 204, 304 and those sent in chunks.
        in_chunks = self.chunked_response and self.request.command != "HEAD"
        shows_its_end = self.version == "1.1" and (in_chunks or not self.has_body)
        if not shows_its_end or self.request.headers.get("CONNECTION", "").lower() == "close":
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        """Return the answer's first bytes; a long list follows them from whatever core is free."""
        header: bytes = super().build_response_header()
        if self.chunked_response:
            run_on(ALL_CORES)
        return header

    def service(self) -> None:
        """Do the work, even when the client goes away in the middle."""
        try:
            super().service()
        finally:
            if self.chunked_response:
                run_on(ONE_CORE)


def run_on(cores: set[int]) -> None:
    """Have this thread, and those that it will start, run on these cores, where the system can.

    Python runs one thread at a time: handing the turn to one on another core halves what is answered a second. A long
    list is SQLite's work for the most part, beside which Python can go on.
    """
    if cores:
        os.sched_setaffinity(0, cores)


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


def run_server(app: Flask, settings: Settings, demo: bool) -> None:
    """Serve until a signal; then stop accepting, finish what is in flight, and return."""
    set_up_logging(settings.log_format)
    raise_descriptor_limit()
    run_on(ONE_CORE)
    sockets: dict[int, Any] = {}
    server = listen(app, settings, sockets)
    if demo:
        seed.load_demo(only_if_empty=True)
    # Before the greeting, because who reads it may stop the server at once.
    signals = catch_signals()
    if sys.stdout is None:
        raise click.ClickException("There is no standard output to show the first key on.")
    greet(settings, next(each for each in sockets.values() if isinstance(each, BaseWSGIServer)).effective_port)
    db.session.remove()
    serve_until(signals, server, sockets)
    app.extensions["last_use"].stop()


def listen(app: Flask, settings: Settings, sockets: dict[int, Any]) -> Any:
    """Return a waitress server that listens, its sockets in the map that is given."""
    HTTPChannel.task_class, HTTPChannel.error_task_class = LastingTask, ProblemTask
    try:
        return create_server(
            app,
            map=sockets,
            host=settings.host,
            port=settings.port,
            threads=settings.threads,
            connection_limit=2000,
            # Without poll(), the connection limit would kill the process past 1,024 descriptors.
            asyncore_use_poll=True,
            channel_timeout=10,
            cleanup_interval=5,
            max_request_body_size=app.config["MAX_CONTENT_LENGTH"],
            max_request_header_size=64 * 1024,
            ident=None,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        message = f"Can't listen on {settings.host} port {settings.port}: {reason}."
        raise click.ClickException(message) from error


def set_up_logging(log_format: str) -> None:
    """Write the log, the access log included, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLine() if log_format == "json" else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # What no line of ours shows needn't be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    # A queue is how waitress keeps up with a burst, not news.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


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
        sys.stdout.flush()


def catch_signals() -> list[int]:
    """Return a list into which the first Ctrl-C or SIGTERM will go; a second Ctrl-C interrupts as usual."""
    caught: list[int] = []

    def catch(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, catch)
    signal.signal(signal.SIGTERM, catch)
    return caught


def serve_until(signals: list[int], server: Any, sockets: dict[int, Any]) -> None:
    """Run waitress's loop until a signal was caught, then stop accepting and finish what is in flight."""
    # waitress's own run() ends by dropping the answers that its loop has yet to send.
    while not signals:
        wasyncore.loop(timeout=0.5, use_poll=True, map=sockets, count=1)
    for each in list(sockets.values()):
        if isinstance(each, BaseWSGIServer):
            wasyncore.dispatcher.close(each)
    deadline = time.monotonic() + SECONDS_TO_FINISH
    while close_idle(sockets) and time.monotonic() < deadline:
        wasyncore.loop(timeout=0.05, use_poll=True, map=sockets, count=1)
    server.task_dispatcher.shutdown(timeout=max(0, deadline - time.monotonic()))
    wasyncore.close_all(sockets)


def close_idle(sockets: dict[int, Any]) -> bool:
    """Close the connections on which nothing is in flight; tell whether any others are left."""
    channels = [each for each in sockets.values() if isinstance(each, HTTPChannel)]
    for channel in channels:
        receiving = channel.request and channel.request.headers_finished
        if not (channel.requests or receiving or channel.total_outbufs_len):
            channel.will_close = True
    return bool(channels)
