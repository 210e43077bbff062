"""The change log: the version that an answer reflects, the ETags that follow from it, and the feed."""

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, g, request

from api.encoding import JSONObject, JSONValue, answer_rows
from api.parameters import Parameters
from database import end_reading, read, unwrapped
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
            # What the view has read or refused is of no more use, and its snapshot may be an old one.
            end_reading()
            [here.version] = read(version_query, False).fetchone()
        response.headers["Dataset-Version"] = str(here.version)
        if "etag" in here and status < 400:
            response.headers["ETag"] = f'"{here.etag}"'
    return response


def reflect(*resources: str, row_id: str | None = None) -> None:
    """Note which version of the data is read from here on, and the ETag of these resources or of one row of the first.

    Without resources, the ETag is that of all the data.

    The ETag is the number of the last change, found in the log's index: no row of a resource is read.
    """
    values = {"id": row_id} if row_id is not None else {}
    version, *seqs = read(version_query, row_id is not None, *resources, **values).fetchone()
    here = unwrapped(g)
    here.version = version
    here.etag = str(max(seqs or [version]))


def version_query(of_row: bool, *resources: str) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the last change of all, and of each resource or of one row of the first."""
    last = [sa.select(sa.func.coalesce(sa.func.max(Change.seq), 0))]
    for resource in resources:
        last.append(last[0].where(Change.resource == resource))
    if of_row:
        last[1] = last[1].where(Change.row_id == sa.bindparam("id"))
    return sa.select(*(each.scalar_subquery() for each in last))


def is_unchanged() -> bool:
    """Tell whether the client has what reflect() found (RFC 9110 §13.1.2)."""
    asked = unwrapped(request)
    if "HTTP_IF_NONE_MATCH" not in asked.environ:
        return False
    return not asked.if_none_match.star_tag and asked.if_none_match.contains_weak(g.etag)


@changes.get("/changes")
def list_changes() -> Response:
    """Answer the changes after the one numbered `since`, in commit order, deletions included."""
    parameters = Parameters("since", "limit")
    since, limit = (
        parameters.number("since", 0, 2**63 - 1, 0),
        parameters.number("limit", 1, MOST_CHANGES, MOST_CHANGES),
    )
    reflect()
    if is_unchanged():
        return Response(status=304)
    rows = read(feed_query, since=since, limit=limit + 1).fetchall()
    headers = parameters.next_link(since=rows[limit - 1][1], limit=limit) if len(rows) > limit else {}
    return answer_rows((row[0] for row in rows[:limit]), headers)


def feed_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the changes after a number, each as JSON and with its own."""
    names = {"seq": Change.seq, "resource": Change.resource, "id": Change.row_id, "action": Change.action}
    members = {name: JSONValue(column) for name, column in {**names, "at": Change.at, "data": Change.data}.items()}
    found = sa.select(JSONObject(members), Change.seq).where(Change.seq > sa.bindparam("since", type_=Change.seq.type))
    return found.order_by(Change.seq).limit(sa.bindparam("limit", type_=sa.Integer()))
