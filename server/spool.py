"""Large responses wait for their clients in temporary files, not in memory, and hold no snapshot of the database."""

import threading
from collections.abc import Callable, Iterable
from tempfile import TemporaryFile
from typing import Any

from werkzeug.wsgi import ClosingIterator, FileWrapper

MAX_IN_MEMORY = 1024 * 1024
PIECE = 64 * 1024


class Spool:
    """WSGI middleware that sends some responses while they are made, and makes others in temporary files first.

    At most `streams` responses of unknown length are sent while they are made, because each holds a thread until its
    client has read it.
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
            return body if sum(map(len, body)) <= MAX_IN_MEMORY else spool(body, environ)
        status, headers, *_error = started
        if not status.startswith("200") or any(name == "Content-Length" for name, _value in headers):
            return body
        if self.streams.acquire(blocking=False):
            return ClosingIterator(body, self.streams.release)
        return spool(body, environ)


def spool(body: Iterable[bytes], environ: dict[str, Any]) -> Iterable[bytes]:
    """Move a body to a temporary file, and return the file as a body; without a folder for such files, return it."""
    try:
        file = TemporaryFile()  # noqa: SIM115 -- the server closes it
    except OSError:
        return body
    try:
        file.writelines(body)
    finally:
        getattr(body, "close", bool)()
    file.seek(0)
    wrapped: Iterable[bytes] = environ.get("wsgi.file_wrapper", FileWrapper)(file, PIECE)
    return wrapped
