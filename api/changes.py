"""The change log: the history and version that a response reflects, the ETags derived from them, and the feed."""

import re
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, abort, g, request

from api.json_sql import joined, json_object, json_text, json_value, number
from api.parameters import Parameters
from api.responses import JSONResponse
from database.connection import execute
from models import Change, Dataset

MAX_CHANGES = 1_000
# RFC 9110 §8.8.3; werkzeug accepts more.
ETAGS = r'\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*'
# What proxies that compress make of an ETag: nginx makes it weak, Apache and others append the encoding.
CHANGED_BY_PROXY = re.compile(r'W/"|[-;:](gzip|deflate|br|zstd)"')

# The last actions of rows that don't exist.
GONE: list[Any] = [sa.literal_column("'deleted'"), sa.literal_column("'forgotten'")]

changes = Blueprint("changes", __name__)


def init_changes(app: Flask) -> None:
    """Set Dataset-Id, Dataset-Version and ETag on the app's responses."""
    app.after_request(add_version_headers)


def add_version_headers(response: Response) -> Response:
    """Set Dataset-Id and Dataset-Version for requests with a key, and the ETag where the view has set one."""
    if "key" in g and response.status_code < 500:
        etag = g.get("etag")
        dataset, version = g.get("version") or execute(version_query).fetchone()
        response.headers.add("Dataset-Id", dataset)
        response.headers.add("Dataset-Version", str(version))
        if etag and response.status_code < 400:
            response.headers.add("ETag", f'"{etag}"')
    return response


def set_version(dataset: str, version: int, *changes: int) -> None:
    """Set the response's Dataset-Id, Dataset-Version and ETag.

    The numbers are those of the last change: `version` of all data, `changes` of the resources or the row that are
    read. The ETag begins like the id: a restored copy counts on from an older number, and none of its ETags may match
    one from before.
    """
    g.version = dataset, version
    g.etag = f"{dataset[:8]}-{max(changes or [version])}"


def last_changes(*resources: str, of_row: bool = False) -> list[Any]:
    """Return the columns with the arguments of set_version(): the history, its last change, that of each resource.

    With of_row, the first resource's is the last change of the row with the id to bind. They are read from the log's
    indexes: no row of a resource is read.
    """
    last = [sa.select(sa.func.coalesce(sa.func.max(Change.seq), sa.literal_column("0")))]
    last += [last[0].where(Change.resource == resource) for resource in resources]
    if of_row:
        last[1] = last[1].where(Change.row_id == sa.bindparam("id"))
    return [each.scalar_subquery() for each in (sa.select(Dataset.id), *last)]


def version_query(of_row: bool = False, *resources: str) -> sa.Select[Any]:
    """Return the query for the arguments of set_version(); with of_row, whether the row exists comes first."""
    columns = last_changes(*resources, of_row=of_row)
    if of_row:
        own = sa.select(Change.action).where(Change.resource == resources[0], Change.row_id == sa.bindparam("id"))
        action = own.order_by(Change.seq.desc()).limit(number(1)).offset(number(0)).scalar_subquery()
        columns.insert(0, sa.func.coalesce(action, "deleted").not_in(GONE))
    return sa.select(*columns)


def check_etags(name: str) -> None:
    """Respond 400 unless a header is *, ETags in quotes, or missing."""
    if not re.fullmatch(ETAGS, request.headers.get(name, "*")):
        abort(400, f'{name} must be * or an ETag in quotes, as in "6f1c2b7a-394".')


def is_not_modified(*resources: str, **row: str) -> bool:
    """Tell whether If-None-Match has the ETag of these resources, or of the row of the first (RFC 9110 §13.1.2)."""
    if "HTTP_IF_NONE_MATCH" not in request.environ:
        return False
    check_etags("If-None-Match")
    found = execute(version_query, bool(row), *resources, **row).fetchone()
    # A deleted row has a last change, too, but is 404.
    exists, last = (found[0], found[1:]) if row else (True, found)
    set_version(*last)
    return bool(exists and (request.if_none_match.star_tag or request.if_none_match.contains_weak(g.etag)))


@changes.get("/changes")
def list_changes() -> Response:
    """Return the changes after the number `since`, in commit order, deletions included; 410 if it is yet to come."""
    parameters = Parameters("since", "limit")
    since = parameters.number("since", 0, 2**63 - 1, 0)
    limit = parameters.number("limit", 1, MAX_CHANGES, MAX_CHANGES)
    if is_not_modified():
        return Response(status=304)
    dataset, version, text, last = execute(feed_query, limit, since=since).fetchone()
    set_version(dataset, version)
    if since > version:
        abort(410, f"The last change is {version}, so {since} belongs to another history: load all data again.")
    # Numbers have no gaps: after any but the newest, more changes follow.
    headers = parameters.next_link(since=last, limit=limit) if text and last < version else {}
    return JSONResponse(f"[{text or ''}]", 200, headers)


def feed_query(limit: int) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the changes after a number: the version, their JSON, the number of the last one."""
    names = {"seq": Change.seq, "resource": Change.resource, "id": Change.row_id, "action": Change.action}
    fields = {name: json_value(column) for name, column in {**names, "at": Change.at}.items()}
    entry = json_object({**fields, "data": json_text(Change.data)}).label("o")
    entries = sa.select(entry, Change.seq).where(Change.seq > sa.bindparam("since", type_=Change.seq.type))
    page = entries.order_by(Change.seq).limit(number(limit)).offset(number(0)).subquery("page")
    return sa.select(*last_changes(), joined(page.c.o), sa.func.max(page.c.seq)).select_from(page)
