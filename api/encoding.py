"""A schema compiled into SQL: the database writes the JSON, and the rows it answers are finished text."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from flask import Response
from marshmallow.fields import Field
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from database import write_json
from models import Time, show_time
from schemas import PublicSchema, Text, Value, read_time, show_amount


class JSONValue(FunctionElement[Any]):
    """A column as a member of a JSON object, as the schema's fields show it."""

    inherit_cache = True


@compiles(JSONValue, "sqlite")
def write_sqlite_value(element: JSONValue, compiler: Any, **options: Any) -> str:
    [column] = element.clauses
    sql = compiler.process(column, **options)
    if isinstance(column.type, sa.Boolean):
        return f"json(iif({sql}, 'true', 'false'))"
    if isinstance(column.type, sa.Numeric):
        # Fifteen digits are what a double holds for certain, and all that an amount can have.
        return f"iif(typeof({sql}) = 'real', json(printf('%.15g', {sql})), {sql})"
    return f"json({sql})" if isinstance(column.type, sa.JSON) else str(sql)


@compiles(JSONValue, "postgresql")
def write_postgresql_value(element: JSONValue, compiler: Any, **options: Any) -> str:
    [column] = element.clauses
    sql = compiler.process(column, **options)
    if isinstance(column.type, Time):
        return f"""to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
    if isinstance(column.type.dialect_impl(compiler.dialect), JSONB):
        # jsonb itself is written with spaces.
        return f"array_to_json(ARRAY(SELECT jsonb_array_elements_text({sql})))"
    return f"trim_scale({sql})" if isinstance(column.type, sa.Numeric) else str(sql)


class JSONObject(FunctionElement[str]):
    """A JSON object with its members in the order given, as text."""

    inherit_cache = True
    type = sa.Text()

    def __init__(self, members: Mapping[str, sa.ColumnElement[Any]]) -> None:
        # The names are clauses too, so that two objects of the same columns are never taken for one another.
        super().__init__(*(part for name, value in members.items() for part in (sa.literal_column(f"'{name}'"), value)))


@compiles(JSONObject, "sqlite")
def write_sqlite_object(element: JSONObject, compiler: Any, **options: Any) -> str:
    return f"json_object({compiler.process(element.clauses, **options)})"


@compiles(JSONObject, "postgresql")
def write_postgresql_object(element: JSONObject, compiler: Any, **options: Any) -> str:
    # Of PostgreSQL's functions, row_to_json() alone writes neither spaces nor line feeds.
    parts = [compiler.process(part, **options) for part in element.clauses]
    members = ", ".join(f'{value} AS "{name[1:-1]}"' for name, value in zip(parts[::2], parts[1::2], strict=True))
    return f"(SELECT row_to_json(r) FROM (SELECT {members}) AS r)"


class JSONArray(FunctionElement[str]):
    """The JSON texts of a subquery's only column as one array, in its order."""

    inherit_cache = True
    type = sa.Text()


@compiles(JSONArray, "sqlite")
def write_sqlite_array(element: JSONArray, compiler: Any, **options: Any) -> str:
    return f"(SELECT json_group_array(json(o)) FROM {compiler.process(element.clauses, **options)})"


@compiles(JSONArray, "postgresql")
def write_postgresql_array(element: JSONArray, compiler: Any, **options: Any) -> str:
    rows = compiler.process(element.clauses, **options)
    return f"(SELECT coalesce(array_to_json(array_agg(o)), '[]') FROM {rows} AS rows)"


class JSONRows(FunctionElement[str]):
    """The JSON texts of a subquery's column, parted by commas, in its order; null without any."""

    inherit_cache = True
    type = sa.Text()


@compiles(JSONRows, "sqlite")
def write_sqlite_rows(element: JSONRows, compiler: Any, **options: Any) -> str:
    return f"group_concat({compiler.process(element.clauses, **options)}, ',')"


@compiles(JSONRows, "postgresql")
def write_postgresql_rows(element: JSONRows, compiler: Any, **options: Any) -> str:
    return f"string_agg({compiler.process(element.clauses, **options)}::text, ',')"


def members_of(schema: PublicSchema, table: Any, only: Iterable[str] = ()) -> dict[str, sa.ColumnElement[Any]]:
    """Return the members of the schema's JSON as SQL, in its order: all, or only those with the given public names."""
    columns = {str(field.data_key): table.c[name] for name, field in schema.fields.items()}
    return {name: JSONValue(column) for name, column in columns.items() if not only or name in only}


@lru_cache
def uncompiled(schema: PublicSchema) -> list[tuple[str, Field[Any]]]:
    """Return the schema's fields that show a value in a way of their own, which JSONValue can't know."""
    known = {None, show_amount, show_time}
    return [
        (name, field)
        for name, field in schema.fields.items()
        if type(field) is not Text and not (type(field) is Value and field.show in known)
    ]


def finish(text: str, schema: PublicSchema, embedded: Mapping[str, PublicSchema]) -> str:
    """Return JSON that the database wrote of a row, or of an array of them, as Schema.dump writes it.

    It is that already, unless the schema or one of what is embedded has a field that couldn't be compiled.
    """
    if not any(map(uncompiled, (schema, *embedded.values()))):
        return text
    return write_json(dump(json.loads(text), schema, embedded))


def dump(stored: Any, schema: PublicSchema, embedded: Mapping[str, PublicSchema]) -> Any:
    """Return rows as they are stored, with what SQL could not show shown by the schemas' fields."""
    if not isinstance(stored, dict):
        return stored and [dump(each, schema, embedded) for each in stored]
    for name, field in uncompiled(schema):
        value = stored.get(str(field.data_key))
        if value is not None:
            is_time = isinstance(schema.model.__table__.c[name].type, Time)
            stored[str(field.data_key)] = field.serialize(name, {name: read_time(value) if is_time else value})
    return stored | {name: dump(stored[name], other, {}) for name, other in embedded.items()}


class Answer(Response):
    """An answer of text that is JSON already: its length is known, its headers need none of werkzeug's repairs."""

    def __init__(
        self,
        text: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        body = text.encode()
        own = [("Content-Type", content_type), ("Content-Length", str(len(body))), *(headers or {}).items()]
        super().__init__([body], status, own)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.response


def literal(value: int) -> sa.ColumnElement[int]:
    """Return a number that is said in the SQL itself: SQLite plans anew each time that a limit is bound."""
    return sa.literal_column(str(value), sa.Integer())


def answer_rows(rows: Iterable[str], headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """Return an array of rows that are JSON already."""
    return Answer(f"[{','.join(rows)}]", status, headers)


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the value as a JSON answer."""
    return Answer(write_json(value), status, headers)
