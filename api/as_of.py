"""`asOf`: the rows of any version, made from the change log."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from marshmallow import ValidationError

from api.changes import UNINDEXED_SEQ, VERSIONS, require_kept
from api.json_sql import Template, for_database
from api.parameters import PLUS_HINT, Parameters
from api.problems import InvalidQuery
from api.resources import ENDPOINTS
from database import db
from database.columns import from_driver, now
from database.connection import begin_snapshot, execute
from formats.values import TIME
from models import Change, Write

AT = sa.select(Change.at).where(Change.seq == sa.bindparam("seq"))
LAST_WRITE = sa.select(Write.first_seq, Write.last_seq).where(Write.first_seq <= sa.bindparam("seq"))
LAST_WRITE = LAST_WRITE.order_by(Write.first_seq.desc()).limit(1)
# RFC 9111 §5.2.2 and RFC 8246: a version never changes. Lists have several media types.
IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Authorization, Accept"}


def requested_version(parameters: Parameters) -> dict[str, int]:
    """Return the value to bind for `asOf`, which is a version or a time: {"as_of": version}, or {} without asOf.

    Raises InvalidQuery for a version in the future; responds 410 for one whose rows are no longer kept.
    """
    if "asOf" not in parameters.values:
        return {}
    # The rows must be read from the snapshot that is checked here: their data may be blanked afterwards.
    begin_snapshot()
    newest, oldest = execute(VERSIONS).fetchone()
    text = parameters.values["asOf"]
    version = parameters.number("asOf", 0, newest, 0) if text.isdecimal() else version_at(text, newest)
    require_kept(version, oldest)
    return {"as_of": version}


def version_at(text: str, newest: int) -> int:
    """Return the last version at or before a time. Raises InvalidQuery."""
    try:
        time = TIME.parse(text)
    except ValidationError as error:
        hint = PLUS_HINT if " " in text else ""
        raise InvalidQuery(f"asOf can be a version or a time, not {text!r}. {error.messages[0]}{hint}") from None
    if time > now():
        raise InvalidQuery(f"asOf can't be {text!r}: that is in the future.")
    # Times never go back from one version to the next.
    version = bisect_right(range(1, newest + 1), time, key=time_of)
    write = execute(LAST_WRITE, seq=version).fetchone()
    # A version in the middle of a transaction was never readable.
    return write[0] - 1 if write and write[1] > version else version


def time_of(version: int) -> Any:
    """Return the time of the change that made a version."""
    return from_driver(execute(AT, seq=version).fetchone()[0])


def with_past_rows(
    statement: sa.Select[Any], resource: str, rows: sa.Select[Any], includes: Iterable[str], ids: sa.Select[Any]
) -> sa.Select[Any]:
    """Return the statement with past rows in place of tables: a resource's, and those included by rows with the ids."""
    # In SQL, a common table expression hides the table with its name.
    # If it were materialized, PostgreSQL would compute all columns of all rows first.
    statement = statement.add_cte(rows.cte(resource).prefix_with("NOT MATERIALIZED"))
    companies = ids.cte("ids").prefix_with("MATERIALIZED")
    for name in [each for each in includes if each != "company"]:
        company = stored_values(name)["company_id"]
        embedded = past_rows(name).where(company.in_(sa.select(companies.c.id)))
        # SQLite builds an index on materialized rows, by which it finds those of each company.
        statement = statement.add_cte(embedded.cte(name).prefix_with("MATERIALIZED"))
    return statement


def past_rows(resource: str, row_id: Any = None) -> sa.Select[Any]:
    """Return the query for a resource's rows as of the version to bind: all of them, or the one with an id."""
    last = sa.select(sa.func.max(Change.seq)).where(Change.resource == sa.literal_column(f"'{resource}'"))
    last = last.where(sa.bindparam("as_of") >= UNINDEXED_SEQ)
    last = last.group_by(Change.row_id) if row_id is None else last.where(Change.row_id == row_id)
    return changed_rows(resource).where(Change.seq.in_(last))


def changed_rows(resource: str) -> sa.Select[Any]:
    """Return the query for the row after each change: the table's columns, the change's data, and its `number`."""
    columns = [value.label(name) for name, value in stored_values(resource).items()]
    return sa.select(*columns, Change.data, Change.seq.label("number")).where(Change.data.is_not(None))


def past_object(resource: str, row: Template) -> Template:
    """Return a past row as a JSON object: the change's data if it has the schema's fields, else the given object."""
    # Quotation marks within strings are escaped, so that a quoted name before a colon can only be a field's.
    # psycopg takes %% for a percent sign.
    anything = for_database("%", "%%")
    pattern = "".join(f',"{name}":{anything}' for name in ENDPOINTS[resource].columns)
    text = for_database("{0}", "{0}::text")
    data: Any = sa.literal_column(f"{resource}.data")
    return Template(f"CASE WHEN {text} LIKE '{{{{{pattern[1:]}}}}}' THEN {{0}} ELSE {{1}} END", data, row)


def stored_values(resource: str) -> dict[str, Any]:
    """Return the value of each column of a resource's table in a change; null for one that a later schema added."""
    endpoint, is_sqlite = ENDPOINTS[resource], db.engine.dialect.name == "sqlite"
    values = {}
    for public, column in endpoint.columns.items():
        value = Template(for_database(f"json_extract({{0}}, '$.{public}')", f"({{0}} ->> '{public}')"), Change.data)
        if public == "id":
            # A unary plus removes the column's affinity, with which SQLite builds no index to join other rows by it.
            value = Template(for_database("+{0}", "{0}"), Change.row_id)
        values[column.name] = value if is_sqlite else sa.cast(value, column.type)
    return values
