"""The request id, the check of Host, and the headers of all responses."""

import re
import time

from flask import Flask, Response, abort, g, request
from werkzeug.routing import BaseConverter

from auth import redact
from formats.ids import new_id

# Not "." or "..", which browsers remove from paths.
REQUEST_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_~-]{1,63}(\.[A-Za-z0-9_~-]{1,63})*\.?)(:[0-9]{1,5})?")
MAX_HEADER_BYTES = 16 * 1024
PREFIX = re.compile("(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")


class Segment(BaseConverter):
    """A segment of a path. A path with NUL is 404, because databases don't take it in a value."""

    regex = "[^/\0]+"
    part_isolating = True


class KeyId(Segment):
    """The id of a key: `me` is a path of its own."""

    regex = r"(?!me\Z)[^/\0]+"


def init_protocol(app: Flask) -> None:
    """Prepare every request of the app, and complete every response."""
    app.url_map.converters |= {"default": Segment, "key": KeyId}
    app.before_request(prepare_request)
    app.after_request(complete_response)


def prepare_request() -> None:
    """Set the request id, the client's if valid; refuse large headers, lower-case methods, all but one valid Host."""
    g.started = time.perf_counter()
    environ = request.environ
    g.request_id = request_id_from(environ.get("HTTP_X_REQUEST_ID", ""))
    # Not the URL: that of the next page can be long, because its cursor has the values of the last row.
    size = sum(len(name) + len(value) for name, value in environ.items() if name.startswith("HTTP_"))
    if size + len(environ.get("CONTENT_TYPE", "")) > MAX_HEADER_BYTES:
        abort(431)
    if "HTTP_TRANSFER_ENCODING" not in environ:
        # werkzeug then raises ClientDisconnected for a body that ends early (RFC 9112 §8).
        environ.pop("wsgi.input_terminated", None)
    # Flask would take `get` for GET, but methods are case-sensitive (RFC 9110 §9.1). waitress refuses it itself.
    if environ["REQUEST_METHOD"] != request.method:
        abort(400, "Send the method in capital letters.")
    # HTTP/1.0, which Granian calls HTTP/1, doesn't require Host (RFC 9112 §3.2).
    if not environ.get("HTTP_HOST") and environ["SERVER_PROTOCOL"] in {"HTTP/1.0", "HTTP/1"}:
        name = environ["SERVER_NAME"]
        environ["HTTP_HOST"] = f"{f'[{name}]' if ':' in name else name}:{environ['SERVER_PORT']}"
    # Servers join repeated headers by commas, which no host name contains.
    if not HOST.fullmatch(environ.get("HTTP_HOST", "")):
        abort(400, "Send exactly one Host header (a proxy: X-Forwarded-Host), with the name or address of this server.")
    if environ["wsgi.url_scheme"] not in {"http", "https"} or not PREFIX.fullmatch(environ["SCRIPT_NAME"]):
        abort(400, "A proxy must send http or https as X-Forwarded-Proto, and a path (/crm) as X-Forwarded-Prefix.")


def base_url() -> str:
    """Return the URL that the client sent the request to, without the app's paths, as in http://host:port/prefix."""
    # werkzeug refuses host names with underscores, and raises for invalid punycode.
    return f"{request.scheme}://{request.environ['HTTP_HOST']}{request.root_path}"


def request_id_from(header: str) -> str:
    """Return the id in a client's X-Request-Id if it is valid, else a new one."""
    return header if header and REQUEST_ID.fullmatch(header) and redact(header) == header else new_id()


def complete_response(response: Response) -> Response:
    """Set the headers of every response."""
    headers = response.headers
    headers.add("X-Request-Id", g.request_id)
    headers.add("X-Content-Type-Options", "nosniff")
    if response.status_code == 200 and request.method == "OPTIONS":
        response.status_code = 204
    if response.status_code == 204:
        del headers["Content-Type"]
    return response
