"""The change log: the version that an answer reflects, the ETags that follow from it, and the feed."""

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, g, request

from api.encoding import JSONObject, JSONValue, answer_rows
from api.parameters import Parameters
from database import db
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
            db.session.rollback()
            g.version = db.session.scalar(sa.select(sa.func.max(Change.seq))) or 0
        response.headers["Dataset-Version"] = str(g.version)
        if "etag" in g and response.status_code < 400:
            response.set_etag(g.etag)
    return response


def reflect(*resources: str, row_id: str | None = None) -> None:
    """Note which version of the data is read from here on, and the ETag of these resources or of one row of the first.

    Without resources, the ETag is that of all the data.

    The ETag is the number of the last change, found in the log's index: no row of a resource is read.
    """
    last: list[Any] = [sa.select(sa.func.max(Change.seq)).scalar_subquery()]
    for number, resource in enumerate(resources):
        of_row = [Change.row_id == row_id] if row_id and number == 0 else []
        last.append(sa.select(sa.func.max(Change.seq)).where(Change.resource == resource, *of_row).scalar_subquery())
    version, *seqs = db.session.execute(sa.select(*last)).one()
    g.version = version or 0
    g.etag = str(max(seq or 0 for seq in seqs or [version]))


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
    names = {"resource": Change.resource, "id": Change.row_id, "action": Change.action, "at": Change.at}
    members = {name: JSONValue(column) for name, column in {"seq": Change.seq, **names, "data": Change.data}.items()}
    reflect()
    if is_unchanged():
        return Response(status=304)
    found = sa.select(JSONObject(members), Change.seq).where(Change.seq > since).order_by(Change.seq).limit(limit + 1)
    rows = db.session.execute(found).all()
    headers = parameters.next_link(since=rows[limit - 1].seq, limit=limit) if len(rows) > limit else {}
    return answer_rows((row[0] for row in rows[:limit]), headers)
