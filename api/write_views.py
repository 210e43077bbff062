"""The views that write: a body becomes rows, all or nothing, and the response shows them as they are stored."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from flask import Response, abort, g, request
from marshmallow import ValidationError

from api.changes import CHANGED_BY_PROXY, check_etags, set_version, version_query
from api.idempotency import exclusive_key, replay_or_run
from api.json_sql import matching_value, number
from api.parameters import Parameters, parse_body
from api.problems import Conflict, InvalidQuery
from api.read_views import read_row
from api.resources import ENDPOINTS, Endpoint
from api.responses import JSONResponse
from database.columns import now
from database.connection import execute, write_transaction
from database.statement import insert_statement
from formats import public_name
from formats.errors import MAX_ERRORS

MAX_BATCH = 1_000
CHANGED_ETAG = (
    "The ETag in If-Match is not as this service sent it: a proxy that compresses adds W/ before it or -gzip to it. "
    "Leave that out, or turn off the proxy's compression of /api/v1."
)
READ_ONLY = ("id", "created_at", "updated_at")

# A row as it is stored (by public name, as JSON values), or as it is sent (by attribute, as Python values).
JSONRow = dict[str, Any]
Row = dict[str, Any]


@contextmanager
def writing(*known: str) -> Iterator[Parameters]:
    """Run the block in a writing transaction, which `dryRun=true` rolls back."""
    parameters = Parameters("dryRun", *known)
    keep, is_kept = not parameters.boolean("dryRun"), False
    try:
        with write_transaction(keep):
            yield parameters
        is_kept = keep
    finally:
        if not is_kept:
            # The version and ETag of changes that were rolled back.
            g.pop("version", None)
            g.pop("etag", None)


def post_rows(endpoint: Endpoint) -> Response:
    """Create one row, or up to 1,000 in an atomic batch; with `matchOn`, update those that match."""
    body = parse_body()
    with exclusive_key() as key, writing("matchOn") as parameters:
        match_on, *others = parameters.words("matchOn", endpoint.match_on) or [""]
        if others:
            raise InvalidQuery("matchOn must name one field.")
        return replay_or_run(key, partial(store_body, endpoint, body, match_on))


def store_body(endpoint: Endpoint, body: Any, match_on: str) -> Response:
    """Store one record or an array of them, and return the rows."""
    if not isinstance(body, list):
        row_id, is_new = store_record(endpoint, body, match_on)
        return row_response(endpoint, row_id, is_new)
    if not 1 <= len(body) <= MAX_BATCH:
        raise ValidationError(f"Must have 1 to {MAX_BATCH} members, not {len(body)}.")
    stored = g.stored = list(collect_errors(body, lambda record: store_record(endpoint, record, match_on)))
    rows = [read_row(endpoint, row_id) or "" for row_id, _is_new in stored]
    set_version(*execute(version_query, False, False, endpoint.name).fetchone())
    return JSONResponse(f"[{','.join(rows)}]", 201 if any(is_new for _id, is_new in stored) else 200)


def collect_errors(records: list[Any], store: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield the result of storing each record; at the end, or after MAX_ERRORS, raise the records' errors, by index."""
    errors: dict[int, Any] = {}
    conflicts: dict[int, Any] = {}
    for index, record in enumerate(records):
        try:
            yield store(record)
        except ValidationError as error:
            errors[index] = error.messages
        except Conflict as error:
            conflicts[index] = [str(error)]
        # A response lists no more, and other writers are waiting.
        if sum(map(len, errors.values())) >= MAX_ERRORS:
            break
    if errors:
        raise ValidationError(errors | conflicts)
    if conflicts:
        raise Conflict("Some records conflict with stored rows: see errors.", conflicts)


def store_record(endpoint: Endpoint, record: Any, match_on: str) -> tuple[str, bool]:
    """Insert a record, or update the row that it matches; return its id and whether it is new. Raises Conflict."""
    read_only = {}
    if match_on:
        values = load_values(endpoint, record, partial=True)
        value = values.get(match_on)
        if value is None:
            raise ValidationError({match_on: ["Is required, because rows are matched on it."]})
        found = find_matches(endpoint, match_on, value)
        if len(found) > 1:
            raise Conflict(f"More than one row has this {match_on}: {found[0]} and {found[1]}.")
        if found:
            stored = existing_row(endpoint, found[0])
            if errors := read_only_errors(endpoint, record, values, stored):
                raise ValidationError(errors)
            update_row(endpoint, stored, values)
            return found[0], False
        # With matchOn=id, a new row has the id that the client sent.
        read_only = {match_on: value} if match_on == "id" else {}
    values = load_values(endpoint, record, read_only)
    execute(insert_statement, endpoint.model, **values)
    return values["id"], True


def find_matches(endpoint: Endpoint, field: str, value: str) -> list[str]:
    """Return the ids of at most two rows whose field matches the value."""
    matching = endpoint.table.c[field].info.get("matching")
    keys = matching.keys(value) if matching else [value]
    bound = {f"value{index}": key for index, key in enumerate(keys)}
    return [row[0] for row in execute(match_query, endpoint.name, field, len(keys), **bound)]


def put_row(endpoint: Endpoint, row_id: str) -> Response:
    """Create or replace the row with this id. A field that is left out gets its default."""
    body = parse_body()
    with writing():
        stored = stored_row(endpoint, row_id)
        check_preconditions(endpoint, row_id, stored)
        values = load_values(endpoint, body, stored or {"id": row_id})
        if stored:
            update_row(endpoint, stored, values)
        else:
            values |= endpoint.schema.load({"id": row_id}, partial=True)
            execute(insert_statement, endpoint.model, **values)
        return row_response(endpoint, row_id, is_new=not stored)


def patch_row(endpoint: Endpoint, row_id: str) -> Response:
    """Update the fields that are sent; null empties a field (RFC 7396)."""
    body = parse_body("application/merge-patch+json")
    with writing():
        stored = existing_row(endpoint, row_id)
        update_row(endpoint, stored, load_values(endpoint, body, stored, partial=True))
        return row_response(endpoint, row_id)


def delete_row(endpoint: Endpoint, row_id: str) -> Response:
    """Delete the row. A company's contacts and conversations stay, with companyId null."""
    with writing():
        existing_row(endpoint, row_id)
        before = g.version[1]
        execute(delete_statement, endpoint.name, row_id=row_id)
        set_version(*execute(version_query).fetchone())
        # The other changes are those of a company's contacts and conversations.
        g.members = g.version[1] - before - 1
        del g.etag
        return Response(status=204)


def row_response(endpoint: Endpoint, row_id: str, is_new: bool = False) -> Response:
    """Return a row as it is stored now, with its ETag."""
    headers = {"Location": f"{request.root_path}/api/v1/{endpoint.name}/{row_id}"} if is_new else {}
    return JSONResponse(read_row(endpoint, row_id) or "", 201 if is_new else 200, headers)


def stored_row(endpoint: Endpoint, row_id: str) -> JSONRow | None:
    """Return a row as it is stored, or None, and set the version and ETag."""
    text = read_row(endpoint, row_id)
    return None if text is None else json.loads(text)


def existing_row(endpoint: Endpoint, row_id: str) -> JSONRow:
    """Return a row that the request may change; responds 404 or 412 if it may not."""
    stored = stored_row(endpoint, row_id) or abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    check_preconditions(endpoint, row_id, stored)
    return stored


def check_preconditions(endpoint: Endpoint, row_id: str, stored: JSONRow | None) -> None:
    """Respond 412 unless If-Match and If-None-Match hold (RFC 9110 §13.1)."""
    for name in "If-Match", "If-None-Match":
        check_etags(name)
    if_match = request.if_match
    if (if_match or if_match.star_tag) and not stored:
        abort(412, f"There is no {endpoint.singular} with the id {row_id}.")
    if if_match and not (if_match.star_tag or if_match.contains(g.etag)):
        if CHANGED_BY_PROXY.search(request.headers["If-Match"]):
            abort(412, CHANGED_ETAG)
        abort(412, f"The {endpoint.singular} has changed since: read it again, then decide.")
    if stored and (request.if_none_match.star_tag or request.if_none_match.contains_weak(g.etag)):
        abort(412, f"There is a {endpoint.singular} with the id {row_id} already.")


def load_values(endpoint: Endpoint, record: Any, stored: JSONRow | None = None, partial: bool = False) -> Row:
    """Return the values of a record. Raises ValidationError with all of its errors.

    A company must exist, and read-only fields are those of the stored row, if it is given.
    """
    errors: dict[str, Any] = {}
    try:
        values: Row = endpoint.schema.load(record, partial=partial)
    except ValidationError as error:
        values, errors = dict(error.valid_data or {}), dict(error.messages)  # type: ignore[arg-type]
    company = values.get("company_id")
    if company is not None and not find_matches(ENDPOINTS["companies"], "id", company):
        errors["companyId"] = ["Is not the id of a company."]
    if stored is not None:
        errors |= read_only_errors(endpoint, record, values, stored)
    if errors:
        raise ValidationError(errors)
    return values


def read_only_errors(endpoint: Endpoint, record: Any, values: Row, stored: JSONRow) -> dict[str, list[str]]:
    """Return the errors of read-only fields that are sent, unless they are sent back unchanged."""
    sent = {name: values[name] for name in READ_ONLY if name in values and public_name(name) in record}
    errors = {}
    for name, value in endpoint.schema.dump(sent).items():
        current = stored.get(name)
        if value != current:
            hint = f", or send {current}" if current else ", or send matchOn=id" if name == "id" else ""
            errors[name] = [f"Is read-only: leave it out{hint}."]
    return errors


def update_row(endpoint: Endpoint, stored: JSONRow, values: Row) -> None:
    """Update a stored row. If nothing changes, it keeps its updatedAt and ETag, and nothing is logged."""
    # Only the fields that are sent are written: another program may have stored invalid values in the others.
    changed = {name: value for name, value in values.items() if name not in READ_ONLY}
    sent = endpoint.schema.dump(changed)
    if any(stored[name] != value for name, value in sent.items()):
        # The row's times may be in the future: imported, or set by a wrong clock.
        changed["updated_at"] = max(now(), *map(datetime.fromisoformat, (stored["createdAt"], stored["updatedAt"])))
        execute(update_statement, endpoint.name, tuple(changed), **changed, row_id=stored["id"])


def match_query(resource: str, field: str, keys: int) -> sa.Select[Any]:
    """Return the query for the ids of at most two rows that have one of the keys to bind in a field."""
    table = ENDPOINTS[resource].table
    values = [sa.bindparam(f"value{index}", type_=sa.String()) for index in range(keys)]
    found = sa.select(table.c.id).where(matching_value(table.c[field]).in_(values))
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
