"""SQLAlchemy's statements, compiled once: otherwise, single reads would be 78 % slower.

`make bench ABLATE=compiled-statements` measures that.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

SQL = sa.Select[*tuple[Any, ...]] | sa.UpdateBase
# A statement, or a function that returns one, depending on its arguments or on the kind of database.
Source = SQL | Callable[..., SQL]


class Statement:
    """A statement compiled to SQL, and how values are bound to it."""

    def __init__(self, statement: SQL, dialect: sa.Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        # SQLite binds by position, PostgreSQL by name.
        self.names: list[str] | None = compiled.positiontup
        types = {name: bind.type.dialect_impl(dialect) for bind, name in compiled.bind_names.items()}
        processors = {name: type_.bind_processor(dialect) for name, type_ in types.items()}
        self.processors = {name: process for name, process in processors.items() if process}
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}

    def bind(self, values: Mapping[str, Any]) -> Any:
        """Return the values, and the statement's constants, as the driver expects them."""
        bound = {**self.constants, **values}
        for name, process in self.processors.items():
            bound[name] = process(bound[name])
        return bound if self.names is None else [bound[name] for name in self.names]


def insert_statement(model: Any, insert: Any = sa.insert) -> Any:
    """Return the statement that inserts a row with a value for each column, except the number."""
    columns = [column for column in model.__table__.c if column.name != "number"]
    values = {column.name: sa.bindparam(column.name, type_=column.type) for column in columns}
    return insert(model.__table__).values(values)
