"""The log on standard error: messages, and a line for every request."""

import json
import logging
import os
import select
import stat
import sys
import time
from contextlib import suppress
from functools import lru_cache
from urllib.parse import quote

from flask import Flask, Response, current_app, g, request

from auth import redact

log = logging.getLogger("cardfile")

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"
# A pipe accepts up to this many bytes in one write, completely or not at all.
PIECE = getattr(select, "PIPE_BUF", 512)


class LogStream:
    """Standard error without waiting: lines that can't be written at once are dropped and counted."""

    dropped = descriptor = 0

    def open(self) -> None:
        """Open a pipe or terminal again: other processes that share standard error must not get O_NONBLOCK, too."""
        with suppress(OSError, ValueError, AttributeError):
            number = sys.stderr.fileno()
            if stat.S_ISFIFO(os.fstat(number).st_mode) or os.isatty(number):
                self.descriptor = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)

    def write(self, text: str) -> None:
        """Write lines, and log how many were dropped before."""
        data = text.encode(errors="backslashreplace")
        try:
            for start in range(0, len(data), PIECE):
                self.write_piece(data[start : start + PIECE])
        except BlockingIOError:
            self.dropped += 1
        except (OSError, ValueError, AttributeError):
            # AttributeError: sys.stderr is None after the terminal closed.
            return
        else:
            if self.dropped:
                dropped, self.dropped = self.dropped, 0
                log.warning("Nothing read the log: %s messages before this one were dropped.", dropped)

    def write_piece(self, piece: bytes) -> None:
        """Write at most PIECE bytes. Raises BlockingIOError."""
        number = self.descriptor or sys.stderr.fileno()
        # A socket or another user's pipe can't be opened again; on Windows, select() takes only sockets.
        if not self.descriptor and os.name == "posix" and not select.select([], [number], [], 0)[1]:
            raise BlockingIOError
        # A terminal may take a part.
        if os.write(number, piece) < len(piece):
            raise BlockingIOError


class JSONFormatter(logging.Formatter):
    """Messages as JSON objects, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record, TIME_FORMAT), "level": record.levelname, "log": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


log_stream = LogStream()


def init_log(app: Flask, log_format: str) -> None:
    """Log every request of the app. To log the final status, this hook must be registered before all others."""
    app.config["LOG_FORMAT"] = log_format
    app.after_request(log_request)


def set_up_logging(log_format: str) -> None:
    """Write log messages to standard error, where requests are logged, too."""
    log_stream.open()
    handler = logging.StreamHandler(log_stream)
    text_formatter = logging.Formatter("%(asctime)s %(message)s", TIME_FORMAT)
    handler.setFormatter(JSONFormatter() if log_format == "json" else text_formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # waitress warns whenever a request waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def log_request(response: Response) -> Response:
    """Log the request unless it is a probe, without its query string, which may hold secrets, and escaped."""
    if g.get("is_probe"):
        return response
    key, length = g.get("key"), response.content_length
    write_line(
        {
            "client": quote(request.remote_addr or "-", safe=":"),
            "method": quote(request.method),
            "path": g.get("log_path") or redact(quote(request.path)),
            "status": response.status_code,
            "ms": round((time.perf_counter() - g.started) * 1000, 1),
            # The length of a long list isn't known before it is sent.
            "bytes": "-" if length is None else length,
            "key": key.id if key else "-",
            "requestId": g.request_id,
        }
    )
    return response


def write_line(fields: dict[str, object]) -> None:
    """Write a line to the log.

    With the logging module, single reads on Granian would be 18 % slower (`make bench ABLATE=access-log`).
    """
    second = format_second(int(time.time()))
    if current_app.config["LOG_FORMAT"] == "json":
        line = json.dumps({"time": second, "level": "INFO", "log": "cardfile.access", **fields})
    else:
        line = f"{second} {' '.join(map(str, fields.values()))}"
    # One write, because threads and processes share the stream.
    log_stream.write(f"{line}\n")


@lru_cache(maxsize=1)
def format_second(second: int) -> str:
    """Return a time in the format of log lines."""
    return time.strftime(TIME_FORMAT, time.localtime(second))
