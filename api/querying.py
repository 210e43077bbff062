"""What a list asks for as a SELECT, whose rows are the finished JSON."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from api.changes import versions
from api.encoding import JSONArray, JSONObject, JSONRows, JSONValue, literal, members_of
from api.resources import ENDPOINTS, Endpoint
from database import db
from models import Time

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
        """Return the condition of standing after a row with this value, None for null."""
        if value is None:
            return sa.false()
        beyond = self.column < value if self.descending else self.column > value
        return sa.or_(beyond, self.column.is_(None)) if self.column.nullable else beyond


class Filter(NamedTuple):
    """A parameter on a field without its values: how many there are, and whether null is one of them."""

    name: str
    operator: str
    values: int
    nullable: bool


class Query(NamedTuple):
    """What a list asks for, without the values: lists that differ in values alone share a statement."""

    resource: str
    only: tuple[str, ...]
    include: tuple[str, ...]
    filters: tuple[Filter, ...]
    # For each word that is looked for in the rows, in how many spellings.
    words: tuple[int, ...]
    indexed: bool
    sort: str
    limit: int
    # For each value of the cursor, whether it is null; nothing without a cursor.
    after: tuple[bool, ...] = ()

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint that is asked."""
        return ENDPOINTS[self.resource]

    def column(self, name: str) -> Any:
        """Return the column of a public name."""
        return self.endpoint.table.c[self.endpoint.attributes[name]]

    @property
    def keys(self) -> list[SortKey]:
        """Return what the list is sorted by, the id at the end."""
        terms = [(term.removeprefix("-"), term.startswith("-")) for term in self.sort.split(",")]
        keys = [SortKey(name, self.column(name), descending) for name, descending in terms]
        return keys if any(key.name == "id" for key in keys) else [*keys, SortKey("id", self.column("id"))]

    def value(self, name: str, column: Any) -> Any:
        """Return the place of a value to come."""
        return sa.bindparam(name, type_=sa.String() if isinstance(column.type, sa.JSON) else column.type)

    def conditions(self) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions of all parameters."""
        for number, each in enumerate(self.filters):
            column = self.column(each.name)
            values = [self.value(f"f{number}_{place}", column) for place in range(each.values)]
            if each.operator:
                yield getattr(column, OPERATORS[each.operator])(*(values or [None]))
            elif isinstance(column.type, sa.JSON):
                yield holds(column, values)
            else:
                # Nothing but null is left of a filter whose values are all null.
                wanted = [column.in_(values)] if values else []
                yield sa.or_(*wanted, column.is_(None)) if each.nullable else wanted[0]
        yield from self.search()
        first = self.keys[0]
        if self.after:
            yield self.beyond()
        elif len(self.keys) > 2 and isinstance(first.column.type, Time) and not first.column.nullable:
            # True of every row: it has SQLite go along the first key's index, and sort only what is equal there.
            yield first.column <= sa.literal_column("'9999-12-31T23:59:59Z'")

    def search(self) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions of a text search: every word occurs somewhere in the row's text, in any case."""
        table = self.endpoint.table
        texts: list[Any] = [column for column in table.c if column.info.get("searched")]
        if db.engine.dialect.name == "postgresql":
            # The columns sort by code point; letters' case is the database's own locale's.
            texts = [sa.collate(column, "default") for column in texts]
        for number, spellings in enumerate(self.words):
            patterns = [sa.bindparam(f"word{number}_{place}", type_=sa.String()) for place in range(spellings)]
            yield sa.or_(*(column.ilike(pattern, escape="/") for column in texts for pattern in patterns))
        if self.indexed:
            index = sa.table(f"{self.resource}_search", sa.column("rowid"))
            matches = sa.literal_column(index.name).op("MATCH")(sa.bindparam("indexed"))
            yield table.c.number.in_(sa.select(index.c.rowid).where(matches))

    def beyond(self) -> sa.ColumnElement[bool]:
        """Return the condition of standing after the cursor's row."""
        places = [self.value(f"after{number}", key.column) for number, key in enumerate(self.keys)]
        values = [None if is_null else place for is_null, place in zip(self.after, places, strict=True)]
        if all(not key.descending and not key.column.nullable for key in self.keys):
            # One comparison of rows, which an index can be entered by.
            return sa.tuple_(*(key.column for key in self.keys)) > sa.tuple_(*places)
        alternatives: list[sa.ColumnElement[bool]] = []
        equal: list[sa.ColumnElement[bool]] = []
        for key, value in zip(self.keys, values, strict=True):
            alternatives.append(sa.and_(*equal, key.after(value)))
            equal.append(key.column.is_(None) if value is None else key.column == value)
        first = self.keys[0]
        # Said besides, so that an index of the first key can be entered here.
        bound = first.column <= places[0] if first.descending else first.column >= places[0]
        return sa.and_(sa.or_(*alternatives), sa.true() if first.column.nullable else bound)


def page_query(query: Query, counted: bool) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for a page: what reflect() takes, the rows' JSON parted by commas, then the sort keys of the

    last row and of the one that follows it, and if it is asked for, the number of all rows; all of one snapshot.
    """
    ordered = [key.order for key in query.keys]
    rows = sa.select(shape(query.endpoint, query.only, query.include).label("o")).where(*query.conditions())
    page = rows.order_by(*ordered).limit(literal(query.limit)).offset(literal(0)).subquery("page")
    keys = sa.select(JSONObject({key.name: JSONValue(key.column) for key in query.keys}).label("o"))
    last = keys.where(*query.conditions()).order_by(*ordered).limit(literal(2)).offset(literal(query.limit - 1))
    edge = sa.select(JSONRows(last.subquery("edge").c.o)).correlate(None).scalar_subquery()
    every = sa.select(sa.func.count()).select_from(query.endpoint.table).where(*query._replace(after=()).conditions())
    total = [every.correlate(None).scalar_subquery()] if counted else []
    seqs = versions(False, query.resource, *map(table_of, query.include))
    return sa.select(*seqs, JSONRows(page.c.o), edge, *total).select_from(page)


def row_query(resource: str, only: tuple[str, ...] = (), included: tuple[str, ...] = ()) -> sa.Select[Any]:
    """Return the query for the row with an id: what reflect() takes, then its JSON, null without such a row."""
    endpoint = ENDPOINTS[resource]
    row = sa.select(shape(endpoint, only, included)).where(endpoint.table.c.id == sa.bindparam("id"))
    return sa.select(*versions(True, resource, *map(table_of, included)), row.scalar_subquery())


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


def holds(column: Any, wanted: list[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that an array column has one of the members."""
    elements = sa.func.jsonb_array_elements_text if db.engine.dialect.name == "postgresql" else sa.func.json_each
    each = elements(column).table_valued("value")
    return sa.exists().select_from(each).where(each.c.value.in_(wanted))
