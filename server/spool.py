"""Large responses wait for their clients in temporary files instead of memory, and hold no snapshot."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import Any, cast

from flask import Response
from werkzeug.wsgi import ClosingIterator, FileWrapper

from api.problems import DETAILS, PROBLEM_TYPE, Interrupted, problem_json
from api.responses import JSONResponse
from database.connection import TASK

log = logging.getLogger("cardfile")

MAX_IN_MEMORY = 1024 * 1024
PIECE = 64 * 1024
NO_ROOM = "There is no room for a temporary file: read the list page by page."


class Spool:
    """WSGI middleware that streams some responses, and writes others to temporary files first.

    At most `streams` responses of unknown length are streamed at a time, because each holds a thread until its client
    has read it. Streams need waitress, whose task tells how much output is unsent.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], streams: int) -> None:
        self.app, self.streams = app, threading.BoundedSemaphore(streams)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        started: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
            started[:] = status, headers

        body = self.app(environ, start)
        status, headers = started
        if isinstance(body, (list, tuple)):
            is_ready = sum(map(len, body)) <= MAX_IN_MEMORY
        else:
            is_ready = not status.startswith("200") or any(name == "Content-Length" for name, _value in headers)
            # RFC 9110 §8.6: the empty body of a response to HEAD has another length than that of GET.
            is_ready = is_ready or environ.get("REQUEST_METHOD") == "HEAD"
            if not is_ready and self.streams.acquire(blocking=False):
                body = ClosingIterator(body)
                is_ready, callbacks = True, [body.close, self.streams.release]
                body = ClosingIterator(stream(body, environ, headers), callbacks)
        if not is_ready:
            body = spool(body, environ, started)
        start_response(*started)
        return body


def stream(body: Iterable[bytes], environ: dict[str, Any], headers: list[tuple[str, str]]) -> Iterator[bytes]:
    """Yield a body while its client keeps up, then the rest from a file: no snapshot may wait for a client.

    If the body raises an error, log the request's id. The server logs the error.
    """
    try:
        for piece in body:
            yield piece
            if environ[TASK].has_unsent_output():
                rest, _length = move_to_file(body, environ)
                with closing(rest):
                    yield from rest
    except Exception:
        log.error("The response to request %s was interrupted.", dict(headers).get("X-Request-Id"))
        raise


def move_to_file(body: Iterable[bytes], environ: dict[str, Any]) -> tuple[Any, int]:
    """Return a temporary file as a body, and its length; close the body. Raises OSError, or what the body raises."""
    try:
        file = TemporaryFile()  # noqa: SIM115 -- the server closes it
        try:
            file.writelines(body)
            file.flush()
        except BaseException:
            file.raw.close()
            raise
        length = file.tell()
        file.seek(0)
        return environ.get("wsgi.file_wrapper", FileWrapper)(file, PIECE), length
    finally:
        getattr(body, "close", bool)()


def spool(body: Iterable[bytes], environ: dict[str, Any], started: list[Any]) -> Iterable[bytes]:
    """Move a body to a temporary file, and return the file as a body; add its length to the headers in `started`.

    If that fails, a list is returned as it is. Any other response becomes 507, or the problem of the error that its
    body raises, so that an incomplete response doesn't look complete.
    """
    request_id = dict(started[1]).get("X-Request-Id", "-")
    try:
        file, length = move_to_file(body, environ)
        if not isinstance(body, list):
            started[1].append(("Content-Length", str(length)))
        return cast(Iterable[bytes], file)
    except OSError as error:
        log.error("A response of more than 1 MiB can't be written to a temporary file: %s", error.strerror)
        if isinstance(body, list):
            return body
        response: Response = JSONResponse(problem_json(507, NO_ROOM, request_id), 507, content_type=PROBLEM_TYPE)
    except Interrupted as error:
        log.error("The response to request %s was interrupted.", request_id)
        response = error.problem
    except Exception:
        log.exception("The response to request %s was interrupted.", request_id)
        response = JSONResponse(problem_json(500, DETAILS[500], request_id), 500, content_type=PROBLEM_TYPE)
    response.headers.add("X-Request-Id", request_id)
    started[:] = response.status, list(response.headers)
    return [response.data]
