"""Large responses wait for their clients in temporary files, not in memory, and hold no snapshot of the database."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import Any

from werkzeug.wsgi import ClosingIterator, FileWrapper

from api.problems import PROBLEM_TYPE, problem_json
from database.connection import TASK
from formats.ids import new_id

log = logging.getLogger("cardfile")

MAX_IN_MEMORY = 1024 * 1024
PIECE = 64 * 1024


class Spool:
    """WSGI middleware that sends some responses while they are made, and makes others in temporary files first.

    At most `streams` responses of unknown length are sent while they are made, because each holds a thread until its
    client has read it. More than none need a server that tells what a client has not taken yet.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], streams: int) -> None:
        self.app, self.streams = app, threading.BoundedSemaphore(streams)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        started: list[Any] = []

        def start(*arguments: Any) -> Any:
            started[:] = arguments
            return start_response(*arguments)

        body = self.app(environ, start)
        if isinstance(body, list):
            return body if sum(map(len, body)) <= MAX_IN_MEMORY else spool(body, environ, start_response)
        status, headers, *_error = started
        if not status.startswith("200") or any(name == "Content-Length" for name, _value in headers):
            return body
        if self.streams.acquire(blocking=False):
            body = ClosingIterator(body)
            return ClosingIterator(stream(body, environ, start_response), [body.close, self.streams.release])
        return spool(body, environ, start_response)


def stream(body: Iterable[bytes], environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Yield a body while its client takes it, then the rest from a file, because no snapshot may wait for a client."""
    for piece in body:
        yield piece
        if environ[TASK].has_unsent_output():
            with closing(spool(body, environ, start_response)) as rest:  # type: ignore[type-var]
                yield from rest


def spool(body: Iterable[bytes], environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Move a body to a temporary file, and return the file as a body; without a folder for such files, return it.

    When their disk is full, a list is returned, too, and the response to anything else becomes 507.
    """
    try:
        file = TemporaryFile()  # noqa: SIM115 -- the server closes it
    except OSError:
        return body
    try:
        file.writelines(body)
        file.seek(0)
    except OSError as error:
        log.error("A response of more than 1 MiB can't be written to a temporary file: %s", error.strerror)
        file.raw.close()
        if isinstance(body, list):
            return body
        text = problem_json(507, "The disk for temporary files is full: read the list page by page.", new_id())
        headers = [("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(text)))]
        start_response("507 Insufficient Storage", headers, sys.exc_info())
        return [text.encode()]
    finally:
        getattr(body, "close", bool)()
    wrapped: Iterable[bytes] = environ.get("wsgi.file_wrapper", FileWrapper)(file, PIECE)
    return wrapped
