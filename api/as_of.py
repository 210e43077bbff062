"""`asOf`: the rows of any version, made from the change log."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from flask import abort
from marshmallow import ValidationError

from api.json_sql import Template, for_database
from api.parameters import PLUS_HINT, Parameters
from api.problems import InvalidQuery
from api.resources import ENDPOINTS
from database import db
from database.columns import from_driver, now
from database.connection import begin_snapshot, execute
from formats.values import TIME
from models import Change, Dataset, Write

AT = sa.select(Change.at).where(Change.seq == sa.bindparam("seq"))
UNFINISHED = sa.select(Write.first_seq).where(
    Write.first_seq
    == sa.select(sa.func.max(Write.first_seq)).where(Write.first_seq <= sa.bindparam("seq")).scalar_subquery(),
    Write.last_seq > sa.bindparam("seq"),
)
VERSIONS = sa.select(sa.select(sa.func.coalesce(sa.func.max(Change.seq), 0)).scalar_subquery(), Dataset.oldest_version)
# RFC 9111 §5.2.2 and RFC 8246: a version never changes.
IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}


def requested_version(parameters: Parameters) -> dict[str, int]:
    """Return the version that `asOf` names, by itself or by a time, as the value to bind; nothing without asOf.

    Raises InvalidQuery for one that is yet to come; responds 410 for one whose rows are no longer kept.
    """
    if "asOf" not in parameters.values:
        return {}
    # Its rows are read from this snapshot, before they may be blanked.
    begin_snapshot()
    newest, oldest = execute(VERSIONS).fetchone()
    text = parameters.values["asOf"]
    version = parameters.number("asOf", 0, newest, 0) if text.isdecimal() else version_at(text, newest)
    if version < oldest:
        abort(410, f"The rows as of version {version} are no longer kept: the oldest version is {oldest}.")
    return {"as_of": version}


def version_at(text: str, newest: int) -> int:
    """Return the last version whose time is not after this one. Raises InvalidQuery."""
    try:
        time = TIME.parse(text)
    except ValidationError as error:
        hint = PLUS_HINT if " " in text else ""
        raise InvalidQuery(f"asOf can be a version or a time, not {text!r}. {error.messages[0]}{hint}") from None
    if time > now():
        raise InvalidQuery(f"asOf can't be {text!r}: that is yet to come.")
    # Times never go back from one version to the next.
    before, after = 0, newest + 1
    while after - before > 1:
        middle = (before + after) // 2
        is_before = from_driver(execute(AT, seq=middle).fetchone()[0]) <= time
        before, after = (middle, after) if is_before else (before, middle)
    # Nobody saw a transaction half done.
    unfinished = execute(UNFINISHED, seq=before).fetchone()
    return unfinished[0] - 1 if unfinished else before


def with_past_rows(statement: sa.Select[Any], resources: Iterable[str], of_row: bool = False) -> sa.Select[Any]:
    """Return the statement, reading the rows as of the version to bind in place of the resources' tables.

    In SQL, a common table expression hides the table of its name. With of_row, the first resource has only the row
    with the id to bind.
    """
    for index, name in enumerate(dict.fromkeys(resources)):
        rows = past_rows(name, of_row and index == 0).cte(name)
        # The embedded rows are searched for each row of a list: SQLite makes an index of those that it has stored.
        statement = statement.add_cte(rows.prefix_with("MATERIALIZED") if index and not of_row else rows)
    return statement


def past_rows(resource: str, of_row: bool) -> sa.Select[Any]:
    """Return the query for a resource's rows as of a version, in the columns of its table."""
    last = sa.select(sa.func.max(Change.seq)).where(Change.resource == sa.literal_column(f"'{resource}'"))
    # The sign has SQLite use the index in which a row's changes are together.
    last = last.where(sa.literal_column("+changes.seq") <= sa.bindparam("as_of"))
    last = last.where(Change.row_id == sa.bindparam("id")) if of_row else last
    rows = sa.select(*stored_values(resource), Change.data)
    return rows.where(Change.seq.in_(last.group_by(Change.row_id)), Change.data.is_not(None))


def past_object(resource: str, row: Template) -> Template:
    """Return a past row as a JSON object: the data of its change if that has the schema's fields, else made anew.

    A string's quotation marks are escaped, so that a name in quotation marks, with a colon, can only be a field's.
    """
    # psycopg takes %% for a percent sign.
    anything = for_database("%", "%%")
    pattern = "".join(f',"{name}":{anything}' for name in ENDPOINTS[resource].columns)
    text = for_database("{0}", "{0}::text")
    data: Any = sa.literal_column(f"{resource}.data")
    return Template(f"CASE WHEN {text} LIKE '{{{{{pattern[1:]}}}}}' THEN {{0}} ELSE {{1}} END", data, row)


def stored_values(resource: str) -> list[Any]:
    """Return the columns of a resource's table from the data of a change; null for one that a later schema added."""
    endpoint, is_sqlite = ENDPOINTS[resource], db.engine.dialect.name == "sqlite"
    columns = []
    for public, column in endpoint.columns.items():
        value = Template(for_database(f"json_extract({{0}}, '$.{public}')", f"({{0}} ->> '{public}')"), Change.data)
        columns.append((value if is_sqlite else sa.cast(value, column.type)).label(column.name))
    return columns
