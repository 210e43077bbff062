"""Reading: a query string becomes a query and its values, the query a statement, its rows an answer."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Response, abort, request, stream_with_context
from marshmallow import ValidationError

from api.changes import is_unchanged, reflect
from api.encoding import Answer, finish
from api.parameters import Parameters
from api.problems import QueryRefused
from api.querying import OPERATORS, Filter, Query, page_query, row_query, table_of
from api.resources import ENDPOINTS, Endpoint
from database import TakesLong, db, haste, hold_snapshot, keep_reader, read, read_by, unwrapped, write_json
from models import Time
from schemas import TAG, JSONRefused, PublicSchema, read_amount, read_json, read_position, read_time, suggest

LARGEST_PAGE = 1_000
# Where no index has the order, each page sorts all rows anew: let there be few.
LARGEST_SORTED_PAGE = 20_000
LONGEST_SEARCH = 255
MOST_VALUES = 2_000
COUNT_EXACT = re.compile(r'(^|,)\s*count\s*=\s*("exact"|exact)\s*($|[;,])', re.I)
INDEXED_SORTS = ("createdAt", "updatedAt", "id")


def list_rows(endpoint: Endpoint) -> Response:
    """Answer the rows that the query string asks for, all of them or a page."""
    listing = Listing(endpoint)
    if is_unchanged(endpoint.name, *map(table_of, listing.query.include)):
        return Response(status=304)
    if not listing.values and not listing.limit:
        hold_snapshot()
    page = listing.page()
    headers = {}
    if listing.counted:
        headers = {"X-Total-Count": str(page.total), "Preference-Applied": "count=exact"}
    if page.cursor and not listing.limit:
        if listing.values:
            # What its filters leave is seldom more than a page, so the snapshot is held only now.
            hold_snapshot()
            page = listing.page()
        return send_pages(listing, page, headers)
    if page.cursor:
        headers |= listing.parameters.next_link(limit=listing.limit, cursor=page.cursor)
    return Answer(page.text, 200, headers)


def send_pages(listing: "Listing", page: "Page", headers: dict[str, str]) -> Response:
    """Answer a list of many pages, each of them read when the one before it is sent."""
    # Flask ends a request before its answer is sent: the snapshot must not end with it, but with the answer.
    unused = [keep_reader()]

    def pieces() -> Iterator[str]:
        read_by(unused.pop())
        yield from listing.pages(page)

    def close_unused() -> None:
        for kept in unused:
            kept.close()

    response = Response(stream_with_context(pieces()), 200, headers, content_type="application/json")
    response.call_on_close(close_unused)
    return response


def get_row(endpoint: Endpoint, row_id: str) -> Response:
    """Answer one row, or 404."""
    parameters = Parameters("fields", "include")
    included = tuple(parameters.words("include", endpoint.includes))
    if is_unchanged(endpoint.name, *map(table_of, included), id=row_id):
        return Response(status=304)
    row = read_row(endpoint, row_id, tuple(parameters.words("fields", tuple(endpoint.attributes))), included)
    if row is None:
        abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    return Answer(row)


def read_row(endpoint: Endpoint, row_id: str, only: tuple[str, ...] = (), included: tuple[str, ...] = ()) -> str | None:
    """Return the JSON of one row and note what it reflects, or None where there is no such row."""
    *last, row = read(row_query, endpoint.name, only, included, id=row_id).fetchone()
    reflect(*last)
    return None if row is None else finish(row, endpoint.schema, schemas_of(included))


class Page(NamedTuple):
    """The JSON of a page's rows, the next page's cursor if there is one, the number of all rows."""

    text: str
    cursor: str
    total: int


def schemas_of(included: Iterable[str]) -> dict[str, PublicSchema]:
    """Return the schemas of what is embedded."""
    return {name: ENDPOINTS[table_of(name)].schema for name in included}


class Listing:
    """What a list's query string asks for: the query, and the values in it.

    Raises QueryRefused for a parameter, field, operator or value that isn't known.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        names = tuple(endpoint.attributes)
        self.parameters = Parameters("limit", "cursor", "sort", "q", "fields", "include", fields=names)
        given = self.parameters.given
        self.limit = self.parameters.number("limit", 1, LARGEST_PAGE, 0)
        self.counted = COUNT_EXACT.search(unwrapped(request).environ.get("HTTP_PREFER", "")) is not None
        self.values: dict[str, Any] = {}
        only, include = self.parameters.words("fields", names), self.parameters.words("include", endpoint.includes)
        filters = [self.filter(*each) for each in enumerate(self.parameters.filters.items())]
        words, indexed = self.search(given["q"]) if "q" in given else ((), False)
        sort = self.sort(given.get("sort", "createdAt"))
        limit = self.limit or (LARGEST_PAGE if sort in INDEXED_SORTS else LARGEST_SORTED_PAGE)
        self.query = Query(endpoint.name, tuple(only), tuple(include), tuple(filters), words, indexed, sort, limit)
        if "cursor" in given:
            self.go_on(given["cursor"])

    def column(self, name: str) -> Any:
        """Return the column of a public name."""
        return self.endpoint.table.c[self.endpoint.attributes[name]]

    def read(self, name: str, value: Any) -> Any:
        """Return a value of the named field as the database compares it.

        Raises QueryRefused when the field can't have it.
        """
        column = self.column(name)
        field = TAG if isinstance(column.type, sa.JSON) else self.endpoint.schema.fields[self.endpoint.attributes[name]]
        given = value
        if isinstance(value, str) and isinstance(column.type, sa.Boolean | sa.Numeric | sa.Integer):
            # What is no number and no boolean stays text, and the field will say so.
            with suppress(JSONRefused):
                value = read_json(value.encode()) if value == value.strip() else value
        try:
            return field.deserialize(value)
        except ValidationError as error:
            raise QueryRefused(f"{name} can't be {given!r}. {error.messages[0]}") from None

    def filter(self, number: int, parameter: tuple[str, list[str]]) -> Filter:
        """Return the filter that one parameter sets: `field` for any of its values, `field[gte]` for a range."""
        name, bracket, operator = parameter[0].partition("[")
        operator, given = operator.removesuffix("]"), parameter[1]
        if bracket:
            self.check_operator(name, operator, given)
        nullable = self.column(name).nullable and "null" in given
        if nullable and operator not in {"", "ne"}:
            raise QueryRefused(f"{name}[{operator}] can't be null: {name}=null and {name}[ne]=null can.")
        wanted = [self.read(name, value) for value in given if not (nullable and value == "null")]
        if len(wanted) > MOST_VALUES:
            raise QueryRefused(f"{name} can have at most {MOST_VALUES} values, not {len(wanted)}: ask more than once.")
        # As many places as a power of two, the last value in all that are left: so few statements serve any number.
        wanted += wanted[-1:] * ((1 << len(wanted[1:]).bit_length()) - len(wanted))
        self.values |= {f"f{number}_{place}": value for place, value in enumerate(wanted)}
        return Filter(name, operator, len(wanted), nullable)

    def check_operator(self, name: str, operator: str, values: list[str]) -> None:
        """Raise QueryRefused unless the field has the operator, and it is given once."""
        if not isinstance(self.column(name).type, Time | sa.Numeric | sa.Integer):
            raise QueryRefused(f"{name} has no operators: they are for numbers and times.")
        if operator not in OPERATORS:
            raise QueryRefused(f"{name} has no operator {operator}. {suggest(operator, tuple(OPERATORS))}")
        if len(values) > 1:
            raise QueryRefused(f"{name}[{operator}] must be given once.")

    def search(self, text: str) -> tuple[tuple[int, ...], bool]:
        """Return in how many spellings each word is looked for in the rows, and whether others are in the index."""
        if haste.is_on:
            # The search of a text can take long within one step, where SQLite can't break it off.
            raise TakesLong
        words = text.split()
        if not words or len(text) > LONGEST_SEARCH or "\0" in text:
            raise QueryRefused(f"q must be one or more words, {LONGEST_SEARCH} characters in all.")
        # SQLite's index knows texts by their trigrams, so it can't know shorter words.
        indexed = [word for word in words if len(word) >= 3 and db.engine.dialect.name == "sqlite"]
        others = [spellings(word) for word in words if word not in indexed]
        for number, spelled in enumerate(others):
            self.values |= {f"word{number}_{place}": f"%{word}%" for place, word in enumerate(spelled)}
        if indexed:
            self.values["indexed"] = " ".join('"' + word.replace('"', '""') + '"' for word in indexed)
        return tuple(map(len, others)), bool(indexed)

    def sort(self, given: str) -> str:
        """Return the sort, which names scalar fields, each once."""
        scalars = self.endpoint.scalars
        names = [term.removeprefix("-") for term in given.split(",")]
        for name, term in zip(names, given.split(","), strict=True):
            if name not in scalars:
                raise QueryRefused(f"sort can't have {term!r}. {suggest(name, scalars)}")
            if names.count(name) > 1:
                raise QueryRefused(f"sort must name {name} once.")
        return given

    def page(self) -> Page:
        """Return the page that is asked for, and note what it reflects."""
        row = read(page_query, self.query, self.counted, **self.values).fetchone()
        *last, text, edge, total = row if self.counted else (*row, 0)
        reflect(*last)
        text = finish(f"[{text or ''}]", self.endpoint.schema, schemas_of(self.query.include))
        # The sort keys of the page's last row, and of the one that follows it.
        edges = json.loads(f"[{edge}]") if edge else []
        return Page(text, self.cursor_at(edges[0]) if len(edges) > 1 else "", total)

    def cursor_at(self, keys: Mapping[str, Any]) -> str:
        """Return the cursor of what follows the row with these sort keys."""
        place = write_json([self.query.resource, self.query.sort, *keys.values()])
        return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")

    def pages(self, page: Page) -> Iterator[str]:
        """Yield the whole list in pieces: the first page, which is given, then all that follow it."""
        yield page.text[:-1]
        while page.cursor:
            self.go_on(page.cursor)
            page = self.page()
            yield f",{page.text[1:-1]}"
        yield "]"

    def go_on(self, cursor: str) -> None:
        """Ask for what stands after a cursor.

        Raises QueryRefused when this list, sorted like this, did not give it.
        """
        refused = QueryRefused("cursor must be one that this list gave, with the same sort: start again without it.")
        try:
            place = read_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (binascii.Error, ValueError, JSONRefused):
            raise refused from None
        keys, given = self.query.keys, [self.query.resource, self.query.sort]
        if not isinstance(place, list) or place[:2] != given or len(place) != len(keys) + 2:
            raise refused
        for number, (key, value) in enumerate(zip(keys, place[2:], strict=True)):
            try:
                self.values[f"after{number}"] = None if value is None else in_column(key.column, value)
            except (ValueError, ValidationError):
                raise refused from None
            if value is None and not key.column.nullable:
                raise refused
        self.query = self.query._replace(after=tuple(value is None for value in place[2:]))


def in_column(column: Any, value: Any) -> Any:
    """Return a value of a cursor as its column compares it: any program may have written it, past the schema's rules.

    Raises ValueError or ValidationError for one that the column can't have.
    """
    if isinstance(column.type, Time):
        return read_time(value)
    if isinstance(column.type, sa.Numeric):
        return read_amount(value)
    if isinstance(column.type, sa.Integer):
        return read_position(value)
    if isinstance(column.type, sa.Boolean):
        fits = isinstance(value, bool)
    else:
        # Raises ValueError for half of a surrogate pair.
        fits = isinstance(value, str) and b"\0" not in value.encode()
    if not fits:
        raise ValueError
    return value


def spellings(word: str) -> list[str]:
    """Return a word for LIKE; a short one of other letters than ASCII's in every case, because SQLite folds none."""
    escaped = word.replace("/", "//").replace("%", "/%").replace("_", "/_")
    cases = product(*({letter.lower(), letter.upper()} for letter in word))
    return [escaped] if word.isascii() or len(word) > 2 else sorted(map("".join, cases))
