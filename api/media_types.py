"""The media types of lists, and the one that a request accepts (RFC 9110 §12.5.1)."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from flask import abort, g, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from formats.csv_text import csv_lines
from formats.json_text import json_lines

# Characters of Accept that are read: parsing 64 KiB takes 0.1 seconds.
MAX_LENGTH = 1_000


class MediaType(NamedTuple):
    """A format of lists; `write` returns a page in it, whose rows it gets as comma-separated JSON objects."""

    name: str
    content_type: str
    write: Callable[[str], str] = str
    # Texts before, between and after pages.
    start: str = ""
    between: str = ""
    end: str = ""

    @property
    def essence(self) -> str:
        """Return the type and subtype, without parameters."""
        return self.content_type.partition(";")[0]


JSON = MediaType("json", "application/json", start="[", between=",", end="]")
NDJSON = MediaType("ndjson", "application/x-ndjson", json_lines)
CSV = MediaType("csv", "text/csv; charset=utf-8; header=present", csv_lines)
LIST_TYPES = JSON, NDJSON, CSV
# A cell of CSV can't hold the row of a change.
FEED_TYPES = JSON, NDJSON


def requested_type(offered: tuple[MediaType, ...]) -> MediaType:
    """Return the media type that the request prefers, or respond 406. Each has other ETags (RFC 9110 §8.8.3)."""
    found = preferred_type(request.environ.get("HTTP_ACCEPT", "")[:MAX_LENGTH], offered)
    if found is None:
        abort(406, not_acceptable(offered))
    if found is not JSON:
        g.etag_suffix = f"-{found.name}"
    return found


@lru_cache
def preferred_type(header: str, offered: tuple[MediaType, ...]) -> MediaType | None:
    """Return the media type that an Accept header prefers, the first of several with equal quality, or None."""
    # Parameters, as in text/csv;charset=utf-8, are ignored: each type is offered in one form.
    accepted = [(name.partition(";")[0], quality) for name, quality in parse_accept_header(header, MIMEAccept)]
    names = {each.essence: each for each in offered}
    return names.get(MIMEAccept(accepted or [("*/*", 1)]).best_match(names, ""))


def not_acceptable(offered: tuple[MediaType, ...]) -> str:
    """Return the sentence that says which media types there are."""
    return f"Accept must allow one of {', '.join(each.essence for each in offered)}."
