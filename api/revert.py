"""Reverting: new changes give rows the values that they had before other changes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Response, abort, g
from marshmallow import ValidationError, post_load, validate
from sqlalchemy.orm import aliased

from api.as_of import stored_values
from api.changes import LAST_CHANGE, log_write
from api.feed import (
    FILTERS,
    GONE,
    NEWEST,
    WRITER_FILTERS,
    Selection,
    bind,
    first_change,
    is_same_row,
    net_changes,
    read_changes,
    require_rows_before,
    without_updated_at,
    writer_of,
)
from api.idempotency import exclusive_key, replay_or_run
from api.json_sql import Template, for_database, number
from api.parameters import parse_body
from api.problems import Conflict
from api.resources import ENDPOINTS
from api.responses import JSONResponse
from api.write_views import delete_statement, writing
from database import backend
from database.columns import now
from database.connection import execute, execute_many
from formats import public_name
from formats.errors import MAX_ERRORS
from formats.values import parse_text, parse_version
from models import Change
from schemas import PublicSchema, Value, one_of

# The most rows that a request reverts: more would hold the write lock for seconds.
MAX_ROWS = 10_000
INSTEAD = "name a later version or one request, or use the command `revert`"
NOT_EMPTY = validate.Length(1, error="Must not be empty.")


class RevertSchema(PublicSchema):
    """The changes to take back, named in one of three ways."""

    request_id = Value(NOT_EMPTY, about="All changes of this request.", example="01a21500-bbc0-73fd-a44f-949be4824ee4")
    key_id = Value(NOT_EMPTY, about="All changes by this key after `since`.", example="018ce0e9-3c98-7709-945c-d88d")
    since = Value(about="The version that the changes of a key come after.", example=406)
    to = Value(about="All changes after this version.", example=406)
    conflicts = Value(
        one_of(("skip", "overwrite")),
        about="What to do with rows that others changed afterwards: leave them out, or revert them, too.",
        example="skip",
    )

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        """Let a field have no column."""
        field_obj.data_key = public_name(field_name)
        field_obj.error_messages["null"] = "Must not be null."
        field_obj.parse = parse_version if field_name in {"since", "to"} else partial(parse_text, max_length=128)

    @post_load
    def require_one(self, values: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Raise ValidationError unless the changes are named in one way. Return all values by public name."""
        if len(values.keys() & {"request_id", "key_id", "to"}) != 1:
            raise ValidationError("Must have exactly one of requestId, keyId and to.")
        if ("since" in values) != ("key_id" in values):
            raise ValidationError({"since": ["Goes with keyId: send both, or neither."]})
        return {str(field.data_key): values.get(name) for name, field in self.fields.items()}


schema = RevertSchema()


class Step(NamedTuple):
    """The revert of one row: to its data after the change `previous`, or its deletion if that is None."""

    resource: str
    id: str
    previous: int | None
    # The company that the restored row was in; and whether it exists, or there was none.
    company: str | None
    has_company: bool
    # The first change by others after those that are reverted.
    conflict: int | None


def revert_changes() -> Response:
    """Take changes back, all or nothing: those of a request, of a key after a version, or all after a version.

    Return the changes that this makes. Rows that others changed afterwards are conflicts.
    """
    values = schema.load(parse_body())
    with exclusive_key() as key, writing():
        return replay_or_run(key, lambda: revert_response(values))


def revert_response(values: dict[str, Any]) -> JSONResponse:
    """Revert the changes that the values name, and return the changes that this makes."""
    # A room that calls this view may set a function that returns the most rows, and what to do instead.
    limit = g.get("revert_limit", lambda _values: (MAX_ROWS, INSTEAD))
    page = read_changes(Selection(), NEWEST, since=revert(values, *limit(values)))
    # read_changes() has set the ETag of the feed.
    g.etag = None
    return JSONResponse(f"[{page.rows}]")


def revert(values: dict[str, Any], limit: int = NEWEST - 1, instead: str = INSTEAD) -> int:
    """Revert the changes that the values name, inside a writing transaction; return the version before that.

    Raises Conflict, and ValidationError for a version in the future, or for more rows than the limit.
    """
    filters, bound = selected_changes(values)
    steps = [Step(*row) for row in execute(steps_query, filters, limit + 1, **bound)]
    too_many = f"Must change at most {limit:,} rows: {instead}."
    if len(steps) > limit:
        raise ValidationError(too_many)
    mode, version = values["conflicts"], int(bound["until"])
    steps = resolve_conflicts(steps, find_later_change, mode)
    companies: dict[Any, Any] = {step.id: step.previous for step in steps if step.resource == "companies"}
    gone = "Was in a company that is gone, or that this revert deletes."
    steps = resolve_conflicts(steps, lambda step: "" if companies.get(step.company, step.has_company) else gone, mode)
    # Companies are restored first and deleted last, because other rows refer to them.
    for name in ENDPOINTS:
        restored = [step.previous for step in steps if step.resource == name and step.previous]
        execute_many(restore_statement, name, rows=[{"previous": number, "now": now()} for number in restored])
    for name in reversed(ENDPOINTS):
        deleted = [step for step in steps if step.resource == name and not step.previous]
        deleted = resolve_conflicts(deleted, find_member, mode)
        execute_many(delete_statement, name, rows=[{"row_id": step.id} for step in deleted])
    # The rows of a deleted company are changed, too.
    if execute(LAST_CHANGE).fetchone()[0] > version + limit:
        raise ValidationError(too_many)
    log_write(version + 1)
    return version


def selected_changes(values: dict[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the filters of the changes to revert, and the values to bind: `since`, `until` and those of the filters.

    Raises ValidationError for a version in the future; responds 404 if the key or the request wrote nothing, and
    410 if the rows from before are no longer kept.
    """
    [version] = execute(LAST_CHANGE).fetchone()
    filters = tuple(name for name in WRITER_FILTERS if values[name] is not None)
    bound = {name: values[name] for name in filters}
    start = "to" if values["to"] is not None else "since"
    since = values[start]
    for name in filters:
        refusal = f"There are no changes by the {name.removesuffix('Id')} {values[name]}."
        first = first_change((name,), **bound) or abort(404, refusal)
        since = first - 1 if since is None else since
    if since > version:
        raise ValidationError({start: [f"Must not be after the last change, {version}."]})
    bound |= {"since": since, "after": since, "until": version}
    require_rows_before(filters, **bound)
    return filters, bound


def resolve_conflicts(steps: list[Step], find: Callable[[Step], str], mode: str | None) -> list[Step]:
    """Return the steps to take: all of them if the mode is overwrite, else those without a conflict.

    `find` returns the conflict of a step, or "". Raises Conflict if there are some and the mode is None. Else, the
    rows that are left out are added to `g.left_out`.
    """
    conflicts = {} if mode == "overwrite" else {step: detail for step in steps if (detail := find(step))}
    if conflicts and mode is None:
        errors: dict[str, Any] = {}
        for step, detail in list(conflicts.items())[:MAX_ERRORS]:
            errors.setdefault(step.resource, {})[step.id] = [detail]
        first = next(iter(conflicts))
        note = f" The first {MAX_ERRORS} of {len(conflicts)} are listed." if len(conflicts) > MAX_ERRORS else ""
        summary = f"{conflicts[first]} See errors; conflicts can be skip or overwrite.{note}"
        raise Conflict(f"{first.resource}/{first.id}: {summary}", errors)
    g.left_out = g.get("left_out", []) + [f"{step.resource}/{step.id}: {conflicts[step]}" for step in conflicts]
    return [step for step in steps if step not in conflicts]


def find_later_change(step: Step) -> str:
    """Return the conflict of a row that others changed afterwards."""
    return f"Was changed afterwards, by change {step.conflict}." if step.conflict else ""


def find_member(step: Step) -> str:
    """Return the conflict of a company that still has rows."""
    row = execute(member_query, id=step.id).fetchone() if step.resource == "companies" else None
    return f"{'/'.join(row)} is in it." if row else ""


def steps_query(filters: tuple[str, ...], limit: int) -> sa.Select[Any]:
    """Return the query for the steps that revert the selected changes, without rows that are as before already."""
    net = net_changes(Selection(filters)).order_by(None).subquery("net").c
    other, newest = aliased(Change), aliased(Change)
    current = sa.select(without_updated_at(newest.data)).where(is_same_row(newest, net))
    current = current.order_by(newest.seq.desc()).limit(number(1)).offset(number(0))
    columns = [
        without_updated_at(net.before).label("before"),
        without_updated_at(net.data).label("data"),
        current.scalar_subquery().label("current"),
        sa.case((net.before.is_not(None), net.previous)).label("previous"),
    ]
    # Nothing can bring back a forgotten row: a later one with its id stays.
    is_forgotten = sa.and_(net.action.in_(GONE), net.before.is_(None))
    row = sa.select(net.seq, net.first, net.resource, net.row_id, *columns).where(~is_forgotten).subquery("row").c
    by_others = [writer_of(other, FILTERS[name]).is_distinct_from(bind(name)) for name in filters]
    conflict = sa.select(sa.func.min(other.seq)).where(is_same_row(other, row), other.seq > row.first, *by_others)
    # It is no conflict if others changed the row afterwards and then changed it back.
    conflict = conflict.where(sa.or_(other.seq < row.seq, row.current.is_distinct_from(row.data)))
    found = conflict.scalar_subquery() if filters else sa.null()
    field = for_database("json_extract({0}, '$.companyId')", "({0} ->> 'companyId')")
    company, after = Template(field, row.before), Template(field, row.data)
    has_company = sa.or_(company.is_(None), sa.exists().where(ENDPOINTS["companies"].table.c.id == company))
    # A row that was in the company afterwards, too, doesn't return to it.
    returns_to = sa.case((company.is_distinct_from(after), company))
    steps = sa.select(row.resource, row.row_id, row.previous, returns_to, has_company, found)
    return steps.where(row.current.is_distinct_from(row.before)).order_by(row.seq).limit(number(limit))


def member_query() -> sa.Select[Any]:
    """Return the query for the resource and id of a row that is in the company with the id to bind."""
    rows = [
        sa.select(sa.literal_column(f"'{name}'").label("resource"), each.table.c.id).where(
            each.table.c.company_id == sa.bindparam("id")
        )
        for name, each in ENDPOINTS.items()
        if "company_id" in each.table.c
    ]
    return sa.select(sa.union_all(*rows).subquery()).limit(number(1))


def restore_statement(resource: str) -> sa.Insert:
    """Return the statement that restores a row as of a change, with a new updatedAt, and no company that is gone."""
    table, time = ENDPOINTS[resource].table, sa.bindparam("now", type_=Change.at.type)
    values = {name: value_or_default(table.c[name], value) for name, value in stored_values(resource).items()}
    values["updated_at"] = later(time, values["created_at"])
    if "company_id" in values:
        companies = ENDPOINTS["companies"].table
        values["company_id"] = sa.select(companies.c.id).where(companies.c.id == values["company_id"]).scalar_subquery()
    row = sa.select(*values.values()).where(Change.seq == sa.bindparam("previous"))
    insert: Any = backend().insert(table).from_select(list(values), row)
    changed = {name: insert.excluded[name] for name in values if name != "id"}
    changed["updated_at"] = later(insert.excluded.updated_at, table.c.updated_at)
    # A row that has these values already keeps its time, and is not logged.
    differs = sa.or_(
        *(insert.excluded[name].is_distinct_from(table.c[name]) for name in values if name != "updated_at")
    )
    statement: sa.Insert = insert.on_conflict_do_update(index_elements=["id"], set_=changed, where=differs)
    return statement


def value_or_default(column: Any, value: Any) -> Any:
    """Return a column's value in a change, or its default if the column is required and was added later."""
    needs_one = not column.nullable and column.default is not None and column.default.is_scalar
    return sa.func.coalesce(value, sa.literal(column.default.arg, column.type)) if needs_one else value


def later(time: Any, other: Any) -> Any:
    """Return the later of two times."""
    return sa.case((time > other, time), else_=other)
