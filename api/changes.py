"""The change log: the version that an answer reflects, the ETags that follow from it, and the feed."""

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, g, request

from api.encoding import JSONObject, JSONValue, answer_rows
from api.parameters import Parameters
from database import end_reading, prepare
from models import Change

MOST_CHANGES = 1_000

changes = Blueprint("changes", __name__)


def init_changes(app: Flask) -> None:
    """Have every answer to a key's holder say which version of the data it reflects."""
    app.after_request(name_version)


def name_version(response: Response) -> Response:
    """Set Dataset-Version, and the ETag where the view has found one."""
    if "key" in g and response.status_code < 500:
        if "version" not in g:
            # What the view has read or refused is of no more use, and its snapshot may be an old one.
            end_reading()
            [g.version] = prepare(version_query, False).run().fetchone()
        response.headers["Dataset-Version"] = str(g.version)
        if "etag" in g and response.status_code < 400:
            response.set_etag(g.etag)
    return response


def reflect(*resources: str, row_id: str | None = None) -> None:
    """Note which version of the data is read from here on, and the ETag of these resources or of one row of the first.

    Without resources, the ETag is that of all the data.

    The ETag is the number of the last change, found in the log's index: no row of a resource is read.
    """
    statement = prepare(version_query, row_id is not None, *resources)
    version, *seqs = statement.run(**{"id": row_id} if row_id is not None else {}).fetchone()
    g.version = version
    g.etag = str(max(seqs or [version]))


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
    return not request.if_none_match.star_tag and request.if_none_match.contains_weak(g.etag)


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
    rows = prepare(feed_query).run(since=since, limit=limit + 1).fetchall()
    headers = parameters.next_link(since=rows[limit - 1][1], limit=limit) if len(rows) > limit else {}
    return answer_rows((row[0] for row in rows[:limit]), headers)


def feed_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the changes after a number, each as JSON and with its own."""
    names = {"seq": Change.seq, "resource": Change.resource, "id": Change.row_id, "action": Change.action}
    members = {name: JSONValue(column) for name, column in {**names, "at": Change.at, "data": Change.data}.items()}
    found = sa.select(JSONObject(members), Change.seq).where(Change.seq > sa.bindparam("since", type_=Change.seq.type))
    return found.order_by(Change.seq).limit(sa.bindparam("limit", type_=sa.Integer()))
