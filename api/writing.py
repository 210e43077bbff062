"""Writing: a body becomes rows, whole or not at all, and the answer shows them as they are stored."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from flask import Response, abort, g, request
from marshmallow import ValidationError

from api.bodies import read_body
from api.changes import reflect, version_query
from api.encoding import Answer, answer_rows
from api.idempotency import answer_once, one_at_a_time
from api.listing import read_row
from api.parameters import Parameters
from api.problems import Conflict, QueryRefused
from api.resources import Endpoint
from api.storing import Row, delete_statement, insert_statement, match_query, stored_row, update_statement
from database import read, write, write_prepared
from models import now, show_time
from schemas import ID

LARGEST_BATCH = 1_000
READ_ONLY = ("id", "created_at", "updated_at")
# RFC 9110 §13.1.1; werkzeug takes more.
ETAGS = r'\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*'


@contextmanager
def writing(*known: str) -> Iterator[Parameters]:
    """Run the block in one writing transaction, which `dryRun=true` undoes at its end."""
    parameters = Parameters("dryRun", *known)
    keep = not parameters.flag("dryRun")
    with write_prepared(keep):
        yield parameters
    if not keep:
        # The version and tag of what was undone are nobody's.
        g.pop("version", None)
        g.pop("etag", None)


def post_rows(endpoint: Endpoint) -> Response:
    """Create one row or up to 1,000, or with `matchOn` update those that match; all or nothing."""
    body = read_body()
    with one_at_a_time() as key, writing("matchOn") as parameters:
        match_on, *others = parameters.words("matchOn", endpoint.match_on) or [""]
        if others:
            raise QueryRefused("matchOn must name one field.")
        return answer_once(key, partial(post_all, endpoint, body, match_on))


def post_all(endpoint: Endpoint, body: Any, match_on: str) -> Response:
    """Store one record or an array of them."""
    if not isinstance(body, list):
        row_id, created = post_row(endpoint, body, match_on)
        return answer_written(endpoint, row_id, 201 if created else 200, located=created)
    if not 1 <= len(body) <= LARGEST_BATCH:
        raise ValidationError(f"Must have 1 to {LARGEST_BATCH} members, not {len(body)}.")
    posted = list(each(body, lambda record: post_row(endpoint, record, match_on)))
    rows = [read_row(endpoint, row_id) or "" for row_id, _created in posted]
    reflect(*read(version_query, False, endpoint.name).fetchone())
    return answer_rows(rows, status=201 if any(created for _id, created in posted) else 200)


def each(records: list[Any], write: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield what writing each record returns, and at the end raise all that was wrong with any, by place."""
    faults: dict[int, Any] = {}
    conflicts: dict[int, Any] = {}
    for place, record in enumerate(records):
        try:
            yield write(record)
        except ValidationError as error:
            faults[place] = error.messages
        except Conflict as error:
            conflicts[place] = [str(error)]
    if faults:
        raise ValidationError(faults | conflicts)
    if conflicts:
        raise Conflict("Some members contradict what is stored: see errors.", conflicts)


def post_row(endpoint: Endpoint, record: Any, match_on: str) -> tuple[str, bool]:
    """Store a record as a new row, or as the update of the one it matches; return the row's id and whether it is new.

    Raises Conflict when it matches two.
    """
    values = endpoint.schema.load(record, partial=bool(match_on))
    if match_on:
        if values.get(match_on) is None:
            raise ValidationError({match_on: ["Is required, because rows are matched on it."]})
        found = [row[0] for row in read(match_query, endpoint.name, match_on, value=values[match_on])]
        if len(found) > 1:
            raise Conflict(f"More than one row has this {match_on}: {found[0]} and {found[1]}.")
        if found:
            stored = stored_row(endpoint, found[0]) or {}
            refuse_read_only(endpoint, values, stored)
            update_row(endpoint, stored, values)
            return found[0], False
        values = endpoint.schema.load(record)
    refuse_read_only(endpoint, sent(endpoint, record, values), {})
    return insert_row(endpoint, values), True


def put_row(endpoint: Endpoint, row_id: str) -> Response:
    """Create the row of this id, or replace it: what is left out goes back to its default."""
    body = read_body()
    with writing():
        stored = stored_row(endpoint, row_id)
        check_conditions(endpoint, row_id, stored)
        values = endpoint.schema.load(body)
        refuse_read_only(endpoint, sent(endpoint, body, values), stored or {"id": row_id})
        if stored:
            update_row(endpoint, stored, values)
        else:
            check_id(row_id)
            insert_row(endpoint, values | {"id": row_id})
        return answer_written(endpoint, row_id, 200 if stored else 201, located=not stored)


def check_id(row_id: str) -> None:
    """Raise ValidationError for what no id can be."""
    try:
        ID(row_id)
    except ValidationError as error:
        raise ValidationError({"id": error.messages}) from None


def patch_row(endpoint: Endpoint, row_id: str) -> Response:
    """Change the members that are sent, null for none (RFC 7396)."""
    body = read_body("application/merge-patch+json")
    with writing():
        stored = existing_row(endpoint, row_id)
        values = endpoint.schema.load(body, partial=True)
        refuse_read_only(endpoint, values, stored)
        update_row(endpoint, stored, values)
        return answer_written(endpoint, row_id, 200)


def delete_row(endpoint: Endpoint, row_id: str) -> Response:
    """Delete the row; a company's contacts and conversations stay, without a company."""
    with writing():
        existing_row(endpoint, row_id)
        write(delete_statement, endpoint.name, id=row_id)
        reflect(*read(version_query).fetchone())
        del g.etag
        return Response(status=204)


def answer_written(endpoint: Endpoint, row_id: str, status: int, located: bool = False) -> Response:
    """Answer a row as it is stored now, with its ETag."""
    headers = {"Location": f"/api/v1/{endpoint.name}/{row_id}"} if located else {}
    return Answer(read_row(endpoint, row_id) or "", status, headers)


def existing_row(endpoint: Endpoint, row_id: str) -> Row:
    """Return the row that is to be changed; answers 404 or 412 when it can't be."""
    stored = stored_row(endpoint, row_id)
    if stored is None:
        abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    check_conditions(endpoint, row_id, stored)
    return stored


def check_conditions(endpoint: Endpoint, row_id: str, stored: Row | None) -> None:
    """Answer 412 unless the row is in the state that the client demands (RFC 9110 §13.1)."""
    _is_there, *last = read(version_query, True, endpoint.name, id=row_id).fetchone()
    reflect(*last)
    demanded = request.if_match
    for name in "If-Match", "If-None-Match":
        if not re.fullmatch(ETAGS, request.headers.get(name, "*")):
            abort(400, f'{name} must be * or an ETag in quotes, as in "394".')
    if (demanded or demanded.star_tag) and not stored:
        abort(412, f"There is no {endpoint.singular} with the id {row_id}.")
    if demanded and not (demanded.star_tag or demanded.contains(g.etag)):
        abort(412, f"The {endpoint.singular} has changed since: read it again, then decide.")
    if stored and (request.if_none_match.star_tag or request.if_none_match.contains_weak(g.etag)):
        abort(412, f"There is a {endpoint.singular} with the id {row_id} already.")


def sent(endpoint: Endpoint, record: Any, values: Row) -> Row:
    """Return the values that the record itself had, without defaults."""
    return {name: values[name] for public, name in endpoint.attributes.items() if public in record}


def refuse_read_only(endpoint: Endpoint, values: Row, stored: Mapping[str, Any]) -> None:
    """Raise ValidationError for what only the server sets, unless it is sent back unchanged."""
    names = {attribute: public for public, attribute in endpoint.attributes.items()}
    faults = {}
    for name in READ_ONLY:
        if name in values and values[name] != stored.get(name):
            has = stored.get(name)
            shown = show_time(has) if has and name != "id" else has
            faults[names[name]] = [f"Is read-only: leave it out{f', or send {shown}' if has else ''}."]
    if faults:
        raise ValidationError(faults)


def refuse_unknown_company(values: Row) -> None:
    """Raise ValidationError for a companyId that no company has."""
    company = values.get("company_id")
    if company is not None and not read(match_query, "companies", "id", value=company).fetchone():
        raise ValidationError({"companyId": ["Is not the id of a company."]})


def insert_row(endpoint: Endpoint, values: Row) -> str:
    """Insert a row and return its id."""
    refuse_unknown_company(values)
    write(insert_statement, endpoint.name, **values)
    return str(values["id"])


def update_row(endpoint: Endpoint, stored: Row, values: Row) -> None:
    """Update a stored row, unless nothing would change: then it keeps its time, its ETag and its place in the log."""
    refuse_unknown_company(values)
    # Only these: what any program stored in the others, readable or not, stays as it is.
    given = {name: value for name, value in values.items() if name not in READ_ONLY}
    if endpoint.schema.dump(stored | given) != endpoint.schema.dump(stored):
        given["updated_at"] = now()
        write(update_statement, endpoint.name, tuple(given), **given | {"id": stored["id"]})
