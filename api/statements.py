"""The statements that match, update and delete a resource's row."""

from typing import Any

import sqlalchemy as sa

from api.json_sql import number
from api.resources import ENDPOINTS


def match_query(resource: str, field: str) -> sa.Select[Any]:
    """Return the query for the ids of at most two rows with the value to bind in a field."""
    table = ENDPOINTS[resource].table
    found = sa.select(table.c.id).where(table.c[field] == sa.bindparam("value"))
    return found.order_by(table.c.id).limit(number(2))


def update_statement(resource: str, names: tuple[str, ...]) -> sa.Update:
    """Return the statement that sets the named columns of the row with the id to bind."""
    table = ENDPOINTS[resource].table
    values = {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    return sa.update(table).where(table.c.id == sa.bindparam("row_id")).values(values)


def delete_statement(resource: str) -> sa.Delete:
    """Return the statement that deletes the row with the id to bind."""
    table = ENDPOINTS[resource].table
    return sa.delete(table).where(table.c.id == sa.bindparam("row_id"))
