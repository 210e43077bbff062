"""A Query as a SELECT whose rows are finished JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from api.as_of import changed_rows, past_object, past_rows, with_past_rows
from api.changes import last_changes
from api.json_sql import (
    Template,
    folded_text,
    joined,
    json_array,
    json_object,
    json_text,
    json_value,
    matching_value,
    number,
    schema_fields,
)
from api.query import Query, SortKey
from api.resources import ENDPOINTS, Endpoint, embedded_resource
from database import db
from database.columns import Time
from database.search import accents_condition

COMPARISONS = {"gte": "__ge__", "gt": "__gt__", "lte": "__le__", "lt": "__lt__", "ne": "is_distinct_from"}

Condition = sa.ColumnElement[bool]


def page_query(query: Query, counted: bool) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for a page, all from one snapshot.

    Its row has: the arguments of set_version(); the rows' JSON, or numbers, joined by commas; the sort keys of the last
    row and of the one after it, joined likewise; and, if counted, the number of rows of all pages.
    """
    rows = rows_query(query)
    page = rows.subquery("page")
    columns = [joined(page.c.o), sa.null()]
    if query.limit:
        keys = sa.select(json_object({key.name: json_value(key.column) for key in query.sort_keys}).label("o"))
        edge = filter_and_sort(keys, query).limit(number(2)).offset(number(query.limit - 1))
        last = sa.select(joined(edge.subquery("edge").c.o)).correlate(None).scalar_subquery()
        columns[1] = sa.case((sa.func.count() == number(query.limit), last))
    if counted:
        every = sa.select(sa.func.count()).select_from(query.endpoint.table)
        all_pages = query._replace(cursor_nulls=())
        columns.append(every.where(*conditions(all_pages)).correlate(None).scalar_subquery())
    resources = query.resource, *map(embedded_resource, query.include)
    statement = sa.select(*last_changes(*resources, as_of=query.as_of), *columns).select_from(page)
    if not query.as_of:
        return statement
    past = changed_rows(query.resource) if query.by_numbers else past_rows(query.resource)
    includes = query.include if query.limit or query.by_numbers else ()
    return with_past_rows(statement, query.resource, past, includes, rows.with_only_columns(query.endpoint.table.c.id))


def rows_query(query: Query) -> sa.Select[Any]:
    """Return the query for the rows of a page as JSON: those with the numbers to bind, or the first up to the limit."""
    own, table = row_object(query.endpoint, query.fields, query.include, query.as_of), query.endpoint.table
    if query.by_numbers:
        numbers = bound_numbers()
        return sa.select(own.label("o")).where(table.c.number == numbers.value).order_by(numbers.key)
    if query.limit:
        return filter_and_sort(sa.select(own.label("o")), query).limit(number(query.limit)).offset(number(0))
    # With neither numbers nor a limit, it is the query for the numbers of all rows.
    return filter_and_sort(sa.select(table.c.number.label("o")), query)


def filter_and_sort(statement: sa.Select[Any], query: Query) -> sa.Select[Any]:
    """Return the statement with the conditions and the order of the list."""
    return statement.where(*conditions(query)).order_by(*(order_by(key) for key in query.sort_keys))


def bound_numbers() -> Any:
    """Return the comma-separated numbers to bind as the columns `value` and `key`, which is their position."""
    numbers = sa.bindparam("numbers", type_=sa.String())
    if db.engine.dialect.name == "sqlite":
        return sa.func.json_each("[" + numbers + "]").table_valued("value", "key", name="numbers").c
    array = sa.cast("{" + numbers + "}", sa.ARRAY(sa.BigInteger))
    return sa.func.unnest(array).table_valued("value", with_ordinality="key", name="numbers").render_derived().c


def row_query(
    resource: str, fields: tuple[str, ...] = (), include: tuple[str, ...] = (), as_of: bool = False
) -> sa.Select[Any]:
    """Return the query for the row with an id: the arguments of set_version(), then its JSON, null if it is missing."""
    endpoint = ENDPOINTS[resource]
    row = sa.select(row_object(endpoint, fields, include, as_of)).where(endpoint.table.c.id == sa.bindparam("id"))
    resources = resource, *map(embedded_resource, include)
    statement = sa.select(*last_changes(*resources, of_row=True, as_of=as_of), row.scalar_subquery())
    if not as_of:
        return statement
    past = past_rows(resource, sa.bindparam("id"))
    return with_past_rows(statement, resource, past, include, sa.select(endpoint.table.c.id))


def row_object(
    endpoint: Endpoint, fields: Sequence[str] = (), include: Sequence[str] = (), as_of: bool = False
) -> Template:
    """Return a row as a JSON object: all of its fields or some, and the embedded rows."""
    table = endpoint.table
    columns = schema_fields(endpoint.schema, table, fields)
    for name in endpoint.includes:
        if name in include:
            columns[name] = json_text(embedded_rows(table, name, as_of))
    row = json_object(columns)
    return past_object(endpoint.name, row) if as_of and not (fields or include) else row


def embedded_rows(table: Any, include: str, as_of: bool) -> Any:
    """Return the rows that an include embeds: a company's rows as an array, or a row's company as an object."""
    other = ENDPOINTS[embedded_resource(include)]
    rows = other.table.alias(include)
    objects = sa.select(json_object(schema_fields(other.schema, rows)).label("o"))
    if include == "company":
        own = objects.where(rows.c.id == table.c.company_id).correlate(table)
        past = past_rows(other.name, sa.literal_column(f"{table.name}.company_id")).cte(other.name, nesting=True)
        return (own.add_cte(past) if as_of else own).scalar_subquery()
    own = objects.where(rows.c.company_id == table.c.id).order_by(rows.c.created_at, rows.c.id)
    return json_array(own.correlate(table).scalar_subquery())


def conditions(query: Query) -> Iterator[Condition]:
    """Yield the conditions of the filters, the search and the cursor."""
    yield from filter_conditions(query)
    yield from search_conditions(query)
    first = query.sort_keys[0]
    if query.cursor_nulls:
        yield after_cursor(query)
    elif len(query.sort_keys) > 2 and isinstance(first.column.type, Time) and not first.nullable:
        # Always true; with it SQLite uses the first key's index, and sorts only rows with equal values.
        yield first.column <= sa.literal_column("'9999-12-31T23:59:59Z'")


def filter_conditions(query: Query) -> Iterator[Condition]:
    """Yield the condition of each filter."""
    for index, each in enumerate(query.filters):
        column = query.endpoint.columns[each.name]
        values: list[Any] = [bind(f"filter{index}_{place}", column) for place in range(each.values)]
        if not (values or each.or_null):
            # The filter's value had to be rounded: no stored value equals it.
            yield sa.true() if each.operator else sa.false()
        elif each.operator:
            yield getattr(column, COMPARISONS[each.operator])(*(values or [None]))
        elif isinstance(column.type, sa.JSON):
            yield contains_any(column, values)
        else:
            alternatives = [matching_value(column).in_(values)] if values else []
            yield sa.or_(*alternatives, column.is_(None)) if each.or_null else alternatives[0]


def bind(name: str, column: Any) -> sa.BindParameter[Any]:
    """Return the parameter for a value that is compared with a column."""
    return sa.bindparam(name, type_=sa.String() if isinstance(column.type, sa.JSON) else column.type)


def contains_any(column: Any, values: list[Any]) -> Condition:
    """Return the condition that an array has one of the values."""
    elements = sa.func.jsonb_array_elements_text if db.engine.dialect.name == "postgresql" else sa.func.json_each
    each = elements(column).table_valued("value")
    return sa.exists().select_from(each).where(each.c.value.in_(values))


def search_conditions(query: Query) -> Iterator[Condition]:
    """Yield the conditions of `q`: every word occurs in the row's searchable text, in any case, with any accents."""
    table, others = query.endpoint.table, query.words - query.indexed_words
    names = [column.name for column in table.c if column.info.get("searchable")]
    yield from (contains_word(table, names, index) for index in range(others))
    if query.indexed_words:
        index_table = sa.table(f"{query.resource}_search", sa.column("rowid"))
        matches = sa.literal_column(index_table.name).op("MATCH")(sa.bindparam("search"))
        accented = table.alias("accented")
        words = (contains_word(accented, names, index) for index in range(others, query.words))
        found = sa.union_all(
            sa.select(index_table.c.rowid).where(matches),
            sa.select(accented.c.number).where(sa.text(f"({accents_condition(names)})"), *words),
        )
        yield table.c.number.in_(found)


def contains_word(table: Any, names: list[str], index: int) -> Condition:
    """Return the condition that a word of `q` occurs in one of the columns; every row is read for it."""
    pattern = sa.bindparam(f"word{index}", type_=sa.String())
    return sa.or_(*(folded_text(table.c[name]).like(pattern, escape="/") for name in names))


def order_by(key: SortKey) -> sa.ColumnElement[Any]:
    """Return the ORDER BY term of a sort key; nulls come last in both directions."""
    ordered: sa.UnaryExpression[Any] = key.column.desc() if key.descending else key.column.asc()
    return ordered.nulls_last() if key.nullable else ordered


def after_cursor(query: Query) -> Condition:
    """Return the condition that a row comes after the cursor's row."""
    keys = query.sort_keys
    parameters = [bind(f"cursor{index}", key.column) for index, key in enumerate(keys)]
    if all(not key.descending and not key.nullable for key in keys):
        # A comparison of row values can seek in an index.
        return sa.tuple_(*(key.column for key in keys)) > sa.tuple_(*parameters)
    alternatives: list[Condition] = []
    equal: list[Condition] = []
    for key, parameter, is_null in zip(keys, parameters, query.cursor_nulls, strict=True):
        alternatives.append(sa.and_(*equal, after_value(key, None if is_null else parameter)))
        equal.append(key.column.is_(None) if is_null else key.column == parameter)
    first = keys[0]
    if first.nullable:
        return sa.or_(*alternatives)
    # Implied by the alternatives; with it SQLite can seek in the first key's index.
    bound = first.column <= parameters[0] if first.descending else first.column >= parameters[0]
    return sa.and_(sa.or_(*alternatives), bound)


def after_value(key: SortKey, value: Any) -> Condition:
    """Return the condition that a sort key comes after a value; None stands for null."""
    if value is None:
        return sa.false()
    after = key.column < value if key.descending else key.column > value
    return sa.or_(after, key.column.is_(None)) if key.nullable else after
