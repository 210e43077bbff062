"""The views that read: a list, whole or by pages, and one row."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, NamedTuple

from flask import Response, abort, current_app, g, stream_with_context

from api.as_of import IMMUTABLE, requested_version
from api.changes import is_not_modified, set_version
from api.media_types import CSV, LIST_TYPES, MediaType, requested_type
from api.parameters import Parameters
from api.problems import Interrupted, InvalidQuery
from api.query import MAX_PAGE, ListRequest
from api.resources import Endpoint, embedded_resource
from api.responses import JSONResponse
from api.select import page_query, row_query
from database.connection import (
    Connection,
    begin_snapshot,
    connections,
    detach_connection,
    execute,
    execute_read,
)
from formats.csv_text import csv_line

LARGE_PAGE = 100
# A long list is sent in pieces of this many characters, so that memory holds no second copy of an unread page.
PIECE_LENGTH = 256 * 1024
VARY = {"Vary": "Accept"}


class Page(NamedTuple):
    """A page: its rows' JSON joined by commas, the next page's cursor or "", the number of all rows if counted."""

    rows: str
    cursor: str
    total: int | None = None


def list_rows(endpoint: Endpoint) -> Response:
    """Return all rows that the parameters ask for, or with `limit` one page; `Accept` chooses JSON, NDJSON or CSV."""
    media_type, listing = requested_type(LIST_TYPES), ListRequest(endpoint)
    headers = VARY | cache_headers(listing.parameters)
    if media_type is CSV:
        media_type = with_header(listing)
        headers["Content-Disposition"] = f"attachment; filename={endpoint.name}.csv"
    if is_not_modified(endpoint.name, *map(embedded_resource, listing.query.include), **listing.past):
        return Response(status=304, headers=headers)
    if not listing.limit:
        # A whole list may take several queries.
        begin_snapshot()
    page = first_page(listing)
    if page.total is not None:
        headers |= {"X-Total-Count": str(page.total), "Preference-Applied": "count=exact"}
    if page.cursor and not listing.limit:
        return stream_pages(page, partial(next_page, listing), headers, media_type)
    if page.cursor:
        past = {"asOf": listing.past["as_of"]} if listing.past else {}
        headers |= listing.parameters.next_link(limit=listing.limit, cursor=page.cursor, **past)
    return page_response(page, headers, media_type)


def with_header(listing: ListRequest) -> MediaType:
    """Return CSV that starts with the names of the list's fields. Raises InvalidQuery for embedded rows."""
    if listing.query.include:
        raise InvalidQuery("include is for JSON and NDJSON: a cell of CSV can't hold other rows.")
    fields = listing.query.fields
    return CSV._replace(start=csv_line(name for name in listing.endpoint.attributes if not fields or name in fields))


def page_response(page: Page, headers: dict[str, str], media_type: MediaType) -> Response:
    """Return the response with one page."""
    text = f"{media_type.start}{media_type.write(page.rows)}{media_type.end}"
    return JSONResponse(text, 200, headers, media_type.content_type)


def read_page(listing: ListRequest, run: Callable[..., Any] = execute_read) -> Page:
    """Return the page of the list's query, and set the version that it reflects."""
    # Many values take as long as a large page, because a statement is compiled for them.
    is_large = max(listing.query.limit or MAX_PAGE, len(listing.bound)) > LARGE_PAGE
    with connections().large_read() if is_large else nullcontext():
        row = run(page_query, listing.query, listing.wants_count, **listing.bound).fetchone()
    *version, rows, edge, total = row if listing.wants_count else (*row, None)
    set_version(*version)
    # The sort keys of the page's last row and, if there is one, of the row after it.
    keys = json.loads(f"[{edge}]") if edge else []
    return Page(rows or "", listing.encode_cursor(keys[0]) if len(keys) > 1 else "", total)


def first_page(listing: ListRequest) -> Page:
    """Return the first page of the list."""
    page = read_page(listing)
    return page if listing.query.limit else next_page(listing, page.rows, execute_read)._replace(total=page.total)


def next_page(listing: ListRequest, cursor: str, run: Callable[..., Any] = execute) -> Page:
    """Return the next page of a whole list; without an index for its order, the cursor is the next rows' numbers."""
    # A list that has begun has no time limit (`run`): all pages together read each row once.
    listing.wants_count = False
    if listing.query.limit:
        listing.seek(cursor)
        return read_page(listing, run)
    others = listing.seek_numbers(cursor)
    return read_page(listing, run)._replace(cursor=others)


def stream_pages(
    page: Page, read_next: Callable[[str], Page], headers: dict[str, str], media_type: MediaType
) -> Response:
    """Return a response that reads each page, by its cursor, when the one before it is sent, all from one snapshot."""
    # Flask ends the context, and with it the snapshot, before it sends the response.
    own = detach_connection()
    text = stream_with_context(all_pages(page, read_next, media_type, own))
    response = Response(text, 200, headers, content_type=media_type.content_type)
    # An ExitStack, because a response may be closed twice.
    release = ExitStack()
    release.callback(own.release)
    response.call_on_close(release.close)
    return response


def all_pages(page: Page, read_next: Callable[[str], Page], media_type: MediaType, own: Connection) -> Iterator[str]:
    """Yield the whole list in pieces: its first page, then those that the connection reads. Raises Interrupted."""
    g.connection = own
    try:
        yield media_type.start
        while True:
            page = page._replace(rows=media_type.write(page.rows))
            yield from pieces(page.rows)
            if not (cursor := page.cursor):
                break
            # Free the page that was sent before the next one is read.
            del page
            page = read_next(cursor)
            if page.rows:
                yield media_type.between
        yield media_type.end
    except Exception as error:
        raise Interrupted(current_app.make_response(current_app.handle_user_exception(error))) from error
    finally:
        g.pop("connection", None)


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces."""
    for start in range(0, len(text), PIECE_LENGTH):
        yield text[start : start + PIECE_LENGTH]


def get_row(endpoint: Endpoint, row_id: str) -> Response:
    """Return one row."""
    parameters = Parameters("fields", "include", "asOf")
    past = requested_version(parameters)
    include = parameters.words("include", endpoint.includes)
    fields = parameters.words("fields", tuple(endpoint.attributes))
    if is_not_modified(endpoint.name, *map(embedded_resource, include), id=row_id, **past):
        return Response(status=304, headers=cache_headers(parameters))
    row = read_row(endpoint, row_id, fields, include, **past)
    if row is None:
        abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    return JSONResponse(row, 200, cache_headers(parameters))


def cache_headers(parameters: Parameters) -> dict[str, str]:
    """Return the Cache-Control header of a version, or nothing (RFC 8246)."""
    return {**IMMUTABLE} if parameters.values.get("asOf", "").isdecimal() else {}


def read_row(
    endpoint: Endpoint, row_id: str, fields: tuple[str, ...] = (), include: tuple[str, ...] = (), **past: int
) -> str | None:
    """Return the JSON of one row, or None if it is missing, and set the version that it reflects."""
    # Only embedded rows can take long.
    run = execute_read if include else execute
    *version, row = run(row_query, endpoint.name, fields, include, bool(past), id=row_id, **past).fetchone()
    set_version(*version)
    found: str | None = row
    return found
