"""What every exchange has, whatever it is about: an id, a sound Host, a line in the access log."""

import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, abort, current_app, g, request
from werkzeug.routing import BaseConverter

from auth import redact
from database import unwrapped
from models import new_id

SANE_ID = re.compile("[A-Za-z0-9._-]{1,128}")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_~-]{1,63}(\.[A-Za-z0-9_~-]{1,63})*\.?)(:[0-9]{1,5})?")


class Segment(BaseConverter):
    """A part of a path; one with NUL, which no database can look for, is none."""

    regex = "[^/\0]+"
    part_isolating = True


def init_protocol(app: Flask) -> None:
    """Open and close every exchange of the app."""
    app.before_request(open_exchange)
    app.after_request(close_exchange)


def open_exchange() -> None:
    """Give the request its id, the client's own if that is sane; refuse any but one sound Host (RFC 9112 §3.2)."""
    here, environ = unwrapped(g), unwrapped(request).environ
    here.started = time.perf_counter()
    here.request_id = request_id_from(environ.get("HTTP_X_REQUEST_ID", ""))
    # A server joins repeated headers by commas, which no host name contains.
    if not HOST.fullmatch(environ.get("HTTP_HOST", "")):
        abort(400, "Send exactly one Host header, with the name or address of this server.")


def address_asked() -> str:
    """Return the address that the request came to, `http://host:port`, with the Host as it was sent."""
    # Not by werkzeug, which knows no host with an underscore, and raises for punycode that is none.
    environ = unwrapped(request).environ
    return f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}"


def request_id_from(given: str) -> str:
    """Return the id that a client gave its request if it is sane, else a new one."""
    return given if given and SANE_ID.fullmatch(given) and redact(given) == given else new_id()


def close_exchange(response: Response) -> Response:
    """Name the request in its answer and in the access log."""
    here, asked = unwrapped(g), unwrapped(request)
    response.headers.add("X-Request-Id", here.request_id)
    response.headers.add("X-Content-Type-Options", "nosniff")
    if asked.method == "OPTIONS" and response.status_code == 200:
        response.status_code = 204
    if response.status_code == 204:
        del response.headers["Content-Type"]
    # Without the query string, where secrets end up, and safe from forged lines and a terminal's controls.
    log_exchange(
        {
            "method": quote(asked.method),
            "path": redact(quote(asked.path)),
            "status": response.status_code,
            "ms": round((time.perf_counter() - here.started) * 1000, 1),
            "key": here.key.id if "key" in here else "-",
            "requestId": here.request_id,
        }
    )
    return response


@lru_cache(maxsize=1)
def tell_second(second: int) -> str:
    """Return the time as a log line begins with it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))


def log_exchange(members: Mapping[str, Any]) -> None:
    """Write a line of the access log to standard error, in the format that LOG_FORMAT names; a lost one stops nobody.

    It goes past logging, which takes longer over a line than SQLite does over a row.
    """
    second = tell_second(int(time.time()))
    if current_app.config["LOG_FORMAT"] == "json":
        line = json.dumps({"time": second, "level": "INFO", "log": "cardfile.access", **members})
    else:
        line = f"{second} {' '.join(map(str, members.values()))}"
    # Whoever closed standard error has no attribute of it left.
    with suppress(OSError, ValueError, AttributeError):
        # At once: threads and processes may write here together.
        sys.stderr.write(f"{line}\n")
