"""The query string, read strictly: what isn't known is refused with what is."""

import re
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

from flask import request
from werkzeug.datastructures import MultiDict

from api.problems import QueryRefused
from api.protocol import address_asked
from database import unwrapped
from schemas import suggest

NOTHING: MultiDict[str, str] = MultiDict()


class Parameters:
    """The parameters of this request: the known ones, each once, and filters on fields, with an operator or without.

    Raises QueryRefused for any other, and for a value that can't be one.
    """

    def __init__(self, *known: str, fields: tuple[str, ...] = ()) -> None:
        asked = unwrapped(request)
        query = asked.environ.get("QUERY_STRING", "")
        self.given = asked.args if query else NOTHING
        if "%" in query:
            try:
                unquote_to_bytes(asked.query_string).decode()
            except UnicodeDecodeError:
                raise QueryRefused("The query string must be in UTF-8.") from None
        self.filters: dict[str, list[str]] = {}
        for name, values in self.given.lists():
            if name not in known and re.sub(r"\[\w*\]\Z", "", name) in fields:
                self.filters[name] = values
            elif name not in known:
                raise QueryRefused(f"There is no parameter {name} here. {suggest(name, (*known, *fields))}")
            elif len(values) > 1:
                raise QueryRefused(f"{name} must be given once.")

    def number(self, name: str, smallest: int, largest: int, default: int) -> int:
        """Return a whole number, or the default when it isn't given."""
        if name not in self.given:
            return default
        text = self.given[name]
        if not (text.isascii() and text.isdigit() and len(text) < 20 and smallest <= int(text) <= largest):
            raise QueryRefused(f"{name} must be a whole number from {smallest} to {largest}, not {text!r}.")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return true or false; false when it isn't given."""
        text = self.given.get(name, "false")
        if text not in {"true", "false"}:
            raise QueryRefused(f"{name} must be true or false, not {text!r}.")
        return bool(text == "true")

    def words(self, name: str, known: tuple[str, ...]) -> list[str]:
        """Return a list of known words, which commas part."""
        words = self.given[name].split(",") if name in self.given else []
        for word in words:
            if word not in known:
                raise QueryRefused(f"{name} can't have {word!r}. {suggest(word, known)}")
        return words

    def next_link(self, **changed: Any) -> dict[str, str]:
        """Return the header that names the next page: this request with some parameters changed (RFC 8288)."""
        kept = [(name, value) for name, value in self.given.items(multi=True) if name not in changed]
        environ = unwrapped(request).environ
        here = f"{address_asked()}{environ['SCRIPT_NAME']}{environ['PATH_INFO']}"
        return {"Link": f'<{here}?{urlencode([*kept, *changed.items()])}>; rel="next"'}
