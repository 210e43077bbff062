"""Requests of tools to the API's own views: with their checks, ETags, scopes, and log of writers."""

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from flask import Response, current_app, request
from marshmallow import ValidationError

from api.parameters import PARSED_BODY
from api.problems import Conflict
from auth import API, require_key


def send(method: str, *path: str, options: dict[str, Any], body: Any = None, argument: str = "") -> Any:
    """Return the response of a view, called inside of this request: with its key, its id and its connection.

    The options are the parameters of the query string, and ifMatch. The exceptions of the view pass through; where the
    body is an argument, their pointers begin with its name.
    """
    environ = {name: value for name, value in request.environ.items() if not name.startswith("HTTP_")}
    environ |= {name: request.environ[name] for name in ("HTTP_HOST", "HTTP_AUTHORIZATION")}
    environ |= {"REQUEST_METHOD": method, PARSED_BODY: body}
    # Half of a surrogate pair becomes bytes that are not UTF-8, which the API refuses.
    parts = [part.replace("/", "%2F").encode(errors="surrogatepass").decode("latin-1") for part in path]
    environ["PATH_INFO"] = "/".join([API, *parts])
    query = {name: as_text(value) for name, value in options.items() if name != "ifMatch"}
    # A blank becomes %20: the API reads + as a blank or a plus sign.
    environ["QUERY_STRING"] = urlencode(query, doseq=True, errors="surrogatepass", quote_via=quote)
    if (etag := options.get("ifMatch")) is not None:
        environ["HTTP_IF_MATCH"] = etag if etag.startswith(('"', "*", "W/")) else f'"{etag}"'
    with current_app.request_context(environ):
        require_key()
        try:
            return current_app.make_response(current_app.dispatch_request())
        except ValidationError as error:
            raise ValidationError({argument or "_schema": error.messages}) from error
        except Conflict as error:
            raise Conflict(str(error), {argument or "_schema": error.errors}) from error


def as_text(value: Any) -> Any:
    """Return a value, or each of a list, as the query string has it."""
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return "null" if value is None else value if isinstance(value, str) else str(value).lower()


def next_page(response: Response, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for the next page that differ from these, from the Link header."""
    url = response.headers.get("Link", "").partition(">")[0]
    found = {name: int(text) if name in {"since", "until"} else text for name, text in parse_qsl(urlsplit(url).query)}
    names = [name for name in ("since", "until", "cursor", "asOf") if name in found]
    return {name: found[name] for name in names if found[name] != options.get(name)}
