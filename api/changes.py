"""The change log: the version that an answer reflects, the ETags that follow from it, and the feed."""

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, g, request

from api.encoding import Answer, JSONObject, JSONRows, JSONValue, literal
from api.parameters import Parameters
from database import read, unwrapped
from models import Change

MOST_CHANGES = 1_000

changes = Blueprint("changes", __name__)


def init_changes(app: Flask) -> None:
    """Have every answer to a key's holder say which version of the data it reflects."""
    app.after_request(name_version)


def name_version(response: Response) -> Response:
    """Set Dataset-Version, and the ETag where the view has found one."""
    here, status = unwrapped(g), response.status_code
    if "key" in here and status < 500:
        if "version" not in here:
            [here.version] = read(version_query).fetchone()
        response.headers.add("Dataset-Version", str(here.version))
        if "etag" in here and status < 400:
            response.headers.add("ETag", f'"{here.etag}"')
    return response


def reflect(version: int, *etags: int) -> None:
    """Note which version of the data the answer reflects, and the ETag of what is in it.

    Both are numbers of the last change: of all the data, and of the resources or the row that are read.
    """
    here = unwrapped(g)
    here.version = version
    here.etag = str(max(etags or [version]))


def versions(of_row: bool, *resources: str) -> list[sa.ScalarSelect[Any]]:
    """Return the terms of a SELECT that reflect() takes: the last change of all, then of each resource.

    With of_row, the first resource's is that of the row with the id to come. They are found in the log's index: no row
    of a resource is read.
    """
    last = [sa.select(sa.func.coalesce(sa.func.max(Change.seq), sa.literal_column("0")))]
    for resource in resources:
        last.append(last[0].where(Change.resource == resource))
    if of_row:
        last[1] = last[1].where(Change.row_id == sa.bindparam("id"))
    return [each.scalar_subquery() for each in last]


def version_query(of_row: bool = False, *resources: str) -> sa.Select[Any]:
    """Return the query for what reflect() takes, and before it, of a row, whether it is there."""
    last = sa.select(Change.action).where(
        Change.resource == "".join(resources[:1]), Change.row_id == sa.bindparam("id")
    )
    action = last.order_by(Change.seq.desc()).limit(literal(1)).offset(literal(0)).scalar_subquery()
    is_there = [sa.func.coalesce(action, "deleted") != "deleted"] if of_row else []
    terms: list[Any] = [*is_there, *versions(of_row, *resources)]
    return sa.select(*terms)


def is_unchanged(*resources: str, **row: str) -> bool:
    """Tell whether the client has these resources, or the row of the first, as they are (RFC 9110 §13.1.2)."""
    asked = unwrapped(request)
    if "HTTP_IF_NONE_MATCH" not in asked.environ:
        return False
    found = read(version_query, bool(row), *resources, **row).fetchone()
    # What was never there or is deleted has a last change too, but is 404.
    is_there, last = (found[0], found[1:]) if row else (True, found)
    reflect(*last)
    matches = asked.if_none_match.star_tag or asked.if_none_match.contains_weak(g.etag)
    return bool(is_there and matches)


@changes.get("/changes")
def list_changes() -> Response:
    """Answer the changes after the one numbered `since`, in commit order, deletions included."""
    parameters = Parameters("since", "limit")
    since = parameters.number("since", 0, 2**63 - 1, 0)
    limit = parameters.number("limit", 1, MOST_CHANGES, MOST_CHANGES)
    if is_unchanged():
        return Response(status=304)
    version, text, last = read(feed_query, limit, since=since).fetchone()
    reflect(version)
    # Numbers have no gaps, so more follow unless this is the last.
    headers = parameters.next_link(since=last, limit=limit) if text and last < version else {}
    return Answer(f"[{text or ''}]", 200, headers)


def feed_query(limit: int) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the changes after a number: what reflect() takes, their JSON, the number of the last."""
    names = {"seq": Change.seq, "resource": Change.resource, "id": Change.row_id, "action": Change.action}
    members = {name: JSONValue(column) for name, column in {**names, "at": Change.at, "data": Change.data}.items()}
    found = sa.select(JSONObject(members).label("o"), Change.seq)
    after = found.where(Change.seq > sa.bindparam("since", type_=Change.seq.type)).order_by(Change.seq)
    page = after.limit(literal(limit)).offset(literal(0)).subquery("page")
    return sa.select(*versions(False), JSONRows(page.c.o), sa.func.max(page.c.seq)).select_from(page)
