"""Reading: a query string becomes a SELECT, its rows an answer."""

import base64
import binascii
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Response, abort, request
from marshmallow import ValidationError

from api.changes import is_unchanged, reflect
from api.encoding import JSONArray, JSONObject, JSONValue, answer_row, answer_rows, members_of
from api.parameters import Parameters
from api.problems import QueryRefused
from api.resources import ENDPOINTS, Endpoint
from database import db, write_json
from models import Time
from schemas import TAG, JSONRefused, read_json, suggest

LARGEST_PAGE = 1_000
LONGEST_SEARCH = 255
OPERATORS = {"gte": "__ge__", "gt": "__gt__", "lte": "__le__", "lt": "__lt__", "ne": "is_distinct_from"}


class SortKey(NamedTuple):
    """A column that a list is sorted by; nulls come last in both directions."""

    name: str
    column: Any
    descending: bool = False

    @property
    def order(self) -> sa.ColumnElement[Any]:
        """Return the term of ORDER BY."""
        ordered: sa.UnaryExpression[Any] = self.column.desc() if self.descending else self.column.asc()
        return ordered.nulls_last() if self.column.nullable else ordered

    def after(self, value: Any) -> sa.ColumnElement[bool]:
        """Return the condition of standing after a row with this value."""
        if value is None:
            return sa.false()
        beyond = self.column < value if self.descending else self.column > value
        return sa.or_(beyond, self.column.is_(None)) if self.column.nullable else beyond


def list_rows(endpoint: Endpoint) -> Response:
    """Answer the rows that the query string asks for, all of them or a page."""
    listing = Listing(endpoint)
    reflect(endpoint.name, *listing.included)
    if is_unchanged():
        return Response(status=304)
    headers = {}
    if "count=exact" in request.headers.get("Prefer", ""):
        count = sa.select(sa.func.count()).select_from(listing.table).where(*listing.conditions)
        headers = {"X-Total-Count": str(db.session.scalar(count)), "Preference-Applied": "count=exact"}
    rows: Sequence[Any] = db.session.execute(listing.select()).all()
    if listing.limit and len(rows) > listing.limit:
        rows = rows[: listing.limit]
        headers |= listing.parameters.next_link(limit=listing.limit, cursor=listing.cursor_after(rows[-1]))
    return answer_rows((row[0] for row in rows), headers)


def get_row(endpoint: Endpoint, row_id: str) -> Response:
    """Answer one row, or 404."""
    parameters = Parameters("fields", "include")
    included = parameters.words("include", endpoint.includes)
    reflect(endpoint.name, *map(table_of, included), row_id=row_id)
    if is_unchanged():
        return Response(status=304)
    row = read_row(endpoint, row_id, parameters.words("fields", tuple(endpoint.attributes)), included)
    if row is None:
        abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    return answer_row(row)


def read_row(endpoint: Endpoint, row_id: str, only: Sequence[str] = (), included: Sequence[str] = ()) -> str | None:
    """Return the JSON of one row, or None where there is no such row."""
    table = endpoint.table
    return db.session.scalar(sa.select(shape(endpoint, only, included)).where(table.c.id == row_id))


def shape(endpoint: Endpoint, only: Sequence[str] = (), included: Sequence[str] = ()) -> JSONObject:
    """Return the JSON of an endpoint's row as SQL: all its members or some, and with them what it embeds."""
    table = endpoint.table
    members = members_of(endpoint.schema, table, only)
    for name in endpoint.includes:
        if name in included:
            other = ENDPOINTS[table_of(name)]
            rows = other.table.alias(name)
            embedded = sa.select(JSONObject(members_of(other.schema, rows)).label("o"))
            if name == "company":
                found: Any = embedded.where(rows.c.id == table.c.company_id).correlate(table).scalar_subquery()
            else:
                own = embedded.where(rows.c.company_id == table.c.id).order_by(rows.c.created_at, rows.c.id)
                found = JSONArray(own.correlate(table).scalar_subquery())
            members[name] = JSONValue(sa.type_coerce(found, sa.JSON()))
    return JSONObject(members)


def table_of(include: str) -> str:
    """Return the resource that an include embeds."""
    return "companies" if include == "company" else include


class Listing:
    """What a list's query string asks for.

    Raises QueryRefused for a parameter, field, operator or value that isn't known.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.table = endpoint.table
        names = tuple(endpoint.attributes)
        self.parameters = Parameters("limit", "cursor", "sort", "q", "fields", "include", fields=names)
        self.limit = self.parameters.number("limit", 1, LARGEST_PAGE, 0)
        self.only = self.parameters.words("fields", names)
        self.include = self.parameters.words("include", endpoint.includes)
        self.included = [table_of(name) for name in self.include]
        self.conditions = [self.condition(name, values) for name, values in self.parameters.filters.items()]
        if "q" in request.args:
            self.conditions += self.search(request.args["q"])

    def select(self) -> sa.Select[Any]:
        """Return the SELECT: the rows' JSON, then the values that the next page's cursor is made of."""
        statement = sa.select(shape(self.endpoint, self.only, self.include)).where(*self.conditions)
        if self.limit:
            statement = statement.add_columns(*(key.column for key in self.keys)).limit(self.limit + 1)
        if "cursor" in request.args:
            statement = statement.where(self.after_cursor(request.args["cursor"]))
        return statement.order_by(*(key.order for key in self.keys))

    def column(self, name: str) -> Any:
        """Return the column of a public name."""
        return self.table.c[self.endpoint.attributes[name]]

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
                value = read_json(value.encode())
        try:
            return field.deserialize(value)
        except ValidationError as error:
            raise QueryRefused(f"{name} can't be {given!r}. {error.messages[0]}") from None

    def condition(self, name: str, values: list[str]) -> sa.ColumnElement[bool]:
        """Return the condition that one parameter sets: `field` for any of its values, `field[gte]` for a range."""
        name, bracket, operator = name.partition("[")
        column = self.column(name)
        if bracket:
            return self.comparison(name, operator.removesuffix("]"), values)
        nullable = column.nullable and "null" in values
        wanted = [self.read(name, value) for value in values if not (nullable and value == "null")]
        if isinstance(column.type, sa.JSON):
            return sa.or_(*(holds(column, tag) for tag in wanted))
        return sa.or_(column.in_(wanted), column.is_(None)) if nullable else column.in_(wanted)

    def comparison(self, name: str, operator: str, values: list[str]) -> sa.ColumnElement[bool]:
        """Return the condition of an operator."""
        column = self.column(name)
        if not isinstance(column.type, Time | sa.Numeric | sa.Integer):
            raise QueryRefused(f"{name} has no operators: they are for numbers and times.")
        if operator not in OPERATORS:
            raise QueryRefused(f"{name} has no operator {operator}. {suggest(operator, OPERATORS)}")
        if len(values) > 1:
            raise QueryRefused(f"{name}[{operator}] must be given once.")
        condition: sa.ColumnElement[bool] = getattr(column, OPERATORS[operator])(self.read(name, values[0]))
        return condition

    def search(self, text: str) -> list[sa.ColumnElement[bool]]:
        """Return the conditions of a text search: every word occurs somewhere in the row's text, in any case."""
        words = text.split()
        if not words or len(text) > LONGEST_SEARCH or "\0" in text:
            raise QueryRefused(f"q must be one or more words, {LONGEST_SEARCH} characters in all.")
        texts: list[Any] = [column for column in self.table.c if column.info.get("searched")]
        # SQLite's index knows texts by their trigrams, so it can't know shorter words.
        indexed = [word for word in words if len(word) >= 3]
        if db.engine.dialect.name == "postgresql":
            # The columns sort by code point; letters' case is the database's own locale's.
            texts, indexed = [sa.collate(column, "default") for column in texts], []
        conditions: list[sa.ColumnElement[bool]] = [
            sa.or_(*(column.icontains(word, autoescape=True) for column in texts))
            for word in words
            if word not in indexed
        ]
        if indexed:
            quoted = " ".join('"' + word.replace('"', '""') + '"' for word in indexed)
            index = sa.table(f"{self.endpoint.name}_search", sa.column("rowid"))
            matches = sa.literal_column(index.name).op("MATCH")(quoted)
            conditions.append(self.table.c.number.in_(sa.select(index.c.rowid).where(matches)))
        return conditions

    @cached_property
    def keys(self) -> list[SortKey]:
        """Return what the list is sorted by, the id at the end: by creation where nothing else is asked for."""
        keys: list[SortKey] = []
        scalars = [name for name in self.endpoint.attributes if not isinstance(self.column(name).type, sa.JSON)]
        for term in request.args.get("sort", "createdAt").split(","):
            name = term.removeprefix("-")
            if name not in scalars:
                raise QueryRefused(f"sort can't have {term!r}. {suggest(name, scalars)}")
            if any(name == key.name for key in keys):
                raise QueryRefused(f"sort must name {name} once.")
            keys.append(SortKey(name, self.column(name), term.startswith("-")))
        return keys if any(key.name == "id" for key in keys) else [*keys, SortKey("id", self.table.c.id)]

    def cursor_after(self, row: Any) -> str:
        """Return the cursor of what follows a row of the SELECT: the sort and the row's place in it, as text."""
        fields = self.endpoint.schema.fields
        shown = {key.name: value for key, value in zip(self.keys, row[1:], strict=True)}
        values = [fields[self.endpoint.attributes[name]]._serialize(value, None, None) for name, value in shown.items()]
        place = write_json([request.args.get("sort", "createdAt"), *values])
        return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")

    def after_cursor(self, cursor: str) -> sa.ColumnElement[bool]:
        """Return the condition of standing after a cursor.

        Raises QueryRefused when this list, sorted like this, did not give it.
        """
        refused = QueryRefused("cursor must be one that this list gave, with the same sort: start again without it.")
        try:
            place = read_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (binascii.Error, ValueError, JSONRefused):
            raise refused from None
        sort = request.args.get("sort", "createdAt")
        if not isinstance(place, list) or place[:1] != [sort] or len(place) != len(self.keys) + 1:
            raise refused
        values = [
            None if value is None else self.read(key.name, value)
            for key, value in zip(self.keys, place[1:], strict=True)
        ]
        if all(not key.descending and not key.column.nullable for key in self.keys):
            # One comparison of rows, which an index can be entered by.
            typed = [sa.literal(value, key.column.type) for key, value in zip(self.keys, values, strict=True)]
            return sa.tuple_(*(key.column for key in self.keys)) > sa.tuple_(*typed)
        alternatives: list[sa.ColumnElement[bool]] = []
        equal: list[sa.ColumnElement[bool]] = []
        for key, value in zip(self.keys, values, strict=True):
            alternatives.append(sa.and_(*equal, key.after(value)))
            equal.append(key.column.is_(None) if value is None else key.column == value)
        return sa.or_(*alternatives)


def holds(column: Any, tag: str) -> sa.ColumnElement[bool]:
    """Return the condition that an array column has a member."""
    elements = sa.func.jsonb_array_elements_text if db.engine.dialect.name == "postgresql" else sa.func.json_each
    each = elements(column).table_valued("value")
    return sa.exists().select_from(each).where(each.c.value == tag)
