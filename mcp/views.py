"""Requests of tools to the API's own views: with their checks, ETags, scopes, and note of who wrote."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from flask import Response, current_app, request

from api.parameters import PARSED_BODY
from auth import API, require_key


def send(method: str, *path: str, query: Iterable[tuple[str, Any]], body: Any = None, if_match: str = "") -> Any:
    """Return the response of a view, called inside of this request: with its key, its id and its connection.

    What the view raises is raised.
    """
    environ = {name: value for name, value in request.environ.items() if not name.startswith("HTTP_")}
    environ |= {name: request.environ[name] for name in ("HTTP_HOST", "HTTP_AUTHORIZATION")}
    environ |= {"REQUEST_METHOD": method, PARSED_BODY: body}
    # Half of a surrogate pair becomes bytes that are not UTF-8, which the API refuses.
    environ["PATH_INFO"] = "/".join([API, *(quote(part, safe="", errors="surrogatepass") for part in path)])
    environ["QUERY_STRING"] = urlencode([*query], errors="surrogatepass")
    if if_match:
        environ["HTTP_IF_MATCH"] = if_match if if_match.startswith(('"', "*", "W/")) else f'"{if_match}"'
    with current_app.request_context(environ):
        require_key()
        return current_app.make_response(current_app.dispatch_request())


def next_page(response: Response, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for the next page that differ from those given, from the Link header."""
    url = response.headers.get("Link", "").partition(">")[0]
    found = {name: int(text) if name in {"since", "until"} else text for name, text in parse_qsl(urlsplit(url).query)}
    names = [name for name in ("since", "until", "cursor", "asOf") if name in found]
    return {name: found[name] for name in names if found[name] != given.get(name)}
