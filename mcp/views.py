"""Calls of the API's own views, so that tools have its rules, scopes, ETags and change log."""

from typing import Any
from urllib.parse import quote, urlencode

from flask import current_app, g, request

from api.parameters import PARSED_BODY
from auth import API, require_key


def send(method: str, *path: str, options: dict[str, Any], body: Any = None, argument: str = "") -> Any:
    """Return the response of a view, called within this request: with its key, its id and its connection.

    The options are the parameters of the query string, and ifMatch. Raises what the view raises; if the body is an
    argument of the tool, g.pointer points to it.
    """
    g.pointer = f"/{argument}" if argument else ""
    environ = {name: value for name, value in request.environ.items() if not name.startswith("HTTP_")}
    environ |= {name: request.environ[name] for name in ("HTTP_HOST", "HTTP_AUTHORIZATION")}
    environ |= {"REQUEST_METHOD": method, PARSED_BODY: body}
    # A lone surrogate becomes bytes that are not UTF-8, which the API refuses.
    parts = [part.replace("/", "%2F").encode(errors="surrogatepass").decode("latin-1") for part in path]
    environ["PATH_INFO"] = "/".join([API, *parts])
    query = {name: as_text(value) for name, value in options.items() if name != "ifMatch"}
    # A space becomes %20: the API reads + as a space or a plus sign.
    environ["QUERY_STRING"] = urlencode(query, doseq=True, errors="surrogatepass", quote_via=quote)
    if (etag := options.get("ifMatch")) is not None:
        environ["HTTP_IF_MATCH"] = etag if etag.startswith(('"', "*", "W/")) else f'"{etag}"'
    with current_app.request_context(environ):
        require_key()
        return current_app.make_response(current_app.dispatch_request())


def as_text(value: Any) -> Any:
    """Return a value, or each of a list, in the form of the query string."""
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return "null" if value is None else value if isinstance(value, str) else str(value).lower()
