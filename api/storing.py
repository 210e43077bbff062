"""A resource's rows as they are stored: the statements that find, insert, change and delete one."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from api.encoding import literal
from api.resources import ENDPOINTS, Endpoint
from database import db, read

Row = dict[str, Any]


def stored_row(endpoint: Endpoint, row_id: str) -> Row | None:
    """Return the row as it is stored, or None."""
    cursor = read(stored_query, endpoint.name, id=row_id)
    found = cursor.fetchone()
    if found is None:
        return None
    given = zip(columns_of(endpoint).items(), cursor.description, found, strict=True)
    return {name: stored_value(column, about[1], value) for (name, column), about, value in given}


def stored_value(column: Any, driver_type: Any, value: Any) -> Any:
    """Return a value that the driver gives, of a type of its own, as the column's type has it."""
    dialect = db.engine.dialect
    process = column.type.dialect_impl(dialect).result_processor(dialect, driver_type)
    return process(value) if process else value


def columns_of(endpoint: Endpoint) -> dict[str, Any]:
    """Return the columns that a resource's schema has, by name."""
    return {name: endpoint.table.c[name] for name in endpoint.attributes.values()}


def stored_query(resource: str) -> sa.Select[Any]:
    """Return the query for all that is stored of the row with the id to come."""
    columns = columns_of(ENDPOINTS[resource])
    return sa.select(*columns.values()).where(columns["id"] == sa.bindparam("id"))


def match_query(resource: str, field: str) -> sa.Select[Any]:
    """Return the query for the ids of two rows, at most, that have the value to come in a field."""
    table = ENDPOINTS[resource].table
    found = sa.select(table.c.id).where(table.c[field] == sa.bindparam("value"))
    return found.order_by(table.c.id).limit(literal(2))


def insert_statement(resource: str) -> sa.Insert:
    """Return the statement that inserts a row of all the values that its schema has."""
    endpoint = ENDPOINTS[resource]
    return sa.insert(endpoint.table).values(places(columns_of(endpoint)))


def update_statement(resource: str, names: tuple[str, ...]) -> sa.Update:
    """Return the statement that gives the named columns their values to come, in the row with the id to come."""
    table = ENDPOINTS[resource].table
    given = places({name: table.c[name] for name in names})
    return sa.update(table).where(table.c.id == sa.bindparam("id")).values(given)


def delete_statement(resource: str) -> sa.Delete:
    """Return the statement that deletes the row with the id to come."""
    table = ENDPOINTS[resource].table
    return sa.delete(table).where(table.c.id == sa.bindparam("id"))


def places(columns: Mapping[str, Any]) -> dict[str, sa.BindParameter[Any]]:
    """Return the places of the columns' values to come, by name."""
    return {name: sa.bindparam(name, type_=column.type) for name, column in columns.items()}
