"""The parameters of a request: its query string and its JSON body, parsed strictly."""

import re
import time
from functools import partial
from itertools import product
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_plus

from flask import abort, current_app, g, request

from api.problems import InvalidQuery
from api.protocol import base_url
from auth import require_key
from formats.errors import suggest
from formats.json_text import parse_json

# Names that other APIs have for a parameter of this one, and how it is used here.
OTHER_NAMES = {
    "cursor": (
        "page pagenumber pagesize perpage offset skip start after startingafter pagetoken size count top take",
        "For pages, send limit, then request the URL in the Link header.",
    ),
    "sort": (
        "order orderby ordering sortby sortorder direction",
        "Send sort=createdAt, or sort=-createdAt for the descending order.",
    ),
    "q": (
        "search query filter filters where keyword keywords text",
        "Send q=… to search; each field's name is a filter, as in createdAt[gte]=2024-01-01T00:00:00Z.",
    ),
}
# After a body that took longer, the key is checked again, because it may have been deleted.
SLOW_SECONDS = 0.5
PLUS_HINT = " A + in a query string means a space: send %2B for a plus sign."
MAX_PLUS_VARIANTS = 64
# The key of the WSGI environ for a parsed body, which a room passes when it calls a view.
PARSED_BODY = "cardfile.body"
# Returns the names and values of a query string. Raises UnicodeError unless it is in UTF-8.
parse_query = partial(parse_qsl, keep_blank_values=True, errors="strict")


class Parameters:
    """The query string of this request: known parameters, each with one value, and filters. Raises InvalidQuery."""

    def __init__(self, *known: str, fields: tuple[str, ...] = ()) -> None:
        self.values: dict[str, str] = {}
        self.filters: dict[str, list[str]] = {}
        try:
            self.query = request.environ.get("QUERY_STRING", "").encode("latin-1").decode()
            pairs = parse_query(self.query)
        except UnicodeError:
            raise InvalidQuery("The query string must be in UTF-8.") from None
        # Programs that add their own parameters to the link of the next page repeat them.
        for name, value in dict.fromkeys(pairs):
            if name in self.values:
                raise InvalidQuery(f"{name} must be given once, not as {self.values[name]!r} and {value!r}.")
            if name in known:
                self.values[name] = value
            elif name in fields or re.sub(r"\[\w*\]\Z", "", name) in fields:
                self.filters.setdefault(name, []).append(value)
            else:
                raise InvalidQuery(f"There is no parameter {name} here. {hint_for(name, (*known, *fields))}")

    def plus_variants(self, name: str) -> list[str]:
        """Return a filter's values with each + as a space, as HTML forms encode it, and as a plus sign."""
        pairs = [p for p in self.query.split("&") if "+" in p and unquote_plus(p.partition("=")[0]) == name]
        # If the variants are many: with none, the first or all of a value's + as plus signs.
        queries = [query for pair in pairs for query in (pair.replace("=+", "=%2B"), pair.replace("+", "%2B"))]
        if sum(2 ** pair.count("+") for pair in pairs) <= MAX_PLUS_VARIANTS:
            choices = [[("+", "%2B") if part == "+" else (part,) for part in re.split(r"(\+)", pair)] for pair in pairs]
            queries = ["".join(parts) for each in choices for parts in product(*each)]
        found = [value for query in queries for _name, value in parse_query(query)]
        return list(dict.fromkeys([*self.filters[name], *found]))

    def number(self, name: str, smallest: int, largest: int, default: int) -> int:
        """Return a parameter as a whole number."""
        if (text := self.values.get(name)) is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and smallest <= int(text) <= largest):
            raise InvalidQuery(f"{name} must be a whole number from {smallest} to {largest}, not {text!r}.")
        return int(text)

    def boolean(self, name: str) -> bool:
        """Return a parameter as a boolean, false by default."""
        text = self.values.get(name, "false")
        if text not in {"true", "false"}:
            raise InvalidQuery(f"{name} must be true or false, not {text!r}.")
        return text == "true"

    def words(self, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
        """Return a parameter as a list of known words, separated by commas, each once."""
        words = tuple(dict.fromkeys(self.values[name].split(","))) if name in self.values else ()
        for word in words:
            if word not in known:
                raise InvalidQuery(f"{name} can't have {word!r}. {suggest(word, known)}")
        return words

    def next_link(self, **changed: Any) -> dict[str, str]:
        """Return the Link header of the next page (RFC 8288): this request with other numbers or another cursor."""
        pairs = [(unquote_plus(part.partition("=")[0]), part) for part in self.query.split("&") if part]
        kept = dict.fromkeys(quote(part, safe="%+=") for name, part in pairs if name not in changed)
        query = "&".join([*kept, *(f"{name}={value}" for name, value in changed.items())])
        return {"Link": f'<{base_url()}{request.environ["PATH_INFO"]}?{query}>; rel="next"'}


def hint_for(name: str, known: tuple[str, ...]) -> str:
    """Return a sentence about what to send in place of an unknown parameter."""
    letters = re.sub(r"\[.*|[^a-z]", "", name.lower())
    hints = [hint for each, (names, hint) in OTHER_NAMES.items() if each in known and letters in names.split()]
    return hints[0] if hints else suggest(name, known)


def parse_body(*types: str) -> Any:
    """Return the value of the JSON body. Raises InvalidJSON; responds 415 unless its type is JSON, or one of these."""
    if PARSED_BODY in request.environ:
        return request.environ[PARSED_BODY]
    is_encoded = (request.content_encoding or "identity").lower() != "identity"
    if request.mimetype not in {"application/json", *types} or is_encoded:
        abort(415)
    charset = request.mimetype_params.get("charset", "utf-8")
    if charset.lower() not in {"utf-8", "utf8", "us-ascii"}:
        abort(415, f"Content-Type says charset={charset}: send UTF-8, with charset=utf-8 or without charset.")
    return parse_json(request.get_data())


def require_whole_body() -> None:
    """Read the body of a request with a key, if the server has not done so; respond 413 to one of more than 1 MiB."""
    if "key" not in g or request.method in {"GET", "HEAD"}:
        return
    # werkzeug cuts a chunked body at the limit.
    if len(request.get_data()) >= current_app.config["MAX_CONTENT_LENGTH"] and request.content_length is None:
        abort(413)
    if time.perf_counter() - g.started > SLOW_SECONDS:
        require_key()


def refuse_body() -> None:
    """Respond 400 if the request has a body: its view takes none, and nothing that is in it may be overlooked."""
    if request.get_data().strip() not in {b"", b"{}"}:
        abort(400, "This request takes no body: leave it out. Parameters such as dryRun belong in the query string.")
