"""The query string, read strictly: what isn't known is refused with what is."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import request

from api.problems import QueryRefused
from api.protocol import address_asked
from database import unwrapped
from schemas import suggest


class Parameters:
    """The parameters of this request: the known ones, each once, and filters on fields, with an operator or without.

    Raises QueryRefused for any other, and for a value that can't be one.
    """

    def __init__(self, *known: str, fields: tuple[str, ...] = ()) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.given: dict[str, str] = {}
        self.filters: dict[str, list[str]] = {}
        query = unwrapped(request).environ.get("QUERY_STRING", "")
        if query:
            try:
                self.pairs = parse_qsl(query.encode("latin-1").decode(), keep_blank_values=True, errors="strict")
            except UnicodeError:
                raise QueryRefused("The query string must be in UTF-8.") from None
        for name, value in self.pairs:
            if name in self.given:
                raise QueryRefused(f"{name} must be given once.")
            if name in known:
                self.given[name] = value
            elif name in fields or re.sub(r"\[\w*\]\Z", "", name) in fields:
                self.filters.setdefault(name, []).append(value)
            else:
                raise QueryRefused(f"There is no parameter {name} here. {suggest(name, (*known, *fields))}")

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
        """Return the header that names the next page: this request with some parameters changed (RFC 8288).

        What they are changed to needs no quoting: numbers, and cursors.
        """
        kept = [urlencode([pair]) for pair in self.pairs if pair[0] not in changed]
        query = "&".join([*kept, *(f"{name}={value}" for name, value in changed.items())])
        environ = unwrapped(request).environ
        return {"Link": f'<{address_asked()}{environ["SCRIPT_NAME"]}{environ["PATH_INFO"]}?{query}>; rel="next"'}
