"""SQL that writes JSON: the database returns finished text, in the formats of formats/values.py.

For a page of 50 companies SQLite takes 97 µs; from rows, msgspec takes 139 µs and orjson 157 µs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from database import db
from database.columns import format_of
from schemas import PublicSchema


class Template(FunctionElement[Any]):
    """SQL with clauses in the places of {0}, {1} and so on."""

    inherit_cache = False
    type = sa.Text()

    def __init__(self, template: str, *clauses: Any) -> None:
        super().__init__(*clauses)
        self.template = template


@compiles(Template)
def compile_template(element: Template, compiler: Any, **options: Any) -> str:
    """Return the template's SQL."""
    return element.template.format(*(compiler.process(clause, **options) for clause in element.clauses))


def for_database(sqlite: str, postgresql: str) -> str:
    """Return the SQL for the app's database."""
    return sqlite if db.engine.dialect.name == "sqlite" else postgresql


def json_value(column: Any) -> Template:
    """Return a column's value as a JSON value."""
    form = format_of(column)
    return Template(for_database(form.sqlite, form.postgresql), column)


def matching_value(column: Any) -> Any:
    """Return the SQL that a column is compared by: its value is the same for texts that count as the same."""
    matching = column.info.get("matching")
    return Template(for_database(matching.sqlite, matching.postgresql), column) if matching else column


def folded_text(column: Any) -> Template:
    """Return a column's text in lower case and without accents."""
    # The columns' own collation, "C", folds the case of ASCII letters only.
    without_accents = r"""regexp_replace(normalize({0} COLLATE "default", NFD), '[\u0300-\u036f]', '', 'g')"""
    # SQLite's LIKE ignores the case of ASCII letters: only other text needs the function in Python.
    without_accents_or_ascii = "CASE length(CAST({0} AS BLOB)) WHEN length({0}) THEN {0} ELSE fold_text({0}) END"
    return Template(for_database(without_accents_or_ascii, f"lower({without_accents})"), column)


def json_text(value: Any) -> Template:
    """Return JSON text as a JSON value."""
    return Template(for_database("json({0})", "{0}"), value)


def json_object(fields: Mapping[str, Any]) -> Template:
    """Return a JSON object with the fields in this order."""
    names = list(enumerate(fields))
    # Of PostgreSQL's functions, only row_to_json() writes no spaces and line feeds.
    columns = ", ".join(f'{{{number}}} AS "{name}"' for number, name in names)
    pairs = ", ".join(f"'{name}', {{{number}}}" for number, name in names)
    sql = for_database(f"json_object({pairs})", f"(SELECT row_to_json(r) FROM (SELECT {columns}) AS r)")
    return Template(sql, *fields.values())


def json_array(objects: sa.ScalarSelect[Any]) -> Template:
    """Return the objects of a subquery with one column, o, as a JSON array in its order."""
    postgresql = "(SELECT coalesce(array_to_json(array_agg(o)), '[]') FROM {0} AS rows)"
    return Template(for_database("(SELECT json_group_array(json(o)) FROM {0})", postgresql), objects)


def joined(objects: Any) -> Template:
    """Return the objects of a column as text, separated by commas, in the order of the rows; null without rows."""
    return Template(for_database("group_concat({0}, ',')", "string_agg({0}::text, ',')"), objects)


def schema_fields(schema: PublicSchema, table: Any, only: Iterable[str] = ()) -> dict[str, Template]:
    """Return the fields of a schema as SQL, in its order: all of them, or those with the public names in `only`."""
    columns = {str(field.data_key): table.c[name] for name, field in schema.fields.items()}
    return {name: json_value(column) for name, column in columns.items() if not only or name in only}


def number(value: int) -> sa.ColumnElement[int]:
    """Return a number as a literal: SQLite prepares a statement again each time that the value of LIMIT changes."""
    return sa.literal_column(str(value), sa.Integer())
